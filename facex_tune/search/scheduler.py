"""When a trial is cut short: pure functions of (trial, epoch, value), fed by the log alone, so that a replay gives
the same rungs.
"""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from facex_tune.study import Study

MOST_GO_ON = 1.5  # times 1/reduction of a rung's trials; chosen on the search benchmark's tasks (LOGBOOK)


class Scheduler(Protocol):
    """Says after each epoch whether a trial may go on."""

    def goes_on(self, trial: int, epoch: int, value: float) -> bool:
        """Tells whether a trial goes on; False stops it here. For the same (trial, epoch) the answer is always the
        same.
        """


class NoScheduler:
    """Every trial runs its whole course."""

    def goes_on(self, trial: int, epoch: int, value: float) -> bool:
        return True


class _Comparing(ABC):
    """Compares a trial with those that came as far before it, and remembers what it answered."""

    @cached_property
    def _said(self) -> dict[tuple[int, int], bool]:
        return {}

    def goes_on(self, trial: int, epoch: int, value: float) -> bool:
        """Compares a trial with the others; the answer never changes. A value that is not finite stops the trial."""
        if (trial, epoch) not in self._said:
            self._said[trial, epoch] = math.isfinite(value) and self._compare(trial, epoch, value)
        return self._said[trial, epoch]

    @abstractmethod
    def _compare(self, trial: int, epoch: int, value: float) -> bool:
        """Whether the trial goes on, its finite value taken in."""


def cut(best_first: Sequence[float], gone_on: int, reduction: int) -> float:
    """What the last trial at a rung must have reached to go on, larger being better: to be among the best 1/reduction;
    or, where that has let MOST_GO_ON / reduction of them pass already, to be the best.

    Args:
        best_first: the values of all that came to the rung, the last trial's among them.
        gone_on: how many of the others went on.
    """
    is_full = gone_on >= math.ceil(MOST_GO_ON * len(best_first) / reduction)
    places = 1 if is_full else math.ceil(len(best_first) / reduction)
    return best_first[places - 1]


class Asha(_Comparing):
    """Asynchronous successive halving, in its stopping form: at each rung a trial goes on if it is among the best
    1/reduction seen there.

    One rule is added. The paper's trials come in any order; a sampler's become better and better, so that most of them
    pass a rung whose early members were drawn at random, and the budget goes into trials at full length. Where half as
    many again as 1/reduction have gone on from a rung, only one that none before it has beaten does.

    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.

    Args:
        min_epochs: the first rung.
        max_epochs: the end, which is no rung.
        reduction: rungs are min_epochs · reduction^k.
        maximize: whether larger values are better.
    """

    def __init__(self, min_epochs: int, max_epochs: int, reduction: int, maximize: bool) -> None:
        self.reduction, self.sign = reduction, 1.0 if maximize else -1.0
        count = 0
        self.rungs: dict[int, dict[int, float]] = {}
        self._gone_on: Counter[int] = Counter()
        while (rung := min_epochs * reduction**count) < max_epochs:
            self.rungs[rung] = {}
            count += 1

    def _compare(self, trial: int, epoch: int, value: float) -> bool:
        if epoch not in self.rungs:
            return True
        rung = self.rungs[epoch]
        rung[trial] = self.sign * value
        goes_on = rung[trial] >= cut(sorted(rung.values(), reverse=True), self._gone_on[epoch], self.reduction)
        self._gone_on[epoch] += goes_on
        return goes_on


class Median(_Comparing):
    """The median stopping rule: a trial stops once its best value so far is worse than the median of what the others
    had, on average, over as many epochs.

    Source: Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.1.

    Args:
        min_epochs: before this epoch nothing is stopped.
        maximize: whether larger values are better.
    """

    MIN_OTHERS = 3  # a median of fewer says little

    def __init__(self, min_epochs: int, maximize: bool) -> None:
        self.min_epochs, self.sign = min_epochs, 1.0 if maximize else -1.0
        self._seen: dict[int, dict[int, float]] = {}

    def _compare(self, trial: int, epoch: int, value: float) -> bool:
        own = self._seen.setdefault(trial, {})
        own[epoch] = self.sign * value
        others = [
            self._average(seen, epoch) for number, seen in self._seen.items() if number != trial and epoch in seen
        ]
        if epoch < self.min_epochs or len(others) < self.MIN_OTHERS:
            return True
        return max(own.values()) >= statistics.median(others)

    @staticmethod
    def _average(seen: dict[int, float], until: int) -> float:
        return statistics.fmean(value for epoch, value in seen.items() if epoch <= until)


def build(study: Study) -> Scheduler:
    """Makes the study's scheduler."""
    if study.search.scheduler == "none":
        return NoScheduler()
    fidelity = study.fidelity
    if study.search.scheduler == "median":
        return Median(fidelity.min_epochs, study.maximize)
    return Asha(fidelity.min_epochs, fidelity.max_epochs, fidelity.reduction, study.maximize)
