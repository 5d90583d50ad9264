"""A study: what a `search_spaces/*.yaml` says, wholly checked before anything is claimed. Needs neither torch nor
Ray.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, field_validator

from facex_tune import metrics, narrowing, parts, protocols, reading, recipe
from facex_tune.contradictions import contradictions, start_problems
from facex_tune.errors import InputError, nearest
from facex_tune.space import FAMILIES, Config, Space

VERSION = 1
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}, {"type": "null"}]}
_METRICS = {"anyOf": [{"enum": metrics.names()}, {"type": "array", "items": {"enum": metrics.names()}}]}


def seconds(value: Any) -> Any:
    """``90``, ``"45m"``, ``"1.5h"`` as seconds.

    Raises:
        ValueError: no duration.
    """
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", str(value))
    if match is None:
        raise ValueError(f"{value!r} is no duration; write seconds, or 30s, 45m, 1.5h, 2d")
    return float(match[1]) * _UNITS_S[match[2]]


class _Said(BaseModel):
    # infinity and NaN cannot be written to a run's JSON header
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_yes(cls, said: Any) -> Any:
        """No key of a study is a yes or no; pydantic would take `true` for 1."""
        if isinstance(said, bool):
            raise ValueError("true and false mean nothing here; write a number or a name")
        return said


def _listed(said: Any) -> Any:
    return [said] if isinstance(said, str) else said


def _validation(said: Any) -> Any:
    if said == "public_test" or (isinstance(said, Mapping) and set(said) == {"holdout"}):
        return said
    raise ValueError("write public_test, or {holdout: 0.1} for a share of train")


class Bounds(_Said):
    """What a metric must keep to."""

    min: float | None = None
    max: float | None = None


class Holdout(_Said):
    """A stratified share of train, duplicate groups kept together."""

    holdout: float = Field(gt=0, lt=0.5)


class Budget(_Said):
    """The first reached ends the search."""

    trials: int | None = Field(default=None, ge=1)
    time: Annotated[float | None, BeforeValidator(seconds), WithJsonSchema(_DURATION)] = Field(
        default=None, gt=0, description="wall clock of the search, in seconds or as 45m, 2h"
    )
    gpu_hours: float | None = Field(default=None, gt=0, description="hours of GPU held by trials")
    target: float | None = Field(default=None, description="a finished trial's value that is good enough")


class Fidelity(_Said):
    """Epochs of a trial, and how sharply ASHA cuts: one in `reduction` goes on from each rung."""

    min_epochs: int = Field(default=1, ge=1)
    max_epochs: int = Field(default=12, ge=1)
    reduction: int = Field(default=3, ge=2)


class Search(_Said):
    """How configurations are suggested and cut short."""

    sampler: str = "tpe"
    scheduler: str = "asha"
    seed: int = Field(default=0, ge=0)
    start_with: tuple[dict[str, Any], ...] = ()
    learn_from: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_listed)] = Field(
        default=(), description="earlier runs, by name or path, whose finished trials the sampler starts from"
    )
    concurrency: int | None = Field(
        default=None, ge=1, description="trials at once; none: as many as the resources hold"
    )
    hung_after: Annotated[float, BeforeValidator(seconds), WithJsonSchema(_DURATION)] = Field(
        default=300, gt=0, description="a trial that does no batch for so long, and for ten usual epochs, is hung"
    )


class Resources(_Said):
    """What one trial holds."""

    cpus: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0)


class Retrain(_Said):
    """The best `top` candidates, each with `seeds` seeds, at full length on the same training faces."""

    top: int = Field(default=1, ge=1)
    seeds: int = Field(default=2, ge=1)
    epochs: int | None = Field(default=None, ge=1, description="none: fidelity.max_epochs")
    weights: Literal["last", "ema"] = "last"
    also: Literal["none", "baseline"] = Field(
        default="none", description="baseline: the study's first configuration too, to be compared with the winner"
    )


class Evaluate(_Said):
    """Which sealed sets are opened, once, at the end."""

    protocols: tuple[str, ...] = ()
    tta: Literal["none", "flip", "ten_crop", "auto"] = Field(
        default="none", description="test-time augmentation; auto: what is best on the validation faces"
    )


class Body(_Said):
    """The study as written, but for its space."""

    version: Literal[1]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    data: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    validation: Annotated[Literal["public_test"] | Holdout, BeforeValidator(_validation)] = "public_test"
    labels: Literal["fer2013", "ferplus_majority", "ferplus_votes"] = "fer2013"
    duplicates: Literal["keep", "drop"] = "keep"
    objective: Annotated[tuple[str, ...], BeforeValidator(_listed), WithJsonSchema(_METRICS)] = ("macro_f1",)
    constraints: dict[str, Bounds] = {}
    budget: Budget = Budget(trials=16)
    fidelity: Fidelity = Fidelity()
    search: Search = Search()
    resources: Resources = Resources()
    retrain: Retrain = Retrain()
    evaluate: Evaluate = Evaluate()


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
        """Epochs of a retrained model."""
        return self.retrain.epochs or self.fidelity.max_epochs

    @property
    def n_final_models(self) -> int:
        """Models that are retrained: candidates, and the baseline where it is asked for, times seeds."""
        return (self.retrain.top + (self.retrain.also == "baseline")) * self.retrain.seeds

    @property
    def repetition(self) -> str:
        """What to tell of a space that is smaller than the budget; "" where there may be a new configuration for every
        trial.
        """
        there_are, trials = self.space.configurations(), self.budget.trials
        if there_are is None or (trials is not None and trials <= there_are):
            return ""
        several = f"{there_are} configurations" if there_are != 1 else "1 configuration"
        then = "trials after them" if trials is None else f"{trials - there_are} of {trials} trials"
        return (
            f"the space has {several}: {then} repeat one with another seed, and each configuration is ranked once, "
            "by its mean"
        )

    @property
    def bounds(self) -> dict[str, dict[str, float]]:
        """The constraints as plain numbers, ``{metric: {min, max}}``."""
        return {name: bounds.model_dump(exclude_none=True) for name, bounds in self.constraints.items()}

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON and for the run's header."""
        return {**self.model_dump(mode="json", exclude={"space"}), "space": self.space.to_data()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Study:
        """The study that `to_data` wrote."""
        return cls(**{**data, "space": Space.from_data(data["space"])})


def load(path: Path, sets: Sequence[str] = ()) -> Study:
    """Reads and checks a study file, with ``key=value`` changes on top.

    Raises:
        InputError: the file cannot be read, or anything in it is wrong: every problem, a line each.
    """
    return parse(reading.read(path, sets))


def parse(said: Mapping[str, Any]) -> Study:
    """Checks a study given as plain data.

    Raises:
        InputError: every problem, a line each.
    """
    problems: list[str] = []
    said = dict(said)
    space = narrowing.space(said.pop("space", {}), problems)
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
    """The JSON schema of a study file, for editors that complete YAML."""
    schema = Body.model_json_schema()
    part: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "object"}]}
    family = {"anyOf": [*part["anyOf"], {"type": "array", "items": part, "minItems": 1}]}
    spaces = {
        name: {**family, "description": f"one of {', '.join(parts.names(name))}, or a mapping that narrows its knobs"}
        for name in FAMILIES
    }
    train = {
        "type": "object",
        "properties": {name: {"description": knob.doc or str(knob)} for name, knob in recipe.SPACE.items()},
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
        "search": body.search.model_copy(update={"start_with": tuple(starts)}),
    }


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
