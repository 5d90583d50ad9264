"""A 3×3 convolution that trains faster where few positions are left, on CPUs with bf16 matrix instructions.

There the gradient of a filter is a product over faces and positions, which oneDNN computes position by position: with
nine positions or fewer it takes several times as long as the convolution itself. Faces and channels exchanged, the
same sums are a convolution whose kernel is the map, over as many channels as there are faces (a batch 128 of 256
channels at 3×3 positions: 18 ms so far, 3 ms so). The sums are the same but for their rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

LARGEST = 4  # positions a side; from six on oneDNN's own way is no slower


class SmallMapConv2d(nn.Conv2d):
    """A 3×3 convolution of stride 1 that keeps the positions, without bias."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, bias=False)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """See `nn.Conv2d`."""
        if not self._pays(maps_NCHW):
            return super().forward(maps_NCHW)
        low_NCHW, weight = maps_NCHW.to(torch.bfloat16), self.weight.to(torch.bfloat16)
        with torch.autocast("cpu", enabled=False):
            answers: Tensor = _Exchanged.apply(low_NCHW, weight)
        return answers

    def _pays(self, maps_NCHW: Tensor) -> bool:
        if maps_NCHW.device.type != "cpu" or not torch.is_grad_enabled() or not self.weight.requires_grad:
            return False
        in_bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        return in_bf16 and max(maps_NCHW.shape[2:]) <= LARGEST


class _Exchanged(torch.autograd.Function):
    """The convolution; the gradient of its filters with faces and channels exchanged."""

    @staticmethod
    def forward(ctx: Any, maps_NCHW: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(maps_NCHW, weight)
        return nn.functional.conv2d(maps_NCHW, weight, padding=1)

    @staticmethod
    def backward(ctx: Any, gradient_NOHW: Tensor) -> tuple[Tensor | None, Tensor]:
        maps_NCHW, weight = ctx.saved_tensors
        to_maps = None
        if ctx.needs_input_grad[0]:
            to_maps = conv2d_input(maps_NCHW.shape, weight, gradient_NOHW, padding=1)  # type: ignore[no-untyped-call]
        maps_CNHW, gradient_ONHW = (
            each.transpose(0, 1).contiguous(memory_format=torch.channels_last) for each in (maps_NCHW, gradient_NOHW)
        )
        to_weight = nn.functional.conv2d(maps_CNHW, gradient_ONHW, padding=1).transpose(0, 1)
        return to_maps, to_weight
