"""Networks that start from weights trained elsewhere: knobs, loading, stems, frozen levels.

Weights come from torchvision's ImageNet files or from a model that this package trained. Everything up to the head must
fit; the head always starts anew for torchvision's, and where the number of classes differs for this package's own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from facex_tune.emotions import GREY_48, RGB, FaceShape
from facex_tune.errors import InputError
from facex_tune.models import _weights
from facex_tune.space import Choice, Config, Knob, Knobs, Open, Value
from facex_tune.storage import patience

if TYPE_CHECKING:
    from torch import Tensor, nn

Tensors = dict[str, "Tensor"]
LEVELS = 5
PRETRAINED = Open(
    (False, _weights.IMAGENET),
    False,
    "start from weights: imagenet (from torch's cache), or a file of torchvision's or of this package",
    also="a .safetensors or .pth file",
    is_path=True,
)
FROZEN = Open(
    tuple(range(LEVELS + 1)),
    0,
    "of pretrained weights: how many of the network's five levels, from the input, stay as they are",
)
Scale = float | tuple[float, ...]
# What torchvision's ImageNet weights expect of each colour, and of grey by their mean.
IMAGENET_MEAN_3, IMAGENET_STD_3 = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Loaded:
    """Weights that a network starts from.

    Attributes:
        mean, std: what they expect pixels in [0, 1] to be scaled by; in colour one number a channel.
        file: where they came from.
        sha256: the file's fingerprint.
    """

    mean: Scale
    std: Scale
    file: str
    sha256: str


@dataclass(frozen=True)
class Weights:
    """How a part's networks correspond to torchvision's.

    Attributes:
        part: its name.
        architecture: knobs -> the name of torchvision's network.
        exist: knob -> its values of which ImageNet weights exist; these knobs decide what fits.
        head: prefix of torchvision's names that belong to the classifier.
        build: the part's own.
    """

    part: str
    architecture: Callable[[Config], str]
    exist: Mapping[str, Sequence[Value]]
    head: str
    build: Callable[[Config, int, FaceShape], nn.Module]

    def load(self, network: nn.Module, knobs: Config) -> Loaded:
        """Puts the weights that `knobs["pretrained"]` means into a network that `build` made.

        Raises:
            InputError: they are not here or do not fit.
        """
        tensors, loaded = self._fitted(network, knobs)
        network.load_state_dict(tensors, strict=False)  # the head may be missing; `_fitted` refuses the rest
        return loaded

    def problems(self, knobs: Knobs, face: FaceShape = GREY_48) -> list[str]:
        """What would stop a study with these ranges: weights that are not here or fit no network of them."""
        wanted = [value for value in options(knobs["pretrained"]) if value]
        if not wanted:
            return _frozen_in_vain(self.part, knobs)
        import torch

        if _weights.IMAGENET in wanted and (lacking := self._do_not_exist(knobs)):
            return lacking
        found: list[str] = []
        usual = {name: knob.default for name, knob in knobs.items()}
        ranges = {"pretrained": tuple(wanted), **{name: options(knobs[name]) for name in self.exist}}
        combinations = math.prod(map(len, ranges.values()))
        for values in itertools.product(*ranges.values()):
            patience.about_to_check(f"model.{self.part}", combinations)
            chosen = usual | dict(zip(ranges, values, strict=True))
            with torch.device("meta"):
                network = self.build(chosen, 7, face)
            try:
                self._fitted(network, chosen)
            except InputError as error:
                found += [f"model.{self.part}.{line}" for line in error.problems]
        return list(dict.fromkeys(found))

    def _do_not_exist(self, knobs: Knobs) -> list[str]:
        return [
            f"model.{self.part}.{name}: no ImageNet weights exist for {', '.join(map(str, missing))} (they do for "
            f"{', '.join(map(str, exist))}); narrow it, or set pretrained: false"
            for name, exist in self.exist.items()
            if (missing := [value for value in options(knobs[name]) if value not in exist])
        ]

    def _fitted(self, network: nn.Module, knobs: Config) -> tuple[dict[str, Tensor], Loaded]:
        """The weights under the network's own names, and their origin."""
        architecture = self.architecture(knobs)
        path = _weights.locate(str(knobs["pretrained"]), architecture)
        state, own = _weights.read(path), network.state_dict()
        if {"mean", "std"} <= state.keys():
            found, anew = _of_this_package(own, state)
            mean, std = scale_of(state, in_colour(own), path)
        else:
            found, anew = _of_torchvision(own, state, self._names(architecture))
            mean, std = (IMAGENET_MEAN_3, IMAGENET_STD_3) if in_colour(own) else grey_scale()
        expected = f"torchvision's {architecture}, or this package's {self.part} of equal knobs"
        must_fit(own, found, anew, f"{path} does not fit; expected is {expected}")
        return found, Loaded(mean, std, str(path), _weights.sha256(path))

    def _names(self, architecture: str) -> list[str]:
        """torchvision's names in the order of its layers, without the head; none of what it has not."""
        import torch
        from torchvision import models

        if architecture not in models.list_models():
            return []
        with torch.device("meta"):
            names: list[str] = list(models.get_model(architecture).state_dict())
        return [name for name in names if not name.startswith(self.head)]


