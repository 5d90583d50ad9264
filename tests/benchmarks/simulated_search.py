"""Our search against others on recorded learning curves and a simulated clock.

    python tests/benchmarks/simulated_search.py [--tasks choosing scan-lookup …] [--curves FILE] [--seeds 20]
                                    [--workers 1 8 64] [--arms ours random smac …] [--against ours]
                                    [--environments DIR] [--core-hours 6] [--out build/simulated]

The recorded configurations of this project's own space are cut into halves, each with a surrogate of its own: on
`choosing`, and on what others recorded (`other_curves.py`: `scan-lookup`, `scan-surrogate`, `lcdb`), somebody may try
what could win; `judging` alone says whether it does. Compared is the final value that the judge expects of the
configuration that would be retrained, at equal simulated time. Regret is a share: 0 % is the best that a task knows
of 10,000 drawn configurations, 100 % the median one. `random-asha-longer` searches LONGER, to see when it finds what
ours found. A search's course is kept in OUT/TASK.jsonl and not searched again, so the command goes on where it was
ended, and tells what is there. `smac`, `syne-cqr`, `syne-bore`, `neps`, `hebo` and `hebo-asha` run in environments of
their own (`simulated_peers.py`), which `--make-environments` makes with uv. One that ends with an error ends that
search alone; its line in OUT/TASK.jsonl keeps it from being tried again. Of `--core-hours` each arm has an equal share,
and a slow one makes fewer searches; the table says how many. OUT/anytime.csv and OUT/anytime.png are regret over the
time.

Exit code 1: the arm of `--against` is not ahead of random + ASHA and of stock Ray Tune, on each task and at each number
of workers, by more than noise.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from facex_tune.evaluation import intervals
from facex_tune.metrics import worst_value
from facex_tune.simulation import curves
from facex_tune.simulation.clock import Clock, Outcome, Searching, Started, run
from facex_tune.study import Study
from tests.benchmarks import simulated_anytime, simulated_peers, simulated_records, simulated_tasks
from tests.benchmarks.simulated_opponents import ARMS, DEFAULT_ARMS
from tests.benchmarks.simulated_peers import PEERS, Peer, PeerError
from tests.benchmarks.simulated_records import Cost, Key, Records
from tests.benchmarks.simulated_tasks import LENGTH, Task

LONGER = 4.0
LOOKS = 40  # at the best, in a search's time
Outcomes = Mapping[Key, Outcome]


class Timed:
    """A way of searching, which counts what its suggestions take of this process's processor time."""

    def __init__(self, searching: Searching) -> None:
        self._searching, self.ask_s, self.asked = searching, 0.0, 0
        self.epoch, self.fail, self.best = searching.epoch, searching.fail, searching.best

    def start(self) -> Started | None:
        """See `Searching`."""
        start_s = time.process_time()
        found = self._searching.start()
        self.ask_s, self.asked = self.ask_s + time.process_time() - start_s, self.asked + 1
        return found


def search(task: Task, key: Key) -> tuple[Outcome, Cost]:
    """One search by an arm that runs in this process."""
    arm, workers, _ = key
    clock, start_s = Clock(), time.process_time()
    timed = Timed(ARMS[arm](_studied(task, key), clock, workers))
    outcome = _run(timed, task, key, clock)
    return outcome, Cost(time.process_time() - start_s, timed.ask_s, timed.asked)


def search_by_peer(task: Task, key: Key, peer: Peer) -> tuple[Outcome | str, Cost]:
    """One search by an opponent in a process of its own, which is ended, or the error that it came to."""
    start_s = simulated_records.processor_s()
    said: Outcome | str
    spent = {"ask_s": 0.0, "asked": 0}
    try:
        said = _run(peer, task, key, Clock())
        spent = peer.spent()
    except PeerError as error:
        said = str(error)
    finally:
        peer.close()
    return said, Cost(simulated_records.processor_s() - start_s, spent["ask_s"], int(spent["asked"]))


def _studied(task: Task, key: Key) -> Study:
    return task.study.model_copy(update={"search": task.study.search.model_copy(update={"seed": key[2]})})


def _run(searching: Searching, task: Task, key: Key, clock: Clock) -> Outcome:
    arm, workers, seed = key
    length_s = task.lengths[workers] * task.training_s
    until_s = length_s * (LONGER if arm == "random-asha-longer" else 1.0)
    return run(
        searching, task.world, clock, workers=workers, seed=(seed,), until_s=until_s, every_s=length_s / LOOKS
    )


