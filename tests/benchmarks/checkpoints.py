"""What checkpoints cost where an epoch is short beside them, as a large network's is on a fast GPU: a training that
saves each epoch, as trials do, since the log holds them, and one that saves when it is worth it, as final models do.

    python tests/benchmarks/checkpoints.py [--model vgg] [--faces 64] [--epochs 12] [--rounds 3] [--device auto]

The two take turns; what is to be quoted is the ratio of their seconds, the median over rounds, with its least and
greatest. With many faces an epoch takes longer than a save, and the ratio is 1.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from facex_tune import parts
from facex_tune import study as studies
from facex_tune.data import faces
from facex_tune.data.sources import synthetic
from facex_tune.runs.store import Run
from facex_tune.search.job import Context, Job
from facex_tune.search.worker import Worker
from facex_tune.space import Value

VALIDATION = 16
LARGEST: dict[str, dict[str, Value]] = {"vgg": {"depth": 16, "width": 1.0}, "facex_cnn": {"width": 1.0}}


def main() -> None:
    """Measures and prints."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--model", default="vgg", choices=parts.names("model"))
    asked.add_argument("--faces", type=int, default=64, help="to train on")
    asked.add_argument("--epochs", type=int, default=12)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--device", default="auto")
    asked.add_argument("--threads", type=int, default=2)
    said = asked.parse_args()
    with tempfile.TemporaryDirectory() as place:
        worker = _worker(Path(place), said)
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for number in range(1 + said.rounds):  # the first pays for set-up
            for each_epoch, measured in seconds.items():
                job = _job(worker, said, Path(place) / f"{number}-{each_epoch}.safetensors")
                took_s = _trained(worker, replace(job, logs_epochs=each_epoch))
                if number:
                    measured.append(took_s)
    for name, measured in zip(("each epoch", "when worth it"), seconds.values(), strict=True):
        ratios = [own / base for own, base in zip(measured, seconds[True], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"saved {name:13s}: {statistics.median(measured):6.2f} s for {said.epochs} epochs, ratio {spread}")


def _worker(place: Path, said: argparse.Namespace) -> Worker:
    drawn = synthetic.generate(said.faces + VALIDATION, seed=1)
    split_N = drawn.split_N.astype("<U12")
    split_N[: said.faces], split_N[said.faces :] = "train", "public_test"
    faces.write(replace(drawn, split_N=split_N), place, "synthetic", source={"name": "synthetic"}, skipped=[])
    study = studies.parse(
        {
            "version": 1,
            "name": "checkpoints",
            "data": "synthetic",
            "budget": {"trials": 1},
            "fidelity": {"min_epochs": 1, "max_epochs": said.epochs},
            "space": {
                "model": [{said.model: LARGEST.get(said.model, {})}],
                "train": {"batch_size": 32, "ema_decay": 0.999},
            },
            "retrain": {"weights": "ema"},
            "evaluate": {"protocols": []},
        }
    )
    Run.create(place, "r", study, data={}, environment={})
    context = Context(str(place), "r", study.to_data(), str(place), said.threads, said.device, parts=(), fence=1)
    return Worker(context)


def _job(worker: Worker, said: argparse.Namespace, checkpoint: Path) -> Job:
    return Job(worker.study.space.defaults(), said.epochs, (0, 0, 0, 0), str(checkpoint))


def _trained(worker: Worker, job: Job) -> float:
    start = time.perf_counter()
    worker.begin(job)
    for _ in range(job.epochs):
        report = worker.step()
        if "epoch" not in report:
            raise RuntimeError(report)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
