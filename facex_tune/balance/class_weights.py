"""Cross-entropy weighted by class, rare classes more.

Source: King and Zeng, "Logistic Regression in Rare Events Data", 2001 (inverse frequency, tempered by `power`: 0.5
  weighs by its square root); Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019
  (effective number).
Of annotators' votes each class's share is weighed by itself; label smoothing weighs what its face does, not what the
class does that it lies on, which would make of it faces of the rarest class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.balance import Plan, Targets, effective_number_weights, weights_of_mean_one
from facex_tune.space import Choice, Config, Float, Knobs

if TYPE_CHECKING:
    from torch import Tensor

SPACE: Knobs = {
    "kind": Choice(("inverse", "effective_number"), "inverse", "inverse takes power, effective_number takes beta"),
    "power": Float(0.1, 1.0, 0.5, doc="of inverse: weight = (1 / frequency) ** power"),
    "beta": Float(0.9, 0.9999, 0.999, doc="of effective_number: weight = (1 - beta) / (1 - beta ** faces)"),
}


def plan(labels_N: Tensor, n_classes: int, knobs: Config, targets: Targets | None = None) -> Plan:
    """Weights of mean 1 over the training faces; absent classes weigh nothing."""
    from torch.nn.functional import cross_entropy

    towards = targets or Targets.of(labels_N, n_classes)
    counts_C = towards.counts_C
    if knobs.get("kind", "inverse") == "effective_number":
        weight_C = effective_number_weights(counts_C, float(knobs["beta"] or 0))
    else:
        weight_C = counts_C.clamp(min=1) ** -float(knobs["power"] or 0)
    weight_C = weights_of_mean_one(weight_C, counts_C)

    def loss(logits_NC: Tensor, targets_NC: Tensor) -> Tensor:
        return cross_entropy(logits_NC, towards.weighted(targets_NC, weight_C.to(logits_NC.dtype)))

    return Plan(loss=loss)
