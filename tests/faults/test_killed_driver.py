"""A driver killed at random moments, and resumed as often: nothing is lost, nothing counted twice."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from facex_tune.runs.history import RUNNING
from facex_tune.runs.store import Run
from facex_tune.search import scheduler as schedulers
from tests.faults.conftest import FULL, only_full
from tests.faults.drivers import STEPS, Place, study, timeless, told_once

KILLS, TRIALS, MOST_S = (50, 90, 1.0) if FULL else (3, 6, 0.4)  # of the bare driver; an epoch takes a third of a second


def kill(place: Place, kills: int, most_s: float) -> Run:
    """Kills drivers of a search at random moments, then lets one finish; no file of ours lies outside the run's folder,
    neither after the kills nor in the end.
    """
    chance, before = random.Random(11), place.strays()
    while place.kills < kills and place.kill_one(chance, most_s):
        pass
    assert place.kills >= kills, f"the search was over after {place.kills} kills: give it more trials"
    assert place.strays() <= before
    run = place.finish()
    assert place.strays() <= before
    return run


def check(place: Place, run: Run) -> None:
    """What must hold however a search was cut up."""
    trials, budget = place.trials(), run.study.budget
    assert told_once(run)
    assert len(trials) == budget.trials, "the budget is kept"
    assert all(trial.state != RUNNING for trial in trials.values())
    for number, trial in trials.items():
        assert sorted(trial.epochs) == list(range(1, trial.last_epoch + 1)), "no completed epoch is lost"
        most = (trial.last_epoch + place.interruptions[number]) * STEPS
        assert trial.last_epoch * STEPS <= place.steps(trial) <= most, "only epochs in flight are trained again"


def rungs_agree(run: Run) -> bool:
    """Whether every trial that a rung stopped is stopped by a scheduler that reads the log afresh, and no other."""
    scheduler = schedulers.build(run.study)
    stopped = set()
    for event in run.events():
        if event["type"] == "epoch":
            value = event["metrics"][run.study.objective[0]]
            if not scheduler.goes_on(event["trial"], event["epoch"], value):
                stopped.add(event["trial"])
    last = run.study.fidelity.max_epochs
    said = {number for number, trial in run.history().trials.items() if trial.reason == "rung"}
    return said == {number for number in stopped if run.history().trials[number].last_epoch < last}


@pytest.mark.slow
def test_a_search_killed_at_random_moments_is_the_search_that_was_not(tiny_data: Path, tmp_path: Path) -> None:
    """One trial at a time, so that every draw, value and rung must be the same."""
    said = study(budget={"trials": TRIALS})
    place = Place(tmp_path / "killed", tiny_data, said, on_ray=False)
    run = kill(place, KILLS, most_s=MOST_S)
    check(place, run)
    assert rungs_agree(run)
    whole = Place(tmp_path / "whole", tiny_data, said, on_ray=False)
    whole.finish()
    assert timeless(place.trials()) == timeless(whole.trials())


def promoting(trials: int, concurrency: int = 1) -> dict[str, Any]:
    """Trials that pause at epochs 1 and 2, and go on from there when they are among the best half."""
    search = {**study()["search"], "scheduler": "asha_promotion", "concurrency": concurrency}
    return study(budget={"trials": trials}, search=search)


def promoted_fairly(run: Run) -> bool:
    """Whether who was promoted was the best of those that waited, and among the best half of all that had come to its
    rung, rounded up where nobody else came any more.
    """
    at: dict[int, dict[int, float]] = {}
    gone: set[tuple[int, int]] = set()
    for event in run.events():
        if event["type"] == "trial_paused":
            trial = run.history().trials[event["trial"]]
            at.setdefault(event["epoch"], {})[event["trial"]] = trial.epochs[event["epoch"]][run.study.objective[0]]
        elif event["type"] in ("trial_promoted", "trial_stopped"):
            key = event["trial"], event["epoch"]
            values = at[event["epoch"]]
            waits = {number: value for number, value in values.items() if (number, event["epoch"]) not in gone}
            better = sum(value > values[event["trial"]] for value in values.values())
            is_best = max(waits.values()) == values[event["trial"]]
            if event["type"] == "trial_promoted" and not (is_best and better < (len(values) + 1) // 2):
                return False
            gone.add(key)
    return True


@pytest.mark.slow
def test_paused_trials_outlive_their_drivers_and_go_on_from_their_checkpoints(tiny_data: Path, tmp_path: Path) -> None:
    """One trial at a time, so that every pause and promotion must be the same."""
    said = promoting(TRIALS)
    place = Place(tmp_path / "killed", tiny_data, said, on_ray=False)
    assert place.kill_one(random.Random(3), MOST_S, begun=lambda: any(each.paused for each in place.trials().values()))
    run = kill(place, KILLS, most_s=MOST_S)
    check(place, run)
    assert place.found_paused, "no kill found a trial waiting at a rung"
    assert promoted_fairly(run)
    assert any(event["type"] == "trial_promoted" and event["epoch"] == 2 for event in run.events())
    whole = Place(tmp_path / "whole", tiny_data, said, on_ray=False)
    whole.finish()
    assert timeless(place.trials()) == timeless(whole.trials())


@only_full
def test_paused_trials_on_ray_outlive_their_drivers(tiny_data: Path, tmp_path: Path) -> None:
    """Two at a time, whose order may differ. Fifty kills are the bare driver's, above: here each waits for a Ray."""
    place = Place(tmp_path / "killed", tiny_data, promoting(120, concurrency=2), on_ray=True)
    run = kill(place, 20, most_s=8.0)
    check(place, run)
    assert place.found_paused
    assert promoted_fairly(run)


@only_full
def test_a_search_on_ray_killed_at_random_moments_loses_nothing(tiny_data: Path, tmp_path: Path) -> None:
    """Two trials at a time, whose order may differ; the rungs must be those of the log."""
    said = study(budget={"trials": 120}, search={**study()["search"], "concurrency": 2})
    place = Place(tmp_path / "killed", tiny_data, said, on_ray=True)
    run = kill(place, KILLS, most_s=8.0)
    check(place, run)
    assert rungs_agree(run)
