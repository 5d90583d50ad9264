"""docs/python.md and the notebooks: every example is run, in its order, where a run of its own study lies already.

That run was logged as searched and retrained, with models that were really built, so that no example starts Ray.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import facex_tune
from facex_tune import testing
from facex_tune.data import faces
from facex_tune.runs.events import StageFinished, StageStarted
from facex_tune.runs.store import Run
from tests.evaluation.conftest import _one_thread, log_models, log_search, write_data

__all__ = ["_one_thread"]
DOCS = Path(__file__).resolve().parents[1] / "docs"
CLASSES = ("Budget", "Evaluate", "Face", "Fidelity", "InputError", "Range", "Resources", "Retrain", "Sampling", "Train")
EXAMPLE = "an example of docs/python.md"  # in place of a file's name
PAGE = re.findall(r"^```python\n(.*?)^```$", (DOCS / "python.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def cells(name: str) -> list[str]:
    """The code of a notebook."""
    notebook = json.loads((DOCS / "notebooks" / name).read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_all(examples: list[str], folder: Path) -> dict[str, Any]:
    """Runs the examples in one namespace; once the first has made the study, its run `demo` lies there."""
    names: dict[str, Any] = {}
    for number, example in enumerate(examples):
        exec(compile(example, EXAMPLE, "exec"), names)
        if number == 0:
            lay(names["study"], folder)
    return names


def members() -> dict[str, Any]:
    """The public functions, and the functions and properties of public classes, by name."""
    found: dict[str, Any] = {}
    for module in (facex_tune, testing):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                found[name] = value
            if isinstance(value, type) and value.__module__.startswith("facex_tune.api"):
                own = {key: each for key, each in vars(value).items() if key[0] != "_"}
                called = (classmethod, staticmethod, property)
                is_called = {key: isinstance(each, called) or inspect.isfunction(each) for key, each in own.items()}
                found |= {f"{name}.{key}": each for key, each in own.items() if is_called[key]}
    return found


def watch(patch: pytest.MonkeyPatch) -> set[str]:
    """The names of those members that an example itself calls, or reads, from here on."""
    used: set[str] = set()

    def told(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if sys._getframe(1).f_code.co_filename == EXAMPLE:
                used.add(name)
            return function(*args, **kwargs)

        return call

    for name, member in members().items():
        owner, _, key = name.rpartition(".")
        if isinstance(member, property):
            assert member.fget is not None
            watched: Any = property(told(name, member.fget))
        elif isinstance(member, classmethod | staticmethod):
            watched = type(member)(told(name, member.__func__))
        else:
            watched = told(name, member)
        place = getattr(facex_tune, owner) if owner else facex_tune if key in facex_tune.__all__ else testing
        patch.setattr(place, key, watched)
    return used


def lay(study: facex_tune.Study, folder: Path) -> None:
    data = write_data(folder / "data")
    manifests = {name: faces.read_manifest(data, name) for name in ("synthetic", "synthetic_lab")}
    run = Run.create(folder / "runs", "demo", study.checked, data=manifests, environment={"packages": {}})
    with run.log() as log:
        log_search(run, log)
        log.append(StageStarted("retrain"))
        log_models(run, log, 2)
        log.append(StageFinished("retrain"))


@dataclass(frozen=True)
class Ran:
    """What the page's examples left: their names, what they printed, and the public members that they used."""

    names: dict[str, Any]
    printed: str
    used: set[str]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """The page's examples, run; the working folder is theirs."""
    folder, printed = tmp_path_factory.mktemp("page"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(folder)
        for name in ("FACEX_DATA", "FACEX_STORAGE", "PWD"):
            patch.delenv(name, raising=False)
        with pytest.MonkeyPatch.context() as watching:
            used = watch(watching)
            names = run_all(PAGE, folder)
        yield Ran(names, printed.getvalue(), used)


def test_every_example_of_the_page_runs(page: Ran) -> None:
    assert page.names["run"].state == "finished"
    assert page.names["answers"].shape == (10, 7)
    assert page.names["search"].run.state == "searched"
    assert "did you mean demo or mine?" in page.printed


def test_every_public_function_has_an_example(page: Ran) -> None:
    """And every method and property of a public class: an example itself calls it, or reads it, while it runs."""
    assert sorted(members().keys() - page.used) == []


def test_every_class_of_a_study_has_an_example() -> None:
    """These are built, and so are names in the examples' text."""
    nodes = [node for example in PAGE for node in ast.walk(ast.parse(example))]
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    caught = {node.type.id for node in nodes if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name)}
    assert {"Study", "Search", *CLASSES} - called - caught == set()


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
