"""The command line on Ray, signalled while the machine is busy: it ends in time, by the book, and can be resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from facex_tune.pipeline.signals import DOUBLED_S
from facex_tune.runs import lease
from facex_tune.runs.history import RUNNING
from tests.faults.conftest import FULL, only_full
from tests.faults.drivers import LIFE_S, Place, study, told_once


@contextmanager
def busy_machine() -> Iterator[None]:
    """Twice as many processes that compute as there are processors."""
    spin = [sys.executable, "-c", "while True: pass"]
    spinning = [subprocess.Popen(spin) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for each in spinning:
            each.kill()
            each.wait()


@only_full
def test_a_signal_ends_it_within_ten_seconds_at_any_moment(tiny_data: Path, tmp_path: Path) -> None:
    """In Ray's start, when the search begins, and in the middle of it."""
    said = study(budget={"trials": 12}, search={**study()["search"], "scheduler": "none", "concurrency": 2})
    said["space"]["model"][0]["faulty_net"]["step_ms"] = 100
    place = Place(tmp_path / "run", tiny_data, said, on_ray=True)
    moments = [
        (signal.SIGTERM, lambda: place.written() > 0, 0.5),
        (signal.SIGINT, lambda: "search" in place.run.history().stages, 0.0),
        (signal.SIGTERM, lambda: any(trial.epochs for trial in place.trials().values()), 0.3),
        (signal.SIGINT, lambda: sum(trial.last_epoch for trial in place.trials().values()) > 4, 0.3),
    ]
    took = []
    for number, reached, then_s in moments:
        before = place.written()
        driver = place.start()
        while driver.poll() is None and not (place.written() > before and reached()):
            time.sleep(0.02)
        time.sleep(then_s)
        with busy_machine():
            begun = time.monotonic()
            driver.send_signal(number)
            driver.wait(60)
            took.append(time.monotonic() - begun)
        _, errors = driver.communicate(timeout=60)
        assert driver.returncode == 75, errors
        assert "continue with `facex-tune resume r --parts " in errors.strip().splitlines()[-1]
        assert list(place.run.events())[-1]["type"] == "run_interrupted"
    print(f"ended after {', '.join(f'{seconds:.1f} s' for seconds in took)}")
    assert max(took) <= 10
    place.finish()
    assert told_once(place.run)
    assert all(trial.state != RUNNING for trial in place.trials().values())


@only_full
def test_a_second_signal_ends_it_at_once(tiny_data: Path, tmp_path: Path) -> None:
    place = Place(tmp_path / "run", tiny_data, study(), on_ray=True)
    driver = place.start()
    while driver.poll() is None and not (place.run.exists() and place.trials()):
        time.sleep(0.02)
    driver.send_signal(signal.SIGTERM)
    time.sleep(DOUBLED_S + 0.1)  # sooner it would be the same signal, twice
    begun = time.monotonic()
    driver.send_signal(signal.SIGTERM)
    driver.communicate(timeout=60)
    assert driver.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert time.monotonic() - begun < 3


STAGES = ("search", "retrain", "evaluate", "report", "factors")


@pytest.mark.parametrize("stages", [STAGES if FULL else ("evaluate",)], ids=", ".join)
def test_a_signal_is_heard_in_every_stage_of_a_whole_run(
    stages: tuple[str, ...], tiny_data: Path, tmp_path: Path
) -> None:
    """Those that train nothing included, which the process comes to after it has ended its Ray."""
    said = study(budget={"trials": 2}, evaluate={"protocols": ["synthetic.private", "synthetic.lab.6"]})
    place = Place(tmp_path / "run", tiny_data, said, on_ray=True)
    for stage in stages:
        if stage == "factors":
            driver = place.start(command="run")
            _, errors = driver.communicate(timeout=LIFE_S)
            assert driver.returncode == 0, errors
            driver = place.start_cli("factors", "r", "--seeds", "1", "--epochs", "1")
        else:
            driver = place.start(command="run")
        while driver.poll() is None and not is_in(stage, place):
            time.sleep(0.01)
        begun = time.monotonic()
        driver.send_signal(signal.SIGTERM)
        _, errors = driver.communicate(timeout=60)
        assert driver.returncode == 75, (stage, errors)
        assert time.monotonic() - begun <= 10
        assert "interrupted by SIGTERM: continue with `facex-tune resume r " in errors.strip().splitlines()[-1]
        assert [event["type"] for event in place.run.events()][-1] == "run_interrupted"
        assert place.run.history().stages.get(stage) != "finished"
        assert lease.holder(place.run.folder) is None


def is_in(stage: str, place: Place) -> bool:
    return place.run.exists() and place.run.history().stages.get(stage) == "started"
