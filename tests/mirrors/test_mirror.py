"""The command's body: where the forms go, what is said, what a wrong place says."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from facex_tune.errors import InputError
from facex_tune.mirrors.mirror import Targets, mirror
from tests.mirrors.conftest import SearchMaker


def test_without_a_choice_all_three_go_into_the_run_s_own_folder(make_search: SearchMaker) -> None:
    run = make_search()
    document = mirror(run, Targets.chosen(run))
    folder = run.folder / "mirror"
    assert document["trials"] == 4
    assert document["written"] == {
        "optuna": str(folder / "optuna.log"),
        "tensorboard": str(folder / "tensorboard"),
        "csv": str(folder / "trials.csv"),
    }
    assert sorted(path.name for path in folder.iterdir()) == ["optuna.log", "tensorboard", "trials.csv"]
    with (folder / "trials.csv").open(newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["finished", "stopped", "failed", "running"]


def test_a_choice_is_written_alone(make_search: SearchMaker, tmp_path: Path) -> None:
    run = make_search()
    targets = Targets.chosen(run, csv=tmp_path / "deep" / "trials.csv")
    assert mirror(run, targets)["written"] == {"csv": str(tmp_path / "deep" / "trials.csv")}
    assert not (run.folder / "mirror").exists()


@pytest.mark.parametrize("form", ["optuna", "csv"])
def test_a_file_that_is_no_mirror_is_left_alone(make_search: SearchMaker, tmp_path: Path, form: str) -> None:
    run, path = make_search(), tmp_path / "file"
    path.write_text("version: 1\n")
    with pytest.raises(InputError, match=r"/file: is there already and is no .*; name another file, or remove it"):
        mirror(run, Targets(**{form: path}))
    assert path.read_text() == "version: 1\n"
    path.write_text("")
    for _ in range(2):  # an empty file, then its own
        mirror(run, Targets(**{form: path}))
    assert path.stat().st_size > 0


def test_following_a_run_that_nobody_writes_ends_at_once(make_search: SearchMaker, tmp_path: Path) -> None:
    run = make_search()
    assert mirror(run, Targets(csv=tmp_path / "trials.csv"), follow=True)["trials"] == 4


@pytest.mark.parametrize("form", ["optuna", "tensorboard", "csv"])
def test_a_place_that_cannot_be_written_is_told(make_search: SearchMaker, tmp_path: Path, form: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"/file.*: cannot write there") as told:
        mirror(make_search(), Targets(**{form: tmp_path / "file" / "below"}))
    assert len(told.value.problems) == 1
