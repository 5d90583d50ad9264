"""Real drivers, killed and resumed: what comes out is what an uninterrupted run gives."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from facex_tune.runs.history import RUNNING
from facex_tune.runs.store import Run
from tests.faults.conftest import only_full

DRIVER = [sys.executable, "-c", "from facex_tune.cli import main; main()"]
DEADLINE_S = 600  # of one driver; it takes some forty seconds on an idle machine
STUDY = """
version: 1
name: tiny
data: synthetic
budget: {trials: 4}
fidelity: {min_epochs: 1, max_epochs: 3, reduction: 2}
search: {seed: 3, concurrency: 1}
space:
  model: [{facex_cnn: {width: 0.25}}]
  augment: [none, flip_shift]
  balance: [none, logit_adjust]
  train: {lr: {low: 0.01, high: 0.1, log: true}, batch_size: 32}
retrain: {top: 1, seeds: 2, epochs: 2}
evaluate: {protocols: [synthetic.private, synthetic.lab.6]}
"""


def start(storage: Path, data: Path) -> subprocess.Popen[str]:
    study = storage / "tiny.yaml"
    study.parent.mkdir(parents=True, exist_ok=True)
    study.write_text(STUDY)
    command = [*DRIVER, "run", str(study), "--run", "r", "--storage", str(storage), "--data", str(data)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def events(run: Run) -> list[dict[str, Any]]:
    return list(run.events()) if run.exists() else []


def interrupt(storage: Path, data: Path, number: int, when: Callable[[list[dict[str, Any]]], bool]) -> tuple[int, str]:
    """Starts or resumes the run and signals the driver as soon as the log says `when`; exit code and standard error."""
    driver = start(storage, data)
    run, deadline = Run(storage, "r"), time.monotonic() + DEADLINE_S
    while not when(events(run)):
        if driver.poll() is not None or time.monotonic() > deadline:
            driver.kill()
            pytest.fail(f"the driver came to its end too early: {driver.communicate()[1]}")
        time.sleep(0.05)
    driver.send_signal(number)
    _, errors = driver.communicate(timeout=DEADLINE_S)
    return driver.returncode, errors


def count(type_: str) -> Callable[[list[dict[str, Any]]], int]:
    return lambda told: sum(event["type"] == type_ for event in told)


def whole(storage: Path, data: Path) -> Run:
    driver = start(storage, data)
    _, errors = driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == 0, errors
    return Run(storage, "r")


def outcome(run: Run) -> dict[str, Any]:
    """Everything that a run says but for how fast it went."""

    def timeless(metrics: Mapping[str, float]) -> dict[str, float]:
        return {name: value for name, value in metrics.items() if name != "train_images_per_second"}

    history = run.history()
    return {
        "trials": {
            number: (trial.config, trial.state, {epoch: timeless(metrics) for epoch, metrics in trial.epochs.items()})
            for number, trial in history.trials.items()
        },
        "candidates": history.candidates,
        "models": {key: timeless(metrics) for key, metrics in history.models.items()},
        "scores": {
            path.stem: json.loads(path.read_text())["metrics"] for path in sorted(run.evaluation_folder.glob("*.json"))
        },
    }


@only_full
@pytest.mark.slow
def test_a_driver_killed_at_fixed_points_resumes_to_the_same_end(tiny_data: Path, tmp_path: Path) -> None:
    expected = outcome(whole(tmp_path / "whole", tiny_data))
    storage = tmp_path / "killed"

    code, errors = interrupt(storage, tiny_data, signal.SIGTERM, lambda told: count("epoch")(told) >= 1)
    assert code == 75, errors
    told = f"continue with `facex-tune resume r --storage {storage} --data {tiny_data}`"
    assert errors.strip().splitlines()[-1].endswith(told)
    assert events(Run(storage, "r"))[-1]["type"] == "run_interrupted"

    interrupt(storage, tiny_data, signal.SIGKILL, lambda told: count("epoch")(told) >= 3)
    interrupt(storage, tiny_data, signal.SIGKILL, lambda told: count("trial_started")(told) >= 4)
    interrupt(storage, tiny_data, signal.SIGKILL, lambda told: count("candidate_chosen")(told) >= 1)
    resumed = whole(storage, tiny_data)

    assert outcome(resumed) == expected
    assert all(trial.state != RUNNING for trial in resumed.history().trials.values())
    told = [(event["type"], event.get("trial"), event.get("epoch")) for event in resumed.events() if "trial" in event]
    assert len(told) == len(set(told)), "no trial, epoch or end is counted twice"
    assert (resumed.folder / "report" / "index.html").exists()
