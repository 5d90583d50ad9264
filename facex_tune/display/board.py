"""A run's events folded into what somebody watching it wants to know. Pure: neither terminal nor clock."""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from facex_tune.display.outline import Plan
from facex_tune.metrics import gives_one_answer
from facex_tune.runs.events import (
    BudgetRaised,
    CandidateChosen,
    EpochDone,
    FactorRecovered,
    ModelEpoch,
    ModelFailed,
    ModelFinished,
    ModelRecovered,
    ModelStarted,
    Note,
    SealedSetOpened,
    StageStarted,
    TrialFailed,
    TrialFinished,
    TrialPaused,
    TrialPromoted,
    TrialRecovered,
    TrialStarted,
    TrialStopped,
)
from facex_tune.runs.history import FAILED, FINISHED, RUNNING, STOPPED, badness, keeps, pareto_front, violation
from facex_tune.runs.names import ALL, model_name, trial_label
from facex_tune.search import scheduler
from facex_tune.search.factor_progress import Progress
from facex_tune.search.scheduler import Standing

if TYPE_CHECKING:
    from facex_tune.runs.history import History
    from facex_tune.study import Study

NOTES = 3
_ORDER = {FINISHED: 0, STOPPED: 1, RUNNING: 1}


@dataclass
class Row:
    """A trial: its objective's values by epoch, the last one last."""

    label: str
    state: str = RUNNING
    epoch: int = 0
    values: list[float] = field(default_factory=list)
    reason: str = ""
    paused: bool = False  # waits at a rung, without a worker
    broken: bool = False  # the last epoch breaks a constraint of the study
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    epoch_s: float = 0.0  # of its last epoch
    since: datetime | None = None  # the epoch under way began then, as far as anybody has told

    @property
    def value(self) -> float:
        """The last epoch's, NaN before the first."""
        return self.values[-1] if self.values else math.nan

    @property
    def why(self) -> str:
        """Why it ended, in a word; a trial that was stopped without a word was stopped at a rung."""
        return self.reason.removeprefix("budget: ") or ("rung" if self.state == STOPPED else "")


@dataclass
class ModelRow:
    """A final model, in training, done or failed."""

    epoch: int = 0
    values: list[float] = field(default_factory=list)
    done: bool = False
    failed: str = ""  # why there is none
    on: str | None = None  # "all" where validation faces are trained on, too
    images_per_second: float = 0.0
    seconds: float = 0.0  # of its last epoch
    since: datetime | None = None  # the epoch under way began then

    @property
    def value(self) -> float:
        """The last one that was told, NaN before the first."""
        return self.values[-1] if self.values else math.nan

    @property
    def in_training(self) -> bool:
        return not self.done and not self.failed


@dataclass(frozen=True)
class Rung:
    """What ASHA compares at one epoch: `seen` trials, and the value that the last one had to reach to go on; None while
    all go on.
    """

    epoch: int
    seen: int
    cut: float | None


@dataclass(frozen=True)
class UnderWay:
    """Something in training: a trial, a final model, a run of the factor study.

    Attributes:
        epoch: of `epochs`, the last one that is done.
        since: when the next one began; None where nobody has told.
        epoch_s: seconds that the last one took; 0 before there is one.
    """

    name: str
    epoch: int
    epochs: int
    since: datetime | None = None
    epoch_s: float = 0.0

    def passed_s(self, now: datetime) -> float | None:
        """Seconds since the epoch under way began; None where nobody has told, and after the last epoch."""
        if self.since is None or self.epoch >= self.epochs:
            return None
        return max(0.0, (now - self.since).total_seconds())

    def percent(self, now: datetime) -> int | None:
        """How much of its epoch is likely done, from 0 to 99: it is taken to last as long as the one before; None where
        there was none.
        """
        passed_s = self.passed_s(now)
        if passed_s is None or self.epoch_s <= 0:
            return None
        return int(100 * min(0.99, passed_s / self.epoch_s))


