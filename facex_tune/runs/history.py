"""What a run's events add up to: trials, candidates, models. Pure: no files, no clocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from facex_tune.metrics import MAXIMIZE, excess
from facex_tune.runs.events import (
    SESSION_EVENTS,
    STAGE_EVENTS,
    BudgetRaised,
    CandidateChosen,
    EpochDone,
    LearnedFrom,
    ModelFailed,
    ModelFinished,
    RunInterrupted,
    SealedSetOpened,
    SearchSettled,
    StageFinished,
    StageStarted,
    ThreadsChosen,
    TrialFailed,
    TrialFinished,
    TrialPaused,
    TrialPromoted,
    TrialRecovered,
    TrialStarted,
    TrialStopped,
)
from facex_tune.runs.names import ALL, trial_label
from facex_tune.space import Config
from facex_tune.study.words import clock

if TYPE_CHECKING:
    from facex_tune.study import Study

RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"
BY_BUDGET = "budget"  # begins the reason of a trial that the end of a budget stopped, and no rung
ENDS = {TrialFinished.TYPE: FINISHED, TrialStopped.TYPE: STOPPED, TrialFailed.TYPE: FAILED}  # event -> state
AFTER_A_RAISE = ("search", "retrain", "evaluate", "report")  # stages that a raised budget opens again
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
        threads: that it trains with, where they were chosen for it.
        paused: waits at a rung, without a worker; its state is still "running".
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
    threads: int | None = None
    paused: bool = False

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


@dataclass(frozen=True)
class Raise:
    """One time that the budget was raised.

    Attributes:
        was, budget: before and from then on.
        opened: sealed set -> how often it had been opened by then.
    """

    was: dict[str, Any]
    budget: dict[str, Any]
    opened: dict[str, int]

    def __str__(self) -> str:
        now = {name: value for name, value in self.budget.items() if value != self.was.get(name)}
        return ", ".join(f"{name} {_budget(name, self.was.get(name))} → {_budget(name, now[name])}" for name in now)


def _budget(name: str, value: float | None) -> str:
    if value is None:
        return "without end"
    return clock(value) if name == "time" else f"{value:g}"


@dataclass(frozen=True)
class Settled:
    """Why `search.stop_when_settled` ended the search; see `events.SearchSettled`."""

    left: float
    noise: float
    ended: int
    finished: int

    def told(self, objective: str) -> str:
        """As a sentence."""
        return (
            f"the search had settled after {self.ended} trials, {self.finished} of them finished: the best of all "
            f"configurations is expected to be better than the best one found by {self.left:.2g} {objective}, and the "
            f"value of one training is known to {self.noise:.2g}"
        )


@dataclass
class History:
    """Everything that the log has told so far."""

    trials: dict[int, Trial] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    models: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)
    failed_models: dict[tuple[int, int], str] = field(default_factory=dict)  # (candidate, seed) -> why there is none
    # of `retrain: {on: all}`, apart from the others, since validation says nothing honest of them
    models_on_all: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)
    failed_on_all: dict[tuple[int, int], str] = field(default_factory=dict)
    opened: dict[str, int] = field(default_factory=dict)
    threads: dict[str, dict[str, int]] = field(default_factory=dict)  # stage -> what it chose, see `ThreadsChosen`
    stages: dict[str, str] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)  # by the wall clock
    killed_stages: list[str] = field(default_factory=list)  # a session of each counts to its last event alone
    learned: list[Learned] = field(default_factory=list)
    settled: Settled | None = None  # `search.stop_when_settled` ended the search
    raises: list[Raise] = field(default_factory=list)
    choice_stands: bool = False  # of the candidates: a model of one has ended since they were chosen
    last: Mapping[str, Any] | None = field(default=None, compare=False)  # event, of those that were taken in
    _spans: _Spans = field(default_factory=lambda: _Spans(), compare=False, repr=False)
    _models_before: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)  # the budget was raised
    _on_all_before: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)

    def see(self, event: Mapping[str, Any]) -> None:
        """Takes in the next event."""
        self.last = event
        self._spans.see(event)
        self.stage_seconds, self.killed_stages = self._spans.seconds, list(self._spans.killed)
        handler = _HANDLERS.get(event["type"])
        if handler is not None:
            handler(self, event)

    @property
    def finished_models(self) -> list[tuple[int, int]]:
        """(candidate, seed) of every retrained model, the best candidate first, which is the winner; none of those
        `on_all`.
        """
        rank = {candidate.trial: candidate.rank for candidate in self.candidates}
        return sorted(self.models, key=lambda key: (rank.get(key[0], len(rank)), key))

    @property
    def search_seconds(self) -> float:
        """The wall-clock seconds that the search has taken, over any number of resumes."""
        return self.stage_seconds.get("search", 0.0)

    def leaderboard(self, study: Study) -> list[Trial]:
        """The trials of `standings`."""
        return [standing.trial for standing in self.standings(study)]

    def standings(self, study: Study) -> list[Standing]:
        """Trials, best first: those that keep the study's constraints, then those that break them, then failed ones;
        behind all others those without an epoch, so that ranks of what was measured have no gaps.

        Among either, finished ones come first, then stopped (see `compared_at`) and running (longer before shorter); of
        several objectives' trials, the Pareto front comes first, and within it and behind it the first objective
        decides. Trials of one configuration stand together and are judged by their mean.
        """
        front = self.pareto(study)

        def place(group: _Repeats) -> tuple[Any, ...]:
            state, fidelity = group.standing
            broken = not keeps(study.bounds, group.mean)
            behind = group.lead.number not in front
            return (
                not group.lead.epochs,
                group.lead.state == FAILED,
                broken,
                state,
                behind,
                fidelity,
                badness(study.objective, group.mean)[0],
                group.lead.number,
            )

        return [
            Standing(rank, trial, group.lead, len(group.peers), group.mean)
            for rank, group in enumerate(sorted(self._by_configuration(study), key=place), start=1)
            for trial in group.trials
        ]

    def _by_configuration(self, study: Study) -> list[_Repeats]:
        """Trials that differ by their seeds alone, together."""
        found: dict[str, list[Trial]] = {}
        for number in sorted(self.trials):
            trial = self.trials[number]
            found.setdefault(repr(sorted(trial.config.items())), []).append(trial)
        level = self.compared_at(study)
        return [_Repeats.of(trials, level) for trials in found.values()]

    def keepers(self, study: Study) -> set[int]:
        """The numbers of the trials that keep every constraint at the epoch at which the leaderboard compares them;
        none that failed. Of a configuration that was repeated the mean decides, for all of its trials.
        """
        return {
            trial.number
            for group in self._by_configuration(study)
            if keeps(study.bounds, group.mean)
            for trial in group.trials
            if trial.state != FAILED
        }

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
        least as good in every objective and better in one. Of a configuration that was repeated the mean is compared,
        and one trial stands for it.
        """
        finished = (each for each in self._by_configuration(study) if each.lead.state == FINISHED)
        eligible = [each for each in finished if keeps(study.bounds, each.mean)]
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

        def standing(trial: Trial) -> tuple[int, int]:
            return _ORDER[trial.state], 0 if trial.state == FINISHED else -_judged_at(trial, level)

        ordered = sorted(trials, key=lambda trial: (standing(trial), trial.number))
        best = standing(ordered[0])
        peers = [trial for trial in ordered if standing(trial) == best]
        return cls(ordered, peers, best, _mean([trial.epochs.get(_judged_at(trial, level), {}) for trial in peers]))


