"""Post-hoc logit adjustment against Menon et al.'s formula, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from facex_tune import metrics
from facex_tune.training import posthoc

COUNTS_C = np.array([6, 2, 1])


def test_a_class_weighs_by_its_frequency_to_the_power_of_minus_tau() -> None:
    assert posthoc.class_weights(COUNTS_C, 0.0) == pytest.approx([1, 1, 1])
    assert posthoc.class_weights(COUNTS_C, 1.0) == pytest.approx([9 / 6, 9 / 2, 9])
    assert posthoc.class_weights(COUNTS_C, 0.5) == pytest.approx([(9 / 6) ** 0.5, (9 / 2) ** 0.5, 3])


@pytest.mark.parametrize("tau", [0.3, 1.0, 2.0])
def test_the_answer_is_that_of_adjusted_logits(tau: float) -> None:
    logits_NC = np.random.default_rng(0).normal(size=(200, 3)) * 2
    by_hand_N = (logits_NC - tau * np.log(COUNTS_C / 9)).argmax(axis=1)
    probabilities_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(axis=1, keepdims=True)
    adjusted_NC = posthoc.Adjustment(tau, (6, 2, 1))(probabilities_NC)
    assert np.array_equal(adjusted_NC.argmax(axis=1), by_hand_N)
    assert not np.array_equal(probabilities_NC.argmax(axis=1), by_hand_N)
    assert adjusted_NC.sum(axis=1) == pytest.approx(np.ones(200))


def test_an_absent_class_is_answered_no_more_often() -> None:
    adjusted_NC = posthoc.Adjustment(1.0, (8, 0, 1))(np.array([[0.5, 0.4, 0.1]]))
    assert adjusted_NC[0].tolist() == pytest.approx([0.5625 / 1.8625, 0.4 / 1.8625, 0.9 / 1.8625])


# Every face leans to the frequent class 0, the rare ones a little less: tau decides from where on they are told.
LEANING_NC = np.array([[0.8, 0.2]] * 6 + [[0.7, 0.3]] * 2)
LEANING_N = np.array([0] * 6 + [1] * 2)
LEANING_COUNTS_C = np.array([75, 25])


def test_tau_is_the_smallest_with_the_best_macro_f1() -> None:
    """Class 1 is answered where its odds · 3 ** tau pass 1: the rare faces from tau .77 on, the others from 1.26."""
    scores = posthoc.scores(LEANING_NC, LEANING_N, LEANING_COUNTS_C)
    assert scores == {"macro_f1_adjusted": 1.0, "accuracy_adjusted": 1.0, "adjust_tau": 0.8}
    assert metrics.scores(LEANING_NC, LEANING_N)["macro_f1"] < 0.5


def test_what_helps_nothing_is_not_done() -> None:
    right_NC = np.eye(2)[LEANING_N] * 0.98 + 0.01
    assert posthoc.scores(right_NC, LEANING_N, LEANING_COUNTS_C)["adjust_tau"] == 0.0


def test_a_label_beyond_the_models_classes_can_only_be_missed() -> None:
    """Class 0 gains all the same where its own precision does."""
    scores = posthoc.scores(LEANING_NC, np.where(LEANING_N == 1, 2, 0), LEANING_COUNTS_C)
    assert scores == {"macro_f1_adjusted": 0.5, "accuracy_adjusted": 0.75, "adjust_tau": 0.8}


def test_a_model_saved_before_there_was_an_adjustment_has_none() -> None:
    assert posthoc.of_model({"metrics": {"macro_f1": 0.5}}) is None
    assert posthoc.of_model({"metrics": {"adjust_tau": 0.5}}) is None
    found = posthoc.of_model({"metrics": {"adjust_tau": 0.5}, "class_counts": [3, 1]})
    assert found == posthoc.Adjustment(0.5, (3, 1))
