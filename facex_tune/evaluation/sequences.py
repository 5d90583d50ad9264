"""Scores of whole sequences, where faces are frames of them: a sequence's answer is the mean of its frames'.

Axes: M models, N faces, S sequences, C classes that a model knows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.faces import Faces
from facex_tune.evaluation import scoring


def score(
    faces: Faces,
    labels_N: NDArray[np.int64],
    probabilities_MNC: NDArray[np.floating[Any]],
    seed: np.random.SeedSequence,
) -> dict[str, Any] | None:
    """`scoring.score` with sequences in the place of faces; None where the faces are no sequences' frames."""
    if not len(faces) or (faces.sequence_N < 0).any():
        return None
    _, first_S, sequence_N = np.unique(faces.sequence_N, return_index=True, return_inverse=True)
    if len(first_S) == len(faces):
        return None
    probabilities_MSC = np.stack([_means(found_NC, sequence_N) for found_NC in probabilities_MNC])
    return scoring.score(probabilities_MSC, labels_N[first_S], faces.group_N[first_S], seed)


def _means(found_NC: NDArray[np.floating[Any]], sequence_N: NDArray[np.intp]) -> NDArray[np.float64]:
    """Mean probabilities of each sequence, S x C."""
    sums_CS = np.stack([np.bincount(sequence_N, found_N) for found_N in found_NC.T])
    means_SC: NDArray[np.float64] = (sums_CS / np.bincount(sequence_N)).T
    return means_SC
