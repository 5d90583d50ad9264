"""Real runs in an S3 server on loopback that fails: `make faults`. Some ten minutes, most of it waiting.

Drivers are the command line's, workers are Ray's; both reach the server through a proxy that fails 1 % of all requests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facex_tune.runs.store import Run
from facex_tune.storage import remote_access
from tests import object_store
from tests.object_store import CREDENTIALS, FaultyProxy
from tests.search.conftest import tiny_data
from tests.search.test_resume import DEADLINE_S, DRIVER, STUDY, count, events, outcome, whole

__all__ = ["tiny_data"]  # a fixture
pytestmark = pytest.mark.skipif(
    os.environ.get("FACEX_FAULTS") != "full", reason="takes some ten minutes: make faults; short form: test_s3_store.py"
)
OUTAGE_S = 60.0


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with object_store.server() as number:
        object_store.make_bucket(number, "bucket")
        yield number


@pytest.fixture
def proxy(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with FaultyProxy(port, seed=11) as running:
        running.rate = 0.01
        yield running


@pytest.fixture(scope="module")
def expected(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> object:
    """What an uninterrupted run on a disk says."""
    return outcome(whole(tmp_path_factory.mktemp("whole"), tiny_data))


def start(url: str, folder: Path, data: Path, **environment: str) -> subprocess.Popen[str]:
    study = folder / "tiny.yaml"
    study.write_text(STUDY)
    command = [*DRIVER, "run", str(study), "--run", "r", "--storage", url, "--data", str(data)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def wait_for(run: Run, driver: subprocess.Popen[str], when: Callable[[Run], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not when(run):
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.2)


def epochs(run: Run) -> int:
    return count("epoch")(events(run))


def test_one_request_in_a_hundred_fails_and_an_outage_of_a_minute_is_waited_for(
    proxy: FaultyProxy, tiny_data: Path, tmp_path: Path, expected: object
) -> None:
    url = proxy.url("bucket/minute")
    run = Run(url, "r")
    driver = start(url, tmp_path, tiny_data)
    wait_for(run, driver, lambda run: epochs(run) >= 3)
    proxy.is_down = True
    time.sleep(OUTAGE_S)
    proxy.is_down = False
    _, errors = driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == 0, errors
    again = Run(url, "r")
    assert outcome(again) == expected
    told = [(each["type"], each.get("trial"), each.get("epoch")) for each in again.events() if "trial" in each]
    assert len(told) == len(set(told)), "no trial, epoch or end is counted twice"
    assert proxy.requests["refused"] > 1


def test_a_longer_outage_interrupts_the_run_which_resumes_to_the_same_end(
    proxy: FaultyProxy, tiny_data: Path, tmp_path: Path, expected: object
) -> None:
    url = proxy.url("bucket/long")
    run = Run(url, "r")
    driver = start(url, tmp_path, tiny_data)
    wait_for(run, driver, lambda run: epochs(run) >= 3)
    saved = events(run)
    proxy.is_down = True
    _, errors = driver.communicate(timeout=remote_access.PATIENCE_S + 120)
    assert driver.returncode == 75, errors
    last = errors.strip().splitlines()[-1]
    assert "no answer for" in last
    assert "continue with `facex-tune resume r --storage " in last
    proxy.is_down = False
    driver = start(url, tmp_path, tiny_data)
    _, errors = driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == 0, errors
    assert events(Run(url, "r"))[: len(saved)] == saved
    assert outcome(Run(url, "r")) == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_driver_ended_during_an_outage_leaves_a_run_that_resumes(
    proxy: FaultyProxy, tiny_data: Path, tmp_path: Path, expected: object, number: signal.Signals
) -> None:
    url = proxy.url(f"bucket/{number.name}")
    run = Run(url, "r")
    driver = start(url, tmp_path, tiny_data)
    wait_for(run, driver, lambda run: epochs(run) >= 2)
    proxy.is_silent = True
    time.sleep(5)
    began = time.monotonic()
    driver.send_signal(number)
    _, errors = driver.communicate(timeout=DEADLINE_S)
    if number == signal.SIGTERM:
        assert driver.returncode == 75, errors
        assert time.monotonic() - began < 10 + 5, "ten seconds, and five for a busy machine"
    proxy.is_silent = False
    driver = start(url, tmp_path, tiny_data)
    _, errors = driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == 0, errors
    assert outcome(Run(url, "r")) == expected
