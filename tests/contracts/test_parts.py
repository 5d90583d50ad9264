"""One contract for every part by name: a new file in models/, augment/ or balance/ is held to it the day it appears."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facex_tune import parts
from facex_tune.data.sources import synthetic
from facex_tune.space import FAMILIES, Choice, Config, Knob
from facex_tune.storage import files
from facex_tune.training.classifier import Classifier

from .guard import HostWait, no_host_waits

N_CLASSES = 7
PARTS = [(family, name) for family in FAMILIES for name in parts.names(family)]
MODELS, AUGMENTS, BALANCES = (parts.names(family) for family in FAMILIES)
WHOLE, TRAINING_SIZES = 48, (48, 40, 32)  # progressive training shows two thirds and five sixths of a side first


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def defaults(family: str, name: str) -> Config:
    return {knob: space.default for knob, space in parts.find(family, name).SPACE.items()}


def ends(knob: Knob) -> list[Any]:
    return list(knob.options) if isinstance(knob, Choice) else [knob.low, knob.high]


def at_the_ends(family: str) -> list[Any]:
    """(part, knobs): the defaults, then each knob at each end of its range with the others at their default."""
    cases = []
    for name in parts.names(family):
        usual = defaults(family, name)
        cases.append(pytest.param(name, usual, id=f"{name}-defaults"))
        for knob, space in parts.find(family, name).SPACE.items():
            for value in ends(space):
                if value != usual[knob] or isinstance(value, bool) != isinstance(usual[knob], bool):
                    cases.append(pytest.param(name, usual | {knob: value}, id=f"{name}-{knob}={value}"))
    return cases


def extremes(name: str) -> list[Config]:
    """Every knob of a model at its first end together, and at its last."""
    space = parts.find("model", name).SPACE
    return [{knob: ends(each)[place] for knob, each in space.items()} for place in (0, -1)]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def faces(n: int = 4, side: int = WHOLE) -> Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(7))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# What every part keeps


@pytest.mark.parametrize(("family", "name"), PARTS)
def test_a_part_says_what_it_is_and_where_it_comes_from(family: str, name: str) -> None:
    doc = parts.find(family, name).__doc__
    assert doc, "a docstring is what `facex-tune parts` prints"
    assert parts.summary(family, name) == doc.splitlines()[0].strip()
    assert len(parts.summary(family, name)) > 20
    assert name == "none" or "\nSource: " in doc, "a `Source:` line: paper with year, or whose work it is"


@pytest.mark.parametrize(("family", "name"), PARTS)
def test_every_knob_has_a_range_that_holds_its_default(family: str, name: str) -> None:
    for knob, space in parts.find(family, name).SPACE.items():
        assert knob.isidentifier()
        assert space.holds(space.default), f"{knob}: the default {space.default!r} is outside {space}"
        assert space.doc, f"{knob}: one line of what it does"
        if isinstance(space, Choice):
            assert len(set(space.options)) == len(space.options) > 1
        else:
            assert space.low < space.high
            assert space.low > 0 or not space.log


# Models


def model(name: str, knobs: Config | None = None, n_classes: int = N_CLASSES) -> nn.Module:
    if name == "timm":
        pytest.importorskip("timm", reason="timm is not installed (an extra)")
    built: nn.Module = parts.model(name).build(defaults("model", name) if knobs is None else knobs, n_classes)
    return built


FREEZABLE = [name for name in MODELS if "frozen" in parts.find("model", name).SPACE]


def frozen(name: str, levels: int) -> Config:
    """As if weights were asked for; `build` loads none."""
    return defaults("model", name) | {"pretrained": "imagenet", "frozen": levels}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_names_its_precision(name: str) -> None:
    assert parts.model(name).PRECISION in ("bf16", "fp32")


@pytest.mark.parametrize(("name", "knobs"), at_the_ends("model"))
def test_a_model_gives_finite_logits_at_both_ends_of_every_knob(name: str, knobs: Config) -> None:
    with torch.inference_mode():
        logits_NC = model(name, knobs).eval()(faces())
    assert logits_NC.shape == (4, N_CLASSES)
    assert logits_NC.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_at_its_smallest_and_largest(name: str) -> None:
    for knobs in extremes(name):
        with torch.inference_mode():
            assert model(name, knobs).eval()(faces(2)).isfinite().all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("side", TRAINING_SIZES)
def test_a_model_takes_faces_of_every_size_that_training_shows(name: str, side: int) -> None:
    network = model(name)
    for training in (True, False):
        assert network.train(training)(faces(4, side)).shape == (4, N_CLASSES)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_classes", [2, 8])
def test_a_model_answers_as_many_classes_as_asked(name: str, n_classes: int) -> None:
    assert model(name, n_classes=n_classes).eval()(faces(2)).shape == (2, n_classes)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_every_parameter(name: str) -> None:
    """Three steps, since a branch that starts at zero passes no gradient on in the first."""
    network = model(name).train()
    trained = {key: value for key, value in network.named_parameters() if value.requires_grad}
    optimizer = torch.optim.SGD(trained.values(), lr=0.05)
    reached: set[str] = set()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(faces(8)), torch.arange(8) % N_CLASSES).backward()
        for key, parameter in trained.items():
            assert parameter.grad is not None, f"{key} is not part of the graph"
            assert parameter.grad.isfinite().all(), key
            if parameter.grad.any():
                reached.add(key)
        optimizer.step()
    assert reached == set(trained)


@pytest.mark.parametrize("name", MODELS)
def test_an_untrained_model_is_not_sure_of_anything(name: str) -> None:
    """A head that starts loud spends its first epochs on unlearning; EfficientNet's once had a spread of 3.5."""
    network = model(name).train()
    with torch.no_grad():
        logits_NC = network(faces(64))
    assert float(logits_NC.std()) < 1.0


