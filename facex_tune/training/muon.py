"""Muon: momentum whose matrices are made orthogonal before each step.

Source: Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024, with its coefficients; the size of a
  step and the decoupled weight decay of Liu et al., "Muon is Scalable for LLM Training", 2025, so that what is no
  matrix learns by AdamW (Loshchilov and Hutter 2019) at the same rate. Filters count as matrices, a row a filter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of x, x³ and x⁵: steep at zero, within .7 to 1.2 after five rounds
ROUNDS = 5
TYPICAL_STEP = 0.2  # root mean square of a step of AdamW, at a learning rate of one
EPSILON, ADAM_EPSILON = 1e-7, 1e-8


class Muon(torch.optim.Optimizer):
    """Muon for the groups with `orthogonal`, AdamW for the others.

    Args:
        groups: parameters; `orthogonal`, whether they are matrices and filters; `weight_decay`.
        lr: of both.
        momentum: Nesterov's for matrices, the first beta of AdamW.
        dtype: that orthogonal matrices are computed in.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float,
        beta2: float = 0.999,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        usual = {"lr": lr, "momentum": momentum, "beta2": beta2, "weight_decay": 0.0, "orthogonal": False}
        self.dtype = dtype
        super().__init__(groups, usual)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            if trained and group["weight_decay"] > 0:
                torch._foreach_mul_(trained, 1 - group["lr"] * group["weight_decay"])
            take = self._orthogonal_step if group["orthogonal"] else self._adam_step
            for parameter in trained:
                take(parameter, group)

    def _orthogonal_step(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], _of(parameter)
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        ahead_OI = gradient.lerp(momentum, group["momentum"]).flatten(1)
        size = TYPICAL_STEP * math.sqrt(max(ahead_OI.shape))
        step_OI = orthogonal(ahead_OI.to(self.dtype))
        parameter.add_(step_OI.view(parameter.shape), alpha=-group["lr"] * size)

    def _adam_step(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], _of(parameter)
        if not state:
            state["step"] = torch.zeros(())  # on the host, which reads it
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        count, (beta, beta2) = int(state["step"]), (group["momentum"], group["beta2"])
        state["exp_avg"].lerp_(gradient, 1 - beta)
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = (state["exp_avg_sq"] / (1 - beta2**count)).sqrt_().add_(ADAM_EPSILON)
        parameter.addcdiv_(state["exp_avg"], scale, value=-group["lr"] / (1 - beta**count))


def orthogonal(matrix_OI: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Nearly the orthogonal matrix next to one: its singular vectors, and singular values of about one, by a quintic
    Newton-Schulz iteration.
    """
    wide = matrix_OI if matrix_OI.shape[0] <= matrix_OI.shape[1] else matrix_OI.T
    wide = wide / (wide.norm() + EPSILON)
    first, third, fifth = COEFFICIENTS
    for _ in range(rounds):
        product = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(product, product, product, beta=third, alpha=fifth), wide, beta=first)
    return wide if matrix_OI.shape[0] <= matrix_OI.shape[1] else wide.T


def _of(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
