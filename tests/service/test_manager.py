"""The queue of runs, with real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facex_tune.errors import InputError
from facex_tune.pipeline.options import Options
from facex_tune.runs.store import Run
from facex_tune.service import manager as managing
from facex_tune.service.console import FILE as CONSOLE
from facex_tune.service.manager import Manager
from facex_tune.service.queue import FILE
from facex_tune.storage.files import DamagedRun
from tests.search.conftest import tiny_study

from .conftest import STUDY, serving, write_run

DEADLINE_S = 120


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def manager(options: Options) -> Iterator[Manager]:
    manager = Manager(options)
    yield manager
    manager.close()


def begun(options: Options, name: str) -> Path:
    folder = write_run(options.storage, name, tiny_study()).folder
    assert isinstance(folder, Path)
    return folder


def spoiled(folder: Path) -> Path:
    """A run whose console nobody can open, so that its process cannot be started."""
    (folder / CONSOLE).mkdir()
    return folder


def test_a_run_that_cannot_be_started_keeps_no_other_waiting(options: Options, manager: Manager) -> None:
    gone, broken, after = begun(options, "gone"), begun(options, "broken"), begun(options, "after")
    begun(options, "first")
    for name in ("first", "gone", "broken", "after"):
        manager.resume(name)
    assert [manager.place(name) for name in ("first", "gone", "broken", "after")] == ["going", *["waiting"] * 3]
    shutil.rmtree(gone)
    spoiled(broken)
    manager.stop("first")
    until((after / CONSOLE).is_file)
    assert manager.place("broken") == "idle"
    assert "run 'broken' could not be started" in manager.not_started("broken")
    assert manager.not_started("after") == ""


def test_who_asks_for_one_run_is_not_told_of_another(options: Options, manager: Manager) -> None:
    spoiled(begun(options, "broken"))
    after = begun(options, "after")
    manager._waiting.append("broken")  # as while the process before it has just ended
    manager.resume("after")
    assert (after / CONSOLE).is_file()


def test_who_asks_for_a_run_that_cannot_be_started_is_told_why(options: Options) -> None:
    folder = spoiled(begun(options, "broken"))
    with serving(options) as client:
        status, body = client.ask("/api/runs/broken/resume", method="POST")
        assert (status, b"run 'broken' could not be started" in body, b"Is a directory" in body) == (409, True, True)
        assert client.json("/api/runs/broken")["place"] == "idle"
        assert b"error: run 'broken' could not be started" in client.ask("/api/runs/broken/console")[1]
        (folder / CONSOLE).rmdir()
        client.json("/api/runs/broken/resume", method="POST")
        assert b"could not be started" not in client.ask("/api/runs/broken/console")[1]


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_run_resumed_while_it_is_being_stopped_goes_on_after_its_end(manager: Manager, at_once: int) -> None:
    manager.at_once = at_once
    run = manager.submit(tiny_study(), "r")
    until(lambda: run.holder() is not None)
    before = manager._going["r"]
    os.kill(before.pid, signal.SIGSTOP)  # it is still saving, for as long as we look
    manager.stop("r")
    assert manager.place("r") == "going"
    manager.resume("r")
    assert manager.place("r") == "waiting"
    manager.submit(tiny_study(), "r")  # it waits already
    os.kill(before.pid, signal.SIGCONT)
    until(lambda: manager.place("r") == "going")
    assert before.poll() is not None
    assert manager._going["r"] is not before


TELLS_EACH_SIGNAL = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: print("told to end", flush=True))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_second_stop_leaves_a_run_time_to_save(options: Options, manager: Manager) -> None:
    begun(options, "r")
    words = [sys.executable, "-c", TELLS_EACH_SIGNAL]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        manager._going["r"] = process
        assert process.stdout.readline() == b"ready\n"
        manager.stop("r")
        assert process.stdout.readline() == b"told to end\n"
        manager.stop("r")
        assert process.communicate()[0] == b""
    with pytest.raises(InputError, match="is not going"):
        manager.stop("r")


def test_without_room_nothing_is_begun(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managing, "MOST_WAITING", 1)
    for name in ("going", "waiting"):
        begun(options, name)
    with serving(options) as client:
        for name in ("going", "waiting"):
            client.json(f"/api/runs/{name}/resume", method="POST")
        status, body = client.ask("/api/runs", method="POST", body={"run": "r", "study": STUDY})
        assert (status, b"1 runs are waiting already" in body) == (503, True)
        client.json("/api/runs/waiting/resume", method="POST")  # has its place already
    assert sorted(Run.names(options.storage)) == ["going", "waiting"]
    assert not (options.storage / "r").exists()


def test_the_queue_lasts_over_a_restart(options: Options) -> None:
    for name in ("a", "b", "stopped", "c"):
        begun(options, name)
    with serving(options) as client:
        for name in ("a", "b", "stopped", "c"):
            client.json(f"/api/runs/{name}/resume", method="POST")
        client.json("/api/runs/stopped/stop", method="POST")
        until(lambda: Run.open(options.storage, "a").holder() is not None)
    assert Run.open(options.storage, "a").holder() is None
    shutil.rmtree(options.storage / "b")  # between the two services
    with serving(options) as client:
        places = {run["run"]: run["place"] for run in client.json("/api/runs")["runs"]}
    assert places == {"a": "going", "stopped": "idle", "c": "waiting"}


def test_a_run_that_outlived_the_service_is_waited_for(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managing, "HELD_ASKED_EVERY_S", 0.1)
    begun(options, "a")
    (options.storage / FILE).write_text('{"version": 1, "runs": ["a"]}')
    manager = Manager(options)
    with Run.open(options.storage, "a").log():
        manager.recover()
        assert manager.place("a") == "elsewhere"
    until(lambda: manager.place("a") == "going")
    assert '"a"' in (options.storage / FILE).read_text()
    manager.close()


def test_a_queue_that_is_none_is_not_written_over(options: Options) -> None:
    options.storage.mkdir(parents=True)
    (options.storage / FILE).write_text("[]")
    with pytest.raises(DamagedRun, match="no queue of runs"):
        Manager(options).recover()
