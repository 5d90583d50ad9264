"""Losses worked by hand: four classes of 6, 2, 1 and 0 training faces."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from facex_tune import parts
from facex_tune.balance import Targets, quota_positions

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


# What a loss teaches in the end, with label smoothing and with annotators' votes: free logits of one face, brought to
# the minimum. Who learns t with logits + tau · log q ends at f = log t - tau · log q + constant, whatever the network.

FER2013 = torch.tensor([3995, 436, 4097, 7215, 4830, 3171, 4965])
PI = (FER2013 / FER2013.sum()).numpy().astype(float)
FER2013_LABELS_N = torch.arange(7).repeat_interleave(FER2013)
HAPPY, DISGUST, ANGRY = 3, 1, 0


def told(name: str, smoothing: float, knobs: Any, labels_N: torch.Tensor = FER2013_LABELS_N) -> Any:
    """The plan of a training with that smoothing."""
    towards = Targets.of(labels_N, 7, smoothing=smoothing)
    return parts.balance_plan(name, labels_N, 7, knobs, towards)


def optimum(loss: Any, target_C: Any) -> np.ndarray:
    """What softmax answers of free logits come to."""
    logits_NC = torch.zeros(1, 7, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits_NC], max_iter=500, line_search_fn="strong_wolfe", tolerance_change=1e-12)
    target_NC = torch.as_tensor(target_C, dtype=torch.float32)[None]

    def cost() -> torch.Tensor:
        optimizer.zero_grad()
        found = loss(logits_NC, target_NC)
        found.backward()
        return found

    optimizer.step(cost)
    return logits_NC.detach().softmax(1)[0].numpy()


def smoothed(label: int, smoothing: float) -> np.ndarray:
    return np.eye(7)[label] * (1 - smoothing) + smoothing / 7


def by_hand(target_C: np.ndarray, prior_C: np.ndarray, tau: float) -> np.ndarray:
    found_C = target_C / prior_C**tau
    return found_C / found_C.sum()


@pytest.mark.parametrize("smoothing", [0.1, 0.2, 0.3])
@pytest.mark.parametrize(
    ("name", "knobs", "tau"),
    [("logit_adjust", {"tau": tau}, tau) for tau in (0.5, 1.0, 1.5)] + [("balanced_softmax", {}, 1.0)],
)
def test_smoothing_is_no_evidence_for_rare_classes(name: str, knobs: Any, tau: float, smoothing: float) -> None:
    """Of a face that is happy with certainty the answer is happy, and the loss divides by the mean of its targets."""
    target_C = smoothed(HAPPY, smoothing)
    found_C = optimum(told(name, smoothing, knobs).loss, target_C)
    assert found_C == pytest.approx(by_hand(target_C, (1 - smoothing) * PI + smoothing / 7, tau), abs=2e-3)
    assert found_C.argmax() == HAPPY
    assert found_C[DISGUST] < found_C[HAPPY] / 2


def test_a_certain_face_in_numbers() -> None:
    """Smoothing .1, tau 1, on paper: q is .0279 for disgust and .2405 for happy; .9143 / .2405 = 3.80 for happy,
    .0143 / .0279 = .512 for disgust, .49 for the other five together. By face counts it was .72 and .19.
    """
    found_C = optimum(told("balanced_softmax", 0.1, {}).loss, smoothed(HAPPY, 0.1))
    assert found_C[[HAPPY, DISGUST]] == pytest.approx([0.79, 0.106], abs=0.005)


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("class_weights", {"kind": "inverse", "power": 1.0}),
        ("class_weights", {"kind": "effective_number", "beta": 0.9999}),
        ("ldam_drw", {"margin": 1e-6, "beta": 0.9999, "late_from": 0.0}),
    ],
)
def test_weights_leave_the_smoothed_part_alone(name: str, knobs: Any) -> None:
    """A certain face is learned as its own target, whatever it weighs: no class that only smoothing names gains."""
    target_C = smoothed(HAPPY, 0.1)
    found_C = optimum(told(name, 0.1, knobs).loss_at(1.0), target_C)
    assert found_C == pytest.approx(target_C, abs=1e-3)


def test_margins_are_for_labels_alone() -> None:
    """Of a happy face smoothing names disgust and angry alike, although disgust's margin is wider."""
    found_C = optimum(told("ldam_drw", 0.1, {"margin": 4.0, "beta": 0.9, "late_from": 1.0}).loss, smoothed(HAPPY, 0.1))
    assert found_C[DISGUST] == pytest.approx(found_C[ANGRY], rel=1e-2)
    assert found_C.argmax() == HAPPY


