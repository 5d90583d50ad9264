"""Training itself, on synthetic faces: it learns, it repeats, it resumes, and it never asks the device to wait."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facex_tune import parts, train_knobs
from facex_tune.data.sources import synthetic
from facex_tune.space import Config, Space, constant
from facex_tune.storage import files
from facex_tune.training import classifier, cuda_graph, devices, optimization, train
from facex_tune.training.batches import Batches, Split

CPU = torch.device("cpu")
# The cheapest network that has dropout and batch norm.
PATCH_CNN = {"width": 32, "depth": 2, "patch": 4, "activation": "gelu", "dropout": 0.1}


@pytest.fixture(scope="module")
def faces() -> tuple[Split, Split]:
    drawn = synthetic.generate(600, seed=4, imbalance=0.0, label_noise=0.0)
    split = [
        Split.of(drawn.images_NHW[rows], drawn.labels_N[rows], None, CPU) for rows in (slice(500), slice(500, 600))
    ]
    return split[0], split[1]


def config(**changes: object) -> Config:
    """A small network with every training knob at its default, and `changes` ("train__lr" for "train.lr")."""
    space = Space(
        {
            "model": {"patch_cnn": {name: constant(value) for name, value in PATCH_CNN.items()}},
            "augment": {"flip_shift": {"pixels": constant(2)}},
            "balance": {"none": {}},
        },
        {name: constant(knob.default) for name, knob in train_knobs.SPACE.items()},
    )
    return {
        **space.defaults(),
        "train.batch_size": 50,
        **{name.replace("__", "."): value for name, value in changes.items()},
    }  # type: ignore[dict-item]


# Every training knob that adds work to a step.
EVERYTHING = {
    **{"train__mixup": 0.4, "train__cutmix": 1.0, "train__erasing": 0.5, "train__noise": 0.05},
    **{"train__clip_norm": 0.5, "train__schedule": "plateau", "train__optimizer": "sgd"},
}


def training(faces: tuple[Split, Split], **changes: object) -> train.Training:
    return train.Training(config(**changes), *faces, n_classes=7, epochs=3, seed=[1, 2], device=CPU)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # sums in one order, so that equal means equal


def test_it_learns(faces: tuple[Split, Split]) -> None:
    """On the faces that it was trained with: what it makes of others takes longer than a test should."""
    reports: list[train.Epoch] = []
    knobs = {**config(train__lr=0.05, train__batch_size=25), "model.patch_cnn.dropout": 0.0, "augment": "none"}
    model = train.run(knobs, faces[0], faces[0], reports.append, n_classes=7, epochs=8, seed=[0], device=CPU)
    assert [report.epoch for report in reports] == list(range(1, 9))
    assert reports[-1].metrics["train_loss"] < reports[0].metrics["train_loss"]
    assert reports[-1].metrics["accuracy"] > 0.6, "chance is 0.14"
    assert not model.training


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train__ema_decay": 0.9},
        *({"train__optimizer": name, "train__lr": 0.002} for name in ("adam", "adamw", "nadam", "rmsprop", "muon")),
        {"train__schedule": "step"},
        {"train__schedule": "plateau", "train__plateau_patience": 1, "train__warmup": 0.0, "train__lr": 0.5},
        EVERYTHING,
    ],
    ids=str,
)
def test_a_resumed_run_is_the_run_that_was_never_interrupted(
    faces: tuple[Split, Split], changes: dict[str, object]
) -> None:
    def new() -> train.Training:
        return train.Training(config(**changes), *faces, n_classes=7, epochs=3, seed=[1], device=CPU, weights="ema")

    whole = new()
    whole.epoch()
    tensors, values = whole.state()
    saved = {name: tensor.clone() for name, tensor in tensors.items()}
    resumed = new()
    resumed.load_state(saved, json.loads(json.dumps(values)))
    for _ in range(2):
        one, two = whole.epoch(), resumed.epoch()
        assert one.epoch == two.epoch
        assert {**one.metrics, "train_images_per_second": 0} == {**two.metrics, "train_images_per_second": 0}


def test_the_average_lags_behind_and_is_what_is_kept(faces: tuple[Split, Split]) -> None:
    averaged = train.Training(
        config(train__ema_decay=0.999), *faces, n_classes=7, epochs=3, seed=[1], device=CPU, weights="ema"
    )
    averaged.epoch()
    assert averaged.average is not None
    last, kept = (dict(model.named_parameters()) for model in (averaged.model, averaged.kept))
    assert any(not torch.equal(last[name], kept[name]) for name in last)
    plain = train.Training(config(train__ema_decay=0.999), *faces, n_classes=7, epochs=3, seed=[1], device=CPU)
    assert plain.kept is plain.model


def test_a_run_recorded_before_a_knob_existed_goes_on_without_it(faces: tuple[Split, Split]) -> None:
    first = ("optimizer", "lr", "momentum", "weight_decay", "schedule", "warmup", "label_smoothing", "batch_size")
    then = {f"train.{name}" for name in (*first, "ema_decay", "progressive", "precision")}
    old = {name: value for name, value in config().items() if not name.startswith("train.") or name in then}
    assert len(old) < len(config())
    runs = [
        train.Training(each, *faces, n_classes=7, epochs=3, seed=[1], device=CPU)._train_epoch(1)
        for each in (old, config())
    ]
    assert runs[0] == runs[1]


def test_mixed_labels_reach_the_loss(faces: tuple[Split, Split]) -> None:
    from facex_tune.balance import Plan

    run = training(faces, train__mixup=1.0, train__label_smoothing=0.0)
    seen: list[torch.Tensor] = []
    run.plan = Plan(loss=lambda logits, targets: (seen.append(targets), logits.sum() * 0)[1])
    run._train_epoch(1)
    assert torch.allclose(seen[0].sum(1), torch.ones(50))
    assert float((seen[0].amax(1) < 0.99).float().mean()) > 0.5


def test_batches_are_replayed_on_cuda_alone(faces: tuple[Split, Split]) -> None:
    """On a GPU test_cuda.py says how."""
    run = training(faces)
    run.epoch()
    assert (run.replays, run._captured) == (False, None)


class Recomputed:
    """In place of a graph, which wants a GPU: computes what a replay leaves behind, each time anew."""

    made = 0

    def __init__(self, batch: Callable[[], torch.Tensor], model: torch.nn.Module, *_: object) -> None:
        type(self).made += 1
        self.batch, self.model = batch, model

    def __call__(self) -> torch.Tensor:
        parameters = list(self.model.parameters())
        loss = self.batch()
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        return loss.detach()


@pytest.mark.parametrize("captures", [True, False])
def test_a_capture_serves_one_size_of_faces_and_one_loss(
    faces: tuple[Split, Split], monkeypatch: pytest.MonkeyPatch, captures: bool
) -> None:
    """Two sizes of faces, and a loss that changes within the last epoch; where none can be had, none is asked again."""

    def refused(*_: object) -> None:
        Recomputed.made += 1
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Recomputed, "made", 0)
    monkeypatch.setattr(train, "Captured", Recomputed if captures else refused)
    losses = {}
    for replays in (True, False):
        run = training(faces, train__progressive=True, train__mixup=0.4)
        run.plan = replace(run.plan, late_loss=lambda logits, targets: logits.square().mean(), late_from=0.9)
        run.replays = replays
        losses[replays] = [run.epoch().metrics["train_loss"] for _ in range(3)]
        refusal = "" if captures or not replays else "operation not permitted when stream is capturing"
        assert (run.replays, run.not_captured) == (replays and captures, refusal)
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)
    assert Recomputed.made == (3 if captures else 1)


@pytest.mark.parametrize(
    ("version", "must"),
    [("2.4.0", True), ("2.11.0+cu130", True), ("2.14.1+cu130", False), ("2.15.0", False), ("3.0", False)],
)
def test_generators_are_registered_where_graphs_do_not_find_them(version: str, must: bool) -> None:
    assert cuda_graph.must_register(version) == must


def test_a_run_that_diverges_says_so(faces: tuple[Split, Split]) -> None:
    with pytest.raises(train.Diverged, match="epoch 1"):
        training(faces, train__lr=1e30).epoch()


def faulty(fault: str, **knobs: object) -> dict[str, object]:
    """The network of tests/faults/parts in place of the usual one; it has no BatchNorm and no dropout."""
    network = {"fault": fault, "tag": 0.0, "step_ms": 0, "fits": 32, "sound_steps": 0} | knobs
    return {"model": "faulty_net", **{f"model.faulty_net.{name}": value for name, value in network.items()}}


@pytest.fixture
def faulty_parts() -> Iterator[None]:
    parts.use_folder(Path(__file__).parents[1] / "faults" / "parts")
    yield
    parts._own_folders.clear()


@pytest.mark.usefixtures("faulty_parts")
@pytest.mark.parametrize("fault", ["torch_memory", "host_memory", "cpu_memory"])
def test_a_batch_that_does_not_fit_is_shown_in_halves(faces: tuple[Split, Split], fault: str) -> None:
    """The course is that of the whole batch, but for the order in which float32 sums are taken."""
    whole, halved = (training(faces, **faulty(name)) for name in ("none", fault))
    for _ in range(2):
        one, two = whole.epoch(), halved.epoch()
        assert (whole.slices, halved.slices) == (1, 2)
        assert one.metrics["train_loss"] == pytest.approx(two.metrics["train_loss"], rel=1e-5)
    for before, after in zip(whole.model.parameters(), halved.model.parameters(), strict=True):
        assert torch.allclose(before, after, rtol=1e-4, atol=1e-6)
    tensors, values = halved.state()
    resumed = training(faces, **faulty(fault))
    resumed.load_state(tensors, values)
    assert resumed.slices == 2


@pytest.mark.usefixtures("faulty_parts")
@pytest.mark.parametrize("balance", parts.names("balance"))
@pytest.mark.parametrize("batch", [32, 33])
def test_gradients_of_halves_add_up_to_those_of_the_batch(faces: tuple[Split, Split], balance: str, batch: int) -> None:
    found = []
    for slices in (1, 2):
        knobs = {f"balance.{balance}.{name}": knob.default for name, knob in parts.balance(balance).SPACE.items()}
        run = train.Training(
            {**config(**faulty("none")), "balance": balance, **knobs},
            *faces,
            n_classes=7,
            epochs=1,
            seed=[1],
            device=CPU,
        )
        run.slices = slices
        rows = torch.arange(batch)
        faces_N1HW = classifier.as_floats(faces[0].images_NHW[rows])
        loss = run._gradients(faces_N1HW, run.batches.targets(rows), run.plan.loss_at(0.99))
        gradients = [parameter.grad for parameter in run.model.parameters() if parameter.grad is not None]
        found.append([loss, *gradients])
    assert len(found[0]) == 3
    for one, two in zip(*found, strict=True):
        assert torch.allclose(one, two, rtol=1e-5, atol=1e-7), "float32 sums in another order"


def test_validation_that_does_not_fit_leaves_training_s_batches_whole(
    faces: tuple[Split, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A captured batch holds the memory that validation wants: it is given back, and no other is captured."""
    asked: list[tuple[int, bool]] = []
    predict, half = train.predict_logits, classifier.evaluation_batch(CPU) // 2

    def scarce(model: torch.nn.Module, images_NHW: torch.Tensor, *, batch: int, **said: Any) -> torch.Tensor:
        asked.append((batch, run._captured is None))
        if batch > half:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return predict(model, images_NHW, batch=batch, **said)

    monkeypatch.setattr(train, "predict_logits", scarce)
    monkeypatch.setattr(train, "Captured", Recomputed)
    run, plain = training(faces), training(faces)
    run.replays = True
    run.epoch()
    assert asked == [(2 * half, False), (half, True)]
    assert (run.slices, run.evaluation_slices, run.replays) == (1, 2, False)
    assert "validation does not fit" in run.not_captured
    run.epoch()
    assert asked[2:] == [(half, True)]
    tensors, values = run.state()
    plain.load_state(tensors, values)
    assert (plain.slices, plain.evaluation_slices) == (1, 2)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "nadam", "rmsprop", "muon"])
