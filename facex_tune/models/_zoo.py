"""timm's networks for small faces: what `timm.py` does once it is known that timm is there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from facex_tune.emotions import GREY_48, RGB, FaceShape
from facex_tune.errors import InputError, one_line
from facex_tune.models import _pretrained, _weights, _zoo_table
from facex_tune.space import Config, Knobs
from facex_tune.storage import patience

N_CLASSES = 7
TRIED = (1, 5 / 6, 2 / 3)  # of a face's side: progressive training starts with smaller faces
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


class Unfit(InputError):
    """A network that cannot be built, or does not work, as its knobs say.

    Args:
        reason: goes on after the network's name.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"name: {name} {reason}")


class OneSize(nn.Module):
    """A network that takes faces of `pixels` a side alone, for faces of any size: they are resized."""

    def __init__(self, network: nn.Module, pixels: int) -> None:
        super().__init__()
        self.network, self.pixels = network, pixels

    def forward(self, faces_NCHW: Tensor) -> Tensor:
        if faces_NCHW.shape[-2:] != (self.pixels, self.pixels):
            size = (self.pixels, self.pixels)
            faces_NCHW = nn.functional.interpolate(faces_NCHW, size, mode="bilinear", antialias=True)
        logits_NC: Tensor = self.network(faces_NCHW)
        return logits_NC


def build(knobs: Config, n_classes: int, face: FaceShape = GREY_48) -> nn.Module:
    """See `timm.build`."""
    name, halve = str(knobs["name"]), bool(knobs["halve_stem"])
    said: dict[str, Any] = {"num_classes": n_classes, "in_chans": face.channels, "drop_rate": knobs["dropout"]}
    if knobs["stochastic_depth"]:
        said["drop_path_rate"] = knobs["stochastic_depth"]
    if not _has_one_size(name):
        network = _created(name, **said)
        if halve:
            _halve_first_stride(network, face.channels)
        _freeze(network, knobs)
        return network
    patch = _patch(name) if halve else None
    said["img_size"] = 2 * face.size if halve and patch is None else face.size
    if patch is not None:
        said["patch_size"] = patch // 2
    network = _created(name, **said)
    if halve and patch is None:  # faces then give the positions that ones twice as large would
        _halve_first_stride(network, face.channels)
    _freeze(network, knobs)
    return OneSize(network, face.size)


def load(network: nn.Module, knobs: Config) -> _pretrained.Loaded:
    """See `timm.load_pretrained`."""
    tensors, loaded = _fitted(network, knobs)
    network.load_state_dict(tensors, strict=False)  # the classifier may be missing; `_fitted` refuses the rest
    return loaded


def problems(knobs: Knobs, face: FaceShape = GREY_48) -> list[str]:
    """A line for each combination of ranges that cannot be built, does not take small faces, or lacks its weights."""
    found: list[str] = []
    usual = {name: knob.default for name, knob in knobs.items()}
    usual["frozen"] = max(_pretrained.options(knobs["frozen"]))
    ranges = {
        name: _pretrained.options(knobs[name]) for name in ("name", "halve_stem", "stochastic_depth", "pretrained")
    }
    combinations = math.prod(map(len, ranges.values()))
    for values in itertools.product(*ranges.values()):
        patience.about_to_check("model.timm", combinations)
        chosen = usual | dict(zip(ranges, values, strict=True))
        try:
            network = _tried(chosen, face)
            if chosen["pretrained"]:
                _fitted(network, chosen)
        except InputError as error:
            found += error.problems
    if not any(ranges["pretrained"]) and any(_pretrained.options(knobs["frozen"])):
        found.append("frozen: only pretrained weights are frozen, and none are asked for; set pretrained as well")
    return list(dict.fromkeys(found))


def _tried(knobs: Config, face: FaceShape) -> nn.Module:
    """The network without memory, after it took faces of every size that training shows.

    Raises:
        InputError: it does not; says what to set instead, which was tried the same way.
    """
    try:
        return _fit(knobs, face)
    except Unfit as error:
        raise InputError(_advice(knobs, face, error.reason)) from error


def _fit(knobs: Config, face: FaceShape) -> nn.Module:
    """What `shown` gives, unless this version of timm has failed in training since."""
    name, network = str(knobs["name"]), shown(knobs, face)
    if failure := _zoo_table.failure(name, bool(knobs["halve_stem"]), timm.__version__):
        raise Unfit(name, f"failed when it was trained once ({failure})")
    return network


