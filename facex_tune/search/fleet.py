"""Trains many given configurations on Ray, as many at once as it holds, each on a warm actor."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError

from facex_tune.errors import InputError, StorageOutage
from facex_tune.search import data_placement, ray_session, telemetry
from facex_tune.search.referee import WORKER_LOSSES
from facex_tune.search.worker import Context, Job, Report, Worker
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


class _Actor:
    """A worker on Ray: `step` until the job is done, which then returns the finished model's metrics under
    "finished".
    """

    def __init__(self, context: Context, shared: data_placement.Shared) -> None:
        self._worker = Worker(data_placement.placed(context, shared))

    def begin(self, order: Order) -> Report:
        self._order = order
        self._worker.begin(order.job)
        return self.step()

    def save(self) -> None:
        self._worker.save()

    def step(self) -> Report:
        report = self._worker.step()
        telemetry.tell_gpu_memory(self._worker.context.run)
        if report.get("epoch", 0) >= self._order.job.epochs:
            order = self._order
            if not order.keeps_model:
                return {**report, "finished": report["metrics"]}
            try:
                report["finished"] = self._worker.finish(order.candidate, order.replicate)
            except StorageOutage as error:
                return {"outage": str(error)}
        return report


def train(
    orders: Sequence[Order],
    context: Context,
    resources: Resources,
    on_epoch: Callable[[Order, Report], None],
    on_model: Callable[[Order, dict[str, float]], None],
    on_note: Callable[[Order, str, str], None],
    on_failed: Callable[[Order, str, str], None],
    *,
    on_start: Callable[[Order], None] = lambda order: None,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Trains every order to its end, telling of each epoch, of each finished model, and of what befell one that goes
    on: its reason and detail.

    A lost worker's order goes on elsewhere from its last epoch, until too many are lost in one.

    Args:
        on_failed: hears of an order that cannot be trained (it diverged, ran out of memory, hung, or lost too many
            workers): its reason and detail. The others go on.
        on_start: hears of an order that a worker was given, again where a worker was lost.
        go_on: asked after each epoch; once it says no, every order stops there, saved.

    Raises:
        InputError: what no other order would escape either, with the reason.
        StorageOutage: a worker cannot reach the run folder's store.
    """
    waiting, shared = deque(orders), data_placement.share(context)
    losses: Counter[tuple[int, int]] = Counter()  # of workers, since the order's last epoch
    running: dict[Any, tuple[Any, Order]] = {}
    unsaved: set[Any] = set()  # actors that have trained more than they saved

    def start(actor: Any) -> None:
        if waiting:
            order = waiting.popleft()
            running[actor.begin.remote(order)] = actor, order
            on_start(order)

    def lose_worker(order: Order, why: str) -> None:
        losses[order.key] += 1
        detail = f"its worker was lost {losses[order.key]} times in one epoch: {why}"
        if losses[order.key] > WORKER_LOSSES:
            on_failed(order, "out_of_memory" if "memory" in why else "error", detail)
        else:
            on_note(order, "worker_lost", detail)
            waiting.appendleft(order)

    for _ in range(at_once(len(orders), context, resources)):
        start(_new_actor(context, shared, resources))
    with _saved_at_last(unsaved):
        while running:
            ready, _ = ray.wait(list(running), num_returns=1, timeout=SIGNALS_SEEN_EVERY_S)
            if not ready:
                continue
            future = ready[0]
            actor, order = running.pop(future)
            try:
                report: Report = ray.get(future)
            except RayActorError as error:
                unsaved.discard(actor)
                lose_worker(order, str(error).splitlines()[0])
                if waiting and go_on():
                    start(_new_actor(context, shared, resources))
                continue
            (unsaved.add if report.get("unsaved") else unsaved.discard)(actor)
            if "outage" in report:
                raise StorageOutage(report["outage"])
            for note in report.get("notes", ()):
                on_note(order, note["reason"], note["detail"])
            if "fatal" in report:
                raise InputError(f"{order.name}: {report['fatal']}")
            if "failed" in report:
                on_failed(order, report["failed"], report.get("detail", ""))
                if go_on():
                    start(actor)
                continue
            losses[order.key] = 0
            on_epoch(order, report)
            if "finished" in report:
                on_model(order, report["finished"])
                if go_on():
                    start(actor)
            elif go_on():
                running[actor.step.remote()] = actor, order


@contextmanager
def _saved_at_last(unsaved: set[Any]) -> Iterator[None]:
    """However the block ends, lets these actors save what they have trained, for a few seconds."""
    try:
        yield
    finally:
        if unsaved:
            with suppress(Exception):  # Ray may be what went wrong
                saves = [actor.save.remote() for actor in unsaved]
                ray.wait(saves, num_returns=len(saves), timeout=LAST_SAVES_S)


def at_once(n_orders: int, context: Context, resources: Resources) -> int:
    """How many orders are trained beside each other: as many as Ray holds, and not more than `search.concurrency`, to
    which a cluster that was joined may grow.

    Raises:
        InputError: Ray cannot hold one.
    """
    limit = Study.from_data(context.study).search.concurrency
    slots = ray_session.capacity(resources, limit if context.joined else None)
    return min(n_orders, slots, limit or slots)


def _new_actor(context: Context, shared: data_placement.Shared, resources: Resources) -> Any:
    return ray.remote(_Actor).options(num_cpus=resources.cpus, num_gpus=resources.gpus).remote(context, shared)