def test_momenta_read_from_a_file_have_their_parameters_layout(
    faces: tuple[Split, Split], tmp_path: Path, optimizer: str
) -> None:
    """Else optimizers take one parameter after another: four times as long a step."""
    run = training(faces, train__optimizer=optimizer, train__lr=1e-3)
    run.epoch()
    tensors, values = run.state()
    files.save_tensors(tmp_path / "c.safetensors", tensors, values)
    resumed = training(faces, train__optimizer=optimizer)
    resumed.load_state(*files.load_tensors(tmp_path / "c.safetensors"))
    alike = 0
    for parameter, slots in resumed.optimizer.state.items():
        for value in slots.values():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                assert value.stride() == parameter.stride()
                alike += parameter.ndim == 4
    assert alike, "filters, which are laid out channels-last"


@pytest.mark.usefixtures("faulty_parts")
def test_a_half_that_does_not_fit_either_ends_the_training(faces: tuple[Split, Split]) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        training(faces, **faulty("torch_memory", fits=10)).epoch()


@pytest.mark.usefixtures("faulty_parts")
def test_a_loss_that_explodes_ends_the_training_unless_the_epoch_recovers(faces: tuple[Split, Split]) -> None:
    with pytest.raises(train.Diverged, match=r"exploded to .* in epoch 1"):
        training(faces, **faulty("explodes")).epoch()
    run = training(faces, **faulty("none"))
    run._train_epoch = lambda number: 1e4  # type: ignore[method-assign]
    assert run.epoch().metrics["train_loss"] == 1e4, "validation does about as well as guessing"


