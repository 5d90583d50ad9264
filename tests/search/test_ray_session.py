"""A Ray started or joined: what is no address is refused before Ray is asked; what Ray takes away is there again."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from facex_tune.errors import InputError
from facex_tune.runs.store import Run
from facex_tune.search import ray_session
from tests.faults.conftest import only_full
from tests.search.conftest import tiny_study_data


@pytest.mark.parametrize("address", ["mycluster", "10.0.0.5", "http://x:8265", "x:6379y", "x:", "foo://bar:1", " "])
@pytest.mark.parametrize("said_as", ["--address ", "RAY_ADDRESS="])
def test_what_is_no_address_is_told_in_a_line(address: str, said_as: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError) as told, ray_session.connected(address if said_as.startswith("--") else None):
        pass
    assert told.value.problems == [
        f"{said_as}{address}: no address of a Ray cluster; write host:port (6379 by default) or ray://host:port"
    ]


@pytest.mark.parametrize(
    "address", ["auto", "10.0.0.5:6379", "ray-head:6379", "ray://head:10001", "[::1]:6379"]
)
def test_what_ray_takes_is_left_to_it(address: str) -> None:
    assert ray_session._ADDRESS.fullmatch(address)


ENDING = """
import ctypes, os, signal, sys, time
import ray._private.node
from facex_tune.search import ray_session
from facex_tune.pipeline.signals import raising_interrupted
from facex_tune.errors import Interrupted

handler = ctypes.pythonapi.PyOS_getsig
handler.restype = ctypes.c_void_p
ending = ray._private.node.Node.kill_all_processes

def signalled(*arguments, **options):
    "Ray's core has ended, which takes SIGTERM's handler away, and its processes are next."
    until = time.monotonic() + 5
    while handler(signal.SIGTERM) is None and time.monotonic() < until:
        time.sleep(0.001)
    if WHEN == "while":
        os.kill(os.getpid(), signal.SIGTERM)
    return ending(*arguments, **options)

ray._private.node.Node.kill_all_processes = signalled
try:
    with raising_interrupted("r"):
        with ray_session.connected(None):
            pass
        if WHEN == "after":
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
except Interrupted as interrupted:
    print(interrupted, flush=True)
    os._exit(75)
"""


def test_a_signal_waits_until_ray_has_ended_and_a_second_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with ray_session._signals_later():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # the same, sent twice
            assert heard == []
        assert heard == [signal.SIGTERM]
        with ray_session._signals_later():
            signal.raise_signal(signal.SIGTERM)
            monkeypatch.setattr(ray_session, "AGAIN_AFTER_S", -1.0)
            signal.raise_signal(signal.SIGTERM)
            assert heard == [signal.SIGTERM] * 2
        assert heard == [signal.SIGTERM] * 2, "nothing is left of it"
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("when", ["while", "after"])
def test_sigterm_is_heard_while_ray_ends_and_afterwards(when: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"WHEN = {when!r}\n{ENDING}"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 75, (signal.Signals(-done.returncode).name if done.returncode < 0 else "", done.stderr)
    assert done.stdout == "interrupted by SIGTERM: continue with `facex-tune resume r`\n"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_lets_nobody_in_is_told_from_one_that_is_not_there(scheme: str) -> None:
    """Ray gives up on both with the same words, after half a minute; a listener stands for a head with a token here."""
    with socket.create_server(("127.0.0.1", 0)) as there:
        address = f"{scheme}127.0.0.1:{there.getsockname()[1]}"
        assert "RAY_AUTH_TOKEN_PATH" in ray_session._why_not_joined(address)
    assert ray_session._why_not_joined(address) == "no Ray cluster answers there; start one, or leave it out"
    assert "no Ray cluster" in ray_session._why_not_joined("auto")


STOPPED = """
import os, signal, sys
import ray._private.services as services
from facex_tune.cli import main

starts = services.start_raylet

def started_and_stopped(*arguments, **options):
    process = starts(*arguments, **options)
    os.kill(process.process.pid, signal.SIGSTOP)  # as one that gets no turn on a busy machine
    return process

services.start_raylet = started_and_stopped
sys.exit(main())
"""


@only_full
@pytest.mark.slow
def test_a_ray_that_gets_no_turn_interrupts_the_run_which_then_goes_on(tiny_data: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(json.dumps(tiny_study_data(budget={"trials": 1})))
    where = ["--storage", str(tmp_path / "runs"), "--data", str(tiny_data)]
    stopped = subprocess.run(
        [sys.executable, "-c", STOPPED, "search", str(study), "--run", "r", *where], capture_output=True, text=True
    )
    assert stopped.returncode == 75, stopped.stderr
    said = stopped.stderr.splitlines()[-1]
    assert said.startswith("interrupted by a Ray that did not start in its time (load ")
    assert "continue with `facex-tune resume r " in said
    kinds = [event["type"] for event in Run.open(tmp_path / "runs", "r").events()]
    assert kinds[-1] == "run_interrupted"
    again = [sys.executable, "-m", "facex_tune", "resume", "r", *where]
    resumed = subprocess.run(again, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
