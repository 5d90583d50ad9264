"""What a run's events add up to: trials, candidates, models. Pure: no files, no clocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from facex_tune.metrics import MAXIMIZE
from facex_tune.space import Config

if TYPE_CHECKING:
    from facex_tune.study import Study

RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"
_ORDER = {FINISHED: 0, STOPPED: 1, RUNNING: 2, FAILED: 3}


@dataclass
class Trial:
    """One configuration's story.

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
        return f"t{self.number:04d}"

    @property
    def last_epoch(self) -> int:
        return max(self.epochs, default=0)

    @property
    def metrics(self) -> dict[str, float]:
        """The last epoch's, empty before the first."""
        return self.epochs.get(self.last_epoch, {})


@dataclass(frozen=True)
class Standing:
    """Where a trial stands among all. Trials of one configuration, which differ by their seeds, are ranked once.

    Attributes:
        rank: its configuration's, from 1.
        of: the trial that stands for the configuration; the trial itself where it is no repeat.
        n: how many trials of the configuration came as far as the one that stands for it.
        mean: their metrics' means, by which the configuration is ranked.
    """

    rank: int
    trial: Trial
    of: Trial
    n: int
    mean: dict[str, float]

    @property
    def repeats(self) -> str | None:
        """The label of the trial that it repeats."""
        return None if self.of is self.trial else self.of.label


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
    """Everything that the log says so far."""

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
        """The search's share of `stage_seconds`."""
        return self.stage_seconds.get("search", 0.0)

    def leaderboard(self, study: Study) -> list[Trial]:
        """The trials of `standings`."""
        return [standing.trial for standing in self.standings(study)]

    def standings(self, study: Study) -> list[Standing]:
        """Trials, best first: finished ones, then stopped (see `compared_at`), running (longer before shorter), failed.

        Only trials that keep the study's constraints come before those that break them; of several objectives' trials,
        the Pareto front comes first, and within it and behind it the first objective decides. Trials of one
        configuration stand together and are judged by their mean.
        """
        front, level = self.pareto(study), self.compared_at(study)
        groups = [_Repeats.of(trials, level) for trials in self._by_configuration()]

        def place(group: _Repeats) -> tuple[Any, ...]:
            state, fidelity = group.standing
            broken = not keeps(study.bounds, _mean([trial.metrics for trial in group.peers]))
            behind = group.lead.number not in front
            return state, broken, behind, fidelity, badness(study.objective, group.mean)[0], group.lead.number

        return [
            Standing(rank, trial, group.lead, len(group.peers), group.mean)
            for rank, group in enumerate(sorted(groups, key=place), start=1)
            for trial in group.trials
        ]

    def _by_configuration(self) -> list[list[Trial]]:
        """Trials that differ by their seeds alone, together."""
        found: dict[Any, list[Trial]] = {}
        for number in sorted(self.trials):
            trial = self.trials[number]
            found.setdefault(repr(sorted(trial.config.items())), []).append(trial)
        return list(found.values())

    def compared_at(self, study: Study) -> int:
        """The epoch at which stopped trials are compared, 0 where there are none: the highest that enough of them have
        passed, so that one which the end of a budget found an epoch ahead wins nothing by that.

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
        least as good in every objective and better in one. Of a configuration that was repeated the mean is compared,
        and one trial stands for it.
        """
        groups = (_Repeats.of(trials, 0) for trials in self._by_configuration())
        eligible = [each for each in groups if each.lead.state == FINISHED and keeps(study.bounds, each.mean)]
        return pareto_front({each.lead.number: badness(study.objective, each.mean) for each in eligible})


@dataclass(frozen=True)
class _Repeats:
    """The trials of one configuration.

    Attributes:
        trials: those that came furthest before the others, by number.
        peers: those that came furthest: their state is the best, and they are judged at the same epoch.
        standing: of those, smaller is better: the state and the fidelity.
        mean: the metrics that all of them have, at the epoch at which they are judged.
    """

    trials: list[Trial]
    peers: list[Trial]
    standing: tuple[int, int]
    mean: dict[str, float]

    @property
    def lead(self) -> Trial:
        return self.peers[0]

    @classmethod
    def of(cls, trials: Sequence[Trial], level: int) -> _Repeats:
        """
        Args:
            level: the epoch up to which stopped trials are judged (see `History.compared_at`).
        """

        def judged_at(trial: Trial) -> int:
            return min(trial.last_epoch, level) if trial.state == STOPPED else trial.last_epoch

        def standing(trial: Trial) -> tuple[int, int]:
            return _ORDER[trial.state], 0 if trial.state == FINISHED else -judged_at(trial)

        ordered = sorted(trials, key=lambda trial: (standing(trial), trial.number))
        best = standing(ordered[0])
        peers = [trial for trial in ordered if standing(trial) == best]
        return cls(ordered, peers, best, _mean([trial.epochs.get(judged_at(trial), {}) for trial in peers]))


def _mean(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each metric that all have; of one, its own values."""
    return {name: sum(each[name] for each in found) / len(found) for name in found[0] if all(name in e for e in found)}


def pareto_front(badness: Mapping[int, tuple[float, ...]]) -> set[int]:
    """The numbers that no other beats, of those whose every value is finite; smaller is better."""
    # in this order, one is beaten by another that comes before it, or by none
    front: list[tuple[tuple[float, ...], int]] = []
    for mine, number in sorted((each, number) for number, each in badness.items()):
        beaten = any(other != mine and _no_worse(other, mine) for other, _ in front)
        if math.isfinite(max(mine)) and not beaten:
            front.append((mine, number))
    return {number for _, number in front}


def badness(objectives: Sequence[str], metrics: Mapping[str, float]) -> tuple[float, ...]:
    """By objective, smaller is better; infinite where it was not measured."""
    values = ((name, metrics.get(name)) for name in objectives)
    return tuple(math.inf if value is None else -value if MAXIMIZE[name] else value for name, value in values)


def _no_worse(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(mine <= theirs for mine, theirs in zip(one, other, strict=True))


def baseline_of(history: History) -> Trial | None:
    """The study's baseline: its first configuration to start with, else the first that was tried, chosen by nobody.

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
    """The history that a run's events tell, in their order."""
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
    """The best value so far, after each of `values`: a search's progress."""
    best: list[float] = []
    for value in values:
        better = value if not best else (max(best[-1], value) if maximize else min(best[-1], value))
        best.append(better)
    return best
