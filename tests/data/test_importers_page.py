"""docs/importers.md: the importer that it shows is one, found by its name wherever a source is."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import forms  # beside this file
import pytest
import test_importers as contract

from facex_tune import study as studies
from facex_tune.data import sources, training_set
from facex_tune.data.prepare import prepare
from facex_tune.errors import InputError
from facex_tune.inspection import catalog
from facex_tune.pipeline import preflight
from facex_tune.pipeline.options import Options
from facex_tune.study import Study

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "importers.md").read_text(encoding="utf-8")
IMPORTER, MINIATURE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def moods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[forms.Form]:
    """The page's importer beside the package's own, and its miniature."""
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "moods.py").write_text(IMPORTER, encoding="utf-8")
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path / "sources")])
    monkeypatch.setattr(forms, "FORMS", [])
    importlib.invalidate_caches()
    exec(MINIATURE, vars(forms) | {"FORMS": forms.FORMS})  # the page's own words, from this repository
    (found,) = forms.FORMS
    yield found
    sys.modules.pop("facex_tune.data.sources.moods", None)
    if hasattr(sources, "moods"):
        del sources.moods


def study_of(**said: object) -> Study:
    return studies.parse({"version": 1, "name": "x", "data": "moods", "validation": {"holdout": 0.4}, **said})


def test_it_has_thirty_lines_at_most() -> None:
    assert len(IMPORTER.splitlines()) <= 30


def test_it_is_listed_and_keeps_the_contract(moods: forms.Form, tmp_path: Path) -> None:
    listed = catalog.of_data(tmp_path)["sources"]["moods"]
    assert listed == {
        "description": "MOODS: faces of forty people; SOURCE has p07_joy_train_0003.png and the like",
        "needs_source": True,
        "named_by_user": False,
    }
    held_to = (
        contract.test_a_form_is_read_to_the_last_label_split_and_subject,
        contract.test_file_order_litter_and_a_deeper_root_change_nothing,
        contract.test_a_set_twice_in_a_tree_counts_once,
        contract.test_prepared_it_is_not_taken_for_the_whole_set,
    )
    for number, test in enumerate(held_to):
        (tmp_path / str(number)).mkdir()
        test(moods, tmp_path / str(number))


def test_a_study_trains_on_it(moods: forms.Form, tmp_path: Path) -> None:
    options = Options(tmp_path / "runs", tmp_path / "data")
    (told,) = preflight.problems(study_of(), options)
    assert "`facex-tune data prepare moods SOURCE --data" in told
    prepare("moods", forms.written(moods, tmp_path / "set").root, options.data_dir)
    assert study_of().evaluate.protocols == ("folder.moods",)
    assert preflight.problems(study_of(), options) == []
    loaded = training_set.load(study_of(), options.data_dir)
    assert len(loaded.train) + len(loaded.validation) == 28
    assert not set(loaded.train.group_N.tolist()) & set(loaded.validation.group_N.tolist()), "people"


def test_another_set_and_another_word_are_refused(moods: forms.Form, tmp_path: Path) -> None:
    there = forms.Written(tmp_path)
    there.save("p01_bored_train_0001.png", there.draw())
    with pytest.raises(InputError, match="unknown emotion 'bored'"):
        prepare("moods", tmp_path, tmp_path / "data")
    (tmp_path / "p01_bored_train_0001.png").rename(tmp_path / "face.png")
    with pytest.raises(InputError, match=r"named like p07_joy_train_0003\.png"):
        prepare("moods", tmp_path, tmp_path / "data")


def test_its_commands_are_right() -> None:
    (line,) = [line for line in PAGE.splitlines() if line.startswith("facex-tune run")]
    sets = [word for word in shlex.split(line) if "=" in word]
    assert sets == ["data=moods", "validation={holdout: 0.1}", "evaluate={}"]
    assert studies.load(ROOT / "search_spaces" / "fer2013_cpu.yaml", sets).evaluate.protocols == ("folder.moods",)
