"""What `search: {order: fixed}` costs in time: the same searches with either order, on a simulated clock.

    python tests/benchmarks/fixed_order.py [--trials 40] [--workers 2 4 8] [--seeds 10] [--spread 0 2 4]

An epoch of a configuration takes up to `spread` times as long as another's, evenly in the logarithm, and up to a fifth
more or less each time. Printed: the time that the search takes with `fixed` over that with `arrival`, epoch for epoch.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from facex_tune.runs.store import Run
from facex_tune.search.referee import Referee
from facex_tune.search.worker_report import Epoch
from tests.benchmarks.search_report import interval
from tests.search.conftest import tiny_study

EPOCHS = 9


def play(folder: Path, order: str, workers: int, trials: int, spread: float, seed: int) -> tuple[float, int]:
    """One search: its time, and its epochs."""
    search = {"seed": seed, "order": order, "concurrency": workers, "sampler": "random"}
    fidelity = {"min_epochs": 1, "max_epochs": EPOCHS, "reduction": 3}
    study = tiny_study(budget={"trials": trials}, fidelity=fidelity, search=search)
    run = Run.create(folder, "r", study, data={}, environment={})
    luck, count, now, epochs = np.random.default_rng(seed), itertools.count(), 0.0, 0
    ends: list[tuple[float, int, int, int]] = []
    with run.log() as log:
        referee = Referee(run, log, lambda: now)

        def push(trial: int, epoch: int) -> None:
            usual = max(1.0, spread) ** float(np.random.default_rng([seed, trial]).random())
            heapq.heappush(ends, (now + usual * float(luck.uniform(0.8, 1.2)), next(count), trial, epoch))

        while True:
            while len(ends) < workers and (trial := referee.next_trial()) is not None:
                push(trial.number, trial.last_epoch + 1)
            if not ends:
                return now, epochs
            now, _, number, epoch = heapq.heappop(ends)
            epochs += 1
            value = float(np.random.default_rng([seed, number]).random()) + epoch / 50
            if referee.take(number, Epoch(epoch, {"macro_f1": value}, 1.0)):
                push(number, epoch + 1)


def main() -> None:
    """Searches, then tells."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--trials", type=int, default=40)
    asked.add_argument("--workers", nargs="*", type=int, default=[2, 4, 8])
    asked.add_argument("--seeds", type=int, default=10)
    asked.add_argument("--spread", nargs="*", type=float, default=[0.0, 2.0, 4.0])
    said = asked.parse_args()
    print("workers spread  time of fixed over arrival, epoch for epoch")
    for workers, spread in itertools.product(said.workers, said.spread):
        ratios = []
        for seed in range(said.seeds):
            with tempfile.TemporaryDirectory() as folder:
                (fixed, n_fixed), (arrival, n_arrival) = (
                    play(Path(folder) / order, order, workers, said.trials, spread, seed)
                    for order in ("fixed", "arrival")
                )
            ratios.append((fixed / n_fixed) / (arrival / n_arrival))
        low, high = interval(np.array(ratios))
        print(f"{workers:7} {spread:6.0f}  {np.mean(ratios):.2f} [{low:.2f}, {high:.2f}]", flush=True)


if __name__ == "__main__":
    main()
