"""Undersampling: an epoch takes as many faces of every class as the rarest has, others every time.

Source: random undersampling, surveyed in He and Garcia, "Learning from Imbalanced Data", 2009. Drawn anew every epoch,
no face twice in one. An epoch is shorter than others': fewer steps for the same number of epochs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.balance import Plan
from facex_tune.space import Config, Float, Knobs

if TYPE_CHECKING:
    from torch import Tensor

SPACE: Knobs = {"ratio": Float(1.0, 10.0, 1.0, log=True, doc="faces of a class at most, per face of the rarest")}


def plan(labels_N: Tensor, n_classes: int, knobs: Config) -> Plan:
    """Plain cross-entropy; classes without a face stay without and are not the rarest."""
    import torch
    from torch.nn.functional import cross_entropy

    counts = torch.bincount(labels_N, minlength=n_classes).tolist()
    most = round(min(n for n in counts if n) * float(knobs["ratio"] or 1))
    return Plan(loss=cross_entropy, class_quota_C=tuple(min(n, most) for n in counts))
