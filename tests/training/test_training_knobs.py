"""Training knobs against their formulas; faces that a strategy makes up; scores adjusted after the fact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facex_tune import metrics, parts, train_knobs
from facex_tune.data.sources import synthetic
from facex_tune.space import Config, Space, constant
from facex_tune.training import classifier, posthoc, train
from facex_tune.training.batches import Split
from facex_tune.training.optimization import Average, build_optimizer, rate_factor

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def faces() -> tuple[Split, Split]:
    drawn = synthetic.generate(300, seed=4, imbalance=0.0, label_noise=0.0)
    rows = (slice(240), slice(240, 300))
    both = [Split.of(drawn.images_NHW[each], drawn.labels_N[each], None, CPU) for each in rows]
    return both[0], both[1]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # sums in one order, so that equal means equal


def config(**changes: object) -> Config:
    """A small network with every training knob at its default, and `changes` ("train__lr" for "train.lr")."""
    space = Space(
        {
            "model": {"facex_cnn": {"width": constant(0.25), "dropout": constant(0.1)}},
            "augment": {"none": {}},
            "balance": {"none": {}},
        },
        {name: constant(knob.default) for name, knob in train_knobs.SPACE.items()},
    )
    return {**space.defaults(), **{name.replace("__", "."): value for name, value in changes.items()}}  # type: ignore[dict-item]


def training(faces: tuple[Split, Split], seed: int = 1, **changes: object) -> train.Training:
    return train.Training(config(**changes), *faces, n_classes=7, epochs=3, seed=[seed], device=CPU)


# Knobs


def test_the_average_is_the_formulas() -> None:
    """decay · average + (1 - decay) · weight after each step, decay being at most (1 + steps) / (10 + steps)."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 0.0)
    average = Average(model, 0.2)
    expected = 0.0
    for step, weight in enumerate((1.0, 3.0, -2.0), start=1):
        torch.nn.init.constant_(model.weight, weight)
        average.update()
        decay = min(0.2, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
        assert average.model.weight.item() == pytest.approx(expected)


def test_sgd_is_nesterovs_and_adamw_decays_apart(faces: tuple[Split, Split]) -> None:
    sgd = training(faces, train__momentum=0.8).optimizer
    assert type(sgd).__name__ == "SGD"
    assert (sgd.param_groups[0]["nesterov"], sgd.param_groups[0]["momentum"]) == (True, 0.8)
    assert not training(faces, train__momentum=0.0).optimizer.param_groups[0]["nesterov"]
    adamw = training(faces, train__optimizer="adamw", train__momentum=0.8).optimizer
    assert type(adamw).__name__ == "AdamW"
    assert adamw.param_groups[0]["betas"] == (0.8, 0.999)
    assert [group["weight_decay"] for group in adamw.param_groups] == [5e-4, 0.0]


@pytest.mark.parametrize("name", parts.names("model"))
def test_weight_decay_acts_on_filters_and_matrices_alone(name: str) -> None:
    """By what the layers are: a layer's scale (ConvNeXt's is C×1×1) is no filter."""
    if name == "timm":
        pytest.importorskip("timm", reason="timm is not installed (an extra)")
    knobs = {knob: each.default for knob, each in parts.model(name).SPACE.items()}
    with torch.device("meta"):
        network = parts.model(name).build(knobs, 7)
    decayed, spared = build_optimizer(network, train_knobs.defaults()).param_groups
    kinds = torch.nn.Linear | torch.nn.modules.conv._ConvNd
    filters = {id(layer.weight) for layer in network.modules() if isinstance(layer, kinds)}
    assert {id(parameter) for parameter in decayed["params"]} == filters
    assert len(decayed["params"]) + len(spared["params"]) == len(list(network.parameters()))


@pytest.mark.parametrize(("asked", "steps"), [(50, 4), (64, 3), (240, 1), (4096, 1)])
def test_batches_are_as_large_as_asked(faces: tuple[Split, Split], asked: int, steps: int) -> None:
    batches = list(training(faces, train__batch_size=asked).batches.draw(torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in batches] == [min(asked, 240)] * steps


def test_the_model_has_the_dropout_that_is_asked(faces: tuple[Split, Split]) -> None:
    model = training(faces, model__facex_cnn__dropout=0.35).model
    assert {layer.p for layer in model.modules() if isinstance(layer, torch.nn.Dropout)} == {0.35}


# Scores adjusted after the fact


def test_every_epoch_says_what_adjusting_would_make_of_it(faces: tuple[Split, Split]) -> None:
    """With the mean training target, on the probabilities of the model that is kept."""
    run = training(faces)
    faces_C = torch.bincount(faces[0].labels_N, minlength=7)
    assert run.class_counts.tolist() == faces_C.tolist()
    assert run.target_shares == pytest.approx((0.9 * faces_C / 240 + 0.1 / 7).numpy())
    run.target_shares = np.array([300, 100, 40, 30, 20, 7, 3])
    found = run.epoch().metrics
    probabilities_NC = classifier.probabilities_NC(run.kept, faces[1].images_NHW.numpy(), CPU)
    labels_N = faces[1].labels_N.numpy()
    expected = posthoc.scores(probabilities_NC, labels_N, run.target_shares)
    assert {name: found[name] for name in (*posthoc.SCORES, posthoc.TAU)} == expected
    assert found["macro_f1_adjusted"] >= found["macro_f1"] == metrics.scores(probabilities_NC, labels_N)["macro_f1"]


@pytest.mark.parametrize("balance", ["none", "logit_adjust", "balanced_softmax", "class_weights"])
def test_a_training_divides_by_what_it_trains_towards(faces: tuple[Split, Split], balance: str) -> None:
    """The mean of its targets, smoothed and by votes: where every face has that mean for its target, a loss that
    balances wholly has nothing to learn at even logits, and plain cross-entropy has.
    """
    votes_C = torch.tensor([0.05, 0.1, 0.05, 0.6, 0.1, 0.02, 0.08])
    voted = Split(faces[0].images_NHW, torch.full((240,), 3), votes_C.expand(240, 7))
    wholly = {"balance__logit_adjust__tau": 1.0, "balance__class_weights__power": 1.0}
    run = training((voted, faces[1]), balance=balance, train__label_smoothing=0.2, **wholly)
    assert run.target_shares == pytest.approx((0.8 * votes_C + 0.2 / 7).numpy())
    logits_BC = torch.zeros(8, 7, requires_grad=True)
    run.plan.loss_at(1.0)(logits_BC, run.batches.targets(torch.arange(8))).backward()
    assert logits_BC.grad is not None
    pull = float(logits_BC.grad.abs().max())
    assert pull > 0.01 if balance == "none" else pull < 1e-6


# Faces that a strategy makes up


def test_made_faces_join_the_training_split_alone(faces: tuple[Split, Split]) -> None:
    """Drawn like real ones, the same on a resume; class frequencies and the pixels' scale stay those of real faces."""
    labels_N = torch.tensor([0] * 140 + [1] * 50 + [2] * 30 + [3] * 15 + [4] * 5)
    both = (Split(faces[0].images_NHW, labels_N), faces[1])
    smote = {"balance": "smote", "balance__smote__ratio": 0.3, "balance__smote__k_neighbors": 3}
    run, again, other = (training(both, seed, **smote) for seed in (1, 1, 2))
    assert torch.bincount(run.train.labels_N, minlength=7).tolist() == [140, 50, 42, 42, 42, 0, 0]
    assert torch.equal(run.train.images_NHW[:240], both[0].images_NHW)
    assert run.class_counts.tolist() == [140, 50, 30, 15, 5, 0, 0]
    assert run.validation is faces[1]
    assert (run.batches.faces_per_epoch, len(run.batches)) == (316, 2)
    drawn = torch.cat(list(run.batches.draw(torch.Generator().manual_seed(0))))
    assert len(set(drawn.tolist())) == 256
    assert int(drawn.max()) >= 240, "made faces are drawn"
    assert torch.equal(run.train.images_NHW, again.train.images_NHW)
    assert not torch.equal(run.train.images_NHW, other.train.images_NHW)
    assert torch.equal(run.model.mean, training(both).model.mean)
    run.epoch()
    assert run.epoch().metrics["train_loss"] < 3


def test_made_faces_have_votes_where_real_ones_do(faces: tuple[Split, Split]) -> None:
    labels_N = torch.tensor([0] * 200 + [1] * 40)
    votes_NC = torch.full((240, 7), 0.05).scatter(1, labels_N[:, None], 0.7)
    run = training((Split(faces[0].images_NHW, labels_N, votes_NC), faces[1]), balance="smote")
    assert run.train.targets_NC is not None
    assert run.train.targets_NC.shape == (300, 7)
    targets_BC = run.batches.targets(torch.arange(240, 300))
    assert targets_BC[:, 1] == pytest.approx(0.7 * 0.9 + 0.1 / 7, abs=1e-5)


def test_every_optimizer_and_schedule_that_is_named_is_built_and_no_other() -> None:
    """A name without a branch of its own must not quietly train as another does."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    usual = {name: knob.default for name, knob in train_knobs.SPACE.items()}
    optimizers = train_knobs.SPACE["optimizer"].options
    built = [type(build_optimizer(network, usual | {"optimizer": name})).__name__.lower() for name in optimizers]
    assert built == list(optimizers)
    with pytest.raises(ValueError, match="'lion'"):
        build_optimizer(network, usual | {"optimizer": "lion"})
    schedules = train_knobs.SPACE["schedule"].options
    courses = {tuple(rate_factor(name, progress / 8, 0.1) for progress in range(8)) for name in schedules}
    assert len(courses) == len(schedules)
    with pytest.raises(ValueError, match="'sawtooth'"):
        rate_factor("sawtooth", 0.5, 0.1)