def main() -> int:
    """Searches what is missing, then tells."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--curves", type=Path, default=curves.PACKAGED)
    asked.add_argument("--tasks", nargs="*", choices=simulated_tasks.NAMES, default=["judging"])
    asked.add_argument("--seeds", type=int, default=20)
    asked.add_argument("--first-seed", type=int, default=0)
    asked.add_argument("--workers", nargs="*", type=int, choices=list(LENGTH), default=list(LENGTH))
    asked.add_argument("--arms", nargs="*", choices=[*ARMS, *PEERS], default=DEFAULT_ARMS)
    asked.add_argument("--against", default="ours", help="the arm that the others are compared with")
    asked.add_argument("--out", type=Path, default=Path("build/simulated"))
    asked.add_argument("--only-report", action="store_true", help="of the searches that are there")
    asked.add_argument(
        "--environments",
        type=Path,
        default=simulated_peers.ENVIRONMENTS,
        help="a folder with a folder for each opponent's environment (default: in the user's cache)",
    )
    asked.add_argument("--make-environments", action="store_true", help="makes those that are missing, with uv")
    asked.add_argument("--core-hours", type=float, default=math.inf, help="of all arms; each has an equal share")
    said = asked.parse_args()
    said.out.mkdir(parents=True, exist_ok=True)
    kept = {name: simulated_records.read(said.out / f"{name}.jsonl") for name in said.tasks}
    seeds = range(said.first_seed, said.first_seed + said.seeds)
    # seeds outermost: ended early, every cell has as many
    keys = [(arm, workers, seed) for seed in seeds for workers in said.workers for arm in said.arms]
    if not said.only_report:
        _environments([arm for arm in said.arms if arm in PEERS], said.environments, said.make_environments)
        share_s = 3600 * said.core_hours / max(1, len(said.arms))
        for key in keys:
            for name in said.tasks:
                task = simulated_tasks.find(name, said.curves, key[2])
                spent_s = sum(records.process_s(key[0]) for records in kept.values())
                if key not in kept[name] and key[1] in task.lengths and spent_s < share_s:
                    _search(task, key, kept[name], said.environments)
    told = {
        name: {key: records.outcomes[key] for key in keys if key in records.outcomes} for name, records in kept.items()
    }
    text, holds, judged = report(told, said.against, said.curves)
    notes = {name: kind.notes for name, kind in PEERS.items()}
    text = "\n".join([text, "", *simulated_records.told(kept.values(), keys, notes)])
    print(text)
    (said.out / "report.txt").write_text(text + "\n", encoding="utf-8")
    simulated_anytime.write(judged, said.out)
    return 0 if holds else 1


def _environments(peers: Sequence[str], folder: Path, is_making: bool) -> None:
    if is_making:
        simulated_peers.make(peers, folder)
    if absent := simulated_peers.missing(peers, folder):
        raise SystemExit(f"no environment in {folder} for {', '.join(absent)}; --make-environments makes them with uv")


def _search(task: Task, key: Key, records: Records, environments: Path) -> None:
    arm, workers, _ = key
    if arm not in PEERS:
        records.add(key, *search(task, key), {})
        return
    start_s = simulated_records.processor_s()
    try:
        peer = simulated_peers.peer(arm, _studied(task, key), workers, workers * task.lengths[workers], environments)
    except PeerError as error:
        records.add(key, str(error), Cost(simulated_records.processor_s() - start_s), {})
        return
    records.add(key, *search_by_peer(task, key, peer), peer.versions)


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


def report(outcomes: Mapping[str, Outcomes], against: str, table: Path) -> tuple[str, bool, list[Judged]]:
    """The tables, whether the arm is ahead where it should be, and what was judged."""
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
    return "\n".join(lines), holds, judged


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
    """Average ranks at the end; 1 is best, and equals share theirs. Where some arms have fewer searches than others,
    also of those alone that have all.
    """
    arms = list(dict.fromkeys(arm for one in judged for arm in one.arms))
    made = {arm: sum(key[0] == arm for one in judged for key in one.outcomes) for arm in arms}
    whole = [arm for arm in arms if made[arm] == max(made.values())]
    lines = _ranked(judged, arms)
    return lines if whole == arms or len(whole) < 2 else [*lines, *_ranked(judged, whole)]


def _ranked(judged: list[Judged], arms: list[str]) -> list[str]:
    """Over the tasks, workers and seeds that every one of the arms has."""
    from scipy.stats import rankdata

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
    return [f"average rank of {len(arms)} arms (n = {len(rows)}): {', '.join(said)}"]


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
