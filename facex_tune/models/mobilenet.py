"""MobileNetV3: depthwise convolutions with squeeze-excitation, made for few operations.

Source: Howard et al., "Searching for MobileNetV3", ICCV 2019 (torchvision's layers). Adapted to small images: a stem of
  stride 1 leaves 48 pixels 3×3 positions at the end; the paper's stride of 2 leaves 2×2 and costs a quarter. Batch
  norm's momentum is torch's usual .1, since the paper's .01 outlasts a short trial. ImageNet weights: torchvision's, of
  width 1. From scratch its blocks start quietly, as EfficientNet's do: torchvision's start learns little in few epochs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.models import _pretrained
from facex_tune.space import Choice, Config, Float, Knobs

if TYPE_CHECKING:
    from torch import nn

PRECISION = "fp32"
SPACE: Knobs = {
    "size": Choice(("small", "large"), "small", "the paper's two networks"),
    "width": Choice((0.5, 0.75, 1.0), 1.0, "scales the number of channels; 1.0 is the paper's"),
    "stem_stride": Choice((1, 2), 1, "of the first convolution; 2 costs a quarter"),
    "dropout": Float(0.0, 0.6, 0.2, doc="before the classifier"),
    "pretrained": _pretrained.PRETRAINED,
    "frozen": _pretrained.FROZEN,
}


def build(knobs: Config, n_classes: int, face: FaceShape = GREY_48) -> nn.Module:
    """The network from faces_NCHW to logits_NC; any face of at least 16×16 pixels."""
    from functools import partial

    from torch import nn
    from torchvision import models
    from torchvision.models.mobilenetv3 import InvertedResidual

    from facex_tune.models._torchvision import face_stem, start_quietly

    make = {"small": models.mobilenet_v3_small, "large": models.mobilenet_v3_large}[str(knobs["size"])]
    network: nn.Module = make(
        num_classes=n_classes,
        width_mult=float(knobs["width"] or 0),
        dropout=float(knobs["dropout"] or 0),
        norm_layer=partial(nn.BatchNorm2d, eps=1e-3),
    )
    start_quietly(network, InvertedResidual)
    stem = network.get_submodule("features.0")
    assert isinstance(stem, nn.Sequential)
    first, stride = network.get_submodule("features.0.0"), int(knobs["stem_stride"] or 1)
    assert isinstance(first, nn.Conv2d)
    stem[0] = face_stem(first, stride, face)
    _pretrained.freeze(knobs, _pretrained.levels_of(network.get_submodule("features").children()))
    return network


_weights = _pretrained.Weights(
    "mobilenet",
    lambda knobs: f"mobilenet_v3_{knobs['size']}",
    exist={"size": ("small", "large"), "width": (1.0,)},
    head="classifier.3.",
    build=build,
)
problems, load_pretrained = _weights.problems, _weights.load
