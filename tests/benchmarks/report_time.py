"""What a report costs: 60 trials, three protocols (3,589 faces twice, 927 frames of 309 sequences once), two candidates
of three seeds; answers are drawn, nothing is trained.

    python tests/benchmarks/report_time.py [--code before=DIR --code after=DIR] [--rounds 5]

Measured is the command `facex-tune report RUN` from its start to its end, in seconds and in processor seconds. With two
checkouts they take turns, each on a copy of the run, and what is to be quoted are the ratios of a round. Python keeps
compiled files here, whatever the environment says, as it does for a user; a first report of each is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from facex_tune import study
from facex_tune.data import faces
from facex_tune.evaluation.evaluate import evaluate
from facex_tune.runs.events import (
    EpochDone,
    RunStarted,
    StageFinished,
    StageStarted,
    TrialFinished,
    TrialStarted,
    TrialStopped,
)
from facex_tune.runs.store import Log, Run
from facex_tune.training import classifier
from tests.evaluation.conftest import SAID, log_models, made_faces

ROOT = Path(__file__).resolve().parents[2]
TRIALS, EPOCHS = 60, 9
PROTOCOLS = ["synthetic.private", "synthetic.majority7", "synthetic.lab.6"]
N_TRAIN, N_VALIDATION, N_TEST, N_LAB = 1400, 3589, 3589, 927


def write_sets(folder: Path) -> None:
    """Noise whose brightness tells the emotion, in sets as large as the sealed ones of FER2013 and CK+."""
    counts = {"train": N_TRAIN, "public_test": N_VALIDATION, "private_test": N_TEST}
    splits = [split for split, n in counts.items() for _ in range(n)]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, len(splits)).tolist()
    wild = made_faces(labels, splits, seed=0, votes=True)
    lab = made_faces([i // 3 % 6 for i in range(N_LAB)], ["test"] * N_LAB, seed=1, group_size=9)
    faces.write(wild, folder, "synthetic", source={}, skipped=[])
    faces.write(lab, folder, "synthetic_lab", source={}, skipped=[])


def drawn(
    model: Any, images_NHW: NDArray[np.uint8], device: Any, *, tta: str = "none", batch: int = 512
) -> NDArray[np.float32]:
    """In place of a network: emotions by brightness, with an error that is each model's own."""
    own = int(sum(float(each.detach().double().sum()) for each in model.parameters()) * 1e6) % 2**32
    rng = np.random.default_rng([own, len(images_NHW)])
    level_N = images_NHW.reshape(len(images_NHW), -1).mean(axis=1) + rng.normal(0, 15, len(images_NHW))
    logits_NC = -np.abs(level_N[:, None] - (49.5 + 20 * np.arange(7))) / 12
    shares_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    return (shares_NC / shares_NC.sum(axis=1, keepdims=True)).astype(np.float32)


def log_trials(run: Run, log: Log, trials: int) -> None:
    """A search as it would be logged: a third of the trials finish, the others are stopped at a rung."""
    rng = np.random.default_rng(0)
    log.append(RunStarted())
    log.append(StageStarted(stage="search"))
    for trial in range(trials):
        config = run.study.space.random(rng)
        log.append(TrialStarted(trial=trial, config=config, source="sampler"))
        # as knobs decide in truth: a best learning rate, and parts that help
        best = 0.6 - 0.12 * abs(np.log10(float(config["train.lr"])) + 1.2) + 0.05 * (config["augment"] != "none")
        last = EPOCHS if rng.random() < 1 / 3 else int(rng.choice([1, 3]))
        for epoch in range(1, last + 1):
            value = float(best * (1 - 0.6 * 0.7**epoch) + rng.normal(0, 0.01))
            found = {"accuracy": value + 0.1, "macro_f1": value, "worst_class_recall": max(0.0, value - 0.2)}
            log.append(EpochDone(trial=trial, epoch=epoch, metrics={**found, "train_loss": 2 - value}, seconds=2.0))
        log.append(TrialFinished(trial=trial) if last == EPOCHS else TrialStopped(trial=trial, epoch=last))
    log.append(StageFinished(stage="search"))


