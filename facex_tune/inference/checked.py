"""A model from elsewhere, checked before it is built: a file says which architecture it is of, and may say anything.

Its knobs must lie in its part's ranges, and its tensors have the shapes of the network that these make. The network is
laid out on torch's meta device, which takes no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from facex_tune import parts
from facex_tune.emotions import EMOTIONS, FaceShape
from facex_tune.errors import InputError, nearest, one_line
from facex_tune.space import Config

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 3


def check(where: str, tensors: Mapping[str, Tensor], info: Any) -> None:
    """Refuses what is no model that this program can have trained.

    Args:
        where: what the user called the model.
        info: what stands in its config.json, or in the header of its file.

    Raises:
        InputError: no configuration, a number of classes, part or knob that there is not, or tensors of other shapes.
    """
    try:
        config, n_classes, face = _said(info)
        _check_knobs(config)
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        _check_shapes(found, _shapes(config, n_classes, face))
    except InputError as error:
        raise InputError([f"MODEL {where}: {line}" for line in error.problems]) from error


def _said(info: Any) -> tuple[Config, int, FaceShape]:
    if not isinstance(info, dict) or not isinstance(info.get("config"), dict):
        raise InputError("it names no `config`, as config.json of a trained model does; export one with facex-tune")
    n_classes = info.get("n_classes")
    if type(n_classes) is not int or not 2 <= n_classes <= len(EMOTIONS):
        raise InputError(f"n_classes {str(n_classes)[:40]}: a model has 2 to {len(EMOTIONS)} emotions")
    return info["config"], n_classes, FaceShape.of(info)


def _check_knobs(config: Config) -> None:
    part = config.get("model")
    if not isinstance(part, str):
        raise InputError(f"its configuration names no architecture (model: {str(part)[:40]})")
    space = parts.find("model", part).SPACE
    prefix = f"model.{part}."
    for name, value in config.items():
        if not name.startswith(prefix):
            continue
        if (knob := space.get(name.removeprefix(prefix))) is None:
            known = [prefix + each for each in space]
            raise InputError(f"{name[:80]}: no knob of this architecture; {nearest(name, known)}")
        if isinstance(value, list | dict) or not knob.holds(value):
            raise InputError(f"{name}: {str(value)[:80]} is not in its range; allowed: {knob}")


def _shapes(config: Config, n_classes: int, face: FaceShape) -> dict[str, tuple[int, ...]]:
    """Of the tensors of the configuration's network."""
    import torch

    from facex_tune.training import classifier

    try:
        with torch.device("meta"):
            model = classifier.build_model(config, n_classes, face=face)
    except InputError:
        raise
    except Exception as error:  # a part can fail in any way at knobs that do not go together
        if not parts.is_own("model", str(config["model"])):
            raise InputError(f"its architecture cannot be built ({one_line(error, 200)})") from error
        # the user's own code, which need not know the meta device
        model = classifier.build_model(config, n_classes, face=face)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _check_shapes(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    wrong = [
        f"{name[:80]} is {_told(found.get(name))}, where its configuration makes {_told(wanted.get(name))}"
        for name in sorted({*found, *wanted})
        if found.get(name) != wanted.get(name)
    ]
    if wrong:
        more = f"; and {len(wrong) - _SHOWN:,} tensors more" if len(wrong) > _SHOWN else ""
        raise InputError(f"its weights are not of its configuration: {'; '.join(wrong[:_SHOWN])}{more}")


def _told(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return "not there"
    return " x ".join(map(str, shape)) or "one number"
