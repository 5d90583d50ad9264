"""No balancing: plain cross-entropy, every face once an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.balance import Plan
from facex_tune.space import Config, Knobs

if TYPE_CHECKING:
    from torch import Tensor

SPACE: Knobs = {}


def plan(labels_N: Tensor, n_classes: int, knobs: Config) -> Plan:
    """Cross-entropy against target probabilities."""
    from torch.nn.functional import cross_entropy

    return Plan(loss=cross_entropy)
