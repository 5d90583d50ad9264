"""Whether a search has settled (`search: {stop_when_settled: noise}`): what is left to gain is smaller than what two
seeds of one configuration differ by, so that a better configuration could not be told from a luckier seed.

A Gaussian process is fitted to what the search knows, and functions are drawn that may be the true one. In each of them
the best point is looked for, among drawn points and points near the best; by how much it is above the configuration
that would be retrained is what is left there, and the mean over the functions is what is left to gain.

The noise is measured. What the process cannot explain by the configuration is more than what seeds do, so as long as
more than that is left nothing is done. Once less is left, REPEATS of the best configurations are trained once more,
with another seed (which also says more of them), and what their pairs differ by is the noise.

Source: Wilson, "Stopping Bayesian Optimization with Probabilistic Regret Bounds", NeurIPS 2024, for functions that are
drawn; Makarova et al., "Automatic Termination for Hyperparameter Optimization", AutoML 2022, for the noise as bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facex_tune.runs.events import SearchSettled
from facex_tune.runs.history import FAILED, FINISHED, RUNNING
from facex_tune.search.gaussian_process import (
    DRAWN,
    FINE_STEP,
    NEAR,
    OF_BEST,
    STEP,
    Points,
    Process,
    kept,
    levelled,
    near,
)
from facex_tune.search.ledger import Ledger
from facex_tune.search.samplers import seed_of
from facex_tune.study import Study

FEWEST_TOLD, FEWEST_FINISHED = 16, 4  # trials: below, a model of them says nothing
REPEATS = 3  # configurations with several seeds that are wanted
MOST_REPEATS = 2 * REPEATS  # that are tried: a rung may cut one
FUNCTIONS = 200


@dataclass(frozen=True)
class Left:
    """What is left to gain, and what the process cannot explain (a standard deviation), in the objective's units."""

    gain: float
    unexplained: float


@dataclass(frozen=True)
class Repeat:
    """A place in the ledger whose configuration is to be trained once more, with another seed."""

    place: int


class Settling:
    """Looks whether a search has settled.

    Args:
        study: with one objective and no constraints (`study.consistency` sees to it).
    """

    def __init__(self, study: Study) -> None:
        self._said, self._maximize, self._seed = study.search.stop_when_settled, study.maximize, study.search.seed
        self._points = Points(study)
        self._process = Process(self._points.knob_F) if self._points.knobs else None

    def look(self, ledger: Ledger) -> SearchSettled | Repeat | None:
        """What to log if the search has settled, or what to train to know; None: it goes on."""
        found = self.left(ledger)
        if found is None:
            return None
        noise: float | None = self._said if isinstance(self._said, float) else found.unexplained
        if found.gain > (noise or 0.0):
            return None
        if not isinstance(self._said, float):
            groups = _by_configuration(ledger)
            if (repeat := self._repeat(ledger, groups)) is not None:
                return repeat
            noise = _noise(ledger, groups)
        if noise is None or found.gain > noise:
            return None
        ended = len(ledger) - ledger.running()
        return SearchSettled(left=found.gain, noise=noise, ended=ended, finished=ledger.count(FINISHED))

    def left(self, ledger: Ledger) -> Left | None:
        """What is left to gain; None: too little is known to say."""
        finals = ledger.finals()
        probable_N = ledger.probable_NC()[:, 0] if len(ledger) else np.empty(0)
        told_N = np.flatnonzero(~np.isnan(probable_N))
        if self._process is None or len(told_N) < FEWEST_TOLD or len(finals) < FEWEST_FINISHED:
            return None
        sign = 1.0 if self._maximize else -1.0
        chosen = max(finals, key=lambda place: (sign * finals[place], -place))
        quality_N = sign * probable_N[told_N]
        has_failed_N = [ledger.state(place) == FAILED for place in told_N.tolist()]
        quality_N[has_failed_N] = quality_N.min()  # not the worst there is
        kept_N = kept(quality_N)
        if chosen not in told_N[kept_N]:
            kept_N = np.append(kept_N, np.flatnonzero(told_N == chosen))
        values_N, deviation = levelled(quality_N[kept_N])
        rng = np.random.default_rng([seed_of(self._seed, len(ledger)), 2])
        shares_NK = np.array([self._points.shares_K(ledger.entries[place].params) for place in told_N[kept_N]])
        features_NF, doubts_N = self._points.features_NF(shares_NK), np.zeros(len(kept_N))
        parameters_P = self._process.fit(features_NF, values_N, doubts_N)
        fitted = self._process.given(parameters_P, features_NF, values_N, doubts_N)
        best_NK = shares_NK[np.argsort(-values_N, kind="stable")[:OF_BEST]]
        around_MK = np.concatenate([near(best_NK, NEAR, step, rng) for step in (STEP, FINE_STEP)])
        at = int(np.flatnonzero(told_N[kept_N] == chosen)[0])
        drawn_MK = rng.random((DRAWN, shares_NK.shape[1]))
        looked_MK = np.concatenate([shares_NK[at : at + 1], shares_NK, drawn_MK, around_MK])
        values_DM = fitted.drawn(self._points.features_NF(looked_MK), FUNCTIONS, rng)
        gain = deviation * float(np.mean(values_DM.max(axis=1) - values_DM[:, 0]))
        return Left(gain, deviation * math.exp(parameters_P[-1] / 2))

    def _repeat(self, ledger: Ledger, groups: Sequence[Sequence[int]]) -> Repeat | None:
        """The best configuration that was trained to its end once; None: enough were repeated, or are being."""
        finals, sign = ledger.finals(), 1.0 if self._maximize else -1.0
        several = [group for group in groups if len(group) > 1]
        hopeful = [group for group in several if sum(place in finals for place in group) > 1 or _runs(ledger, group)]
        once = [group[0] for group in groups if len(group) == 1 and group[0] in finals]
        if len(hopeful) >= REPEATS or len(several) >= MOST_REPEATS or not once:
            return None
        return Repeat(max(once, key=lambda place: (sign * finals[place], -place)))


def _by_configuration(ledger: Ledger) -> list[list[int]]:
    """The places of this run's trials, those of one configuration together."""
    found: dict[str, list[int]] = {}
    for entry in ledger.entries:
        if not entry.learned:
            found.setdefault(repr(sorted(entry.params.items())), []).append(entry.number)
    return list(found.values())


def _runs(ledger: Ledger, group: Sequence[int]) -> bool:
    return any(ledger.state(place) == RUNNING for place in group)


def _noise(ledger: Ledger, groups: Sequence[Sequence[int]]) -> float | None:
    """The standard deviation of a value between seeds of a configuration; None: nothing is known of it yet."""
    finals = ledger.finals()
    values = [[finals[place] for place in group if place in finals] for group in groups]
    several = [each for each in values if len(each) > 1]
    waits = any(_runs(ledger, group) for group in groups if len(group) > 1)
    if not several or (waits and len(several) < REPEATS):
        return None
    squares = sum(float(np.var(each)) * len(each) for each in several)
    return math.sqrt(squares / sum(len(each) - 1 for each in several))
