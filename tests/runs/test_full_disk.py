"""A disk that fills up, a log that is torn: a clear error or the last good state, and nothing acknowledged is lost."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from facex_tune import study
from facex_tune.runs.events import RunResumed, RunStarted, TrialFailed
from facex_tune.runs.store import Run
from facex_tune.storage import files
from facex_tune.storage.files import DamagedRun
from tests import small_disk
from tests.records import epoch as epoch_of

STUDY = study.parse({"version": 1, "name": "small", "data": "synthetic"})

FILLS_UP = """
import json, sys
from pathlib import Path
import torch
from facex_tune.storage import files
from facex_tune import study
from facex_tune.errors import InputError
from facex_tune.runs.events import EpochDone
from facex_tune.runs.store import Run

storage = Path(sys.argv[1])
small = study.parse({"version": 1, "name": "small", "data": "synthetic"})
run = Run.create(storage, "r", small, data={}, environment={})
acknowledged, refused, filler = [], [], storage / "filler"
with run.log() as log:
    log.listeners.append(acknowledged.append)
    for epoch in range(100):
        try:
            files.save_tensors(run.trial_checkpoint(epoch % 4), {"w": torch.ones(40_000)}, {"epoch": epoch})
            log.append(EpochDone(epoch % 4, epoch, {}, 1.0, host="x" * 3000))
        except InputError as error:
            refused.append(str(error))
        if epoch == 20:
            filler.write_bytes(b"x" * 10_000)
            try:
                with filler.open("ab", buffering=0) as file:
                    while True:
                        file.write(b"x" * 1000)
            except OSError:
                pass
        if epoch == 60:
            filler.unlink()
left = [path.name for path in run.folder.rglob("*.part")]
checkpoints = {}
for trial in range(4):
    tensors, values = files.load_tensors(run.trial_checkpoint(trial))
    checkpoints[trial] = values["epoch"]
print(json.dumps({
    "refused": refused, "acknowledged": acknowledged, "events": list(Run(storage, "r").events()), "left": left,
    "checkpoints": checkpoints, "locked": (run.folder / "lease.json").exists(),
}))
"""


@pytest.mark.skipif(not small_disk.is_allowed(), reason=small_disk.WHY_NOT)
def test_a_disk_that_fills_up_and_is_freed_again(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(FILLS_UP)
    disk = tmp_path / "disk"
    done = small_disk.on_small_disk(disk, "1500k", f"$PYTHON {tmp_path}/script.py {disk}")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["refused"], "the disk was full for a while"
    assert all("no space left in" in line and "\n" not in line for line in told["refused"])
    assert told["events"] == told["acknowledged"], "all that was told is there, and nothing else"
    assert [event["seq"] for event in told["events"]] == list(range(1, len(told["events"]) + 1))
    assert {event["epoch"] for event in told["events"]} >= {0, 20, 99}
    assert told["checkpoints"] == {"0": 96, "1": 97, "2": 98, "3": 99}
    assert told["left"] == []
    assert not told["locked"]


def test_a_log_torn_at_20_offsets_is_its_last_good_state(tmp_path: Path) -> None:
    whole = Run.create(tmp_path, "whole", STUDY, data={}, environment={})
    with whole.log() as log:
        events = [log.append(TrialFailed(i % 3, detail="ß" * (i % 7))) for i in range(40)]
    content = (whole.folder / "events" / "000001.jsonl").read_bytes()
    offsets = sorted(random.Random(5).sample(range(1, len(content)), 20))
    for offset in offsets:
        run = Run.create(tmp_path, f"torn{offset}", STUDY, data={}, environment={})
        files.write_bytes(run.folder / "events" / "000001.jsonl", content[:offset])
        good = events[: content[:offset].count(b"\n")]
        assert list(run.events()) == good
        with run.log() as log:
            more = log.append(RunResumed())
        assert list(run.events()) == [*good, more]


def test_records_that_are_lost_before_a_later_writers_are_told(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "r", STUDY, data={}, environment={})
    for _ in range(2):
        with run.log() as log:
            for epoch in range(3):
                log.append(epoch_of(0, epoch))
    first = run.folder / "events" / "000001.jsonl"
    first.write_bytes(first.read_bytes()[:-5])
    with pytest.raises(DamagedRun, match=r"event 3 is missing \(the next one is 4\)"):
        list(run.events())


def test_a_log_that_is_gone_is_no_new_run(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "r", STUDY, data={}, environment={})
    with run.log() as log:
        log.append(RunStarted())
    files.write_bytes(run.trial_checkpoint(0), b"x")
    (run.folder / "events" / "000001.jsonl").write_bytes(b"")
    with pytest.raises(DamagedRun, match="holds no event, although"), run.log():
        pass
    assert not (run.folder / "lease.json").exists()


def test_what_a_replaced_writer_wrote_late_is_no_part_of_the_log(tmp_path: Path) -> None:
    """On disks a writer that was frozen may still end the write that it had begun."""
    run = Run.create(tmp_path, "r", STUDY, data={}, environment={})
    with run.log() as log:
        told = [log.append(epoch_of(0, epoch)) for epoch in range(3)]
    with run.log() as log:
        told.append(log.append(RunResumed()))
    first = run.folder / "events" / "000001.jsonl"
    late = json.loads(first.read_bytes().splitlines()[-1]) | {"seq": 4, "epoch": 99}
    first.write_bytes(first.read_bytes() + json.dumps(late).encode() + b"\n")
    assert list(run.events()) == told
