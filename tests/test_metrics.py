"""Metrics against scikit-learn, and against cases worked by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from facex_tune import metrics
from facex_tune.emotions import EMOTIONS


def _drawn(seed: int, n: int = 200, n_classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n_classes), n), rng.integers(0, n_classes, n)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_scores_equal_scikit_learn(seed: int) -> None:
    probabilities_NC, labels_N = _drawn(seed)
    answers_N = probabilities_NC.argmax(axis=1)
    ours = metrics.scores(probabilities_NC, labels_N)
    present = np.unique(labels_N)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(labels_N, answers_N))
    assert ours["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels_N, answers_N))
    macro_f1 = sk.f1_score(labels_N, answers_N, labels=present, average="macro", zero_division=0)
    assert ours["macro_f1"] == pytest.approx(macro_f1)
    recalls = sk.recall_score(labels_N, answers_N, labels=present, average=None, zero_division=0)
    assert ours["worst_class_recall"] == pytest.approx(recalls.min())
    assert ours["log_loss"] == pytest.approx(sk.log_loss(labels_N, probabilities_NC, labels=range(7)))
    precisions = sk.precision_score(labels_N, answers_N, labels=present, average=None, zero_division=0)
    for k, recall, precision in zip(present, recalls, precisions, strict=True):
        assert ours[f"recall.{EMOTIONS[k]}"] == pytest.approx(recall)
        assert ours[f"precision.{EMOTIONS[k]}"] == pytest.approx(precision)


def test_confusion_rows_are_true() -> None:
    matrix = metrics.confusion(np.array([1, 1, 0]), np.array([0, 0, 2]), 3)
    assert matrix.tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]
    assert metrics.confusion(np.eye(3)[[1, 1, 0]], np.array([0, 0, 2]), 3).tolist() == matrix.tolist()


def test_classes_without_support_do_not_count() -> None:
    """Two classes of seven have faces; answers that go to a third cost recall, and nothing else."""
    probabilities_NC = np.eye(7)[[0, 0, 1, 2]]
    ours = metrics.scores(probabilities_NC, np.array([0, 0, 1, 1]))
    assert ours["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert ours["balanced_accuracy"] == pytest.approx(0.75)
    assert ours["worst_class_recall"] == 0.5
    assert "recall.fear" not in ours


def test_a_class_never_predicted_has_f1_zero() -> None:
    ours = metrics.scores(np.eye(7)[[3, 3, 3]], np.array([3, 3, 1]))
    assert ours["f1.disgust"] == ours["precision.disgust"] == ours["worst_class_recall"] == 0.0
    assert ours["macro_f1"] == pytest.approx(0.4)


def test_a_class_that_the_model_does_not_know_can_only_be_missed() -> None:
    ours = metrics.scores(np.eye(7)[[0, 6]], np.array([0, 7]))
    assert ours["accuracy"] == 0.5
    assert ours["recall.contempt"] == 0.0
    assert ours["log_loss"] == pytest.approx(metrics.LOG_LOSS_WORST / 2)


def test_log_loss_stays_finite() -> None:
    assert metrics.scores(np.eye(7)[[0]], np.array([1]))["log_loss"] == pytest.approx(metrics.worst_value("log_loss"))


def test_ece_by_hand() -> None:
    """Thirty faces in 15 bins of two: 28 at confidence 1 and right, two at .6 of which one is right."""
    sure = np.tile([1.0, 0.0], (28, 1))
    unsure = np.tile([0.6, 0.4], (2, 1))
    labels_N = np.array([0] * 28 + [0, 1])
    assert metrics.scores(np.vstack([sure, unsure]), labels_N)["ece"] == pytest.approx(2 * 0.1 / 30)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_scores_do_not_depend_on_the_order_of_the_faces(seed: int) -> None:
    probabilities_NC, labels_N = _drawn(seed, 60)
    probabilities_NC = np.round(probabilities_NC, 1)  # many equal confidences
    order_N = np.random.default_rng(seed).permutation(60)
    shuffled = metrics.scores(probabilities_NC[order_N], labels_N[order_N])
    assert metrics.scores(probabilities_NC, labels_N) == pytest.approx(shuffled)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        metrics.scores(np.array([[bad, 0.5]]), np.array([0]))


def test_no_faces_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        metrics.scores(np.empty((0, 7)), np.empty(0, np.int64))


def test_stacked_matrices_give_what_each_gives() -> None:
    stack = np.random.default_rng(1).integers(0, 5, (6, 4, 4))
    stack[0, 2] = 0  # a class without support in one matrix only
    together = metrics.counted(stack)
    for m, matrix in enumerate(stack):
        for name, value in metrics.counted(matrix).items():
            assert together[name][m] == pytest.approx(float(value))


def test_every_name_has_a_direction_and_a_worst_value() -> None:
    assert metrics.names()[:6] == list(metrics.SIX)
    assert {name for name in metrics.names() if not metrics.MAXIMIZE[name]} == {"log_loss", "ece", "parameters", "macs"}
    assert [metrics.worst_value(name) for name in metrics.SIX] == [0, 0, 0, 0, 20, 1]


def test_import_is_cheap() -> None:
    heavy = "('torch', 'ray', 'sklearn', 'scipy', 'pandas')"
    code = f"import sys, facex_tune.metrics; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("n", [309, 3589])
def test_the_floor_of_the_calibration_error_is_that_of_perfect_calibration(n: int) -> None:
    """Labels drawn from the probabilities themselves: about .08 on 309 faces, .02 on 3,589, and never 0."""
    found = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        probabilities_NC = rng.dirichlet(np.full(7, 0.35), n)
        labels_N = (probabilities_NC.cumsum(1) > rng.random(n)[:, None]).argmax(1)
        found.append(metrics.expected_calibration_error(probabilities_NC, labels_N))
    floor = metrics.ece_floor(probabilities_NC, np.random.default_rng(0))
    standard_error = np.std(found) / 30**0.5
    assert floor == pytest.approx(np.mean(found), abs=4 * standard_error)
    assert 0.015 < floor < 0.1


def test_one_certain_answer_has_no_floor() -> None:
    assert metrics.ece_floor(np.eye(7)[np.zeros(20, int)], np.random.default_rng(0)) == 0


def test_costs_are_compared_with_their_bounds_and_scores_as_they_are() -> None:
    """Or a hundred parameters too many would outweigh a recall that is missed wholly."""
    assert metrics.excess("parameters", 2e6, 1e5) == pytest.approx(0.05)
    assert metrics.excess("macro_f1", 0.5, 0.1) == 0.1
