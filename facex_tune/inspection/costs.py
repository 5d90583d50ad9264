"""What a network costs: parameters, multiply-accumulates, and images a second on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from facex_tune import parts, train_knobs
from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.errors import InputError
from facex_tune.space import Config, Value
from facex_tune.training import costs
from facex_tune.training.classifier import build_model, placed
from facex_tune.training.cuda_graph import Captured
from facex_tune.training.devices import pick_device, pick_precision

N_CLASSES = 7
BATCH, SECONDS = 32, 0.3


def configuration(model: str, **knobs: Value) -> Config:
    """The model at its knobs' defaults but for `knobs`, as a configuration to train."""
    usual = {name: knob.default for name, knob in parts.model(model).SPACE.items()} | knobs
    training = {f"train.{name}": value for name, value in train_knobs.defaults().items()}
    return {"model": model, **{f"model.{model}.{name}": value for name, value in usual.items()}, **training}


def counted(config: Config, face: FaceShape = GREY_48) -> dict[str, int]:
    """`parameters`, those in training (`trained`), and `macs`: multiplications of weights or activations that one face
    of that shape takes forward, in convolutions and matrix products. Nothing is computed.

    Raises:
        InputError: a model of the user's own does not take such faces.
    """
    with parts.blaming(config), torch.device("meta"):
        network = build_model(config, N_CLASSES, face=face)
        found = costs.counted(network, face, torch.device("meta"))
    return found | {"trained": sum(each.numel() for each in network.parameters() if each.requires_grad)}


def measured(
    config: Config,
    device: torch.device,
    *,
    batch: int = BATCH,
    seconds: float = SECONDS,
    threads: int | None = None,
    face: FaceShape = GREY_48,
) -> dict[str, Any]:
    """Images a second of that shape: `forward` alone as in evaluation, and `training` forward and backward; with the
    `precision` that the configuration means on this device. Medians over some `seconds` each, after a first batch that
    is not counted: on a GPU it loads kernels, for seconds.

    Raises:
        InputError: a model of the user's own does not take such faces.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with parts.blaming(config):
            return _speeds(config, device, batch, seconds, face)
    finally:
        torch.set_num_threads(before)


def _speeds(
    config: Config, device: torch.device, batch: int, seconds: float, face: FaceShape
) -> dict[str, Any]:
    model = placed(build_model(config, N_CLASSES, face=face), device)
    precision = pick_precision(config, device)
    faces_NCHW = torch.rand(batch, face.channels, face.size, face.size, device=device)
    labels_N = torch.arange(batch, device=device) % N_CLASSES

    def forward() -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits_NC: torch.Tensor = model(faces_NCHW)
        return logits_NC.float()

    def evaluate() -> None:
        with torch.inference_mode():
            forward()

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(forward(), labels_N)

    model.eval()
    told = {"precision": precision, "forward": batch / costs.seconds_each(evaluate, device, seconds)}
    model.train()
    return told | {"training": batch / costs.seconds_each(_step(loss, model, device), device, seconds)}


def _step(loss: Callable[[], torch.Tensor], model: nn.Module, device: torch.device) -> Callable[[], object]:
    """A batch forward and backward, launched as a training launches it."""
    if device.type == "cuda":
        with suppress(RuntimeError):
            return Captured(loss, model, device)

    def step() -> None:
        model.zero_grad()
        torch.autograd.backward(loss())

    return step


def of_models(
    names: Sequence[str],
    device_name: str | None = None,
    *,
    timed: Sequence[str] | None = None,
    face: FaceShape = GREY_48,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> dict[str, Any]:
    """What each model costs at its defaults, and on what that was measured.

    Args:
        face: the shape of the faces.
        timed: those whose speeds are measured too, a second or two each; None: all.
        progress: told (models done, all of them).

    Returns:
        device, threads, batch, pixels, face; models: name -> counts and speeds, or `problem`, why it cannot be built.
    """
    device = pick_device(device_name)
    models: dict[str, dict[str, Any]] = {}
    timed = names if timed is None else timed
    for done, name in enumerate(names):
        progress(done, len(names))
        config = configuration(name)
        try:
            models[name] = {**counted(config, face), **(measured(config, device, face=face) if name in timed else {})}
        except InputError as error:
            models[name] = {"problem": error.problems[0]}
    about = {"device": str(device), "threads": torch.get_num_threads(), "batch": BATCH, "pixels": face.size}
    about |= {"face": face.to_data()}
    return {**about, "models": models}
