"""Architectures against the sizes that their papers and libraries tell, and against what their knobs promise.

Counted on the meta device: nothing is computed. Published counts are for 1,000 classes and colour; the difference is
reckoned here from the classifier and the stem.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from facex_tune import parts
from facex_tune.models._small_maps import LARGEST, SmallMapConv2d
from facex_tune.space import Config

POOLS = nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d


def knobs(name: str, **changes: object) -> Config:
    usual = {knob: space.default for knob, space in parts.model(name).SPACE.items()}
    return {**usual, **changes}  # type: ignore[dict-item]


def built(name: str, n_classes: int = 7, **changes: object) -> nn.Module:
    network: nn.Module = parts.model(name).build(knobs(name, **changes), n_classes)
    return network


def parameters(name: str, n_classes: int = 1000, **changes: object) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in built(name, n_classes, **changes).parameters())


@pytest.mark.parametrize(("size", "published"), [("small", 2_542_856), ("large", 5_483_032)])
def test_mobilenet_is_the_papers_but_for_its_grey_stem(size: str, published: int) -> None:
    assert parameters("mobilenet", size=size) == published - 2 * 16 * 9


@pytest.mark.parametrize(
    ("size", "published", "stem"), [("b0", 5_288_548, 32), ("b3", 12_233_232, 40), ("b6", 43_040_704, 56)]
)
def test_efficientnet_is_the_papers_but_for_its_grey_stem(size: str, published: int, stem: int) -> None:
    assert parameters("efficientnet", size=size) == published - 2 * stem * 9


@pytest.mark.parametrize("size", ["b0", "b6"])
def test_efficientnets_norms_learn_within_a_short_trial(size: str) -> None:
    with torch.device("meta"):
        norms = [module for module in built("efficientnet", size=size).modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}


def test_convnext_tiny_is_the_papers_but_for_its_patches() -> None:
    assert parameters("convnext", size="tiny", patch=4) == 28_589_128 - 2 * 96 * 16


@pytest.mark.parametrize(("size", "millions"), [("atto", 3.7), ("femto", 5.2), ("pico", 9.1), ("nano", 15.6)])
def test_convnext_is_as_large_as_the_second_paper_says(size: str, millions: float) -> None:
    """Their table, of the second version's blocks, whose response normalisation adds a percent."""
    assert parameters("convnext", size=size, patch=4) / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize(("depth", "published"), [(11, 9_220_480), (13, 9_404_992), (16, 14_714_688), (19, 20_024_384)])
def test_vggs_filters_are_the_papers(depth: int, published: int) -> None:
    """The convolutions in colour without their norms; each norm has two numbers a filter."""
    with torch.device("meta"):
        network = built("vgg", depth=depth, width=1.0)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == depth - 3
    found = sum(parameter.numel() for module in convolutions for parameter in module.parameters())
    assert found == published - 2 * 64 * 9


@pytest.mark.parametrize("head", [0, 128])
def test_vggs_head_is_one_layer_or_none(head: int) -> None:
    layers = [module for module in built("vgg", head=head).modules() if isinstance(module, nn.Linear)]
    assert [layer.out_features for layer in layers] == ([head, 7] if head else [7])


