"""One protocol's faces and probabilities -> its scores as plain data. Pure: nothing is opened or written here.

Axes: M models (one candidate's seeds), N faces, C classes that a model knows, K classes counted, D bootstrap draws.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune import metrics
from facex_tune.data.faces import Faces, majority_labels
from facex_tune.emotions import EMOTIONS, N_FER2013
from facex_tune.errors import InputError
from facex_tune.evaluation import intervals
from facex_tune.study.protocols import Protocol


def judged(
    protocol: Protocol, faces: Faces, n_classes: int = N_FER2013
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows_N, labels_N): which of these faces the protocol scores, and as what, of models that know `n_classes`.

    Faces whose votes name no majority, whose name is not one of `only`, or of classes that the protocol leaves out, are
    not scored.

    Raises:
        InputError: the protocol asks for votes and the faces have none.
    """
    if protocol.votes and faces.votes_NC is None:
        raise InputError(
            f"{protocol.id}: labels are annotators' votes, which the prepared set {protocol.data!r} does not have; "
            f"prepare it from a source with votes"
        )
    labels_N = faces.labels_N if not protocol.votes or faces.votes_NC is None else majority_labels(faces.votes_NC)
    classes = [k for k in protocol.classes if k < n_classes or not protocol.shared]
    chosen_N = np.isin(faces.split_N, protocol.splits) & np.isin(labels_N, classes)
    if protocol.only:
        chosen_N &= np.array([re.search(protocol.only, name) is not None for name in faces.source_N.tolist()], np.bool_)
    rows_N = np.flatnonzero(chosen_N)
    return rows_N, labels_N[rows_N]


def masked(probabilities_NC: NDArray[np.floating[Any]], classes: tuple[int, ...]) -> NDArray[np.float64]:
    """Probabilities given that the truth is one of `classes`: the other columns 0, rows summing to 1 again.

    A row without any mass on `classes` becomes even over them.
    """
    known = [c for c in classes if c < probabilities_NC.shape[1]]
    kept_NC = np.zeros(probabilities_NC.shape)
    kept_NC[:, known] = probabilities_NC[:, known]
    mass_N1 = kept_NC.sum(axis=1, keepdims=True)
    even_C = np.isin(np.arange(probabilities_NC.shape[1]), known) / len(known)
    return np.where(mass_N1 > 0, kept_NC / np.where(mass_N1 > 0, mass_N1, 1), even_C)


def score(
    probabilities_MNC: NDArray[np.floating[Any]],
    labels_N: NDArray[np.int64],
    groups_N: NDArray[np.int64],
    seed: np.random.SeedSequence,
) -> dict[str, Any]:
    """Everything a protocol says of one candidate, as plain data.

    Returns:
        n, n_clusters, metrics {name: {mean, interval, seeds_interval, per_model}}, per_emotion and confusion. `mean` is
        over models; `interval` (faces, clustered bootstrap) and `seeds_interval` (seeds, t) are None where they cannot
        be had; ece has its `floor` too, what perfect calibration would come to on as many faces; `confusion` is summed
        over models.
    """
    if not len(labels_N):
        return {"n": 0, "n_clusters": 0, "metrics": {}, "per_emotion": {}, "confusion": {"classes": [], "counts": []}}
    n_classes = max(probabilities_MNC.shape[2], int(labels_N.max()) + 1)
    answers_MN = probabilities_MNC.argmax(axis=2)
    per_model = [metrics.scores(probabilities_NC, labels_N) for probabilities_NC in probabilities_MNC]
    draws_DMKK = intervals.resampled_confusion(answers_MN, labels_N, groups_N, n_classes, seed)
    drawn = {} if draws_DMKK is None else intervals.scores_of_draws(draws_DMKK)
    drawn = intervals.without_few(drawn, labels_N, groups_N)
    floors = [metrics.ece_floor(found_NC, np.random.default_rng(seed)) for found_NC in probabilities_MNC]
    losses_MN = np.stack([metrics.log_losses(found_NC, labels_N) for found_NC in probabilities_MNC])
    losses_DM = intervals.resampled_mean(losses_MN, groups_N, seed)
    drawn |= {} if losses_DM is None else {"log_loss": losses_DM}
    confusion_KK = np.sum([metrics.confusion(answers_N, labels_N, n_classes) for answers_N in answers_MN], axis=0)
    support_K = np.bincount(labels_N, minlength=n_classes)
    return {
        "n": len(labels_N),
        "n_clusters": len(np.unique(groups_N)),
        "metrics": _metrics(
            per_model, drawn, partial(intervals.rests_on, labels_N=labels_N, groups_N=groups_N), float(np.mean(floors))
        ),
        "per_emotion": _per_emotion(
            per_model, drawn, support_K, partial(intervals.rests_on_class, answers_MN, labels_N, groups_N)
        ),
        "confusion": {"classes": list(EMOTIONS[:n_classes]), "counts": confusion_KK.tolist()},
    }


def _metrics(
    per_model: list[dict[str, float]],
    drawn: dict[str, NDArray[np.float64]],
    rests_on: Callable[[str], float],
    ece_floor: float,
) -> dict[str, Any]:
    """The six, each with its intervals. ECE has none over faces: faces drawn twice make its bins look worse than they
    are, so that the draws lie above the value that they are to surround. Nor has worst-class recall (see
    `intervals.scores_of_draws`), nor what rests on very few clusters.
    """
    table: dict[str, Any] = {}
    for name in metrics.SIX:
        values = [scores[name] for scores in per_model]
        table[name] = {
            "mean": float(np.mean(values)),
            "interval": intervals.percentile(drawn[name].mean(axis=1), rests_on(name)) if name in drawn else None,
            "seeds_interval": intervals.over_seeds(values),
            "per_model": values,
        }
    table["ece"]["floor"] = ece_floor
    return table


def _per_emotion(
    per_model: list[dict[str, float]],
    drawn: dict[str, NDArray[np.float64]],
    support_K: NDArray[np.int64],
    rests_on: Callable[[str, int], int],
) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for k in np.flatnonzero(support_K):
        row: dict[str, Any] = {"support": int(support_K[k])}
        for kind in metrics.PER_EMOTION:
            row[kind] = float(np.mean([scores[f"{kind}.{EMOTIONS[k]}"] for scores in per_model]))
            drawn_D = drawn[kind][..., k].mean(axis=1) if kind in drawn else None
            row[f"{kind}_interval"] = None
            if drawn_D is not None and rests_on("recall", int(k)) >= intervals.MIN_CLUSTERS:
                row[f"{kind}_interval"] = intervals.percentile(drawn_D, rests_on(kind, int(k)))
        table[EMOTIONS[k]] = row
    return table
