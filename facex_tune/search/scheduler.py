"""When a trial is cut short: pure functions of (trial, epoch, value), fed by the log alone, so that a replay gives
the same rungs.
"""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from bisect import insort
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facex_tune.study import Study

FEWEST_COMPARED = 3  # trials at a rung before one is cut there; chosen on the benchmark's tasks (LOGBOOK)
MOST_GO_ON = 1.5  # times 1/reduction of a rung's trials; chosen on the search benchmark's tasks (LOGBOOK)


class Scheduler(Protocol):
    """Says after each epoch whether a trial may go on."""

    def goes_on(
        self, trial: int, epoch: int, value: float, violation: float = 0.0, others: Sequence[float] = ()
    ) -> bool:
        """Tells whether a trial goes on; False stops it here. For the same (trial, epoch) the answer is always the
        same.

        Args:
            violation: by how much the trial breaks the study's constraints (`history.violation`); one that breaks them
                comes behind all that keep them, whatever its value.
            others: of the objectives after the first, smaller being better (`history.badness`).
        """

    def compares(self, epoch: int) -> bool:
        """Tells whether the others have a part in the answer after an epoch."""

    def remembers(self, epoch: int) -> bool:
        """Tells whether what a trial came to after an epoch has a part in any later answer."""


class NoScheduler:
    """Every trial runs its whole course."""

    def goes_on(
        self, trial: int, epoch: int, value: float, violation: float = 0.0, others: Sequence[float] = ()
    ) -> bool:
        return True

    def compares(self, epoch: int) -> bool:
        return False

    def remembers(self, epoch: int) -> bool:
        return False


class _Comparing(ABC):
    """Compares a trial with those that came as far before it, and remembers what it answered."""

    @cached_property
    def _said(self) -> dict[tuple[int, int], bool]:
        return {}

    def goes_on(
        self, trial: int, epoch: int, value: float, violation: float = 0.0, others: Sequence[float] = ()
    ) -> bool:
        """Compares a trial with the others; the answer never changes. A value that is not finite stops the trial."""
        if (trial, epoch) not in self._said:
            own = standing(violation, self.sign * value, others)
            self._said[trial, epoch] = math.isfinite(value) and self._compare(trial, epoch, own)
        return self._said[trial, epoch]

    sign: float  # of values that are better when larger, 1

    @abstractmethod
    def compares(self, epoch: int) -> bool:
        """See `Scheduler`."""

    def remembers(self, epoch: int) -> bool:
        """See `Scheduler`."""
        return self.compares(epoch)

    @abstractmethod
    def _compare(self, trial: int, epoch: int, own: Standing) -> bool:
        """Whether the trial goes on, its standing taken in."""


Standing = tuple[float, ...]
"""(-violation, value, of further objectives their values), larger being better: who keeps the constraints comes before
who breaks them, and of two who break them, who does so by less (Deb, Computer Methods in Applied Mechanics and
Engineering 186, 2000).
"""


def standing(violation: float, value: float, others: Sequence[float] = ()) -> Standing:
    """Writes where a trial stands: its value, larger being better; of the other objectives, smaller being better, one
    that was not measured is the worst.
    """
    return (-violation, value, *(-math.inf if math.isnan(other) else -other for other in others))


class Rung:
    """The trials that have come to a rung, and those of them that went on.

    A trial goes on if it is among the best 1/reduction. Two rules are added. With few at the rung nobody is cut: a
    comparison with one other, whose first epoch may have been luck, says little. And where MOST_GO_ON / reduction of
    them have gone on, only one that none before it has beaten does.

    Args:
        fewest: trials at the rung before one is cut.
    """

    def __init__(self, reduction: int, fewest: int = FEWEST_COMPARED) -> None:
        self.reduction, self.fewest = reduction, fewest
        self.passed: list[Standing] = []
        self._passed_keeping = 0  # the constraints
        self._standings: list[Standing] = []  # the worst first
        self.cut: Standing | None = None  # what the last trial had to reach; None: nobody was cut yet

    def __len__(self) -> int:
        return len(self._standings)

    def take(self, own: Standing) -> bool:
        """Takes in a trial that comes to the rung; returns whether it goes on."""
        self._add(own)
        goes_on = len(self) < self.fewest or self._is_among_the_best(own)
        if goes_on:
            self.passed.append(own)
            self._passed_keeping += own[0] == 0
        return goes_on

    def have_passed(self, standings: Sequence[Standing]) -> None:
        """Takes these, and no others, for those that went on."""
        self.passed = list(standings)
        self._passed_keeping = sum(own[0] == 0 for own in standings)

    def _add(self, own: Standing) -> None:
        insort(self._standings, own)
        self.cut = None

    def _is_among_the_best(self, own: Standing) -> bool:
        self.cut = self._standings[-1 if self._is_full(own) else -self._places]
        return own >= self.cut

    @property
    def _places(self) -> int:
        return math.ceil(len(self) / self.reduction)

    def _is_full(self, own: Standing) -> bool:
        """Whether those that went on take every place from one that comes now: all do, but from one that keeps the
        constraints only those that keep them too.
        """
        fill = len(self.passed) if own[0] < 0 else self._passed_keeping
        return fill >= math.ceil(MOST_GO_ON * len(self) / self.reduction)


