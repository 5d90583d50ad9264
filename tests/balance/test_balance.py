"""Losses worked by hand: four classes of 6, 2, 1 and 0 training faces."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from facex_tune import parts
from facex_tune.balance import quota_positions

COUNTS = (6, 2, 1, 0)
LABELS_N = torch.tensor([0] * 6 + [1] * 2 + [2])
SAME_LOGITS_NC = torch.zeros(1, 4)


def loss_of(plan: Any, label: int) -> float:
    """The loss of a face of that label that is answered evenly."""
    return float(plan.loss(SAME_LOGITS_NC, torch.eye(4)[[label]]))


@pytest.mark.parametrize(
    ("power", "weights"),
    [
        (1.0, [0.5, 1.5, 3.0, 0.0]),  # 9 faces over 3 classes: 3 faces' worth for each class
        (0.5, [9 / (6**0.5 + 2**0.5 + 1) / n**0.5 for n in (6, 2, 1)] + [0.0]),
    ],
)
def test_class_weights(power: float, weights: list[float]) -> None:
    plan = parts.balance("class_weights").plan(LABELS_N, 4, {"power": power})
    assert [loss_of(plan, label) for label in range(4)] == pytest.approx([w * math.log(4) for w in weights])
    assert sum(n * w for n, w in zip(COUNTS, weights, strict=True)) == pytest.approx(9), "mean 1 over training faces"


def test_even_classes_weigh_one() -> None:
    plan = parts.balance("class_weights").plan(torch.arange(8) % 4, 4, {"power": 0.7})
    assert [loss_of(plan, label) for label in range(4)] == pytest.approx([math.log(4)] * 4)


def test_class_weights_of_voted_targets() -> None:
    """Each class's share of a target is weighed by itself."""
    plan = parts.balance("class_weights").plan(LABELS_N, 4, {"power": 1.0})
    target_NC = torch.tensor([[0.5, 0.25, 0.25, 0.0]])
    expected = (0.5 * 0.5 + 0.25 * 1.5 + 0.25 * 3.0) * math.log(4)
    assert float(plan.loss(SAME_LOGITS_NC, target_NC)) == pytest.approx(expected)


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_logit_adjust(tau: float) -> None:
    plan = parts.balance("logit_adjust").plan(LABELS_N, 4, {"tau": tau})
    logits_NC = torch.tensor([[0.3, -1.0, 2.0, 0.5], [1.0, 1.0, -1.0, 0.0]])
    targets_NC = torch.tensor([[0.0, 0.9, 0.1, 0.0], [1.0, 0.0, 0.0, 0.0]])
    prior_C = np.array([6, 2, 1, 9]) / 9  # an absent class counts as every face
    adjusted_NC = logits_NC.numpy() + tau * np.log(prior_C)
    log_probability_NC = adjusted_NC - np.log(np.exp(adjusted_NC).sum(axis=1, keepdims=True))
    expected = -(targets_NC.numpy() * log_probability_NC).sum(axis=1).mean()
    assert float(plan.loss(logits_NC, targets_NC)) == pytest.approx(expected)


def test_logit_adjust_asks_most_of_rare_classes() -> None:
    plan = parts.balance("logit_adjust").plan(LABELS_N, 4, {"tau": 1.0})
    assert loss_of(plan, 0) < loss_of(plan, 1) < loss_of(plan, 2)


def test_no_balancing_is_plain_cross_entropy() -> None:
    plan = parts.balance("none").plan(LABELS_N, 4, {})
    assert [loss_of(plan, label) for label in range(4)] == pytest.approx([math.log(4)] * 4)
    assert plan.sample_weights_N is None


# More losses, each against its paper's formula, in numpy and one face at a time

LOGITS_NC = torch.tensor([[0.3, -1.0, 2.0, 0.5], [1.0, 1.0, -1.0, 0.0]])
LABELS_OF_LOGITS = (2, 1)


def softmax(logits_C: Any) -> Any:
    return np.exp(logits_C) / np.exp(logits_C).sum()


def mean_loss(plan: Any, targets_NC: Any = None) -> float:
    targets_NC = torch.eye(4)[list(LABELS_OF_LOGITS)] if targets_NC is None else targets_NC
    return float(plan.loss(LOGITS_NC, targets_NC))


