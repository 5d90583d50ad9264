"""Trains many given configurations on Ray, as many at once as it holds, each on a warm actor."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import ray
from ray.exceptions import RayActorError

from facex_tune.errors import InputError, StorageOutage
from facex_tune.search import data_placement, ray_session, telemetry
from facex_tune.search.job import Context, Job
from facex_tune.search.worker_losses import WorkerLosses
from facex_tune.search.worker_report import End, Epoch, Failure, Fatal, Outage, Report
from facex_tune.study import Resources, Study

SIGNALS_SEEN_EVERY_S = 1.0  # while Ray waits, Python's signal handlers do not run
LAST_SAVES_S = 3.0  # of the ten that an interruption may take; epochs that are saved seldom take a second or so


@dataclass(frozen=True)
class Order:
    """One model to train: a candidate, or a cell of the factor study, with one replicate seed.

    Attributes:
        name: as a person knows it: "model t0007 seed 0", "train.lr=0.1 seed 2".
    """

    candidate: int
    replicate: int
    job: Job
    name: str
    keeps_model: bool = True

    @property
    def key(self) -> tuple[int, int]:
        return self.candidate, self.replicate


@dataclass(frozen=True)
class Happened:
    """Something that the fleet tells of one of its orders."""

    order: Order


@dataclass(frozen=True)
class Started(Happened):
    """A worker was given the order; again where an earlier worker was lost."""


@dataclass(frozen=True)
class Trained(Happened):
    """The order has come one epoch further."""

    epoch: Epoch


@dataclass(frozen=True)
class Finished(Happened):
    """The order is trained to its end; its validation metrics."""

    metrics: dict[str, float]


@dataclass(frozen=True)
class Recovered(Happened):
    """Something befell the order, which goes on: the name that it is counted under, and a line for a person."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Failed(Happened):
    """The order cannot be trained: it diverged, ran out of memory, hung or lost too many workers. The others go on."""

    reason: str
    detail: str


class Fleet:
    """Trains every order to its end and tells what happens, one thing after another::

        with Fleet(orders, context, resources) as fleet:
            for happened in fleet:
                match happened:
                    case Trained(order, epoch): ...

    A lost worker's order goes on elsewhere from its last epoch, until too many are lost in one. However the `with`
    block ends, workers save what they have trained.

    Args:
        orders: what to train, in this order; where threads were chosen, those with as many.
        context: what the workers share.
        resources: CPUs and GPUs of each worker.
    """

    def __init__(self, orders: Sequence[Order], context: Context, resources: Resources) -> None:
        self._waiting = deque(orders)
        self._context, self._resources = context, resources
        if threads := max((order.job.threads or 0 for order in orders), default=0):  # the same of all
            held = min(threads, ray_session.cpus())  # chosen on a larger machine, perhaps
            self._resources = resources.model_copy(update={"cpus": held})
        self._losses = WorkerLosses()
        self._running: dict[Any, tuple[Any, Order]] = {}  # by what Ray will have the report under: actor, order
        self._unsaved: set[Any] = set()  # actors that have trained more than they saved
        self._is_stopped = False

    def stop(self) -> None:
        """Begins nothing more: each order ends with the epoch that it is in, saved."""
        self._is_stopped = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Lets workers save what they have trained, for a few seconds, and lets go of them."""
        if self._unsaved:
            with suppress(Exception):  # Ray may be what went wrong
                saves = [actor.save.remote() for actor in self._unsaved]
                ray.wait(saves, num_returns=len(saves), timeout=LAST_SAVES_S)
        self._running.clear()
        self._unsaved.clear()

    def __iter__(self) -> Iterator[Happened]:
        """
        Raises:
            InputError: what no other order would escape either, with the reason.
            StorageOutage: a worker cannot reach the run folder's store.
        """
        self._shared = data_placement.share(self._context)
        for _ in range(at_once(len(self._waiting), self._context, self._resources)):
            yield from self._start()
        while self._running:
            ready, _ = ray.wait(list(self._running), num_returns=1, timeout=SIGNALS_SEEN_EVERY_S)
            if ready:
                yield from self._take(ready[0])

    def _take(self, future: Any) -> Iterator[Happened]:
        """Takes in what a worker has reported, or that it is lost, and gives it the next thing to do."""
        actor, order = self._running.pop(future)
        try:
            report: Report = ray.get(future)
        except RayActorError as error:
            self._unsaved.discard(actor)
            yield self._lose_worker(order, str(error).splitlines()[0])
            yield from self._start()
            return
        is_unsaved = isinstance(report, Epoch) and report.unsaved
        (self._unsaved.add if is_unsaved else self._unsaved.discard)(actor)
        yield from self._told(order, report)
        if isinstance(report, End | Failure):
            yield from self._start(actor)
        elif not self._is_stopped:
            self._running[actor.step.remote()] = actor, order

    def _told(self, order: Order, report: Report) -> Iterator[Happened]:
        if isinstance(report, Outage):
            raise StorageOutage(report.problem)
        for note in report.notes:
            yield Recovered(order, note.reason, note.detail)
        match report:
            case Fatal(problem):
                raise InputError(f"{order.name}: {problem}")
            case Failure(reason, detail):
                yield Failed(order, reason, detail)
            case Epoch():
                self._losses.trained(order.key)
                yield Trained(order, report)
        if isinstance(report, End):
            yield Finished(order, report.metrics)

    def _start(self, actor: Any = None) -> Iterator[Happened]:
        """Gives the next order to an actor, which is a new one where there is none."""
        if self._waiting and not self._is_stopped:
            order = self._waiting.popleft()
            actor = self._new_actor() if actor is None else actor
            self._running[actor.begin.remote(order)] = actor, order
            yield Started(order)

    def _lose_worker(self, order: Order, cause: str) -> Happened:
        loss = self._losses.lose(order.key, cause, "one epoch")
        if loss.gives_up:
            return Failed(order, loss.reason, loss.detail)
        self._waiting.appendleft(order)
        return Recovered(order, loss.reason, loss.detail)

    def _new_actor(self) -> Any:
        resources = self._resources
        actor = ray.remote(_Actor).options(num_cpus=resources.least_cpus, num_gpus=resources.gpus)
        return actor.remote(self._context, self._shared)


class _Actor:
    """A worker on Ray: takes an order, then a step at a time; the last one ends the order."""

    def __init__(self, context: Context, shared: data_placement.Shared) -> None:
        from facex_tune.search.worker import Worker  # here, so that the driver, which names this class, has no torch

        self._worker = Worker(data_placement.placed(context, shared))

    def begin(self, order: Order) -> Report:
        self._order = order
        self._worker.begin(order.job)
        return self.step()

    def save(self) -> None:
        self._worker.save()

    def step(self) -> Report:
        report, order = self._worker.step(), self._order
        telemetry.tell_gpu_memory(self._worker.context.run)
        if not isinstance(report, Epoch) or report.epoch < order.job.epochs:
            return report
        if order.keeps_model:
            try:
                self._worker.finish(order.candidate, order.replicate)
            except StorageOutage as error:
                return Outage(str(error))
        return End(**vars(report))


def at_once(n_orders: int, context: Context, resources: Resources) -> int:
    """Counts the orders that are trained at the same time: as many as Ray can hold, but not more than
    `search.concurrency`, to which a cluster that was joined may grow.

    Raises:
        InputError: Ray cannot hold one.
    """
    limit = Study.from_data(context.study).search.concurrency
    slots = ray_session.capacity(resources, limit if context.joined else None)
    return min(n_orders, slots, limit or slots)
