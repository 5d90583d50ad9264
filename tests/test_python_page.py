"""docs/python.md and the notebooks: every example is run, in its order, where a run of its own study lies already.

That run was logged as searched and retrained, with models that were really built, so that no example starts Ray.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import facex_tune
from facex_tune.data import faces
from facex_tune.runs.events import StageFinished, StageStarted
from facex_tune.runs.store import Run
from tests.evaluation.conftest import _one_thread, log_models, log_search, write_data

__all__ = ["_one_thread"]
DOCS = Path(__file__).resolve().parents[1] / "docs"
CLASSES = ("Budget", "Evaluate", "Face", "Fidelity", "InputError", "Range", "Resources", "Retrain", "Sampling", "Train")
PAGE = re.findall(r"^```python\n(.*?)^```$", (DOCS / "python.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def cells(name: str) -> list[str]:
    """The code of a notebook."""
    notebook = json.loads((DOCS / "notebooks" / name).read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_all(examples: list[str], folder: Path) -> dict[str, Any]:
    """Runs the examples in one namespace; once the first has made the study, its run `demo` lies there."""
    names: dict[str, Any] = {}
    exec(examples[0], names)
    lay(names["study"], folder)
    for example in examples[1:]:
        exec(example, names)
    return names


def lay(study: facex_tune.Study, folder: Path) -> None:
    data = write_data(folder / "data")
    manifests = {name: faces.read_manifest(data, name) for name in ("synthetic", "synthetic_lab")}
    run = Run.create(folder / "runs", "demo", study.checked, data=manifests, environment={"packages": {}})
    with run.log() as log:
        log_search(run, log)
        log.append(StageStarted("retrain"))
        log_models(run, log, 2)
        log.append(StageFinished("retrain"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], str]]:
    """The names that the page's examples left, and what they printed; the working folder is theirs."""
    folder, printed = tmp_path_factory.mktemp("page"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(folder)
        for name in ("FACEX_DATA", "FACEX_STORAGE", "PWD"):
            patch.delenv(name, raising=False)
        names = run_all(PAGE, folder)
        yield names, printed.getvalue()


def test_every_example_of_the_page_runs(page: tuple[dict[str, Any], str]) -> None:
    names, printed = page
    assert names["run"].state == "finished"
    assert names["answers"].shape == (10, 7)
    assert names["search"].run.state == "searched"
    assert "did you mean demo or mine?" in printed


def test_every_public_function_has_an_example() -> None:
    """And every method, property and key of a study: each is named in some example, and all of these are run."""
    nodes = [node for example in PAGE for node in ast.walk(ast.parse(example))]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    used |= {node.name for node in nodes if isinstance(node, ast.alias)}
    missing = []
    for name in facex_tune.__all__:
        value = getattr(facex_tune, name)
        if inspect.isfunction(value) or name in ("Study", "Search", *CLASSES):
            missing += [name] if name not in used else []
        if isinstance(value, type) and value.__module__.startswith("facex_tune.api"):
            members = {key: getattr(each, "__func__", each) for key, each in vars(value).items() if key[0] != "_"}
            called = [key for key, each in members.items() if inspect.isfunction(each) or isinstance(each, property)]
            missing += [f"{name}.{key}" for key in called if key not in used]
    assert missing == []


@pytest.mark.usefixtures("page")
def test_the_first_notebook_runs() -> None:
    """Its study is that of the page, whose run has ended and is not done again."""
    names: dict[str, Any] = {}
    for cell in cells("first_search.ipynb"):
        exec(cell, names)
    assert names["run"].state == "finished"
    assert "macro_f1" in names["run"]._repr_html_()


@pytest.mark.usefixtures("page")
def test_the_notebook_of_own_training_runs() -> None:
    names: dict[str, Any] = {}
    for cell in cells("own_training.ipynb"):
        exec(cell, names)
    trials = names["search"].run.trials
    assert len(trials) == 6
    assert trials.value.max() > 1 / 7


def test_lines_of_notebooks_are_short_enough_to_be_read() -> None:
    for name in ("first_search.ipynb", "own_training.ipynb"):
        assert max(len(line) for cell in cells(name) for line in cell.splitlines()) <= 120, name


def test_notebooks_hold_no_output() -> None:
    for path in (DOCS / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), path.name
