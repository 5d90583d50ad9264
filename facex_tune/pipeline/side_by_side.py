"""How fast trainings go that share a machine: each in a process of its own, as a search has them. As a module run, such
a process: it reads lines of JSON and answers each with one.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any, Self

from facex_tune import parts
from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.space import Config

NICENESS = "RAY_worker_niceness"  # Ray's setting, and what it is unless set
USUAL_NICENESS = 15
MOST = 8  # processes; more than that are taken to do the same
SECONDS = 1.0  # of training that count, an epoch at least, after one that pays for the library's own set-up


class Gauges:
    """Processes that train on random faces at the same time. Each loads torch first, which takes some seconds.

    Args:
        at_once: trainings; one needs no process, and gets none.
        threads: of each.
        face: what they train on.
    """

    def __init__(self, at_once: int, threads: int, face: FaceShape = GREY_48) -> None:
        self._n = min(at_once, MOST) if at_once > 1 else 0
        self._begin = {"threads": threads, "folders": parts.own_folders(), "face": face.to_data()}
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        for _ in range(self._n):
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "facex_tune.pipeline.side_by_side"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, env=environment,
            )  # fmt: skip
            self._processes.append(process)
            with contextlib.suppress(OSError):
                _tell(process, self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def images_per_second(self, config: Config, classes: int) -> float | None:
        """Images a second of each of the trainings, in the mean; None where that cannot be told."""
        speeds: list[float] = []
        try:
            for said in ({"config": config, "classes": classes}, {}):  # all are ready before one begins to measure
                for process in self._processes:
                    _tell(process, said)
                speeds = [_answer(process) for process in self._processes]
        except (OSError, ValueError):  # ended, or cannot train it: whoever asks has tried, and says what is wrong
            return None
        return statistics.fmean(speeds) if speeds else None


def _tell(process: subprocess.Popen[str], said: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(said) + "\n")
    process.stdin.flush()


def _answer(process: subprocess.Popen[str]) -> float:
    """
    Raises:
        ValueError: no number: the process has ended, or cannot train.
    """
    assert process.stdout is not None
    return float(process.stdout.readline())


def _work() -> None:
    """Reads how many threads there are; then a configuration, which it makes ready, or {}, and measures."""
    with contextlib.suppress(OSError, ValueError):
        os.nice(int(os.environ.get(NICENESS, USUAL_NICENESS)))
    begin = json.loads(sys.stdin.readline())
    import torch

    from facex_tune.training import random_faces

    torch.set_num_threads(begin["threads"])
    for folder in begin["folders"]:
        parts.use_folder(folder)
    training: Any = None
    for line in sys.stdin:
        said = json.loads(line)
        if said:
            cpu = torch.device("cpu")
            training = random_faces.training(said["config"], said["classes"], cpu, face=FaceShape.of(begin))
            training.epoch()
        print(_speed(training) if not said else 0.0, flush=True)


def _speed(training: Any) -> float:
    found: list[float] = []
    start = time.monotonic()
    while not found or time.monotonic() < start + SECONDS:
        found.append(training.epoch().metrics["train_images_per_second"])
    return statistics.harmonic_mean(found)


if __name__ == "__main__":
    _work()
