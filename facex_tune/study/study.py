"""A study: what a `search_spaces/*.yaml` says, wholly checked before anything is claimed. Needs neither torch nor
Ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from facex_tune import metrics, parts, train_knobs
from facex_tune.errors import InputError, nearest
from facex_tune.space import FAMILIES, Config, Space
from facex_tune.storage import files
from facex_tune.study import protocols, ranges, yaml_file
from facex_tune.study.consistency import contradictions, start_problems
from facex_tune.study.schema import Body, Bounds


class Study(Body):
    """A checked study, every range written out, so that a new part file cannot change a running one."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    space: Space

    @property
    def maximize(self) -> bool:
        """Whether the first objective is better when larger."""
        return metrics.MAXIMIZE[self.objective[0]]

    @property
    def final_epochs(self) -> int:
        """The number of epochs of a retrained model."""
        return self.retrain.epochs or self.fidelity.max_epochs

    @property
    def n_final_models(self) -> int:
        """The number of models that are retrained: candidates, and the baseline where it is asked for, times seeds."""
        return (self.retrain.top + (self.retrain.also == "baseline")) * self.retrain.seeds

    @property
    def bounds(self) -> dict[str, dict[str, float]]:
        """The constraints as plain numbers, ``{metric: {min, max}}``."""
        return {name: bounds.model_dump(exclude_none=True) for name, bounds in self.constraints.items()}

    def to_data(self) -> dict[str, Any]:
        """Gives the study as plain data, for JSON and for the run's header."""
        return {**self.model_dump(mode="json", exclude={"space"}), "space": self.space.to_data()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Study:
        """Reads the study that `to_data` wrote."""
        return cls(**{**data, "space": Space.from_data(data["space"])})


def load(path: Path, sets: Sequence[str] = ()) -> Study:
    """Reads and checks a study file, with ``key=value`` changes on top.

    Raises:
        InputError: the file cannot be read, or anything in it is wrong: every problem, a line each.
    """
    return parse(yaml_file.read(path, sets))


def parse(said: Mapping[str, Any]) -> Study:
    """Checks a study given as plain data.

    Raises:
        InputError: every problem, a line each.
    """
    problems: list[str] = []
    said = dict(said)
    space = ranges.space(said.pop("space", {}), problems)
    body: Body | None = None
    try:
        body = Body(**said)
    except ValidationError as error:
        # `_validation` lets only mappings past the literal, so that what the literal says of one is noise
        problems += [_line(detail) for detail in error.errors() if detail["loc"][-1:] != ("literal['public_test']",)]
    except TypeError:
        problems.append(f"keys of a study are words; found {sorted(map(str, said))}")
    if body is not None:
        is_whole = not problems  # a space that lacks a wrong part would make right configurations look wrong
        problems += contradictions(body, space) + (start_problems(body, space) if is_whole else [])
    if problems or body is None:
        raise InputError(problems)
    body = body.model_copy(update=_filled(body, space))
    return Study(**body.model_dump(), space=space)


def json_schema() -> dict[str, Any]:
    """Gives the JSON schema of a study file, for editors that complete YAML."""
    schema = Body.model_json_schema()
    part: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "object"}]}
    family = {"anyOf": [*part["anyOf"], {"type": "array", "items": part, "minItems": 1}]}
    spaces = {
        name: {**family, "description": f"one of {', '.join(parts.names(name))}, or a mapping that narrows its knobs"}
        for name in FAMILIES
    }
    train = {
        "type": "object",
        "properties": {name: {"description": knob.doc or str(knob)} for name, knob in train_knobs.SPACE.items()},
        "additionalProperties": False,
    }
    schema["properties"]["space"] = {
        "type": "object",
        "properties": {**spaces, "train": train},
        "additionalProperties": False,
    }
    return schema


def _filled(body: Body, space: Space) -> dict[str, Any]:
    """Defaults that depend on the rest."""
    chosen = body.evaluate.protocols or protocols.DEFAULTS.get(body.data, (f"folder.{body.data}",))
    starts: list[Config] = [space.complete(said) for said in body.search.start_with]
    return {
        "evaluate": body.evaluate.model_copy(update={"protocols": tuple(chosen)}),
        "search": body.search.model_copy(update={"start_with": tuple(starts), "learn_from": _learned_from(body)}),
    }


def _learned_from(body: Body) -> tuple[str, ...]:
    """Runs to learn from, a path among them as it is meant from here: a resumed run may have another working folder."""
    is_path = {name: "/" in name and "://" not in name for name in body.search.learn_from}
    return tuple(str(files.absolute(name)) if is_path[name] else name for name in body.search.learn_from)


def _line(detail: Any) -> str:
    """One pydantic error as one line that names key, value and rule."""
    place = ".".join(str(step) for step in detail["loc"] if step not in ("Holdout", "literal['public_test']"))
    if detail["type"] == "extra_forbidden":
        return f"{place}: unknown key; {nearest(str(detail['loc'][-1]), _keys(detail['loc'][:-1]))}"
    if detail["type"] == "missing":
        return f"{place}: missing; every study says it"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    place = place or "a key"  # one that is no text has no place
    return f"{place}: {detail['input']!r} is not allowed: {message}"


def _keys(loc: Sequence[Any]) -> list[str]:
    """The keys that a place of the study may have."""
    if loc and loc[0] == "constraints":
        return list(Bounds.model_fields)
    place: Any = Body
    for step in loc:
        if not (isinstance(place, type) and issubclass(place, BaseModel)) or step not in place.model_fields:
            return ["space"] if place is Body else []
        place = place.model_fields[step].annotation
    if isinstance(place, type) and issubclass(place, BaseModel):
        return [*place.model_fields, *(["space"] if place is Body else [])]
    return []