@pytest.mark.parametrize("name", MODELS)
def test_a_model_learns_a_few_faces_by_heart(name: str) -> None:
    """A dead start shows here; with a last batch norm at zero, ResNet's ten layers once learned nothing.

    The slowest (timm's default) needs 28 steps; 100 leave a new one room.
    """
    drawn = synthetic.generate(3 * N_CLASSES, seed=3, imbalance=0, label_noise=0)
    pixels_N1HW = torch.from_numpy(drawn.images_NHW).unsqueeze(1).float()
    faces_N1HW, labels_N = (pixels_N1HW - pixels_N1HW.mean()) / pixels_N1HW.std(), torch.from_numpy(drawn.labels_N)
    calm = {knob: 0.0 for knob in ("dropout", "stochastic_depth") if knob in parts.find("model", name).SPACE}
    network = model(name, defaults("model", name) | calm).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(faces_N1HW), labels_N)
        if loss.item() < 0.1:
            return
        loss.backward()
        optimizer.step()
    pytest.fail(f"after 100 steps {len(labels_N)} faces still cost {loss.item():.2f} each")


@pytest.mark.parametrize("name", FREEZABLE)
def test_levels_freeze_from_the_input_on_and_the_classifier_never(name: str) -> None:
    with torch.device("meta"):
        found = [
            [parameter.requires_grad for parameter in model(name, frozen(name, levels)).parameters()]
            for levels in range(6)
        ]
    assert all(found[0])
    for fewer, more in itertools.pairwise(found):
        assert sum(more) < sum(fewer)
        assert not any(now and not before for now, before in zip(more, fewer, strict=True))
    assert not found[1][0], "the stem freezes first"
    assert found[5][-1], "the classifier always trains"