def test_what_memory_errors_look_like() -> None:
    assert devices.is_out_of_memory(MemoryError())
    assert devices.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert devices.is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
    assert devices.is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"))
    assert not devices.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not devices.is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError) as said:
        torch.empty(2**62, dtype=torch.uint8)
    assert devices.is_out_of_memory(said.value)


def test_rates_rise_then_fall_to_nothing() -> None:
    for schedule in ("one_cycle", "cosine"):
        factors = [optimization.rate_factor(schedule, progress, 0.25) for progress in np.linspace(0, 1, 101)]
        assert max(factors) == pytest.approx(1.0)
        assert factors.index(max(factors)) == 25
        assert factors[-1] == pytest.approx(0.0, abs=1e-12)
        assert all(factor > 0 for factor in factors[:-1])
    assert optimization.rate_factor("one_cycle", 0.625, 0.25) == pytest.approx(0.5)
    assert optimization.rate_factor("cosine", 0.0, 0.0) == 1.0


def test_steps_fall_to_a_tenth_twice() -> None:
    after = [optimization.rate_factor("step", progress, 0.5) for progress in (0.49, 0.5, 0.66, 0.67, 0.83, 0.84)]
    assert after == pytest.approx([0.98, 1, 1, 0.1, 0.1, 0.01]), "each lasts a third of what the warm-up leaves"
    factors = [optimization.rate_factor("step", progress, 0.1) for progress in (0.05, 0.1, 0.49, 0.5, 0.74, 0.75, 1.0)]
    assert factors == pytest.approx([0.5, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("scores", "falls"),
    [
        ([], 0),
        ([0.1, 0.2, 0.3, 0.4], 0),
        ([0.1, 0.1], 0),  # patience is two
        ([0.1, 0.1, 0.1], 1),
        ([0.3, 0.1, 0.31, 0.2, 0.3], 1),
        ([0.5, 0.1, 0.2, 0.3, 0.4], 2),  # better than the last is not better than the best
        ([0.5, 0.1, 0.2, 0.6, 0.1], 1),
    ],
)
def test_a_plateau_lowers_the_rate_after_its_patience(scores: list[float], falls: int) -> None:
    assert optimization.plateau_factor(scores, 2, 0.3) == pytest.approx(0.3**falls)


def test_a_plateau_is_read_after_the_warm_up(faces: tuple[Split, Split]) -> None:
    knobs = config(train__schedule="plateau", train__plateau_patience=1, train__plateau_factor=0.1, train__warmup=0.25)
    run = train.Training(knobs, *faces, n_classes=7, epochs=8, seed=[1], device=CPU)
    rates = []
    run.watched = [0.5, 0.1, 0.4, 0.4, 0.5]  # two of warm-up, then the best, then none better, then better
    for progress in (0.125, 0.7):
        run._set_rate(progress)
        rates.append(run.optimizer.param_groups[0]["lr"] / 0.05)
    assert rates == pytest.approx([0.5 * 0.1, 0.1])


@pytest.mark.parametrize(("name", "kind"), [("adam", "Adam"), ("nadam", "NAdam"), ("rmsprop", "RMSprop")])
def test_an_optimizer_is_the_one_that_is_named(faces: tuple[Split, Split], name: str, kind: str) -> None:
    optimizer = training(faces, train__optimizer=name, train__momentum=0.8).optimizer
    assert type(optimizer).__name__ == kind
    group = optimizer.param_groups[0]
    assert group["weight_decay"] == 5e-4
    assert group.get("momentum", group.get("betas", [None])[0]) == 0.8


def test_gradients_are_clipped_all_together(faces: tuple[Split, Split]) -> None:
    """One step of plain gradient descent moves the weights by rate times norm, at most."""
    moved = []
    for most in (0.0, 0.01):
        plain = {"train__momentum": 0.0, "train__warmup": 0.0, "train__weight_decay": 1e-6, "train__batch_size": 500}
        run = training(faces, train__clip_norm=most, train__lr=0.1, **plain)
        before = [parameter.detach().clone() for parameter in run.model.parameters()]
        run._train_epoch(1)
        steps = [(now - then).square().sum() for now, then in zip(run.model.parameters(), before, strict=True)]
        moved.append(float(torch.stack(steps).sum().sqrt().detach()))
    assert moved[1] == pytest.approx(0.1 * 0.01, rel=0.01)
    assert moved[0] > 10 * moved[1]


def test_faces_grow_in_a_progressive_run(faces: tuple[Split, Split]) -> None:
    run = train.Training(config(train__progressive=True), *faces, n_classes=7, epochs=20, seed=[1], device=CPU)
    assert [run._pixels(number) for number in (1, 8, 9, 13, 14, 20)] == [32, 32, 40, 40, 48, 48]
    assert training(faces)._pixels(1) == 48


def test_sampling_weights_decide_what_is_drawn(faces: tuple[Split, Split]) -> None:
    from facex_tune.balance import Plan

    run = training(faces)
    wanted = (run.train.labels_N == 1).float()
    plan = Plan(loss=run.plan.loss, sample_weights_N=wanted)
    batches = Batches(run.train, plan, largest=50, n_classes=7, smoothing=0.0)
    drawn = torch.cat(list(batches.draw(torch.Generator().manual_seed(0))))
    assert set(run.train.labels_N[drawn].tolist()) == {1}


def test_every_face_is_drawn_once_an_epoch(faces: tuple[Split, Split]) -> None:
    run = training(faces)
    drawn = torch.cat(list(run.batches.draw(torch.Generator().manual_seed(0))))
    assert sorted(drawn.tolist()) == list(range(500))


@pytest.mark.parametrize(
    ("name", "per_class"), [("undersample", 20), ("oversample", 190)], ids=["undersample", "oversample"]
)
def test_quotas_decide_what_an_epoch_is(faces: tuple[Split, Split], name: str, per_class: int) -> None:
    """Six classes, of 20, 190 and between: levelled, drawn anew each time, evenly within a class."""
    labels_N = torch.tensor([0] * 190 + [1] * 20 + [2] * 70 + [3] * 80 + [4] * 60 + [5] * 80)
    split = Split(faces[0].images_NHW, labels_N)
    knobs = {**config(train__batch_size=10), "balance": name, f"balance.{name}.ratio": 1.0}
    run = train.Training(knobs, split, faces[1], n_classes=7, epochs=3, seed=[1], device=CPU)
    assert len(run.batches) == 6 * per_class // 10
    draws = [torch.cat(list(run.batches.draw(torch.Generator().manual_seed(seed)))) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0].sort().values, draws[2].sort().values)
    assert torch.bincount(labels_N[draws[0]], minlength=7).tolist() == [per_class] * 6 + [0]
    assert not torch.equal(labels_N[draws[0]], labels_N[draws[0]].sort().values), "classes are mixed"
    times_N = torch.bincount(draws[0], minlength=500)
    for label in range(6):
        assert int(times_N[labels_N == label].max()) - int(times_N[labels_N == label].min()) <= 1