def shown(knobs: Config, face: FaceShape = GREY_48) -> nn.Module:
    """The network without memory, after it took faces of every size that training shows.

    Raises:
        Unfit: it does not, or cannot be built.
    """
    name = str(knobs["name"])
    with torch.device("meta"):
        network = build(knobs, N_CLASSES, face).eval()
        for pixels in (round(face.size * share) for share in TRIED):
            try:
                logits_NC = network(torch.empty(2, face.channels, pixels, pixels))
            except Exception as error:  # whatever a foreign network says of a size that it was not made for
                raise Unfit(name, f"does not take faces of {pixels}×{pixels} ({_in_short(error)})") from error
            if not isinstance(logits_NC, Tensor) or logits_NC.shape != (2, N_CLASSES):
                raise Unfit(name, f"does not answer faces of {pixels}×{pixels} with a logit for each class")
    return network


def _advice(knobs: Config, face: FaceShape, reason: str) -> str:
    """What is wrong with a network, and the settings to change, which were tried; or that none help."""
    name, stem = str(knobs["name"]), {"halve_stem": not knobs["halve_stem"]}
    depth: dict[str, Any] = {"stochastic_depth": 0} if knobs["stochastic_depth"] else {}
    for change in (depth, stem, stem | depth) if depth else (stem,):
        if _works(knobs | change, face):
            said = {knob: knobs[knob] for knob in change}
            return f"name: {name} {reason} with {_yaml(said)}; set {_yaml(change)}, which works"
    return (
        f"name: {name} {reason} with {_yaml({'halve_stem': knobs['halve_stem']})}, and fails the other way too: "
        f"no setting makes it take small faces; {_zoo_table.instead_of(name)}"
    )


def _works(knobs: Config, face: FaceShape) -> bool:
    try:
        _fit(knobs, face)
    except InputError:
        return False
    return True


def _yaml(said: Mapping[str, object]) -> str:
    return " and ".join(f"{knob}: {str(value).lower()}" for knob, value in said.items())


def _created(name: str, **said: Any) -> nn.Module:
    """timm's network.

    Raises:
        Unfit: timm refuses to build it so, with whatever exception: it has no stochastic depth, no such patches, …
    """
    try:
        network: nn.Module = timm.create_model(name, **said)
    except Exception as error:
        patches = f" in patches of {said['patch_size']} pixels" if "patch_size" in said else ""
        raise Unfit(name, f"cannot be built this way{patches} ({_in_short(error)})") from error
    return network


def _in_short(error: Exception) -> str:
    """What a foreign error says; xcit raises a string, and Python then complains of that alone."""
    reason = " ".join(str(error).split())[:160]
    return "timm gives no reason" if "must derive from BaseException" in reason else reason or type(error).__name__


def _has_one_size(name: str) -> bool:
    cfg = timm.models.get_pretrained_cfg(name)
    return bool(cfg is not None and cfg.fixed_input_size)


def _patch(name: str) -> int | None:
    """Pixels a side of a transformer's patches; None where it has no such layer."""
    with torch.device("meta"):
        network = timm.create_model(name)
    layers: list[Any] = [getattr(network, layer, None) for layer in ("patch_embed", "stem")]
    patch = next((layer.patch_size for layer in layers if hasattr(layer, "patch_size")), None)
    return int(patch[0] if isinstance(patch, tuple) else patch) if patch is not None else None


def _halve_first_stride(network: nn.Module, channels: int) -> None:
    """The first convolution that passes pixels over, and those beside it that read the face too."""
    strided = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.stride[0] > 1 and module.stride[0] == module.stride[1]
    }
    if not strided:
        return
    first = next(iter(strided))
    beside = [name for name, module in strided.items() if module.in_channels == channels == strided[first].in_channels]
    for name in dict.fromkeys([first, *beside]):
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, _halved(strided[name]))


def _halved(convolution: nn.Conv2d) -> nn.Conv2d:
    stride = convolution.stride[0]
    if convolution.kernel_size != convolution.stride:
        convolution.stride = (stride // 2, stride // 2)
        return convolution
    patch = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        stride // 2,
        stride // 2,
        bias=convolution.bias is not None,
        device=convolution.weight.device,
    )
    nn.init.trunc_normal_(patch.weight, std=0.02)
    if patch.bias is not None:
        nn.init.zeros_(patch.bias)
    return patch


def _freeze(network: nn.Module, knobs: Config) -> None:
    """So many fifths of the network's own groups of layers, from the input; never the classifier's."""
    levels = int(knobs["frozen"] or 0)
    if not knobs["pretrained"] or not levels:
        return
    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        raise InputError(f"frozen: timm does not tell the order of {knobs['name']}'s layers; set frozen: 0")
    groups = timm.models.group_parameters(network, matcher(coarse=True))
    classifier = _classifier(network)
    body = [names for _, names in sorted(groups.items()) if not any(name.startswith(classifier) for name in names)]
    for names in body[: round(len(body) * levels / _pretrained.LEVELS)]:
        for name in names:
            network.get_parameter(name).requires_grad_(False)


