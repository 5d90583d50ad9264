"""Other ways of searching on the simulated clock, by their published interfaces: stock Ray Tune, Optuna with Hyperband.

A training that fails is told to each as its documentation asks: to Tune as a trial with an error, to Optuna as a failed
trial. Neither knows of trainings that collapse, which run to their end there.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.samplers import TPESampler

from facex_tune.search.referee import Referee
from facex_tune.search.samplers import Tpe, distribution
from facex_tune.search.scheduler import Asha
from facex_tune.simulation.clock import Clock, Searching, Started
from facex_tune.simulation.ours import Ours
from facex_tune.space import Config, Space
from facex_tune.study import Study

Arm = Callable[[Study, Clock, int], Searching]
Change = Callable[[Referee], None]


@dataclass
class Seen:
    """One trial: its configuration and the values of its epochs."""

    config: Config
    values: list[float] = field(default_factory=list)


class Stock:
    """Ray Tune's `OptunaSearch` and `AsyncHyperBandScheduler`, the objects themselves, called in the order in which
    Tune's controller calls them; the winner as `get_best_result` finds it: the best last value.
    """

    def __init__(self, study: Study, clock: Clock, workers: int) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler
        from ray.tune.search.optuna import OptunaSearch

        logging.getLogger("ray.tune.search.optuna.optuna_search").setLevel(logging.ERROR)
        seed = study.search.seed
        np.random.seed(seed)  # the scheduler draws its (only) bracket from it
        self.metric, self.epochs, mode = study.objective[0], study.fidelity.max_epochs, _mode(study)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._search = OptunaSearch(_Define(study.space), metric=self.metric, mode=mode, seed=seed)
        self._asha = AsyncHyperBandScheduler(
            metric=self.metric,
            mode=mode,
            max_t=self.epochs,
            grace_period=study.fidelity.min_epochs,
            reduction_factor=study.fidelity.reduction,
        )
        self._best_of = max if study.maximize else min
        self._seen: dict[int, Seen] = {}

    def start(self) -> Started:
        """See `Searching`."""
        number = len(self._seen)
        found = self._search.suggest(str(number))
        assert found is not None
        self._seen[number] = Seen(dict(found["config"]))
        self._asha.on_trial_add(None, _Named(str(number)))
        return Started(number, self._seen[number].config)

    def epoch(self, number: int, epoch: int, scores: dict[str, float], seconds: float) -> bool:
        """See `Searching`."""
        self._seen[number].values.append(scores[self.metric])
        result = {"training_iteration": epoch, self.metric: scores[self.metric]}
        says = self._asha.on_trial_result(None, _Named(str(number)), result)
        if says == "CONTINUE" and epoch < self.epochs:
            self._search.on_trial_result(str(number), result)
            return True
        self._search.on_trial_complete(str(number), result)
        return False

    def fail(self, number: int, reason: str, seconds: float) -> None:
        """See `Searching`."""
        self._search.on_trial_complete(str(number), error=True)

    def best(self) -> Config | None:
        """See `Searching`."""
        told = [(seen.values[-1], number) for number, seen in self._seen.items() if seen.values]
        return self._seen[self._best_of(told)[1]].config if told else None


@dataclass(frozen=True)
class _Named:
    """As much of a Tune trial as the scheduler looks at."""

    trial_id: str


class _Define:
    """A space as a define-by-run function, the one way in which `OptunaSearch` knows conditional knobs."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def __call__(self, trial: Any) -> dict[str, Any]:
        return {"config": suggested(trial, self._space)}


def suggested(trial: Any, space: Space) -> Config:
    """A configuration as an Optuna trial suggests it."""
    return space.draw(lambda name, knob: trial._suggest(name, distribution(knob)))


