"""Square-root sampling: faces drawn with replacement, a class as often as the root of its size says.

Source: Mahajan et al., "Exploring the Limits of Weakly Supervised Pretraining", ECCV 2018; Kang et al., "Decoupling
  Representation and Classifier for Long-Tailed Recognition", ICLR 2020 (equation 1, its q is `exponent`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.balance import Plan, class_counts
from facex_tune.space import Config, Float, Knobs

if TYPE_CHECKING:
    from torch import Tensor

SPACE: Knobs = {
    "exponent": Float(0.0, 0.9, 0.5, doc="odds of a class are its faces ** exponent; 0 draws all classes alike")
}


def plan(labels_N: Tensor, n_classes: int, knobs: Config) -> Plan:
    """Plain cross-entropy; as many draws an epoch as there are faces."""
    from torch.nn.functional import cross_entropy

    counts_C = class_counts(labels_N, n_classes).clamp(min=1)
    odds_C = counts_C ** (float(knobs["exponent"] or 0) - 1)  # of one face: its class's odds shared by all its faces
    return Plan(loss=cross_entropy, sample_weights_N=odds_C[labels_N])
