"""The event log's vocabulary: everything that a run's log can hold, and everything that its listeners are told beside
it. The only place that spells an event's name.

Each type is a record. `Log.append` writes a record of `LOGGED` as one JSON object,
``{"v", "seq", "time_utc", "type", **its fields}``; a field that is None is left out. `Log.tell` hands one of `TOLD` to
the listeners alone. Who reads them gets these objects as they are written, and asks
``event["type"] == EpochDone.TYPE``.

To add an event: write its record here. To add a field: give it the default None, which logs of before will read as.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from facex_tune.errors import Remark
from facex_tune.space import Config

VERSION = 1  # `v` of each event; a log with a higher one is refused
Event = dict[str, Any]  # one as it is written, or told
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Record:
    """One thing that happened. `TYPE` is its name in the log."""

    TYPE: ClassVar[str]

    def fields(self) -> Event:
        """Its fields in the order in which they are written, without those that are not known."""
        return {name: value for name, value in vars(self).items() if value is not None}


# Sessions: each is one process that writes the run


@dataclass(frozen=True)
class RunStarted(Record):
    """A run's first session began.

    Attributes:
        stages: those that were asked for and are not finished, in their order; logs of before 2026-11 have none.
        options: the session's own: data, device, parts, address, protocols, factors.
        header_sha256: of `run.json`, to tell later whether somebody has changed it.
        study: as `run.json` has it, to tell what was changed.
    """

    TYPE: ClassVar[str] = "run_started"
    stages: Sequence[str] | None = None
    options: Mapping[str, Any] | None = None
    header_sha256: str | None = None
    study: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RunResumed(Record):
    """A later session began; see `RunStarted`."""

    TYPE: ClassVar[str] = "run_resumed"
    stages: Sequence[str] | None = None
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RunInterrupted(Record):
    """A signal ended a session.

    Attributes:
        signal: its name, such as "SIGTERM".
    """

    TYPE: ClassVar[str] = "run_interrupted"
    signal: str


@dataclass(frozen=True)
class StageStarted(Record):
    """A stage began, or goes on in a later session.

    Attributes:
        stage: "search", "retrain", "evaluate", "factors" or "report".
        budget_s: seconds that this session may spend on it, where it has a budget of its own.
    """

    TYPE: ClassVar[str] = "stage_started"
    stage: str
    budget_s: float | None = None


@dataclass(frozen=True)
class StageFinished(Record):
    """A stage came to its end.

    Attributes:
        reason: the budget that ended it ("trials", "time", "gpu_hours", "target"), where one did; "settled" where
            `search.stop_when_settled` did.
    """

    TYPE: ClassVar[str] = "stage_finished"
    stage: str
    reason: str | None = None


@dataclass(frozen=True)
class LeaseTaken(Record):
    """A writer's first record on an object store, which keeps an earlier writer out. It is no event: readers leave it
    out, and its `seq` is that of the event before it.

    Attributes:
        host, pid, started, machine: the process.
        token: unlike any other writer's.
        fence: the number of the lease.
    """

    TYPE: ClassVar[str] = "lease_taken"
    host: str
    pid: int
    started: str | None
    machine: str
    token: str
    fence: int


@dataclass(frozen=True)
class BudgetRaised(Record):
    """A run goes on with a larger budget. Its search is no longer finished, and its candidates are chosen anew.

    Attributes:
        was, budget: the study's budget before and from now on, every key of it.
        opened: the sealed sets that had been opened by then -> how often. The choice comes after they were seen.
        trials: those that the earlier budget had stopped and that go on, since their checkpoints are still there.
    """

    TYPE: ClassVar[str] = "budget_raised"
    was: Mapping[str, Any]
    budget: Mapping[str, Any]
    opened: Mapping[str, int]
    trials: Sequence[int]


@dataclass(frozen=True)
class ThreadsChosen(Record):
    """How many threads a stage's trainings have, chosen by what this machine does (`resources: {cpus: auto}`). What is
    left of them in a later session keeps them.

    Attributes:
        stage: "search", "retrain" or "factors".
        threads: of each model of the search, else of each training by its name -> threads.
        images_per_second: model -> threads, as text -> of one of as many trainings as then run side by side.
        cpus: that Ray had.
    """

    TYPE: ClassVar[str] = "threads_chosen"
    stage: str
    threads: Mapping[str, int]
    images_per_second: Mapping[str, Mapping[str, float]]
    cpus: int


# The search


@dataclass(frozen=True)
class LearnedFrom(Record):
    """The sampler took over an earlier run's finished trials (`search.learn_from`).

    Attributes:
        run: the earlier run, as the study names it.
        trials: ``{trial, config, state, epochs: {"1": metrics}}`` of each that fits.
        left_out: why others did not fit -> how many.
    """

    TYPE: ClassVar[str] = "learned"
    run: str
    trials: Sequence[Mapping[str, Any]]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class PriorsTaken(Record):
    """Where the best trials of an earlier run lay is believed at first (`search.priors_from`).

    Attributes:
        run: the earlier run, as the study names it.
        trials: of it that came to their end, by configuration.
        priors: knob -> ``{prior, confidence}``, where its best trials agree more than all of them.
    """

    TYPE: ClassVar[str] = "priors_taken"
    run: str
    trials: int
    priors: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class SearchSettled(Record):
    """What is left to gain is smaller than the noise: no further trial begins (`search.stop_when_settled`).

    Attributes:
        left: to gain by another configuration than the best so far, as expected, in units of the first objective.
        noise: standard deviation of one training's value.
        ended, finished: trials that were known then.
    """

    TYPE: ClassVar[str] = "search_settled"
    left: float
    noise: float
    ended: int
    finished: int


@dataclass(frozen=True)
class TrialStarted(Record):
    """A configuration was suggested, and is tried from now on.

    Attributes:
        trial: its number, from 0 in the order of suggestion.
        config: knob -> value.
        source: "start_with" or "sampler".
        repeats: the first trial of the same configuration, where there is one.
        threads: that it trains with, where the machine's speed decided (`resources: {cpus: auto}`).
    """

    TYPE: ClassVar[str] = "trial_started"
    trial: int
    config: Config
    source: str
    repeats: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class EpochDone(Record):
    """A trial completed an epoch, and its checkpoint is durable. Told twice, the first counts.

    Attributes:
        epoch: 1-based.
        metrics: of the validation faces, and of the training (`train_images_per_second`, `train_loss` …).
        seconds: of training and validation, without waiting.
        host: the worker's.
    """

    TYPE: ClassVar[str] = "epoch"
    trial: int
    epoch: int
    metrics: Metrics
    seconds: float
    host: str | None = None


@dataclass(frozen=True)
class TrialPaused(Record):
    """A trial has come to a rung and waits there without a worker, until it is among the best (`asha_promotion`)."""

    TYPE: ClassVar[str] = "trial_paused"
    trial: int
    epoch: int


@dataclass(frozen=True)
class TrialPromoted(Record):
    """A paused trial is among the best of its rung, and goes on from its checkpoint.

    Attributes:
        epoch: the rung's.
    """

    TYPE: ClassVar[str] = "trial_promoted"
    trial: int
    epoch: int


@dataclass(frozen=True)
class TrialFinished(Record):
    """A trial completed its last epoch."""

    TYPE: ClassVar[str] = "trial_finished"
    trial: int


@dataclass(frozen=True)
class TrialStopped(Record):
    """A trial was ended before its last epoch.

    Attributes:
        epoch: its last one, 0 where it had none.
        reason: "rung", or "budget: " and which.
    """

    TYPE: ClassVar[str] = "trial_stopped"
    trial: int
    epoch: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class TrialFailed(Record):
    """A trial cannot go on.

    Attributes:
        reason: "diverged", "collapsed", "out_of_memory", "hung" or "error".
        detail: a line about it.
        seconds: that it held its worker for and that came to no epoch.
    """

    TYPE: ClassVar[str] = "trial_failed"
    trial: int
    reason: str | None = None
    detail: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class TrialRecovered(Record):
    """Something befell a trial, and it goes on.

    Attributes:
        reason: "worker_lost", "hung", "out_of_memory", "checkpoint_lost" or "not_captured".
        detail: a line about it.
        seconds: that came to no epoch, where a worker was lost.
    """

    TYPE: ClassVar[str] = "trial_recovered"
    trial: int
    reason: str
    detail: str
    seconds: float | None = None


# Final models


@dataclass(frozen=True)
class CandidateChosen(Record):
    """A trial will be retrained.

    Attributes:
        value: its first objective at search time.
        rank: from 1, the best.
    """

    TYPE: ClassVar[str] = "candidate_chosen"
    trial: int
    value: float
    rank: int


@dataclass(frozen=True)
class ModelStarted(Record):
    """Told only: a worker was given a final model, again where a worker was lost.

    Attributes:
        candidate: the trial that it retrains.
        seed: its replicate, from 0.
        on: "all" of the model that is trained on validation faces, too.
    """

    TYPE: ClassVar[str] = "model_started"
    candidate: int
    seed: int
    on: str | None = None


@dataclass(frozen=True)
class ModelEpoch(Record):
    """Told only: a final model completed an epoch.

    Attributes:
        epochs: how many it will have.
        epoch, metrics, seconds: see `EpochDone`.
        on: see `ModelStarted`; this one's metrics are of the training alone.
    """

    TYPE: ClassVar[str] = "model_epoch"
    candidate: int
    seed: int
    epochs: int
    epoch: int
    metrics: Metrics
    seconds: float
    on: str | None = None


@dataclass(frozen=True)
class ModelFinished(Record):
    """A final model is trained, and lies whole in its folder.

    Attributes:
        metrics: of its last epoch, on the validation faces.
        on: "all" of a model that was trained on these faces, too: its metrics are of the training alone.
    """

    TYPE: ClassVar[str] = "model_finished"
    candidate: int
    seed: int
    metrics: Metrics
    on: str | None = None


@dataclass(frozen=True)
class ModelFailed(Record):
    """A final model cannot be trained; see `TrialFailed` and `ModelStarted`."""

    TYPE: ClassVar[str] = "model_failed"
    candidate: int
    seed: int
    reason: str
    detail: str | None = None
    on: str | None = None


@dataclass(frozen=True)
class ModelRecovered(Record):
    """Something befell a final model in training, and it goes on; see `TrialRecovered` and `ModelStarted`."""

    TYPE: ClassVar[str] = "model_recovered"
    candidate: int
    seed: int
    reason: str
    detail: str
    on: str | None = None


# The factor study


@dataclass(frozen=True)
class FactorsPlanned(Record):
    """What the factor study trains, laid down once.

    Attributes:
        reference: the trial whose configuration is varied.
        seeds: replicates of each cell.
        epochs: of each replicate.
        cells: ``{name, config, changed}`` of each variation, the reference first.
    """

    TYPE: ClassVar[str] = "factors_planned"
    reference: int
    seeds: int
    epochs: int
    cells: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class FactorStarted(Record):
    """Told only: a worker was given a replicate of a cell.

    Attributes:
        cell: its name, "reference" or what was changed.
        seed: its replicate, from 0.
    """

    TYPE: ClassVar[str] = "factor_started"
    cell: str
    seed: int


@dataclass(frozen=True)
class FactorEpoch(Record):
    """Told only: a replicate of a cell completed an epoch; see `EpochDone`."""

    TYPE: ClassVar[str] = "factor_epoch"
    cell: str
    seed: int
    epoch: int
    metrics: Metrics
    seconds: float


@dataclass(frozen=True)
class FactorFinished(Record):
    """A replicate of a cell is trained.

    Attributes:
        metrics: of its last epoch, on the validation faces.
    """

    TYPE: ClassVar[str] = "factor_finished"
    cell: str
    seed: int
    metrics: Metrics


@dataclass(frozen=True)
class FactorFailed(Record):
    """A replicate of a cell cannot be trained; see `TrialFailed`."""

    TYPE: ClassVar[str] = "factor_failed"
    cell: str
    seed: int
    reason: str
    detail: str | None = None


@dataclass(frozen=True)
class FactorRecovered(Record):
    """Something befell a replicate of a cell, and it goes on; see `TrialRecovered`."""

    TYPE: ClassVar[str] = "factor_recovered"
    cell: str
    seed: int
    reason: str
    detail: str


# Evaluation, and remarks


@dataclass(frozen=True)
class SealedSetOpened(Record):
    """A sealed test set is about to be read.

    Attributes:
        protocol: such as "fer2013.private".
        models: labels of the final models that are scored on it, such as "t0007-s0".
        n: faces.
    """

    TYPE: ClassVar[str] = "test_opened"
    protocol: str
    models: Sequence[str]
    n: int


@dataclass(frozen=True)
class Note(Record):
    """Told only: a remark for who watches.

    Attributes:
        text: one line.
    """

    TYPE: ClassVar[str] = "note"
    text: str


TOLD = (ModelStarted, ModelEpoch, FactorStarted, FactorEpoch, Note)
LOGGED: tuple[type[Record], ...] = tuple(
    each for each in Record.__subclasses__() if each not in TOLD and each is not LeaseTaken
)
SESSION_EVENTS = (RunStarted.TYPE, RunResumed.TYPE)
STAGE_EVENTS = (StageStarted.TYPE, StageFinished.TYPE)
FACTOR_EVENTS = (FactorsPlanned.TYPE, FactorFinished.TYPE, FactorFailed.TYPE, FactorRecovered.TYPE)
_OLD_SPEED, _TRAIN_SPEED = "images_per_second", "train_images_per_second"
_KNOWN = frozenset(each.TYPE for each in LOGGED)


def written(record: Record, seq: int, time_utc: str) -> Event:
    """A record as the log has it.

    Args:
        seq: its number in the log, from 1.
        time_utc: ISO 8601.
    """
    return {"v": VERSION, "seq": seq, "time_utc": time_utc, "type": record.TYPE, **record.fields()}


def told(record: Record, time_utc: str) -> Event:
    """A record as listeners are told one that no log has."""
    return {"type": record.TYPE, "time_utc": time_utc, **record.fields()}


def known(events: Iterable[Event], where: object) -> list[Event]:
    """Those of a log's events whose types this version knows. Others, which a later one has written, are left out with
    one `Remark`.

    Args:
        where: the log's folder, for the remark.
    """
    every = list(events)
    if others := sorted({event["type"] for event in every} - _KNOWN):
        warnings.warn(
            f"{where}: left out what this version of facex_tune does not know: events of type {', '.join(others)}",
            Remark,
            stacklevel=2,
        )
        return [event for event in every if event["type"] in _KNOWN]
    return every


def as_named_now(event: Event) -> Event:
    """An event of a log with its metrics named as this version names them: until 2026-11 `images_per_second` was the
    speed of training; now it is what one face costs.
    """
    found = event.get("metrics")
    if isinstance(found, dict) and _OLD_SPEED in found and _TRAIN_SPEED not in found:
        named = {(_TRAIN_SPEED if name == _OLD_SPEED else name): value for name, value in found.items()}
        return {**event, "metrics": named}
    return event
