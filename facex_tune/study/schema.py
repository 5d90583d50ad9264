"""The keys of a study, each with its type, default and bounds; their values are checked here one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
    model_serializer,
)

from facex_tune import metrics
from facex_tune.emotions import GREY_48, LARGEST_SIZE, SMALLEST_SIZE
from facex_tune.storage.files import NAME

VERSION = 1
NEVER = "never"  # of `search.stop_when_settled`
ARRIVAL, FIXED = "arrival", "fixed"  # the order in which a search takes in results
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}, {"type": "null"}]}
_SETTLED = {"anyOf": [{"enum": ["never", "noise"]}, {"type": "number", "exclusiveMinimum": 0}]}
_ONE_SET = {"type": "string", "pattern": NAME}
_DATA = {"anyOf": [_ONE_SET, {"type": "array", "items": _ONE_SET, "minItems": 1, "uniqueItems": True}]}
ALL = "all"  # of the sets of a study
_LABELS = {"enum": ["own", "ferplus_majority", "ferplus_votes", "fer2013"]}
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


def _labels(said: Any) -> Any:
    """`own` was `fer2013` before other sets than that had labels of their own; runs and studies still say so."""
    return "own" if said == "fer2013" else said


def _cpus(said: Any) -> Any:
    if said == "auto":
        return said
    number = int(said) if isinstance(said, str) and said.isdecimal() else said
    is_whole = isinstance(number, int) or (isinstance(number, float) and number.is_integer())
    if is_whole and number >= 1:
        return int(number)
    raise ValueError("write a whole number from 1, or auto: as many as make this machine fastest")


def _settled(said: Any) -> Any:
    """`never`, `noise`, or a gain; YAML reads `1e-3` as text."""
    if said in ("never", "noise"):
        return said
    try:
        gain = float(said)
    except (TypeError, ValueError):
        gain = 0.0
    if isinstance(said, bool) or not gain > 0:
        raise ValueError("write never, noise, or how much is too little to go on for, for example 0.005")
    return gain


def _validation(said: Any) -> Any:
    if said == "public_test" or (isinstance(said, Mapping) and {"holdout"} <= set(said) <= {"holdout", "of"}):
        return said
    raise ValueError(
        "write public_test, or {holdout: 0.1} for a share of train; of several sets {holdout: 0.1, of: SET} or of: all"
    )


def _data(said: Any) -> Any:
    """A set's name, or several; a list of one is that one."""
    names = [said] if isinstance(said, str) else said
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("write the name of a prepared set, or a list of names, as in [fer2013, rafdb]")
    for name in names:
        if not re.fullmatch(NAME, name):
            raise ValueError(f"{name!r} is no name of a set: letters, digits, '.', '_' and '-'")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{twice[0]} is named twice; name each set once")
    return names[0] if len(names) == 1 else tuple(names)


def sets_of(data: str | Sequence[str]) -> tuple[str, ...]:
    """The names of the sets that a study's `data` says, as checked or as plain data; the first is the main one."""
    return (data,) if isinstance(data, str) else tuple(data)


def data_text(data: str | Sequence[str]) -> str:
    """A study's `data` for reading: ``fer2013``, or ``fer2013 + rafdb``."""
    return " + ".join(sets_of(data))


def validated_sets(data: str | Sequence[str], of: str | None) -> tuple[str, ...]:
    """The sets whose faces a search is judged by: the first, unless a holdout is `of` another, or of all."""
    sets = sets_of(data)
    return sets if of == ALL else (of or sets[0],)


class Face(_Said):
    """The shape of the faces that a study is for."""

    size: int = Field(default=GREY_48.size, ge=SMALLEST_SIZE, le=LARGEST_SIZE, description="pixels of a side")
    channels: Literal[1, 3] = Field(default=1, description="1: grey, 3: red, green and blue")


class Bounds(_Said):
    """What a metric must keep to."""

    min: float | None = None
    max: float | None = None


