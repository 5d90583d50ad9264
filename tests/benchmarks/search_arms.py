"""Who competes in the search benchmark: our searcher and scheduler, the stock ones, random; and ours with other answers
to what a sampler learns from a stopped trial.
"""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from facex_tune.runs.history import FAILED, FINISHED, STOPPED, Trial
from facex_tune.search import scheduler as schedulers
from facex_tune.search.ledger import Entry, Ledger, View
from facex_tune.search.samplers import distribution
from facex_tune.search.searcher import AHEAD_FROM_SLOTS, Searcher
from facex_tune.space import Config
from facex_tune.study import Study
from facex_tune.study.schema import Fidelity, Search
from tests.benchmarks.search_tasks import EPOCHS, Task

METRIC = "accuracy"
REDUCTION = 3


class Arm(Protocol):
    """One way of searching, asked and told as an event loop would."""

    def start(self) -> tuple[int, Config]:
        """A new trial."""

    def epoch(self, trial: int, epoch: int, value: float) -> bool:
        """An epoch's value, NaN where training diverged; whether the trial goes on."""

    def error(self, trial: int) -> None:
        """The trial died of an error."""

    def best(self) -> Config | None:
        """The configuration that would be retrained if the search ended now."""


@dataclass
class _Seen:
    config: Config
    values: list[float] = field(default_factory=list)


class Ours:
    """The project's searcher and scheduler; the winner as `retrain.choose` finds it."""

    def __init__(self, task: Task, workers: int, seed: int, sampler: str = "tpe", scheduler: str = "asha") -> None:
        study = Study(
            version=1,
            name="benchmark",
            data="none",
            objective=(METRIC,),
            fidelity=Fidelity(min_epochs=1, max_epochs=EPOCHS, reduction=REDUCTION),
            search=Search(sampler=sampler, scheduler=scheduler, seed=seed),
            space=task.space,
        )
        self.searcher = Searcher(study, ahead=workers >= AHEAD_FROM_SLOTS)
        self._scheduler = schedulers.build(study)
        self.trials: dict[int, Trial] = {}
        self._finished: tuple[float, int] | None = None
        self._deepest: tuple[int, float, int] = (0, 0.0, -1)

    def start(self) -> tuple[int, Config]:
        number, config, source = self.searcher.ask()
        self.trials[number] = Trial(number, config, source)
        return number, config

    def epoch(self, trial: int, epoch: int, value: float) -> bool:
        if math.isnan(value):
            self.error(trial)  # a guard of ours sees it
            return False
        self.trials[trial].epochs[epoch] = {METRIC: value}
        self.searcher.report(trial, epoch, {METRIC: value})
        goes_on = self._scheduler.goes_on(trial, epoch, value) and epoch < EPOCHS
        self._deepest = max(self._deepest, (epoch, value, trial))
        if not goes_on:
            self._end(trial, FINISHED if epoch == EPOCHS else STOPPED)
        return goes_on

    def error(self, trial: int) -> None:
        self._end(trial, FAILED)

    def _end(self, number: int, state: str) -> None:
        self.trials[number].state = state
        self.searcher.tell(self.trials[number])
        if state == FINISHED:
            mine = (self.trials[number].metrics[METRIC], number)
            self._finished = max(self._finished or mine, mine)

    def best(self) -> Config | None:
        number = self._finished[1] if self._finished else self._deepest[2]
        return self.trials[number].config if number >= 0 else None


class Truncated(Ledger):
    """A stopped trial is told as complete with the value that it had, as stock does it."""

    def _gains_LC(self, levels: Any) -> NDArray[np.float64]:
        return np.zeros_like(super()._gains_LC(levels))


