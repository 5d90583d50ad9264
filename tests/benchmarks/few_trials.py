"""What a search of a few trials chooses, and whether it would choose the same again: by how many trials a rung wants
before it cuts one.

    python tests/benchmarks/few_trials.py [--trials 8] [--workers 1 2 4] [--seeds 200] [--fewest 1 2 3 4 6 8]

Every study runs twice on a simulated clock, with the same seed; epochs take up to half as long again, or half as
long, each time others, so that results arrive in another order. Printed for each task and number of workers: the regret
of the configuration that would be retrained, the mean difference between the two runs' choices, and the epochs trained.
With `--trainings 4` the search ends when all workers together have spent as long as four whole trainings take in the
median, so that whoever cuts late has fewer trials. `--noise` is an epoch's standard deviation. `--prior 0.1
--confidence medium` is what the study believes of `faces`' learning rate: the best is .1, for batches of 128.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from facex_tune.search.scheduler import Asha
from facex_tune.space import CONFIDENCE, Float
from tests.benchmarks import search_tasks
from tests.benchmarks.search_arms import REDUCTION, Ours
from tests.benchmarks.search_report import interval
from tests.benchmarks.search_simulation import training_s
from tests.benchmarks.search_tasks import EPOCHS, Task, find

JITTER = 0.5  # of an epoch's duration


def play(
    task: Task, fewest: int, workers: int, trials: int, seed: int, run: int, end_s: float = math.inf
) -> tuple[float, int]:
    """One search: the expected final value of what it would retrain, and its epochs."""
    arm = Ours(task, workers, seed)
    arm._scheduler = Asha(1, EPOCHS, REDUCTION, True, fewest=fewest)
    luck, order, epochs = np.random.default_rng([seed, run]), itertools.count(), 0
    events: list[tuple[float, int, int, int]] = []

    def push(now: float, trial: int, epoch: int) -> None:
        epoch_s = task.course(arm.trials[trial].config).epoch_s * float(luck.uniform(1 - JITTER, 1 + JITTER))
        heapq.heappush(events, (now + epoch_s, next(order), trial, epoch))

    for _ in range(workers):
        push(0.0, arm.start()[0], 1)
    while events:
        now, _, trial, epoch = heapq.heappop(events)
        if now > end_s:
            break
        epochs += 1
        config = arm.trials[trial].config
        if task.course(config).fails:
            arm.error(trial)
        elif arm.epoch(trial, epoch, task.observed(config, epoch, seed)):
            push(now, trial, epoch + 1)
            continue
        if len(arm.trials) < trials:
            push(now, arm.start()[0], 1)
    best = arm.best()
    found = task.course(best) if best else None
    return (task.chance if found is None or found.fails else found.final), epochs


def believing(task: Task, prior: float, confidence: str) -> Task:
    """The task, whose learning rate has a prior."""
    lr = task.space.train["lr"]
    assert isinstance(lr, Float)
    train = {**task.space.train, "lr": replace(lr, prior=prior, confidence=confidence)}
    return replace(task, space=replace(task.space, train=train))


def main() -> None:
    """Searches, then tells."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--trials", type=int, default=8)
    asked.add_argument("--workers", nargs="*", type=int, default=[1, 2, 4])
    asked.add_argument("--seeds", type=int, default=200)
    asked.add_argument("--fewest", nargs="*", type=int, default=[1, 2, 3, 4, 6, 8])
    asked.add_argument("--trainings", type=float)
    asked.add_argument("--tasks", nargs="*", default=["nas", "hpo", "faces", "faces-failing"])
    asked.add_argument("--prior", type=float)
    asked.add_argument("--confidence", choices=CONFIDENCE, default="medium")
    asked.add_argument("--noise", type=float, default=search_tasks.NOISE)
    said = asked.parse_args()
    search_tasks.NOISE = said.noise
    print(f"{'task':14} workers fewest  regret               against fewest 1      two runs differ by  epochs")
    for name, workers in itertools.product(said.tasks, said.workers):
        task, before = find(name), None
        if said.prior is not None:
            task = believing(task, said.prior, said.confidence)
        end_s = math.inf if said.trainings is None else said.trainings * training_s(task) / workers
        for fewest in said.fewest:
            runs = [
                [play(task, fewest, workers, said.trials, seed, run, end_s) for run in (0, 1)]
                for seed in range(said.seeds)
            ]
            found = np.array([[value for value, _ in both] for both in runs])
            regrets = task.ideal - found.mean(axis=1)
            before = regrets if before is None else before
            low, high = interval(regrets)
            gain = interval(before - regrets)
            epochs = np.mean([[n for _, n in both] for both in runs])
            apart = float(np.abs(found[:, 0] - found[:, 1]).mean())
            print(
                f"{name:14} {workers:7} {fewest:6}  {regrets.mean():.4f} [{low:.4f}, {high:.4f}]  "
                f"[{gain[0]:+.4f}, {gain[1]:+.4f}]  {apart:18.4f}  {epochs:6.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
