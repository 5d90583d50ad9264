"""Ray's own processes killed under a run: it ends by the book within a minute, all saved, or it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from facex_tune.runs import lease
from tests.faults.conftest import FULL
from tests.faults.drivers import LIFE_S, Place, children, study, told_once

NEEDED = {
    "gcs_server": "/gcs_server ",
    "raylet": "/raylet/raylet ",
    "dashboard agent": "ray::DashboardAgent",
    "runtime environment agent": "ray::RuntimeEnvAgent",
}
HELPERS = {"log monitor": "/log_monitor.py", "monitor": "/_private/monitor.py", "dashboard": "/dashboard/dashboard.py"}
STAGES = ("search", "retrain", "factors")
ALL = [(stage, process) for stage in STAGES for process in NEEDED]
SHORT = [("search", "dashboard agent")]  # the one after which Ray leaves the least time


def place_of(stage: str, data: Path, folder: Path) -> Place:
    """A run whose stages before `stage` are done."""
    said = study(budget={"trials": 3}, retrain={"top": 1, "seeds": 1, "epochs": 8})
    place = Place(folder / "run", data, said, on_ray=True)
    for before in STAGES[: STAGES.index(stage)]:
        finish(begin(before, place))
    return place


def begin(stage: str, place: Place, *words: str) -> subprocess.Popen[str]:
    if stage == "search":
        return place.start()
    return place.start_cli(stage, "r", *(["--seeds", "1", "--epochs", "4", *words] if stage == "factors" else []))


def finish(driver: subprocess.Popen[str]) -> None:
    _, errors = driver.communicate(timeout=LIFE_S)
    assert driver.returncode == 0, errors


def kill_one(driver: subprocess.Popen[str], place: Place, mark: str) -> None:
    """Once training has begun."""
    before = place.all_steps()
    while driver.poll() is None and place.all_steps() < before + 12:  # the second epoch
        time.sleep(0.02)
    [pid] = [pid for pid, title in children(driver.pid).items() if mark in title[:300]]
    os.kill(pid, signal.SIGKILL)


def events(place: Place) -> list[dict[str, Any]]:
    return list(place.run.events())


@pytest.mark.parametrize(("stage", "process"), ALL if FULL else SHORT)
def test_a_run_without_ray_ends_by_the_book(stage: str, process: str, tiny_data: Path, tmp_path: Path) -> None:
    place = place_of(stage, tiny_data, tmp_path)
    driver = begin(stage, place)
    kill_one(driver, place, NEEDED[process])
    saved = events(place)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 75, errors
    said = f"interrupted by the end of Ray's {process}: continue with `facex-tune resume r --parts "
    assert errors.strip().splitlines()[-1].startswith(said)
    assert events(place)[: len(saved)] == saved
    assert events(place)[-1]["type"] == "run_interrupted"
    assert lease.holder(place.run.folder) is None
    finish(begin(stage, place, "--time", "5s"))
    assert place.run.history().stages[stage] == "finished"
    assert told_once(place.run)


@pytest.mark.parametrize("stage", STAGES if FULL else STAGES[:1])
def test_a_run_needs_none_of_rays_helpers(stage: str, tiny_data: Path, tmp_path: Path) -> None:
    """They are not started, and the stage comes to its end."""
    place = place_of(stage, tiny_data, tmp_path)
    driver = begin(stage, place, "--time", "20s")
    before = place.all_steps()
    while driver.poll() is None and place.all_steps() < before + 12:
        time.sleep(0.02)
    titles = list(children(driver.pid).values())
    assert any(NEEDED["raylet"] in title for title in titles)
    assert not [title for title in titles for mark in HELPERS.values() if mark in title]
    finish(driver)
    assert place.run.history().stages[stage] == "finished"
