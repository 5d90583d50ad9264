"""A search on a simulated clock: to tell a worker anything takes no time, to train takes what a world says."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from facex_tune.simulation.worlds import Course, World
from facex_tune.space import Config

MOST_WORKERS = 1000


@dataclass
class Clock:
    """What time it is, in simulated seconds."""

    now_s: float = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


@dataclass(frozen=True)
class Started:
    """A trial that a worker is to train now, from the epoch after `done`."""

    number: int
    config: Config
    done: int = 0


class Searching(Protocol):
    """A way of searching, asked and told as the event loop of a real search would."""

    def start(self) -> Started | None:
        """What a free worker trains next; None: nothing now, or nothing any more."""

    def epoch(self, number: int, epoch: int, scores: dict[str, float], seconds: float) -> bool:
        """Takes in what an epoch came to; whether the trial goes on."""

    def fail(self, number: int, reason: str, seconds: float) -> None:
        """Takes in that a trial failed, and what time it had lost."""

    def best(self) -> Config | None:
        """The configuration that would be retrained if the search ended now; None: there is none yet."""


@dataclass(frozen=True)
class Outcome:
    """How one search went.

    Attributes:
        steps: (seconds, final value expected of the configuration that would be retrained then), where it changes.
        ended_s: when the last trial ended, or the clock was stopped.
        trained_s: of all workers together.
        trials: started.
        failing: of these, whose training diverges or collapses if it is left to.
    """

    steps: tuple[tuple[float, float], ...]
    ended_s: float
    trained_s: float
    trials: int
    failing: int

    def value_at(self, time_s: float, before: float) -> float:
        """What would be retrained at a time is expected to come to; `before` there is anything."""
        return next((value for at, value in reversed(self.steps) if at <= time_s), before)

    def first_time_s(self, value: float, maximize: bool) -> float:
        """When something at least as good was found and not left again; infinite: never."""
        since = math.inf
        for at, found in self.steps:
            since = min(since, at) if (found >= value if maximize else found <= value) else math.inf
        return since


def run(
    search: Searching,
    world: World,
    clock: Clock,
    *,
    workers: int,
    seed: tuple[int, ...] = (),
    until_s: float = math.inf,
    every_s: float = 0.0,
) -> Outcome:
    """Runs a search to its end, or until the clock says `until_s`; what has not ended by then does not count.

    Args:
        clock: told the time before the search is asked or told anything.
        seed: of the trainings; trial n of it is the same training for every search that suggests it the same.
        every_s: how often the best is asked for; 0: whenever a trial ends.
    """
    return _Loop(search, world, clock, workers, seed, every_s).run(until_s)


class _Loop:
    def __init__(
        self, search: Searching, world: World, clock: Clock, workers: int, seed: tuple[int, ...], every_s: float
    ) -> None:
        self.search, self.world, self.clock, self.workers, self.seed = search, world, clock, workers, seed
        self.every_s, self.looked_s = every_s, 0.0
        self.order = itertools.count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.idle, self.courses, self.configs = workers, dict[int, Course](), dict[int, Config]()
        self.steps: list[tuple[float, float]] = []
        self.trained_s = 0.0

    def run(self, until_s: float) -> Outcome:
        self._employ()
        while self.events and self.events[0][0] <= until_s:
            self.clock.now_s, _, happen = heapq.heappop(self.events)
            self._look_before(self.clock.now_s)
            happen()
            self._employ()
        ended_s = until_s if self.events else self.clock.now_s
        self._look_before(ended_s, is_end=True)
        failing = sum(bool(course.failure) for course in self.courses.values())
        return Outcome(tuple(self.steps), ended_s, self.trained_s, len(self.courses), failing)

    def _employ(self) -> None:
        """Gives free workers something to do, as long as there is anything."""
        while self.idle and (started := self.search.start()) is not None:
            self.idle -= 1
            number = started.number
            if number not in self.courses:
                self.configs[number] = started.config
                self.courses[number] = self.world.course(started.config, (*self.seed, number))
            self._train(number, started.done + 1)

    def _train(self, number: int, epoch: int) -> None:
        course = self.courses[number]
        if epoch > len(course.seconds):
            self._after(course.lost_s, lambda: self._fail(number))
        else:
            self._after(course.seconds[epoch - 1], lambda: self._epoch(number, epoch))

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.clock.now_s + seconds, next(self.order), happen))

    def _epoch(self, number: int, epoch: int) -> None:
        course = self.courses[number]
        self.trained_s += course.seconds[epoch - 1]
        if self.search.epoch(number, epoch, dict(course.scores[epoch - 1]), course.seconds[epoch - 1]):
            self._train(number, epoch + 1)
        else:
            self._left()

    def _fail(self, number: int) -> None:
        course = self.courses[number]
        self.trained_s += course.lost_s
        self.search.fail(number, course.failure or "error", course.lost_s)
        self._left()

    def _left(self) -> None:
        """A worker is free again, and another configuration may be the best."""
        self.idle += 1
        if not self.every_s:
            self._look(self.clock.now_s)

    def _look_before(self, now_s: float, *, is_end: bool = False) -> None:
        """Asks for the best once for every time at which it should have been asked before now."""
        if self.every_s and (is_end or now_s >= self.looked_s + self.every_s):
            self.looked_s = now_s if is_end else math.floor(now_s / self.every_s) * self.every_s
            self._look(self.looked_s)

    def _look(self, at_s: float) -> None:
        best = self.search.best()
        if best is not None and (not self.steps or self.world.final(best) != self.steps[-1][1]):
            self.steps.append((at_s, self.world.final(best)))