def test_effective_number_weights() -> None:
    beta = 0.9
    plan = parts.balance("class_weights").plan(LABELS_N, 4, {"kind": "effective_number", "power": 0.5, "beta": beta})
    weights = np.array([(1 - beta) / (1 - beta**n) for n in (6, 2, 1)] + [0.0])
    weights *= 9 / (weights * COUNTS).sum()
    assert [loss_of(plan, label) for label in range(4)] == pytest.approx(list(weights * math.log(4)))


def test_class_weights_of_older_runs_are_inverse() -> None:
    """A run recorded before `kind` existed goes on as it began."""
    old, new = (
        parts.balance("class_weights").plan(LABELS_N, 4, {"power": 0.5, **more})
        for more in ({}, {"kind": "inverse", "beta": 0.9})
    )
    assert torch.equal(old.loss(LOGITS_NC, torch.eye(4)[:2]), new.loss(LOGITS_NC, torch.eye(4)[:2]))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal(gamma: float) -> None:
    plan = parts.balance("focal").plan(LABELS_N, 4, {"gamma": gamma})
    right = [softmax(row)[y] for row, y in zip(LOGITS_NC.numpy(), LABELS_OF_LOGITS, strict=True)]
    assert mean_loss(plan) == pytest.approx(np.mean([-((1 - p) ** gamma) * math.log(p) for p in right]))


def test_focal_of_voted_targets_is_the_sum_of_its_shares() -> None:
    plan = parts.balance("focal").plan(LABELS_N, 4, {"gamma": 2.0})
    shares = [float(plan.loss(LOGITS_NC[:1], torch.eye(4)[[label]])) for label in (1, 2)]
    mixed = float(plan.loss(LOGITS_NC[:1], torch.tensor([[0.0, 0.25, 0.75, 0.0]])))
    assert mixed == pytest.approx(0.25 * shares[0] + 0.75 * shares[1])


@pytest.mark.parametrize("gamma", [0.25, 5.0])
def test_focal_has_a_slope_where_the_answer_is_certain(gamma: float) -> None:
    logits_NC = torch.tensor([[200.0, 0.0, 0.0, 0.0]]).requires_grad_()
    parts.balance("focal").plan(LABELS_N, 4, {"gamma": gamma}).loss(logits_NC, torch.eye(4)[:1]).backward()
    assert logits_NC.grad is not None
    assert logits_NC.grad.isfinite().all()


def test_balanced_softmax() -> None:
    plan = parts.balance("balanced_softmax").plan(LABELS_N, 4, {})
    counts = np.array([6, 2, 1, 9])  # an absent class counts as every face
    expected = []
    for row, label in zip(LOGITS_NC.numpy(), LABELS_OF_LOGITS, strict=True):
        expected.append(-math.log(counts[label] * np.exp(row[label]) / (counts * np.exp(row)).sum()))
    assert mean_loss(plan) == pytest.approx(np.mean(expected))
    adjusted = parts.balance("logit_adjust").plan(LABELS_N, 4, {"tau": 1.0})
    assert mean_loss(plan) == pytest.approx(mean_loss(adjusted))


LDAM = {"margin": 0.5, "beta": 0.9, "late_from": 0.8}


def ldam_by_hand(row: Any, label: int) -> float:
    """Margins n ** -1/4, scaled so that the rarest class, of one face, has the whole of 0.5."""
    margin = 0.5 * (6, 2, 1)[label] ** -0.25
    lowered = row.copy()
    lowered[label] -= margin
    return -math.log(softmax(lowered)[label])


def test_ldam() -> None:
    plan = parts.balance("ldam_drw").plan(LABELS_N, 4, LDAM)
    by_hand = [ldam_by_hand(row, y) for row, y in zip(LOGITS_NC.numpy(), LABELS_OF_LOGITS, strict=True)]
    assert mean_loss(plan) == pytest.approx(np.mean(by_hand))
    mixed = float(plan.loss(LOGITS_NC[:1], torch.tensor([[0.0, 0.25, 0.75, 0.0]])))
    row = LOGITS_NC[0].numpy()
    assert mixed == pytest.approx(0.25 * ldam_by_hand(row, 1) + 0.75 * ldam_by_hand(row, 2))


