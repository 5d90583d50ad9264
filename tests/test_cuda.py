"""What only a GPU can show: no batch waits for the host, memory runs out for real, a resumed
training goes on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from facex_tune import costs, devices, parts, train
from facex_tune.batches import Split
from facex_tune.data.sources import synthetic
from facex_tune.space import Config

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
    # Said once a process; what it does detect was seen to be detected, and is tested below.
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature"),
]
EVERYTHING = {"mixup": 0.4, "cutmix": 1.0, "erasing": 0.5, "noise": 0.05, "clip_norm": 0.5, "ema_decay": 0.9}
MADE, BATCH = 1500, 32


@pytest.fixture(scope="module")
def faces() -> tuple[Split, Split]:
    drawn = synthetic.generate(MADE, seed=4)
    on_device = Split.of(drawn.images_NHW, drawn.labels_N, None, torch.device("cuda"))
    return (
        Split(on_device.images_NHW[: MADE - 100], on_device.labels_N[: MADE - 100]),
        Split(on_device.images_NHW[MADE - 100 :], on_device.labels_N[MADE - 100 :]),
    )


@pytest.fixture(autouse=True)
def no_debugging_left() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


def knobs_of(family: str, name: str) -> Config:
    return {f"{family}.{name}.{knob}": space.default for knob, space in parts.find(family, name).SPACE.items()}


def training(
    faces: tuple[Split, Split],
    model: str = "facex_cnn",
    augment: str = "flip_shift",
    balance: str = "none",
    **changes: object,
) -> train.Training:
    config = {
        **costs.configuration(model),
        **{"augment": augment, **knobs_of("augment", augment), "balance": balance, **knobs_of("balance", balance)},
        **{"train.batch_size": BATCH, **{f"train.{name}": value for name, value in changes.items()}},
    }
    return train.Training(
        config,  # type: ignore[arg-type]
        *faces,
        n_classes=7,
        epochs=3,
        seed=[1],
        device=devices.pick_device(),
        weights="ema",
    )


def train_guarded(run: train.Training) -> train.Epoch:
    """An epoch in which every wait between its first batch and its last raises `RuntimeError`."""
    seen = 0

    def on_batch() -> None:
        nonlocal seen
        seen += 1
        torch.cuda.set_sync_debug_mode("default" if seen == len(run.batches) else "error")

    run.on_batch = on_batch
    told = run.epoch()
    assert seen == len(run.batches) > 1
    return told


def test_the_guard_notices_a_wait(faces: tuple[Split, Split]) -> None:
    run = training(faces)
    mix = run.mixing
    run.mixing = lambda *given: [float(given[0].sum())] and mix(*given)  # type: ignore[assignment,func-returns-value]
    with pytest.raises(RuntimeError, match="synchroniz"):
        train_guarded(run)


@pytest.mark.parametrize("model", parts.names("model"))
def test_no_batch_of_a_model_waits_for_the_host(faces: tuple[Split, Split], model: str) -> None:
    told = train_guarded(training(faces, model=model, **EVERYTHING))
    assert np.isfinite(told.metrics["train_loss"])


@pytest.mark.parametrize("augment", parts.names("augment"))
def test_no_batch_of_a_policy_waits_for_the_host(faces: tuple[Split, Split], augment: str) -> None:
    train_guarded(training(faces, augment=augment))


@pytest.mark.parametrize("balance", parts.names("balance"))
def test_no_batch_of_a_balancing_strategy_waits_for_the_host(faces: tuple[Split, Split], balance: str) -> None:
    train_guarded(training(faces, balance=balance))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "nadam", "rmsprop"])
def test_no_step_of_an_optimizer_waits_for_the_host(faces: tuple[Split, Split], optimizer: str) -> None:
    train_guarded(training(faces, optimizer=optimizer, lr=1e-3))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "nadam"])
def test_a_training_resumed_on_the_gpu_goes_on_without_waiting(faces: tuple[Split, Split], optimizer: str) -> None:
    run = training(faces, optimizer=optimizer, lr=1e-3, ema_decay=0.9)
    run.epoch()
    tensors, values = run.state()
    resumed = training(faces, optimizer=optimizer, lr=1e-3, ema_decay=0.9)
    resumed.load_state({name: tensor.cpu().clone() for name, tensor in tensors.items()}, values)
    whole, again = run.epoch(), train_guarded(resumed)
    # Atomic additions in cuDNN's backward come in any order: equal to rounding in bf16, not bit by bit.
    assert again.metrics["train_loss"] == pytest.approx(whole.metrics["train_loss"], rel=0.05)


def test_a_batch_too_large_for_the_gpu_is_halved_once_and_trains(faces: tuple[Split, Split]) -> None:
    wide = {"model": "resnet", "batch_size": 512, "precision": "fp32"}
    needed = {}
    for slices in (1, 2):
        devices.release_memory(torch.device("cuda"))
        torch.cuda.reset_peak_memory_stats()
        run = training(faces, **wide)  # type: ignore[arg-type]
        run.slices = slices
        run.epoch()
        needed[slices] = torch.cuda.max_memory_allocated()
        del run
    assert needed[2] < 0.8 * needed[1]
    devices.release_memory(torch.device("cuda"))
    torch.cuda.set_per_process_memory_fraction(0.9 * needed[1] / torch.cuda.get_device_properties(0).total_memory)
    try:
        run = training(faces, **wide)  # type: ignore[arg-type]
        told = run.epoch()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert run.slices == 2
    assert np.isfinite(told.metrics["train_loss"])


def test_a_gpu_that_multiplies_bf16_is_asked_to(faces: tuple[Split, Split]) -> None:
    run = training(faces, model="vgg")
    native = torch.cuda.get_device_capability()[0] >= 8
    assert run.precision == ("bf16" if native else "fp32")
