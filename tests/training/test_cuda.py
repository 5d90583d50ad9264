"""What only a GPU can show: no batch waits for the host, every one is replayed from a graph, memory runs out for real,
a resumed training goes on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from facex_tune import parts
from facex_tune.data.sources import synthetic
from facex_tune.inspection import costs
from facex_tune.space import Config
from facex_tune.training import devices, train
from facex_tune.training.batches import Split

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
    set: Config | None = None,
    **changes: object,
) -> train.Training:
    config = {
        **costs.configuration(model),
        **{"augment": augment, **knobs_of("augment", augment), "balance": balance, **knobs_of("balance", balance)},
        **{"train.batch_size": BATCH, **{f"train.{name}": value for name, value in changes.items()}},
        **(set or {}),
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
    assert run.replays, "a batch was not captured"
    return told


def test_the_guard_notices_a_wait(faces: tuple[Split, Split]) -> None:
    run = training(faces)
    run.replays = False
    mix = run.mixing
    run.mixing = lambda *given: [float(given[0].sum())] and mix(*given)  # type: ignore[assignment,func-returns-value]
    with pytest.raises(RuntimeError, match="synchroniz"):
        train_guarded(run)


def test_what_waits_for_the_host_is_not_captured_and_trains(faces: tuple[Split, Split]) -> None:
    plain, waiting = (training(faces, mixup=0.4, lr=0.01) for _ in range(2))
    plain.replays = False
    mix = waiting.mixing
    waiting.mixing = lambda *given: [float(given[0].sum())] and mix(*given)  # type: ignore[assignment,func-returns-value]
    for _ in range(2):
        one, two = plain.epoch(), waiting.epoch()
        assert not waiting.replays
        assert waiting.not_captured
        assert one.metrics["train_loss"] == pytest.approx(two.metrics["train_loss"], rel=1e-3), "the same draws too"
        assert one.metrics["log_loss"] == pytest.approx(two.metrics["log_loss"], rel=0.05), "and batch norms"


def test_a_capture_that_memory_ends_leaves_the_generators_in_order(faces: tuple[Split, Split]) -> None:
    run = training(faces, mixup=0.4)
    forward = run.model.forward

    def exhausted(faces_N1HW: torch.Tensor) -> torch.Tensor:
        if torch.cuda.is_current_stream_capturing():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(faces_N1HW)

    run.model.forward = exhausted  # type: ignore[method-assign]
    told = run.epoch()
    assert (run.replays, run.slices, run.not_captured) == (False, 1, "CUDA out of memory")
    assert np.isfinite(told.metrics["train_loss"])


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
@pytest.mark.parametrize("balance", ["none", "ldam_drw"])
def test_a_replayed_course_is_that_of_batches_launched_one_by_one(
    faces: tuple[Split, Split], balance: str, clip_norm: float
) -> None:
    """Without random draws, in fp32; sizes of faces and the loss change on the way."""
    still = {"model.facex_cnn.dropout": 0.0, "train.precision": "fp32"}
    changes = {"progressive": True, "lr": 0.01, "clip_norm": clip_norm}
    runs = []
    for replays in (True, False):
        run = training(faces, augment="none", balance=balance, set=still, **changes)
        run.replays = replays
        losses = [run.epoch().metrics["train_loss"] for _ in range(3)]
        assert run.replays == replays
        runs.append((losses, run))
    (replayed, one), (launched, other) = runs
    # Sums in another order and TF32: a thousandth after an epoch, which training then amplifies.
    assert replayed == pytest.approx(launched, rel=0.02)
    for mine, theirs in zip(one.model.buffers(), other.model.buffers(), strict=True):
        if not mine.is_floating_point():
            assert torch.equal(mine, theirs), "batch norm has counted every batch once, and none of the warm-up"


def test_every_replay_draws_anew_and_every_epoch_its_own_draws(faces: tuple[Split, Split]) -> None:
    run = training(faces, mixup=0.4, erasing=0.5)
    run.epoch()
    assert run._captured is not None
    replay = run._captured[2]
    again: list[list[float]] = []
    for _ in range(2):
        torch.manual_seed(5)
        run.generator.manual_seed(6)
        again.append([float(replay()) for _ in range(3)])
    assert again[0] == pytest.approx(again[1], rel=1e-3)
    assert len({round(loss, 4) for loss in again[0]}) == 3, "one batch of faces, three draws"


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


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "nadam", "rmsprop", "muon"])
def test_no_step_of_an_optimizer_waits_for_the_host(faces: tuple[Split, Split], optimizer: str) -> None:
    train_guarded(training(faces, optimizer=optimizer, lr=1e-3))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "nadam", "muon"])
def test_a_training_resumed_on_the_gpu_goes_on_without_waiting(faces: tuple[Split, Split], optimizer: str) -> None:
    run = training(faces, optimizer=optimizer, lr=1e-3, ema_decay=0.9)
    run.epoch()
    tensors, values = run.state()
    resumed = training(faces, optimizer=optimizer, lr=1e-3, ema_decay=0.9)
    resumed.load_state({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, values)  # as from a file
    whole, again = run.epoch(), train_guarded(resumed)
    # Atomic additions in cuDNN's backward come in any order: equal to rounding in bf16, not bit by bit.
    assert again.metrics["train_loss"] == pytest.approx(whole.metrics["train_loss"], rel=0.05)


def test_a_batch_too_large_for_the_gpu_is_halved_once_and_trains(faces: tuple[Split, Split]) -> None:
    wide = {"model": "resnet", "batch_size": 512, "precision": "fp32"}
    needed = {}
    for slices in (1, 2):
        devices.release_memory(torch.device("cuda"))
        torch.cuda.reset_peak_memory_stats()
        others = torch.cuda.memory_allocated()  # what other tests of this process have left: workspaces, tables
        run = training(faces, **wide)  # type: ignore[arg-type]
        run.slices, run.replays = slices, False  # a graph needs more than its batch
        run.epoch()
        needed[slices] = torch.cuda.max_memory_allocated() - others
        del run
    assert needed[2] < 0.8 * needed[1]
    devices.release_memory(torch.device("cuda"))
    allowed = torch.cuda.memory_reserved() + 0.9 * needed[1]
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.get_device_properties(0).total_memory)
    try:
        run = training(faces, **wide)  # type: ignore[arg-type]
        told = run.epoch()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert run.slices == 2
    assert np.isfinite(told.metrics["train_loss"])


def test_what_was_captured_is_given_back_with_its_training(faces: tuple[Split, Split]) -> None:
    device = torch.device("cuda")

    def left_by_one() -> int:
        run = training(faces, model="vgg", ema_decay=0.9)
        train_guarded(run)
        assert run.replays
        del run
        devices.release_memory(device)
        return torch.cuda.memory_allocated()

    left_by_one()  # the first loads libraries, which keep what they need
    before = left_by_one()
    for _ in range(3):
        after = left_by_one()
    assert after <= before, "a search trains hundreds of trials in one process"


def test_a_gpu_that_multiplies_bf16_is_asked_to(faces: tuple[Split, Split]) -> None:
    run = training(faces, model="vgg")
    native = torch.cuda.get_device_capability()[0] >= 8
    assert run.precision == ("bf16" if native else "fp32")
