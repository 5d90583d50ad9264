"""Our search against others on recorded learning curves and a simulated clock.

    python tests/benchmarks/simulated_search.py [--tasks choosing scan-lookup …] [--curves FILE] [--seeds 20]
                                    [--workers 1 8 64] [--arms ours random …] [--against ours] [--out build/simulated]

The recorded configurations of this project's own space are cut into halves, each with a surrogate of its own: on
`choosing`, and on what others recorded (`other_curves.py`: `scan-lookup`, `scan-surrogate`, `lcdb`), somebody may try
what could win; `judging` alone says whether it does. Compared is the final value that the judge expects of the
configuration that would be retrained, at equal simulated time. Regret is a share: 0 % is the best that a task knows
of 10,000 drawn configurations, 100 % the median one. `random-asha-longer` searches LONGER, to see when it finds what
ours found. A search's course is kept in OUT/TASK.jsonl and not searched again, so the command goes on where it was
ended, and tells what is there.

Exit code 1: the arm of `--against` is not ahead of random + ASHA and of stock Ray Tune, on each task and at each number
of workers, by more than noise.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from facex_tune.evaluation import intervals
from facex_tune.metrics import worst_value
from facex_tune.simulation import curves
from facex_tune.simulation.clock import Clock, Outcome, run
from tests.benchmarks import simulated_tasks
from tests.benchmarks.simulated_opponents import ARMS, DEFAULT_ARMS
from tests.benchmarks.simulated_tasks import LENGTH, Task

LONGER = 4.0
LOOKS = 40  # at the best, in a search's time
Key = tuple[str, int, int]  # arm, workers, seed
Outcomes = Mapping[Key, Outcome]


def search(task: Task, key: Key) -> Outcome:
    """One search."""
    arm, workers, seed = key
    clock = Clock()
    until_s = task.lengths[workers] * task.training_s * (LONGER if arm == "random-asha-longer" else 1.0)
    study = task.study.model_copy(update={"search": task.study.search.model_copy(update={"seed": seed})})
    every_s = task.lengths[workers] * task.training_s / LOOKS
    arms = ARMS[arm](study, clock, workers)
    return run(arms, task.world, clock, workers=workers, seed=(seed,), until_s=until_s, every_s=every_s)


def main() -> int:
    """Searches what is missing, then tells."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--curves", type=Path, default=curves.PACKAGED)
    asked.add_argument("--tasks", nargs="*", choices=simulated_tasks.NAMES, default=["judging"])
    asked.add_argument("--seeds", type=int, default=20)
    asked.add_argument("--first-seed", type=int, default=0)
    asked.add_argument("--workers", nargs="*", type=int, choices=list(LENGTH), default=list(LENGTH))
    asked.add_argument("--arms", nargs="*", choices=list(ARMS), default=DEFAULT_ARMS)
    asked.add_argument("--against", default="ours", help="the arm that the others are compared with")
    asked.add_argument("--out", type=Path, default=Path("build/simulated"))
    asked.add_argument("--only-report", action="store_true", help="of the searches that are there")
    said = asked.parse_args()
    said.out.mkdir(parents=True, exist_ok=True)
    kept = {name: _kept(said.out / f"{name}.jsonl") for name in said.tasks}
    seeds = range(said.first_seed, said.first_seed + said.seeds)
    # seeds outermost: ended early, every cell has as many
    keys = [(arm, workers, seed) for seed in seeds for workers in said.workers for arm in said.arms]
    for key in keys if not said.only_report else []:
        for name in said.tasks:
            task = simulated_tasks.find(name, said.curves, key[2])
            if key not in kept[name] and key[1] in task.lengths:
                _search(task, key, said.out / f"{name}.jsonl", kept[name])
    told = {
        name: {key: kept[name][key] for key in keys if key in kept[name]} for name in said.tasks
    }
    text, holds = report(told, said.against, said.curves)
    print(text)
    (said.out / "report.txt").write_text(text + "\n", encoding="utf-8")
    return 0 if holds else 1


