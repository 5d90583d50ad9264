"""Trains many given configurations on Ray, as many at once as it holds, each on a warm actor."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError

from facex_tune.errors import InputError, StorageOutage
from facex_tune.search import cluster, node, telemetry
from facex_tune.search.referee import WORKER_LOSSES
from facex_tune.search.worker import Context, Job, Report, Worker
from facex_tune.study import Resources, Study

SIGNALS_SEEN_EVERY_S = 1.0  # while Ray waits, Python's signal handlers do not run


@dataclass(frozen=True)
class Order:
    """One model to train: a candidate with one replicate seed."""

    candidate: int
    replicate: int
    job: Job
    keeps_model: bool = True

    def __str__(self) -> str:
        return f"t{self.candidate:04d} seed {self.replicate}"


class _Actor:
    """A worker on Ray: `step` until the job is done, which then returns the finished model's metrics under
    "finished".
    """

    def __init__(self, context: Context, shared: node.Shared) -> None:
        self._worker = Worker(node.placed(context, shared))

    def begin(self, order: Order) -> Report:
        self._order = order
        self._worker.begin(order.job)
        return self.step()

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
    *,
    on_start: Callable[[Order], None] = lambda order: None,
    on_failed: Callable[[Order, Report], None] | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Trains every order to its end, telling of each epoch, of each finished model, and of what befell one that goes
    on: its reason and detail.

    A lost worker's order goes on elsewhere from its last epoch.

    Args:
        on_start: hears of an order that a worker was given, again where a worker was lost.
        on_failed: hears of an order that diverged or ran out of memory; None makes that an error.
        go_on: asked after each epoch; once it says no, every order stops where it is saved.

    Raises:
        InputError: a model cannot be trained, with the reason.
        StorageOutage: a worker cannot reach the run folder's store.
    """
    waiting, shared = deque(orders), node.share(context)
    losses: Counter[str] = Counter()  # of workers, since the order's last epoch
    running: dict[Any, tuple[Any, Order]] = {}

    def start(actor: Any) -> None:
        if waiting:
            order = waiting.popleft()
            running[actor.begin.remote(order)] = actor, order
            on_start(order)

    concurrency = Study.from_data(context.study).search.concurrency if context.joined else None
    for _ in range(min(len(orders), cluster.capacity(resources, concurrency))):
        start(_new_actor(context, shared, resources))
    while running:
        ready, _ = ray.wait(list(running), num_returns=1, timeout=SIGNALS_SEEN_EVERY_S)
        if not ready:
            continue
        future = ready[0]
        actor, order = running.pop(future)
        try:
            report: Report = ray.get(future)
        except RayActorError as error:
            losses[str(order)] += 1
            why = f"its worker was lost {losses[str(order)]} times in one epoch: {str(error).splitlines()[0]}"
            if losses[str(order)] > WORKER_LOSSES:
                raise InputError(f"{order}: {why}") from error
            on_note(order, "worker_lost", why)
            waiting.appendleft(order)
            start(_new_actor(context, shared, resources))
            continue
        if "outage" in report:
            raise StorageOutage(report["outage"])
        for note in report.get("notes", ()):
            on_note(order, note["reason"], note["detail"])
        if on_failed is not None and "failed" in report:
            on_failed(order, report)
            if go_on():
                start(actor)
            continue
        if problem := report.get("fatal") or report.get("failed"):
            raise InputError(f"{order}: {problem} {report.get('detail', '')}".strip())
        losses[str(order)] = 0
        on_epoch(order, report)
        if "finished" in report:
            on_model(order, report["finished"])
            if go_on():
                start(actor)
        elif go_on():
            running[actor.step.remote()] = actor, order


def _new_actor(context: Context, shared: node.Shared, resources: Resources) -> Any:
    return ray.remote(_Actor).options(num_cpus=resources.cpus, num_gpus=resources.gpus).remote(context, shared)