class Hyperband:
    """Optuna's default sampler with its Hyperband pruner, by ask, report, should_prune and tell. The winner is
    `best_trial`; where none is complete, the best of those that came furthest.
    """

    def __init__(self, study: Study, clock: Clock, workers: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        fidelity = study.fidelity
        pruner = optuna.pruners.HyperbandPruner(
            min_resource=fidelity.min_epochs, max_resource=fidelity.max_epochs, reduction_factor=fidelity.reduction
        )
        sampler = optuna.samplers.TPESampler(seed=study.search.seed)
        direction = "maximize" if study.maximize else "minimize"
        # brackets are drawn by a hash of the study's name
        name = f"simulated-{study.search.seed}"
        self._study = optuna.create_study(study_name=name, direction=direction, sampler=sampler, pruner=pruner)
        self._space, self._metric, self._epochs = study.space, study.objective[0], fidelity.max_epochs
        self._trials: dict[int, Any] = {}
        self._seen: dict[int, Seen] = {}
        self._sign = 1.0 if study.maximize else -1.0
        self._complete: set[int] = set()

    def start(self) -> Started:
        """See `Searching`."""
        trial = self._study.ask()
        self._trials[trial.number] = trial
        self._seen[trial.number] = Seen(suggested(trial, self._space))
        return Started(trial.number, self._seen[trial.number].config)

    def epoch(self, number: int, epoch: int, scores: dict[str, float], seconds: float) -> bool:
        """See `Searching`."""
        from optuna.trial import TrialState

        trial, value = self._trials[number], scores[self._metric]
        self._seen[number].values.append(value)
        trial.report(value, epoch)
        if epoch >= self._epochs:
            self._study.tell(trial, value)
            self._complete.add(number)
            return False
        if trial.should_prune():
            self._study.tell(trial, state=TrialState.PRUNED)
            return False
        return True

    def fail(self, number: int, reason: str, seconds: float) -> None:
        """See `Searching`."""
        from optuna.trial import TrialState

        self._study.tell(self._trials[number], state=TrialState.FAIL)

    def best(self) -> Config | None:
        """See `Searching`."""
        among = {number: self._seen[number] for number in self._complete} or self._seen
        told = [(len(seen.values), self._sign * seen.values[-1], n) for n, seen in among.items() if seen.values]
        return self._seen[max(told)[2]].config if told else None


def _mode(study: Study) -> str:
    return "max" if study.maximize else "min"


def ours(sampler: str = "tpe", scheduler: str = "asha", change: Change | None = None) -> Arm:
    """This project's search, with what a study may choose, and what a variant changes."""

    def arm(study: Study, clock: Clock, workers: int) -> Ours:
        search = study.search.model_copy(update={"sampler": sampler, "scheduler": scheduler})
        found = Ours(study.model_copy(update={"search": search}), clock, workers)
        if change is not None:
            change(found._referee)
        return found

    return arm


def _rungs(**said: Any) -> Change:
    """ASHA with other numbers than the product's."""

    def change(referee: Referee) -> None:
        fidelity = referee.study.fidelity
        shape = fidelity.min_epochs, fidelity.max_epochs, fidelity.reduction
        referee.scheduler = Asha(*shape, referee.study.maximize, **said)

    return change


def _samples(**said: Any) -> Change:
    """TPE with other arguments than the product's."""

    def change(referee: Referee) -> None:
        tpe = Tpe(referee.study)
        tpe._sampler = lambda seed, running: TPESampler(seed=seed, **_TPE | said)  # type: ignore[method-assign]
        referee.searcher._sampler = tpe

    return change


_TPE: dict[str, Any] = {"n_startup_trials": 8, "multivariate": True, "group": True, "constant_liar": True}

DEFAULT_ARMS = ["ours", "ours-promotion", "random", "random-asha", "stock", "hyperband"]
ARMS: dict[str, Arm] = {
    "ours": ours(),
    "ours-promotion": ours(scheduler="asha_promotion"),
    "random": ours("random", "none"),
    "random-asha": ours("random", "asha"),
    "random-asha-longer": ours("random", "asha"),
    "random-promotion": ours("random", "asha_promotion"),
    "stock": Stock,
    "hyperband": Hyperband,
    # one thing changed
    "gp": ours("gp"),
    "gp-promotion": ours("gp", "asha_promotion"),
    "fewest-1": ours(change=_rungs(fewest=1)),
    "fewest-6": ours(change=_rungs(fewest=6)),
    "univariate": ours(change=_samples(multivariate=False, group=False)),
    "startup-4": ours(change=_samples(n_startup_trials=4)),
    "startup-16": ours(change=_samples(n_startup_trials=16)),
    "gamma-.2": ours(change=_samples(gamma=lambda n: min(math.ceil(0.2 * n), 25))),
    "no-liar": ours(change=_samples(constant_liar=False)),
}