def _kept(path: Path) -> dict[Key, Outcome]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = {}
    for said in map(json.loads, lines):
        steps = tuple((at, value) for at, value in said["outcome"].pop("steps"))
        found[said["arm"], said["workers"], said["seed"]] = Outcome(steps=steps, **said["outcome"])
    return found


def _search(task: Task, key: Key, path: Path, outcomes: dict[Key, Outcome]) -> None:
    outcomes[key] = search(task, key)
    arm, workers, seed = key
    line = {"arm": arm, "workers": workers, "seed": seed, "outcome": asdict(outcomes[key])}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


class Judged:
    """The searches of one task, and what they left to be wished."""

    def __init__(self, name: str, outcomes: Outcomes, against: str, table: Path) -> None:
        self.outcomes, self.against, self._name, self._table = outcomes, against, name, table
        self.task = simulated_tasks.find(name, table)
        self.arms = list(dict.fromkeys(key[0] for key in outcomes))
        self.workers = sorted({key[1] for key in outcomes})

    def regret(self, key: Key, share: float = 1.0) -> float:
        """At a share of the time."""
        task = simulated_tasks.find(self._name, self._table, key[2])
        at_s = share * task.lengths[key[1]] * task.training_s
        nothing = task.middle - (task.ideal - task.middle)  # counts 200 %: a metric's own worst would drown the rest
        value = self.outcomes[key].value_at(at_s, worst_value(task.study.objective[0]))
        better = max if task.study.maximize else min
        return task.regret(better(value, nothing))

    def seeds(self, arm: str, workers: int) -> list[int]:
        """Those that an arm shares with the one that it is compared with."""
        own = {key[2] for key in self.outcomes if key[:2] == (arm, workers)}
        return sorted(own & {key[2] for key in self.outcomes if key[:2] == (self.against, workers)})

    def minus(self, arm: str, workers: int, share: float = 1.0) -> list[float]:
        """By how much an arm's regret is above that of the one it is compared with, seed by seed."""
        pairs = [((arm, workers, seed), (self.against, workers, seed)) for seed in self.seeds(arm, workers)]
        return [self.regret(one, share) - self.regret(other, share) for one, other in pairs]

    def anytime(self, arm: str, workers: int) -> list[float]:
        """The same, the mean over tenths of the time."""
        tenths = [self.minus(arm, workers, tenth / 10) for tenth in range(1, 11)]
        return [statistics.fmean(row) for row in zip(*tenths, strict=True)]


