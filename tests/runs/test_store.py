"""The run folder: what is written survives a crash at any byte, and one process writes at a time."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import facex_tune
from facex_tune import study
from facex_tune.errors import InputError
from facex_tune.runs import lease, overview, store
from facex_tune.runs.events import EpochDone, Note, RunResumed, RunStarted, TrialFailed
from facex_tune.runs.lease import LeaseLost
from facex_tune.runs.store import Run, RunTaken
from facex_tune.search import retrain
from facex_tune.storage import files
from facex_tune.storage.files import DamagedRun
from tests.records import epoch as epoch_of

STUDY = study.parse({"version": 1, "name": "small", "data": "synthetic"})


def new_run(storage: Path, name: str = "small-1") -> Run:
    return Run.create(storage, name, STUDY, data={"synthetic": {"n": 3}}, environment={"packages": {"torch": "2"}})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return new_run(tmp_path)


def written(run: Run, n: int = 3) -> list[dict[str, Any]]:
    with run.log() as log:
        return [log.append(EpochDone(trial=0, epoch=i, metrics={"macro_f1": 0.1 * i}, seconds=1.5)) for i in range(n)]


def segment(run: Run, number: int = 1) -> Path:
    return run.folder / "events" / f"{number:06d}.jsonl"


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.part")]


# The header


def test_a_run_keeps_the_study_that_it_began_with(run: Run) -> None:
    again = Run.open(run.storage, run.name)
    assert again.study == STUDY
    assert again.header["data"] == {"synthetic": {"n": 3}}
    assert again.header["packages"] == {"torch": "2"}
    assert again.header["schema"] == 1


def test_a_name_that_is_taken_is_refused_and_its_header_stays(run: Run) -> None:
    before = (run.folder / "run.json").read_bytes()
    with pytest.raises(RunTaken, match=r"'small-1' was begun by another process.*--run"):
        new_run(run.storage)
    assert (run.folder / "run.json").read_bytes() == before
    assert [path.name for path in run.folder.iterdir()] == ["run.json"]


def test_of_many_that_take_a_name_at_one_moment_one_gets_it(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def begin(_: int) -> Run | None:
        together.wait()
        with suppress(RunTaken):
            return new_run(tmp_path)
        return None

    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            [one] = [made for made in pool.map(begin, range(8)) if made]
        assert one.study == STUDY
        assert [path.name for path in one.folder.iterdir()] == ["run.json"]
        (one.folder / "run.json").unlink()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_disk_without_hard_links_holds_runs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    made = new_run(tmp_path)
    assert made.study == STUDY
    with pytest.raises(RunTaken):
        new_run(tmp_path)
    assert [path.name for path in made.folder.iterdir()] == ["run.json"]


def test_a_link_whose_answer_was_lost_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS tells it: the server did it, and hears the question again."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert new_run(tmp_path).study == STUDY


def test_a_file_in_the_place_of_a_run_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "small-1").write_text("")
    with pytest.raises(InputError, match="cannot write there"):
        new_run(tmp_path)


def test_runs_are_named_oldest_first(tmp_path: Path) -> None:
    for age, name in ((10, "b"), (30, "c"), (20, "a"), (20, "aa")):
        header = new_run(tmp_path, name).folder / "run.json"
        os.utime(header, (1e9 - age, 1e9 - age))
    (tmp_path / "no run").mkdir()
    assert Run.names(tmp_path) == ["c", "a", "aa", "b"]
    assert Run.names(tmp_path / "nowhere") == []


def test_an_unknown_run_is_told_with_the_nearest(run: Run) -> None:
    with pytest.raises(InputError, match=r"no run named 'smal-1'.*did you mean small-1"):
        Run.open(run.storage, "smal-1")
    (run.storage / "empty").mkdir()
    with pytest.raises(InputError, match="there are none yet"):
        Run.open(run.storage / "empty", "small-1")
    with pytest.raises(InputError, match=r"nowhere is no folder; name that of your runs with --storage"):
        Run.open(run.storage / "nowhere", "small-1")


def test_another_schema_and_a_damaged_header(run: Run) -> None:
    header = run.folder / "run.json"
    header.write_text(header.read_text().replace('"schema": 1', '"schema": "one"'))
    with pytest.raises(DamagedRun, match="schema 'one', which no facex_tune wrote; restore the file"):
        _ = run.header
    header.write_text('{"schema": 1')
    with pytest.raises(DamagedRun, match=r"run\.json: malformed JSON"):
        _ = run.header


def test_a_run_of_a_newer_version_is_not_called_damaged_whatever_its_log_holds(run: Run) -> None:
    with run.log() as log:
        log.append(RunStarted())
    header = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps(header | {"schema": 2, "packages": {"facex-tune": "9.1.0"}}))
    segment(run).write_text("records of another form\n" + segment(run).read_text())
    again = Run.open(run.storage, run.name)
    for read in (lambda: again.header, lambda: list(again.events()), lambda: again.history()):
        with pytest.raises(InputError) as told:
            read()
        ours = f"schema 2, and this one, {facex_tune.__version__}, reads 1; nothing is damaged: "
        assert f"run.json: written by a newer facex_tune (9.1.0): {ours}" in str(told.value)
        assert str(told.value).endswith("update facex_tune here (docs/upgrading.md)")
        assert "remove" not in str(told.value)


def test_a_record_of_a_newer_version_is_not_called_malformed(run: Run) -> None:
    with run.log() as log:
        log.append(RunStarted())
    segment(run).write_text(segment(run).read_text().replace('"v": 1', '"v": 2'))
    with pytest.raises(InputError, match=r"line 1: written by a newer facex_tune: schema 2"):
        list(run.events())


def test_a_run_folder_of_each_released_schema_is_read(tmp_path: Path) -> None:
    kept = sorted((Path(__file__).parents[1] / "released").iterdir())
    assert [folder.name for folder in kept] == [f"schema-{n}" for n in range(1, store.SCHEMA + 1)]
    for folder in kept:
        shutil.copytree(folder, tmp_path / folder.name)  # as to a machine of today
        run = Run.open(tmp_path, folder.name)
        document = overview.of_run(run)
        assert (document["state"], document["trials"]) == ("finished", {"finished": 2, "stopped": 1, "failed": 1})
        assert [(row["rank"], row["trial"], row["value"]) for row in document["leaderboard"]][:2] == [
            (1, "t0001", 0.5),
            (2, "t0000", 0.4),
        ]
        assert [(model["candidate"], model["seed"]) for model in document["models"]] == [(1, 0)]
        assert [trial.number for trial in retrain.choose(run.history(), run.study)] == [1]


def test_a_storage_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write there .*--storage") as told:
        new_run(tmp_path / "file")
    assert "\n" not in str(told.value)


# The log


def test_events_are_replayed_as_written_over_any_number_of_writers(run: Run) -> None:
    first, second = written(run), written(run, 2)
    assert list(run.events()) == first + second
    assert [event["seq"] for event in run.events()] == [1, 2, 3, 4, 5]
    assert all(event["v"] == 1 and event["time_utc"].endswith("+00:00") for event in run.events())


def test_a_run_without_events_has_none(run: Run) -> None:
    assert list(run.events()) == []
    assert run.history().trials == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(fields=st.lists(st.dictionaries(st.sampled_from(["reason", "detail", "seconds"]), json_values), max_size=4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_event_survives(run: Run, fields: list[dict[str, Any]]) -> None:
    before = len(list(run.events()))
    with run.log() as log:
        told = [log.append(TrialFailed(0, **each)) for each in fields]
    assert list(run.events())[before:] == told


def test_a_torn_last_record_is_dropped_wherever_it_was_torn(run: Run) -> None:
    events = written(run)
    whole = segment(run).read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(whole)):
        segment(run).write_bytes(whole[:end])
        assert list(run.events()) == events[:-1]


def test_the_log_goes_on_after_a_torn_record(run: Run) -> None:
    events = written(run)
    segment(run).write_bytes(segment(run).read_bytes()[:-7])
    more = written(run, 2)
    assert list(run.events()) == events[:-1] + more
    assert [event["seq"] for event in more] == [3, 4]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"",
        b"[1]",
        b"7",
        b"null",
        b"\xff\xfe",
        b'{"v": 1, "seq": 2}',
        b'{"v": 0, "seq": 2, "type": "epoch"}',
        b'{"v": 1, "seq": "2", "type": "epoch"}',
        b'{"v": 1, "seq": 2, "type": 5}',
    ],
)
def test_any_other_malformed_record_stops_with_its_file_and_line(run: Run, line: bytes) -> None:
    written(run)
    lines = segment(run).read_bytes().split(b"\n")
    lines[1] = line
    segment(run).write_bytes(b"\n".join(lines))
    with pytest.raises(DamagedRun, match=r"000001\.jsonl, line 2: malformed record"):
        list(run.events())
    with pytest.raises(DamagedRun), run.log():
        pass
    assert not (run.folder / "lease.json").exists(), "a damaged run is not left locked"


def test_a_malformed_last_record_that_ends_its_line_is_no_torn_one(run: Run) -> None:
    written(run)
    with segment(run).open("ab") as file:
        file.write(b"{]\n")
    with pytest.raises(DamagedRun, match="line 4"):
        list(run.events())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_infinity_reaches_a_file(run: Run, value: float) -> None:
    with run.log() as log:
        with pytest.raises(ValueError, match="not JSON compliant"):
            log.append(epoch_of(macro_f1=value))
        log.append(epoch_of(macro_f1=0.5))
    assert [event["metrics"] for event in run.events()] == [{"macro_f1": 0.5}]
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(run.folder / "x.json", {"value": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.save_tensors(run.folder / "x.safetensors", {}, {"value": value})
    assert not list(run.folder.glob("x.*"))


def test_listeners_hear_an_event_when_it_is_durable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    really = os.fsync
    with run.log() as log:
        monkeypatch.setattr(os, "fsync", lambda number: (order.append("durable"), really(number))[1])
        log.listeners.append(lambda event: order.append(f"told {event['type']}, {len(list(run.events()))} on disk"))
        log.append(epoch_of(0))
        log.tell(Note("a remark"))
    monkeypatch.undo()
    assert order == ["durable", "told epoch, 1 on disk", "told note, 1 on disk"]


def test_threads_of_one_process_may_write_together(run: Run) -> None:
    with run.log() as log:
        long = TrialFailed(0, detail="x" * 500)
        threads = [threading.Thread(target=lambda: [log.append(long) for _ in range(20)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [event["seq"] for event in run.events()] == list(range(1, 81))


# One writer

WRITER = """
import sys, time
from pathlib import Path
from facex_tune.runs.events import RunStarted
from facex_tune.runs.store import Run
with Run(Path(sys.argv[1]), sys.argv[2]).log() as log:
    log.append(RunStarted())
    print("writing", flush=True)
    sys.stdin.read()