class Pruned(Ledger):
    """A stopped trial is told as pruned: TPE ranks it behind every complete one, by epochs before value."""

    def _frozen(self, entry: Entry, probable_C: NDArray[np.float64]) -> FrozenTrial:
        trial = super()._frozen(entry, probable_C)
        if self._states[entry.number] == STOPPED:
            trial.state, epochs = TrialState.PRUNED, self._epochs[entry.number]
            trial.intermediate_values = {epochs: float(self._table_NEC[entry.number, epochs, 0])}
        elif self._states[entry.number] == FAILED:
            trial.state, trial.intermediate_values = TrialState.PRUNED, {0: 0.0}
        return trial


def with_ledger(kind: type[Ledger], view: View, task: Task, workers: int, seed: int) -> Ours:
    """Ours with another ledger."""
    arm = Ours(task, workers, seed)
    arm.searcher.ledger = kind((METRIC,), {}, EPOCHS, view)
    return arm


class Stock:
    """Ray Tune's own `OptunaSearch` and `AsyncHyperBandScheduler`, the objects themselves, called in the order in which
    Tune's controller calls them; the winner as `get_best_result` finds it: the best last value.
    """

    def __init__(self, task: Task, workers: int, seed: int) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler
        from ray.tune.search.optuna import OptunaSearch

        logging.getLogger("ray.tune.search.optuna.optuna_search").setLevel(logging.ERROR)  # a line for every NaN
        np.random.seed(seed)  # the scheduler draws its (only) bracket from it

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._search = OptunaSearch(_Define(task), metric=METRIC, mode="max", seed=seed)
        self._asha = AsyncHyperBandScheduler(
            metric=METRIC, mode="max", max_t=EPOCHS, grace_period=1, reduction_factor=REDUCTION
        )
        self._seen: dict[int, _Seen] = {}

    def start(self) -> tuple[int, Config]:
        number = len(self._seen)
        found = self._search.suggest(str(number))
        assert found is not None
        config = dict(found["config"])
        self._seen[number] = _Seen(config)
        self._asha.on_trial_add(None, _Named(str(number)))
        return number, config

    def epoch(self, trial: int, epoch: int, value: float) -> bool:
        self._seen[trial].values.append(value)
        result = {"training_iteration": epoch, METRIC: value}
        goes_on = self._asha.on_trial_result(None, _Named(str(trial)), result) == "CONTINUE" and epoch < EPOCHS
        if goes_on:
            self._search.on_trial_result(str(trial), result)
        else:
            self._search.on_trial_complete(str(trial), result)
        return goes_on

    def error(self, trial: int) -> None:
        self._search.on_trial_complete(str(trial), error=True)

    def best(self) -> Config | None:
        told = [(seen.values[-1], number) for number, seen in self._seen.items() if seen.values]
        told = [one for one in told if not math.isnan(one[0])]
        return self._seen[max(told)[1]].config if told else None


@dataclass(frozen=True)
class _Named:
    """As much of a Tune trial as the scheduler looks at."""

    trial_id: str


class _Define:
    """The task's space as a define-by-run function, the one way in which `OptunaSearch` knows conditional knobs."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self, trial: Any) -> dict[str, Any]:
        suggest = trial._suggest
        return {"config": self._task.space.draw(lambda name, knob: suggest(name, distribution(knob)))}


ARMS: dict[str, Any] = {
    "ours": Ours,
    "stock": Stock,
    "random": lambda task, workers, seed: Ours(task, workers, seed, "random", "none"),
    "random-asha": lambda task, workers, seed: Ours(task, workers, seed, "random", "asha"),
    "ours-truncated": lambda *asked: with_ledger(Truncated, View(), *asked),
    "ours-pruned": lambda *asked: with_ledger(Pruned, View(running=False), *asked),
    "ours-no-running": lambda *asked: with_ledger(Ledger, View(running=False), *asked),
    "ours-quartile": lambda *asked: with_ledger(Ledger, View(gain=0.25), *asked),
    "ours-tenth": lambda *asked: with_ledger(Ledger, View(gain=0.1), *asked),
}