def report(outcomes: Mapping[str, Outcomes], against: str, table: Path) -> tuple[str, bool]:
    """The tables, and whether the arm is ahead where it should be."""
    judged = [Judged(name, found, against, table) for name, found in outcomes.items() if found]
    lines, holds = [], True
    for each in judged:
        points = 100 * abs(each.task.ideal - each.task.middle)
        lines += [
            f"{each.task.name}: {each.task.what}; ideal {each.task.ideal:.4f}, 100 % are {points:.2f} points; a whole "
            f"training takes {each.task.training_s:.1f} s",
            "",
            f"| workers | arm | n | regret at half the time, % | at the end | minus {against}'s | minus, mean over the "
            "time | trials |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for workers in each.workers:
            for arm in each.arms:
                line, ahead = _row(each, arm, workers)
                lines.append(line)
                holds = holds and (ahead or arm not in ("random-asha", "stock"))
        lines += ["", *_ratios(each), ""]
    lines += [*_pooled(judged, against), "", *_ranks(judged)]
    return "\n".join(lines), holds


def _row(judged: Judged, arm: str, workers: int) -> tuple[str, bool]:
    seeds = judged.seeds(arm, workers)
    if not seeds:
        return f"| {workers} | {arm} | 0 | | | | | |", True
    ends = [judged.regret((arm, workers, seed)) for seed in seeds]
    halfway = [judged.regret((arm, workers, seed), 0.5) for seed in seeds]
    minus, anytime = judged.minus(arm, workers), judged.anytime(arm, workers)
    interval = intervals.over_seeds(minus)
    trials = statistics.fmean(judged.outcomes[arm, workers, seed].trials for seed in seeds)
    cells = [str(workers), arm, str(len(seeds)), told(halfway), told(ends)]
    cells += ["", ""] if arm == judged.against else [told(minus), told(anytime)]
    return f"| {' | '.join([*cells, f'{trials:.0f}'])} |", interval is not None and interval[0] > 0


def told(values: list[float]) -> str:
    """The mean with its interval."""
    interval = intervals.over_seeds(values)
    mean = statistics.fmean(values)
    return f"{mean:.3g}" if interval is None else f"{mean:.3g} [{interval[0]:.3g}, {interval[1]:.3g}]"


def _pooled(judged: list[Judged], against: str) -> list[str]:
    """Each arm over all tasks: by seed, the mean over the tasks, so that a seed's tasks count as one."""
    lines = [
        f"| workers | arm, all tasks | n | minus {against}'s at the end | minus, mean over the time |",
        "|---|---|---|---|---|",
    ]
    for workers in sorted({each for one in judged for each in one.workers}):
        among = [one for one in judged if workers in one.workers]
        for arm in dict.fromkeys(arm for one in among for arm in one.arms if arm != against):
            both = set.intersection(*(set(one.seeds(arm, workers)) for one in among))
            if not both:
                continue
            ends, means = [], []
            for one in among:
                at = [seed in both for seed in one.seeds(arm, workers)]
                ends.append([value for value, yes in zip(one.minus(arm, workers), at, strict=True) if yes])
                means.append([value for value, yes in zip(one.anytime(arm, workers), at, strict=True) if yes])
            told_ends, told_means = (
                told([statistics.fmean(row) for row in zip(*values, strict=True)]) for values in (ends, means)
            )
            lines.append(f"| {workers} | {arm} | {len(both)} | {told_ends} | {told_means} |")
    return lines


def _ranks(judged: list[Judged]) -> list[str]:
    """Average ranks at the end over tasks, workers and seeds that every arm has; 1 is best, and equals share theirs."""
    from scipy.stats import rankdata

    arms = list(dict.fromkeys(arm for one in judged for arm in one.arms))
    rows = [
        [one.regret((arm, *cell)) for arm in arms]
        for one in judged
        for cell in sorted({key[1:] for key in one.outcomes})
        if all((arm, *cell) in one.outcomes for arm in arms)
    ]
    if not rows:
        return []
    ranks = rankdata(np.array(rows), axis=1)
    said = [f"{arm} {told(ranks[:, column].tolist())}" for column, arm in enumerate(arms)]
    return [f"average rank (n = {len(rows)}): {', '.join(said)}"]


def _ratios(judged: Judged) -> list[str]:
    """Random + ASHA's time over the arm's to know for good what the arm found in the end; what it never found counts
    LONGER.
    """
    lines, maximize = [], judged.task.study.maximize
    for workers in judged.workers:
        found = []
        for seed in judged.seeds("random-asha-longer", workers):
            ours, other = (judged.outcomes[arm, workers, seed] for arm in (judged.against, "random-asha-longer"))
            if ours.steps:
                value = ours.steps[-1][1]
                took_s = max(ours.first_time_s(value, maximize), 1e-9)
                found.append(min(other.first_time_s(value, maximize), LONGER * ours.ended_s) / took_s)
        if found:
            never = sum(each > LONGER or math.isclose(each, LONGER) for each in found)
            lines.append(
                f"random-asha's time over {judged.against}'s at {workers} workers: median "
                f"{statistics.median(found):.2f} (n = {len(found)}; {never} of {LONGER:g} or more)"
            )
    return lines


if __name__ == "__main__":
    sys.exit(main())