def freeze(knobs: Config, levels: Sequence[Iterable[nn.Module]]) -> None:
    """Takes the first levels out of training where pretrained weights are asked for; `classifier.Classifier` keeps
    what is frozen in evaluation mode, so that batch norms keep their statistics too.
    """
    if knobs["pretrained"]:
        for level in levels[: int(knobs["frozen"] or 0)]:
            for module in level:
                module.requires_grad_(False)


def levels_of(features: Iterable[nn.Module]) -> list[list[nn.Module]]:
    """A network's features by resolution: each that halves it begins a level."""
    levels: list[list[nn.Module]] = [[]]
    for feature in features:
        if levels[0] and any(_stride(module) > 1 for module in feature.modules()):
            levels.append([])
        levels[-1].append(feature)
    return levels


def fold(
    weight_O3HW: Tensor,
    pixels: int,
    mean_3: Sequence[float] = IMAGENET_MEAN_3,
    std_3: Sequence[float] = IMAGENET_STD_3,
) -> tuple[Tensor, Tensor]:
    """A colour stem for grey faces: what it answers to a grey face in three equal channels.

    In colour each channel is scaled by its own mean and deviation, here the face by the mean of the three; what that
    leaves over is one number a filter. A filter wider than `pixels` answers as it would to a face enlarged that much by
    repeating pixels: its taps that fall on one pixel are added up.

    Returns:
        weight_O1KK of K = `pixels`, shift_O to be added to the answers.
    """
    means_3, stds_3 = weight_O3HW.new_tensor(mean_3), weight_O3HW.new_tensor(std_3)
    weight_O1HW = (weight_O3HW * (stds_3.mean() / stds_3)[:, None, None]).sum(1, keepdim=True)
    shift_O = (weight_O3HW.sum((2, 3)) * (means_3.mean() - means_3) / stds_3).sum(1)
    return narrowed(weight_O1HW, pixels), shift_O


def narrowed(weight_OIHW: Tensor, pixels: int) -> Tensor:
    """Filters of `pixels` a side that answer as wider ones do to a face enlarged that much by repeating pixels."""
    return _narrowed(_narrowed(weight_OIHW, pixels, 2), pixels, 3)


def scale_of(state: Mapping[str, Tensor], colour: bool, path: object) -> tuple[Scale, Scale]:
    """Mean and standard deviation that stand beside the tensors of a model that was trained here.

    Raises:
        InputError: they are of faces with another number of channels.
    """
    if any(state[name].numel() != (RGB if colour else 1) for name in ("mean", "std")):
        here, there = ("three, one a channel", "colour") if colour else ("one number each", "grey")
        raise InputError(f"pretrained: {path} holds mean and std, which are {here} in a model of {there} faces")
    mean, std = (
        float(each) if each.numel() == 1 else tuple(each.flatten().tolist()) for each in (state["mean"], state["std"])
    )
    return mean, std


def in_colour(own: Mapping[str, Tensor]) -> bool:
    """Whether a network's first filters, of four axes, read three channels."""
    return next((tensor.shape[1] == RGB for tensor in own.values() if tensor.ndim == 4), False)


