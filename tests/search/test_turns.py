"""Whatever worker is quicker: the same trials, and the same winner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facex_tune.errors import InputError
from facex_tune.runs.history import FINISHED, STOPPED, History, Trial
from facex_tune.runs.store import Log, Run
from facex_tune.search import retrain
from facex_tune.search.referee import Referee
from facex_tune.search.worker_report import Epoch, Failure, Report
from tests.search.conftest import tiny_study
from tests.search.test_referee import Killed, new_run, recalls

LAST = 9


def ordered_study(**search: Any) -> Any:
    return tiny_study(
        budget={"trials": 14},
        fidelity={"min_epochs": 1, "max_epochs": LAST, "reduction": 3},
        search={"seed": 3, "order": "fixed", "concurrency": 3, **search},
    )


def report(trial: Trial, epoch: int) -> Report:
    """The third trial diverges, the fifth collapses; the others cross each other."""
    if trial.number == 2 and epoch == 3:
        return Failure("diverged", "training loss is nan in epoch 3")
    if trial.number == 4:
        return Epoch(epoch, {**recalls(0, 0, 1, 0), "macro_f1": 0.9}, 1.0)
    luck = np.random.default_rng([trial.number, epoch]).normal() * 0.03
    return Epoch(epoch, {"macro_f1": float(trial.config["train.lr"] or 0) * 3 + epoch / 50 + luck}, 1.0)


def scrambled(run: Run, log: Log, seed: int, workers: int = 4, reports: int | None = None) -> Referee:
    """As many workers as there may be, of which any may be the next to report."""
    referee, rng, heard = Referee(run, log), np.random.default_rng(seed), 0
    at: dict[int, int] = {}
    while True:
        while len(at) < workers and (trial := referee.next_trial()) is not None:
            assert trial.number not in at, "two workers train one trial"
            at[trial.number] = max(trial.last_epoch - 1, 0)
        if not at:
            assert not referee.waits, "it waits for nobody"
            return referee
        number = int(rng.choice(list(at)))
        at[number] += 1
        if not referee.take(number, report(referee.trials[number], at[number])):
            del at[number]
        heard += 1
        if heard == reports:
            raise Killed


def outcome(run: Run) -> tuple[Any, ...]:
    history: History = run.history()
    trials = [(trial.config, trial.state, trial.reason, trial.epochs) for _, trial in sorted(history.trials.items())]
    return trials, retrain.choose(history, run.study)[0].number


@pytest.mark.parametrize("scheduler", ["asha", "median"])
@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_whoever_reports_first_the_trials_and_the_winner_are_the_same(
    tmp_path: Path, scheduler: str, sampler: str
) -> None:
    found = []
    for seed, workers in enumerate((1, 2, 3, 5)):
        run = new_run(tmp_path / str(seed), ordered_study(scheduler=scheduler, sampler=sampler))
        with run.log() as log:
            scrambled(run, log, seed, workers)
        found.append(outcome(run))
    assert found[1:] == found[:1] * 3
    states = {(state, reason) for _, state, reason, _ in found[0][0]}
    assert states >= {(FINISHED, ""), (STOPPED, "rung"), ("failed", "diverged"), ("failed", "collapsed")}


def test_with_arrival_the_order_has_a_part(tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    found = []
    for seed in range(3):
        run = new_run(tmp_path / str(seed), ordered_study(order="arrival"))
        with run.log() as log:
            scrambled(run, log, seed, 3)
        found.append(outcome(run))
    assert any(each != found[0] for each in found[1:])


def test_killed_again_and_again_it_comes_to_the_same(tmp_path: Path) -> None:
    whole, run = new_run(tmp_path / "whole", ordered_study()), new_run(tmp_path / "cut", ordered_study())
    with whole.log() as log:
        scrambled(whole, log, 0)
    for kills in range(100):
        with run.log() as log:
            try:
                scrambled(run, log, kills, reports=3)
                break
            except Killed:
                pass
    assert kills > 10
    assert outcome(run) == outcome(whole)
    told = [(event["type"], event.get("trial"), event.get("epoch")) for event in run.events()]
    assert len(told) == len(set(told)), "something is counted twice"


def test_a_worker_is_not_held_by_a_trial_that_waits_for_its_turn(tmp_path: Path) -> None:
    run = new_run(tmp_path, ordered_study(concurrency=2))
    with run.log() as log:
        referee = Referee(run, log)
        first, second = referee.next_trial(), referee.next_trial()
        assert first is not None
        assert second is not None
        assert referee.next_trial() is None, "two are on their way"
        assert referee.waits
        assert not referee.take(1, report(second, 1)), "its rung waits for the first trial's"
        assert referee.live == {0}
        assert referee.take(0, report(first, 1))
        assert referee.next_trial() is second, "whose turn has come"


def test_a_trial_that_was_handed_back_goes_on_in_its_turn(tmp_path: Path) -> None:
    run = new_run(tmp_path, ordered_study(concurrency=2))
    with run.log() as log:
        referee = Referee(run, log)
        _, second = referee.next_trial(), referee.next_trial()
        referee.hand_back(1)
        assert referee.next_trial() is second is not None
        assert referee.next_trial() is None


def test_the_end_of_a_time_budget_finishes_what_is_through(tmp_path: Path) -> None:
    run = new_run(tmp_path, ordered_study(concurrency=2, scheduler="none"))
    with run.log() as log:
        referee = Referee(run, log)
        first, second = referee.next_trial(), referee.next_trial()
        assert first is not None
        assert second is not None
        for epoch in range(1, LAST + 1):
            goes_on = referee.take(1, report(second, epoch))
        assert not goes_on
        assert second.state == "running", "the first is behind"
        referee._trained_s = referee._seconds_before = 1e9
        object.__setattr__(referee.study.budget, "time", 1.0)
        assert referee.next_trial() is None
        assert not referee.take(0, report(first, 1))
        assert not referee.waits
    assert [(trial.state, trial.reason) for trial in run.history().trials.values()] == [
        (STOPPED, "budget: time"),
        (FINISHED, ""),
    ]


def test_a_fixed_order_wants_to_know_how_many_run_at_once() -> None:
    with pytest.raises(InputError, match=r"search\.order: fixed needs search\.concurrency, .* write search\.concurr"):
        ordered_study(concurrency=None)