"""


def other_process(run: Run) -> subprocess.Popen[str]:
    """Another process that writes the run, until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(run.storage), run.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_a_second_process_is_refused_by_name_and_told_the_way_out(run: Run) -> None:
    with other_process(run) as writer:
        with pytest.raises(InputError) as told, run.log():
            pass
        line = str(told.value)
        assert f"run 'small-1' is being written by process {writer.pid} on " in line
        assert "wait for it, stop it, or give this run another name with --run" in line
        assert "\n" not in line
        writer.communicate("")
        assert writer.returncode == 0
    assert [event["seq"] for event in written(run, 1)] == [2]


def test_a_killed_process_holds_nothing(run: Run) -> None:
    with other_process(run) as writer:
        writer.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
        assert (run.folder / "lease.json").exists(), "it had no time to give the lease back"
        with run.log() as log:
            log.append(RunResumed())
            assert json.loads((run.folder / "lease.json").read_text())["fence"] == 2
    assert [event["type"] for event in run.events()] == ["run_started", "run_resumed"]
    assert sorted(path.name for path in (run.folder / "events").iterdir()) == ["000001.jsonl", "000002.jsonl"]


CONTENDER = """
import sys
from pathlib import Path
from facex_tune.errors import InputError
from facex_tune.runs.events import RunStarted
from facex_tune.runs.store import Run
for name in iter(sys.stdin.readline, ""):
    try:
        with Run(Path(sys.argv[1]), name.strip()).log() as log:
            log.append(RunStarted())
            print("wrote", flush=True)
            sys.stdin.readline()
    except Exception as error:
        print(type(error).__name__, flush=True)
        sys.stdin.readline()
"""