def grey_scale() -> tuple[float, float]:
    """Mean and standard deviation of grey pixels as ImageNet's weights expect them."""
    return sum(IMAGENET_MEAN_3) / 3, sum(IMAGENET_STD_3) / 3


def _narrowed(weight: Tensor, taps: int, dim: int) -> Tensor:
    """Fewer taps along one dimension, those that fall together added up."""
    import torch

    wide = weight.shape[dim]
    if wide <= taps:
        return weight
    falls_on = ((torch.arange(wide) + 0.5) * taps / wide).long()
    shape = [taps if place == dim else size for place, size in enumerate(weight.shape)]
    return weight.new_zeros(shape).index_add_(dim, falls_on, weight)


def _of_this_package(own: Tensors, state: Tensors) -> tuple[Tensors, set[str]]:
    """A model that was trained here: its body's tensors, and those of ours that start anew, which are the classifier's
    where it answers other classes.
    """
    found = body_of(state)
    classifier = list(own)[-2:]
    if any(name in found and found[name].shape[:1] != own[name].shape[:1] for name in classifier):
        return {name: tensor for name, tensor in found.items() if name not in classifier}, set(classifier)
    return found, set()


def body_of(state: Tensors) -> Tensors:
    """A trained model's tensors under the names that `build` gives them."""
    return {name.removeprefix("body."): tensor for name, tensor in state.items() if name.startswith("body.")}


def _of_torchvision(own: Tensors, state: Tensors, names: Sequence[str]) -> tuple[Tensors, set[str]]:
    """torchvision's tensors under our names, which come in the same order, the stem folded to our width and, for
    grey faces, to grey; and ours that start anew: what follows, if it is a head and no convolution.
    """
    ours = list(own)
    found = {mine: state[theirs] for mine, theirs in zip(ours, names, strict=False) if theirs in state}
    stem = ours[0]
    if stem in found and found[stem].ndim == 4 and found[stem].shape[1] == RGB == own[stem].shape[1]:
        found[stem] = narrowed(found[stem].float(), own[stem].shape[-1])
    elif stem in found and found[stem].ndim == 4 and found[stem].shape[1] == 3:
        found[stem], shift_O = fold(found[stem].float(), own[stem].shape[-1])
        bias = stem.replace(".weight", ".bias")
        norm = next((name for name in ours if name.endswith("running_mean")), "")  # it subtracts its mean
        name, sign = (bias, 1) if bias in own else (norm, -1)
        if name in found and found[name].shape == shift_O.shape:  # `must_fit` tells of one that does not
            found[name] = found[name] + sign * shift_O
    return found, {name for name in ours[len(names) :] if own[name].ndim < 4}


def must_fit(own: Tensors, found: Tensors, anew: set[str], fault: str) -> None:
    """Every tensor that does not start anew is there, in its shape, and nothing else is. Batch norms' counts of batches
    may be missing: files from before torch 0.4.1 have none, and nothing of ours reads them.

    Raises:
        InputError: one is not.
    """
    strange = [name for name in found if name not in own or found[name].shape != own[name].shape]
    wanted = [name for name in own if not name.endswith("num_batches_tracked")]
    missing = [name for name in wanted if name not in found and name not in anew]
    if strange or missing:
        name = (strange + missing)[0]
        here, there = (tuple(each[name].shape) if name in each else "nothing" for each in (own, found))
        raise InputError(
            f"pretrained: {fault}; {len(strange) + len(missing)} tensors differ, first {name}: {there} in the file, "
            f"{here} in the network"
        )


def _frozen_in_vain(part: str, knobs: Knobs) -> list[str]:
    if not any(options(knobs["frozen"])):
        return []
    return [f"model.{part}.frozen: only pretrained weights are frozen, and none are asked for; set pretrained as well"]


def options(knob: Knob) -> tuple[Any, ...]:
    """The values of a knob that has a few."""
    assert isinstance(knob, Choice)
    return knob.options


def _stride(module: nn.Module) -> int:
    stride = getattr(module, "stride", 1)
    return int(stride[0] if isinstance(stride, tuple) else stride)
