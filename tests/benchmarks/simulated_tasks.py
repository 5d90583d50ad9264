"""What `simulated_search.py` searches: recorded learning curves of this project's own space, cut into halves; those
that others recorded; and the tables of `search_tasks.py` on the same clock.
"""

from __future__ import annotations

import functools
import hashlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facex_tune import study as studies
from facex_tune.simulation import curves
from facex_tune.simulation.curves import Curves
from facex_tune.simulation.worlds import Course, Lookup, Surrogate, World
from facex_tune.space import Config, Space
from facex_tune.study import Study
from facex_tune.study.schema import Budget, Fidelity, Search
from tests.benchmarks import other_curves, search_tasks

HALVES = ("choosing", "judging")
ALL = "all"  # while the table is too small to be cut
LENGTH = {1: 15.0, 8: 3.0, 64: 1.2}  # simulated time by workers, in whole trainings of the median duration
LCDB_SETS = 24  # data sets; a seed is one of them, in turn
DRAWN = 10_000
STUDY = Path(__file__).resolve().parents[2] / "search_spaces" / "small_curves.yaml"


@dataclass(frozen=True)
class Task:
    """A world and what is searched in it.

    Attributes:
        ideal: the best final value that is known of there.
        middle: of a configuration that is drawn evenly, the median: regret is a share of what lies between.
        training_s: of a whole training, the median.
        lengths: simulated time by workers, in whole trainings.
    """

    name: str
    what: str
    study: Study
    world: World
    ideal: float
    middle: float
    training_s: float
    lengths: dict[int, float]

    def regret(self, value: float) -> float:
        """In percent of the way from the ideal to the median configuration."""
        return 100 * (self.ideal - value) / (self.ideal - self.middle)


def find(name: str, table: Path = curves.PACKAGED, seed: int = 0) -> Task:
    """A task by name; the seed matters where seeds have other data."""
    if name in (*HALVES, ALL):
        return _faces(name, table)
    if name.startswith("scan-"):
        return _scan(name.removeprefix("scan-"))
    if name == "lcdb":
        sets = _lcdb_sets()
        return _lcdb(sets[seed % len(sets)])
    return _table(name)


NAMES = (*HALVES, ALL, "scan-lookup", "scan-surrogate", "lcdb", *search_tasks.TASKS)


@functools.cache
def _faces(half: str, path: Path) -> Task:
    table = curves.read(path)
    numbers = sorted({each.configuration for each in table.trainings})
    order = np.random.default_rng(0).permutation(numbers).tolist()
    table = table if half == ALL else table.only(order[HALVES.index(half) :: 2])
    if len(table.whole) < curves.FEWEST:
        raise SystemExit(f"{half}: {len(table.whole)} whole trainings are too few; --tasks {ALL} takes both halves")
    study = studies.load(STUDY, ["budget.trials=1000000"])  # no budget but the clock's
    return _of_curves(half, table, study, Surrogate(table, study.objective), LENGTH)


@functools.cache
def _scan(how: str) -> Task:
    table = other_curves.scan_vlm()
    study = _studied("scan", table.space, table.metrics[0], table.epochs)
    world = Lookup(table, study.objective) if how == "lookup" else Surrogate(table, study.objective)
    return _of_curves(f"scan-{how}", table, study, world, LENGTH)


@functools.cache
def _lcdb_sets() -> list[int]:
    return other_curves.lcdb_sets(LCDB_SETS)


@functools.cache
def _lcdb(openml: int) -> Task:
    table = other_curves.lcdb(openml)
    study = _studied("lcdb", table.space, table.metrics[0], table.epochs)
    # with some twenty configurations, of which more workers would train all
    return _of_curves("lcdb", table, study, Lookup(table, study.objective), {1: 8.0})


def _studied(name: str, space: Space, objective: str, epochs: int) -> Study:
    return Study(
        version=1,
        name=name,
        data="none",
        objective=(objective,),
        budget=Budget(trials=1_000_000),
        fidelity=Fidelity(min_epochs=1, max_epochs=epochs, reduction=3),
        search=Search(),
        space=space,
    )


def _of_curves(name: str, table: Curves, study: Study, world: World, lengths: dict[int, float]) -> Task:
    rng = np.random.default_rng(0)
    drawn = [study.space.random(rng) for _ in range(DRAWN if isinstance(world, Surrogate) else 1000)]
    finals = [world.final(config) for config in drawn]
    best = max if study.maximize else min
    ideal = best(*finals, *(world.final(each.config) for each in table.whole))
    training_s = statistics.median(float(each.seconds_E.sum()) for each in table.whole)
    what = f"{table.configurations} configurations, {len(table.trainings)} trainings, {len(table.failed)} failed"
    return Task(name, what, study, world, ideal, statistics.median(finals), training_s, lengths)


class _Tabled:
    """A task of `search_tasks.py` as a world."""

    def __init__(self, task: search_tasks.Task) -> None:
        self._task = task

    def _own(self, config: Config) -> Config:
        return config if self._task.space.parts else {name: config[name] for name, _ in self._task.space.knobs()}

    def course(self, config: Config, seed: Sequence[int]) -> Course:
        """See `World`."""
        config = self._own(config)
        found, epochs = self._task.course(config), range(1, search_tasks.EPOCHS + 1)
        if found.fails:
            return Course((), (), "diverged" if found.fails == "nan" else "error", found.epoch_s)
        # `observed` takes one number: one of the search and the trial
        digest = hashlib.blake2b(repr(tuple(seed)).encode(), digest_size=4).digest()
        number = int.from_bytes(digest, "big")
        scores = tuple({"accuracy": self._task.observed(config, epoch, number)} for epoch in epochs)
        return Course(scores, (found.epoch_s,) * len(epochs))

    def final(self, config: Config) -> float:
        """See `World`."""
        found = self._task.course(self._own(config))
        return self._task.chance if found.fails else found.final


@functools.cache
def _table(name: str) -> Task:
    task = search_tasks.find(name)
    world, rng = _Tabled(task), np.random.default_rng(0)
    drawn = [task.space.random(rng) for _ in range(2000)]
    training_s = statistics.median(task.course(config).epoch_s * search_tasks.EPOCHS for config in drawn)
    middle = statistics.median(world.final(config) for config in drawn)
    parts = {"model": {"network": {}}, "augment": {"none": {}}, "balance": {"none": {}}}  # every study has them
    space = task.space if task.space.parts else Space(parts, task.space.train)
    study = _studied(name, space, "accuracy", search_tasks.EPOCHS)
    return Task(name, "tables with synthetic curves", study, world, task.ideal, middle, training_s, LENGTH)
