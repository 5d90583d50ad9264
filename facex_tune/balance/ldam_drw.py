"""Label-distribution-aware margins, rare classes the wider; late in training classes are weighed as well.

Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019 (LDAM with
  deferred re-weighting). A class of n faces must win by a margin in proportion to n ** -1/4; the weights are Cui et
  al.'s effective numbers, 2019. The paper also normalises features and classifier and scales their cosine by 30; here
  margins are in plain logits, as in its formula, so that every model can take it. Margins and weights are for labels:
  what label smoothing puts on a class has no margin, and weighs what its face does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.balance import Loss, Plan, Targets, effective_number_weights, weights_of_mean_one
from facex_tune.space import Config, Float, Knobs

if TYPE_CHECKING:
    from torch import Tensor

SPACE: Knobs = {
    "margin": Float(0.1, 4.0, 1.0, log=True, doc="of the rarest class, in logits; others in proportion"),
    "beta": Float(0.9, 0.9999, 0.9999, doc="of the late weights: (1 - beta) / (1 - beta ** faces)"),
    "late_from": Float(0.0, 0.95, 0.8, doc="share of the training after which classes are weighed too"),
}


def plan(labels_N: Tensor, n_classes: int, knobs: Config, targets: Targets | None = None) -> Plan:
    """The margin loss, weighed from `late_from` on; an absent class has no margin and no weight."""
    import torch

    towards = targets or Targets.of(labels_N, n_classes)
    counts_C = towards.counts_C
    margin_C = torch.where(counts_C > 0, counts_C.clamp(min=1) ** -0.25, 0.0)
    margin_C = margin_C * float(knobs["margin"] or 0) / margin_C.max()
    weight_C = weights_of_mean_one(effective_number_weights(counts_C, float(knobs["beta"] or 0)), counts_C)
    return Plan(
        loss=_margin_loss(towards, margin_C, torch.ones_like(weight_C)),
        late_loss=_margin_loss(towards, margin_C, weight_C),
        late_from=float(knobs["late_from"] or 0),
    )


def _margin_loss(towards: Targets, margin_C: Tensor, weight_C: Tensor) -> Loss:
    def loss(logits_NC: Tensor, targets_NC: Tensor) -> Tensor:
        """Row y of the N×C×C logits is the case that y is right: its own logit is lowered by its margin."""
        lowered_NCC = logits_NC[:, None, :] - margin_C.to(logits_NC.dtype).diag()
        log_p_NC = lowered_NCC.log_softmax(2).diagonal(dim1=1, dim2=2)
        weighted_NC = towards.weighted(targets_NC, weight_C.to(logits_NC.dtype))
        labelled_NC = towards.labelled(targets_NC) * weight_C.to(logits_NC.dtype)
        costs_NC = labelled_NC * log_p_NC + (weighted_NC - labelled_NC) * logits_NC.log_softmax(1)
        return -costs_NC.sum(1).mean()

    return loss
