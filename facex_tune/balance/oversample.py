"""Oversampling: every face once an epoch, and those of rare classes again until classes are level.

Source: random oversampling, surveyed in He and Garcia, "Learning from Imbalanced Data", 2009. Within a class each face
comes as often as any other, give or take one. An epoch is longer than others': more steps for the same number of
epochs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.balance import Plan
from facex_tune.space import Config, Float, Knobs

if TYPE_CHECKING:
    from torch import Tensor

SPACE: Knobs = {"ratio": Float(0.1, 1.0, 1.0, doc="faces of a class at least, per face of the most frequent")}


def plan(labels_N: Tensor, n_classes: int, knobs: Config) -> Plan:
    """Plain cross-entropy; classes without a face stay without."""
    import torch
    from torch.nn.functional import cross_entropy

    counts = torch.bincount(labels_N, minlength=n_classes).tolist()
    least = round(max(counts) * float(knobs["ratio"] or 0))
    return Plan(loss=cross_entropy, class_quota_C=tuple(max(n, least) if n else 0 for n in counts))
