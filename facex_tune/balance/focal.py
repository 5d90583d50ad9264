"""Focal loss: cross-entropy that fades for faces answered rightly already, so that hard ones lead.

Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017 (equation 4, without its class weights).
Of soft targets, each class's share takes its own factor; with a single label that is the paper's loss. What label
smoothing puts on wrong classes fades least of all, so that confidence ends low: at gamma 2 and a smoothing of .1 over
seven classes a certain face is answered with .69, not .91. No class gains by that more than another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.balance import Plan
from facex_tune.space import Config, Float, Knobs

if TYPE_CHECKING:
    from torch import Tensor

SPACE: Knobs = {"gamma": Float(0.25, 5.0, 2.0, doc="how fast right answers fade; 0 would be plain cross-entropy")}


def plan(labels_N: Tensor, n_classes: int, knobs: Config) -> Plan:
    """-(1 - p) ** gamma · log p, the mean over faces."""
    gamma = float(knobs["gamma"] or 0)

    def loss(logits_NC: Tensor, targets_NC: Tensor) -> Tensor:
        log_p_NC = logits_NC.log_softmax(1)
        # At p = 1 the slope of a power below one is infinite; the floor is float32's own step there.
        missing_NC = (-log_p_NC.expm1()).clamp(min=1e-7)
        return -(targets_NC * missing_NC**gamma * log_p_NC).sum(1).mean()

    return Plan(loss=loss)
