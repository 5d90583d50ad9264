"""A run in Python: its tables, its best, its stages, and what a notebook shows of it."""

from __future__ import annotations

from pathlib import Path

import pytest

import facex_tune
from facex_tune import InputError
from facex_tune.runs.store import Run
from facex_tune.search import face_cache
from tests.evaluation.conftest import RunMaker


@pytest.fixture
def stored(make_run: RunMaker) -> Run:
    return make_run()


def opened(stored: Run, data_dir: Path) -> facex_tune.Run:
    return facex_tune.open_run(str(stored.folder), data=data_dir, device="cpu", show=False)


def test_a_run_is_frames_and_a_best(stored: Run, data_dir: Path) -> None:
    run = opened(stored, data_dir)
    assert run.trials.number.tolist() == [0, 1, 2, 3]
    assert len(run.epochs) == 3 + 3 + 1 + 2
    assert len(run.models) == 4
    assert run.evaluation.empty
    assert run.best is not None
    assert (run.best.trial, run.best.state, run.best.epochs) == (1, "finished", 3)
    assert run.best.value == pytest.approx(0.52)
    assert run.best.config == stored.history().trials[1].config
    assert (run.name, run.state, run.study.name) == ("small-1", "searched", "small")


def test_its_stages_follow_each_other(stored: Run, data_dir: Path) -> None:
    run = opened(stored, data_dir)
    assert run.report_path is None
    assert run.evaluate("synthetic.private").report() is run
    assert set(run.evaluation.protocol) == {"synthetic.private"}
    accuracy = run.evaluation.set_index("metric").loc["accuracy"]
    assert accuracy.n == 42
    assert accuracy.low <= accuracy["mean"] <= accuracy.high
    assert accuracy.clean_n == 40
    assert run.report_path is not None
    assert "data:image/png" in run.report_path.read_text(encoding="utf-8")
    assert "data:image/png" not in run.report(faces=False).report_path.read_text(encoding="utf-8")
    shown = run._repr_html_()
    assert "best t0001: macro_f1 0.520" in shown
    assert "macro_f1" in shown
    with pytest.raises(InputError, match="no protocol"):
        run.evaluate(["synthetic.privat"])


def test_a_name_is_looked_for_where_runs_lie(stored: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEX_STORAGE", str(stored.storage))
    assert facex_tune.open_run("small-1").folder == stored.folder
    with pytest.raises(InputError, match="no run named 'small-2'"):
        facex_tune.open_run("small-2")


@pytest.mark.parametrize("by", ["the environment", "words"])
def test_relative_places_are_those_of_where_they_were_said(
    stored: Run, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    (tmp_path / "mount").symlink_to(tmp_path)
    storage, data = (path.relative_to(tmp_path) for path in (stored.storage, data_dir))
    for name, value in (("FACEX_STORAGE", storage), ("FACEX_DATA", data), (face_cache.CACHE, Path("kept"))):
        if by == "the environment" or name == face_cache.CACHE:
            monkeypatch.setenv(name, str(value))
        else:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "mount")
    monkeypatch.setenv("PWD", str(tmp_path / "mount"))
    face_cache.from_here()
    words = {} if by == "the environment" else {"data": str(data)}
    said = "small-1" if by == "the environment" else f"{storage}/small-1"
    run = facex_tune.open_run(said, device="cpu", show=False, **words)
    monkeypatch.chdir("/")
    assert run.folder == tmp_path / "mount" / storage / "small-1", "by the link, as the user reached it"
    assert len(run.evaluate("synthetic.private").evaluation) > 0
    assert face_cache.folder() == tmp_path / "mount" / "kept"


def test_a_whole_run_refuses_before_it_starts(tmp_path: Path) -> None:
    said = {"version": 1, "name": "x", "data": "nowhere", "budget": {"trials": 1}}
    with pytest.raises(InputError, match="neither prepared"):
        facex_tune.run(said, storage=tmp_path / "runs", data=tmp_path / "data")
    with pytest.raises(InputError, match="a run's name holds"):
        facex_tune.run(said, run="../x", storage=tmp_path)
    with pytest.raises(InputError, match="a run's name holds"):
        facex_tune.Study("x", "synthetic").search(run="")
    assert not (tmp_path / "runs" / "x-1").exists()
