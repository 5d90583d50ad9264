"""EfficientNet: depthwise convolutions whose depth and width grow together from b0 to b6.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019 (torchvision's
  layers). Adapted to small images: a stem of stride 1 leaves 48 pixels 3×3 positions at the end; the paper's stride of
  2 leaves 2×2 and costs a quarter. Faces keep their size from b0 to b6. ImageNet weights: torchvision's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.models import _pretrained
from facex_tune.space import Choice, Config, Float, Knobs

if TYPE_CHECKING:
    from torch import nn

PRECISION = "fp32"
HEAD_SPREAD = 0.01  # torchvision's for MobileNetV3
SPACE: Knobs = {
    "size": Choice(("b0", "b1", "b2", "b3", "b4", "b5", "b6"), "b0", "the paper's networks, ever deeper and wider"),
    "stem_stride": Choice((1, 2), 1, "of the first convolution; 2 costs a quarter"),
    "dropout": Float(0.0, 0.6, 0.2, doc="before the classifier"),
    "stochastic_depth": Float(0.0, 0.5, 0.1, doc="probability, rising with depth to this, that a block is skipped"),
    "pretrained": _pretrained.PRETRAINED,
    "frozen": _pretrained.FROZEN,
}


def build(knobs: Config, n_classes: int, face: FaceShape = GREY_48) -> nn.Module:
    """The network from faces_NCHW to logits_NC; any face of at least 16×16 pixels."""
    from torch import nn
    from torchvision import models
    from torchvision.models.efficientnet import MBConv

    from facex_tune.models._torchvision import face_stem, start_quietly

    network: nn.Module = getattr(models, f"efficientnet_{knobs['size']}")(
        num_classes=n_classes,
        dropout=float(knobs["dropout"] or 0),
        stochastic_depth_prob=float(knobs["stochastic_depth"] or 0),
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # torchvision's .01 of b5 and b6 outlasts a short trial
    start_quietly(network, MBConv)
    head = network.get_submodule("classifier.1")
    assert isinstance(head, nn.Linear)
    nn.init.normal_(head.weight, std=HEAD_SPREAD)  # not as widely as few classes would have it
    stem = network.get_submodule("features.0")
    assert isinstance(stem, nn.Sequential)
    first, stride = network.get_submodule("features.0.0"), int(knobs["stem_stride"] or 1)
    assert isinstance(first, nn.Conv2d)
    stem[0] = face_stem(first, stride, face)
    _pretrained.freeze(knobs, _pretrained.levels_of(network.get_submodule("features").children()))
    return network


_weights = _pretrained.Weights(
    "efficientnet",
    lambda knobs: f"efficientnet_{knobs['size']}",
    exist={"size": ("b0", "b1", "b2", "b3", "b4", "b5", "b6")},
    head="classifier.",
    build=build,
)
problems, load_pretrained = _weights.problems, _weights.load