class DominanceRung(Rung):
    """A rung of a study with several objectives.

    A trial comes before another that is dominated by more trials. Of trials that as many dominate, those come first
    that differ most from the ones before them, so that no end of a front is cut for the sake of the other; the best by
    the first objective leads. Where the rung is full, a trial must be no worse in anything than one of the front of
    those that went on.

    Source: Fonseca and Fleming, "Genetic Algorithms for Multiobjective Optimization", ICGA 1993, for ranks by counting;
    Schmucker et al., "Multi-objective Asynchronous Successive Halving", 2021, for fronts at rungs and their spread.
    """

    def __init__(self, reduction: int, fewest: int = FEWEST_COMPARED) -> None:
        super().__init__(reduction, fewest)
        self._dominators_N: NDArray[np.int64] = np.empty(0, dtype=np.int64)  # of each, how many dominate it

    def _add(self, own: Standing) -> None:
        others_NO = np.array(self._standings).reshape(len(self), len(own))
        self._dominators_N[_beats(np.array([own]), others_NO)] += 1
        beaten_by = int(_beats(others_NO, np.array([own])).sum())
        self._dominators_N = np.append(self._dominators_N, beaten_by)
        self._standings.append(own)

    def _is_among_the_best(self, own: Standing) -> bool:
        if self._is_full(own):
            reached = (each for each in self.passed if own == each or dominates(own, each))
            return any(not any(dominates(other, each) for other in self.passed) for each in reached)
        mine = self._dominators_N[-1]
        before_N, peers_N = self._dominators_N < mine, self._dominators_N == mine
        left = self._places - int(before_N.sum())
        return left > 0 and len(self) - 1 in _spread(np.array(self._standings)[:, 1:], before_N, peers_N, left)


def dominates(one: Standing, other: Standing) -> bool:
    """Whether a trial beats another: it breaks the constraints by less, or by as much and is no worse in any objective
    and better in one.
    """
    return bool(_beats(np.array([one]), np.array([other]))[0])


def _beats(one_NO: NDArray[np.float64], other_NO: NDArray[np.float64]) -> NDArray[np.bool_]:
    better_N = (one_NO >= other_NO).all(axis=1) & (one_NO > other_NO).any(axis=1)
    return np.where(one_NO[:, 0] == other_NO[:, 0], better_N, one_NO[:, 0] > other_NO[:, 0])


def _spread(
    points_NO: NDArray[np.float64], before_N: NDArray[np.bool_], peers_N: NDArray[np.bool_], places: int
) -> list[int]:
    """Chooses as many peers as there are places: each time the one that is furthest from all before it, by ranks in
    each objective, which know no units.
    """
    order_NO = np.stack([np.searchsorted(np.sort(column_N), column_N) for column_N in points_NO.T], axis=1)
    peers, chosen = np.flatnonzero(peers_N), np.flatnonzero(before_N).tolist()
    first = [] if chosen else [int(peers[np.argmax(points_NO[peers, 0])])]
    found, chosen = first, chosen + first
    nearest_P = np.full(len(peers), np.inf)
    for at in chosen:
        nearest_P = np.minimum(nearest_P, np.abs(order_NO[peers] - order_NO[at]).sum(axis=1))
    while len(found) < min(places, len(peers)):
        nearest_P[np.isin(peers, found)] = -1.0
        found = [*found, int(peers[np.argmax(nearest_P)])]
        nearest_P = np.minimum(nearest_P, np.abs(order_NO[peers] - order_NO[found[-1]]).sum(axis=1))
    return found