@pytest.mark.parametrize("name", FREEZABLE)
def test_what_is_frozen_stays_as_it_is_and_the_rest_trains(name: str) -> None:
    network = Classifier(model(name, frozen(name, 3)), 0.0, 1.0).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trained = {key: value for key, value in network.named_parameters() if value.requires_grad}
    optimizer = torch.optim.SGD(trained.values(), lr=0.05)
    reached: set[str] = set()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(faces(8)), torch.arange(8) % N_CLASSES).backward()
        reached |= {key for key, value in trained.items() if value.grad is not None and value.grad.any()}
        optimizer.step()
    changed = {key for key, value in network.state_dict().items() if not torch.equal(before[key], value)}
    fixed = {key for key, value in network.named_parameters() if not value.requires_grad}
    assert fixed
    assert reached == set(trained)
    assert not fixed & changed
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        assert norm.training == norm.weight.requires_grad, "frozen norms keep their statistics"


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_built_the_same_from_a_seed(name: str) -> None:
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(model(name).state_dict())
    first, again, other = states
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_in_evaluation_answers_each_face_alone_and_the_same_each_time(name: str) -> None:
    network = model(name)
    network.train()(faces(16))  # moves the running statistics away from where they started
    network.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.inference_mode():
        together, again = network(faces()), network(faces())
        alone = torch.cat([network(face[None]) for face in faces()])
    assert torch.equal(together, again)
    # another batch size takes another kernel, which may round otherwise
    assert torch.allclose(together, alone, atol=1e-4)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_saved_and_loaded_gives_equal_logits(name: str, tmp_path: Path) -> None:
    network = model(name)
    network.train()(faces(16))
    files.save_tensors(tmp_path / "model.safetensors", network.state_dict(), {})
    tensors, _ = files.load_tensors(tmp_path / "model.safetensors")
    torch.manual_seed(99)
    loaded = model(name)
    loaded.load_state_dict(tensors)
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(faces()), network.eval()(faces()))
    files.save_tensors(tmp_path / "again.safetensors", loaded.state_dict(), {})
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_can_be_built_without_memory(name: str) -> None:
    """On the meta device: how the parameters of a huge one are counted before any is made."""
    with torch.device("meta"):
        network = model(name)
    assert all(parameter.is_meta for parameter in [*network.parameters(), *network.buffers()])
    assert network(torch.empty(4, 1, WHOLE, WHOLE, device="meta")).shape == (4, N_CLASSES)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_takes_the_faster_layout_and_precision(name: str) -> None:
    network = model(name).to(memory_format=torch.channels_last).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=parts.model(name).PRECISION == "bf16"):
        logits_NC = network(faces())
    logits_NC.float().sum().backward()
    assert logits_NC.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_keeps_host_and_device_apart(name: str) -> None:
    network = model(name).train()
    with no_host_waits():
        network(faces())


# Augmentation


def policy(name: str, knobs: Config | None = None) -> Callable[[Tensor, torch.Generator], Tensor]:
    built: Callable[[Tensor, torch.Generator], Tensor]
    built = parts.augment(name).build(defaults("augment", name) if knobs is None else knobs)
    return built


@pytest.mark.parametrize(("name", "knobs"), at_the_ends("augment"))
@pytest.mark.parametrize("side", [48, 32])
def test_a_policy_keeps_shape_kind_device_and_range(name: str, knobs: Config, side: int) -> None:
    given = faces(16, side)
    given[:4] = given[:4].round()  # black and white, where overshooting would show
    made = policy(name, knobs)(given, generator())
    assert made.shape == given.shape
    assert made.dtype == given.dtype
    assert made.device == given.device
    assert made.isfinite().all()
    assert made.min() >= -1e-6  # weights of an interpolation sum to one within float32's rounding
    assert made.max() <= 1 + 1e-6


