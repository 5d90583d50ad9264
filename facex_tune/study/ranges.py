"""What a study says of the space: parts and training knobs, narrowed from the ranges that they bring themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facex_tune import parts, train_knobs
from facex_tune.errors import InputError, nearest
from facex_tune.space import FAMILIES, Knobs, Space, constant, narrow, unasked

DEFAULT_PARTS: dict[str, list[Any]] = {"model": ["resnet"], "augment": ["flip_shift"], "balance": ["none"]}


def space(said: Any, problems: list[str]) -> Space:
    """Builds the space. A wrong entry is noted in `problems` and left out."""
    if not isinstance(said, Mapping):
        problems.append(f"space: expected a mapping with {', '.join(FAMILIES)} and train, not {said!r}")
        return Space({}, {})
    for key in said:
        if key not in (*FAMILIES, "train"):
            problems.append(f"space.{key}: unknown key; {nearest(key, [*FAMILIES, 'train'])}")
    families = {family: _family(family, said.get(family, DEFAULT_PARTS[family]), problems) for family in FAMILIES}
    return Space(families, _train(said.get("train", {}), problems))


def _family(family: str, said: Any, problems: list[str]) -> dict[str, Knobs]:
    options: dict[str, Knobs] = {}
    entries = said if isinstance(said, list) else [said]
    if not entries:
        problems.append(
            f"space.{family}: an empty list leaves nothing to search; choices: {', '.join(parts.names(family))}"
        )
    for entry in entries:
        name, narrowed = next(iter(entry.items())) if isinstance(entry, Mapping) and len(entry) == 1 else (entry, {})
        if str(name) in options:
            problems.append(f"space.{family}: {name!r} is named twice; name it once, with every value of its knobs")
            continue
        try:
            options[str(name)] = _part_knobs(family, name, {} if narrowed is None else narrowed, problems)
        except InputError as error:
            problems += [f"space.{line}" for line in error.problems]
    return options


def _part_knobs(family: str, name: Any, narrowed: Any, problems: list[str]) -> Knobs:
    if not isinstance(name, str):
        raise InputError(f"{family}: {name!r} is no part; write a name, or {{name: {{knob: range}}}} with one name")
    knobs = _narrowed(f"{family}.{name}", dict(parts.find(family, name).SPACE), narrowed, problems)
    return {knob: each if knob in narrowed else unasked(each) for knob, each in knobs.items()}


def _narrowed(owner: str, knobs: Knobs, narrowed: Any, problems: list[str]) -> Knobs:
    if not isinstance(narrowed, Mapping):
        raise InputError(f"{owner}: expected {{knob: range}}, not {narrowed!r}")
    for knob, said in narrowed.items():
        if knob not in knobs:
            problems.append(f"space.{owner}.{knob}: unknown knob; {nearest(knob, list(knobs))}")
            continue
        try:
            knobs[knob] = narrow(f"{owner}.{knob}", knobs[knob], said)
        except InputError as error:
            problems += [f"space.{line}" for line in error.problems]
    return knobs


def _train(said: Any, problems: list[str]) -> Knobs:
    """Training knobs: those a study names vary as it says, the others keep their default."""
    if not isinstance(said, Mapping):
        problems.append(f"space.train: expected {{knob: range}}, not {said!r}")
        return {}
    knobs = _narrowed("train", dict(train_knobs.SPACE), said, problems)
    return {name: knob if name in said else constant(knob.default) for name, knob in knobs.items()}