def rung(reduction: int, objectives: int = 1, fewest: int = FEWEST_COMPARED) -> Rung:
    """Makes a rung for trials with so many objectives."""
    return (Rung if objectives == 1 else DominanceRung)(reduction, fewest)


class Asha(_Comparing):
    """Asynchronous successive halving, in its stopping form: at each rung a trial goes on if it is among the best
    1/reduction seen there.

    Two rules are added. With fewer than FEWEST_COMPARED at a rung all go on: who comes second of two would be cut by
    the luck of one epoch. And the paper's trials come in any order; a sampler's become better and better, so that most
    of them pass a rung whose early members were drawn at random, and the budget goes into trials at full length. Where
    half as many again as 1/reduction have gone on from a rung, only one that none before it has beaten does. In a study
    with constraints, trials that break them stand behind all that keep them, at every rung.

    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.

    Args:
        min_epochs: the first rung.
        max_epochs: the end, which is no rung.
        reduction: rungs are min_epochs · reduction^k.
        maximize: whether larger values of the first objective are better.
        objectives: how many there are; of several, trials are compared by dominance (`DominanceRung`).
        fewest: trials at a rung before one is stopped there.
    """

    def __init__(
        self,
        min_epochs: int,
        max_epochs: int,
        reduction: int,
        maximize: bool,
        *,
        objectives: int = 1,
        fewest: int = FEWEST_COMPARED,
    ) -> None:
        self.sign = 1.0 if maximize else -1.0
        self.rungs: dict[int, dict[int, float]] = {epoch: {} for epoch in epochs_of(min_epochs, max_epochs, reduction)}
        self._at = {epoch: rung(reduction, objectives, fewest) for epoch in self.rungs}

    def compares(self, epoch: int) -> bool:
        """See `Scheduler`."""
        return epoch in self.rungs

    def _compare(self, trial: int, epoch: int, own: Standing) -> bool:
        if epoch not in self.rungs:
            return True
        self.rungs[epoch][trial] = own[1]
        return self._at[epoch].take(own)


def epochs_of(min_epochs: int, max_epochs: int, reduction: int) -> list[int]:
    """Lists the epochs at which there are rungs."""
    found = [min_epochs]
    while found[-1] * reduction < max_epochs:
        found.append(found[-1] * reduction)
    return [epoch for epoch in found if epoch < max_epochs]


def rungs_of(study: Study) -> list[int]:
    """Lists the epochs at which a study's trials come to a rung; none where its scheduler has no rungs."""
    if not study.search.scheduler.startswith("asha"):
        return []
    fidelity = study.fidelity
    return epochs_of(fidelity.min_epochs, fidelity.max_epochs, fidelity.reduction)


