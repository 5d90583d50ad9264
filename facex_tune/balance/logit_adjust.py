"""Logit-adjusted loss: training sees logits plus tau · log prior, prediction does without, so that rare classes win
their margin.

Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021 (the loss of its section 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.balance import Plan, log_shares
from facex_tune.space import Config, Float, Knobs

if TYPE_CHECKING:
    from torch import Tensor

SPACE: Knobs = {
    "tau": Float(0.1, 1.5, 0.5, doc="1 aims at balanced accuracy, less at something between that and accuracy")
}


def plan(labels_N: Tensor, n_classes: int, knobs: Config) -> Plan:
    """Cross-entropy of adjusted logits; an absent class counts as every face."""
    from torch.nn.functional import cross_entropy

    offset_C = float(knobs["tau"] or 0) * log_shares(labels_N, n_classes)

    def loss(logits_NC: Tensor, targets_NC: Tensor) -> Tensor:
        return cross_entropy(logits_NC + offset_C.to(logits_NC.dtype), targets_NC)

    return Plan(loss=loss)
