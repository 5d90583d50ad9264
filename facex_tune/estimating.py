"""What a study would take, before it is run: a few measured steps of each architecture, and arithmetic."""

from __future__ import annotations

import math
from typing import Any

import torch

from facex_tune import train
from facex_tune.batches import Split
from facex_tune.devices import pick_device
from facex_tune.optimization import PROGRESSIVE_PIXELS
from facex_tune.space import Config
from facex_tune.study import Study
from facex_tune.surroundings import ray_cpus

STEPS, GPU_STEPS = 3, 30  # measured; three of a GPU's end before the clock has seen them
PROCESS_GB = 0.9  # torch, Ray's worker and the faces, measured on Linux
HOST_GB = 1.2  # the driver and Ray's own processes
VALIDATION_SHARE = 0.05  # validation is a forward pass over a tenth of the faces


def estimate(study: Study, train_faces: int, device_name: str) -> dict[str, Any]:
    """See `pipeline.estimate`; `train_faces` is the number of training images, `device_name` what trials train on."""
    device = pick_device(device_name)
    at_once = _at_once(study, device)
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(1, min(study.resources.cpus, ray_cpus())))  # more would only wait for each other
    try:
        measured = {model: _measure(study, model, train_faces, device) for model in study.space.parts["model"]}
    finally:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        slowed = shared_gpu(at_once, torch.cuda.device_count())
        measured = {model: {**each, "seconds": each["seconds"] * slowed} for model, each in measured.items()}
    per_epoch_s = sum(each["seconds"] for each in measured.values()) / len(measured)
    trials = study.budget.trials
    epochs = None if trials is None else expected_epochs(study, trials)
    search_s = _search_seconds(study, epochs, per_epoch_s, at_once)
    models = study.n_final_models
    retrain_s = math.ceil(models / at_once) * study.final_epochs * max(each["seconds"] for each in measured.values())
    checkpoint_gb = max(each["parameters"] for each in measured.values()) * 4 * 3 / 1e9
    return {
        "trials": trials,
        **({"repeats": study.repetition} if study.repetition else {}),
        "epochs_expected": epochs,
        "epochs_are": None if trials is None else _meaning_of_epochs(study),
        "hours": round((search_s + retrain_s) / 3600, 2) if search_s is not None else None,
        "hours_search": round(search_s / 3600, 2) if search_s is not None else None,
        "hours_retrain": round(retrain_s / 3600, 2),
        "memory_gb": round(HOST_GB + at_once * PROCESS_GB, 1),
        "disk_gb": round(checkpoint_gb * (at_once + 2 * study.retrain.top + models), 2),
        "seconds_per_epoch": {model: round(each["seconds"], 1) for model, each in measured.items()},
        "device": str(device),
        "at_once": at_once,
    }


def expected_epochs(study: Study, trials: int) -> int:
    """Epochs that `trials` trials train, if one in `reduction` passes each rung; all that they can where there are no
    rungs.
    """
    fidelity = study.fidelity
    if study.search.scheduler != "asha":
        return trials * fidelity.max_epochs
    total, reached, rung, before = 0.0, float(trials), fidelity.min_epochs, 0
    while rung < fidelity.max_epochs:
        total += reached * (rung - before)
        reached, before, rung = max(reached / fidelity.reduction, 1.0), rung, rung * fidelity.reduction
    return math.ceil(total + reached * (fidelity.max_epochs - before))


def _meaning_of_epochs(study: Study) -> str:
    """How far `expected_epochs` can be believed; short, as one line of a table."""
    return {
        "asha": f"expected: one in {study.fidelity.reduction} goes on from each rung",
        "median": "an upper bound: median stops trials, nobody knows when",
        "none": "all: every trial runs its whole course",
    }[study.search.scheduler]


def shared_gpu(at_once: int, gpus: int) -> float:
    """How many times longer an epoch takes where trials share GPUs: one fills a GPU, so that sharing saves no time
    (five at once on an H200 trained at .92 of the pace of one after the other).
    """
    return max(1.0, at_once / gpus)


def _search_seconds(study: Study, epochs: int | None, per_epoch_s: float, at_once: int) -> float | None:
    bounds = [] if epochs is None else [epochs * per_epoch_s / at_once]
    if study.budget.time is not None:
        bounds.append(study.budget.time)
    if study.budget.gpu_hours is not None and study.resources.gpus:
        bounds.append(study.budget.gpu_hours * 3600 / (study.resources.gpus * at_once))
    return min(bounds) if bounds else None


def _at_once(study: Study, device: torch.device) -> int:
    slots = ray_cpus() // study.resources.cpus
    if study.resources.gpus and device.type == "cuda":
        slots = min(slots, int(torch.cuda.device_count() / study.resources.gpus))
    return max(1, min(slots, study.search.concurrency or slots))


def _measure(study: Study, model: str, train_faces: int, device: torch.device) -> dict[str, float]:
    """Seconds of one epoch and number of parameters, of a model at the study's defaults."""
    config: Config = study.space.draw(lambda name, knob: model if name == "model" else knob.default)
    config["model"] = model
    share = _share_of_pixels() if config["train.progressive"] else 1.0
    config["train.progressive"] = False  # two first epochs would see the smallest faces alone
    batch = int(config["train.batch_size"] or 1)
    n = batch * (GPU_STEPS if device.type == "cuda" else STEPS)
    images_NHW = torch.randint(0, 256, (n, 48, 48), dtype=torch.uint8, device=device)
    labels_N = torch.arange(n, device=device) % 7
    faces = Split(images_NHW, labels_N)
    training = train.Training(config, faces, faces, n_classes=7, epochs=100, seed=[0], device=device)
    training.epoch()  # the first pays for the library's own set-up
    images_per_second = training.epoch().metrics["images_per_second"]
    seconds = train_faces / images_per_second * (1 + VALIDATION_SHARE) * share
    return {"seconds": seconds, "parameters": sum(parameter.numel() for parameter in training.model.parameters())}


def _share_of_pixels() -> float:
    """Pixels that a progressive course sees, as a share of those of whole faces: its cost, since both go together."""
    share, before = 0.0, 0.0
    for until, size in PROGRESSIVE_PIXELS:
        share, before = share + (until - before) * size**2, until
    return share
