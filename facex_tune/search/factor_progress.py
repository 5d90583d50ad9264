"""What a user asks of the factor study, and how far it has come. Apart from it, so that both are read without Ray."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from facex_tune.errors import InputError
from facex_tune.runs.events import (
    FACTOR_EVENTS,
    SESSION_EVENTS,
    STAGE_EVENTS,
    FactorEpoch,
    FactorFailed,
    FactorFinished,
    FactorsPlanned,
    FactorStarted,
    StageFinished,
    StageStarted,
)
from facex_tune.runs.history import History
from facex_tune.search.factor_design import Cell

STAGE = "factors"


@dataclass(frozen=True)
class Asked:
    """What a session of the factor study was asked for. None takes the default, or what the run planned before.

    Attributes:
        seeds: replicates of each configuration.
        epochs: of each; fidelity.max_epochs by default.
        budget_s: wall clock of this session; what is not reached waits for the next.
    """

    seeds: int | None = None
    epochs: int | None = None
    budget_s: float | None = None

    @classmethod
    def interrupted(cls, events: Iterable[Mapping[str, Any]]) -> Asked | None:
        """What the study's last session had left of its budget when it last logged a run, where a signal or a crash
        cut it short; all that it was asked for, where that was before it began; None where it came to its end, or was
        never asked for.
        """
        began = last = None
        said: Mapping[str, Any] | None = None
        for event in events:
            if event["type"] in SESSION_EVENTS:
                said = event.get("options", {}).get("factors") or said
            elif event["type"] in STAGE_EVENTS and event["stage"] == STAGE:
                said = None
            if event["type"] == StageStarted.TYPE and event["stage"] == STAGE:
                began = last = event
            elif event["type"] == StageFinished.TYPE and event["stage"] == STAGE:
                began = None
            elif event["type"] in FACTOR_EVENTS:
                last = event
        if said is not None:
            return cls(**said)
        if began is None or last is None:
            return None
        if "budget_s" not in began:
            return cls()
        ended, started = (datetime.fromisoformat(event["time_utc"]) for event in (last, began))
        return cls(budget_s=max(0.0, began["budget_s"] - (ended - started).total_seconds()))

    @staticmethod
    def seconds(said: str | None) -> float | None:
        """Reads a duration: ``2h``, ``45m`` or plain seconds.

        Raises:
            InputError: no duration, or none that lasts.
        """
        from facex_tune import study

        try:
            budget_s = study.seconds(float(said) if said and said.replace(".", "", 1).isdecimal() else said)
        except ValueError as error:
            raise InputError(f"--time: {error}") from error
        if budget_s is not None and budget_s <= 0:
            raise InputError(f"--time {said}: a budget lasts longer than nothing, such as 30m or 2h")
        return None if budget_s is None else float(budget_s)


def winner_of(history: History, words: str) -> int:
    """Finds the trial that the study varies: the best-ranked candidate that has a model; where none has, the
    best-ranked.

    Args:
        words: the run's, see `Run.words`.

    Raises:
        InputError: none was chosen yet.
    """
    if not history.candidates:
        raise InputError(f"this run has no winner to vary: run `facex-tune retrain {words}` first")
    with_model = {trial for trial, _ in history.models}
    trained = [candidate for candidate in history.candidates if candidate.trial in with_model]
    return min(trained or history.candidates, key=lambda candidate: candidate.rank).trial


@dataclass
class Progress:
    """What the events say of the study: its plan, and what came of each run, which is a (cell, seed).

    Attributes:
        finished, failed: a run's metrics, or why it failed.
        running: runs under way and what their last epoch told, as far as this process heard of them: no log has it.
    """

    plan: dict[str, Any] | None = None
    finished: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    failed: dict[tuple[str, int], str] = field(default_factory=dict)
    running: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[Mapping[str, Any]]) -> Progress:
        progress = cls()
        for event in events:
            progress.see(event)
        return progress

    def see(self, event: Mapping[str, Any]) -> None:
        """Folds one event in; one that is not of the factor study changes nothing."""
        kind = event["type"]
        if kind == FactorsPlanned.TYPE:
            self.plan = dict(event)
        elif kind in (FactorStarted.TYPE, FactorEpoch.TYPE):
            self.running[event["cell"], event["seed"]] = dict(event)
        elif kind in (FactorFinished.TYPE, FactorFailed.TYPE):
            run = event["cell"], event["seed"]
            self.running.pop(run, None)
            if kind == FactorFinished.TYPE:
                self.finished[run] = dict(event["metrics"])
            else:
                self.failed[run] = event["reason"]

    @property
    def cells(self) -> list[Cell]:
        return [Cell.from_data(each) for each in self.plan["cells"]] if self.plan else []

    @property
    def seeds(self) -> int:
        """The number of runs of each cell."""
        return int(self.plan["seeds"]) if self.plan else 0

    @property
    def epochs(self) -> int:
        """The number of epochs of each run."""
        return int(self.plan["epochs"]) if self.plan else 0

    @property
    def total(self) -> int:
        """The number of runs that are planned."""
        return len(self.plan["cells"]) * self.seeds if self.plan else 0

    @property
    def ended(self) -> int:
        return len(self.finished) + len(self.failed)

    @property
    def share_done(self) -> float | None:
        """The share of all epochs that is trained, from 0 to 1; None before there is a plan."""
        if not self.total:
            return None
        begun = sum(int(event.get("epoch", 0)) for event in self.running.values())
        return (self.ended * self.epochs + begun) / (self.total * self.epochs)

    @property
    def left(self) -> list[tuple[int, Cell, int]]:
        """The runs still to be trained, as (number, cell, seed), cell after cell."""
        return [
            (number, cell, seed)
            for number, cell in enumerate(self.cells)
            for seed in range(self.seeds)
            if (cell.name, seed) not in self.finished and (cell.name, seed) not in self.failed
        ]

    def values(self, cell: str, metric: str) -> dict[int, float]:
        """A metric of the cell's finished runs, by seed."""
        runs = {seed: metrics for (name, seed), metrics in self.finished.items() if name == cell}
        return {seed: metrics[metric] for seed, metrics in runs.items() if metric in metrics}

    def gain(self, cell: str, metric: str) -> float:
        """The mean difference to the reference, over the seeds that both have finished; NaN where there is none."""
        own, reference = self.values(cell, metric), self.values("reference", metric)
        gaps = [own[seed] - reference[seed] for seed in own.keys() & reference.keys()]
        return sum(gaps) / len(gaps) if gaps else math.nan