def _classifier(network: nn.Module) -> tuple[str, ...]:
    """Prefixes of the names of a network's last layers, which answer the classes."""
    said = getattr(network, "default_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ((said,) if isinstance(said, str) else said))


def _fitted(network: nn.Module, knobs: Config) -> tuple[dict[str, Tensor], _pretrained.Loaded]:
    """The weights under the network's own names, and where they are from.

    Raises:
        InputError: they are not here or do not fit.
    """
    name = str(knobs["name"])
    cfg: Any = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    path = _located(str(knobs["pretrained"]), name, cfg)
    state = _weights.read(path)
    own = network.state_dict()
    prefix = "network." if isinstance(network, OneSize) else ""
    anew = {key for key in own if key.startswith(tuple(prefix + each for each in _classifier(_inner(network))))}
    if {"mean", "std"} <= state.keys():
        found = _pretrained.body_of(state)
        if any(key in found and len(found[key]) != len(own[key]) for key in anew):
            found = {key: tensor for key, tensor in found.items() if key not in anew}
        mean, std = _pretrained.scale_of(state, _pretrained.in_colour(own), path)
    else:
        donor = _donor(name, state, path, knobs, network)
        found = _adapted({prefix + key: tensor for key, tensor in donor.items()}, own, cfg)
        found = {key: tensor for key, tensor in found.items() if key not in anew}
        colour = _pretrained.in_colour(own)
        mean, std = (tuple(each) if colour else sum(each) / 3 for each in (cfg.mean, cfg.std))
    expected = f"timm's {name}, or this package's timm of equal knobs"
    _pretrained.must_fit(own, found, anew, f"{path} does not fit; expected is {expected}")
    return found, _pretrained.Loaded(mean, std, str(path), _weights.sha256(path))


def _inner(network: nn.Module) -> nn.Module:
    return network.network if isinstance(network, OneSize) else network


def _located(said: str, name: str, cfg: Any) -> Path:
    """A path, or the file of timm's own weights in the caches of Hugging Face's and of torch's hub."""
    if said != _weights.IMAGENET:
        return _weights.existing(said)
    from huggingface_hub import try_to_load_from_cache

    for file in (cfg.hf_hub_filename,) if cfg.hf_hub_filename else WEIGHT_FILES:
        cached = try_to_load_from_cache(cfg.hf_hub_id, file) if cfg.hf_hub_id else None
        if isinstance(cached, str):
            return Path(cached)
    in_hub: Path = _weights.hub_folder() / str(cfg.url or "").rpartition("/")[2]
    if cfg.url and in_hub.is_file():
        return in_hub
    raise InputError(
        f"pretrained: no ImageNet weights of {name} are here: where there is internet, "
        f"`python -c \"import timm; timm.create_model('{name}', pretrained=True)\"` puts them into the cache; "
        "or name a file of weights, or set pretrained: false"
    )


def _donor(
    name: str, state: dict[str, Tensor], path: Path, knobs: Config, network: nn.Module
) -> Mapping[str, Tensor]:
    """The zoo's own network in colour with the weights in it, as timm translates them; a transformer that sees twice
    the pixels in patches twice as wide as ours.
    """
    said: dict[str, Any] = {}
    if _has_one_size(name):
        assert isinstance(network, OneSize)
        said["img_size"] = network.pixels * (2 if knobs["halve_stem"] else 1)
    overlay = {"state_dict": state, "custom_load": False}
    try:
        in_colour = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **said)
    except (RuntimeError, KeyError, ValueError, AttributeError) as error:
        reason = one_line(error, 200)
        raise InputError(f"pretrained: {path} does not fit timm's {name}: {reason}") from error
    donor: Mapping[str, Tensor] = in_colour.state_dict()
    return donor


def _adapted(donor: dict[str, Tensor], own: Mapping[str, Tensor], cfg: Any) -> dict[str, Tensor]:
    """The donor's tensors, its filters of colour folded to our width and, for grey faces, to grey."""
    names = list(own)
    found = dict(donor)
    for key, tensor in donor.items():
        if key in own and tensor.ndim == 4 and tensor.shape[1] == RGB == own[key].shape[1]:
            found[key] = _pretrained.narrowed(tensor, own[key].shape[-1])
        if key in own and tensor.ndim == 4 and tensor.shape[1] == 3 and own[key].shape[1] == 1:
            found[key], shift_O = _pretrained.fold(tensor, own[key].shape[-1], cfg.mean, cfg.std)
            bias = key.replace(".weight", ".bias")
            norm = next((name for name in names[names.index(key) :] if name.endswith("running_mean")), None)
            if bias in found:
                found[bias] = found[bias] + shift_O
            elif norm is not None:  # a norm that follows subtracts its mean
                found[norm] = found[norm] - shift_O
    return found
