"""The vocabulary of the event log: one place, one form on disk, and what becomes of another version's."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from facex_tune import study
from facex_tune.cli import main
from facex_tune.errors import InputError, Remark
from facex_tune.runs.events import (
    LOGGED,
    TOLD,
    EpochDone,
    LeaseTaken,
    Record,
    StageFinished,
    StageStarted,
    TrialStarted,
    as_named_now,
)
from facex_tune.runs.store import Run
from tests.records import record

PACKAGE = Path(__file__).resolve().parents[2] / "facex_tune"
EVERY = (*LOGGED, *TOLD, LeaseTaken)
NAMES = {each.TYPE for each in EVERY}
ALSO_A_FIELD = {"epoch"}  # of metrics, tables and reports


@pytest.fixture
def run(tmp_path: Path) -> Run:
    small = study.parse({"version": 1, "name": "small", "data": "synthetic"})
    return Run.create(tmp_path, "demo", small, data={}, environment={})


def add_line(run: Run, **event: object) -> None:
    with (run.folder / "events" / "000001.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")


# One place


def spelled(source: str) -> Iterator[tuple[int, str]]:
    """(line, name) of each event's name in the source as a string; of those that also name a field, where it is
    compared, or given to a log.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in NAMES - ALSO_A_FIELD:
            yield node.lineno, node.value
        of_an_event: list[ast.AST] = []
        if isinstance(node, ast.Compare) and '["type"]' in ast.unparse(node).replace("'", '"'):
            of_an_event = list(ast.walk(node))
        elif isinstance(node, ast.Compare):
            of_an_event = [each for part in node.comparators for each in ast.walk(part)] * (
                isinstance(node.ops[0], ast.Eq) and ast.unparse(node.left) in ("kind", "type")
            )
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("append", "tell"):
            of_an_event = list(node.args[:1])
        for each in of_an_event:
            if isinstance(each, ast.Constant) and each.value in ALSO_A_FIELD:
                yield each.lineno, each.value


def test_no_event_is_named_anywhere_but_in_its_record() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "runs" / "events.py"
        for line, name in spelled(path.read_text(encoding="utf-8"))
    }
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        'if event["type"] == "epoch": ...',
        'if event["type"] in ("epoch", other): ...',
        'if kind == "epoch": ...',
        'log.append("epoch", trial=0)',
        'HANDLERS = {"trial_started": 1}',
        'log.tell("note", text="")',
    ],
)
def test_a_planted_name_is_found(line: str) -> None:
    assert list(spelled(line))


def test_an_epoch_of_something_else_is_no_event() -> None:
    assert not list(spelled('x = {"epoch": 1}["epoch"] + ("epoch" in values)'))


def test_every_record_has_a_name_of_its_own_and_says_what_it_is() -> None:
    assert len(NAMES) == len(EVERY) == len(Record.__subclasses__())
    for each in EVERY:
        assert re.match(r"^[A-Z][^\n]{20,}", each.__doc__ or ""), each
        assert "(" not in (each.__doc__ or "(")[: len(each.__name__) + 1], f"{each}: a docstring of dataclass's making"
        assert not {field.name for field in fields(each)} & {"v", "seq", "time_utc", "type"}


# On disk


def test_a_record_lies_on_disk_as_it_always_has(run: Run) -> None:
    with run.log() as log:
        log.append(StageStarted("search"))
        log.append(TrialStarted(0, {"model": "resnet"}, "sampler"))
        log.append(EpochDone(0, 1, {"macro_f1": 0.5}, 1.5, "node"))
        log.append(StageFinished("search", ""))
    lines = (run.folder / "events" / "000001.jsonl").read_text().splitlines()
    assert [re.sub(r'"time_utc": "[^"]+"', '"time_utc": T', line) for line in lines] == [
        '{"v": 1, "seq": 1, "time_utc": T, "type": "stage_started", "stage": "search"}',
        '{"v": 1, "seq": 2, "time_utc": T, "type": "trial_started", "trial": 0, "config": {"model": "resnet"}, '
        '"source": "sampler"}',
        '{"v": 1, "seq": 3, "time_utc": T, "type": "epoch", "trial": 0, "epoch": 1, "metrics": {"macro_f1": 0.5}, '
        '"seconds": 1.5, "host": "node"}',
        '{"v": 1, "seq": 4, "time_utc": T, "type": "stage_finished", "stage": "search", "reason": ""}',
    ]
    assert [record(event) for event in run.events()][2] == EpochDone(0, 1, {"macro_f1": 0.5}, 1.5, "node")


# Another version's


def test_an_unknown_type_is_left_out_with_one_note(run: Run) -> None:
    with run.log() as log:
        log.append(StageStarted("search"))
    add_line(run, v=1, seq=2, time_utc="2026-01-01T00:00:00.000+00:00", type="weather", sky="grey")
    with pytest.warns(Remark, match=r"events: left out .* events of type weather$"):
        assert [event["type"] for event in run.events()] == ["stage_started"]
    with run.log() as log:
        assert log.append(StageFinished("search"))["seq"] == 3, "it has its number all the same"
    with pytest.warns(Remark, match="weather"):
        history = run.history()
    assert history.stages == {"search": "finished"}


def test_the_command_line_tells_of_an_unknown_type_in_a_line(run: Run) -> None:
    with run.log() as log:
        log.append(StageStarted("search"))
    add_line(run, v=1, seq=2, time_utc="2026-01-01T00:00:00.000+00:00", type="weather", sky="grey")
    command = [sys.executable, "-m", "facex_tune", "show", "demo", "--storage", str(run.storage)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stderr == (
        f"note: {run.folder}/events: left out what this version of facex_tune does not know: events of type weather\n"
    )
    assert "weather" not in told.stdout


def test_a_later_version_is_refused_with_both_versions(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with run.log() as log:
        log.append(StageStarted("search"))
    add_line(run, v=2, seq=2, time_utc="2026-01-01T00:00:00.000+00:00", type="epoch")
    said = r"000001\.jsonl, line 2: written by a newer facex_tune: schema 2, and this one, \S+, reads 1; nothing is"
    with pytest.raises(InputError, match=said):
        run.events()
    with pytest.raises(InputError, match=said), run.log():
        pass
    assert not (run.folder / "lease.json").exists(), "it is not left locked"
    for command in ("show", "report", "resume"):
        with pytest.raises(SystemExit) as ended:
            main([command, "demo", "--storage", str(run.storage)])
        assert ended.value.code == 2, command
        assert re.search(said, capsys.readouterr().err), command


def test_speeds_of_logs_of_before_are_read_as_what_they_were() -> None:
    """`images_per_second` was the speed of training, and must not pass for what one face costs."""
    old = {"type": "epoch", "metrics": {"macro_f1": 0.5, "images_per_second": 900.0}}
    new = {"type": "epoch", "metrics": {"train_images_per_second": 900.0, "images_per_second": 40.0}}
    read = [as_named_now(each) for each in (old, new)]
    assert read[0]["metrics"] == {"macro_f1": 0.5, "train_images_per_second": 900.0}
    assert read[1] == new
