"""Our search against Ray Tune's stock `OptunaSearch` + ASHA and against random, on a simulated clock.

    python tests/benchmarks/search.py [--seeds 20] [--workers 1 8 64] [--tasks nas faces …] [--variants] [--out DIR]

Every search's course is kept in DIR/outcomes.jsonl and not searched again, so the command goes on where it was ended;
then it writes the table (printed too) and the plot. What is compared is the expected final accuracy of the
configuration that would be retrained if the search ended there: no arm is judged by a noisy or a truncated value.

The claims, each of which can fail:

1. never behind stock by more than noise: no task × workers where the interval of the paired difference of regrets lies
   wholly on the wrong side, at 5 % over all cells together (Holm);
2. ahead of stock where a tenth or more of the space fails, over those tasks together;
3. random search (whole trainings) needs at least 4 times our time, in the median over seeds and tasks, at 1 and at 8
   workers, to know for good a configuration as good as ours at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks import search_report
from tests.benchmarks.search_simulation import LENGTH, Outcome, simulate
from tests.benchmarks.search_tasks import TASKS, find

MAIN = ("ours", "stock", "random", "random-asha")
VARIANTS = ("ours-truncated", "ours-pruned", "ours-no-running", "ours-quartile", "ours-tenth")
Key = tuple[str, str, int, int]


def main() -> int:
    """Searches, then tells. Exit code 1: a claim failed."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seeds", type=int, default=20)
    asked.add_argument("--tasks", nargs="*", choices=list(TASKS), default=list(TASKS))
    asked.add_argument("--workers", nargs="*", type=int, choices=list(LENGTH), default=list(LENGTH))
    asked.add_argument("--variants", action="store_true", help="ours with other answers for stopped trials, too")
    asked.add_argument("--only-report", action="store_true", help="of the searches that are there")
    asked.add_argument("--jobs", type=int, default=1)
    asked.add_argument("--out", type=Path, default=Path("build/bench-search"))
    said = asked.parse_args()
    arms = (*MAIN, *VARIANTS) if said.variants else MAIN
    # seeds outermost: ended early, every task has as many
    keys = [(t, a, w, s) for s in range(said.seeds) for w in said.workers for t in said.tasks for a in arms]
    outcomes = _kept(said.out)
    if not said.only_report:
        _search([key for key in keys if key not in outcomes], said.jobs, said.out, outcomes)
    wanted = [outcomes[key] for key in keys if key in outcomes]
    text, holds = search_report.table(wanted)
    print(text)
    (said.out / "table.txt").write_text(text + "\n", encoding="utf-8")
    search_report.plot(wanted, said.out / "search.png")
    print(f"{said.out}/search.png")
    return 0 if holds else 1


def _kept(folder: Path) -> dict[Key, Outcome]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "outcomes.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [Outcome(**{**json.loads(line), "steps": [tuple(s) for s in json.loads(line)["steps"]]}) for line in lines]
    return {(one.task, one.arm, one.workers, one.seed): one for one in kept}


def _search(keys: list[Key], jobs: int, folder: Path, outcomes: dict[Key, Outcome]) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with (
        (folder / "outcomes.jsonl").open("a", encoding="utf-8") as file,
        ProcessPoolExecutor(jobs) as pool,
    ):
        running = {pool.submit(_one, key): key for key in keys}
        for done, future in enumerate(as_completed(running), start=1):
            outcomes[running[future]] = future.result()
            file.write(json.dumps(asdict(future.result())) + "\n")
            file.flush()
            if done % 20 == 0:
                print(f"{done}/{len(keys)}", file=sys.stderr)


def _one(key: Key) -> Outcome:
    task, arm, workers, seed = key
    return simulate(find(task), arm, workers, seed)


if __name__ == "__main__":
    sys.exit(main())