def test_deferred_weights_begin_in_the_middle_of_training(faces: tuple[Split, Split]) -> None:
    from facex_tune.balance import Plan

    run = training(faces)  # three epochs of ten steps
    seen: list[str] = []

    def noted(name: str) -> object:
        return lambda logits_NC, targets_NC: (seen.append(name), logits_NC.sum() * 0)[1]

    run.plan = Plan(loss=noted("early"), late_loss=noted("late"), late_from=0.5)  # type: ignore[arg-type]
    for number in (1, 2, 3):
        run._train_epoch(number)
    assert seen == ["early"] * 15 + ["late"] * 15


def test_targets_are_smoothed_and_votes_replace_labels(faces: tuple[Split, Split]) -> None:
    run = training(faces, train__label_smoothing=0.14)
    targets = run.batches.targets(torch.tensor([0]))
    label = int(run.train.labels_N[0])
    assert targets[0, label] == pytest.approx(0.86 + 0.02)
    assert targets.sum() == pytest.approx(1.0)
    votes = torch.full((500, 7), 1 / 7)
    voted = Split(run.train.images_NHW, run.train.labels_N, votes)
    run = train.Training(config(), voted, faces[1], n_classes=7, epochs=3, seed=[1], device=CPU)
    assert torch.allclose(run.batches.targets(torch.tensor([3])), votes[:1])