@dataclass
class Board:
    """Everything that the view shows."""

    plan: Plan
    stage: str = ""
    rows: dict[int, Row] = field(default_factory=dict)
    models: dict[tuple[int, int], ModelRow] = field(default_factory=dict)
    factors: Progress = field(default_factory=Progress)
    stage_budget_s: float | None = None  # of this session, where a stage has one of its own
    opened: list[str] = field(default_factory=list)
    recovered: Counter[str] = field(default_factory=Counter)  # what befell trials and models that went on, by reason
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=NOTES))
    _models_before: dict[tuple[int, int], ModelRow] = field(default_factory=dict)  # the budget was raised
    _at_rung: dict[int, scheduler.Rung] = field(default_factory=dict)

    @classmethod
    def of(cls, study: Study, history: History, factors: Progress | None = None) -> Board:
        """The board of a run, and of its factor study, that have come this far already."""
        board = cls(Plan.of(study), factors=factors or Progress())
        for number, trial in history.trials.items():
            for epoch in sorted(trial.epochs):
                board._epoch(number, epoch, trial.epochs[epoch])
            row = board.row(number)
            row.state, row.reason, row.config, row.seconds = trial.state, trial.reason, trial.config, trial.seconds
            row.paused = trial.paused
        for epoch, rung in board._at_rung.items():  # by the trials' numbers so far; they came there in another order
            gone_on = (trial for trial in history.trials.values() if trial.last_epoch > epoch and epoch in trial.epochs)
            rung.have_passed([board._standing(trial.epochs[epoch]) for trial in gone_on])
        for key, metrics in history.models.items():
            board.models[key] = ModelRow(board.plan.model_epochs, [board.objective(metrics)], done=True)
        board.models |= {key: ModelRow(failed=reason) for key, reason in history.failed_models.items()}
        board.models |= {key: ModelRow(board.plan.model_epochs, done=True, on=ALL) for key in history.models_on_all}
        board.models |= {key: ModelRow(failed=reason, on=ALL) for key, reason in history.failed_on_all.items()}
        board.opened = list(history.opened)
        return board

    def see(self, event: Mapping[str, Any]) -> None:
        """Folds one event in; a type that the board does not show leaves it as it is."""
        handler = _HANDLERS.get(event["type"])
        if handler is not None:
            handler(self, event)
        self.factors.see(event)

    def row(self, number: int) -> Row:
        """A trial's row, made where it is first mentioned."""
        return self.rows.setdefault(number, Row(trial_label(number)))

    def objective(self, metrics: Mapping[str, float]) -> float:
        """The study's (first) objective among metrics, NaN where it was not measured."""
        return metrics.get(self.plan.objective, math.nan)

    def _epoch(self, number: int, epoch: int, metrics: Mapping[str, float], seconds: float = 0.0) -> None:
        row = self.row(number)
        if epoch <= row.epoch:  # the log may tell an epoch twice
            return
        collapsed = gives_one_answer(metrics) and gives_one_answer(row.metrics)
        row.epoch, row.metrics, row.seconds = epoch, metrics, row.seconds + seconds
        row.values.append(self.objective(metrics))
        row.broken = not keeps(self.plan.constraints, metrics)
        if epoch in self.plan.rungs and math.isfinite(row.value) and not collapsed:
            self._rung(epoch).take(self._standing(metrics))

    def _standing(self, metrics: Mapping[str, float]) -> Standing:
        broken_by, value = violation(self.plan.constraints, metrics), -self.plan.sign * self.objective(metrics)
        return scheduler.standing(broken_by, value, badness(self.plan.others, metrics))

    def _rung(self, epoch: int) -> scheduler.Rung:
        made = scheduler.rung(self.plan.reduction, 1 + len(self.plan.others))
        return self._at_rung.setdefault(epoch, made)

    @property
    def ended(self) -> int:
        return sum(row.state != RUNNING for row in self.rows.values())

    @property
    def running(self) -> list[Row]:
        return [row for row in self.rows.values() if row.state == RUNNING]

    @property
    def under_way(self) -> list[UnderWay]:
        """What is in training in this stage; empty where nobody has told. A trial that waits at a rung is not."""
        plan, factors = self.plan, self.factors
        if self.stage == "retrain":
            models = {model_name(*key, row.on): row for key, row in sorted(self.models.items()) if row.in_training}
            return [UnderWay(name, m.epoch, plan.model_epochs, m.since, m.seconds) for name, m in models.items()]
        if self.stage == "factors":
            return [
                UnderWay(
                    f"{cell} seed {seed}",
                    event.get("epoch", 0),
                    factors.epochs,
                    _time(event),
                    event.get("seconds", 0.0),
                )
                for (cell, seed), event in factors.running.items()
            ]
        trained = (row for row in self.running if not row.paused)
        return [UnderWay(row.label, row.epoch, plan.max_epochs, row.since, row.epoch_s) for row in trained]

    @property
    def models_done(self) -> int:
        return sum(row.done for row in self.models.values())

    @property
    def models_failed(self) -> int:
        return sum(bool(row.failed) for row in self.models.values())

    @property
    def rungs(self) -> list[Rung]:
        """Every rung that a trial has reached, the first one first."""
        reached = {epoch: self._at_rung[epoch] for epoch in self.plan.rungs if epoch in self._at_rung}
        cuts = {epoch: None if rung.cut is None else -self.plan.sign * rung.cut[1] for epoch, rung in reached.items()}
        return [Rung(epoch, len(rung), cuts[epoch]) for epoch, rung in reached.items()]

    @property
    def ends(self) -> Counter[tuple[str, str]]:
        """How many trials ended in each (state, reason): ("finished", ""), ("stopped", "rung"), ("failed", ...)."""
        return Counter((row.state, row.why) for row in self.rows.values() if row.state != RUNNING)

    @property
    def gpu_hours(self) -> float:
        """GPU time that trials have held."""
        return sum(row.seconds for row in self.rows.values()) * self.plan.gpus / 3600

    @property
    def images_per_second(self) -> float:
        """Training images that all running trials, or models, take in together, at the pace of their last epochs."""
        if self.stage == "retrain":
            return sum(row.images_per_second for row in self.models.values() if row.in_training)
        if self.stage == "factors":
            running = self.factors.running.values()
            return sum(float(event.get("metrics", {}).get("train_images_per_second", 0.0)) for event in running)
        trained = (row for row in self.running if not row.paused)
        return sum(row.metrics.get("train_images_per_second", 0.0) for row in trained)

    @property
    def best_finished(self) -> float:
        """The best value of a finished trial that keeps the constraints, NaN while there is none."""
        best = self.best(1)
        return best[0].value if best and best[0].state == FINISHED and not best[0].broken else math.nan

    @property
    def front(self) -> set[str]:
        """The labels of the Pareto front, where there are several objectives."""
        if not self.plan.others:
            return set()
        names = self.plan.objective, *self.plan.others
        rows = {n: row for n, row in self.rows.items() if row.state == FINISHED and not row.broken}
        return {rows[n].label for n in pareto_front({n: badness(names, row.metrics) for n, row in rows.items()})}

    def best(self, count: int) -> list[Row]:
        """The leading rows: those that keep the constraints first, of them the finished ones, of several objectives the
        Pareto front before the rest, then more epochs, then the better value; failed ones are left out.
        """
        sign, front = self.plan.sign, self.front
        measured = [row for row in self.rows.values() if row.state != FAILED and math.isfinite(row.value)]

        def rank(row: Row) -> tuple[Any, ...]:
            return row.broken, _ORDER[row.state], row.label not in front, -row.epoch, sign * row.value

        return heapq.nsmallest(count, measured, key=rank)

    def share_done(self, searched_s: float) -> float | None:
        """How much of the current stage is done, 0 to 1, or None where nobody can tell.

        Args:
            searched_s: seconds that the search has taken, over all its resumes.
        """
        if self.stage == "search":
            return self._share_searched(searched_s)
        if self.stage == "retrain" and self.plan.models:
            epochs = sum(row.epoch if row.in_training else self.plan.model_epochs for row in self.models.values())
            return min(1.0, epochs / (self.plan.models * self.plan.model_epochs))
        return self.factors.share_done if self.stage == "factors" else None

    def slowest_s(self) -> float:
        """Seconds that the slowest model in training still needs at its own pace; 0 where none is in training."""
        training = [row for row in self.models.values() if row.in_training]
        return max(((self.plan.model_epochs - row.epoch) * row.seconds for row in training), default=0.0)

    def _share_searched(self, searched_s: float) -> float | None:
        shares = [searched_s / self.plan.time_s] if self.plan.time_s else []
        if self.plan.trials:
            begun = sum(min(1.0, row.epoch / self.plan.max_epochs) for row in self.running)
            shares.append((self.ended + begun) / self.plan.trials)
        if self.plan.gpu_hours:
            shares.append(self.gpu_hours / self.plan.gpu_hours)
        return min(1.0, max(shares)) if shares else None


