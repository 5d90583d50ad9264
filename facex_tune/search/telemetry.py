"""What Ray's dashboard and Prometheus show of a run: a few figures by run, none by trial, so that a thousand trials
make no thousand time series. Prometheus sees each name with `ray_` before it.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Counter, Gauge

from facex_tune.metrics import MAXIMIZE
from facex_tune.runs.events import (
    EpochDone,
    ModelEpoch,
    ModelFailed,
    ModelFinished,
    TrialFailed,
    TrialPaused,
    TrialRecovered,
    TrialStarted,
)
from facex_tune.runs.history import ENDS, FAILED, FINISHED, RUNNING, STOPPED, History
from facex_tune.runs.store import Event
from facex_tune.study import Study

STATES = (RUNNING, FINISHED, STOPPED, FAILED)


class Telemetry:
    """A listener of a run's log. Needs a Ray that has been started.

    Args:
        history: what has happened before this driver.
    """

    def __init__(self, run: str, study: Study, history: History) -> None:
        self._tags = {"run": run}
        self._study, self._objective = study, study.objective[0]
        self._state = {number: trial.state for number, trial in history.trials.items()}
        self._seconds = sum(trial.seconds for trial in history.trials.values())
        self._best: dict[int, float] = {}  # by epoch, which a rung is
        self._images_per_second: dict[Any, float] = {}
        self._trials = _gauge("facex_trials", "trials by state", "state")
        self._best_value = _gauge("facex_best_value", "best value so far, of the study's first objective", "metric")
        self._rung_value = _gauge("facex_rung_best_value", "best value at an epoch where trials are compared", "rung")
        self._budget_left = _gauge("facex_budget_left", "share of the budget that is left", "budget")
        self._speed = _gauge("facex_images_per_second", "training faces a second, all running trials together", "stage")
        self._epochs = Counter("facex_epochs", "epochs completed", ("run", "stage"))
        self._stops = Counter("facex_guard_stops", "trials ended by a guard", ("run", "reason"))
        for trial in history.trials.values():
            for epoch, metrics in trial.epochs.items():
                self._seen(epoch, metrics)
        self._show()

    def __call__(self, event: Event) -> None:
        kind = event["type"]
        if kind == TrialStarted.TYPE:
            self._state[event["trial"]] = RUNNING
        elif kind == EpochDone.TYPE:
            self._seconds += event["seconds"]
            self._epochs.inc(1, self._tags | {"stage": "search"})
            self._ran(event["trial"], event["metrics"], "search")
            self._seen(event["epoch"], event["metrics"])
        elif kind == ModelEpoch.TYPE:
            self._epochs.inc(1, self._tags | {"stage": "retrain"})
            self._ran((event["candidate"], event["seed"]), event["metrics"], "retrain")
        elif kind == TrialPaused.TYPE:
            self._ended(event["trial"], "search")
        elif kind in ENDS:
            self._state[event["trial"]] = ENDS[kind]
            self._ended(event["trial"], "search")
            self._seconds += event.get("seconds", 0.0)
            if kind == TrialFailed.TYPE:
                self._stops.inc(1, self._tags | {"reason": event["reason"]})
        elif kind == TrialRecovered.TYPE:
            self._seconds += event.get("seconds", 0.0)
        elif kind in (ModelFinished.TYPE, ModelFailed.TYPE):
            self._ended((event["candidate"], event["seed"]), "retrain")
        else:
            return
        self._show()

    def _ran(self, who: Any, metrics: Mapping[str, float], stage: str) -> None:
        self._images_per_second[who] = metrics.get("train_images_per_second", 0.0)
        self._speed.set(sum(self._images_per_second.values()), self._tags | {"stage": stage})

    def _ended(self, who: Any, stage: str) -> None:
        self._images_per_second.pop(who, None)
        self._speed.set(sum(self._images_per_second.values()), self._tags | {"stage": stage})

    def _seen(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if self._objective not in metrics:  # the referee says so
            return
        value, better = metrics[self._objective], max if MAXIMIZE[self._objective] else min
        self._best[epoch] = better(value, self._best.get(epoch, value))

    def _show(self) -> None:
        tally = Tally(self._state.values())
        for state in STATES:
            self._trials.set(tally[state], self._tags | {"state": state})
        if self._best:
            best = (max if MAXIMIZE[self._objective] else min)(self._best.values())
            self._best_value.set(best, self._tags | {"metric": self._objective})
        for rung in _rungs(self._study):
            if rung in self._best:
                self._rung_value.set(self._best[rung], self._tags | {"rung": str(rung)})
        for budget, share in self._left().items():
            self._budget_left.set(share, self._tags | {"budget": budget})

    def _left(self) -> dict[str, float]:
        budget, left = self._study.budget, {}
        if budget.trials is not None:
            ended = sum(state != RUNNING for state in self._state.values())
            left["trials"] = max(0.0, 1 - ended / budget.trials)
        if budget.gpu_hours is not None:
            used = self._seconds * self._study.resources.gpus / 3600
            left["gpu_hours"] = max(0.0, 1 - used / budget.gpu_hours)
        return left


_gpu_memory: dict[str, Gauge] = {}  # by run: a gauge is made once


def tell_gpu_memory(run: str) -> None:
    """Tells, from a worker, how much of its GPU's memory this process holds; nothing without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return
    if run not in _gpu_memory:
        _gpu_memory[run] = Gauge("facex_gpu_memory_bytes", "GPU memory held by trials", ("run",))
    _gpu_memory[run].set(torch.cuda.memory_reserved(), {"run": run})


def _rungs(study: Study) -> list[int]:
    """Epochs at which trials are compared, the last one with them."""
    fidelity = study.fidelity
    rungs, epoch = [], fidelity.min_epochs
    while epoch < fidelity.max_epochs:
        rungs.append(epoch)
        epoch *= fidelity.reduction
    return [*rungs, fidelity.max_epochs]


def _gauge(name: str, description: str, tag: str) -> Gauge:
    return Gauge(name, description, ("run", tag))
