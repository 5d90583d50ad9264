"""The facex_1 notebook's own network: four convolution blocks and two dense layers.

Source: the student notebook that this project grew from (64, 128, 512 and 512 filters of 3, 5, 3 and 3 pixels, each
  followed by batch norm, ReLU, max pooling and dropout; dense layers of 256 and 512). At `width` 1.0 the defaults are
  the notebook's network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.space import Choice, Config, Float, Knobs, Open, Value

if TYPE_CHECKING:
    from torch import nn

PRECISION = "bf16"
SPACE: Knobs = {
    "width": Choice((0.25, 0.5, 1.0), 0.5, "scales the number of filters; 1.0 is the notebook's"),
    "filters": Open(
        ("64-128-512-512", "64-128-256-512", "96-192-256-256"), "64-128-512-512", "of the four blocks, before `width`"
    ),
    "kernels": Choice(("3-3-3-3", "3-5-3-3", "5-5-3-3", "5-5-5-3"), "3-5-3-3", "pixels a side of each block's filters"),
    "dense": Open(("256-512", "128", "256", "512", "512-512"), "256-512", "units of the layers before the classifier"),
    "dropout": Float(0.0, 0.6, 0.25, doc="after every block and dense layer"),
}


def build(knobs: Config, n_classes: int, face: FaceShape = GREY_48) -> nn.Module:
    """The network from faces_NCHW to logits_NC; any face of at least 16×16 pixels."""
    from torch import nn

    width, dropout = float(knobs["width"] or 0), float(knobs["dropout"] or 0)
    layers: list[nn.Module] = []
    channels = face.channels
    for filters, kernel in zip(_numbers(knobs["filters"]), _numbers(knobs["kernels"]), strict=True):
        filters = round(filters * width)
        layers += [
            nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(filters),
            nn.MaxPool2d(2),
            nn.ReLU(),  # after pooling it gives the same from a quarter of the numbers
            nn.Dropout(dropout),
        ]
        channels = filters
    # 48×48 faces leave 3×3 positions; pooling to that size keeps the head's width for other sizes too.
    layers += [nn.AdaptiveAvgPool2d(3), nn.Flatten()]
    features = channels * 9
    for units in _numbers(knobs["dense"]):
        layers += [nn.Linear(features, units, bias=False), nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(dropout)]
        features = units
    return nn.Sequential(*layers, nn.Linear(features, n_classes))


def _numbers(said: Value) -> list[int]:
    """`3-5-3-3` as numbers."""
    return [int(number) for number in str(said).split("-")]
