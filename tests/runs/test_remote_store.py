"""A run folder behind a URL: the same log, lease and files, on stores that cannot append."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from fsspec.implementations.local import LocalFileSystem

from facex_tune import study
from facex_tune.errors import InputError
from facex_tune.runs import lease, segments, store
from facex_tune.runs.events import EpochDone, RunInterrupted, RunResumed, RunStarted
from facex_tune.runs.lease import LeaseLost
from facex_tune.runs.store import Run, RunTaken
from facex_tune.storage import files, remote_path
from facex_tune.storage.files import DamagedRun
from facex_tune.storage.remote_path import RemotePath
from tests.records import epoch as epoch_of

STUDY = study.parse({"version": 1, "name": "small", "data": "synthetic"})


class Shelf(LocalFileSystem):
    """Stands for file systems behind a URL that have folders, and on which a write grows before everybody's eyes."""

    protocol = "shelf"

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return str(super()._strip_protocol(str(path).removeprefix("shelf://")))


fsspec.register_implementation("shelf", Shelf, clobber=True)


@pytest.fixture(params=["memory", "shelf"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RemotePath]:
    if request.param == "shelf":
        (tmp_path / "runs").mkdir()
        yield remote_path.of(f"shelf://{tmp_path}/runs")
        return
    root = f"memory://{secrets.token_hex(8)}"
    yield remote_path.of(f"{root}/runs")
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def run(storage: RemotePath) -> Run:
    return new_run(storage)


def new_run(storage: RemotePath, name: str = "small-1") -> Run:
    return Run.create(storage, name, STUDY, data={"synthetic": {"n": 3}}, environment={})


def written(run: Run, n: int = 3) -> list[dict[str, Any]]:
    with run.log() as log:
        return [log.append(EpochDone(trial=0, epoch=i, metrics={"macro_f1": 0.1 * i}, seconds=1.5)) for i in range(n)]


def fresh(run: Run) -> Run:
    """The same run, seen by somebody who remembers nothing of it."""
    return Run(run.storage, run.name)


def test_a_name_that_is_taken_is_refused_and_its_header_stays(run: Run) -> None:
    before = (run.folder / "run.json").read_bytes()
    with pytest.raises(RunTaken, match="was begun by another process"):
        new_run(run.storage)
    assert (run.folder / "run.json").read_bytes() == before


def test_headers_of_one_moment_are_told_apart(storage: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store takes the same content a second time for a write whose answer was lost."""
    monkeypatch.setattr(store, "now_utc", lambda: "2026-01-01T00:00:00.000+00:00")
    new_run(storage)
    with pytest.raises(RunTaken):
        new_run(storage)


def objects(run: Run) -> list[str]:
    return [path.name for path in (run.folder / "events").iterdir()]


# The log


def test_events_are_replayed_as_written_over_any_number_of_writers(run: Run) -> None:
    first, second = written(run), written(fresh(run), 2)
    for reader in (run, fresh(run)):
        assert list(reader.events()) == first + second
    assert [event["seq"] for event in run.events()] == [1, 2, 3, 4, 5]
    assert not (run.folder / "lease.json").exists()


def test_the_header_and_the_runs_of_a_storage(storage: RemotePath) -> None:
    assert Run.names(storage) == []
    new_run(storage, "a")
    new_run(storage, "b")
    (storage / "stray" / "x.txt").write_text("no run")
    assert set(Run.names(storage)) == {"a", "b"}
    opened = Run.open(storage, "b")
    assert opened.study == STUDY
    assert opened.header["data"] == {"synthetic": {"n": 3}}
    with pytest.raises(InputError, match=r"no run named 'bb' in (memory|shelf)://.*did you mean b"):
        Run.open(storage, "bb")


def test_records_are_packed_and_nothing_changes_for_readers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "PACKED", 8)
    monkeypatch.setattr(segments, "WORTH_PACKING", 3)
    old_reader = fresh(run)
    told = written(run, 20)
    assert list(old_reader.events()) == told
    told += written(fresh(run), 5)
    told += written(fresh(run), 17)
    for reader in (run, old_reader, fresh(run)):
        assert list(reader.events()) == told
    names = objects(run)
    assert len(names) < 15, "42 events and three writers"
    claims = [name for name in names if b'"lease_taken"' in (run.folder / "events" / name).read_bytes()]
    assert {"000000001.jsonl", "000000022.jsonl", "000000028.jsonl"} <= set(claims), "each writer's fence stays"


def test_a_pack_beside_its_records_counts_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a writer that was killed between the two steps of packing."""
    monkeypatch.setattr(segments, "PACKED", 4)
    monkeypatch.setattr(remote_path, "remove_many", lambda paths: None)
    told = written(run, 9)
    assert "000000002-000000005.jsonl" in objects(run)
    assert "000000003.jsonl" in objects(run)
    assert list(fresh(run).events()) == told


def test_a_record_that_is_missing_stops_with_its_name(run: Run) -> None:
    written(run, 5)
    (run.folder / "events" / "000000003.jsonl").unlink()
    with pytest.raises(DamagedRun, match=r"record 000000003\.jsonl is missing"):
        list(fresh(run).events())


@pytest.mark.parametrize("content", [b"{}\n", b'{"v": 1\n', b"\xff\n"])
def test_a_malformed_record_stops_with_its_name_and_leaves_no_lock(run: Run, content: bytes) -> None:
    written(run, 3)
    (run.folder / "events" / "000000003.jsonl").write_bytes(content)
    with pytest.raises(DamagedRun, match=r"000000003\.jsonl: malformed record"):
        list(fresh(run).events())
    with pytest.raises(DamagedRun), fresh(run).log():
        pass
    assert not (run.folder / "lease.json").exists()


def test_a_cut_pack_stops_with_its_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "PACKED", 4)
    written(run, 4)
    pack = run.folder / "events" / "000000002-000000005.jsonl"
    pack.write_bytes(pack.read_bytes()[:-30])
    with pytest.raises(DamagedRun, match="in place of 4"):
        list(fresh(run).events())


def test_an_empty_log_beside_checkpoints_is_no_new_run(run: Run) -> None:
    files.save_tensors(run.trial_checkpoint(0), {"weight": torch.ones(3)}, {"epoch": 1})
    with pytest.raises(DamagedRun, match=r"holds no event, although .*trials holds checkpoints"), run.log():
        pass


@pytest.mark.parametrize("arrives", [True, False])
def test_a_record_whose_writing_was_broken_off_is_settled(
    run: Run, monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    really = RemotePath.create

    def broken_off(path: RemotePath, content: bytes) -> None:
        if arrives:
            really(path, content)
        raise KeyboardInterrupt

    with run.log() as log:
        log.append(epoch_of(0))
        with monkeypatch.context() as patched:
            patched.setattr(RemotePath, "create", broken_off)
            with pytest.raises(KeyboardInterrupt):
                log.append(epoch_of(1))
        log.append(RunInterrupted(signal="SIGTERM"))
    found = [(event["seq"], event["type"], event.get("trial")) for event in fresh(run).events()]
    assert found == [(1, "epoch", 0), (2, "epoch", 1), (3, "run_interrupted", None)]


# One writer


def test_a_second_writer_is_refused_by_name(run: Run) -> None:
    with run.log() as log:
        with pytest.raises(InputError, match=r"run 'small-1' is being written by process \d+ on .*; wait for it"):
            fresh(run).log().__enter__()
        log.append(RunStarted())
    assert [event["seq"] for event in written(fresh(run), 1)] == [2]


def elsewhere(monkeypatch: pytest.MonkeyPatch, stale_s: float) -> None:
    """Every lease seems another machine's, and dead after `stale_s`."""
    monkeypatch.setattr(lease, "_is_of_this_machine", lambda held: False)
    monkeypatch.setattr(lease, "LEASE_STALE_S", stale_s)


def test_a_writer_of_another_machine_is_believed_for_a_minute(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with run.log() as log:
        log.append(RunStarted())
        elsewhere(monkeypatch, 60.0)
        with pytest.raises(InputError, match=r"its last sign of life is \d+ s old; after 60 s"), fresh(run).log():
            pass
    assert [path.name for path in run.folder.iterdir() if path.name.startswith(".")] == []


def test_a_frozen_writer_that_awakes_learns_that_it_was_replaced(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with run.log() as frozen:
        told = [frozen.append(RunStarted())]
        elsewhere(monkeypatch, -1.0)
        with fresh(run).log() as successor:
            assert successor.fence > frozen.fence
            assert fresh(run).newest_fence() == successor.fence
            told.append(successor.append(RunResumed()))
            with pytest.raises(LeaseLost):
                frozen.append(epoch_of(0))
            told.append(successor.append(epoch_of(1)))
    assert list(fresh(run).events()) == told


def test_of_two_that_claim_the_same_record_one_writes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    really, rivals = segments.ObjectSegments.__init__, []

    def meanwhile(self: Any, *arguments: Any) -> None:
        if not rivals:
            rivals.append(fresh(run).log())
            rivals[0].__enter__().append(RunStarted())
        really(self, *arguments)

    elsewhere(monkeypatch, -1.0)
    monkeypatch.setattr(segments.ObjectSegments, "__init__", meanwhile)
    with pytest.raises(InputError, match="taken by another process at this moment"):
        fresh(run).log().__enter__()
    rivals[0].__exit__(None, None, None)
    assert [event["type"] for event in fresh(run).events()] == ["run_started"]


# Files


def test_a_checkpoint_comes_back_bit_for_bit(run: Run) -> None:
    tensors = {"half": torch.randn(5).to(torch.bfloat16), "steps": torch.tensor(3), "empty": torch.zeros(0, 3)}
    values = {"epoch": 3, "nested": {"a": [1, None, "ß"]}}
    path = run.trial_checkpoint(7)
    files.save_tensors(path, tensors, values)
    found, told = files.load_tensors(files.place(str(path)))
    assert told == values
    assert {name: tensor.dtype for name, tensor in found.items()} == {n: tensor.dtype for n, tensor in tensors.items()}
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    run.remove_checkpoints([7, 8])
    run.remove_checkpoints([7])
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        files.load_tensors(path)


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


def test_a_model_is_found_again(run: Run) -> None:
    info = {"trial": 7, "seed": 1, "config": {"train.lr": 0.1}}
    run.save_model(7, 1, {"weight": torch.ones(3)}, info)
    tensors, again = fresh(run).load_model_files(7, 1)
    assert torch.equal(tensors["weight"], torch.ones(3))
    assert again == info


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = remote_path.of(f"shelf://{tmp_path}/runs") / "x.bin"
    place.write_bytes(b"old")
    with monkeypatch.context() as patched:
        patched.setattr(Shelf, "mv", lambda *_: (_ for _ in ()).throw(PermissionError("no")))
        with pytest.raises(InputError, match="access denied"):
            place.write_bytes(b"new")
    assert [path.name for path in place.parent.iterdir()] == ["x.bin"]


# URLs


def test_a_place_is_what_it_says() -> None:
    assert files.place("runs") == Path.cwd() / "runs"
    assert files.place("file:///tmp/my%20runs") == Path("/tmp/my runs")
    place = files.place("s3://bucket/runs/?endpoint_override=127.0.0.1:9000&scheme=http")
    assert isinstance(place, RemotePath)
    below = place / "demo" / "run.json"
    assert files.place(str(below)) == below, "a worker is given no more than the text"
    assert (below.name, below.stem, below.parent) == ("run.json", "run", place / "demo")
    assert str(below.relative_to(place)) == "demo/run.json"
    with pytest.raises(ValueError, match="is not below"):
        place.relative_to(below)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://", r"no URL of a folder; write it as s3://bucket/prefix"),
        ("s3://bucket/*", "no URL of a folder"),
        ("s3:/bucket/runs", "a URL has two slashes: s3://bucket/runs"),
        ("s3://key:secret@bucket/runs", "must hold no password"),
        ("s3://bucket/runs?acces_key=x", r"no option 'acces_key' in a URL; choices: endpoint_override, scheme, region"),
        ("memory://runs?region=x", "memory:// takes none"),
    ],
)
def test_a_url_that_cannot_hold_runs_is_one_line(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as told:
        files.place(url)
    assert "\n" not in str(told.value)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [("nosuch://a/b", "no file system 'nosuch'; choices: a folder, s3://"), ("oss://a/b", "is not installed")],
)
def test_a_file_system_that_is_not_there_is_one_line(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as told:
        Run.names(remote_path.of(url))
    assert "\n" not in str(told.value)
