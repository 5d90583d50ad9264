"""What architectures of torchvision want before they see small grey faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def grey_stem(convolution: nn.Conv2d, stride: int) -> nn.Conv2d:
    """A convolution of one input channel in place of `convolution`, of the given stride; fresh weights (He et al.
    2015).
    """
    from torch import nn

    size = (int(convolution.kernel_size[0]), int(convolution.kernel_size[1]))
    stem = nn.Conv2d(
        1, convolution.out_channels, size, stride, (size[0] // 2, size[1] // 2), bias=convolution.bias is not None
    )
    nn.init.kaiming_normal_(stem.weight, mode="fan_out")
    if stem.bias is not None:
        nn.init.zeros_(stem.bias)
    return stem
