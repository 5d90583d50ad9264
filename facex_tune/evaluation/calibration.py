"""Temperature scaling (Guo et al., ICML 2017), and what a reliability diagram shows.

Temperature acts on the logarithm of probabilities, so that it also serves averages over views or models.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune import metrics

BOUNDS = (0.05, 20.0)
_TINY = 1e-12  # a probability that float32 rounded to 0 still has a logarithm


def tempered(probabilities: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """Probabilities (last axis: classes) at a temperature; above 1 they are less sure. Zeros stay zeros."""
    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), _TINY)) / temperature
    raised = np.where(probabilities > 0, np.exp(logs - logs.max(axis=-1, keepdims=True)), 0.0)
    result: NDArray[np.float64] = raised / raised.sum(axis=-1, keepdims=True)
    return result


def best_temperature(probabilities_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.int64]) -> float:
    """The temperature of least log loss on these faces, within 0.05 and 20."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return metrics.log_loss(tempered(probabilities_NC, float(np.exp(log_temperature))), labels_N)

    found = minimize_scalar(loss, bounds=tuple(np.log(BOUNDS)), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x))


def reliability(probabilities_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.int64]) -> list[dict[str, float]]:
    """A reliability diagram's points: 15 bins of equal mass, each with n, mean confidence and accuracy."""
    confidence_N = probabilities_NC.max(axis=1)
    right_N = probabilities_NC.argmax(axis=1) == labels_N
    order_N = np.argsort(confidence_N, kind="stable")
    return [
        {"n": len(rows), "confidence": float(confidence_N[rows].mean()), "accuracy": float(right_N[rows].mean())}
        for rows in np.array_split(order_N, min(metrics.ECE_BINS, len(order_N)))
        if len(rows)
    ]
