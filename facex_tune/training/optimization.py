"""The optimizer, and what changes in the course of a training: the learning rate, the size of the faces, the average
of the weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from facex_tune.space import Config
from facex_tune.training.devices import has_fast_bf16
from facex_tune.training.muon import Muon

STEP_MILESTONES = (0.5, 0.75)
PROGRESSIVE_PIXELS = ((0.4, 2 / 3), (0.65, 5 / 6), (1.0, 1.0))


def build_optimizer(model: nn.Module, knobs: Config) -> torch.optim.Optimizer:
    """Weight decay acts on matrices and filters only, not on what has one number a channel: biases, normalisation and
    layer scales, whichever shape they have.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = [parameter for parameter in trained if parameter.numel() > max(parameter.shape, default=1)]
    others = [parameter for parameter in trained if parameter.numel() <= max(parameter.shape, default=1)]
    groups = [
        {"params": weights, "weight_decay": float(knobs["weight_decay"] or 0)},
        {"params": others, "weight_decay": 0.0},
    ]
    rate, momentum = float(knobs["lr"] or 0), float(knobs["momentum"] or 0)
    if knobs["optimizer"] == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999))
    if knobs["optimizer"] == "adam":
        return torch.optim.Adam(groups, lr=rate, betas=(momentum, 0.999))
    if knobs["optimizer"] == "nadam":
        return torch.optim.NAdam(groups, lr=rate, betas=(momentum, 0.999))
    if knobs["optimizer"] == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, momentum=momentum)
    if knobs["optimizer"] == "muon":
        return _muon(model, groups, rate, momentum)
    if knobs["optimizer"] == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0)
    raise ValueError(f"train_knobs.py names the optimizer {knobs['optimizer']!r}, and nothing here builds it")


def _muon(
    model: nn.Module, groups: Sequence[dict[str, Any]], rate: float, momentum: float
) -> torch.optim.Optimizer:
    """Muon for hidden layers; AdamW for the first, the last and what is no matrix, as its author advises."""
    weights, others = groups
    ends = {id(weights["params"][0]), id(weights["params"][-1])}
    hidden = [parameter for parameter in weights["params"] if id(parameter) not in ends]
    outer = [parameter for parameter in weights["params"] if id(parameter) in ends]
    device = next(model.parameters()).device
    return Muon(
        [weights | {"params": hidden, "orthogonal": True}, weights | {"params": outer}, others],
        rate,
        momentum=momentum,
        dtype=torch.bfloat16 if has_fast_bf16(device) else torch.float32,
    )


def rate_factor(schedule: str, progress: float, warmup: float) -> float:
    """The learning rate as a share of its peak, at `progress` (0 to 1) of the training.

    All rise linearly over `warmup`; "one_cycle" then falls linearly (after Smith and Topin 2018, whose momentum moves
    the other way and whose rate ends in a steeper fall; neither is done here), "cosine" along half a
    cosine (Loshchilov and Hutter 2017), "step" to a tenth at half and again at three quarters of the training (He et
    al. 2016), or later where a warm-up of more than a quarter leaves less: the peak, a tenth and a hundredth share at
    least what is left. "plateau" stays, and `plateau_factor` says the rest.
    """
    if progress < warmup:
        return max(progress / warmup, 0.01)
    if schedule == "plateau":
        return 1.0
    if schedule == "step":
        first = max(STEP_MILESTONES[0], warmup + (1 - warmup) / 3)
        second = max(STEP_MILESTONES[1], warmup + (1 - warmup) * 2 / 3)
        return 0.1 ** ((progress >= first) + (progress >= second))
    left = 1 - (progress - warmup) / (1 - warmup)
    if schedule == "one_cycle":
        return left
    if schedule == "cosine":
        return 0.5 * (1 - math.cos(math.pi * left))
    raise ValueError(f"train_knobs.py names the schedule {schedule!r}, and nothing here follows it")


def plateau_factor(scores: Sequence[float], patience: int, factor: float) -> float:
    """`factor` to the power of how often `patience` epochs in a row brought no better score, of those in `scores`."""
    best, waited, falls = -math.inf, 0, 0
    for score in scores:
        best, waited = (score, 0) if score > best else (best, waited + 1)
        if waited == patience:
            falls, waited = falls + 1, 0
    return factor**falls


def progressive_pixels(height: int, number: int, epochs: int) -> int:
    """Side of the faces in epoch `number` of `epochs`: it starts small and ends whole."""
    if number == epochs:
        return height
    share = next(size for until, size in PROGRESSIVE_PIXELS if number <= math.ceil(until * epochs))
    return round(height * share)


class Average:
    """Exponential moving average of a model's weights; buffers are copied. Early steps average less, so that it
    starts unbiased.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.model = copy.deepcopy(model).requires_grad_(False)
        # Listed once: to walk through a deep network takes the host longer than a GPU takes for its average.
        self._weights: list[Tensor] = list(self.model.parameters())
        self._source_weights: list[Tensor] = list(model.parameters())
        self._buffers: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}  # of one type, to be copied at once
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            ours, sources = self._buffers.setdefault(mine.dtype, ([], []))
            ours.append(mine)
            sources.append(theirs)

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._weights, self._source_weights, 1 - decay)
        for ours, sources in self._buffers.values():
            torch._foreach_copy_(ours, sources)