@pytest.mark.parametrize(("name", "knobs"), at_the_ends("augment"))
def test_a_policy_draws_anew_for_every_face(name: str, knobs: Config) -> None:
    same_face = faces(1).expand(64, 1, WHOLE, WHOLE).contiguous()
    made = policy(name, knobs)(same_face, generator())
    distinct = len(torch.unique(made.flatten(1), dim=0))
    assert distinct == 1 if name == "none" else distinct >= 8


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_policy_draws_from_its_generator_alone(name: str) -> None:
    state = torch.get_rng_state()
    augment = policy(name)
    first, again = augment(faces(16), generator(5)), augment(faces(16), generator(5))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state), "the global generator belongs to dropout"
    if name != "none":
        assert not torch.equal(first, augment(faces(16), generator(6)))
        source = generator(5)
        augment(faces(16), source)
        assert not torch.equal(first, augment(faces(16), source)), "two batches of an epoch differ"


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_policy_leaves_its_input_alone(name: str) -> None:
    given = faces(16)
    policy(name)(given, generator())
    assert torch.equal(given, faces(16))


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_policy_takes_a_single_face(name: str) -> None:
    assert policy(name)(faces(1), generator()).shape == (1, 1, WHOLE, WHOLE)


@pytest.mark.parametrize(("name", "knobs"), at_the_ends("augment"))
def test_a_policy_keeps_host_and_device_apart(name: str, knobs: Config) -> None:
    augment = policy(name, knobs)
    with no_host_waits():
        augment(faces(8), generator())


# Class balancing

LABELS_N = torch.tensor([0] * 40 + [1] * 4 + [2] * 30 + [3] * 60 + [4] * 25 + [5] * 20 + [6] * 21)


def hard(labels_N: Tensor) -> Tensor:
    return nn.functional.one_hot(labels_N, N_CLASSES).float()


def soft(n: int) -> Tensor:
    return torch.rand(n, N_CLASSES, generator=generator(2)).softmax(1)


def plan(name: str, labels_N: Tensor = LABELS_N, knobs: Config | None = None) -> Any:
    return parts.balance(name).plan(labels_N, N_CLASSES, defaults("balance", name) if knobs is None else knobs)


@pytest.mark.parametrize(("name", "knobs"), at_the_ends("balance"))
@pytest.mark.parametrize("targets_NC", [hard(torch.arange(16) % 7), soft(16)], ids=["labels", "votes"])
@pytest.mark.parametrize("labels_N", [LABELS_N, LABELS_N[LABELS_N != 1]], ids=["all classes", "one class absent"])
@pytest.mark.parametrize("scale", [1.0, 80.0], ids=["usual logits", "extreme logits"])
def test_a_loss_is_a_finite_scalar_with_finite_gradients(
    name: str, knobs: Config, targets_NC: Tensor, labels_N: Tensor, scale: float
) -> None:
    for progress in (0.0, 1.0):
        logits_NC = (torch.randn(16, N_CLASSES, generator=generator(1)) * scale).requires_grad_()
        loss = plan(name, labels_N, knobs).loss_at(progress)(logits_NC, targets_NC)
        assert loss.shape == ()
        assert loss.isfinite()
        loss.backward()
        assert logits_NC.grad is not None
        assert logits_NC.grad.isfinite().all()
        assert logits_NC.grad.any()


@pytest.mark.parametrize("name", BALANCES)
def test_right_answers_cost_less_than_wrong_ones(name: str) -> None:
    labels_N = torch.arange(N_CLASSES)
    for loss in (plan(name).loss_at(0.0), plan(name).loss_at(1.0)):
        assert loss(hard(labels_N) * 6, hard(labels_N)) < loss(hard(labels_N.roll(1)) * 6, hard(labels_N)) / 2


@pytest.mark.parametrize("name", BALANCES)
def test_a_loss_is_a_mean_over_faces(name: str) -> None:
    """So that the learning rate means the same for every batch size."""
    logits_NC, targets_NC = torch.randn(16, N_CLASSES, generator=generator(1)), soft(16)
    for loss in (plan(name).loss_at(0.0), plan(name).loss_at(1.0)):
        once = float(loss(logits_NC, targets_NC))
        assert loss(logits_NC.repeat(3, 1), targets_NC.repeat(3, 1)) == pytest.approx(once)


