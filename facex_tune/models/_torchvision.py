"""What architectures of torchvision want before they see small faces, grey or in colour."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from facex_tune.emotions import FaceShape

if TYPE_CHECKING:
    from torch import nn


def start_quietly(network: nn.Module, block: type[nn.Module]) -> None:
    """Weights to start from with few faces, where torchvision's learn little for thousands of steps.

    Blocks with a shortcut start as that shortcut, their last batch norm at zero (Goyal et al. 2017); depthwise filters
    are drawn for the inputs that each has (torchvision counts those of all groups).

    Args:
        block: the network's inverted residual, with `use_res_connect` and `block`, a sequence that ends with
            convolution and batch norm.
    """
    from torch import nn

    for module in network.modules():
        if isinstance(module, block) and module.use_res_connect:
            nn.init.zeros_(module.get_submodule("block")[-1][1].weight)  # type: ignore[index]
        elif isinstance(module, nn.Conv2d) and module.groups > 1:
            nn.init.normal_(module.weight, std=math.sqrt(2 / math.prod(module.kernel_size)))


def face_stem(convolution: nn.Conv2d, stride: int, face: FaceShape) -> nn.Conv2d:
    """A convolution of a face's channels in place of `convolution`, of the given stride; fresh weights (He et al.
    2015).
    """
    from torch import nn

    size = (int(convolution.kernel_size[0]), int(convolution.kernel_size[1]))
    stem = nn.Conv2d(
        face.channels,
        convolution.out_channels,
        size,
        stride,
        (size[0] // 2, size[1] // 2),
        bias=convolution.bias is not None,
    )
    nn.init.kaiming_normal_(stem.weight, mode="fan_out")
    if stem.bias is not None:
        nn.init.zeros_(stem.bias)
    return stem
