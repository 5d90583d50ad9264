"""What a study's search would find by when, and at what cost, by recorded learning curves."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from facex_tune.errors import InputError, nearest
from facex_tune.evaluation import intervals
from facex_tune.metrics import worst_value
from facex_tune.simulation import accuracy, clock, curves
from facex_tune.simulation.accuracy import Unseen
from facex_tune.simulation.clock import MOST_WORKERS, Clock, Outcome
from facex_tune.simulation.curves import Curves
from facex_tune.simulation.ours import Ours
from facex_tune.simulation.worlds import Lookup, Surrogate, World
from facex_tune.study import Study

HOW = ("surrogate", "lookup")
POINTS = 60  # of a drawn course
NEAR = 0.01  # of the final value: found, for all that a user would see
TELLS = 0.9  # times the error of telling all configurations the same; from there on a table tells next to nothing


@dataclass(frozen=True)
class Arm:
    """One way of searching: a study, and how many of its trials run at once."""

    study: Study
    workers: int

    @property
    def slots(self) -> int:
        """Trials at once: `search.concurrency` may allow fewer than there are workers."""
        return min(self.workers, self.study.search.concurrency or self.workers)

    def told(self) -> dict[str, Any]:
        """What tells it from others."""
        search = self.study.search
        reduction = self.study.fidelity.reduction if search.scheduler == "asha" else None
        return {
            "sampler": search.sampler,
            "scheduler": search.scheduler,
            "reduction": reduction,
            "workers": self.workers,
        }


@dataclass
class Found:
    """What one arm's searches came to, over seeds."""

    arm: Arm
    outcomes: list[Outcome] = field(default_factory=list)


def problems(study: Study, table: Curves, workers: Iterable[int]) -> list[str]:
    """Finds why a study cannot be simulated with these curves, a line each."""
    found = [
        f"--workers {count}: a simulation has 1 to {MOST_WORKERS:,} workers"
        for count in workers
        if not 1 <= count <= MOST_WORKERS
    ]
    found += curves.outside(study.space, table)
    if study.fidelity.max_epochs != table.epochs:
        found.append(
            f"fidelity.max_epochs: {study.fidelity.max_epochs}, and the recorded trainings have {table.epochs} epochs, "
            f"which their learning rates' schedules span; use --set fidelity.max_epochs={table.epochs}"
        )
    for name in dict.fromkeys((*study.objective, *study.bounds)):
        if name not in table.metrics:
            found.append(f"{name} was not recorded; recorded: {', '.join(table.metrics)}")
    for key in ("learn_from", "priors_from"):
        if getattr(study.search, key):
            found.append(f"search.{key}: a simulation has no runs to learn from; use --set 'search.{key}=[]'")
    return found


def simulate(arms: Sequence[Arm], table: Curves, *, how: str = "surrogate", seeds: int = 5) -> dict[str, Any]:
    """Simulates every arm with each of some seeds.

    Returns:
        a document for JSON: what the curves are, how well they tell of unseen configurations, and what each arm found
        by when.

    Raises:
        InputError: a study cannot be simulated with these curves, or its search comes to nothing.
    """
    wrong = [line for arm in arms for line in problems(arm.study, table, [arm.workers])]
    if wrong:
        raise InputError(list(dict.fromkeys(wrong)))
    if how not in HOW:
        raise InputError(f"--by: no way to know a configuration named {how!r}; {nearest(how, HOW)}")
    world = world_of(table, arms[0].study, how)
    found = [Found(arm, [_searched(arm, world, seed) for seed in range(seeds)]) for arm in arms]
    study = arms[0].study
    unseen = accuracy.of(table, study.objective[0], how)
    return {
        "version": 1,
        "study": study.name,
        "objective": study.objective[0],
        "curves": {
            "what": table.what,
            "configurations": table.configurations,
            "trainings": len(table.trainings),
            "failed": len(table.failed),
            "epochs": table.epochs,
        },
        "by": how,
        "unseen": asdict(unseen),
        "seeds": seeds,
        "arms": [_document(each, study) for each in found],
        "notes": [*table.notes, *_doubts(unseen), *_notes(study, found)],
    }


def world_of(table: Curves, study: Study, how: str) -> World:
    """The lookup or the surrogate of a table, with the metrics that a study asks for."""
    asked = tuple(dict.fromkeys((*study.objective, *study.bounds)))
    return Lookup(table, asked) if how == "lookup" else Surrogate(table, asked)


def _searched(arm: Arm, world: World, seed: int) -> Outcome:
    search = arm.study.search.model_copy(update={"seed": arm.study.search.seed + seed})
    study, time = arm.study.model_copy(update={"search": search}), Clock()
    return clock.run(Ours(study, time, arm.slots), world, time, workers=arm.slots, seed=(search.seed,))


def _document(found: Found, study: Study) -> dict[str, Any]:
    outcomes, worst = found.outcomes, worst_value(study.objective[0])
    ended_s = max(each.ended_s for each in outcomes)
    finals = [each.value_at(each.ended_s, worst) for each in outcomes]
    times_s = np.linspace(0, ended_s, POINTS + 1)[1:]
    course = [[float(at), statistics.fmean(each.value_at(at, worst) for each in outcomes)] for at in times_s]
    near_s = [_near_s(each, value, study.maximize) for each, value in zip(outcomes, finals, strict=True)]
    interval = intervals.over_seeds(finals)
    return {
        **found.arm.told(),
        "trials": statistics.fmean(each.trials for each in outcomes),
        "failing": statistics.fmean(each.failing for each in outcomes),
        "found": statistics.fmean(finals),
        "interval": None if interval is None else list(interval),
        "seconds": statistics.fmean(each.ended_s for each in outcomes),
        "near_seconds": statistics.median(near_s),
        "worker_seconds": statistics.fmean(each.trained_s for each in outcomes),
        "course": course,
    }


def _near_s(outcome: Outcome, final: float, maximize: bool) -> float:
    """When a search had found what is within a hundredth of what it found in the end; its end where it found none."""
    reach = abs(final) * NEAR
    return min(outcome.first_time_s(final - reach if maximize else final + reach, maximize), outcome.ended_s)


def _doubts(unseen: Unseen) -> list[str]:
    if unseen.mean_error < TELLS * unseen.constant_error:
        return []
    return [
        "these curves hardly tell a configuration that they have not seen from any other: read nothing into "
        "differences between searches; record more of them, or name others with --curves"
    ]


def _notes(study: Study, found: Sequence[Found]) -> list[str]:
    notes = []
    if any(each.arm.slots < each.arm.workers for each in found):
        notes.append(f"search.concurrency {study.search.concurrency} leaves the other workers without a trial")
    if any(not each.steps for one in found for each in one.outcomes):
        notes.append("some searches ended before any trial came to a value; they count with the worst there is")
    return notes
