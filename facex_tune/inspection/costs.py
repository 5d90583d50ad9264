"""What a network costs: parameters, multiply-accumulates, and images a second on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from facex_tune import parts, train_knobs
from facex_tune.errors import InputError
from facex_tune.space import Config, Value
from facex_tune.training.classifier import build_model, placed
from facex_tune.training.cuda_graph import Captured
from facex_tune.training.devices import pick_device, pick_precision

PIXELS, N_CLASSES = 48, 7
BATCH, SECONDS = 32, 0.3


def configuration(model: str, **knobs: Value) -> Config:
    """The model at its knobs' defaults but for `knobs`, as a configuration to train."""
    usual = {name: knob.default for name, knob in parts.model(model).SPACE.items()} | knobs
    training = {f"train.{name}": value for name, value in train_knobs.defaults().items()}
    return {"model": model, **{f"model.{model}.{name}": value for name, value in usual.items()}, **training}


def counted(config: Config) -> dict[str, int]:
    """`parameters`, those in training (`trained`), and `macs`: multiplications of weights or activations that one face
    of 48×48 takes forward, in convolutions and matrix products. Nothing is computed.

    Raises:
        InputError: a model of the user's own does not take such faces.
    """
    with _fitting(config), torch.device("meta"):
        network = build_model(config, N_CLASSES).eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.inference_mode():
            network(torch.empty(1, 1, PIXELS, PIXELS))
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    return {
        "parameters": sum(size for size, _ in sizes),
        "trained": sum(size for size, is_trained in sizes if is_trained),
        "macs": counter.get_total_flops() // 2,
    }


@contextmanager
def _fitting(config: Config) -> Iterator[None]:
    """What goes wrong in a model of the user's own, as wrong input.

    Raises:
        InputError: it does.
    """
    try:
        yield
    except Exception as error:
        name = str(config["model"])
        if not parts.is_own("model", name) or isinstance(error, InputError):
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise InputError(
            f"model {name}: build() makes no network from faces N x 1 x {PIXELS} x {PIXELS} to logits N x {N_CLASSES} "
            f"({reason}); mend its file"
        ) from error


def measured(
    config: Config, device: torch.device, *, batch: int = BATCH, seconds: float = SECONDS, threads: int | None = None
) -> dict[str, Any]:
    """Images a second of 48×48: `forward` alone as in evaluation, and `training` forward and backward; with the
    `precision` that the configuration means on this device. Medians over some `seconds` each, after a first batch that
    is not counted: on a GPU it loads kernels, for seconds.

    Raises:
        InputError: a model of the user's own does not take such faces.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with _fitting(config):
            return _speeds(config, device, batch, seconds)
    finally:
        torch.set_num_threads(before)


def _speeds(config: Config, device: torch.device, batch: int, seconds: float) -> dict[str, Any]:
    model = placed(build_model(config, N_CLASSES), device)
    precision = pick_precision(config, device)
    faces_N1HW = torch.rand(batch, 1, PIXELS, PIXELS, device=device)
    labels_N = torch.arange(batch, device=device) % N_CLASSES

    def forward() -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits_NC: torch.Tensor = model(faces_N1HW)
        return logits_NC.float()

    def evaluate() -> None:
        with torch.inference_mode():
            forward()

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(forward(), labels_N)

    model.eval()
    told = {"precision": precision, "forward": batch / _seconds_each(evaluate, device, seconds)}
    model.train()
    return told | {"training": batch / _seconds_each(_step(loss, model, device), device, seconds)}


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
    measure: bool = True,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> dict[str, Any]:
    """What each model costs at its defaults, and on what that was measured.

    Args:
        measure: also speeds, a second or two a model.
        progress: told (models done, all of them).

    Returns:
        device, threads, batch, pixels; models: name -> counts and speeds, or `problem`, why it cannot be built.
    """
    device = pick_device(device_name)
    models: dict[str, dict[str, Any]] = {}
    for done, name in enumerate(names):
        progress(done, len(names))
        config = configuration(name)
        try:
            models[name] = {**counted(config), **(measured(config, device) if measure else {})}
        except InputError as error:
            models[name] = {"problem": error.problems[0]}
    about = {"device": str(device), "threads": torch.get_num_threads(), "batch": BATCH, "pixels": PIXELS}
    return {**about, "models": models}


def _seconds_each(do: Callable[[], object], device: torch.device, seconds: float) -> float:
    _timed(do, device)
    taken: list[float] = []
    while sum(taken) < seconds:
        taken.append(_timed(do, device))
    return statistics.median(taken)


def _timed(do: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    do()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