@pytest.mark.parametrize(("depth", "published"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_resnet_is_the_papers_but_for_stem_and_first_shortcut(depth: int, published: int) -> None:
    """A 3×3 grey stem in place of a 7×7 in colour; all shortcuts that change the size are 1×1 convolutions in both."""
    assert parameters("resnet", depth=depth, width=64) == published - 64 * 3 * 49 + 64 * 9


def test_squeeze_excitation_adds_two_small_layers_to_each_block() -> None:
    plain, squeezed = (parameters("resnet", depth=10, width=64, squeeze_excitation=on) for on in (False, True))
    squeezes = {64: 4, 128: 8, 256: 16, 512: 32}
    assert squeezed - plain == sum(2 * wide * few + wide + few for wide, few in squeezes.items())


def test_blocks_are_left_out_more_often_the_deeper() -> None:
    network = built("resnet", depth=18, stochastic_depth=0.4)
    found = [module.p for module in network.modules() if type(module).__name__ == "StochasticDepth"]
    assert found == pytest.approx([0.4 * place / 8 for place in range(1, 9)])


def test_a_block_left_out_is_its_shortcut_alone() -> None:
    network = built("resnet", depth=10, dropout=0.0, stochastic_depth=0.5).train()
    face = torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    many = network(face.expand(64, 1, 48, 48))
    assert len(torch.unique(many.detach().round(decimals=3), dim=0)) > 1, "equal faces take different ways"
    network.eval()
    assert torch.allclose(network(face), network(face))


@pytest.mark.parametrize(
    ("name", "changes", "positions"),
    [
        ("vgg", {}, 3),
        ("mobilenet", {}, 3),
        ("mobilenet", {"stem_stride": 2}, 2),
        ("efficientnet", {}, 3),
        ("efficientnet", {"stem_stride": 2}, 2),
        ("convnext", {}, 3),
        ("convnext", {"patch": 4}, 1),
        ("resnet", {}, 3),
        ("resnet", {"pool": False, "depth": 50}, 6),
        ("patch_cnn", {}, 2),
        ("patch_cnn", {"patch": 2, "depth": 3}, 3),
        ("patch_cnn", {"patch": 4}, 1),
    ],
)
def test_small_faces_keep_positions_to_the_end(name: str, changes: dict[str, object], positions: int) -> None:
    """What the last pooling takes together, of 48 pixels."""
    seen: list[int] = []

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0].shape[-1])

    with torch.device("meta"):
        network = built(name, 7, **changes).eval()
        pools = [module for module in network.modules() if isinstance(module, POOLS)]
        pools[-1].register_forward_pre_hook(note)
        network(torch.empty(2, 1, 48, 48))
    assert seen == [positions]


def test_a_patch_cnn_has_two_or_three_convolutions_a_group() -> None:
    for depth in (2, 3):
        with torch.device("meta"):
            network = built("patch_cnn", depth=depth)
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        assert [each.out_channels for each in convolutions] == [32, *[64] * depth, *[128] * depth, *[256] * depth]


@pytest.mark.parametrize("side", [1, 2, LARGEST, LARGEST + 1])
@pytest.mark.parametrize("batch", [1, 5, 32])
def test_gradients_on_small_maps_are_those_of_any_convolution(side: int, batch: int) -> None:
    """Rounded to bf16, whose eight bits are what the tolerance is."""
    torch.manual_seed(0)
    quick = SmallMapConv2d(6, 10).to(memory_format=torch.channels_last)
    plain = nn.Conv2d(6, 10, 3, padding=1, bias=False)
    plain.load_state_dict(quick.state_dict())
    found = []
    for layer in (quick, plain):
        maps = torch.randn(batch, 6, side, side, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            answers = layer(maps)
        answers.float().square().sum().backward()
        assert maps.grad is not None
        assert layer.weight.grad is not None
        assert layer.weight.grad.dtype == torch.float32
        found.append((answers.detach().float(), maps.grad, layer.weight.grad))
    for mine, theirs in zip(*found, strict=True):
        assert mine.shape == theirs.shape
        assert float((mine - theirs).abs().max() / theirs.abs().max()) < 2**-6


def test_small_maps_go_their_own_way_only_where_it_pays() -> None:
    """Trained in bf16 on a CPU; what is frozen, evaluated or exact is any convolution."""
    layer, maps = SmallMapConv2d(4, 4), torch.rand(2, 4, 3, 3)

    def way() -> str:
        done = layer(maps).grad_fn
        return "None" if done is None else type(done.next_functions[0][0] or done).__name__

    assert "Windows" not in way(), "fp32"
    with torch.autocast("cpu", torch.bfloat16):
        assert "Windows" in way()
        with torch.no_grad():
            assert way() == "None"
        layer.requires_grad_(False)
        assert "Windows" not in way(), "frozen"


def test_no_gradient_goes_to_faces_that_need_none() -> None:
    layer = SmallMapConv2d(1, 4)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.rand(2, 1, 3, 3)).float().sum().backward()
    assert layer.weight.grad is not None
