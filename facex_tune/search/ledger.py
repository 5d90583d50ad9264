"""What a sampler may know of the trials so far: every value with the fidelity at which it was measured, brought to one
scale.

A stopped trial has a value of few epochs, a finished one of many, and the two do not compare. The ledger tells a
sampler what each trial would *probably* have come to: its last value plus what the trials that went on from there
gained, in the median. So nothing that a rung cut short is mistaken for a finished trial, nor wasted; and samplers
that learn from complete trials alone (`gp`, `nsga2`) learn from it too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from facex_tune import metrics
from facex_tune.runs.history import FAILED, FINISHED, RUNNING

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Varied = frozenset[tuple[str, Any]]  # a configuration's knobs that vary, with their values

BEST_REMEMBERED, LATEST_REMEMBERED = 100, 200
BROKEN = 1.0  # how far a failed trial is from each bound at least: as far as a metric between 0 and 1 can be
FURTHER = 1.1  # times the furthest that any trained trial is from a bound, a failed one is
_WHEN = datetime(2000, 1, 1)  # Optuna wants a time of a trial that ended; no sampler reads it


@dataclass
class Entry:
    """One trial as a sampler meets it.

    Attributes:
        params: the knobs that vary, active ones only.
        attributes: what a sampler has noted of the trial.
        learned: from an earlier run.
    """

    number: int
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    attributes: dict[str, Any] = field(default_factory=dict)
    learned: bool = False


@dataclass(frozen=True)
class View:
    """How much of the ledger a sampler is shown.

    Attributes:
        forgets: only the best and the latest ended trials, so that a suggestion costs the same after 10,000 trials as
            after 300.
        running: a running trial that has come as far as a rung has its probable value.
        models_values: a failed trial is as bad as the worst that trained, instead of the worst there is: for samplers
            that model values rather than ranks, which one value far off would blind.
        gain: which quantile of the gains that others made a stopped trial is credited with; below one half is careful.
    """

    forgets: bool = True
    running: bool = True
    models_values: bool = False
    gain: float = 0.5


class Ledger:
    """Trials and their values, in the order in which the sampler met them.

    Args:
        objectives: metrics that are searched for, the first one deciding.
        bounds: ``{metric: {min, max}}``, told to the sampler as constraints.
        max_epochs: of a finished trial.

    Attributes:
        tried: what the knobs that vary were in the trials of this run.
    """

    def __init__(
        self, objectives: Sequence[str], bounds: Mapping[str, Mapping[str, float]], max_epochs: int, view: View
    ) -> None:
        self.objectives, self.bounds, self.max_epochs, self.view = tuple(objectives), bounds, max_epochs, view
        self._channels = tuple(dict.fromkeys((*objectives, *bounds)))
        self._worst_C = np.array([metrics.worst_value(name) for name in self._channels])
        self._signs_C = np.array([-1.0 if metrics.MAXIMIZE[name] else 1.0 for name in self._channels])
        self.entries: list[Entry] = []
        self.tried: set[Varied] = set()
        self._states: list[str] = []
        self._epochs: list[int] = []
        self._table_NEC = np.full((64, max_epochs + 1, len(self._channels)), np.nan)  # trial, epoch, metric

    def __len__(self) -> int:
        return len(self.entries)

    def add(
        self, params: dict[str, Any], distributions: dict[str, BaseDistribution], *, learned: bool = False
    ) -> Entry:
        """Adds a trial that starts now, or one `learned` from an earlier run. A learned one may be tried again in this
        run.
        """
        entry = Entry(len(self.entries), params, distributions, learned=learned)
        if not learned:
            self.tried.add(frozenset(params.items()))
        self.entries.append(entry)
        self._states.append(RUNNING)
        self._epochs.append(0)
        if len(self.entries) > len(self._table_NEC):
            self._table_NEC = np.concatenate([self._table_NEC, np.full_like(self._table_NEC, np.nan)])
        return entry

    def report(self, number: int, epoch: int, scores: Mapping[str, float]) -> None:
        """Takes in a trial's metrics after an epoch, once. A metric that is missing or not finite counts as the worst
        value.
        """
        for channel, name in enumerate(self._channels):
            found = scores.get(name, math.nan)
            self._table_NEC[number, epoch, channel] = found if math.isfinite(found) else self._worst_C[channel]
        self._epochs[number] = max(self._epochs[number], epoch)

    def end(self, number: int, state: str) -> None:
        """Takes in that a trial has ended, and in which state."""
        self._states[number] = state

    def running(self) -> int:
        """Counts the trials that have not ended."""
        return self.count(RUNNING)

    def pending(self) -> list[int]:
        """The places of the trials that have not ended."""
        return [number for number, state in enumerate(self._states) if state == RUNNING]

    def state(self, number: int) -> str:
        """Of a trial, as it was told last."""
        return self._states[number]

    def count(self, state: str) -> int:
        """Counts the trials in a state."""
        return self._states.count(state)

    def finals(self) -> dict[int, float]:
        """The first objective of each trial of this run that came to its end, by its place."""
        own = (entry.number for entry in self.entries if not entry.learned)
        ended = [number for number in own if self._states[number] == FINISHED]
        return {number: float(self._table_NEC[number, self._epochs[number], 0]) for number in ended}

    def probable_NC(self) -> Floats:
        """Estimates what each trial would reach at the deepest fidelity that any trial has reached, by metric.

        A failed trial has each metric's finite worst value; one that has not come as far as the first rung has NaN.
        """
        epochs_N, states_N = np.array(self._epochs, dtype=np.int64), np.array(self._states, dtype=object)
        failed_N = self._failed_N()
        levels = self._levels(epochs_N[~failed_N & (epochs_N > 0)], epochs_N[~failed_N & (states_N != RUNNING)])
        probable_NC = np.full((len(self), len(self._channels)), np.nan)
        if len(levels):
            level_N = np.searchsorted(levels, epochs_N, side="right") - 1
            known_N = (level_N >= 0) & ~failed_N & (self.view.running | (states_N != RUNNING))
            rows, at = np.flatnonzero(known_N), level_N[known_N]
            probable_NC[rows] = self._table_NEC[rows, levels[at]] + self._gains_LC(levels)[at]
        probable_NC[failed_N] = self._worst_seen_C(probable_NC) if self.view.models_values else self._worst_C
        return probable_NC

    def _failed_N(self) -> NDArray[np.bool_]:
        """Which trials failed, or ended before their first epoch."""
        epochs_N, states_N = np.array(self._epochs, dtype=np.int64), np.array(self._states, dtype=object)
        failed_N: NDArray[np.bool_] = (states_N == FAILED) | ((states_N != RUNNING) & (epochs_N == 0))
        return failed_N

    def _levels(self, reached: Ints, ended: Ints) -> Ints:
        """The epochs at which trials ended, and the deepest that any has reached; none before a trial has ended."""
        return np.unique(np.append(ended, reached.max())) if len(ended) else np.empty(0, dtype=np.int64)

    def _gains_LC(self, levels: Ints) -> Floats:
        """What is gained from each level to the deepest, in the median of the trials that made each step."""
        gains_LC = np.zeros((len(levels), len(self._channels)))
        table_NEC = self._table_NEC[: len(self)]
        for at in range(len(levels) - 2, -1, -1):
            steps_NC = table_NEC[:, levels[at + 1]] - table_NEC[:, levels[at]]
            made_NC = steps_NC[~np.isnan(steps_NC[:, 0])]
            gains_LC[at] = gains_LC[at + 1] + (self._gain_C(made_NC) if len(made_NC) else 0.0)
        return gains_LC

    def _gain_C(self, made_NC: Floats) -> Floats:
        """What to expect of a step that others made: in either direction of a metric, a low quantile is the worse."""
        better_C = np.quantile(-self._signs_C * made_NC, self.view.gain, axis=0)
        gain_C: Floats = -self._signs_C * better_C
        return gain_C

    def _worst_seen_C(self, probable_NC: Floats) -> Floats:
        seen_NC = probable_NC[~np.isnan(probable_NC[:, 0])]
        return (seen_NC * self._signs_C).max(axis=0) * self._signs_C if len(seen_NC) else self._worst_C

    def shown(self) -> list[FrozenTrial]:
        """Gives the trials as a sampler sees them, in the order of their numbers."""
        probable_NC, failed_N = self.probable_NC(), self._failed_N()
        beyond = self._beyond(probable_NC[~failed_N])
        return [
            self._frozen(self.entries[number], probable_NC[number], beyond if failed_N[number] else None)
            for number in self._remembered(probable_NC)
        ]

    def _beyond(self, trained_NC: Floats) -> dict[str, float]:
        """By how much a failed trial breaks each bound: by more than any that trained does, so that it is the least
        feasible by their sum too, whatever the metrics' units.
        """
        broken = [self.violations(row_C) for row_C in trained_NC if not np.isnan(row_C[0])]
        return {name: max([BROKEN, *(FURTHER * each[name] for each in broken)]) for name in self._bound_names}

    def _remembered(self, probable_NC: Floats) -> list[int]:
        """All; or, of those that are told, the best by each objective and the latest, and those that run."""
        told = np.flatnonzero(~np.isnan(probable_NC[:, 0]))
        if not self.view.forgets or len(told) <= BEST_REMEMBERED + LATEST_REMEMBERED:
            return list(range(len(self)))
        badness_NO = self._badness_NO(probable_NC[told])
        share = math.ceil(BEST_REMEMBERED / len(self.objectives))
        best = told[np.argsort(badness_NO, axis=0, kind="stable")[:share].ravel()]
        running = np.flatnonzero(np.isnan(probable_NC[:, 0]))
        kept: list[int] = np.unique(np.concatenate([best, running, told[-LATEST_REMEMBERED:]])).tolist()
        return kept

    def _badness_NO(self, probable_NC: Floats) -> Floats:
        """By objective, smaller is better; trials that probably break a bound come after all others."""
        objectives = len(self.objectives)
        broken_N = np.array([sum(max(by, 0.0) for by in self.violations(row_C).values()) for row_C in probable_NC])
        badness_NO: Floats = probable_NC[:, :objectives] * self._signs_C[:objectives] + 1e6 * broken_N[:, None]
        return badness_NO

    @property
    def _bound_names(self) -> list[str]:
        return [f"{name}.{end}" for name, bound in self.bounds.items() for end in ("min", "max") if end in bound]

    def violations(self, probable_C: Floats) -> dict[str, float]:
        """Measures by how much a trial breaks each bound; zero or less where it keeps the bound."""
        found: dict[str, float] = {}
        for name, bound in self.bounds.items():
            value = float(probable_C[self._channels.index(name)])
            if "min" in bound:
                found[f"{name}.min"] = metrics.excess(name, bound["min"], bound["min"] - value)
            if "max" in bound:
                found[f"{name}.max"] = metrics.excess(name, bound["max"], value - bound["max"])
        return found

    def _frozen(self, entry: Entry, probable_C: Floats, beyond: Mapping[str, float] | None) -> FrozenTrial:
        """As Optuna's samplers want it; `beyond` has a failed trial's distances from the bounds."""
        is_told = not math.isnan(probable_C[0])
        trial = FrozenTrial(
            number=entry.number,
            state=TrialState.COMPLETE if is_told else TrialState.RUNNING,
            value=None,
            values=probable_C[: len(self.objectives)].tolist() if is_told else None,
            datetime_start=_WHEN,
            datetime_complete=_WHEN if is_told else None,
            params=entry.params,
            distributions=entry.distributions,
            user_attrs={},
            system_attrs=dict(entry.attributes),
            intermediate_values={},
            trial_id=entry.number,
        )
        if is_told:
            for name, violation in (beyond or self.violations(probable_C)).items():
                trial.set_constraint(name, violation)
        return trial
