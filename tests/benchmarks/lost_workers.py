"""What lost workers cost: a search on Ray of 24 trials of six epochs, and the same one with workers killed, in turn.

    python tests/benchmarks/lost_workers.py [--rounds 3] [--chance 0.03]

Every ten seconds each worker is killed with a probability of .03, an epoch takes two seconds; seconds are those of the
whole command, its Ray's start included. Wanted is a ratio of 1.25 at most; the exit code is 1 where the median is more.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.faults import test_killed_workers as killing
from tests.faults.drivers import Place
from tests.search.conftest import write_tiny_data

WANTED = 1.25


def main() -> int:
    """Runs and prints."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--chance", type=float, default=killing.CHANCE)
    said = asked.parse_args()
    ratios = []
    for number in range(said.rounds):
        with tempfile.TemporaryDirectory() as folder:
            data, study = write_tiny_data(Path(folder, "data")), killing.long_study(trials=24, step_ms=250)
            usual_s, _ = killing.search(Place(Path(folder, "sound"), data, study, on_ray=True), None)
            place = Place(Path(folder, "killed"), data, study, on_ray=True)
            took_s, killed = killing.search(place, random.Random(5 + number), said.chance)
        ratios.append(took_s / usual_s)
        print(f"{killed} workers killed: {took_s:.0f} s, without {usual_s:.0f} s: {ratios[-1]:.2f}", flush=True)
    middle = statistics.median(ratios)
    print(f"median {middle:.2f}, {min(ratios):.2f} to {max(ratios):.2f}; wanted at most {WANTED}")
    return int(middle > WANTED)


if __name__ == "__main__":
    sys.exit(main())
