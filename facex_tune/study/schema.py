"""The keys of a study, each with its type, default and bounds; their values are checked here one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator

from facex_tune import metrics
from facex_tune.storage.files import NAME

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
    name: str = Field(pattern=NAME)
    data: str = Field(pattern=NAME)
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