def test_ldam_weighs_classes_late() -> None:
    plan = parts.balance("ldam_drw").plan(LABELS_N, 4, LDAM)
    assert plan.loss_at(0.0) is plan.loss_at(0.79) is plan.loss
    assert plan.loss_at(0.8) is plan.loss_at(1.0) is plan.late_loss
    weights = np.array([(1 - 0.9) / (1 - 0.9**n) for n in (6, 2, 1)])
    weights *= 9 / (weights * (6, 2, 1)).sum()
    expected = [weights[y] * ldam_by_hand(row, y) for row, y in zip(LOGITS_NC.numpy(), LABELS_OF_LOGITS, strict=True)]
    assert float(plan.loss_at(0.9)(LOGITS_NC, torch.eye(4)[list(LABELS_OF_LOGITS)])) == pytest.approx(np.mean(expected))


def test_a_plan_without_a_late_loss_keeps_its_loss() -> None:
    plan = parts.balance("none").plan(LABELS_N, 4, {})
    assert plan.loss_at(0.0) is plan.loss_at(1.0) is plan.loss


# Sampling


@pytest.mark.parametrize(("ratio", "quota"), [(1.0, (1, 1, 1, 0)), (2.0, (2, 2, 1, 0)), (10.0, (6, 2, 1, 0))])
def test_undersampling_cuts_classes_to_the_rarest(ratio: float, quota: tuple[int, ...]) -> None:
    assert parts.balance("undersample").plan(LABELS_N, 4, {"ratio": ratio}).class_quota_C == quota


@pytest.mark.parametrize(("ratio", "quota"), [(1.0, (6, 6, 6, 0)), (0.5, (6, 3, 3, 0)), (0.1, (6, 2, 1, 0))])
def test_oversampling_raises_classes_to_the_most_frequent(ratio: float, quota: tuple[int, ...]) -> None:
    assert parts.balance("oversample").plan(LABELS_N, 4, {"ratio": ratio}).class_quota_C == quota


@pytest.mark.parametrize(("exponent", "odds"), [(0.0, (1, 1, 1)), (0.5, (6**0.5, 2**0.5, 1))])
def test_sampling_by_the_root_of_a_class(exponent: float, odds: tuple[float, ...]) -> None:
    weights_N = parts.balance("sqrt_sample").plan(LABELS_N, 4, {"exponent": exponent}).sample_weights_N
    of_class = [float(weights_N[label == LABELS_N].sum()) for label in range(3)]
    assert np.array(of_class) / of_class[2] == pytest.approx(odds)


@pytest.mark.parametrize("quota", [(2, 2, 1, 0), (6, 7, 3, 0)])
def test_quota_positions_hold_each_quota_evenly(quota: tuple[int, ...]) -> None:
    shuffled_N = LABELS_N[torch.randperm(9, generator=torch.Generator().manual_seed(0))]
    positions = quota_positions(shuffled_N, quota)
    assert torch.bincount(shuffled_N.sort().values[positions], minlength=4).tolist() == list(quota)
    times = torch.bincount(positions, minlength=9)
    for label, asked in enumerate(quota[:3]):
        of_class = times[shuffled_N.sort().values == label]
        assert int(of_class.max()) - int(of_class.min()) <= 1
        assert int(of_class.sum()) == asked


# Faces made up

A, B, C = (0, 0), (40, 0), (0, 200)  # grey of the upper and the lower half: a long right angle, A at its corner


def halves(*greys: tuple[int, int]) -> torch.Tensor:
    """Faces of 48×48 with an upper and a lower grey."""
    faces_NHW = torch.zeros(len(greys), 48, 48, dtype=torch.uint8)
    for face_HW, (upper, lower) in zip(faces_NHW, greys, strict=True):
        face_HW[:24], face_HW[24:] = upper, lower
    return faces_NHW


