"""gc: what a run no longer needs goes, and nothing else."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from facex_tune import cli, study
from facex_tune.errors import InputError
from facex_tune.runs import retention
from facex_tune.runs.events import (
    CandidateChosen,
    EpochDone,
    ModelFinished,
    RunResumed,
    StageFinished,
    StageStarted,
    TrialFinished,
    TrialStarted,
    TrialStopped,
)
from facex_tune.runs.store import Log, Run
from facex_tune.storage import files
from facex_tune.storage.files import Place

STUDY = study.parse({"version": 1, "name": "small", "data": "synthetic", "retrain": {"top": 1, "seeds": 2}})
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=["disk", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return tmp_path
    fsspec.filesystem("memory").store.clear()
    return files.place(f"memory://{secrets.token_hex(8)}/runs")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], storage: Place) -> Call:
    def gc(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["gc", *words, "--storage", str(storage)])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return gc


def make_run(storage: Place, name: str = "demo") -> Run:
    """Five trials: 0 to 2 finished (0.1, 0.3, 0.2), 3 stopped, 4 running; each with a checkpoint, as after a kill."""
    run = Run.create(storage, name, STUDY, data={}, environment={})
    with run.log() as log:
        log.append(StageStarted(stage="search"))
        for trial, value in enumerate([0.1, 0.3, 0.2, 0.05, 0.4]):
            log.append(TrialStarted(trial=trial, config={}, source="sampler"))
            log.append(EpochDone(trial=trial, epoch=1, metrics={"macro_f1": value}, seconds=1.0))
        for trial in range(3):
            log.append(TrialFinished(trial=trial))
        log.append(TrialStopped(trial=3, epoch=1, reason="rung"))
    for trial in [0, 1, 2, 3, 4, 77]:
        files.write_bytes(run.trial_checkpoint(trial), b"x" * 100)
    return run


def finish(run: Run) -> None:
    """The best is retrained with seed 0; seed 1 is whole although the log does not know; t0002 was given up."""
    with run.log() as log:
        log.append(TrialFinished(trial=4))
        log.append(CandidateChosen(trial=4, value=0.4, rank=1))
        _model(run, 4, 0, log)
        _model(run, 4, 1, None)
        files.write_bytes(run.final_checkpoint(2, 0), b"x" * 10)
        _model(run, 4, 2, log, on="all")
        files.write_bytes(run.final_checkpoint(2, 2, "all"), b"x" * 10)
        for stage in ("search", "retrain", "evaluate", "report"):
            log.append(StageFinished(stage=stage))
    for path in (run.evaluation_folder / "a.json", run.report_folder / "index.html", run.report_folder / "trials.csv"):
        files.write_bytes(path, b"{}")


def _model(run: Run, candidate: int, seed: int, log: Log | None, on: str | None = None) -> None:
    for name in ("model.safetensors", "config.json", "history.csv", "last.safetensors"):
        files.write_bytes(run.final_folder(candidate, seed, on) / name, b"{}")
    if log is not None:
        log.append(ModelFinished(candidate=candidate, seed=seed, metrics={"macro_f1": 0.4}, on=on))


def left(run: Run) -> set[str]:
    return {files.below(path, run.folder) for path in files.sizes(run.folder)}


def checkpoints(run: Run) -> set[str]:
    return {name.split("/")[1] for name in left(run) if name.startswith("trials/")}


def test_while_a_run_goes_on_running_and_best_trials_keep_their_checkpoints(storage: Place, call: Call) -> None:
    run = make_run(storage)
    files.write_bytes(run.trial_checkpoint(4).with_name(".last.safetensors.7.7.part"), b"xx")
    before = left(run)
    code, out, _ = call("demo")
    assert code == 0
    assert "demo: 1 file, 100 bytes: checkpoint of a finished trial" in out
    assert "demo: 1 file, 100 bytes: checkpoint of a stopped trial" in out
    assert "demo: 1 file, 100 bytes: of a trial that the log does not know" in out
    assert "demo: 1 file, 2 bytes: left by a write that was broken off" in out
    assert out.splitlines()[-1] == "would delete 4 files, 302 bytes; --yes deletes them"
    assert left(run) == before, "nothing goes without --yes"

    code, out, _ = call("demo", "--yes")
    assert out.splitlines()[-1] == "deleted: 4 files, 302 bytes"
    assert checkpoints(run) == {"t0001", "t0002", "t0004"}, "the best two finished, and what runs"
    assert {name for name in left(run) if name.startswith("events/")} == {
        name for name in before if name.startswith("events/")
    }
    assert call("demo")[1] == "nothing to delete\n"
    with run.log() as log:
        log.append(RunResumed())


def test_a_run_that_is_over_keeps_its_models_log_evaluation_and_report(storage: Place, call: Call) -> None:
    run = make_run(storage)
    finish(run)
    before = left(run)
    assert call("--yes")[0] == 0
    gone = before - left(run)
    assert gone == {
        *(f"trials/t{trial:04d}/last.safetensors" for trial in (0, 1, 2, 3, 4, 77)),
        "final/t0004-s0/last.safetensors",
        "final/t0002-s0/last.safetensors",
        "final/t0004-all/last.safetensors",
        "final/t0002-all/last.safetensors",
    }
    assert "final/t0004-all/model.safetensors" in left(run)
    assert "final/t0004-s1/model.safetensors" in left(run), "whole, whether the log knows of it or not"
    if isinstance(run.folder, Path):
        assert list((run.folder / "trials").iterdir()) == []


def test_a_run_that_is_being_written_is_refused_by_name_and_left_alone_among_all(storage: Place, call: Call) -> None:
    run, other = make_run(storage), make_run(storage, "other")
    before = left(other)
    with run.log():
        code, out, err = call("demo", "--yes")
        assert (code, out) == (2, "")
        assert "run 'demo' is being written by process" in err
        assert len(err.splitlines()) == 1
        code, out, _ = call("--yes")
        assert code == 0
        assert "demo: left alone: run 'demo' is being written by process" in out
    assert len(checkpoints(run)) == 6
    assert left(other) < before


def test_a_driver_that_starts_in_between_is_not_robbed(storage: Place) -> None:
    run = make_run(storage)
    found = retention.look(run)
    with Run(storage, "demo").log(), pytest.raises(InputError, match="is being written by process"):
        retention.remove(storage, found)
    assert len(checkpoints(run)) == 6


def test_one_json_document(storage: Place, call: Call) -> None:
    make_run(storage)
    document = json.loads(call("--json")[1])
    assert (document["version"], document["removed"], document["bytes"]) == (1, False, 300)
    (told,) = document["runs"]
    assert told["run"] == "demo"
    assert {each["bytes"] for each in told["files"]} == {100}


def test_damaged_runs_and_folders_of_others_are_left_alone(storage: Place, call: Call) -> None:
    run = make_run(storage)
    first = next(iter((run.folder / "events").glob("*")))
    files.write_bytes(first, b"{}\n" + first.read_bytes())
    files.write_bytes(storage / "holiday" / "photo.jpg", b"x")
    files.write_bytes(storage / "begun" / ".run.json.1.1.part", b"half")
    before = left(run)
    code, out, _ = call("--yes")
    assert code == 0
    assert "demo: left alone:" in out
    assert "malformed record" in out or "records in place" in out
    assert "begun: 1 file, 4 bytes: of a run that never began" in out
    assert left(run) == before
    assert (storage / "holiday" / "photo.jpg").exists()
    assert not (storage / "begun").exists()


def test_an_unknown_run_and_no_runs(storage: Place, call: Call) -> None:
    assert call()[:2] == (0, "nothing to delete\n")
    code, _, err = call("demo")
    assert code == 2
    assert "no run named 'demo'" in err
