"""How many threads a training has where the study says `resources: {cpus: auto}`: many of one thread side by side or
fewer of more, whichever is done sooner on this machine.

Measured with everything else at rest, on as many processes at once as would train: two trainings of one thread each
share caches and memory, which neither would show alone. The choice is logged, and what is resumed keeps it: with other
threads sums are taken in another order, and their last bits differ.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from facex_tune import parts
from facex_tune.data import training_set
from facex_tune.errors import one_line
from facex_tune.runs.events import Note, ThreadsChosen
from facex_tune.runs.store import Log, Run
from facex_tune.search import ray_session
from facex_tune.search.fleet import Order
from facex_tune.search.job import Context
from facex_tune.space import Config
from facex_tune.study import Study

SECONDS = 1.0  # of training, for each number of threads, after an epoch that is not counted
MOST_MEASURED = 8  # processes side by side; more cores than that are taken to do the same
DEADLINE_S = 120.0  # of one measurement; a part that needs longer is no reason to wait
SIGNALS_SEEN_EVERY_S = 1.0
MANY = 10_000  # trainings, where nobody knows how many there will be

Speeds = Mapping[int, float]  # threads -> images a second of one of as many trainings as then run side by side


def of_search(run: Run, log: Log, context: Context, left: int | None) -> dict[str, int]:
    """Threads of each model of a search; empty where the study says how many.

    Args:
        left: trials that are still to come, None where only time ends the search.
    """
    study = run.study
    if study.resources.cpus != "auto":
        return {}
    if (chosen := run.history().threads.get("search")) is not None:
        return chosen
    models = study.space.parts["model"]
    speeds = _speeds(log, context, {model: study.space.of_model(model) for model in models})
    threads = {model: allotted(left or MANY, found, _slots(study, found))[0] for model, found in speeds.items()}
    _tell(log, "search", threads, speeds)
    return threads


def of_orders(run: Run, log: Log, context: Context, stage: str, orders: Sequence[Order]) -> list[list[Order]]:
    """Orders with their threads, in groups that are trained one after another: within each all have the same. One group
    where the study says how many threads there are.
    """
    study = run.study
    if study.resources.cpus != "auto" or not orders:
        return [list(orders)]
    threads = dict(run.history().threads.get(stage, {}))
    new = [order for order in orders if order.name not in threads]
    if new:
        configs = {str(order.job.config["model"]): order.job.config for order in reversed(new)}
        speeds = _speeds(log, context, configs)
        for model, found in speeds.items():
            names = [order.name for order in new if order.job.config["model"] == model]
            threads |= dict(zip(names, allotted(len(names), found, _slots(study, found)), strict=True))
        _tell(log, stage, {order.name: threads[order.name] for order in new}, speeds)
    given = [replace(each, job=replace(each.job, threads=threads[each.name])) for each in orders]
    return [[each for each in given if each.job.threads == n] for n in sorted({threads[each.name] for each in orders})]


def allotted(n: int, speeds: Speeds, slots: Mapping[int, int]) -> list[int]:
    """Threads of each of `n` trainings of the same length, so that all are done soonest: full rounds of one number of
    threads, and what is left over with another where that is faster.

    Args:
        slots: threads -> trainings of so many that run side by side.
    """

    def rest(left: int) -> tuple[float, list[int]]:
        return min((math.ceil(left / slots[t]) / speeds[t], [t] * left) for t in speeds)

    def whole(t: int) -> tuple[float, list[int]]:
        rounds, left = divmod(n, slots[t])
        seconds, last = rest(left) if left else (0.0, [])
        return rounds / speeds[t] + seconds, [t] * (n - left) + last

    return min(whole(t) for t in speeds)[1]


def _slots(study: Study, speeds: Speeds) -> dict[int, int]:
    limit = study.search.concurrency or MANY
    return {t: max(1, min(limit, ray_session.cpus() // t)) for t in speeds}


def _tell(log: Log, stage: str, threads: Mapping[str, int], speeds: Mapping[str, Speeds]) -> None:
    said = {model: {str(t): round(speed, 1) for t, speed in found.items()} for model, found in speeds.items()}
    log.append(ThreadsChosen(stage, threads, said, ray_session.cpus()))


def _speeds(log: Log, context: Context, configs: Mapping[str, Config]) -> dict[str, Speeds]:
    """Of each model, measured; one thread where it cannot be, which is told: why, its trials will say."""
    at_once = min(ray_session.cpus(), MOST_MEASURED)
    gauges: list[Any] = [ray.remote(_Gauge).options(num_cpus=1).remote(context) for _ in range(at_once)]
    limit = Study.from_data(context.study).search.concurrency or MANY
    found: dict[str, Speeds] = {}
    try:
        for model, config in configs.items():
            try:
                found[model] = _measured(gauges, config, limit)
            except Exception as error:
                log.tell(Note(f"{model} trains with one thread, since it could not be measured: {one_line(error)}"))
                found[model] = {1: 1.0}
    finally:
        for gauge in gauges:
            with suppress(Exception):
                ray.kill(gauge)
    return found


def _measured(gauges: list[Any], config: Config, limit: int) -> Speeds:
    """Doubles the threads as long as there are cores, each number on as many processes as it leaves room for."""
    speeds: dict[int, float] = {}
    threads = 1
    while threads <= len(gauges):
        used = gauges[: min(limit, len(gauges) // threads)]
        _all([gauge.prepare.remote(config, threads) for gauge in used])  # so that all begin to measure together
        speeds[threads] = statistics.fmean(_all([gauge.images_per_second.remote(SECONDS) for gauge in used]))
        threads *= 2
    return speeds


def _all(futures: list[Any]) -> list[Any]:
    """What they come to. Ray waits without letting Python see signals, so it waits in short pieces.

    Raises:
        TimeoutError: they take too long.
    """
    until = time.monotonic() + DEADLINE_S
    while True:
        ready, waiting = ray.wait(futures, num_returns=len(futures), timeout=SIGNALS_SEEN_EVERY_S)
        if not waiting:
            return list(ray.get(ready))
        if time.monotonic() > until:
            raise TimeoutError(f"no answer within {DEADLINE_S:g} s")


class _Gauge:
    """A process on Ray that trains on random faces for as long as is measured."""

    def __init__(self, context: Context) -> None:
        for folder in context.parts:
            parts.use_folder(folder)
        study = Study.from_data(context.study)
        self._classes, self._face = study.classes, training_set.face_of(study, Path(context.data_dir))

    def prepare(self, config: Config, threads: int) -> None:
        """Builds a training, and trains an epoch that pays for the library's own set-up."""
        import torch  # here, in a process of its own, and not in the driver

        from facex_tune.training import random_faces

        torch.set_num_threads(threads)
        self._training = random_faces.training(config, self._classes, torch.device("cpu"), face=self._face)
        self._training.epoch()

    def images_per_second(self, seconds: float) -> float:
        """Images a second of the training, over so much time and an epoch at least."""
        found: list[float] = []
        start = time.monotonic()
        while not found or time.monotonic() < start + seconds:
            found.append(self._training.epoch().metrics["train_images_per_second"])
        return statistics.fmean(found)