def said_study(trials: int) -> dict[str, Any]:
    """The study as a file would say it."""
    fidelity = {"min_epochs": 1, "max_epochs": EPOCHS}
    return {**SAID, "budget": {"trials": trials}, "fidelity": fidelity, "evaluate": {"protocols": PROTOCOLS}}


def write_run(folder: Path, trials: int = TRIALS) -> Run:
    """A finished run in folder/runs, over sets in folder/data."""
    write_sets(folder / "data")
    parsed = study.parse(said_study(trials))
    manifests = {name: faces.read_manifest(folder / "data", name) for name in ("synthetic", "synthetic_lab")}
    run = Run.create(folder / "runs", "sixty", parsed, data=manifests, environment={"packages": {"torch": "2"}})
    asked, classifier.probabilities_NC = classifier.probabilities_NC, drawn
    try:
        with run.log() as log:
            log_trials(run, log, trials)
            log_models(run, log, 3)
            evaluate(run, log, folder / "data", "cpu")
    finally:
        classifier.probabilities_NC = asked
    return run


def as_its_own(run_json: Path, code: Path) -> None:
    """Lets a checkout find the study as it resolves it itself: a later one writes keys that an earlier one refuses."""
    asks = "import json, sys; from facex_tune import study; "
    asks += "print(json.dumps(study.parse(json.load(sys.stdin)).to_data()))"
    process = subprocess.run(
        [sys.executable, "-c", asks],
        env={**os.environ, "PYTHONPATH": str(code)},
        cwd=code,  # where an inline program looks for modules first
        input=json.dumps(said_study(TRIALS)),
        capture_output=True,
        text=True,
        check=True,
    )
    header = json.loads(run_json.read_bytes())
    run_json.write_text(json.dumps({**header, "study": json.loads(process.stdout)}))


def measured(code: Path, storage: Path) -> tuple[float, float]:
    """Seconds, and processor seconds of the process and of those that it waited for."""
    words = [sys.executable, "-m", "facex_tune", "report", "sixty", "--storage", str(storage)]
    words += ["--data", str(storage.parent / "data")]
    began = time.monotonic()
    shutil.rmtree(storage / "sixty" / "report", ignore_errors=True)
    environment = {**os.environ, "PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": ""}
    process = subprocess.Popen(words, cwd=storage, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} in {code}: status {status}")
    return time.monotonic() - began, used.ru_utime + used.ru_stime


def main() -> None:
    """Measures and prints."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--code", action="append", metavar="NAME=DIR", help="a checkout; default: this one")
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--trials", type=int, default=TRIALS)
    asked.add_argument("--keep", type=Path, help="leave the run there, and measure nothing")
    said = asked.parse_args()
    torch.set_num_threads(1)
    if said.keep:
        print(write_run(said.keep, said.trials).folder)
        return
    named = [each.partition("=") for each in said.code or [f"this={ROOT}"]]
    checkouts = {name: Path(place).absolute() for name, _, place in named}
    with tempfile.TemporaryDirectory() as place:
        write_run(Path(place), said.trials)
        for name, code in checkouts.items():
            shutil.copytree(Path(place, "runs"), Path(place, name))
            as_its_own(Path(place, name, "sixty", "run.json"), code)
            measured(code, Path(place, name))
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in checkouts}
        for number in range(said.rounds):
            for name, code in checkouts.items():
                found[name].append(measured(code, Path(place, name)))
            last = {name: rows[-1] for name, rows in found.items()}
            told = [f"{name} {took_s:.1f} s ({used_s:.1f} of processor)" for name, (took_s, used_s) in last.items()]
            print(f"round {number}: {', '.join(told)}", flush=True)
    first, *others = found
    for other in others:
        for place_of, what in ((0, "seconds"), (1, "processor seconds")):
            ratios = [b[place_of] / a[place_of] for b, a in zip(found[first], found[other], strict=True)]
            middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
            print(f"{first} / {other} in {what}: median {middle:.2f}, {least:.2f} to {most:.2f}")


if __name__ == "__main__":
    main()
