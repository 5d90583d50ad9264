"""Balanced softmax: every class's exponential is weighed by its share of the training targets; prediction does without.

Source: Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020 (its loss, without the
  meta sampler). The same as `logit_adjust` at tau 1, which has the strength as a knob; here is none to tune. The paper
  counts faces; of smoothed or voted targets it is their mean that the loss must divide by (see `balance.Targets`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.balance import Plan, Targets
from facex_tune.space import Config, Knobs

if TYPE_CHECKING:
    from torch import Tensor

SPACE: Knobs = {}


def plan(labels_N: Tensor, n_classes: int, knobs: Config, targets: Targets | None = None) -> Plan:
    """Cross-entropy of logits + log share, log faces but for a constant; an absent class counts as every face."""
    from torch.nn.functional import cross_entropy

    offset_C = (targets or Targets.of(labels_N, n_classes)).log_shares_C()

    def loss(logits_NC: Tensor, targets_NC: Tensor) -> Tensor:
        return cross_entropy(logits_NC + offset_C.to(logits_NC.dtype), targets_NC)

    return Plan(loss=loss)