def _mean(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each metric that all have; of one, its own values."""
    return {name: sum(each[name] for each in found) / len(found) for name in found[0] if all(name in e for e in found)}


def _judged_at(trial: Trial, level: int) -> int:
    """The epoch whose metrics a trial is ranked by; stopped ones are compared at `level`."""
    return min(trial.last_epoch, level) if trial.state == STOPPED else trial.last_epoch


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


def is_cut_by_budget(trial: Trial) -> bool:
    """Whether the end of a budget stopped a trial, and no rung did."""
    return trial.state == STOPPED and trial.reason.startswith(BY_BUDGET)


def before_rungs(trials: Iterable[Trial]) -> tuple[int | None, list[Trial]]:
    """The trials among which no rung has chosen, and the epoch at which to look at them; None for their last one.

    Who goes on from a rung is chosen by value, so that among survivors a knob that decides does so no longer, and two
    values that have nothing to do with each other seem to exclude each other. Where rungs stopped trials, it is all
    that came as far as the first of these, as they were there; else all that finished.
    """
    every = list(trials)
    stopped = [trial for trial in every if trial.state == STOPPED and trial.epochs]
    at_rungs = [trial.last_epoch for trial in stopped if not trial.reason.startswith(BY_BUDGET)]
    if not at_rungs:
        return None, [trial for trial in every if trial.state == FINISHED]
    first = min(at_rungs)
    return first, [trial for trial in every if trial.state != FAILED and first in trial.epochs]


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


def violation(constraints: Mapping[str, Mapping[str, float]], metrics: Mapping[str, float]) -> float:
    """By how much metrics break constraints, all of them together, in the scores' own units and costs as shares of
    their bounds: 0 where they keep every one, infinite where one was not measured.
    """
    total = 0.0
    for metric, bounds in constraints.items():
        value = metrics.get(metric, math.nan)
        if math.isnan(value):
            return math.inf
        for end, beyond in (("min", -1.0), ("max", 1.0)):
            if end in bounds:
                total += max(0.0, excess(metric, bounds[end], beyond * (value - bounds[end])))
    return total


def fold(events: Iterable[Mapping[str, Any]]) -> History:
    """Folds a run's events, in their order, into its history."""
    history = History()
    for event in events:
        history.see(event)
    return history


def _trial_started(history: History, event: Mapping[str, Any]) -> None:
    trial = Trial(event["trial"], dict(event["config"]), event["source"], threads=event.get("threads"))
    history.trials.setdefault(event["trial"], trial)


def _epoch(history: History, event: Mapping[str, Any]) -> None:
    trial = history.trials[event["trial"]]
    if event["epoch"] not in trial.epochs:
        trial.epochs[event["epoch"]] = dict(event["metrics"])
        trial.seconds += event["seconds"]


def _paused(is_paused: bool) -> Any:
    def handle(history: History, event: Mapping[str, Any]) -> None:
        history.trials[event["trial"]].paused = is_paused

    return handle


def _ended(state: str) -> Any:
    def handle(history: History, event: Mapping[str, Any]) -> None:
        trial = history.trials[event["trial"]]
        if trial.state == RUNNING:  # told again, its end counts once
            _lose_seconds(trial, event)
        trial.state, trial.reason, trial.detail = state, event.get("reason", ""), event.get("detail", "")
        trial.paused = False

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


def _settled(history: History, event: Mapping[str, Any]) -> None:
    history.settled = Settled(event["left"], event["noise"], event["ended"], event["finished"])


def _budget_raised(history: History, event: Mapping[str, Any]) -> None:
    """What follows from the search is to be done again; a model of a trial that is chosen again stays."""
    history.raises.append(Raise(dict(event["was"]), dict(event["budget"]), dict(event["opened"])))
    for stage in AFTER_A_RAISE:
        history.stages.pop(stage, None)
    for number in event["trials"]:
        trial = history.trials[number]
        trial.state, trial.reason, trial.detail = RUNNING, "", ""
    history._models_before |= history.models
    history._on_all_before |= history.models_on_all
    history.models, history.failed_models, history.candidates = {}, {}, []
    history.models_on_all, history.failed_on_all = {}, {}
    history.choice_stands = False


def _threads_chosen(history: History, event: Mapping[str, Any]) -> None:
    history.threads.setdefault(event["stage"], {}).update(event["threads"])


def _candidate_chosen(history: History, event: Mapping[str, Any]) -> None:
    if event["trial"] not in [candidate.trial for candidate in history.candidates]:
        history.candidates.append(Candidate(event["trial"], event["value"], event["rank"]))
        history.models |= _of_trial(history._models_before, event["trial"])
        history.models_on_all |= _of_trial(history._on_all_before, event["trial"])


def _of_trial(models: dict[tuple[int, int], dict[str, float]], trial: int) -> dict[tuple[int, int], dict[str, float]]:
    return {key: found for key, found in models.items() if key[0] == trial}


def _model_finished(history: History, event: Mapping[str, Any]) -> None:
    models, failed = _models_of(history, event)
    models[event["candidate"], event["seed"]] = dict(event["metrics"])
    failed.pop((event["candidate"], event["seed"]), None)
    history.choice_stands = True


def _model_failed(history: History, event: Mapping[str, Any]) -> None:
    models, failed = _models_of(history, event)
    if (event["candidate"], event["seed"]) not in models:
        failed[event["candidate"], event["seed"]] = event["reason"]
    history.choice_stands = True


def _models_of(history: History, event: Mapping[str, Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Where a model belongs: those that validation faces judge, or those that were trained on them."""
    if event.get("on") == ALL:
        return history.models_on_all, history.failed_on_all
    return history.models, history.failed_models


def _test_opened(history: History, event: Mapping[str, Any]) -> None:
    history.opened[event["protocol"]] = history.opened.get(event["protocol"], 0) + 1


def _stage_started(history: History, event: Mapping[str, Any]) -> None:
    if event["stage"] == "retrain" and history.stages.get("retrain") == "finished":
        history.failed_on_all.clear()
        history.failed_models.clear()  # asked for anew, perhaps on a larger machine: they are tried again
    history.stages[event["stage"]] = "started"


def _stage_finished(history: History, event: Mapping[str, Any]) -> None:
    history.stages[event["stage"]] = "finished"


_HANDLERS: dict[str, Any] = {
    TrialStarted.TYPE: _trial_started,
    EpochDone.TYPE: _epoch,
    TrialFinished.TYPE: _ended(FINISHED),
    TrialStopped.TYPE: _ended(STOPPED),
    TrialFailed.TYPE: _ended(FAILED),
    TrialPaused.TYPE: _paused(True),
    TrialPromoted.TYPE: _paused(False),
    TrialRecovered.TYPE: _recovered,
    LearnedFrom.TYPE: _learned,
    SearchSettled.TYPE: _settled,
    BudgetRaised.TYPE: _budget_raised,
    ThreadsChosen.TYPE: _threads_chosen,
    CandidateChosen.TYPE: _candidate_chosen,
    ModelFinished.TYPE: _model_finished,
    ModelFailed.TYPE: _model_failed,
    SealedSetOpened.TYPE: _test_opened,
    StageStarted.TYPE: _stage_started,
    StageFinished.TYPE: _stage_finished,
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
        if event["type"] in SESSION_EVENTS and self._open:
            self.killed[self._open] = None
            self._open = ""
        if self._open and self._last is not None:
            self.seconds[self._open] = self.seconds.get(self._open, 0.0) + (now - self._last).total_seconds()
        self._last = now
        if event["type"] in STAGE_EVENTS:
            self._open = event["stage"] if event["type"] == StageStarted.TYPE else ""
        elif event["type"] == RunInterrupted.TYPE:
            self._open = ""


def best_of_each(values: Sequence[float], maximize: bool) -> list[float]:
    """Gives the best value so far after each of `values`, which is a search's progress."""
    best: list[float] = []
    for value in values:
        better = value if not best else (max(best[-1], value) if maximize else min(best[-1], value))
        best.append(better)
    return best