def _time(event: Mapping[str, Any]) -> datetime | None:
    return datetime.fromisoformat(event["time_utc"]) if "time_utc" in event else None


def _stage_started(board: Board, event: Mapping[str, Any]) -> None:
    board.stage, board.stage_budget_s = event["stage"], event.get("budget_s")
    board.notes.clear()  # remarks on what is over
    board.factors.running.clear()
    for row in board.rows.values():
        row.since = None  # another session's; a trial that goes on may wait for its worker
    for model in board.models.values():
        model.since = None


def _budget_raised(board: Board, event: Mapping[str, Any]) -> None:
    board.plan = board.plan.with_budget(event["budget"])
    for number in event["trials"]:
        board.row(number).state, board.row(number).reason = RUNNING, ""
    board._models_before |= board.models
    board.models = {}


def _candidate_chosen(board: Board, event: Mapping[str, Any]) -> None:
    """A model of a trial that was chosen before is there already."""
    kept = {key: row for key, row in board._models_before.items() if key[0] == event["trial"] and row.done}
    board.models |= kept


def _paused(is_paused: bool) -> Callable[[Board, Mapping[str, Any]], None]:
    def handle(board: Board, event: Mapping[str, Any]) -> None:
        row = board.row(event["trial"])
        row.paused, row.since = is_paused, None if is_paused else _time(event)

    return handle


