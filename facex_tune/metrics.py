"""Scores of predicted probabilities against labels: pure functions of arrays, numpy only.

Axes: N faces, C classes that the model knows, K classes that are counted (a confusion matrix is [true, predicted]).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.emotions import EMOTIONS

SIX = ("accuracy", "balanced_accuracy", "macro_f1", "worst_class_recall", "log_loss", "ece")
PER_EMOTION = ("precision", "recall", "f1")
COUNTED = SIX[:4]
"""The metrics that a confusion matrix alone gives."""

COSTS = ("parameters", "macs", "images_per_second")
"""What a network costs whoever asks it: parameters; multiply-accumulates of one face; images a second where faces come
one at a time, on the machine that trains. No scores: a study can trade them against one, not search for them alone.
"""

MAXIMIZE: dict[str, bool] = {
    **{name: name not in ("log_loss", "ece") for name in SIX},
    **{f"{kind}.{emotion}": True for kind in PER_EMOTION for emotion in EMOTIONS},
    **{name: name == "images_per_second" for name in COSTS},
}
"""Every metric's name, and whether more is better."""

ECE_BINS = 15
ONE_ANSWER_RECALL = 0.98  # of the one class that is answered; no other reaches what is left
COST_WORST = 1e15
"""Parameters or multiply-accumulates, more than anybody's: finite, as a sampler wants it."""
LOG_LOSS_WORST = 20.0
"""Nats; one face costs at most this, so that a probability of 0 for the truth stays finite."""


def names() -> list[str]:
    """Every metric's name: the six, then precision, recall and F1 of each emotion, then costs."""
    return list(MAXIMIZE)


def worst_value(name: str) -> float:
    """The finite worst value of a metric: what a diverged or collapsed trial is worth.

    Raises:
        KeyError: no such metric.
    """
    if MAXIMIZE[name]:
        return 0.0
    return COST_WORST if name in COSTS else greatest(name)


def greatest(name: str) -> float:
    """The largest value that a metric can have; the smallest is 0. Costs know no bound."""
    if name in COSTS:
        return math.inf
    return LOG_LOSS_WORST if name == "log_loss" else 1.0


def excess(name: str, bound: float, by: float) -> float:
    """How far beyond a bound a value counts that breaks it by so much: of scores, as it is; of costs, as a share of the
    bound, or a hundred parameters would outweigh any score.
    """
    return by / abs(bound) if name in COSTS else by


def scores(probabilities_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.integer[Any]]) -> dict[str, float]:
    """The six metrics, and precision, recall and F1 of every emotion that has support.

    Args:
        probabilities_NC: N x C, rows sum to 1.
        labels_N: 0..7; a label of C or more names a class that the model does not know, which can only be missed.

    Raises:
        ValueError: no faces, shapes that do not fit, or a probability that is not finite.
    """
    labels_N = np.asarray(labels_N)
    probabilities_NC = _checked(probabilities_NC, labels_N)
    n_classes = max(probabilities_NC.shape[1], int(labels_N.max()) + 1)
    confusion_KK = confusion(probabilities_NC, labels_N, n_classes)
    six = {name: float(value) for name, value in counted(confusion_KK).items()}
    six["log_loss"] = log_loss(probabilities_NC, labels_N)
    six["ece"] = expected_calibration_error(probabilities_NC, labels_N)
    return six | _flat(per_class(confusion_KK), confusion_KK.sum(axis=1))


def _flat(table: dict[str, NDArray[np.float64]], support_K: NDArray[np.int64]) -> dict[str, float]:
    return {
        f"{kind}.{EMOTIONS[k]}": float(values_K[k])
        for kind, values_K in table.items()
        for k in np.flatnonzero(support_K)
    }


def _checked(probabilities_NC: NDArray[Any], labels_N: NDArray[Any]) -> NDArray[np.float64]:
    probabilities_NC = np.asarray(probabilities_NC, np.float64)
    if probabilities_NC.ndim != 2 or probabilities_NC.shape[:1] != labels_N.shape or not len(labels_N):
        shapes = f"{probabilities_NC.shape} and {labels_N.shape}"
        raise ValueError(f"probabilities N x C and N labels are needed, N at least 1; got {shapes}")
    if not np.isfinite(probabilities_NC).all():
        raise ValueError("probabilities hold values that are not finite")
    return probabilities_NC


def constant_answer(support: Mapping[str, int]) -> tuple[str, dict[str, float]]:
    """The best that one answer for every face comes to: the commonest class, with its `accuracy` and `macro_f1`.

    Args:
        support: class -> how many faces it has; one at least.
    """
    answer = max(support, key=lambda name: support[name])
    share = support[answer] / sum(support.values())
    present = sum(count > 0 for count in support.values())
    return answer, {"accuracy": share, "macro_f1": 2 * share / (1 + share) / present}


