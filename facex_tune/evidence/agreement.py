"""How near a model's probabilities come to the distribution of the annotators' votes, not only to their majority.

Axes: M models, N faces, K emotions counted, C classes that a model knows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.faces import Faces
from facex_tune.evidence import intervals
from facex_tune.metrics import LOG_LOSS_WORST
from facex_tune.study.protocols import Protocol


def vote_shares(votes_NC: NDArray[np.integer[Any]], classes: tuple[int, ...]) -> NDArray[np.float64]:
    """Each face's votes for `classes` as probabilities, N x K; even where it has none of them."""
    counted_NK = votes_NC[:, list(classes)].astype(np.float64)
    total_N1 = counted_NK.sum(axis=1, keepdims=True)
    return np.where(total_N1 > 0, counted_NK / np.maximum(total_N1, 1), 1 / len(classes))


def cross_entropy(shares_NK: NDArray[np.float64], probabilities_NK: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Nats of each face; no probability counts as smaller than exp(-20), as in log loss."""
    logs_NK = np.log(np.clip(probabilities_NK, np.exp(-LOG_LOSS_WORST), 1))
    found_N: NDArray[np.float64] = -(shares_NK * logs_NK).sum(axis=1)
    return found_N


def agreed(votes_NC: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """The share of its annotators who gave a face's most frequent answer."""
    share_N: NDArray[np.float64] = votes_NC.max(axis=1) / np.maximum(votes_NC.sum(axis=1), 1)
    return share_N


def score(
    protocol: Protocol, faces: Faces, probabilities_MNC: NDArray[np.floating[Any]], seed: np.random.SeedSequence
) -> dict[str, Any] | None:
    """Mean cross-entropy against the votes for the protocol's emotions, every vote counting alike.

    Returns:
        n, cross_entropy {mean, interval, seeds_interval, per_model} in nats, and annotators_entropy: what a model that
        says the votes themselves would score, below which none can come. None where the protocol reads no votes.
    """
    if not protocol.votes or faces.votes_NC is None or not len(faces):
        return None
    shares_NK = vote_shares(faces.votes_NC, protocol.classes)
    losses_MN = np.stack([cross_entropy(shares_NK, _of(found_NC, protocol.classes)) for found_NC in probabilities_MNC])
    draws_DM = intervals.resampled_mean(losses_MN, faces.group_N, seed)
    values = [float(value) for value in losses_MN.mean(axis=1)]
    n_clusters = len(np.unique(faces.group_N))
    return {
        "n": len(faces),
        "cross_entropy": {
            "mean": float(np.mean(values)),
            "interval": None if draws_DM is None else intervals.percentile(draws_DM.mean(axis=1), n_clusters),
            "seeds_interval": intervals.over_seeds(values),
            "per_model": values,
        },
        "annotators_entropy": float(cross_entropy(shares_NK, shares_NK).mean()),
    }


def _of(found_NC: NDArray[np.floating[Any]], classes: tuple[int, ...]) -> NDArray[np.floating[Any]]:
    """The columns of `classes`; 0 for one that the model does not know."""
    wide_NC = np.pad(found_NC, ((0, 0), (0, max(0, max(classes) + 1 - found_NC.shape[1]))))
    return wide_NC[:, list(classes)]
