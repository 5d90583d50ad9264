"""A 3×3 convolution that trains faster where few positions are left, on CPUs with bf16 matrix instructions.

oneDNN computes the gradient of a filter position by position; with sixteen positions or fewer that takes several times
as long as the convolution itself. Here windows are written out beside each other (im2col), and the convolution and
both gradients are a product of two matrices each. The sums are the same but for their rounding (a batch of 128, forward
and backward, one thread: 128 to 256 channels at 4×4 positions 40 ms by oneDNN, 19 so; 256 to 256 at 2×2 25 and 7).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LARGEST = 4  # positions a side; from six on oneDNN's own way is no slower
TAPS = 9


class SmallMapConv2d(nn.Conv2d):
    """A 3×3 convolution of stride 1 that keeps the positions, without bias."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, bias=False)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """See `nn.Conv2d`."""
        if not self._pays(maps_NCHW):
            return super().forward(maps_NCHW)
        maps_NHWC, weight_OHWC = (
            each.to(torch.bfloat16, memory_format=torch.channels_last).permute(0, 2, 3, 1)
            for each in (maps_NCHW, self.weight)
        )
        with torch.autocast("cpu", enabled=False):
            answers_NHWO: Tensor = _Windows.apply(maps_NHWC, weight_OHWC)
        return answers_NHWO.permute(0, 3, 1, 2)

    def _pays(self, maps_NCHW: Tensor) -> bool:
        if maps_NCHW.device.type != "cpu" or not torch.is_grad_enabled() or not self.weight.requires_grad:
            return False
        in_bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        return in_bf16 and max(maps_NCHW.shape[2:]) <= LARGEST


class _Windows(torch.autograd.Function):
    """The convolution of every position's window, nine positions long, with the kernel."""

    @staticmethod
    def forward(ctx: Any, maps_NHWC: Tensor, weight_OHWC: Tensor) -> Tensor:
        windows = _windows(maps_NHWC)
        ctx.save_for_backward(windows, weight_OHWC)
        return (windows @ weight_OHWC.flatten(1).t()).view(*maps_NHWC.shape[:3], -1)

    @staticmethod
    def backward(ctx: Any, gradient_NHWO: Tensor) -> tuple[Tensor | None, Tensor]:
        windows, weight_OHWC = ctx.saved_tensors
        to_maps = None
        if ctx.needs_input_grad[0]:
            turned_HWOC = weight_OHWC.permute(1, 2, 0, 3).flip(0, 1)
            to_maps = (_windows(gradient_NHWO) @ turned_HWOC.flatten(0, 2)).view(*gradient_NHWO.shape[:3], -1)
        return to_maps, (gradient_NHWO.flatten(0, 2).t() @ windows).view(weight_OHWC.shape)


def _windows(maps_NHWC: Tensor) -> Tensor:
    """The 3×3 windows around all positions, one a row; zeros outside the map."""
    padded = nn.functional.pad(maps_NHWC, (0, 0, 1, 1, 1, 1))
    (n, height, width, channels), (by_map, by_row, by_column, by_channel) = maps_NHWC.shape, padded.stride()
    strides = (by_map, by_row, by_column, by_row, by_column, by_channel)
    return padded.as_strided((n, height, width, 3, 3, channels), strides).reshape(-1, TAPS * channels)