def gives_one_answer(scores: Mapping[str, float]) -> bool:
    """Whether (almost) every face got the same answer, of a model with these scores, by their names."""
    classes = taken = 0
    for name, value in scores.items():
        if name.startswith("recall."):
            classes += 1
            taken += value >= ONE_ANSWER_RECALL
            if 1 - ONE_ANSWER_RECALL < value < ONE_ANSWER_RECALL or taken > 1:
                return False
    return classes > 1 and taken == 1


def confusion(predictions: NDArray[Any], labels_N: NDArray[np.integer[Any]], n_classes: int) -> NDArray[np.int64]:
    """How often each true class was answered by each class: n_classes x n_classes, [true, predicted].

    Args:
        predictions: N class numbers, or N x C probabilities, whose largest is the answer (the first of equal ones).
    """
    answers_N = predictions.argmax(axis=1) if predictions.ndim == 2 else predictions
    cells_N = np.asarray(labels_N, np.int64) * n_classes + answers_N
    return np.bincount(cells_N, minlength=n_classes**2).reshape(n_classes, n_classes)


def counted(confusion_KK: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Accuracy, balanced accuracy, macro-F1 and worst-class recall of confusion matrices, shape ... x K x K -> ...

    The means and the minimum run over the classes with support. A matrix without any face gives NaN.
    """
    support_K = confusion_KK.sum(axis=-1)
    supported_K = support_K > 0
    table = per_class(confusion_KK)
    n_supported = supported_K.sum(axis=-1)
    hits = np.diagonal(confusion_KK, axis1=-2, axis2=-1).sum(axis=-1)
    worst = np.where(supported_K, table["recall"], np.inf).min(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "accuracy": np.asarray(hits / support_K.sum(axis=-1)),
            "balanced_accuracy": np.asarray((table["recall"] * supported_K).sum(axis=-1) / n_supported),
            "macro_f1": np.asarray((table["f1"] * supported_K).sum(axis=-1) / n_supported),
            "worst_class_recall": np.where(n_supported > 0, worst, np.nan),
        }


def per_class(confusion_KK: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Precision, recall and F1 of each class of confusion matrices, shape ... x K x K -> ... x K; 0 where undefined."""
    hits_K = np.diagonal(confusion_KK, axis1=-2, axis2=-1).astype(np.float64)
    answered_K, support_K = confusion_KK.sum(axis=-2), confusion_KK.sum(axis=-1)
    return {
        "precision": _ratio(hits_K, answered_K),
        "recall": _ratio(hits_K, support_K),
        "f1": _ratio(2 * hits_K, answered_K + support_K),
    }


def _ratio(above: NDArray[np.float64], below: NDArray[Any]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return result


def log_loss(probabilities_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.integer[Any]]) -> float:
    """Mean negative log-probability of the truth in nats, each face's capped at `LOG_LOSS_WORST`."""
    return float(log_losses(probabilities_NC, labels_N).mean())


def log_losses(probabilities_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Each face's own, in nats, capped."""
    known_N = labels_N < probabilities_NC.shape[1]
    truth_N = np.where(known_N, probabilities_NC[np.arange(len(labels_N)), np.where(known_N, labels_N, 0)], 0.0)
    losses_N: NDArray[np.float64] = -np.log(np.clip(truth_N.astype(np.float64), np.exp(-LOG_LOSS_WORST), 1.0))
    return losses_N


def expected_calibration_error(
    probabilities_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.integer[Any]]
) -> float:
    """Mean gap between confidence and accuracy over 15 bins of equal mass (Nguyen & O'Connor, EMNLP 2015).

    Faces of equal confidence share their mean correctness, so that the order of the faces does not matter.
    """
    confidence_N = probabilities_NC.max(axis=1)
    correct_N = (probabilities_NC.argmax(axis=1) == labels_N).astype(np.float64)
    _, which_N = np.unique(confidence_N, return_inverse=True)
    correct_N = (np.bincount(which_N, correct_N) / np.bincount(which_N))[which_N]
    order_N = np.argsort(confidence_N, kind="stable")
    gaps = [
        abs(float((correct_N[rows] - confidence_N[rows]).sum()))
        for rows in np.array_split(order_N, min(ECE_BINS, len(order_N)))
    ]
    return sum(gaps) / len(order_N)


def ece_floor(probabilities_NC: NDArray[np.floating[Any]], rng: np.random.Generator, draws: int = 200) -> float:
    """The mean calibration error of a perfectly calibrated model with these confidences on as many faces: its bins'
    accuracies scatter, so that its error is not 0 but about .02 on 3,589 faces and .08 on 309.
    """
    confidence_N = np.sort(np.asarray(probabilities_NC, np.float64).max(axis=1))
    starts = [rows[0] for rows in np.array_split(np.arange(len(confidence_N)), min(ECE_BINS, len(confidence_N)))]
    errors = [
        np.abs(np.add.reduceat((rng.random(len(confidence_N)) < confidence_N) - confidence_N, starts)).sum()
        for _ in range(draws)
    ]
    return float(np.mean(errors)) / len(confidence_N)
