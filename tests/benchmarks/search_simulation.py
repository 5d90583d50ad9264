"""A search on a simulated clock: workers that take no time to be told anything, trials that take what the task says."""

from __future__ import annotations

import heapq
import itertools
import math
import statistics
import time
from dataclasses import dataclass

from tests.benchmarks.search_arms import ARMS, Arm
from tests.benchmarks.search_tasks import EPOCHS, Task

RANDOM_LONGER = 8.0  # how much longer random may search for what ours found; beyond, the ratio counts as this

# Simulated time by number of workers, in trainings of all epochs, of the median duration.
LENGTH = {1: 20.0, 8: 4.0, 64: 1.5}


@dataclass(frozen=True)
class Outcome:
    """One search.

    Attributes:
        steps: (seconds, expected final accuracy of the configuration that would be retrained then), where it changes.
        length_s: simulated seconds.
        trials: started.
        suggestion_s: real seconds for a suggestion, the median.
    """

    task: str
    arm: str
    workers: int
    seed: int
    length_s: float
    trials: int
    failed: int
    suggestion_s: float
    steps: list[tuple[float, float]]

    def value_at(self, time_s: float, start: float) -> float:
        """What the best configuration known at a time would come to."""
        value = start
        for at, found in self.steps:
            if at > time_s:
                break
            value = found
        return value

    def first_time(self, value: float) -> float:
        """When a configuration as good as `value` was known for good; infinite: never."""
        since = math.inf
        for at, found in self.steps:
            since = (min(since, at)) if found >= value - 1e-12 else math.inf
        return since


def training_s(task: Task) -> float:
    """The median duration of a whole training over the space."""
    import numpy as np

    rng = np.random.default_rng(0)
    return statistics.median(task.course(task.space.random(rng)).epoch_s * EPOCHS for _ in range(501))


def simulate(task: Task, name: str, workers: int, seed: int) -> Outcome:
    """One search of one arm."""
    length_s = LENGTH[workers] * training_s(task) * (RANDOM_LONGER if name == "random" else 1.0)
    arm: Arm = ARMS[name](task, workers, seed)
    order = itertools.count()
    events: list[tuple[float, int, int, int]] = []  # when, order, trial, the epoch that is then complete
    configs = {}
    asked: list[float] = []
    steps: list[tuple[float, float]] = []
    failed = 0

    def start(now: float) -> None:
        begun = time.perf_counter()
        trial, config = arm.start()
        asked.append(time.perf_counter() - begun)
        configs[trial] = config
        heapq.heappush(events, (now + task.course(config).epoch_s, next(order), trial, 1))

    for _ in range(workers):
        start(0.0)
    while events:
        now, _, trial, epoch = heapq.heappop(events)
        if now > length_s:
            break
        course = task.course(configs[trial])
        if course.fails == "error":
            arm.error(trial)
            goes_on = False
        else:
            value = math.nan if course.fails else task.observed(configs[trial], epoch, seed)
            goes_on = arm.epoch(trial, epoch, value)
        failed += bool(course.fails) and epoch == 1
        best = arm.best()
        found = task.chance if best is None else _worth(task, best)
        if not steps or steps[-1][1] != found:
            steps.append((now, found))
        if goes_on:
            heapq.heappush(events, (now + course.epoch_s, next(order), trial, epoch + 1))
        else:
            start(now)
    asked_s = statistics.median(asked)
    return Outcome(task.name, name, workers, seed, length_s, len(configs), failed, asked_s, steps)


def _worth(task: Task, config: dict[str, object]) -> float:
    course = task.course(config)  # type: ignore[arg-type]
    return task.chance if course.fails else course.final