def test_weights_still_weigh_labels() -> None:
    """Half disgust, half angry: weighed by inverse frequency, and smoothed then."""
    half_C = (np.eye(7)[DISGUST] + np.eye(7)[ANGRY]) / 2
    found_C = optimum(told("class_weights", 0.1, {"power": 1.0}).loss, half_C * 0.9 + 0.1 / 7)
    assert found_C == pytest.approx(by_hand(half_C, PI, 1.0) * 0.9 + 0.1 / 7, abs=2e-3)


def test_focal_with_smoothing_ends_at_a_confidence_of_69() -> None:
    found_C = optimum(told("focal", 0.1, {"gamma": 2.0}).loss, smoothed(HAPPY, 0.1))
    assert found_C[HAPPY] == pytest.approx(0.69, abs=0.005)
    others_C = np.delete(found_C, HAPPY)
    assert others_C == pytest.approx(np.full(6, others_C.mean()), abs=1e-3), "no class gains more than another"


def test_an_absent_class_is_answered_least_with_smoothing_too() -> None:
    """Although smoothing gives it a seventh of .3 of every face, as it does the others."""
    labels_N = FER2013_LABELS_N[FER2013_LABELS_N != DISGUST]
    found_C = optimum(told("logit_adjust", 0.3, {"tau": 1.5}, labels_N).loss, smoothed(HAPPY, 0.3))
    assert found_C.argmin() == DISGUST


def test_targets_of_votes_count_votes() -> None:
    """Two faces called angry by majority, of which the votes give two tenths to disgust."""
    votes_NC = torch.tensor([[0.9, 0.1, 0, 0, 0, 0, 0], [0.9, 0.1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0]])
    towards = Targets.of(torch.tensor([ANGRY, ANGRY, HAPPY]), 7, votes_NC)
    assert towards.counts_C.numpy() == pytest.approx([1.8, 0.2, 0, 1, 0, 0, 0])
    assert Targets.of(torch.tensor([0]), 7, votes_NC, 0.2).shares_C().numpy()[:4] == pytest.approx(
        [0.8 * 0.6 + 0.2 / 7, 0.8 * 0.2 / 3 + 0.2 / 7, 0, 0.8 / 3 + 0.2 / 7]
    )


@pytest.mark.parametrize(("name", "knobs"), [("balanced_softmax", {}), ("class_weights", {"power": 1.0})])
def test_one_vote_in_ten_for_a_rare_emotion_does_not_win(name: str, knobs: Any) -> None:
    """Shares of FER+'s training votes: disgust is .0048 of the majorities and .0120 of the votes. Of a face that nine
    of ten call angry the balanced answer is v / mean v: .9 / .0932 for angry, .1 / .0120 for disgust.
    """
    votes_C = np.array([0.0932, 0.0120, 0.0511, 0.2713, 0.1419, 0.1376, 0.2929])
    majorities_N = torch.arange(7).repeat_interleave(torch.tensor([9, 1, 3, 30, 14, 14, 34]) * 10)
    towards = Targets(torch.tensor(votes_C * len(majorities_N), dtype=torch.float32))
    plan = parts.balance_plan(name, majorities_N, 7, knobs, towards)
    nine_of_ten_C = np.eye(7)[ANGRY] * 0.9 + np.eye(7)[DISGUST] * 0.1
    found_C = optimum(plan.loss, nine_of_ten_C)
    assert found_C == pytest.approx(by_hand(nine_of_ten_C, votes_C, 1.0), abs=2e-3)
    assert found_C.argmax() == ANGRY


def test_a_part_of_ones_own_need_not_know_of_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own:
        @staticmethod
        def plan(labels_N: torch.Tensor, n_classes: int, knobs: Any) -> Any:
            return len(labels_N), n_classes, knobs

    monkeypatch.setattr(parts, "balance", lambda name: Own)
    assert parts.balance_plan("own", LABELS_N, 4, {}, Targets.of(LABELS_N, 4)) == (9, 4, {})


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
