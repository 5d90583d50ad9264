"""The search as an Optuna study: a JournalStorage file, which optuna-dashboard opens and `optuna.load_study` reads.

A journal, because it is one file that grows at its end: a dashboard that has it open sees a search go on. Written from
the run's log, never read by a search.
"""

from __future__ import annotations

import math
import os
import secrets
import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileSymlinkLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from facex_tune.metrics import MAXIMIZE
from facex_tune.runs.frames import Times
from facex_tune.runs.history import FAILED, FINISHED, RUNNING, STOPPED, History, Trial
from facex_tune.runs.store import Run
from facex_tune.search.samplers import distribution
from facex_tune.space import is_fixed
from facex_tune.study import Study

STALE_LOCK_S = 3  # an append takes milliseconds; Optuna's own patience with a dead writer's lock is 30 s
STATES = {
    RUNNING: TrialState.RUNNING,
    FINISHED: TrialState.COMPLETE,
    STOPPED: TrialState.PRUNED,  # what a rung or a budget cut short is never taken for complete
    FAILED: TrialState.FAIL,
}


class OptunaJournal:
    """One run as an Optuna study of the run's name; `update` brings it up to date.

    Args:
        path: the file; one that is there is written anew.
    """

    def __init__(self, run: Run, path: Path) -> None:
        self.run, self.path = run, path.absolute()  # Optuna's lock is a link, which would read a relative path anew
        self._study = run.study
        self._distributions = {
            name: distribution(knob) for name, knob in self._study.space.knobs() if not is_fixed(knob)
        }
        self._pending = _Pending()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = JournalStorage(self._pending)
        self._study_id = self._begin()
        self._ids: dict[int, int] = {}  # our number -> Optuna's id
        self._told: dict[int, int] = {}  # our number -> the last epoch that was told, of trials that still run
        self._is_begun = False

    def _begin(self) -> int:
        study = self._study
        directions = [
            StudyDirection.MAXIMIZE if MAXIMIZE[each] else StudyDirection.MINIMIZE for each in study.objective
        ]
        study_id = self._storage.create_new_study(directions, self.run.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # metric names have been so since Optuna 3
            optuna.load_study(study_name=self.run.name, storage=self._storage).set_metric_names(list(study.objective))
        fixed = {name: knob.default for name, knob in study.space.knobs() if is_fixed(knob)}
        about = {"study": study.name, "data": study.data_text, "max_epochs": study.fidelity.max_epochs, "fixed": fixed}
        for name, value in about.items():
            self._storage.set_study_user_attr(study_id, name, value)
        return study_id

    def update(self, history: History, times: Times) -> None:
        """Adds what is new: trials, epochs, ends. The file grows at its end and is whole after each call."""
        for number in sorted(history.trials):
            trial = history.trials[number]
            if number not in self._ids:
                self._add(trial, times)
            elif number in self._told:
                self._go_on(trial)
        self._write()

    def _add(self, trial: Trial, times: Times) -> None:
        frozen = self._frozen(trial, times)
        self._ids[trial.number] = self._storage.create_new_trial(self._study_id, frozen)
        if frozen.state == TrialState.RUNNING:
            self._told[trial.number] = trial.last_epoch

    def _frozen(self, trial: Trial, times: Times) -> FrozenTrial:
        state, values = self._end(trial)
        params = {name: trial.config[name] for name in self._distributions if name in trial.config}
        frozen = optuna.trial.create_trial(
            state=state,
            values=values,
            params=params,
            distributions={name: self._distributions[name] for name in params},
            user_attrs=self._user_attrs(trial),
            system_attrs=_constraints(self._study, trial) if state != TrialState.RUNNING else {},
            intermediate_values=dict(self._curve(trial, after=0)),
        )
        frozen.datetime_start = datetime.fromisoformat(times.started[trial.number])
        if state != TrialState.RUNNING:
            frozen.datetime_complete = datetime.fromisoformat(times.ended[trial.number])
        return frozen

    def _go_on(self, trial: Trial) -> None:
        """A trial that ran when it was told last; an end that is told so has the time of telling."""
        trial_id = self._ids[trial.number]
        for epoch, value in self._curve(trial, after=self._told[trial.number]):
            self._storage.set_trial_intermediate_value(trial_id, epoch, value)
        self._told[trial.number] = trial.last_epoch
        state, values = self._end(trial)
        if state == TrialState.RUNNING:
            return
        for name, told in self._user_attrs(trial).items():
            self._storage.set_trial_user_attr(trial_id, name, told)
        for name, bound in _constraints(self._study, trial).items():
            self._storage.set_trial_system_attr(trial_id, name, bound)
        self._storage.set_trial_state_values(trial_id, state, values)
        del self._told[trial.number]

    def _end(self, trial: Trial) -> tuple[TrialState, list[float] | None]:
        """State and values as Optuna's own `tell` leaves them; one that has no finite value cannot be complete."""
        state = STATES[trial.state]
        values = [trial.metrics.get(name, math.nan) for name in self._study.objective]
        if not all(map(math.isfinite, values)):
            return (TrialState.FAIL if state == TrialState.COMPLETE else state), None
        if state == TrialState.COMPLETE or (state == TrialState.PRUNED and len(values) == 1):
            return state, values
        return state, None

    def _curve(self, trial: Trial, after: int) -> Iterable[tuple[int, float]]:
        """The first objective by epoch: what the scheduler compares."""
        for epoch in sorted(trial.epochs):
            value = trial.epochs[epoch].get(self._study.objective[0], math.nan)
            if epoch > after and math.isfinite(value):
                yield epoch, value

    def _user_attrs(self, trial: Trial) -> dict[str, Any]:
        """What a reader of the dashboard asks beside the values: how far it came, why it ended, its other scores."""
        said = {"trial": trial.label, "source": trial.source, "reason": trial.reason, "detail": trial.detail}
        about = {name: value for name, value in said.items() if value}
        if trial.state == RUNNING:
            return about
        return {**about, "epochs": trial.last_epoch, "seconds": round(trial.seconds, 3), **trial.metrics}

    def _write(self) -> None:
        """The journal's own writer, so that its form is Optuna's; the first time into a file that is then renamed."""
        logs = self._pending.take()
        if self._is_begun and not logs:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = JournalFileSymlinkLock(str(self.path), grace_period=STALE_LOCK_S)
        if self._is_begun:
            JournalFileBackend(str(self.path), lock).append_logs(logs)
            return
        part = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}.part")
        JournalFileBackend(str(part), _NoLock(str(part))).append_logs(logs)
        self._begin_file(part, lock)
        self._is_begun = True

    def _begin_file(self, part: Path, lock: JournalFileSymlinkLock) -> None:
        """Puts the file in its place, under the lock where others may write there, and with it away what a killed
        mirror left: its lock, which would keep every writer waiting, and its own part.
        """
        if self.path.exists():
            lock.acquire()
            try:
                os.replace(part, self.path)
            finally:
                lock.release()
        else:
            self.path.with_name(f"{self.path.name}.lock").unlink(missing_ok=True)
            os.replace(part, self.path)
        for left in self.path.parent.glob(f".{self.path.name}.*.part"):
            left.unlink(missing_ok=True)


class _NoLock(JournalFileSymlinkLock):
    """Of a file that nobody else knows."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        """Nothing was taken."""


class _Pending(BaseJournalBackend):
    """A journal in memory: thousands of records become one write."""

    def __init__(self) -> None:
        self._logs: list[dict[str, Any]] = []
        self._taken = 0

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += logs

    def take(self) -> list[dict[str, Any]]:
        """The records since the last call."""
        new, self._taken = self._logs[self._taken :], len(self._logs)
        return new


def _constraints(study: Study, trial: Trial) -> dict[str, list[float]]:
    """The study's constraints in Optuna's form: above 0 is broken."""
    found: Mapping[str, float] = trial.metrics
    values = [
        bound - found[metric] if side == "min" else found[metric] - bound
        for metric, bounds in study.bounds.items()
        for side, bound in bounds.items()
        if metric in found
    ]
    return {"constraints": values} if values else {}