def test_flipping_at_test_is_the_mean_of_a_face_and_its_mirror(faces: tuple[Split, Split]) -> None:
    model = classifier.build_model(config(), 7).eval()
    images = faces[1].images_NHW.numpy()
    plain = classifier.probabilities_NC(model, images, CPU)
    mirrored = classifier.probabilities_NC(model, images[:, :, ::-1].copy(), CPU)
    flipped = classifier.probabilities_NC(model, images, CPU, tta="flip")
    assert np.allclose(flipped, (plain + mirrored) / 2, atol=1e-6)
    assert np.allclose(flipped.sum(1), 1, atol=1e-5)


def test_weight_decay_spares_biases_and_norms(faces: tuple[Split, Split]) -> None:
    decayed, spared = training(faces).optimizer.param_groups
    assert decayed["weight_decay"] == 5e-4
    assert spared["weight_decay"] == 0
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim <= 1 for parameter in spared["params"])


def test_pixels_are_scaled_by_the_training_faces(faces: tuple[Split, Split]) -> None:
    values = faces[0].images_NHW.numpy() / 255
    mean, std = classifier.pixel_scale(faces[0].images_NHW)
    assert mean == pytest.approx(values.mean(), abs=1e-9)
    assert std == pytest.approx(values.std(), abs=1e-9)


