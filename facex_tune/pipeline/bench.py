"""Where the time of a study's trainings goes on this machine, and what would make them faster."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from facex_tune import parts
from facex_tune.data import training_set
from facex_tune.emotions import FaceShape
from facex_tune.inspection.costs import measured
from facex_tune.pipeline import dry_run
from facex_tune.pipeline.environment import ray_cpus
from facex_tune.pipeline.estimating import Faces
from facex_tune.pipeline.options import Options, trial_device
from facex_tune.space import Config
from facex_tune.storage import files
from facex_tune.study import Study
from facex_tune.training import costs, train
from facex_tune.training.batches import Split
from facex_tune.training.classifier import as_floats, resized
from facex_tune.training.devices import pick_device

STEPS = 4  # of a batch, after as many that are not counted
SIDE = 1024  # of the matrices by which the machine is measured: larger than its caches, quick to multiply
PHASES = ("data", "augmentation", "forward", "backward", "optimizer")
# what the names of torch's operations say, first match first
KINDS = {
    "convolution": ("conv",),
    "matrix product": ("mm", "linear", "matmul"),
    "normalisation": ("norm",),
    "pooling": ("pool",),
    "activation": ("relu", "gelu", "silu", "hardswish", "sigmoid", "threshold", "softmax"),
    "copy": ("copy", "clone", "contiguous", "fill", "zero"),
}
NOTABLE, DOMINANT = 0.1, 0.2  # shares of an epoch worth a word


def bench(
    study: Study,
    options: Options,
    progress: Callable[[str, int, int], object] = lambda _model, _number, _all: None,
    *,
    profiled: bool = False,
) -> dict[str, Any]:
    """Measures each model of a study at the study's defaults, with the threads that a trial has. The study was checked
    before (`dry_run.check`).

    Args:
        progress: told which model is measured now, its number from 1, and how many there are.
        profiled: also by kind of operation, which takes some seconds a model.

    Returns:
        device, threads, load_average, cpu_cores, matmul_gflops (by precision), face (the shape of the study's), models:
        name -> images_per_second of training, bare_images_per_second (of its network alone), precision,
        seconds_per_epoch, shares (of an epoch's time: `PHASES`, validation, checkpoint) and, where profiled, operations
        (kind -> share of forward and backward); advice, a sentence each.
    """
    load, device = dry_run.load_average(), pick_device(trial_device(study, options))
    face = training_set.face_of(study, options.data_dir)
    faces, models = dry_run.train_faces(study, options), list(study.space.parts["model"])
    before, found = torch.get_num_threads(), {}
    threads = max(1, min(study.resources.least_cpus, ray_cpus()))
    torch.set_num_threads(threads if device.type == "cpu" else before)
    try:
        speeds = {name: matmul_gflops(device, dtype) for name, dtype in _PRECISIONS.items()}
        for number, model in enumerate(models, start=1):
            progress(model, number, len(models))
            found[model] = _of_model(_config(study, model), faces, device, profiled, face)
    finally:
        torch.set_num_threads(before)
    told = {"device": str(device), "threads": threads, "load_average": load, "matmul_gflops": speeds, "models": found}
    told |= {"face": face.to_data()}
    return {**told, "advice": advice(told)}


_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def matmul_gflops(device: torch.device, dtype: torch.dtype) -> float:
    """Billions of floating-point operations a second of a product of two square matrices."""
    one, other = (torch.rand(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    return 2 * SIDE**3 / costs.seconds_each(lambda: one @ other, device, 0.2) / 1e9


def _config(study: Study, model: str) -> Config:
    """The model, and everything else at the study's defaults; with faces of full size from the first epoch on."""
    return {**study.space.of_model(model), "train.progressive": False}


def _of_model(
    config: Config, faces: Faces, device: torch.device, profiled: bool, face: FaceShape
) -> dict[str, Any]:
    with parts.blaming(config):
        training = _training(config, device, face)
        training.epoch()  # the first pays for the library's own set-up
        whole = training.epoch()
        speed = whole.metrics["train_images_per_second"]
        n = len(training.validation)
        validation_s = max(0.0, whole.seconds - len(training.batches) * training.batches.size / speed) / n
        phases = _phases(training)
        operations = _operations(training) if profiled else None
        bare = measured(config, device, batch=training.batches.size, face=face)
    n_train, n_validation = sum(faces.train_C), faces.validation or 0
    seconds = {name: n_train / speed * each / sum(phases.values()) for name, each in phases.items()}
    seconds |= {"validation": n_validation * validation_s, "checkpoint": _checkpoint_seconds(training)}
    total = sum(seconds.values())
    return {
        "images_per_second": speed,
        "bare_images_per_second": bare["training"],
        "precision": training.precision,
        "seconds_per_epoch": total,
        "shares": {name: each / total for name, each in seconds.items()},
        **({"operations": operations} if operations is not None else {}),
    }


def _training(config: Config, device: torch.device, face: FaceShape) -> train.Training:
    n = max(int(config["train.batch_size"] or 1) * STEPS, 7)
    images_NHW = torch.randint(0, 256, face.images(n), dtype=torch.uint8, device=device)
    faces = Split(images_NHW, torch.arange(n, device=device) % 7)
    return train.Training(config, faces, faces, n_classes=7, epochs=100, seed=[0], device=device)


def _phases(training: train.Training) -> dict[str, float]:
    """Seconds of each phase of some steps, launched one after another, so that each can be waited for."""
    spent: dict[str, float] = defaultdict(float)
    for index_B in training.batches.draw(training.generator):
        _step(training, index_B, spent)
    return {name: spent[name] for name in PHASES}


def _step(training: train.Training, index_B: torch.Tensor, spent: dict[str, float]) -> None:
    since = time.perf_counter()

    def ended(phase: str) -> None:
        nonlocal since
        if training.device.type == "cuda":
            torch.cuda.synchronize(training.device)
        now = time.perf_counter()
        spent[phase] += now - since
        since = now

    training.model.train()
    faces_N1HW = as_floats(training.train.images_NHW[index_B])
    targets_NC = training.batches.targets(index_B)
    ended("data")
    faces_N1HW = training.augment(faces_N1HW, training.generator)
    faces_N1HW, targets_NC = training.mixing(faces_N1HW, targets_NC, training.generator)
    faces_N1HW = resized(faces_N1HW, int(training.train.images_NHW.shape[1]))
    ended("augmentation")
    loss = training.mean_loss(faces_N1HW, targets_NC, training.plan.loss_at(0.0))
    ended("forward")
    training.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    ended("backward")
    training.optimizer.step()
    if training.average is not None:
        training.average.update()
    ended("optimizer")


def _operations(training: train.Training) -> dict[str, float]:
    """Kind of operation -> its share of a step's time, the largest first."""
    on_gpu = training.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as seen:
        _phases(training)
    spent: dict[str, float] = defaultdict(float)
    for event in seen.key_averages():
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        spent[kind_of(event.key)] += float(own)
    total = sum(spent.values()) or 1.0
    return {kind: spent[kind] / total for kind in sorted(spent, key=lambda kind: -spent[kind])}


def kind_of(operation: str) -> str:
    """The kind of one of torch's operations, by its name: one of `KINDS`, "optimizer" or "other"."""
    name = operation.lower()
    if name.startswith("optimizer") or "_foreach" in name:
        return "optimizer"
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "other")


def _checkpoint_seconds(training: train.Training) -> float:
    """Of one checkpoint, written to the temporary files of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        files.save_tensors(Path(folder) / "checkpoint.safetensors", *training.state())
        return time.perf_counter() - start


def advice(told: Mapping[str, Any]) -> list[str]:
    """What would make the study faster here, a sentence each; the figures are those of `bench`."""
    found: list[str] = []
    gflops, models = told["matmul_gflops"], told["models"]
    gain = gflops["bf16"] / gflops["fp32"]
    for name, each in models.items():
        shares = each["shares"]
        if gain > 1.5 and each["precision"] == "fp32":
            found.append(f"{name} trains in fp32, and bf16 multiplies {gain:.1f} times as fast here: train.precision")
        if shares["augmentation"] > DOMINANT:
            found.append(f"{name}: {shares['augmentation']:.0%} of its time is augmentation: try a cheaper policy")
        if shares["validation"] > DOMINANT:
            found.append(f"{name}: {shares['validation']:.0%} of its time is validation: a smaller holdout would do")
        if shares["checkpoint"] > NOTABLE:
            found.append(f"{name}: {shares['checkpoint']:.0%} of its time is checkpoints: a trial saves every epoch")
        if shares["optimizer"] > DOMINANT:
            found.append(f"{name}: {shares['optimizer']:.0%} of its time is the optimizer: larger train.batch_size")
    paces = {name: each["images_per_second"] for name, each in models.items()}
    fast, slow = max(paces, key=lambda name: paces[name]), min(paces, key=lambda name: paces[name])
    if paces[fast] > 3 * paces[slow]:
        found.append(
            f"{slow} trains {paces[fast] / paces[slow]:.1f} times slower than {fast}: narrow its knobs, leave it out, "
            "or let the search weigh it: objective [macro_f1, macs]"
        )
    return found or ["nothing stands out: the time is that of the networks themselves, so smaller ones are the way"]