@pytest.mark.parametrize(("name", "knobs"), at_the_ends("balance"))
@pytest.mark.parametrize("labels_N", [LABELS_N, LABELS_N[LABELS_N != 1]], ids=["all classes", "one class absent"])
def test_sample_weights_can_be_drawn_from(name: str, knobs: Config, labels_N: Tensor) -> None:
    weights_N = plan(name, labels_N, knobs).sample_weights_N
    if weights_N is not None:
        assert weights_N.shape == labels_N.shape
        assert weights_N.isfinite().all()
        assert (weights_N >= 0).all()
        assert torch.multinomial(weights_N, len(labels_N), replacement=True, generator=generator()).shape == (
            len(labels_N),
        )


@pytest.mark.parametrize(("name", "knobs"), at_the_ends("balance"))
@pytest.mark.parametrize("labels_N", [LABELS_N, LABELS_N[LABELS_N != 1]], ids=["all classes", "one class absent"])
def test_quotas_ask_for_faces_that_there_are(name: str, knobs: Config, labels_N: Tensor) -> None:
    made = plan(name, labels_N, knobs)
    if made.class_quota_C is not None:
        counts = torch.bincount(labels_N, minlength=N_CLASSES).tolist()
        assert [quota > 0 for quota in made.class_quota_C] == [n > 0 for n in counts]
        assert made.sample_weights_N is None, "quotas and weights are two ways to draw; a plan has one"


@pytest.mark.parametrize(("name", "knobs"), at_the_ends("balance"))
@pytest.mark.parametrize("labels_N", [LABELS_N, LABELS_N[LABELS_N != 1]], ids=["all classes", "one class absent"])
@pytest.mark.parametrize("votes", [False, True], ids=["labels", "votes"])
def test_made_faces_are_faces(name: str, knobs: Config, labels_N: Tensor, votes: bool) -> None:
    made = plan(name, labels_N, knobs)
    if made.synthesize is None:
        return
    assert (made.sample_weights_N, made.class_quota_C) == (None, None), "one way to change what is drawn"
    given = (faces(len(labels_N)) * 255).byte().squeeze(1)
    targets_NC = soft(len(labels_N)) if votes else None
    images_MHW, labels_M, targets_MC = made.synthesize(given, targets_NC, 5)
    again = made.synthesize(given, targets_NC, 5)
    assert images_MHW.dtype == torch.uint8
    assert (images_MHW.shape[1:], labels_M.dtype) == (given.shape[1:], labels_N.dtype)
    assert set(labels_M.tolist()) <= set(labels_N.tolist())
    assert len(images_MHW) == len(labels_M)
    assert torch.equal(images_MHW, again[0])
    assert (targets_MC is None) is not votes
    if targets_MC is not None:
        assert targets_MC.dtype == torch.float32
        assert targets_MC.shape == (len(labels_M), N_CLASSES)
        assert torch.allclose(targets_MC.sum(1), torch.ones(len(labels_M)), atol=1e-5)


@pytest.mark.parametrize("name", BALANCES)
def test_a_loss_keeps_host_and_device_apart(name: str) -> None:
    made, logits_NC, targets_NC = plan(name), torch.randn(16, N_CLASSES).requires_grad_(), soft(16)
    for progress in (0.0, 1.0):
        with no_host_waits():
            made.loss_at(progress)(logits_NC, targets_NC).backward()


# The guard itself


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: int(x.sum()),
        lambda x: bool(x.any()),
        lambda x: 1 if x.sum() > 0 else 0,
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: torch.masked_select(x, x > 0),
        lambda x: torch.where(x > 0),
        lambda x: torch.unique(x),
        lambda x: list(range(x[0].long())),
        lambda x: math.sqrt(x.sum()),
    ],
)
def test_the_guard_notices_every_kind_of_wait(waits: Callable[[Tensor], object]) -> None:
    with pytest.raises(HostWait), no_host_waits():
        waits(torch.ones(8))


def test_the_guard_lets_batches_pass() -> None:
    x = torch.ones(8)
    with no_host_waits():
        torch.where(x > 0, x, -x)[torch.arange(4)].sum()
