"""Our search against others on recorded learning curves of this project's own space, on a simulated clock.

    python tests/benchmarks/simulated_search.py [--curves FILE] [--half judging] [--seeds 20] [--workers 1 8 64]
                                                [--arms ours random …] [--out build/simulated-search]

The recorded configurations are cut into halves, each with a surrogate of its own: on `choosing` somebody may try what
could win, `judging` alone says whether it does. Compared is the final value that the judge expects of the configuration
that would be retrained, at equal simulated time: regret, in points, to the best that the half's surrogate knows of
10,000 drawn configurations. `random-asha` searches LONGER, to see when it finds what ours found. A search's course is
kept in OUT/HALF.jsonl and not searched again, so the command goes on where it was ended, and tells what is there.

Exit code 1: ours is not ahead of random + ASHA and of stock Ray Tune, at each number of workers, by more than noise.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from facex_tune import study as studies
from facex_tune.evaluation import intervals
from facex_tune.metrics import worst_value
from facex_tune.simulation import curves
from facex_tune.simulation.clock import Clock, Outcome, run
from facex_tune.simulation.curves import Curves
from facex_tune.simulation.worlds import Surrogate
from facex_tune.study import Study
from tests.benchmarks.simulated_opponents import ARMS

HALVES = ("choosing", "judging")
ALL = "all"  # while the table is too small to be cut
LENGTH = {1: 15.0, 8: 3.0, 64: 1.2}  # simulated time by workers, in whole trainings of the median duration
LONGER = 4.0
DRAWN = 10_000
STUDY = Path(__file__).resolve().parents[2] / "search_spaces" / "small_curves.yaml"
Key = tuple[str, int, int]  # arm, workers, seed


class Half:
    """Half of the configurations: its surrogate, the best in it, and how long a training takes."""

    def __init__(self, table: Curves, half: str, study: Study) -> None:
        numbers = sorted({each.configuration for each in table.trainings})
        order = np.random.default_rng(0).permutation(numbers).tolist()
        self.table = table if half == ALL else table.only(order[HALVES.index(half) :: 2])
        if len(self.table.whole) < curves.FEWEST:
            raise SystemExit(f"{half}: {len(self.table.whole)} whole trainings are too few; --half {ALL} takes both")
        self.study = study
        self.world = Surrogate(self.table, study.objective)
        rng = np.random.default_rng(0)
        configs = [study.space.random(rng) for _ in range(DRAWN)]
        configs += [each.config for each in self.table.whole]
        self.ideal = max(self.world.final(config) for config in configs)
        self.training_s = statistics.median(float(each.seconds_E.sum()) for each in self.table.whole)

    def search(self, key: Key) -> Outcome:
        """One search."""
        arm, workers, seed = key
        clock = Clock()
        until_s = LENGTH[workers] * self.training_s * (LONGER if arm == "random-asha" else 1.0)
        search = self.study.search.model_copy(update={"seed": seed})
        study = self.study.model_copy(update={"search": search})
        return run(ARMS[arm](study, clock, workers), self.world, clock, workers=workers, seed=(seed,), until_s=until_s)


def main() -> int:
    """Searches what is missing, then tells."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--curves", type=Path, default=curves.PACKAGED)
    asked.add_argument("--half", choices=(*HALVES, ALL), default="judging")
    asked.add_argument("--seeds", type=int, default=20)
    asked.add_argument("--workers", nargs="*", type=int, choices=list(LENGTH), default=list(LENGTH))
    asked.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    asked.add_argument("--out", type=Path, default=Path("build/simulated-search"))
    asked.add_argument("--only-report", action="store_true", help="of the searches that are there")
    said = asked.parse_args()
    # no budget but the clock's
    study = studies.load(STUDY, ["budget.trials=1000000"])
    half = Half(curves.read(said.curves), said.half, study)
    said.out.mkdir(parents=True, exist_ok=True)
    path = said.out / f"{said.half}.jsonl"
    # seeds outermost: ended early, every cell has as many
    keys = [(arm, workers, seed) for seed in range(said.seeds) for workers in said.workers for arm in said.arms]
    outcomes = _kept(path)
    if not said.only_report:
        _search([key for key in keys if key not in outcomes], half, path, outcomes)
    text, holds = report({key: outcomes[key] for key in keys if key in outcomes}, half)
    print(text)
    (said.out / f"{said.half}.txt").write_text(text + "\n", encoding="utf-8")
    return 0 if holds else 1


def _kept(path: Path) -> dict[Key, Outcome]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = {}
    for said in map(json.loads, lines):
        steps = tuple((at, value) for at, value in said["outcome"].pop("steps"))
        found[said["arm"], said["workers"], said["seed"]] = Outcome(steps=steps, **said["outcome"])
    return found