class Promotion(_Comparing):
    """Asynchronous successive halving in its promoting form: each trial pauses at a rung, and goes on when it is among
    the best 1/reduction of those that have come there, however late they came. Nobody is cut for having come early.

    Once no other trial will come to a rung, its share is rounded up, so that a search of few trials finishes
    some.

    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2.

    Args:
        min_epochs, max_epochs, reduction, maximize: see `Asha`.
    """

    def __init__(self, min_epochs: int, max_epochs: int, reduction: int, maximize: bool) -> None:
        self.reduction, self.sign = reduction, 1.0 if maximize else -1.0
        self._at: dict[int, dict[int, Standing]] = {
            epoch: {} for epoch in epochs_of(min_epochs, max_epochs, reduction)
        }
        self._left: dict[int, set[int]] = {epoch: set() for epoch in self._at}  # went on from there, or ended

    def goes_on(
        self, trial: int, epoch: int, value: float, violation: float = 0.0, others: Sequence[float] = ()
    ) -> bool:
        """Tells whether a trial goes on now; asked again after it was promoted, it does."""
        is_first = super().goes_on(trial, epoch, value, violation, others)
        return is_first or trial in self._left.get(epoch, ())

    def compares(self, epoch: int) -> bool:
        """See `Scheduler`."""
        return epoch in self._at

    def _compare(self, trial: int, epoch: int, own: Standing) -> bool:
        if epoch in self._at:
            self._at[epoch][trial] = own
        return epoch not in self._at

    def holds(self, trial: int, epoch: int) -> bool:
        """Tells whether a trial may be promoted from a rung some day."""
        return trial in self._at.get(epoch, ()) and trial not in self._left[epoch]

    def promotable(self) -> tuple[int, int] | None:
        """Finds a trial that is to go on, of the highest rung that has one: (trial, epoch)."""
        for epoch in reversed(self._at):
            found = self._next(epoch, len(self._at[epoch]) // self.reduction)
            if found is not None:
                return found, epoch
        return None

    def left_over(self, least: float) -> tuple[int, int] | None:
        """Finds a trial that is to go on although places are shared out: of the lowest rung that has one, of those to
        which no trial will come any more.

        Args:
            least: epochs of the trial that has come least far of those on their way; infinite: there is none.
        """
        for epoch in self._at:
            if least < epoch:
                return None
            found = self._next(epoch, math.ceil(len(self._at[epoch]) / self.reduction))
            if found is not None:
                return found, epoch
        return None

    def hopeless(self, trials: int) -> list[int]:
        """Lists those at the first rung that would not be among the best even of so many trials."""
        first = next(iter(self._at), None)
        if first is None:
            return []
        best = self._best(first, math.ceil(trials / self.reduction))
        return [trial for trial in self._at[first] if trial not in best and trial not in self._left[first]]

    def leave(self, trial: int, epoch: int) -> None:
        """Takes in that a trial waits at a rung no longer: it goes on, or has ended there. Others are still compared
        with it.
        """
        if epoch in self._left:
            self._left[epoch].add(trial)

    def _next(self, epoch: int, places: int) -> int | None:
        best = self._best(epoch, places)
        return next((trial for trial in best if trial not in self._left[epoch]), None)

    def _best(self, epoch: int, places: int) -> list[int]:
        """The best trials of a rung, the best first."""
        numbers, standings = list(self._at[epoch]), list(self._at[epoch].values())
        return [numbers[at] for at in best_of(standings, places)]


def best_of(standings: Sequence[Standing], places: int) -> list[int]:
    """Gives the places of the best, the best first, of equal ones who came first; of several objectives as a
    `DominanceRung` has it.
    """
    if not standings or len(standings[0]) == 2:
        return sorted(range(len(standings)), key=lambda at: standings[at], reverse=True)[:places]
    points_NO = np.array(standings)
    rank_N = np.array([_beats(points_NO, np.array([own])).sum() for own in standings])
    found: list[int] = []
    for level in np.unique(rank_N):
        if len(found) < places:
            found += _spread(points_NO[:, 1:], rank_N < level, rank_N == level, places - len(found))
    return found


class Median(_Comparing):
    """The median stopping rule: a trial stops once its best value so far is worse than the median of what the others
    had, on average, over as many epochs. With constraints, how far they are broken comes before values; of several
    objectives the first is looked at, since fronts have no median.

    Source: Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.1.

    Args:
        min_epochs: before this epoch nothing is stopped.
        maximize: whether larger values are better.
    """

    MIN_OTHERS = 3  # a median of fewer says little

    def __init__(self, min_epochs: int, maximize: bool) -> None:
        self.min_epochs, self.sign = min_epochs, 1.0 if maximize else -1.0
        self._seen: dict[int, dict[int, Standing]] = {}

    def compares(self, epoch: int) -> bool:
        """See `Scheduler`."""
        return epoch >= self.min_epochs

    def remembers(self, epoch: int) -> bool:
        """See `Scheduler`."""
        return True

    def _compare(self, trial: int, epoch: int, own: Standing) -> bool:
        mine = self._seen.setdefault(trial, {})
        mine[epoch] = own[:2]
        others = [
            self._average(seen, epoch) for number, seen in self._seen.items() if number != trial and epoch in seen
        ]
        if epoch < self.min_epochs or len(others) < self.MIN_OTHERS:
            return True
        others.sort()
        middle = others[(len(others) - 1) // 2], others[len(others) // 2]
        return max(mine.values()) >= _mean(middle)

    @staticmethod
    def _average(seen: dict[int, Standing], until: int) -> Standing:
        return _mean([standing for epoch, standing in seen.items() if epoch <= until])


def _mean(standings: Sequence[Standing]) -> Standing:
    return statistics.fmean(each[0] for each in standings), statistics.fmean(each[1] for each in standings)


def build(study: Study) -> Scheduler:
    """Makes the study's scheduler."""
    if study.search.scheduler == "none":
        return NoScheduler()
    fidelity = study.fidelity
    if study.search.scheduler == "median":
        return Median(fidelity.min_epochs, study.maximize)
    shape = fidelity.min_epochs, fidelity.max_epochs, fidelity.reduction
    if study.search.scheduler == "asha_promotion":
        return Promotion(*shape, study.maximize)
    return Asha(*shape, study.maximize, objectives=len(study.objective))
