"""What a dry run says a study takes against what it took: dry run, run and dry run in turn.

    python tests/benchmarks/dry_run.py OUT STUDY [STUDY …] [--data DIR] [--rounds 1] [--set budget.trials=4 …]

STUDY is a file of search_spaces, with `:KEY=VALUE,KEY=VALUE` behind it where that one is to be made smaller. The
estimate of a round is the mean of the two dry runs around its run, so that a load that drifts stands in both; the run
took what its log says of searching and retraining. Of each round: estimate, actual, ratio, the epochs that were
expected and those that were trained, and the seconds of an epoch (estimated by model; the run's median), so that
a wrong number of epochs and a wrong pace can be told apart; then the load of the machine. Evaluation and report are no
part of an estimate. Exits 1 where the median ratio of a study leaves .85 to 1.15.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

WITHIN = (0.85, 1.15)


def main() -> int:
    """Runs and prints."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("out", type=Path)
    asked.add_argument("studies", nargs="+")
    asked.add_argument("--data", type=Path, help="of prepared sets; none: synthetic faces are drawn in OUT")
    asked.add_argument("--rounds", type=int, default=1)
    asked.add_argument("--set", action="append", default=[], dest="sets")
    said = asked.parse_args()
    said.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for text in said.studies:
        study, _, own = text.partition(":")
        sets = [*said.sets, *(each for each in own.split(",") if each)]
        ratios = [one_round(study, sets, number, said) for number in range(said.rounds)]
        middle = statistics.median(ratios)
        inside = WITHIN[0] <= middle <= WITHIN[1]
        failed |= not inside
        spread = f"[{min(ratios):.2f}, {max(ratios):.2f}]"
        print(f"{study}: actual to estimate {middle:.2f} {spread}{'' if inside else '  OUTSIDE'}", flush=True)
    return int(failed)


def one_round(study: str, sets: list[str], number: int, said: argparse.Namespace) -> float:
    """The ratio of what the run took to what was said."""
    name = f"{Path(study).stem}-{number}"
    before = estimated(study, sets, said)
    words = ["--run", name, "--storage", str(said.out.absolute() / "runs")]
    command(study, [*words, *of_sets(sets)], said, said.out / f"{name}.log")
    after = estimated(study, sets, said)
    took = actual(said.out / "runs" / name)
    hours = statistics.fmean(each["hours"] for each in (before, after))
    pace = [each["seconds_per_epoch"] for each in (before, after)]
    told = {
        "study": study,
        "sets": sets,
        "estimate_s": [round(each["hours"] * 3600, 1) for each in (before, after)],
        "actual_s": round(took["seconds"], 1),
        "ratio": round(took["seconds"] / 3600 / hours, 3),
        "epochs_expected": before["epochs_expected"],
        "epochs": took["epochs"],
        "seconds_per_epoch": pace,
        "median_epoch_s": took["median_epoch_s"],
        "load": [before["load_average"], after["load_average"]],
    }
    print(json.dumps(told), flush=True)
    return float(told["ratio"])


def of_sets(sets: list[str]) -> list[str]:
    """As the command takes them."""
    return [word for each in sets for word in ("--set", each)]


def estimated(study: str, sets: list[str], said: argparse.Namespace) -> dict[str, Any]:
    """What the dry run says."""
    written = command(study, ["--dry-run", "--json", *of_sets(sets)], said, None)
    found: dict[str, Any] = json.loads(written)["estimate"]
    return found


def command(study: str, words: list[str], said: argparse.Namespace, log: Path | None) -> str:
    """Standard output of `facex-tune run`."""
    path = Path(__file__).resolve().parents[2] / "search_spaces" / study
    data = said.data.absolute() if said.data else said.out.absolute() / "data"
    done = subprocess.run(
        [sys.executable, "-m", "facex_tune", "run", str(path), "--data", str(data), *words],
        capture_output=True, text=True, check=False, env={**os.environ},
    )  # fmt: skip
    if log is not None:
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"{study}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def actual(run: Path) -> dict[str, Any]:
    """Seconds of searching and retraining, from the log, with the start of Ray and of the workers."""
    lines = [line for path in sorted((run / "events").glob("*.jsonl")) for line in path.read_text().splitlines()]
    events = [json.loads(line) for line in lines]
    began = next(at(event) for event in events if event["type"] == "run_started")
    ended = max(at(event) for event in events if event["type"] == "stage_finished" and event["stage"] == "retrain")
    seconds = [float(event["seconds"]) for event in events if event["type"] == "epoch"]
    return {"seconds": ended - began, "epochs": len(seconds), "median_epoch_s": round(statistics.median(seconds), 2)}


def at(event: dict[str, Any]) -> float:
    """When."""
    return datetime.datetime.fromisoformat(event["time_utc"]).timestamp()


if __name__ == "__main__":
    sys.exit(main())
