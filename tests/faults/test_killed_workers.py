"""Workers killed while a search goes on: every trial reaches its end, from its last epoch, and little time is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from facex_tune.runs.history import FAILED, FINISHED
from tests.faults.conftest import only_full
from tests.faults.drivers import LIFE_S, STEPS, Place, children, study, told_once

EVERY_S, CHANCE = 10.0, 0.03
NO_WORKERS = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")  # a Ray ends with its agents


def workers(driver: int) -> list[int]:
    """Processes of the driver's own Ray that train."""
    titles = children(driver)
    return [pid for pid, title in titles.items() if title.startswith("ray::") and not title.startswith(NO_WORKERS)]


def search(place: Place, chance: random.Random | None, probability: float = CHANCE) -> tuple[float, int]:
    """A whole search; its wall-clock seconds, and how many of its workers were killed."""
    start, killed, driver = time.monotonic(), 0, place.start()
    while chance is not None and time.monotonic() - start < LIFE_S:
        try:
            driver.wait(EVERY_S)
            break
        except subprocess.TimeoutExpired:
            for pid in workers(driver.pid):
                if chance.random() < probability:
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
    _, errors = driver.communicate(timeout=LIFE_S)
    assert driver.returncode == 0, errors
    return time.monotonic() - start, killed


def long_study(trials: int, step_ms: int) -> dict[str, object]:
    said = study(
        budget={"trials": trials},
        fidelity={"min_epochs": 1, "max_epochs": 6, "reduction": 2},
        search={**study()["search"], "scheduler": "none", "concurrency": 2},
    )
    said["space"]["model"][0]["faulty_net"]["step_ms"] = step_ms
    return said


@only_full
def test_workers_lost_now_and_then_cost_little(tiny_data: Path, tmp_path: Path) -> None:
    """Three in a hundred every ten seconds, an epoch takes two seconds; these draws lose more than one expects. What
    that costs in seconds is measured by tests/benchmarks/lost_workers.py."""
    place = Place(tmp_path / "killed", tiny_data, long_study(trials=24, step_ms=250), on_ray=True)
    _, killed = search(place, random.Random(5))
    assert killed >= 2, "the draws are such, with two workers over some 150 seconds"
    assert told_once(place.run)
    lost = [event["trial"] for event in place.run.events() if event["type"] == "trial_recovered"]
    assert len(lost) <= killed, "a worker that waited for work costs nothing"
    for number, trial in place.trials().items():
        assert (trial.state, trial.last_epoch) == (FINISHED, 6), trial.detail
        assert place.steps(trial) <= (6 + lost.count(number)) * STEPS, "at most the epoch in flight is trained again"


@only_full
def test_a_trial_goes_on_from_its_last_epoch_in_another_worker(tiny_data: Path, tmp_path: Path) -> None:
    """Three times, every worker is lost at once, in the middle of an epoch."""
    place = Place(tmp_path / "killed", tiny_data, long_study(trials=4, step_ms=250), on_ray=True)
    driver, killed = place.start(), 0
    for epochs in (2, 8, 14):
        while driver.poll() is None and sum(trial.last_epoch for trial in place.trials().values()) < epochs:
            time.sleep(0.1)
        time.sleep(1.0)
        found = workers(driver.pid)
        killed += len(found)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
    _, errors = driver.communicate(timeout=LIFE_S)
    assert driver.returncode == 0, errors
    assert killed >= 3
    lost = [event for event in place.run.events() if event["type"] == "trial_recovered"]
    assert {event["reason"] for event in lost} == {"worker_lost"}
    assert told_once(place.run)
    for number, trial in place.trials().items():
        assert (trial.state, trial.last_epoch) == (FINISHED, 6), trial.detail
        times = sum(event["trial"] == number for event in lost)
        assert place.steps(trial) <= (6 + times) * STEPS, "at most the epoch in flight is trained again"


@only_full
def test_a_trial_that_loses_every_worker_fails_and_the_others_go_on(tiny_data: Path, tmp_path: Path) -> None:
    said = long_study(trials=3, step_ms=0)
    said["search"]["start_with"] = [{"model.faulty_net.fault": "dies"}]  # type: ignore[index]
    said["space"]["model"][0]["faulty_net"]["fault"] = ["none", "dies"]  # type: ignore[index]
    place = Place(tmp_path / "dies", tiny_data, said, on_ray=True)
    place.finish()
    trials = place.trials()
    assert (trials[0].state, trials[0].reason) == (FAILED, "error")
    assert trials[0].detail.startswith("its worker was lost 6 times in epoch 1")
    others = [trial for trial in trials.values() if trial.config["model.faulty_net.fault"] == "none"]
    assert others
    assert all(trial.state == FINISHED for trial in others)
