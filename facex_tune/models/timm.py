"""The networks of timm's zoo, by their names there, adapted to small faces.

Source: Wightman, "PyTorch Image Models" (the library `timm`, 2019); each network's paper stands in its documentation.
  Adapted to small images: with `halve_stem` the first convolution that passes pixels over takes half its stride, so
  that 48 pixels keep twice as many positions a side; filters as wide as their stride (patches) become half as wide too.
  Networks that take faces of one size alone are built for the set's, or for twice that where their first stride is
  halved, and other faces (progressive training shows smaller ones first) are resized for them. Which of them work on
  48×48 grey faces, `timm_zoo.csv` beside this file says. Weights: timm's for ImageNet from its cache or a file, for
  grey faces its colours folded, patches to half their width.
"""

from __future__ import annotations

import importlib.util
from difflib import get_close_matches
from typing import TYPE_CHECKING

from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.errors import InputError
from facex_tune.models import _pretrained
from facex_tune.space import Choice, Config, Float, Knobs, Open

if TYPE_CHECKING:
    from torch import nn

PRECISION = "fp32"
SPACE: Knobs = {
    "name": Open(
        ("regnety_002", "ghostnet_100", "vit_tiny_patch16_224"),
        "regnety_002",
        "a network as timm calls it, with or without a tag of weights",
        also="any other name of timm.list_models() that takes small faces (a dry run tells)",
    ),
    "halve_stem": Choice((True, False), True, "half the first stride; false is the zoo's, a quarter of the cost"),
    "dropout": Float(0.0, 0.6, 0.0, doc="before the classifier"),
    "stochastic_depth": Open(
        (0.0, 0.05, 0.1, 0.2, 0.3), 0.0, "probability that a block is left out, where it has that"
    ),
    "pretrained": _pretrained.PRETRAINED,
    "frozen": _pretrained.FROZEN,
}
MISSING = "timm is not installed: pip install 'facex-tune[timm]'"


def build(knobs: Config, n_classes: int, face: FaceShape = GREY_48) -> nn.Module:
    """The network from faces_NCHW to logits_NC.

    Raises:
        InputError: timm is not installed, has no such network, or the network lacks what a knob asks for.
    """
    _check_name(str(knobs["name"]))
    from facex_tune.models import _zoo

    return _zoo.build(knobs, n_classes, face)


def load_pretrained(network: nn.Module, knobs: Config) -> _pretrained.Loaded:
    """Puts the weights that `pretrained` names into a network that `build` made.

    Raises:
        InputError: they are not here or do not fit.
    """
    from facex_tune.models import _zoo

    return _zoo.load(network, knobs)


def problems(knobs: Knobs, face: FaceShape = GREY_48) -> list[str]:
    """What of a study's ranges cannot be built here: no timm, unknown names, networks that do not take small faces,
    weights that are missing or do not fit.
    """
    try:
        for name in _pretrained.options(knobs["name"]):
            _check_name(str(name))
    except InputError as error:
        return [f"model.timm.{error}"]
    from facex_tune.models import _zoo

    return [f"model.timm.{line}" for line in _zoo.problems(knobs, face)]


def notes(knobs: Knobs) -> list[str]:
    """Of a study's networks, those that nobody has tried in training, with the reason."""
    if importlib.util.find_spec("timm") is None:
        return []
    from importlib.metadata import version

    from facex_tune.models import _zoo_table

    names = [str(name) for name in _pretrained.options(knobs["name"])]
    return [f"model.timm.name: {said}" for name in names if (said := _zoo_table.note(name, version("timm")))]


def _check_name(name: str) -> None:
    if importlib.util.find_spec("timm") is None:
        raise InputError(f"name: {MISSING}")
    import timm

    try:
        if timm.is_model(name):
            timm.models.get_pretrained_cfg(name)  # fails for a tag that the network has not
            return
    except RuntimeError:
        tags = [each.partition(".")[2] for each in timm.list_pretrained(name.partition(".")[0] + ".*")]
        raise InputError(f"name: {name!r} has a tag that timm does not know; choices: {', '.join(tags)}") from None
    close = get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
    nearest = f"did you mean {' or '.join(close)}? " if close else ""
    raise InputError(f"name: timm has no network {name!r}; {nearest}(timm.list_models() tells all)")
