"""Insight, from answers whose faults were planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from facex_tune.emotions import EMOTIONS
from facex_tune.evidence import insight
from facex_tune.evidence.insight import Answers
from facex_tune.runs.history import Trial

SEED = np.random.SeedSequence([0])
FEAR, SAD = EMOTIONS.index("fear"), EMOTIONS.index("sad")


def answers(said_N: np.ndarray, labels_N: np.ndarray, agreed_N: np.ndarray | None = None, sure: float = 0.9) -> Answers:
    found_NC = np.full((len(said_N), 7), (1 - sure) / 6)
    found_NC[np.arange(len(said_N)), said_N] = sure
    sources = [f"face {i}" for i in range(len(said_N))]
    in_training_N = np.zeros(len(said_N), np.bool_)
    return Answers("set", labels_N, np.arange(len(said_N)), sources, found_NC[None], agreed_N, in_training_N)


def test_the_planted_confusion_comes_first() -> None:
    labels_N = np.arange(700) % 7
    said_N = labels_N.copy()
    said_N[np.flatnonzero(labels_N == FEAR)[:40]] = SAD
    said_N[np.flatnonzero(labels_N == 0)[:5]] = 3
    first, second, *rest = insight.confused(answers(said_N, labels_N), SEED)
    assert (first["true"], first["answered"], first["n"], first["share"]) == ("fear", "sad", 100, 0.4)
    assert first["interval"][0] < 0.4 < first["interval"][1]
    assert (second["true"], second["answered"], second["share"]) == ("angry", "happy", 0.05)
    assert rest == []


def test_errors_where_annotators_disagree() -> None:
    rng = np.random.default_rng(0)
    agreed_N = np.repeat([0.5, 0.7, 1.0], 200)
    labels_N = np.zeros(600, np.int64)
    wrong_N = rng.random(600) < np.repeat([0.5, 0.3, 0.1], 200)
    found = insight.disagreement(answers(np.where(wrong_N, 1, 0), labels_N, agreed_N), SEED)
    assert found is not None
    assert [band["n"] for band in found["bands"]] == [200, 200, 200]
    assert found["interval"][0] > 0.2
    assert found["interval"][0] < found["difference"] < found["interval"][1]
    assert insight.disagreement(answers(labels_N, labels_N), SEED) is None


def test_planted_label_errors_are_ranked_first() -> None:
    """A model right 95 times in 100 about the truth; 30 of 700 labels are wrong, and half of the suspects found are."""
    rng = np.random.default_rng(0)
    truth_N = np.arange(700) % 7
    labels_N = truth_N.copy()
    planted = rng.choice(700, 30, replace=False)
    labels_N[planted] = (truth_N[planted] + 2) % 7
    said_N = np.where(rng.random(700) < 0.05, (truth_N + 1) % 7, truth_N)
    table = answers(said_N, labels_N)
    table.probabilities_MNC[:] *= rng.uniform(0.9, 1.0, (1, 700, 1))  # how sure it is varies
    found = insight.suspects([table])
    named = {int(face["source"].split()[1]) for face in found["faces"]}
    assert found["n_faces"] == 700
    assert found["agreement"] == pytest.approx(np.mean(said_N == labels_N))
    assert len(named & set(planted.tolist())) >= 24
    assert all(face["suggested"] != face["label"] for face in found["faces"])
    margins = [face["margin"] for face in found["faces"]]
    assert margins == sorted(margins, reverse=True)


def test_a_face_with_a_copy_in_training_is_no_suspect() -> None:
    """The model learned that copy's label, so that its answer is no second opinion."""
    labels_N = np.arange(70) % 7
    said_N = labels_N.copy()
    said_N[[3, 17]] = (said_N[[3, 17]] + 1) % 7
    table = answers(said_N, labels_N)
    assert [face["source"] for face in insight.suspects([table])["faces"]] == ["face 3", "face 17"]
    assert table.in_training_N is not None
    table.in_training_N[3] = True
    found = insight.suspects([table])
    assert (found["n_faces"], [face["source"] for face in found["faces"]]) == (69, ["face 17"])
    assert found["agreement"] == pytest.approx(68 / 69)
    assert insight.suspects([])["agreement"] is None
    assert insight.suspects([replace(table, in_training_N=None)])["n_faces"] == 0, "copies unknown: nothing is claimed"


def test_a_face_that_two_protocols_score_is_listed_once() -> None:
    """fer2013.both has the faces of fer2013.private too; votes and masks judge otherwise."""
    labels_N = np.arange(70) % 7
    said_N = labels_N.copy()
    said_N[[3, 17]] = (said_N[[3, 17]] + 1) % 7
    table = answers(said_N, labels_N)
    half = table.take(np.arange(35))
    tables = {"fer2013.private": half, "fer2013.both": table, "ckplus.6.masked": table, "ferplus.majority7": table}
    found = insight.suspects(insight._own_labels("fer2013", None, tables))
    assert (found["n_faces"], [face["source"] for face in found["faces"]]) == (70, ["face 3", "face 17"])
    assert insight.suspects(insight._own_labels("fer2013", half, {}))["n_faces"] == 35
    other_set = insight._own_labels("fer2013", half, {"synthetic.private": half})
    assert insight.suspects(other_set)["n_faces"] == 70, "another set's faces may bear the same names"


def trial(number: int, accuracy: float, worst: float, model: str = "resnet", seconds: float = 10.0) -> Trial:
    metrics = {"accuracy": accuracy, "worst_class_recall": worst, "macro_f1": accuracy}
    config = {"model": model, "augment": "none", "balance": "none"}
    return Trial(number, config, "sampler", "finished", {1: metrics}, seconds)


def test_versatility_tells_specialists_from_versatile_parts() -> None:
    rng = np.random.default_rng(0)
    trials = []
    for number in range(24):
        accuracy = float(rng.uniform(0.5, 0.7))
        is_vgg = number % 2 == 0
        trials.append(trial(number, accuracy, accuracy / 2 + (0.1 if is_vgg else 0), "vgg" if is_vgg else "resnet"))
    found = insight.versatility(trials, SEED)
    assert found is not None
    excess = {row["part"]: row for row in found["parts"] if row["family"] == "model"}
    assert excess["vgg"]["excess"] == pytest.approx(0.05, abs=0.02)
    assert excess["vgg"]["interval"][0] > 0 > excess["resnet"]["interval"][1]
    assert insight.versatility(trials[:5], SEED) is None
    assert insight.versatility([trial(n, 0.5, 0.1) for n in range(9)], SEED) is None


def test_cost_marks_what_none_beats_at_its_cost() -> None:
    trials = [trial(0, 0.5, 0.1, seconds=5), trial(1, 0.6, 0.1, seconds=10), trial(2, 0.55, 0.1, seconds=20)]
    assert [point["best_at_its_cost"] for point in insight.cost(trials, "macro_f1", True)] == [True, True, False]
    assert [point["best_at_its_cost"] for point in insight.cost(trials, "macro_f1", False)] == [True, False, False]