def _tell(contenders: list[subprocess.Popen[str]], word: str) -> None:
    for contender in contenders:
        assert contender.stdin is not None
        contender.stdin.write(word + "\n")
        contender.stdin.flush()


def test_of_two_that_start_together_one_writes_and_one_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CONTENDER, str(tmp_path)]
    pair = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outcomes = Counter[str]()
    for i in range(60):
        _tell(pair, new_run(tmp_path, f"r{i}").name)
        outcomes["+".join(sorted(each.stdout.readline().strip() for each in pair if each.stdout is not None))] += 1
        _tell(pair, "go on")
    for contender in pair:
        contender.communicate("")
    assert outcomes == {"InputError+wrote": 60}


def test_the_fence_grows_with_every_writer(run: Run) -> None:
    fences = []
    for _ in range(3):
        with run.log():
            fences.append(json.loads((run.folder / "lease.json").read_text())["fence"])
        assert not (run.folder / "lease.json").exists()
    assert fences == [1, 2, 3]


def _lease_of_another_host(run: Run, age_s: float) -> None:
    """Its heart beat last `age_s` ago by the clock of the disk; its own clock is a year slow."""
    held = {"host": "elsewhere", "pid": 4, "started": "9", "token": "t", "fence": 7, "heartbeat": time.time() - 3e7}
    path = run.folder / "lease.json"
    files.write_json(path, held)
    os.utime(path, (path.stat().st_mtime - age_s,) * 2)


