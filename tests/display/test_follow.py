"""Watching a run that another process writes: real processes, one log."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

from facex_tune import study
from facex_tune.display import follow
from facex_tune.runs import tail
from facex_tune.runs.events import RunStarted, StageFinished, StageStarted
from facex_tune.runs.store import Run

ROOT = Path(__file__).resolve().parents[2]
QUICK = ROOT / "search_spaces" / "quick.yaml"
# Another process that writes a run, a line on its standard input for each step.
WRITER = """
import sys
from pathlib import Path
from facex_tune.runs.events import EpochDone, RunStarted, StageStarted, TrialFinished, TrialStarted
from facex_tune.runs.store import Run
with Run(Path(sys.argv[1]), "demo").log() as log:
    log.append(RunStarted())
    log.append(StageStarted("search"))
    log.append(TrialStarted(0, {"model": "resnet"}, "sampler"))
    print("begun", flush=True)
    sys.stdin.readline()
    log.append(EpochDone(0, 1, {"macro_f1": 0.5}, 1.0))
    log.append(TrialFinished(0))
    print("told", flush=True)
    sys.stdin.readline()
"""


def new_run(storage: Path) -> Run:
    return Run.create(storage, "demo", study.load(QUICK), data={}, environment={})


def test_a_watcher_sees_what_another_process_writes_and_ends_with_it(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == "begun\n"
        stream = io.StringIO()
        pauses = 0

        def pause(_seconds: float) -> None:
            """The watcher waits: the writer goes on."""
            nonlocal pauses
            pauses += 1
            assert writer.stdin is not None
            assert writer.stdout is not None
            writer.stdin.write("go on\n")
            writer.stdin.flush()
            if pauses == 1:
                assert writer.stdout.readline() == "told\n"
            else:
                writer.wait()

        follow.watch(run, stream, pause)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("search | 0/8 trials ended | elapsed ")
    assert lines[0].partition(" (next: ")[0].endswith("running: t0000 epoch 0/6")
    assert lines[1:] == ["t0000 finished epoch 1/6 macro_f1 0.500 (best t0000 0.500) | 1/8 trials"]
    assert pauses == 2


def test_each_event_is_told_once_and_the_last_words_are_not_missed(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    log_of_writer = run.log()
    log = log_of_writer.__enter__()
    log.append(RunStarted())
    steps = iter([lambda: log.append(StageStarted(stage="search")), lambda: None])

    def pause(_seconds: float) -> None:
        try:
            next(steps)()
        except StopIteration:
            log.append(StageFinished(stage="search"))
            log_of_writer.__exit__(None, None, None)

    told = [[event["type"] for event in batch] for batch in tail.batches(run, pause)]
    assert told == [["run_started"], ["stage_started"], [], ["stage_finished"]]


def test_ctrl_c_ends_the_watching_and_not_the_run(tmp_path: Path) -> None:
    run = new_run(tmp_path)

    def pause(_seconds: float) -> None:
        raise KeyboardInterrupt

    with run.log() as log:
        log.append(RunStarted())
        follow.watch(run, io.StringIO(), pause)
        log.append(StageStarted(stage="search"))
    assert run.history().stages == {"search": "started"}


def test_the_pace_counts_from_the_stage_s_beginning_in_this_session() -> None:
    def at(minute: int, **event: object) -> dict[str, object]:
        return {"time_utc": f"2026-01-01T10:{minute:02d}:00+00:00", **event}

    ends = [at(minute, type="trial_finished", trial=trial) for trial, minute in enumerate((2, 4))]
    starts = [at(1, type="trial_started", trial=trial, config={}, source="sampler") for trial in range(2)]
    begins = [at(0, type="run_started"), at(1, type="stage_started", stage="search")]
    resumes = [at(30, type="run_resumed"), at(31, type="stage_started", stage="search")]
    events = [*begins, *starts, *ends, *resumes]
    board, past = follow.caught_up(study.load(QUICK), events)  # type: ignore[arg-type]
    assert board.ended == 2
    assert past.searched_s == 180.0  # the hole between the sessions does not count
    assert past.share == max(2 / 8, 180.0 / 180.0)  # its budget is 8 trials or three minutes
    assert past.elapsed_s - past.stage_s == 60.0