def test_nothing_waits_for_the_device_in_the_loop(faces: tuple[Split, Split]) -> None:
    """Only the epoch's mean loss is read, once, however many steps there are."""
    from torch.utils._python_dispatch import TorchDispatchMode

    reads: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
                reads.append(str(func))
            return func(*args, **(kwargs or {}))

    counts = []
    for batch in (50, 10):
        run = training(faces, train__batch_size=batch, **EVERYTHING)
        reads.clear()
        with Watch():
            run._train_epoch(1)
        counts.append(len(reads))
    assert counts == [1, 1], "for ten steps as for fifty"


@pytest.mark.parametrize("value", ["fp32", "bf16"])
def test_a_precision_that_is_named_is_kept(value: str) -> None:
    assert devices.pick_precision(config(train__precision=value), CPU) == value


def test_auto_precision_asks_the_device() -> None:
    expected = "bf16" if devices.has_fast_bf16(CPU) else "fp32"
    assert devices.pick_precision(config(), CPU) == expected


def test_it_runs_in_bf16_too(faces: tuple[Split, Split]) -> None:
    small = tuple(Split(split.images_NHW[:60], split.labels_N[:60]) for split in faces)
    run = train.Training(config(train__precision="bf16"), *small, n_classes=7, epochs=1, seed=[1], device=CPU)
    assert math.isfinite(run.epoch().metrics["train_loss"])


class Thick(torch.nn.Module):
    """A network with a convolution over three axes beside one over two."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 4, 3))
        self.deep = torch.nn.Conv3d(1, 7, (4, 1, 1))

    def forward(self, faces_N1HW: torch.Tensor) -> torch.Tensor:
        logits_NC: torch.Tensor = self.deep(self.flat(faces_N1HW).unsqueeze(1)).mean((2, 3, 4))
        return logits_NC


def test_a_network_of_filters_with_five_axes_is_placed_and_the_others_are_channels_last() -> None:
    model = classifier.placed(classifier.Classifier(Thick(), 0.5, 0.25), CPU)
    assert model.body.get_parameter("flat.1.weight").is_contiguous(memory_format=torch.channels_last)
    logits_NC = model(torch.rand(2, 1, 8, 8))
    logits_NC.sum().backward()
    assert logits_NC.shape == (2, 7)
