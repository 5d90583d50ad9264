"""ConvNeXt, from atto to tiny: 7×7 depthwise convolutions, layer norm and wide pointwise layers.

Source: Liu et al., "A ConvNet for the 2020s", CVPR 2022 (tiny; torchvision's layers); Woo et al., "ConvNeXt V2", CVPR
  2023 (the widths and depths of atto to nano, here with the first version's blocks). Adapted to small images: patches
  of 2 pixels in place of 4 leave 48 pixels 3×3 positions at the end. ImageNet weights: torchvision's, of tiny alone;
  patches of 2 take the filters of 4 folded, which is what those answer to a face of twice the size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.models import _pretrained
from facex_tune.space import Choice, Config, Float, Knobs

if TYPE_CHECKING:
    from torch import nn

PRECISION = "fp32"
WIDTH_AND_DEPTHS = {
    "atto": (40, (2, 2, 6, 2)),
    "femto": (48, (2, 2, 6, 2)),
    "pico": (64, (2, 2, 6, 2)),
    "nano": (80, (2, 2, 8, 2)),
    "tiny": (96, (3, 3, 9, 3)),
}
SPACE: Knobs = {
    "size": Choice(tuple(WIDTH_AND_DEPTHS), "atto", "the papers' networks, ever wider and deeper"),
    "patch": Choice((2, 4), 2, "pixels a side that the stem takes together; 4 costs a quarter"),
    "layer_scale": Choice((1e-6, 0.1, 1.0), 0.1, "what a block's residual starts with; 1e-6 is the paper's"),
    "stochastic_depth": Float(0.0, 0.5, 0.1, doc="probability that the last block is left out, earlier ones less"),
    "pretrained": _pretrained.PRETRAINED,
    "frozen": _pretrained.FROZEN,
}


def build(knobs: Config, n_classes: int, face: FaceShape = GREY_48) -> nn.Module:
    """The network from faces_NCHW to logits_NC; any face of at least 32×32 pixels."""
    from torch import nn
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    width, depths = WIDTH_AND_DEPTHS[str(knobs["size"])]
    widths = [width * 2**stage for stage in range(len(depths))]
    stages = [
        CNBlockConfig(here, following, depth)
        for here, following, depth in zip(widths, [*widths[1:], None], depths, strict=True)
    ]
    network: nn.Module = ConvNeXt(
        stages,
        stochastic_depth_prob=float(knobs["stochastic_depth"] or 0),
        layer_scale=float(knobs["layer_scale"] or 0),
        num_classes=n_classes,
    )
    stem = network.get_submodule("features.0")
    assert isinstance(stem, nn.Sequential)
    patch = int(knobs["patch"] or 0)
    patches = nn.Conv2d(face.channels, width, patch, patch)
    nn.init.trunc_normal_(patches.weight, std=0.02)
    nn.init.zeros_(patches.bias)  # type: ignore[arg-type]
    stem[0] = patches
    features = [network.get_submodule(f"features.{place}") for place in range(8)]
    _pretrained.freeze(knobs, [features[:1], features[1:2], features[2:4], features[4:6], features[6:]])
    return network


_weights = _pretrained.Weights(
    "convnext", lambda knobs: f"convnext_{knobs['size']}", exist={"size": ("tiny",)}, head="classifier.2.", build=build
)
problems, load_pretrained = _weights.problems, _weights.load
