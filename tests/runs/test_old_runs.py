"""Run folders that earlier versions wrote: shown, evaluated, reported and resumed by this one (`old_runs/make.py`)."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facex_tune import cli, parts
from facex_tune.runs.history import FAILED, FINISHED, RUNNING, STOPPED
from facex_tune.runs.store import Run

VERSIONS = sorted(Path(__file__).with_name("old_runs").glob("*.zip"))
# where and when it was told; and sentences, which may be said better
PASSING = ("folder", "age_s", "idle_s", "findings")
# whose rules have changed since 54211a0, for reasons that LOGBOOK gives: intervals of means over rare classes and of
# the worst class, importances and versatility before rungs chose, the gap without copies of validation faces
RECKONED_ANEW = ("interval", "importance", "versatility", "gaps")
# a set's own labels were called FER2013's when no other set had any
RENAMED = [".study.labels: fer2013 then, own now"]
# since the old name says what one face costs
NAMED_ANEW = {"images_per_second": "train_images_per_second"}


@pytest.fixture(params=VERSIONS, ids=[path.stem for path in VERSIONS])
def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `runs`, `data`, `parts` and `told` as that version left them; the working folder."""
    with zipfile.ZipFile(request.param) as zipped:
        zipped.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FACEX_DATA", raising=False)  # which names the real sets to tests, and `./data` is meant here
    monkeypatch.setattr(parts, "_own_folders", [])
    return tmp_path


def call(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 0


def changed(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """What a document said and another does not say any more; it may say more."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before.keys() - {*PASSING, *RECKONED_ANEW}:
            name = NAMED_ANEW.get(key, key)
            yield from changed(before[key], now[name], f"{place}.{key}") if name in now else (f"{place}.{key} is gone",)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (then, today) in enumerate(zip(before, now, strict=True)):
            yield from changed(then, today, f"{place}.{number}")
    elif isinstance(before, float) and isinstance(now, float):
        if not math.isclose(before, now, rel_tol=1e-6, abs_tol=1e-9):  # the sums of other processors
            yield f"{place}: {before} then, {now} now"
    elif before != now:
        yield f"{place}: {before} then, {now} now"


def log_of(run: Run) -> str:
    return "".join(path.read_text() for path in sorted(Path(str(run.folder)).glob("events/*.jsonl")))


@pytest.mark.parametrize("run", ["whole", "interrupted"])
def test_it_is_shown_as_it_was(old: Path, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    call("show", run, "--json")
    before = json.loads((old / "told" / f"{run}.json").read_text())
    assert list(changed(before, json.loads(capsys.readouterr().out))) == []


def test_its_report_says_the_same(old: Path) -> None:
    path = old / "runs" / "whole" / "report" / "report.json"
    before = json.loads(path.read_text())
    path.unlink()
    call("report", "whole")
    assert list(changed(before, json.loads(path.read_text()))) == RENAMED
    assert (path.parent / "index.html").is_file()


def test_its_models_get_the_same_scores(old: Path) -> None:
    path = old / "runs" / "whole" / "evaluation" / "folder.drawn.json"
    before = json.loads(path.read_text())
    path.unlink()
    call("evaluate", "whole", "--parts", "parts")
    assert list(changed(before["metrics"], json.loads(path.read_text())["metrics"])) == []
    kinds = Counter(event["type"] for event in Run(old / "runs", "whole").events())
    assert kinds["test_opened"] == 2, "each opening is counted, the old one too"


@pytest.mark.slow
def test_it_is_resumed_to_its_end(old: Path) -> None:
    run = Run(old / "runs", "interrupted")
    before, history = log_of(run), run.history()
    ended = {number: trial for number, trial in history.trials.items() if trial.state != RUNNING}
    assert sorted({trial.state for trial in history.trials.values()}) == sorted({FAILED, FINISHED, RUNNING})
    code = "from facex_tune.cli import main; main(['resume', 'interrupted', '--parts', 'parts'])"
    subprocess.run([sys.executable, "-c", code], cwd=old, check=True, timeout=600)
    history = run.history()
    assert log_of(run).startswith(before)
    assert {number: history.trials[number] for number in ended} == ended
    assert len(history.trials) == run.study.budget.trials
    assert {trial.state for trial in history.trials.values()} <= {FAILED, FINISHED, STOPPED}
    trained = Counter((event["trial"], event["epoch"]) for event in run.events() if event["type"] == "epoch")
    assert set(trained.values()) == {1}, "no epoch was trained twice"
    assert set(history.stages.values()) == {"finished"}
    report = json.loads((run.folder / "report" / "report.json").read_text())
    assert len(report["models"]) == run.study.n_final_models
    assert report["evaluation"]["folder.drawn"]["n"] == 35
