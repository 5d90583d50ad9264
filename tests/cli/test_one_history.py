"""A command reads each record of a log once and folds each event once, however many stages ask for the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from facex_tune.cli import main
from facex_tune.runs import segments
from facex_tune.runs.events import Event, Note, RunResumed, StageStarted
from facex_tune.runs.history import History, fold
from facex_tune.runs.store import Run
from tests.evaluation.conftest import new_run, write_data
from tests.pipeline.test_resuming import STUDY
from tests.records import epoch
from tests.search.conftest import tiny_data

__all__ = ["tiny_data"]  # a fixture


class Counted:
    """How often a process has parsed each line of a log, and folded each event; and how many histories it began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parsed: Counter[str] = Counter()
        self.folded: Counter[int] = Counter()
        self.histories = 0
        parse, together, see, begin = segments.parsed, segments._together, History.see, History.__init__

        def parsed(line: bytes, where: str) -> Event:
            self.parsed[where] += 1
            return parse(line, where)

        def read_together(lines: Sequence[bytes]) -> list[Event]:
            found = together(lines)
            self.parsed.update(line.decode() for line in lines[: len(found)])
            return found

        def seen(history: History, event: Mapping[str, Any]) -> None:
            self.folded[event["seq"]] += 1
            see(history, event)

        def begun(history: History, *given: Any, **more: Any) -> None:
            self.histories += 1
            begin(history, *given, **more)

        monkeypatch.setattr(segments, "parsed", parsed)
        monkeypatch.setattr(segments, "_together", read_together)
        monkeypatch.setattr(History, "see", seen)
        monkeypatch.setattr(History, "__init__", begun)

    def of(self, run: Run, *command: str) -> None:
        """Does a command of the run, and asserts that it folded each of its events once, in one history."""
        self.parsed.clear()
        self.folded.clear()
        self.histories = 0
        with pytest.raises(SystemExit) as ended:
            main([*command, "--storage", str(run.storage)])
        assert ended.value.code == 0, command
        assert self.histories == 1, command
        assert set(self.parsed.values()) == {1}, command
        assert self.folded == Counter(range(1, len(run.events()) + 1)), command


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def test_what_reads_a_run_folds_it_once(tmp_path: Path, counted: Counted) -> None:
    data = write_data(tmp_path / "data")
    run = new_run(tmp_path / "runs", data)
    counted.of(run, "show", run.name)
    counted.of(run, "show", run.name, "--trial", "0")
    counted.of(run, "runs")
    counted.of(run, "report", run.name, "--data", str(data))
    counted.of(run, "mirror", run.name, "--csv", str(tmp_path / "trials.csv"))


@pytest.mark.slow
def test_what_writes_a_run_folds_it_once(tmp_path: Path, tiny_data: Path, counted: Counted) -> None:
    """Every stage, with Ray; then one more session of each kind."""
    (tmp_path / "tiny.yaml").write_text(STUDY)
    run, data = Run(tmp_path / "runs", "r"), ["--data", str(tiny_data)]
    counted.of(run, "run", str(tmp_path / "tiny.yaml"), "--run", "r", *data)
    assert run.history().stages.keys() == {"search", "retrain", "evaluate", "report"}
    counted.of(run, "evaluate", "r", *data)
    with run.log() as log:
        log.append(RunResumed(["report"]))
        log.append(StageStarted("report"))
    counted.of(run, "resume", "r", *data)


# Nothing becomes stale


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return new_run(tmp_path / "runs", tmp_path / "data", retrained=False)


def test_a_history_goes_on_with_the_log_that_is_open(run: Run) -> None:
    with run.log() as log:
        history = run.history()
        heard: list[int] = []
        log.listeners.append(lambda event: heard.append(history.trials[0].last_epoch))
        before = history.trials[0].last_epoch
        log.append(epoch(0, before + 1, macro_f1=0.5))
        log.tell(Note("a remark"))
        assert heard == [before + 1] * 2, "who is told can look it up"
        assert run.history() is history
    assert history == fold(Run(run.storage, run.name).events())


def test_a_history_goes_on_with_what_another_process_writes(run: Run) -> None:
    history, other = run.history(), Run(run.storage, run.name)
    with other.log() as log:
        for number in (11, 12):
            log.append(epoch(0, number, macro_f1=0.5))
            assert run.history().trials[0].last_epoch == number
    with run.log() as log:
        assert history.trials[0].last_epoch == 12
        log.append(epoch(0, 13, macro_f1=0.5))
    assert run.history() is history
    assert history == fold(Run(run.storage, run.name).events())


def test_what_a_replaced_writer_wrote_late_is_taken_back(run: Run) -> None:
    late = Run(run.storage, run.name)
    with late.log() as log:
        log.append(epoch(0, 11, macro_f1=0.9))
    first = sorted((run.folder / "events").iterdir())[-1]
    whole = first.read_bytes()
    assert run.history().trials[0].last_epoch == 11
    first.write_bytes(b"")
    with Run(run.storage, run.name).log() as log:
        log.append(epoch(0, 12, macro_f1=0.5))
    first.write_bytes(whole)
    assert run.history().trials[0].last_epoch == 12
    assert 11 not in run.history().trials[0].epochs


def test_a_record_whose_writing_was_broken_off_is_folded_once_it_is_known_to_be_there(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal came after the record was durable and before anybody was told."""

    def interrupted(append: Callable[[bytes], None], line: bytes) -> None:
        append(line)
        raise KeyboardInterrupt

    with run.log() as log:
        history = run.history()
        monkeypatch.setattr(log._writer, "append", partial(interrupted, log._writer.append))
        with pytest.raises(KeyboardInterrupt):
            log.append(epoch(0, 11, macro_f1=0.5))
        monkeypatch.undo()
        log.append(RunResumed())
        assert history.trials[0].last_epoch == 11
        assert history == fold(Run(run.storage, run.name).events())


def test_a_record_that_was_not_written_is_not_folded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(line: bytes) -> None:
        raise OSError("no space")

    with run.log() as log:
        history = run.history()
        monkeypatch.setattr(log._writer, "append", fails)
        with pytest.raises(OSError, match="no space"):
            log.append(epoch(0, 11, macro_f1=0.5))
        monkeypatch.undo()
        log.append(RunResumed())
        assert history.trials[0].last_epoch < 11
        assert history == fold(Run(run.storage, run.name).events())