def test_a_process_of_another_host_is_believed_while_its_heart_beats(run: Run) -> None:
    _lease_of_another_host(run, lease.LEASE_STALE_S - 5)
    with pytest.raises(InputError, match=r"process 4 on elsewhere \(its last sign of life is 55 s old"), run.log():
        pass
    assert lease.holder(run.folder) is not None
    _lease_of_another_host(run, lease.LEASE_STALE_S + 5)
    assert lease.holder(run.folder) is None
    with run.log():
        assert json.loads((run.folder / "lease.json").read_text())["fence"] == 8


def test_who_lost_the_lease_writes_nothing_more_and_leaves_the_successor_alone(run: Run) -> None:
    with run.log() as log:
        log.append(RunStarted())
        _lease_of_another_host(run, 0.0)
        with pytest.raises(LeaseLost, match="now written by process 4 on elsewhere"):
            log.append(epoch_of())
    assert [event["type"] for event in run.events()] == ["run_started"]
    assert json.loads((run.folder / "lease.json").read_text())["token"] == "t"


def test_the_heart_beats(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.01)
    path = run.folder / "lease.json"
    with run.log():
        first = json.loads(path.read_text())
        beaten = threading.Event()
        for _ in range(1000):  # ten seconds at most
            if json.loads(path.read_text())["heartbeat"] > first["heartbeat"]:
                break
            beaten.wait(0.01)
        last = json.loads(path.read_text())
    assert last["heartbeat"] > first["heartbeat"]
    assert {**last, "heartbeat": 0} == {**first, "heartbeat": 0}


def test_a_damaged_lease_holds_nobody_up(run: Run) -> None:
    (run.folder / "lease.json").write_text("{")
    assert [event["seq"] for event in written(run, 1)] == [1]


# Whole or not at all


def full_disk(
    monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOSPC, *, on: str = "fsync", above_bytes: int = -1
) -> None:
    """Writing goes well until `on` is called, as on file systems that find room only when they must; files of no
    more than `above_bytes` still have room.
    """
    really = os.fsync

    def fail(place: Any, *_more: Any) -> None:
        if os.stat(place).st_size <= above_bytes:
            really(place)
        else:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, on, fail)


@pytest.mark.parametrize("on", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: str, number: int
) -> None:
    path = tmp_path / "deep" / "x.bin"
    files.write_bytes(path, b"old")
    full_disk(monkeypatch, number, on=on)
    with pytest.raises(InputError, match=r"no space left in .*deep: 3\.0 MB needed") as told:
        files.write_bytes(path, b"n" * 3_000_000)
    assert "\n" not in str(told.value)
    assert path.read_bytes() == b"old"
    assert [file.name for file in path.parent.iterdir()] == ["x.bin"]


def test_a_really_full_disk(tmp_path: Path) -> None:
    """A process whose files may not grow beyond 64 KB stands for it: writes fail in the middle."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from facex_tune.storage import files;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536));"
        "files.write_bytes(Path(sys.argv[1]), b'x' * 1_000_000)"
    )
    path = tmp_path / "x.bin"
    told = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "File too large" in told.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named_as_it_was_given(tmp_path: Path) -> None:
    """Not by the temporary file through which it would have been written."""
    (tmp_path / "x.bin").mkdir()
    with pytest.raises(IsADirectoryError) as told:
        files.write_bytes(tmp_path / "x.bin", b"x")
    assert (told.value.filename, told.value.filename2) == (str(tmp_path / "x.bin"), None)
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    """Whoever may write /dev/null would lose it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"/pipe: is no ordinary file"):
        files.write_bytes(tmp_path / "pipe", b"x")
    assert (tmp_path / "pipe").is_fifo()


