"""How often `search: {stop_when_settled: noise}` stops too early, and what it saves, on simulated searches.

    python tests/benchmarks/settling.py [--tasks all faces nas] [--seeds 20] [--trials 120] [--workers 4]
                                        [--sampler tpe] [--said noise]

Each search runs to the end of its trials; where the rule would have ended it is noted on the way, and what would have
been retrained then. Too early is a stop after which the rest of the search finds a configuration whose expected value
is better by more than the noise of one training, as the task knows it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from facex_tune.runs.events import SearchSettled
from facex_tune.search.settling import Repeat
from facex_tune.simulation.clock import Clock, run
from facex_tune.simulation.ours import Ours
from facex_tune.study.schema import Budget
from tests.benchmarks import simulated_tasks
from tests.benchmarks.simulated_search import told
from tests.benchmarks.simulated_tasks import Task

DRAWS = 40  # trainings of one configuration, for its noise


@dataclass(frozen=True)
class Ended:
    """One search.

    Attributes:
        at_trial: that would not have begun; None: it never settled.
        then, at_end: the expected value of what would be retrained.
        left, noise: as the rule saw them.
        repeats: trials that measured the noise.
    """

    at_trial: int | None
    then: float
    at_end: float
    left: float
    noise: float
    repeats: int


class _Watched(Ours):
    """Our search, which goes on where the rule would have ended it."""

    def watch(self, task: Task) -> None:
        self._task, self.settled, self.then, self.at_trial = task, None, float("nan"), None
        settling = self._referee._settling
        assert settling is not None
        look = settling.look

        def watched(ledger: object) -> Repeat | None:
            found = look(ledger) if self.settled is None else None  # type: ignore[arg-type]
            if isinstance(found, SearchSettled):
                best = self.best()
                assert best is not None
                self.settled, self.at_trial, self.then = found, len(self.trials), task.world.final(best)
                return None
            return found

        settling.look = watched  # type: ignore[assignment, method-assign]

    settled: SearchSettled | None
    at_trial: int | None


def search(task: Task, seed: int, trials: int, workers: int, sampler: str, said: str | float) -> Ended:
    """One search."""
    asked = {"seed": seed, "sampler": sampler, "stop_when_settled": said}
    study = task.study.model_copy(
        update={"search": task.study.search.model_copy(update=asked), "budget": Budget(trials=trials)}
    )
    assert isinstance(study.search.stop_when_settled, str | float)
    clock = Clock()
    ours = _Watched(study, clock, workers)
    ours.watch(task)
    run(ours, task.world, clock, workers=workers, seed=(seed,), every_s=task.training_s)
    best = ours.best()
    assert best is not None
    at_end = task.world.final(best)
    repeats = sum(trial.source == "repeat" for trial in ours.trials.values())
    found = ours.settled
    if found is None:
        return Ended(None, at_end, at_end, float("nan"), float("nan"), repeats)
    return Ended(ours.at_trial, ours.then, at_end, found.left, found.noise, repeats)


def noise_of(task: Task) -> float:
    """The standard deviation of a good configuration's last value over seeds."""
    rng = np.random.default_rng(0)
    drawn = [task.study.space.random(rng) for _ in range(200)]
    sign = 1.0 if task.study.maximize else -1.0
    good = sorted(drawn, key=lambda config: -sign * task.world.final(config))[:20]
    spreads = []
    for config in good:
        courses = [task.world.course(config, (9, seed)) for seed in range(DRAWS)]
        ends = [course.scores[-1][task.study.objective[0]] for course in courses if not course.failure]
        if len(ends) > 1:
            spreads.append(float(np.std(ends, ddof=1)))
    return statistics.median(spreads)


def main() -> None:
    """Searches and prints, a row a task."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--tasks", nargs="*", choices=simulated_tasks.NAMES, default=["all", "faces", "nas"])
    asked.add_argument("--seeds", type=int, default=20)
    asked.add_argument("--trials", type=int, default=120)
    asked.add_argument("--workers", type=int, default=4)
    asked.add_argument("--sampler", default="tpe")
    asked.add_argument("--said", default="noise", help="as the study says it: noise, or a gain")
    said = asked.parse_args()
    rule: str | float = said.said if said.said == "noise" else float(said.said)
    print("| task | n | noise of a training | settled | trials of those | too early | lost by stopping | noise seen |")
    print("|---|---|---|---|---|---|---|---|")
    for name in said.tasks:
        task = simulated_tasks.find(name)
        noise = noise_of(task) if rule == "noise" else float(rule)
        ends = [search(task, seed, said.trials, said.workers, said.sampler, rule) for seed in range(said.seeds)]
        sign = 1.0 if task.study.maximize else -1.0
        settled = [each for each in ends if each.at_trial is not None]
        lost = [sign * (each.at_end - each.then) for each in settled]
        cells = [name, str(len(ends)), f"{noise:.4f}", str(len(settled))]
        at = statistics.fmean(each.at_trial or 0 for each in settled) if settled else said.trials
        cells += [f"{at:.0f} of {said.trials}"]
        cells += [str(sum(value > noise for value in lost)), told(lost) if settled else "-"]
        cells += [told([each.noise for each in settled]) if settled else "-"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
