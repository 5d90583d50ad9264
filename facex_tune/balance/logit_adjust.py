"""Logit-adjusted loss: training sees logits plus tau · log prior, prediction does without, so that rare classes win
their margin.

Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021 (the loss of its section 5). The prior is the
  mean training target, for plain labels the paper's share of faces; with label smoothing (1 - smoothing) · share +
  smoothing / classes, or smoothing would be taken for faces of the rarest class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.balance import Plan, Targets
from facex_tune.space import Config, Float, Knobs

if TYPE_CHECKING:
    from torch import Tensor

SPACE: Knobs = {
    "tau": Float(0.1, 1.5, 0.5, doc="1 aims at balanced accuracy, less at something between that and accuracy")
}


def plan(labels_N: Tensor, n_classes: int, knobs: Config, targets: Targets | None = None) -> Plan:
    """Cross-entropy of adjusted logits; an absent class counts as every face."""
    from torch.nn.functional import cross_entropy

    offset_C = float(knobs["tau"] or 0) * (targets or Targets.of(labels_N, n_classes)).log_shares_C()

    def loss(logits_NC: Tensor, targets_NC: Tensor) -> Tensor:
        return cross_entropy(logits_NC + offset_C.to(logits_NC.dtype), targets_NC)

    return Plan(loss=loss)
