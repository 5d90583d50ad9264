"""What a run takes beside its training: builds of this project in turn, on one study.

    python tests/benchmarks/overhead.py OUT --code before=DIR --code after=. [--rounds 3] [--study quick.yaml]
        [--data DIR] [--set budget.trials=4 …]

Each round runs the study once with each build, the first one first in even rounds and last in odd ones, so that a
machine whose speed drifts slows all of them. Workers have the priority of everything else here (Ray would nice them),
so that other work on the machine slows a build's parts alike.

Told of each run: seconds from the command to its end, and when the first epoch, the search, retraining, the evaluation
and the report had ended; seconds of processor time of all its processes; the most memory that its driver, Ray's own
processes and its workers held at one moment (proportional set size, as the kernel shares pages out), and what each kind
held then; epochs and models that were trained, which ought to be the same. Last the ratios of each build to the first,
paired by round, median [least, greatest]. OUT keeps the runs.

`budget.time` is set to an hour, so that every build trains what the study says; say `--set search.scheduler=none` where
the builds' rungs differ.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

EVERY_S = 0.5  # between looks at the processes
MARKS = {"ray::": "workers", "gcs_server": "Ray", "raylet": "Ray", "/ray/": "Ray"}
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def main() -> None:
    """Runs and prints."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("out", type=Path)
    asked.add_argument("--code", action="append", required=True, metavar="NAME=DIR")
    asked.add_argument("--study", default="quick.yaml", help="a file of search_spaces")
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--data", type=Path, help="a folder of prepared sets; none: each build draws its own")
    asked.add_argument("--set", action="append", default=[], dest="sets")
    said = asked.parse_args()
    builds = dict(each.split("=", 1) for each in said.code)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in builds}
    for number in range(said.rounds):
        for name in list(builds) if number % 2 == 0 else reversed(list(builds)):
            told = timed(said.out.absolute(), name, Path(builds[name]).absolute(), number, said)
            found[name].append(told)
            print(f"round {number} {name}: {json.dumps(told)}", flush=True)
    first = next(iter(builds))
    for name in list(builds)[1:]:
        for key in ("seconds", "cpu_s", "memory_mb", "first_epoch_s", "evaluate_s", "report_s"):
            pairs = zip(found[name], found[first], strict=True)
            ratios = [one[key] / other[key] for one, other in pairs if one.get(key) and other.get(key)]
            if ratios:
                spread = f"[{min(ratios):.2f}, {max(ratios):.2f}]"
                print(f"{name} to {first}, {key}: {statistics.median(ratios):.2f} {spread}, n = {len(ratios)}")


def timed(out: Path, name: str, code: Path, number: int, said: argparse.Namespace) -> dict[str, Any]:
    """One run, from the command to its end."""
    run, storage = f"{name}-{number}", out / "runs"
    data = said.data.absolute() if said.data else out / f"data-{name}"
    words = [f"{code}/search_spaces/{said.study}", "--run", run, "--storage", str(storage), "--data", str(data)]
    for each in ("budget.time=1h", *said.sets):
        words += ["--set", each]
    environment = {**os.environ, "PYTHONPATH": str(code), "RAY_worker_niceness": "0"}
    out.mkdir(parents=True, exist_ok=True)
    start = time.time()
    with (out / f"{run}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "facex_tune", "run", *words],
            env=environment, cwd=out, stdout=log, stderr=subprocess.STDOUT,  # -m takes a folder's own code first
        )  # fmt: skip
        look = Look(process.pid)
        while process.poll() is None:
            look.again()
            time.sleep(EVERY_S)
    seconds = time.time() - start
    return {
        "exit": process.returncode,
        "seconds": round(seconds, 1),
        "cpu_s": round(sum(look.cpu_s.values()), 1),
        "memory_mb": round(sum(look.most_mb.values())),
        "held_mb": {kind: round(mb) for kind, mb in look.most_mb.items()},
        **stages(storage / run, start),
        "load": round(os.getloadavg()[0], 1),
    }


class Look:
    """What the processes below a driver take."""

    def __init__(self, driver: int) -> None:
        self._driver = driver
        self.cpu_s: dict[int, float] = {}
        self.most_mb: Counter[str] = Counter()

    def again(self) -> None:
        """Adds what they have taken up to now."""
        held: Counter[str] = Counter()
        for pid in self._tree():
            try:
                title = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
                ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:  # it has ended
                continue
            self.cpu_s[pid] = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
            held[kind(title, pid == self._driver)] += next(int(x.split()[1]) for x in rollup if x.startswith("Pss:"))
        if held.total() / 1024 > self.most_mb.total():
            self.most_mb = Counter({each: kilobytes / 1024 for each, kilobytes in held.items()})

    def _tree(self) -> list[int]:
        parents = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
        below, todo = [], [self._driver]
        while todo:
            below.append(pid := todo.pop())
            todo += [child for child, parent in parents.items() if parent == pid]
        return below


def kind(title: str, is_driver: bool) -> str:
    """Of a process."""
    if is_driver:
        return "driver"
    if any(agent in title for agent in AGENTS):
        return "Ray"
    return next((of for mark, of in MARKS.items() if mark in title), "other")


def stages(run: Path, start: float) -> dict[str, Any]:
    """When each stage had ended, in seconds from the command, how long evaluation and report took, and what was
    trained.
    """
    found: dict[str, Any] = {"epochs": 0, "models": 0}
    began: dict[str, float] = {}
    lines = [line for path in sorted((run / "events").glob("*.jsonl")) for line in path.read_text().splitlines()]
    for event in map(json.loads, lines):
        at = datetime.datetime.fromisoformat(event["time_utc"]).timestamp() - start
        match event["type"]:
            case "epoch":
                found.setdefault("first_epoch_s", round(at, 1))
                found["epochs"] += 1
            case "model_finished":
                found["models"] += 1
            case "stage_started":
                began[event["stage"]] = at
            case "stage_finished":
                found[f"{event['stage']}_ended_s"] = round(at, 1)
                found[f"{event['stage']}_s"] = round(at - began[event["stage"]], 1)
    return found


if __name__ == "__main__":
    main()