def _trial_started(board: Board, event: Mapping[str, Any]) -> None:
    row = board.row(event["trial"])
    row.state, row.config, row.since = RUNNING, event["config"], _time(event)


def _epoch(board: Board, event: Mapping[str, Any]) -> None:
    board._epoch(event["trial"], event["epoch"], event["metrics"], event["seconds"])
    row = board.row(event["trial"])
    row.epoch_s, row.since = event["seconds"], _time(event)


def _trial_ended(state: str) -> Callable[[Board, Mapping[str, Any]], None]:
    def handle(board: Board, event: Mapping[str, Any]) -> None:
        row = board.row(event["trial"])
        row.state, row.reason = state, event.get("reason", "")
        row.seconds += event.get("seconds", 0.0)

    return handle


def _model_row(board: Board, event: Mapping[str, Any]) -> ModelRow:
    return board.models.setdefault((event["candidate"], event["seed"]), ModelRow(on=event.get("on")))


def _model_started(board: Board, event: Mapping[str, Any]) -> None:
    row = _model_row(board, event)
    row.failed, row.since = "", _time(event)  # where it failed before, it is tried again


def _model_epoch(board: Board, event: Mapping[str, Any]) -> None:
    row = _model_row(board, event)
    row.epoch, row.images_per_second = event["epoch"], event["metrics"].get("train_images_per_second", 0.0)
    row.seconds, row.since = event.get("seconds", 0.0), _time(event)
    row.values.append(board.objective(event["metrics"]))


def _model_finished(board: Board, event: Mapping[str, Any]) -> None:
    row = _model_row(board, event)
    row.done, row.failed = True, ""
    row.values.append(board.objective(event["metrics"]))


def _model_failed(board: Board, event: Mapping[str, Any]) -> None:
    _model_row(board, event).failed = event["reason"]


def _recovered(board: Board, event: Mapping[str, Any]) -> None:
    board.recovered[event["reason"]] += 1
    if event["type"] == TrialRecovered.TYPE:
        row = board.row(event["trial"])
        row.seconds, row.since = row.seconds + event.get("seconds", 0.0), _time(event)  # it begins its epoch again
    elif event["type"] == ModelRecovered.TYPE:
        _model_row(board, event).since = _time(event)


def _test_opened(board: Board, event: Mapping[str, Any]) -> None:
    if event["protocol"] not in board.opened:
        board.opened.append(event["protocol"])


def _note(board: Board, event: Mapping[str, Any]) -> None:
    board.notes.append(event["text"])


_HANDLERS: dict[str, Callable[[Board, Mapping[str, Any]], None]] = {
    StageStarted.TYPE: _stage_started,
    BudgetRaised.TYPE: _budget_raised,
    TrialStarted.TYPE: _trial_started,
    EpochDone.TYPE: _epoch,
    TrialPaused.TYPE: _paused(True),
    TrialPromoted.TYPE: _paused(False),
    TrialFinished.TYPE: _trial_ended(FINISHED),
    TrialStopped.TYPE: _trial_ended(STOPPED),
    TrialFailed.TYPE: _trial_ended(FAILED),
    CandidateChosen.TYPE: _candidate_chosen,
    ModelStarted.TYPE: _model_started,
    ModelEpoch.TYPE: _model_epoch,
    ModelFinished.TYPE: _model_finished,
    ModelFailed.TYPE: _model_failed,
    TrialRecovered.TYPE: _recovered,
    ModelRecovered.TYPE: _recovered,
    FactorRecovered.TYPE: _recovered,
    SealedSetOpened.TYPE: _test_opened,
    Note.TYPE: _note,
}
