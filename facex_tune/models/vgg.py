"""VGG with batch norm: plain 3×3 convolutions and max pooling, for 48×48 faces.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015
  (configurations A, B, D and E, torchvision's layers). Adapted to small images: without the last of the five poolings,
  48 pixels leave 3×3 positions in place of one, which are averaged; one dense layer, or none, in place of two of 4096.
  ImageNet weights: torchvision's with batch norm, of width 1, without the dense layers.
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
    "depth": Choice((11, 13, 16, 19), 11, "weighted layers of the paper's configuration"),
    "width": Choice((0.25, 0.5, 1.0), 0.5, "scales the number of filters; 1.0 is the paper's"),
    "head": Choice((0, 128, 256, 512), 256, "units of the dense layer before the classifier; 0 has none"),
    "dropout": Float(0.0, 0.6, 0.3, doc="before each layer of the head"),
    "pretrained": _pretrained.PRETRAINED,
    "frozen": _pretrained.FROZEN,
}
CONFIGURATION = {11: "A", 13: "B", 16: "D", 19: "E"}


def build(knobs: Config, n_classes: int, face: FaceShape = GREY_48) -> nn.Module:
    """The network from faces_NCHW to logits_NC; any face of at least 16×16 pixels."""
    from torch import nn
    from torchvision.models import vgg

    from facex_tune.models._torchvision import face_stem

    width, head, dropout = float(knobs["width"] or 0), int(knobs["head"] or 0), float(knobs["dropout"] or 0)
    plan = vgg.cfgs[CONFIGURATION[int(knobs["depth"] or 0)]][:-1]
    scaled = [each if each == "M" else round(each * width) for each in plan]
    features = vgg.make_layers(scaled, batch_norm=True)
    features[0] = face_stem(features[0], 1, face)
    for module in features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    _pretrained.freeze(knobs, _pretrained.levels_of(features))
    channels = scaled[-1]
    layers: list[nn.Module] = [*features, nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if head:
        layers += [nn.Dropout(dropout), nn.Linear(channels, head, bias=False), nn.BatchNorm1d(head), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(head or channels, n_classes))


_weights = _pretrained.Weights(
    "vgg",
    lambda knobs: f"vgg{knobs['depth']}_bn",
    exist={"depth": (11, 13, 16, 19), "width": (1.0,)},
    head="classifier.",
    build=build,
)
problems, load_pretrained = _weights.problems, _weights.load
