"""Trials that pause at a rung and go on when they are among the best: by hand, and as whole searches."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facex_tune.errors import InputError
from facex_tune.runs.history import FINISHED, RUNNING, STOPPED
from facex_tune.runs.store import Run
from facex_tune.search.referee import Referee
from facex_tune.search.scheduler import Promotion, best_of, standing
from tests.search.conftest import tiny_study
from tests.search.test_referee import Clock, Killed, new_run, play, report, trials_of
from tests.search.test_turns import scrambled


def promoting(**changes: Any) -> Any:
    return tiny_study(
        **{
            "budget": {"trials": 12},
            "fidelity": {"min_epochs": 1, "max_epochs": 9, "reduction": 3},
            "search": {"seed": 3, "scheduler": "asha_promotion", "concurrency": 1},
            **changes,
        }
    )


def test_the_best_third_goes_on_however_late_the_others_come() -> None:
    rungs = Promotion(1, 9, 3, True)
    assert [rungs.goes_on(trial, 1, value) for trial, value in enumerate((0.3, 0.1))] == [False, False]
    assert rungs.promotable() is None, "a third of two is none"
    assert not rungs.goes_on(2, 1, 0.2)
    assert rungs.promotable() == (0, 1), "which came first, and is the best of three"
    rungs.leave(0, 1)
    assert rungs.goes_on(0, 1, 0.3), "asked again"
    assert rungs.promotable() is None
    for trial, value in ((3, 0.25), (4, 0.05), (5, 0.04)):
        rungs.goes_on(trial, 1, value)
    assert rungs.promotable() == (3, 1)


def test_what_no_trial_will_come_to_any_more_is_rounded_up_from_the_lowest_rung() -> None:
    rungs = Promotion(1, 9, 3, True)
    for trial, value in enumerate((0.3, 0.1, 0.2, 0.25)):
        rungs.goes_on(trial, 1, value)
    rungs.leave(0, 1)
    rungs.goes_on(0, 3, 0.5)
    assert rungs.promotable() is None
    assert rungs.left_over(0) is None, "a trial that has not come to the first rung is on its way"
    assert rungs.left_over(1) == rungs.left_over(np.inf) == (3, 1), "two thirds begun of four"
    rungs.leave(3, 1)
    assert rungs.left_over(1) is None, "the third rung waits for it"
    rungs.goes_on(3, 3, 0.4)
    assert rungs.left_over(np.inf) == (0, 3)


def test_who_would_not_be_among_the_best_of_all_trials_waits_for_nothing() -> None:
    rungs = Promotion(1, 9, 3, False)
    for trial, value in enumerate((0.3, 0.1, 0.2, 0.25)):
        rungs.goes_on(trial, 1, value)
    assert rungs.hopeless(9) == [0]
    assert rungs.hopeless(12) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_held_nowhere(value: float) -> None:
    rungs = Promotion(1, 9, 3, True)
    assert not rungs.goes_on(0, 1, value)
    assert not rungs.holds(0, 1)


def test_of_several_objectives_the_front_goes_on_from_its_ends() -> None:
    points = [(0.6, 6.0), (0.5, 5.0), (0.1, 1.0), (0.05, 2.0), (0.59, 7.0)]
    standings = [standing(0.0, value, (cost,)) for value, cost in points]
    assert best_of(standings, 3) == [0, 2, 1]
    assert set(best_of(standings, 5)) == {0, 1, 2, 3, 4}


# Whole searches


def told(run: Run) -> Counter[tuple[Any, ...]]:
    return Counter((event["type"], event.get("trial"), event.get("epoch")) for event in run.events())


@pytest.mark.parametrize("workers", [1, 3])
def test_every_trial_ends_none_is_trained_twice_and_as_many_finish_as_rungs_let(tmp_path: Path, workers: int) -> None:
    run = new_run(tmp_path, promoting(search={"seed": 3, "scheduler": "asha_promotion", "sampler": "random"}))
    with run.log() as log:
        scrambled(run, log, 0, workers)
    trials = list(trials_of(run).values())
    assert len(trials) == 12
    assert not [trial for trial in trials if trial.state == RUNNING or trial.paused]
    assert max(told(run).values()) == 1
    at = Counter(epoch for trial in trials for epoch in trial.epochs)
    assert at[1] == 12
    assert at[2] >= 4, "a third of twelve"
    assert 1 <= sum(trial.state == FINISHED for trial in trials) <= at[4] <= at[2]
    assert {trial.reason for trial in trials if trial.state == STOPPED} == {"rung"}


def test_cut_off_after_any_event_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = new_run(tmp_path / "whole", promoting())
    with whole.log() as log:
        play(whole, log)
    assert {"trial_paused", "trial_promoted"} <= {event["type"] for event in whole.events()}
    lines = (whole.folder / "events" / "000001.jsonl").read_text().splitlines(keepends=True)
    for cut in range(1, len(lines), 3):
        resumed = Run(tmp_path / f"cut{cut}", "r")
        shutil.copytree(whole.folder, resumed.folder)
        (resumed.folder / "events" / "000001.jsonl").write_text("".join(lines[:cut]))
        with resumed.log() as log:
            play(resumed, log)
        assert trials_of(resumed) == trials_of(whole), f"cut after event {cut}: {lines[cut - 1]}"
        assert max(told(resumed).values()) == 1, "something is told twice"


def test_fifty_kills_train_nothing_twice_and_lose_nothing(tmp_path: Path) -> None:
    search = {"scheduler": "asha_promotion", "sampler": "random"}
    run = new_run(tmp_path, promoting(budget={"trials": 40}, search=search))
    kills = 0
    while True:
        with run.log() as log:
            try:
                scrambled(run, log, kills, 3, reports=2)
                break
            except Killed:
                kills += 1
    assert kills >= 50
    assert max(told(run).values()) == 1
    trials = trials_of(run).values()
    assert len(trials) == 40
    assert all(list(trial.epochs) == list(range(1, trial.last_epoch + 1)) for trial in trials)
    assert not [trial for trial in trials if trial.state == RUNNING or trial.paused]
    assert any(trial.state == FINISHED for trial in trials)


def test_a_promoted_trial_goes_on_from_its_checkpoint_and_a_paused_one_keeps_its_own(tmp_path: Path) -> None:
    run = new_run(tmp_path, promoting(budget={"time": 1000}))
    with run.log() as log:
        referee = Referee(run, log, Clock())
        for _ in range(3):
            trial = referee.next_trial()
            assert trial is not None
            run.trial_checkpoint(trial.number).parent.mkdir(parents=True)
            run.trial_checkpoint(trial.number).write_bytes(b"")
            assert not referee.take(trial.number, report(trial, 1))
        assert not referee.live, "no worker is held"
        assert all(trial.paused and trial.state == RUNNING for trial in referee.trials.values())
        best = max(referee.trials.values(), key=lambda trial: trial.metrics["macro_f1"])
        assert referee.next_trial() is best
        assert referee.job(best).epochs_done == 1
        assert referee.take(best.number, report(best, 1)), "a worker reports its checkpoint's epoch again"
        assert all(run.trial_checkpoint(number).exists() for number in range(3))
    assert max(told(run).values()) == 1


def test_the_end_of_the_time_leaves_paused_trials_at_their_rung(tmp_path: Path) -> None:
    run = new_run(tmp_path, promoting(budget={"time": 12}))
    with run.log() as log:
        play(run, log, Clock())
    reasons = Counter(trial.reason for trial in trials_of(run).values() if trial.state == STOPPED)
    assert reasons["rung"] >= 3
    assert reasons["budget: time"] <= 1
    assert not [trial for trial in trials_of(run).values() if trial.state == RUNNING]


def test_a_fixed_order_is_refused_with_it() -> None:
    with pytest.raises(InputError, match=r"search\.order: fixed does not go with scheduler: asha_promotion"):
        promoting(search={"scheduler": "asha_promotion", "order": "fixed", "concurrency": 2})
