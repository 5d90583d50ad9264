"""What a run's events add up to: trials, candidates, models. Pure: no files, no clocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from facex_tune.metrics import MAXIMIZE
from facex_tune.runs.names import trial_label
from facex_tune.space import Config

if TYPE_CHECKING:
    from facex_tune.study import Study

RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"
_ORDER = {FINISHED: 0, STOPPED: 1, RUNNING: 2, FAILED: 3}


@dataclass
class Trial:
    """One configuration, and what came of it.

    Attributes:
        number: ours, from 0 in the order suggested.
        source: "start_with" or "sampler".
        epochs: epoch (1-based) -> the validation metrics at its end.
        seconds: what it has held its worker for so far, without waiting: its epochs', and the lost ones.
        lost_seconds: those of `seconds` that came to no epoch: of a failure, or of a worker that was lost.
        reason: why it failed, else "".
    """

    number: int
    config: Config
    source: str
    state: str = RUNNING
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    lost_seconds: float = 0.0
    reason: str = ""
    detail: str = ""

    @property
    def label(self) -> str:
        return trial_label(self.number)

    @property
    def last_epoch(self) -> int:
        return max(self.epochs, default=0)

    @property
    def metrics(self) -> dict[str, float]:
        """The validation metrics of the last epoch; empty before the first."""
        return self.epochs.get(self.last_epoch, {})


@dataclass(frozen=True)
class Candidate:
    """A trial chosen for retraining."""

    trial: int
    value: float
    rank: int


@dataclass(frozen=True)
class Learned:
    """What the sampler took over from an earlier run.

    Attributes:
        trials: how many of its trials.
        left_out: why others did not fit -> how many.
    """

    run: str
    trials: int
    left_out: dict[str, int]


@dataclass
class History:
    """Everything that the log has told so far."""

    trials: dict[int, Trial] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    models: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)
    failed_models: dict[tuple[int, int], str] = field(default_factory=dict)  # (candidate, seed) -> why there is none
    opened: dict[str, int] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)  # by the wall clock
    killed_stages: list[str] = field(default_factory=list)  # a session of each counts to its last event alone
    learned: list[Learned] = field(default_factory=list)

    @property
    def search_seconds(self) -> float:
        """The wall-clock seconds that the search has taken, over any number of resumes."""
        return self.stage_seconds.get("search", 0.0)

    def leaderboard(self, study: Study) -> list[Trial]:
        """Trials, best first: finished ones, then stopped (see `compared_at`), running (longer before shorter), failed.

        Only trials that keep the study's constraints come before those that break them; of several objectives' trials,
        the Pareto front comes first, and within it and behind it the first objective decides.
        """
        front, level = self.pareto(study), self.compared_at(study)

        def rank(trial: Trial) -> tuple[Any, ...]:
            judged_at = min(trial.last_epoch, level) if trial.state == STOPPED else trial.last_epoch
            fidelity = 0 if trial.state == FINISHED else -judged_at
            broken = not keeps(study.bounds, trial.metrics)
            behind = trial.number not in front
            return (
                _ORDER[trial.state],
                broken,
                behind,
                fidelity,
                badness(study.objective, trial.epochs.get(judged_at, {}))[0],
                trial.number,
            )

        return sorted(self.trials.values(), key=rank)

    def compared_at(self, study: Study) -> int:
        """Finds the epoch at which stopped trials are compared: the highest that enough of them have passed; 0 where no
        trial was stopped. A trial that was an epoch ahead when the budget ended gains nothing by that.

        Enough are `retrain.top` × `fidelity.reduction`, as many as a rung compares to keep `top`. Those that are a
        whole rung behind the furthest `top` do not count: they would take the comparison back to where it says little.
        """
        stopped = [trial for trial in self.trials.values() if trial.state == STOPPED and trial.epochs]
        kept = [trial for trial in stopped if keeps(study.bounds, trial.metrics)]
        reached = sorted((trial.last_epoch for trial in kept or stopped), reverse=True)
        if not reached:
            return 0
        top, reduction = study.retrain.top, study.fidelity.reduction
        rung_behind = reached[min(top, len(reached)) - 1] // reduction
        near = [epoch for epoch in reached if epoch > rung_behind]
        return near[min(top * reduction, len(near)) - 1]

    def pareto(self, study: Study) -> set[int]:
        """The numbers of the finished trials that keep every constraint and that no other such trial beats: none is at
        least as good in every objective and better in one.
        """
        eligible = [t for t in self.trials.values() if t.state == FINISHED and keeps(study.bounds, t.metrics)]
        return pareto_front({trial.number: badness(study.objective, trial.metrics) for trial in eligible})


def pareto_front(badness: Mapping[int, tuple[float, ...]]) -> set[int]:
    """Finds the points that no other point beats; smaller is better. Points with a value that is not finite are left
    out.
    """
    # in this order, one is beaten by another that comes before it, or by none
    front: list[tuple[tuple[float, ...], int]] = []
    for mine, number in sorted((each, number) for number, each in badness.items()):
        beaten = any(other != mine and _no_worse(other, mine) for other, _ in front)
        if math.isfinite(max(mine)) and not beaten:
            front.append((mine, number))
    return {number for _, number in front}


def badness(objectives: Sequence[str], metrics: Mapping[str, float]) -> tuple[float, ...]:
    """Gives a value for each objective, where smaller is better; infinity stands for one that was not measured."""
    values = ((name, metrics.get(name)) for name in objectives)
    return tuple(math.inf if value is None else -value if MAXIMIZE[name] else value for name, value in values)


def _no_worse(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(mine <= theirs for mine, theirs in zip(one, other, strict=True))


def baseline_of(history: History) -> Trial | None:
    """Finds the study's baseline: the first configuration of `start_with`, else the first that was tried, which no
    result has influenced.

    None where there is no trial, or it failed.
    """
    trials = sorted(history.trials.values(), key=lambda trial: (trial.source != "start_with", trial.number))
    return trials[0] if trials and trials[0].state != FAILED else None


def keeps(constraints: Mapping[str, Mapping[str, float]], metrics: Mapping[str, float]) -> bool:
    """Whether metrics keep every constraint ``{metric: {min, max}}``; an unmeasured metric breaks it."""
    return all(
        metric in metrics and bounds.get("min", float("-inf")) <= metrics[metric] <= bounds.get("max", float("inf"))
        for metric, bounds in constraints.items()
    )


def fold(events: Iterable[Mapping[str, Any]]) -> History:
    """Folds a run's events, in their order, into its history."""
    history = History()
    spans = _Spans()
    for event in events:
        spans.see(event)
        handler = _HANDLERS.get(event["type"])
        if handler is not None:
            handler(history, event)
    history.stage_seconds, history.killed_stages = spans.seconds, list(spans.killed)
    return history


