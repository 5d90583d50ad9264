"""Post-hoc logit adjustment: what a trained model's answers would be if every class were as frequent as any other.

Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021 (its section 4): answer argmax (logit - tau ·
  log frequency). Frequencies are those of the mean training target: of the labels, or of the annotators' votes in their
  place, with label smoothing, since these are what a network's answers come to on average.

It costs no training, so every trial and every final model has it. tau is the value of `TAUS` with the best macro-F1 on
the validation faces, the smallest one where several are equally good. The adjusted score is therefore a little too high
on those faces; it is not on a sealed set, where tau is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune import metrics

TAUS = tuple(step / 20 for step in range(41))
"""0, which adjusts nothing, to 2; 1 is the paper's, which aims at balanced accuracy."""

TAU, MACRO_F1, ACCURACY = "adjust_tau", "macro_f1_adjusted", "accuracy_adjusted"
SCORES = (MACRO_F1, ACCURACY)


@dataclass(frozen=True)
class Adjustment:
    """A strength and how frequent each class is among the training targets, as faces or as shares."""

    tau: float
    class_counts: tuple[float, ...]

    def __call__(self, probabilities_NC: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Adjusted probabilities; rows sum to 1."""
        weighed_NC = np.asarray(probabilities_NC, np.float64) * class_weights(np.array(self.class_counts), self.tau)
        adjusted_NC: NDArray[np.float64] = weighed_NC / weighed_NC.sum(axis=1, keepdims=True)
        return adjusted_NC


def class_weights(counts_C: NDArray[Any], tau: float) -> NDArray[np.float64]:
    """What each class's probability is multiplied by: frequency ** -tau, of counts or shares.

    A class without any training face has 1, less than any other: nothing speaks for answering it more often.
    """
    share_C = np.where(counts_C > 0, counts_C / (counts_C.sum() or 1), 1.0)
    weight_C: NDArray[np.float64] = share_C**-tau
    return weight_C


def choose(
    probabilities_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.integer[Any]], counts_C: NDArray[Any]
) -> float:
    """The tau of `TAUS` with the best macro-F1 on these faces."""
    scores = [_counted(probabilities_NC, labels_N, counts_C, tau)["macro_f1"] for tau in TAUS]
    return TAUS[int(np.argmax(scores))]


def scores(
    probabilities_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.integer[Any]], counts_C: NDArray[Any]
) -> dict[str, float]:
    """Macro-F1 and accuracy of the adjusted answers at the tau chosen on the same faces, and that tau."""
    tau = choose(probabilities_NC, labels_N, counts_C)
    found = _counted(probabilities_NC, labels_N, counts_C, tau)
    return {MACRO_F1: float(found["macro_f1"]), ACCURACY: float(found["accuracy"]), TAU: tau}


def of_model(info: dict[str, Any]) -> Adjustment | None:
    """The adjustment that a final model was saved with; None for one that was saved before there was any. Older ones
    know the faces of each class alone, from which their tau was chosen.
    """
    tau, counts = info.get("metrics", {}).get(TAU), info.get("target_shares", info.get("class_counts"))
    return None if tau is None or counts is None else Adjustment(float(tau), tuple(counts))


def _counted(
    probabilities_NC: NDArray[np.floating[Any]],
    labels_N: NDArray[np.integer[Any]],
    counts_C: NDArray[Any],
    tau: float,
) -> dict[str, NDArray[np.float64]]:
    answers_N = (probabilities_NC * class_weights(counts_C, tau)).argmax(axis=1)
    n_classes = max(probabilities_NC.shape[1], int(labels_N.max()) + 1)
    return metrics.counted(metrics.confusion(answers_N, labels_N, n_classes))