def _search(keys: list[Key], half: Half, path: Path, outcomes: dict[Key, Outcome]) -> None:
    with path.open("a", encoding="utf-8") as file:
        for key in keys:
            outcomes[key] = half.search(key)
            arm, workers, seed = key
            line = {"arm": arm, "workers": workers, "seed": seed, "outcome": asdict(outcomes[key])}
            file.write(json.dumps(line) + "\n")
            file.flush()


def report(outcomes: dict[Key, Outcome], half: Half) -> tuple[str, bool]:
    """The tables, and whether ours is ahead where it should be."""
    lines = [
        f"{half.table.configurations} configurations, {len(half.table.trainings)} trainings, of which "
        f"{len(half.table.failed)} failed; ideal {half.ideal:.4f}; a whole training takes {half.training_s:.1f} s",
        "",
        "| workers | arm | n | regret at half the time | regret at the end | minus ours | trials of all its time |",
        "|---|---|---|---|---|---|---|",
    ]
    ahead: dict[tuple[int, str], bool] = {}
    for workers in sorted({key[1] for key in outcomes}):
        at = {key: each for key, each in outcomes.items() if key[1] == workers}
        for arm in dict.fromkeys(key[0] for key in at):
            line, ahead[workers, arm] = _row(at, arm, workers, half)
            lines.append(line)
    lines += ["", *_ranks(outcomes, half), "", *_ratios(outcomes)]
    holds = all(yes for (_, arm), yes in ahead.items() if arm in ("random-asha", "stock"))
    return "\n".join(lines), holds


def regret(outcome: Outcome, at_s: float, half: Half) -> float:
    """In points of the score, at a time."""
    return 100 * (half.ideal - outcome.value_at(at_s, worst_value(half.study.objective[0])))


def _row(at: dict[Key, Outcome], arm: str, workers: int, half: Half) -> tuple[str, bool]:
    end_s = LENGTH[workers] * half.training_s
    seeds = sorted(key[2] for key in at if key[0] == arm and ("ours", workers, key[2]) in at)
    ends = [regret(at[arm, workers, seed], end_s, half) for seed in seeds]
    halfway = [regret(at[arm, workers, seed], end_s / 2, half) for seed in seeds]
    minus = [end - regret(at["ours", workers, seed], end_s, half) for end, seed in zip(ends, seeds, strict=True)]
    interval = intervals.over_seeds(minus)
    trials = statistics.fmean(at[arm, workers, seed].trials for seed in seeds)
    cells = [str(workers), arm, str(len(seeds)), _told(halfway), _told(ends)]
    cells += ["" if arm == "ours" else _told(minus), f"{trials:.0f}"]
    return f"| {' | '.join(cells)} |", interval is not None and interval[0] > 0


def _told(values: list[float]) -> str:
    interval = intervals.over_seeds(values)
    mean = statistics.fmean(values)
    return f"{mean:.2f}" if interval is None else f"{mean:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _ranks(outcomes: dict[Key, Outcome], half: Half) -> list[str]:
    """Average ranks at the end over workers and seeds that every arm has; 1 is best, and equals share theirs."""
    from scipy.stats import rankdata

    arms = list(dict.fromkeys(key[0] for key in outcomes))
    cells = sorted({key[1:] for key in outcomes})
    whole = [cell for cell in cells if all((arm, *cell) in outcomes for arm in arms)]
    regrets = np.array(
        [[regret(outcomes[arm, *cell], LENGTH[cell[0]] * half.training_s, half) for arm in arms] for cell in whole]
    )
    ranks = rankdata(regrets, axis=1)
    told = [f"{arm} {_told(ranks[:, column].tolist())}" for column, arm in enumerate(arms)]
    return [f"average rank (n = {len(whole)}): {', '.join(told)}"]


def _ratios(outcomes: dict[Key, Outcome]) -> list[str]:
    """Random + ASHA's time over ours to know for good what ours found in the end; what it never found counts LONGER."""
    lines = []
    for workers in sorted({key[1] for key in outcomes}):
        found = []
        for seed in sorted(key[2] for key in outcomes if key[:2] == ("ours", workers)):
            ours, other = outcomes["ours", workers, seed], outcomes.get(("random-asha", workers, seed))
            if other is not None and ours.steps:
                value = ours.steps[-1][1]
                took_s = max(ours.first_time_s(value, True), 1e-9)
                found.append(min(other.first_time_s(value, True), LONGER * ours.ended_s) / took_s)
        if found:
            never = sum(math.isclose(each, LONGER) or each > LONGER for each in found)
            lines.append(
                f"random-asha's time over ours at {workers} workers: median {statistics.median(found):.2f} "
                f"(n = {len(found)}; {never} of {LONGER:g} or more)"
            )
    return lines


if __name__ == "__main__":
    sys.exit(main())