class Holdout(_Said):
    """A stratified share of train, duplicate groups kept together."""

    holdout: float = Field(gt=0, lt=0.5)
    of: str | None = Field(
        default=None, description="where data names several sets: of whose train, or all; none: the first one's"
    )

    @model_serializer(mode="wrap")
    def _said(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As it was before there were several sets, where none is named."""
        said: dict[str, Any] = write(self)
        return {key: value for key, value in said.items() if value is not None}


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
    order: Literal["arrival", "fixed"] = Field(
        default="arrival",
        description="in which results are taken in; fixed: the same trials and winner whichever worker is quicker",
    )
    seed: int = Field(default=0, ge=0)
    start_with: tuple[dict[str, Any], ...] = ()
    learn_from: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_listed)] = Field(
        default=(), description="earlier runs, by name or path, whose finished trials the sampler starts from"
    )
    priors_from: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_listed)] = Field(
        default=(), description="earlier runs, on any data: where the best of their trials lay is believed at first"
    )
    stop_when_settled: Annotated[
        Literal["never", "noise"] | Annotated[float, Field(gt=0)], BeforeValidator(_settled), WithJsonSchema(_SETTLED)
    ] = Field(
        default="never",
        description="ends the search once less than this is left to gain, in the objective's units; noise: what two "
        "seeds of one configuration differ by",
    )
    concurrency: int | None = Field(
        default=None, ge=1, description="trials at once; none: as many as the resources hold"
    )
    hung_after: Annotated[float, BeforeValidator(seconds), WithJsonSchema(_DURATION)] = Field(
        default=300, gt=0, description="a trial that does no batch for so long, and for ten usual epochs, is hung"
    )


class Resources(_Said):
    """What one trial holds."""

    cpus: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], BeforeValidator(_cpus)] = Field(
        default=1, description="and threads; auto: many of one thread or few of more, as measured when a stage starts"
    )
    gpus: float = Field(default=0, ge=0)

    @property
    def least_cpus(self) -> int:
        """CPUs that a trial holds at least."""
        return 1 if self.cpus == "auto" else self.cpus


class Retrain(_Said):
    """The best `top` candidates, each with `seeds` seeds, at full length on the same training faces."""

    top: int = Field(default=1, ge=1)
    seeds: int = Field(default=2, ge=1)
    epochs: int | None = Field(default=None, ge=1, description="none: fidelity.max_epochs")
    weights: Literal["last", "ema"] = "last"
    on: Literal["train", "all"] = Field(
        default="train",
        description="all: at the end one more model of the winner, on training and validation faces; nothing honest "
        "can be said of it on these",
    )
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
    data: Annotated[str | tuple[str, ...], BeforeValidator(_data), WithJsonSchema(_DATA)] = Field(
        description="a prepared set, or several whose training faces are joined"
    )
    face: Face | None = Field(
        default=None,
        description="the size and channels that its sets must be prepared with; none: whatever they have, all alike",
    )
    validation: Annotated[Literal["public_test"] | Holdout, BeforeValidator(_validation)] = "public_test"
    labels: Annotated[
        Literal["own", "ferplus_majority", "ferplus_votes"], BeforeValidator(_labels), WithJsonSchema(_LABELS)
    ] = Field(default="own", description="the set's own, or by the votes of FER+'s annotators")
    classes: Literal[7, 8] = Field(default=7, description="emotions to tell apart: FER2013's seven, or with contempt")
    duplicates: Literal["keep", "drop"] = "keep"
    validation_copies: Literal["keep", "drop"] = Field(
        default="drop",
        description="drop: validation faces that have a copy among those trained on judge nothing, where duplicates "
        "keeps such copies",
    )
    set_balance: Literal["none", "even"] = Field(
        default="none", description="even: within each emotion every set of `data` is drawn as often as any other"
    )
    objective: Annotated[tuple[str, ...], BeforeValidator(_listed), WithJsonSchema(_METRICS)] = ("macro_f1",)
    constraints: dict[str, Bounds] = {}
    budget: Budget = Budget(trials=16)
    fidelity: Fidelity = Fidelity()
    search: Search = Search()
    resources: Resources = Resources()
    retrain: Retrain = Retrain()
    evaluate: Evaluate = Evaluate()
