"""What a resume goes on with: the stages that were asked for, under what they were asked for, and no others."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from facex_tune import cli, study
from facex_tune.cli import outcome
from facex_tune.errors import Interrupted, StorageOutage
from facex_tune.pipeline import stages
from facex_tune.pipeline.options import Options, resume_words
from facex_tune.pipeline.stages import STAGES, next_command
from facex_tune.runs.events import EpochDone, RunInterrupted, RunStarted, StageFinished, StageStarted, TrialStarted
from facex_tune.runs.store import Run
from facex_tune.storage.files import place
from tests.records import record
from tests.search.conftest import tiny_data
from tests.search.test_resume import DEADLINE_S, DRIVER, STUDY

__all__ = ["tiny_data"]

QUICK = Path(__file__).resolve().parents[2] / "search_spaces" / "quick.yaml"


def session(*stages: str, protocols: tuple[str, ...] = (), kind: str = "run_resumed") -> dict[str, Any]:
    return {"type": kind, "stages": list(stages), "options": {"protocols": list(protocols)}}


def began(*stages: str) -> list[dict[str, Any]]:
    return [{"type": "stage_started", "stage": stage} for stage in stages]


def done(*stages: str) -> list[dict[str, Any]]:
    return [each for stage in stages for each in (*began(stage), {"type": "stage_finished", "stage": stage})]


WHOLE = session(*STAGES, kind="run_started")
SEARCH = session("search", kind="run_started")
EVALUATE = session("evaluate", "report", protocols=("synthetic.lab.6",))
FACTORS = session("factors", "report")
OLD = {"type": "run_started"}  # of a version that did not log the stages


@pytest.mark.parametrize(
    ("events", "left"),
    [
        ([], [*STAGES]),  # begun by the service, which then resumes it
        ([SEARCH, *began("search")], ["search"]),
        ([SEARCH], ["search"]),  # ended before Ray had started
        ([SEARCH, *done("search")], []),
        ([SEARCH, *done("search"), session("retrain"), *began("retrain")], ["retrain"]),
        ([WHOLE, *done("search"), *began("retrain")], ["retrain", "evaluate", "report"]),
        ([WHOLE, *done(*STAGES)], []),
        ([WHOLE, *done(*STAGES), EVALUATE, *began("evaluate")], ["evaluate", "report"]),
        ([WHOLE, *done("search", "retrain"), FACTORS, *began("factors")], ["evaluate", "factors", "report"]),
        ([SEARCH, *done("search"), session("retrain"), *done("retrain"), FACTORS], ["factors", "report"]),
        ([WHOLE, *done("search", "retrain"), EVALUATE, *done("evaluate", "report")], []),
        ([OLD, *began("search")], [*STAGES]),
        ([OLD, *done("search"), OLD, *began("retrain")], ["retrain", "evaluate", "report"]),
        ([OLD, *done(*STAGES), OLD, *began("factors")], ["factors", "report"]),
        ([OLD, *done("search"), session("retrain"), *done("retrain")], ["evaluate", "report"]),
    ],
)
def test_what_was_asked_for_and_has_not_ended_is_left(events: list[dict[str, Any]], left: list[str]) -> None:
    assert stages.unfinished(events)[0] == left


def test_an_evaluation_is_gone_on_with_under_the_protocols_that_it_was_asked_for_last() -> None:
    assert stages.unfinished([WHOLE, *done(*STAGES), EVALUATE, FACTORS])[1] == ("synthetic.lab.6",)
    assert stages.unfinished([EVALUATE, WHOLE])[1] == ()


# What a stage needs


def new_run(folder: Path) -> Run:
    return Run.create(folder / "runs", "demo", study.load(QUICK), data={}, environment={})


def called(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main([*words])
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["retrain", "demo"], "has not ended its search, from which the final models are chosen: let `facex-tune "),
        (["factors", "demo"], "has no winner to vary: run `facex-tune retrain demo --storage "),
        (["evaluate", "demo"], "has no retrained model to evaluate: run `facex-tune retrain demo --storage "),
    ],
)
def test_a_stage_whose_predecessor_has_not_ended_is_refused_and_leaves_no_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    run = new_run(tmp_path)
    with run.log() as log:
        log.append(RunStarted(stages=["search"]))
        log.append(StageStarted(stage="search"))
        log.append(TrialStarted(trial=0, config={"model": "resnet"}, source="sampler"))
        log.append(EpochDone(trial=0, epoch=1, metrics={"macro_f1": 0.4}, seconds=1.0))
        log.append(RunInterrupted(signal="SIGTERM"))
    before = list(run.events())
    code, err = called(*words, "--storage", str(tmp_path / "runs"), capsys=capsys)
    assert (code, len(err.splitlines())) == (2, 1)
    assert said in err
    assert list(run.events()) == before, "a resume would take it for asked for"


def test_a_search_that_its_budget_ended_may_be_retrained_from(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    with run.log() as log:
        log.append(StageStarted(stage="search"))
        log.append(StageFinished(stage="search", reason="time"))
    options = Options(tmp_path, tmp_path)
    stages._in_order(["retrain"], run, run.history(), options)
    new = new_run(tmp_path / "new")
    stages._in_order(["search", "retrain", "evaluate"], new, new.history(), options)


# The command that goes on


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(Path("runs"), Path("data")), "demo"),
        (Options(Path("/my runs"), Path("data")), "demo --storage '/my runs'"),
        (Options(place("s3://b/runs?scheme=http"), Path("/d")), "demo --storage 's3://b/runs?scheme=http' --data /d"),
        (
            Options(Path("runs"), Path("data"), "cuda", (Path("/a"), Path("/b c")), "10.0.0.5:6379"),
            "demo --device cuda --parts /a --parts '/b c' --address 10.0.0.5:6379",
        ),
    ],
)
def test_the_command_that_goes_on_has_every_option_that_is_no_default(
    tmp_path: Path, options: Options, words: str
) -> None:
    assert resume_words(new_run(tmp_path), options) == words


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "interrupted: continue with `facex-tune resume demo --data d`"),
        (StorageOutage("no answer"), "continue with `facex-tune resume demo --data d` when it does"),
        (Interrupted("demo --data d", "SIGINT"), "continue with `facex-tune resume demo --data d`"),
    ],
)
def test_an_interruption_tells_the_whole_command(
    error: BaseException, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = outcome.Outcome()

    def command() -> None:
        ending.run_folder, ending.resume = Path("runs/demo"), "demo --data d"
        raise error

    assert ending.of(command) == 75
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stages", "command"),
    [
        ([], ""),
        (["search"], "facex-tune retrain demo --data /d --address a"),
        (["search", "retrain"], "facex-tune evaluate demo --data /d"),
        ([*STAGES], ""),
    ],
)
def test_the_next_stage_is_told(tmp_path: Path, stages: list[str], command: str) -> None:
    run = new_run(tmp_path)
    with run.log() as log:
        for event in done(*stages):
            log.append(record(event))
    assert next_command(run, Options(Path("runs"), Path("/d"), address="a")) == command


# The whole of it


@pytest.mark.slow
def test_an_interrupted_search_is_resumed_as_a_search_and_opens_no_test_set(tiny_data: Path, tmp_path: Path) -> None:
    """Real drivers: signalled, and resumed with the very command that it told. Slow: Ray, twice."""
    (tmp_path / "tiny.yaml").write_text(STUDY)
    where = ["--run", "r", "--storage", str(tmp_path / "runs"), "--data", str(tiny_data)]
    words = [*DRIVER, "search", str(tmp_path / "tiny.yaml"), *where]
    driver = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    run, deadline = Run(tmp_path / "runs", "r"), time.monotonic() + DEADLINE_S
    while not (run.exists() and any(event["type"] == "epoch" for event in run.events())):
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    driver.send_signal(signal.SIGTERM)
    _, errors = driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == 75, errors
    command = errors.strip().splitlines()[-1].partition("`facex-tune ")[2].removesuffix("`")
    done = subprocess.run(
        f"{sys.executable} -c 'from facex_tune.cli import main; main()' {command}",
        shell=True,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    history = run.history()
    assert history.stages == {"search": "finished"}
    assert (history.candidates, history.opened) == ([], {})
    assert done.stdout.splitlines()[-1] == f"next: facex-tune retrain r {' '.join(where[2:])}"