def _trial_started(history: History, event: Mapping[str, Any]) -> None:
    history.trials.setdefault(event["trial"], Trial(event["trial"], dict(event["config"]), event["source"]))


def _epoch(history: History, event: Mapping[str, Any]) -> None:
    trial = history.trials[event["trial"]]
    if event["epoch"] not in trial.epochs:
        trial.epochs[event["epoch"]] = dict(event["metrics"])
        trial.seconds += event["seconds"]


def _ended(state: str) -> Any:
    def handle(history: History, event: Mapping[str, Any]) -> None:
        trial = history.trials[event["trial"]]
        if trial.state == RUNNING:  # told again, its end counts once
            _lose_seconds(trial, event)
        trial.state, trial.reason, trial.detail = state, event.get("reason", ""), event.get("detail", "")

    return handle


def _recovered(history: History, event: Mapping[str, Any]) -> None:
    _lose_seconds(history.trials[event["trial"]], event)


def _lose_seconds(trial: Trial, event: Mapping[str, Any]) -> None:
    seconds = event.get("seconds", 0.0)  # older logs tell none
    trial.seconds += seconds
    trial.lost_seconds += seconds


def _learned(history: History, event: Mapping[str, Any]) -> None:
    if event["run"] not in [learned.run for learned in history.learned]:
        history.learned.append(Learned(event["run"], len(event["trials"]), dict(event["left_out"])))


def _candidate_chosen(history: History, event: Mapping[str, Any]) -> None:
    if event["trial"] not in [candidate.trial for candidate in history.candidates]:
        history.candidates.append(Candidate(event["trial"], event["value"], event["rank"]))


def _model_finished(history: History, event: Mapping[str, Any]) -> None:
    history.models[event["candidate"], event["seed"]] = dict(event["metrics"])
    history.failed_models.pop((event["candidate"], event["seed"]), None)


def _model_failed(history: History, event: Mapping[str, Any]) -> None:
    if (event["candidate"], event["seed"]) not in history.models:
        history.failed_models[event["candidate"], event["seed"]] = event["reason"]


def _test_opened(history: History, event: Mapping[str, Any]) -> None:
    history.opened[event["protocol"]] = history.opened.get(event["protocol"], 0) + 1


def _stage_started(history: History, event: Mapping[str, Any]) -> None:
    if event["stage"] == "retrain" and history.stages.get("retrain") == "finished":
        history.failed_models.clear()  # asked for anew, perhaps on a larger machine: they are tried again
    history.stages[event["stage"]] = "started"


def _stage_finished(history: History, event: Mapping[str, Any]) -> None:
    history.stages[event["stage"]] = "finished"


_HANDLERS: dict[str, Any] = {
    "trial_started": _trial_started,
    "epoch": _epoch,
    "trial_finished": _ended(FINISHED),
    "trial_stopped": _ended(STOPPED),
    "trial_failed": _ended(FAILED),
    "trial_recovered": _recovered,
    "learned": _learned,
    "candidate_chosen": _candidate_chosen,
    "model_finished": _model_finished,
    "model_failed": _model_failed,
    "test_opened": _test_opened,
    "stage_started": _stage_started,
    "stage_finished": _stage_finished,
}


class _Spans:
    """Wall-clock seconds of each stage, over any number of resumes: a killed driver's idle time does not count."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.killed: dict[str, None] = {}
        self._open = ""
        self._last: datetime | None = None

    def see(self, event: Mapping[str, Any]) -> None:
        now = datetime.fromisoformat(event["time_utc"])
        if event["type"] in ("run_started", "run_resumed") and self._open:
            self.killed[self._open] = None
            self._open = ""
        if self._open and self._last is not None:
            self.seconds[self._open] = self.seconds.get(self._open, 0.0) + (now - self._last).total_seconds()
        self._last = now
        if event["type"] in ("stage_started", "stage_finished"):
            self._open = event["stage"] if event["type"] == "stage_started" else ""
        elif event["type"] == "run_interrupted":
            self._open = ""


def best_of_each(values: Sequence[float], maximize: bool) -> list[float]:
    """Gives the best value so far after each of `values`, which is a search's progress."""
    best: list[float] = []
    for value in values:
        better = value if not best else (max(best[-1], value) if maximize else min(best[-1], value))
        best.append(better)
    return best