def corner(ratio: float = 1.0, k_neighbors: int = 1, **more: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """What SMOTE makes of class 1, which has A, B and C beside 60 faces of class 0."""
    labels_N = torch.tensor([1] * 3 + [0] * 60)
    given = {"targets_NC": None, "seed": 0, **more}
    images_NHW = torch.cat([halves(A, B, C), halves((255, 255)).expand(60, 48, 48)])
    plan = parts.balance("smote").plan(labels_N, 4, {"ratio": ratio, "k_neighbors": k_neighbors})
    made: tuple[torch.Tensor, torch.Tensor, Any] = plan.synthesize(images_NHW, given["targets_NC"], given["seed"])
    return made


def greys(images_MHW: torch.Tensor) -> np.ndarray:
    """Upper and lower grey of each made face, each half being of one grey."""
    upper, lower = images_MHW[:, :24].flatten(1), images_MHW[:, 24:].flatten(1)
    assert bool((upper == upper[:, :1]).all())
    assert bool((lower == lower[:, :1]).all())
    return torch.stack([upper[:, 0], lower[:, 0]], 1).numpy().astype(int)


def test_a_made_face_lies_between_a_face_and_its_nearest() -> None:
    """A and B are each other's nearest, and A is C's: nothing lies between B and C."""
    images_MHW, labels_M, targets_MC = corner()
    assert (images_MHW.dtype, labels_M.dtype, targets_MC) == (torch.uint8, torch.int64, None)
    assert images_MHW.shape == (57, 48, 48), "60 at least, of which there are 3"
    assert set(labels_M.tolist()) == {1}
    made = greys(images_MHW)
    on_ab, on_ac = made[:, 1] == 0, made[:, 0] == 0
    assert (on_ab | on_ac).all()
    assert made[on_ab, 0].max() <= 40
    assert made[on_ac, 1].max() <= 200
    assert len(set(made[on_ab & ~on_ac, 0])) > 5
    assert len(set(made[on_ac & ~on_ab, 1])) > 5


def test_with_two_neighbours_every_side_is_taken() -> None:
    made = greys(corner(k_neighbors=2)[0])
    inside = (made > 0).all(axis=1)
    assert inside.sum() > 5
    assert np.abs(made[inside] / (40, 200) @ (1, 1) - 1).max() < 0.5 / 40 + 0.5 / 200, "on the line from B to C"
    assert np.array_equal(made, greys(corner(k_neighbors=15)[0])), "a class has no more neighbours than faces"


def test_made_faces_come_from_their_seed() -> None:
    first, again, other = (corner(seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_only_classes_below_the_share_are_raised_to_it() -> None:
    labels_N = torch.tensor([0] * 40 + [1] * 20 + [2] * 5 + [3])
    images_NHW = torch.randint(0, 256, (66, 48, 48), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    plan = parts.balance("smote").plan(labels_N, 5, {"ratio": 0.5, "k_neighbors": 5})
    images_MHW, labels_M, _ = plan.synthesize(images_NHW, None, 0)
    assert torch.bincount(labels_M, minlength=5).tolist() == [0, 0, 15, 19, 0]
    assert bool((images_MHW[labels_M == 3] == images_NHW[65]).all()), "a single face is repeated"
    assert len(images_MHW[labels_M == 2].unique(dim=0)) == 15


def test_votes_lie_where_the_face_lies() -> None:
    votes_NC = torch.zeros(63, 4)
    votes_NC[0, 0], votes_NC[1, 1], votes_NC[2, 2], votes_NC[3:, 3] = 1, 1, 1, 1
    images_MHW, _, votes_MC = corner(targets_NC=votes_NC)
    made = greys(images_MHW)
    assert votes_MC.dtype == torch.float32
    assert torch.allclose(votes_MC.sum(1), torch.ones(57), atol=1e-6)
    assert np.abs(votes_MC[:, 1].numpy() - made[:, 0] / 40).max() <= 0.5 / 40 + 1e-6
    assert np.abs(votes_MC[:, 2].numpy() - made[:, 1] / 200).max() <= 0.5 / 200 + 1e-6


def test_a_large_class_is_raised_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that memory stays bounded: never more than `STEP` faces at once, and all faces have their turn."""
    from facex_tune.balance import smote

    seen: list[tuple[int, int]] = []
    real = smote._interpolated

    def noted(features_NF: Any, wanted: int, k_neighbors: int, seed: int) -> Any:
        seen.append((len(features_NF), wanted))
        return real(features_NF, wanted, k_neighbors, seed)

    monkeypatch.setattr(smote, "_interpolated", noted)
    monkeypatch.setattr(smote, "STEP", 8)
    images_NHW = np.repeat(np.arange(20, dtype=np.uint8)[:, None, None] * 10, 48, axis=1).repeat(48, axis=2)
    made, _ = smote.made(images_NHW, None, 50, 1, np.random.default_rng(0))
    assert made.shape == (50, 48, 48)
    assert seen == [(8, 8)] * 6 + [(8, 2)]
    assert np.ptp(made) > 150
