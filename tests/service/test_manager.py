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
from facex_tune.service.manager import CONSOLE, Manager
from tests.search.conftest import tiny_study

from .conftest import serving, write_run

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
