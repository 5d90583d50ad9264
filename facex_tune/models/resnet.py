"""A residual network for 48×48 faces: 3×3 stem of stride 1, four stages of basic or bottleneck blocks.

Source: He et al., "Deep Residual Learning for Image Recognition", 2016, with the stem adapted to small images: their
  7×7 stride-2 stem and max pooling would leave 48 pixels only 12. Here a 3×3 convolution keeps them, and `pool` halves
  them once. Averaging shortcuts: He et al., "Bag of Tricks", 2019. Hu et al., "Squeeze-and-Excitation Networks", 2018;
  Huang et al., "Deep Networks with Stochastic Depth", 2016 (its linear rule). ImageNet weights: torchvision's of 18, 34
  and 50 layers, of width 64; the 7×7 stem is folded to 3×3, and shortcuts average where theirs pass pixels over.
  Filters start as torch starts them, not as He et al. do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.models import _pretrained
from facex_tune.space import Choice, Config, Float, Knobs

if TYPE_CHECKING:
    from torch import nn

PRECISION = "bf16"
SPACE: Knobs = {
    "depth": Choice((10, 18, 34, 50), 10, "weighted layers; 50 has bottlenecks, four times as wide at their ends"),
    "width": Choice((16, 24, 32, 48, 64), 32, "channels of the first stage; each further stage doubles them"),
    "pool": Choice((False, True), True, "2×2 max pooling after the stem: a quarter of the cost"),
    "dropout": Float(0.0, 0.6, 0.2, doc="before the classifier"),
    "squeeze_excitation": Choice((False, True), False, "weigh each block's channels by what the whole face shows"),
    "stochastic_depth": Float(0.0, 0.5, 0.0, doc="probability that the last block is left out, earlier ones less"),
    "pretrained": _pretrained.PRETRAINED,
    "frozen": _pretrained.FROZEN,
}
BLOCKS_BY_STAGE = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
BOTTLENECK_FROM, EXPANSION = 50, 4


def build(knobs: Config, n_classes: int, face: FaceShape = GREY_48) -> nn.Module:
    """The network from faces_NCHW to logits_NC; any face of at least 16×16 pixels."""
    from torch import nn

    width, depth = int(knobs["width"] or 0), int(knobs["depth"] or 0)
    layers: list[nn.Module] = [nn.Conv2d(face.channels, width, 3, padding=1, bias=False)]
    layers += [nn.BatchNorm2d(width), nn.ReLU()]
    if knobs["pool"]:
        layers.append(nn.MaxPool2d(2))
    channels, places = width, [(stage, block) for stage, n in enumerate(BLOCKS_BY_STAGE[depth]) for block in range(n)]
    most_left_out = float(knobs["stochastic_depth"] or 0)
    for number, (stage, block) in enumerate(places):
        stride, inner = 2 if stage > 0 and block == 0 else 1, width * 2**stage
        if depth < BOTTLENECK_FROM:
            out, residual = inner, _basic(channels, inner, stride)
        else:
            out, residual = inner * EXPANSION, _bottleneck(channels, inner, stride)
        if knobs["squeeze_excitation"]:
            residual.append(_squeeze_excitation(out))
        if most_left_out > 0:
            residual.append(_stochastic_depth(most_left_out * (number + 1) / len(places)))
        layers.append(_block(residual, channels, out, stride))
        channels = out
    blocks = layers[-len(places) :]
    stages = [[block for block, (at, _) in zip(blocks, places, strict=True) if at == stage] for stage in range(4)]
    _pretrained.freeze(knobs, [layers[: -len(places)], *stages])
    layers += [
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(float(knobs["dropout"] or 0)),
        nn.Linear(channels, n_classes),
    ]
    return nn.Sequential(*layers)


def _basic(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """Two 3×3 convolutions.

    No batch norm starts at zero, as is usual in deep networks: with one block a stage, what is left then is
    nearly linear and hardly learns (500 synthetic faces after ten epochs: training accuracy .19 against .86).
    """
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
        nn.BatchNorm2d(channels_out),
    )


def _bottleneck(channels_in: int, inner: int, stride: int) -> nn.Sequential:
    """A 3×3 convolution of few channels between two 1×1; the stride is the 3×3's, so that no pixel is passed over."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(channels_in, inner, 1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, inner, 3, stride, 1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, inner * EXPANSION, 1, bias=False),
        nn.BatchNorm2d(inner * EXPANSION),
    )


def _squeeze_excitation(channels: int) -> nn.Module:
    from torchvision.ops import SqueezeExcitation

    module: nn.Module = SqueezeExcitation(channels, max(channels // 16, 4))
    return module


def _stochastic_depth(probability: float) -> nn.Module:
    from torchvision.ops import StochasticDepth

    module: nn.Module = StochasticDepth(probability, "row")
    return module


def _block(residual: nn.Module, channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """The residual beside a shortcut."""
    from torch import Tensor, nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.residual = residual
            self.shortcut: nn.Module = nn.Identity()
            if stride != 1 or channels_in != channels_out:
                pool = [nn.AvgPool2d(stride, ceil_mode=True)] if stride != 1 else []
                self.shortcut = nn.Sequential(
                    *pool, nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)
                )
            self.relu = nn.ReLU()

        def forward(self, faces_NCHW: Tensor) -> Tensor:
            out: Tensor = self.relu(self.residual(faces_NCHW) + self.shortcut(faces_NCHW))
            return out

    return Block()


_weights = _pretrained.Weights(
    "resnet",
    lambda knobs: f"resnet{knobs['depth']}",
    exist={"depth": (18, 34, 50), "width": (64,), "squeeze_excitation": (False,)},
    head="fc.",
    build=build,
)
problems, load_pretrained = _weights.problems, _weights.load
