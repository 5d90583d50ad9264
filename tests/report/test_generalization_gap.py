"""The generalization gap: like compared with like, from answers whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from facex_tune.evaluation import intervals
from facex_tune.report import findings, generalization_gap
from facex_tune.report.insight import Answers

SEED = np.random.SeedSequence([0])


def document(objective: str = "accuracy", **study: Any) -> dict[str, Any]:
    said = {"objective": [objective], "data": "fer2013", "labels": "fer2013", **study}
    return {"study": said, "environment": {"seed": 0}}


def table(right_N: np.ndarray, copies: int = 0) -> Answers:
    """Faces of every class in turn, answered rightly where said; the first `copies` have a copy in training."""
    labels_N = np.arange(len(right_N)) % 7
    found_NC = np.full((len(right_N), 7), 0.02)
    found_NC[np.arange(len(right_N)), np.where(right_N, labels_N, (labels_N + 1) % 7)] = 0.88
    sources = [f"face {i}" for i in range(len(right_N))]
    in_training_N = np.arange(len(right_N)) < copies
    return Answers("set", labels_N, np.arange(len(right_N)), sources, found_NC[None], None, in_training_N)


def share(n: int, right: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(n) < right * n


def test_copies_in_training_are_left_out_of_both_sides() -> None:
    """Validation .6 of 700. Test: 300 copies, all right, and .5 of 700 others: .65 together, no gap to see."""
    test = table(np.concatenate([np.ones(300, bool), share(700, 0.5)]), copies=300)
    (row,) = generalization_gap.of_run(document(), table(share(700, 0.6)), {"fer2013.private": test})
    assert (row["n_validation"], row["n"], row["without_copies"], row["same_data"]) == (700, 700, True, True)
    assert (row["validation"], row["test"], row["gap"]) == pytest.approx((0.6, 0.5, 0.1))
    error = ((0.6 * 0.4 + 0.5 * 0.5) / 700) ** 0.5
    assert row["interval"] == pytest.approx((0.1 - 1.96 * error, 0.1 + 1.96 * error), abs=0.2 * error)  # 2,000 draws
    (said,) = findings._gap({"insight": {"gaps": [row]}})
    assert said["text"].startswith(
        "Generalization gap on fer2013.private: accuracy 0.600 on validation (n = 700), 0.500 on test (n = 700) "
        "(neither with faces that have a copy in training): +0.100 [0.0"
    )
    assert said["evidence"] == "insight.gaps.0"


def test_where_copies_are_unknown_none_is_left_out_and_that_is_said() -> None:
    validation = replace(table(share(700, 0.6)), in_training_N=None)
    test = table(np.concatenate([np.ones(300, bool), share(700, 0.5)]), copies=300)
    (row,) = generalization_gap.of_run(document(), validation, {"fer2013.private": test})
    assert (row["n"], row["without_copies"], row["test"]) == (1000, False, pytest.approx(0.65))
    (said,) = findings._gap({"insight": {"gaps": [row]}})
    assert "(maybe with faces that have a copy in training)" in said["text"]


@pytest.mark.parametrize(
    ("protocol", "study", "same"),
    [
        ("fer2013.private", {}, True),
        ("ckplus.6", {}, False),
        ("ferplus.majority7", {"data": "ferplus", "labels": "ferplus_votes"}, True),
        ("ferplus.majority7", {"data": "ferplus"}, False),
        ("synthetic.private", {"data": "synthetic", "labels": "ferplus_majority"}, False),
    ],
)
def test_other_faces_or_other_labels_are_a_shift(protocol: str, study: dict[str, str], same: bool) -> None:
    side = table(share(70, 0.6))
    (row,) = generalization_gap.of_run(document(**study), side, {protocol: side})
    assert row["same_data"] is same
    assert bool(list(findings._gap({"insight": {"gaps": [row]}}))) is same


@pytest.mark.parametrize("objective", ["macro_f1", "recall.fear", "log_loss", "ece"])
def test_the_gap_is_that_of_the_objective(objective: str) -> None:
    side = table(share(700, 0.6))
    (row,) = generalization_gap.of_run(document(objective), side, {"fer2013.private": side})
    assert (row["metric"], row["gap"]) == (objective, 0.0)
    assert (row["interval"] is None) is (objective == "ece")


@pytest.mark.parametrize("kind", ["precision", "recall", "f1"])
def test_the_gap_of_one_emotion_rests_on_its_clusters(kind: str) -> None:
    """Four faces of disgust say nothing for certain; twelve by t of eleven degrees of freedom and more, not by 700."""
    side = table(share(700, 0.6))
    rows = []
    for n_disgust in (4, 12):
        kept_N = (side.labels_N != 1) | (np.cumsum(side.labels_N == 1) <= n_disgust)
        few = side.take(kept_N)
        rows += generalization_gap.of_run(document(f"{kind}.disgust"), side, {"fer2013.private": few})
    assert [row["metric"] for row in rows] == [f"{kind}.disgust"] * 2
    assert [row["interval"] is None for row in rows] == [True, False]
    whole, other = (generalization_gap._Side.of(each, SEED, without_copies=True) for each in (side, few))
    assert whole.rests_on("recall.disgust") == 100
    assert other.rests_on("recall.disgust") == 12
    assert 12 < other.rests_on("f1.disgust") < 200
    draws = [each.drawn(f"{kind}.disgust") for each in (whole, other)]
    by_all = intervals.percentile(draws[0] - draws[1], 700)
    by_own = generalization_gap._gap([whole, other], f"{kind}.disgust")["interval"]
    assert by_own[1] - by_own[0] > by_all[1] - by_all[0]


def test_an_objective_that_a_set_cannot_measure_gives_way_to_accuracy() -> None:
    side = table(share(700, 0.6))
    (row,) = generalization_gap.of_run(document("f1.contempt"), side, {"fer2013.private": side})
    assert row["metric"] == "accuracy"


def test_without_validation_answers_there_is_no_gap() -> None:
    assert generalization_gap.of_run(document(), None, {"fer2013.private": table(share(70, 0.6))}) == []


def test_no_gap_where_other_classes_are_scored() -> None:
    """Contempt, of which validation has none and which a model of seven classes can only miss, is no lack of
    generalization; nor is a class that a set has no face of.
    """
    side = table(share(700, 0.6))
    with_contempt = replace(side, labels_N=np.where(np.arange(700) < 16, 7, side.labels_N))
    six = side.take(side.labels_N != 6)
    tests = {"ferplus.majority7": side, "ferplus.majority8": with_contempt, "ckplus.6": six}
    rows = generalization_gap.of_run(document("macro_f1", data="ferplus", labels="ferplus_majority"), side, tests)
    assert [row["protocol"] for row in rows] == ["ferplus.majority7"]