def test_another_fault_of_the_disk_is_not_called_a_full_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        files.write_bytes(tmp_path / "x.bin", b"x")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_number: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(tmp_path / "x.bin", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_stops_the_log_without_locking_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, run.log() as log:
        log.append(RunStarted())
        full_disk(patched)
        with pytest.raises(InputError, match=r"no space left in .*events: \d+ bytes needed"):
            log.append(epoch_of())
    assert not (run.folder / "lease.json").exists()
    assert [event["type"] for event in written(run, 1)] == ["epoch"]
    assert [event["type"] for event in run.events()] == ["run_started", "epoch"], "what failed is not half there"


def test_a_folder_that_cannot_be_made_has_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk(monkeypatch)
    with pytest.raises(InputError, match="no space left"):
        new_run(tmp_path)
    assert Run.names(tmp_path) == []


def test_a_reader_sees_the_old_content_or_the_new(tmp_path: Path) -> None:
    path, contents = tmp_path / "x.json", [json.dumps(["x" * 100_000 * i]) for i in (1, 2)]
    files.write_bytes(path, contents[0].encode())
    done = threading.Event()

    def write() -> None:
        for i in range(40):
            files.write_bytes(path, contents[i % 2].encode())
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen: set[str] = set()
    while not done.is_set():
        seen.add(path.read_text())
    thread.join()
    assert seen <= set(contents)


# Checkpoints and models


def test_a_checkpoint_comes_back_bit_for_bit(run: Run) -> None:
    tensors = {
        "model.weight": torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last),
        "model.half": torch.randn(5).to(torch.bfloat16),
        "model.steps": torch.tensor(3),
        "slice": torch.arange(12).reshape(3, 4).T,
        "empty": torch.zeros(0, 3),
        "graph": torch.ones(2, requires_grad=True),
    }
    values = {"epoch": 3, "average_updates": 17, "nested": {"a": [1, None, "ß"]}}
    path = run.trial_checkpoint(7)
    assert path.relative_to(run.folder).as_posix() == "trials/t0007/last.safetensors"
    files.save_tensors(path, tensors, values)
    found, told = files.load_tensors(path)
    assert told == values
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach())
    run.remove_checkpoints([7, 8])
    run.remove_checkpoints([7])
    assert not path.exists()


def test_a_checkpoint_without_tensors(tmp_path: Path) -> None:
    files.save_tensors(tmp_path / "x.safetensors", {}, {"epoch": 0})
    assert files.load_tensors(tmp_path / "x.safetensors") == ({}, {"epoch": 0})


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "text"])
def test_a_damaged_checkpoint_is_told_by_its_name(run: Run, damage: str) -> None:
    path = run.trial_checkpoint(0)
    files.save_tensors(path, {"weight": torch.randn(64)}, {"epoch": 1})
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[:-9], "header": b"\xff" * 16 + whole[16:], "empty": b"", "text": b"no tensors here"}[damage]
    )
    with pytest.raises(DamagedRun, match=r"t0000/last\.safetensors: damaged .*remove the file") as told:
        files.load_tensors(path)
    assert "\n" not in str(told.value)


def test_a_checkpoint_that_is_not_there_is_no_damaged_one(run: Run) -> None:
    with pytest.raises(FileNotFoundError):
        files.load_tensors(run.trial_checkpoint(0))


def test_nothing_in_a_run_folder_is_unpickled(run: Run, tmp_path: Path) -> None:
    path, mark = run.trial_checkpoint(0), tmp_path / "mark"

    class Planted:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(mark),)

    path.parent.mkdir(parents=True)
    torch.save({"x": Planted()}, path)
    with pytest.raises(DamagedRun):
        files.load_tensors(path)
    assert not mark.exists()


def test_a_model_is_whole_when_it_has_its_configuration(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"trial": 7, "seed": 1, "config": {"train.lr": 0.1}}
    run.save_model(7, 1, {"weight": torch.ones(3)}, info)
    assert run.final_folder(7, 1) == run.folder / "final" / "t0007-s1"
    tensors, again = run.load_model_files(7, 1)
    assert torch.equal(tensors["weight"], torch.ones(3))
    assert again == info
    with monkeypatch.context() as patched:
        full_disk(patched, above_bytes=10_000)
        with pytest.raises(InputError, match="no space left"):
            run.save_model(7, 2, {"weight": torch.ones(10_000)}, info)
    assert not (run.final_folder(7, 2) / "config.json").exists()
    assert left_behind(run.folder) == []
