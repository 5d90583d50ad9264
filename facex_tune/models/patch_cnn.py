"""A plain convolutional network behind a stem of patches, made for CPUs: few positions, many channels.

Source: the patch stem, the groups of convolution, max pooling, batch norm, GELU, convolution, and the scaled logits
  follow Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, its three convolutions a group with a shortcut
  too; the global maximum is Page's, "How to Train Your ResNet", 2019. Adapted to grey faces: patches do not overlap,
  and are of 3 pixels, which leave 48 pixels 16×16, 8×8, 4×4 and 2×2 positions; filters of the stem are trained, not
  whitened; widths double. On a CPU most of a small residual network's step are passes over maps of 48×48 or 24×24
  positions, not convolutions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.space import Choice, Config, Float, Knobs

if TYPE_CHECKING:
    from torch import nn

PRECISION = "bf16"
SPACE: Knobs = {
    "width": Choice((32, 48, 64, 96, 128), 64, "channels of the first group; each further group doubles them"),
    "depth": Choice((2, 3), 2, "convolutions a group; the last of three has a shortcut around it and the second"),
    "patch": Choice((2, 3, 4), 3, "pixels a side that the stem takes together; 2 costs twice as much as 3"),
    "activation": Choice(("gelu", "silu", "relu"), "gelu", "after each normalisation; relu saves a twentieth"),
    "dropout": Float(0.0, 0.6, 0.0, doc="before the classifier"),
}
GROUPS, LOGIT_SCALE = 3, 0.25


def build(knobs: Config, n_classes: int, face: FaceShape = GREY_48) -> nn.Module:
    """The network from faces_NCHW to logits_NC; any face of at least 32×32 pixels."""
    from torch import nn

    width, patch, depth = (int(knobs[name] or 0) for name in ("width", "patch", "depth"))
    channels = width // 2
    layers: list[nn.Module] = [nn.Conv2d(face.channels, channels, patch, patch), _activation(knobs)]
    for group in range(GROUPS):
        layers.append(_group(channels, width * 2**group, depth, knobs))
        channels = width * 2**group
    layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(float(knobs["dropout"] or 0))]
    return nn.Sequential(*layers, _classifier(channels, n_classes))


def _group(channels_in: int, channels_out: int, depth: int, knobs: Config) -> nn.Module:
    """The first convolution is pooled before it is normalised: a quarter of the numbers to normalise."""
    from torch import Tensor, nn

    from facex_tune.models._small_maps import SmallMapConv2d

    def normalised() -> list[nn.Module]:
        return [SmallMapConv2d(channels_out, channels_out), nn.BatchNorm2d(channels_out)]

    class Group(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pooled = [SmallMapConv2d(channels_in, channels_out), nn.MaxPool2d(2), nn.BatchNorm2d(channels_out)]
            self.pooled = nn.Sequential(*pooled, _activation(knobs))
            inner = [*normalised(), _activation(knobs)] if depth > 2 else []
            self.residual = nn.Sequential(*inner, *normalised())
            self.activation = _activation(knobs)

        def forward(self, maps_NCHW: Tensor) -> Tensor:
            pooled = self.pooled(maps_NCHW)
            refined = self.residual(pooled)
            out: Tensor = self.activation(refined + pooled if depth > 2 else refined)
            return out

    return Group()


def _classifier(channels: int, n_classes: int) -> nn.Module:
    """A linear layer whose logits are scaled: maxima are large and all of a kind, and would move them too fast."""
    from torch import Tensor, nn

    class Scaled(nn.Linear):
        def forward(self, features_NF: Tensor) -> Tensor:
            return super().forward(features_NF) * LOGIT_SCALE

    return Scaled(channels, n_classes)


def _activation(knobs: Config) -> nn.Module:
    from torch import nn

    kinds: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "silu": nn.SiLU, "relu": nn.ReLU}
    return kinds[str(knobs["activation"])]()
