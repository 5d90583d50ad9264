"""Knobs, and the space they span: what a study may vary, written as data.

A *configuration* is flat and qualified: ``{"model": "resnet", "model.resnet.width": 32, "train.lr": 0.1}``. A knob of
a part is active only where its part was chosen, which its name tells: ``model.resnet.width`` asks for ``model ==
"resnet"``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from facex_tune.errors import InputError, nearest
from facex_tune.storage import files

Value = str | int | float | bool | None
Config = dict[str, Value]

FAMILIES = ("model", "augment", "balance")
CONFIDENCE = ("low", "medium", "high")  # in a prior


@dataclass(frozen=True)
class Float:
    """A real number in [low, high]; `log` spreads a search evenly over its orders of magnitude.

    Attributes:
        prior: where the best value is believed to lie, if anywhere.
        confidence: how firmly, "low", "medium" or "high".
    """

    low: float
    high: float
    default: float
    log: bool = False
    doc: str = field(default="", compare=False)
    prior: float | None = None
    confidence: str = "medium"

    def holds(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Int:
    """A whole number in [low, high]; `prior` and `confidence` as of a `Float`."""

    low: int
    high: int
    default: int
    log: bool = False
    doc: str = field(default="", compare=False)
    prior: int | None = None
    confidence: str = "medium"

    def holds(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low} to {self.high}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """One of a few values; a single option is a constant, which no searcher is asked about."""

    options: tuple[Value, ...]
    default: Value
    doc: str = field(default="", compare=False)

    def holds(self, value: object) -> bool:
        return any(value == option and isinstance(value, bool) == isinstance(option, bool) for option in self.options)

    def __str__(self) -> str:
        return ", ".join(str(option) for option in self.options)


@dataclass(frozen=True)
class Open(Choice):
    """A choice that waits to be named: a study that says nothing of it gets the default alone; one that does may name
    its options and, where `also` says so, other text.

    Attributes:
        also: what other text means, for example "a file of weights"; "" allows none.
        is_path: other text is a path, made absolute when the study is read, because workers run elsewhere.
    """

    also: str = field(default="", compare=False)
    is_path: bool = field(default=False, compare=False)

    def admits(self, value: object) -> bool:
        """Whether a study may name it."""
        return self.holds(value) or (bool(self.also) and isinstance(value, str) and value.strip() != "")

    def __str__(self) -> str:
        return super().__str__() + (f", or {self.also}" if self.also else "")


Knob = Float | Int | Choice
Knobs = dict[str, Knob]


def constant(value: Value) -> Choice:
    """A knob that does not vary."""
    return Choice((value,), value)


def unasked(knob: Knob) -> Knob:
    """Gives a knob as it is searched where the study names its part and not the knob itself."""
    return Choice((knob.default,), knob.default, knob.doc) if isinstance(knob, Open) else knob


def narrow(name: str, knob: Knob, said: Any) -> Knob:
    """The knob, narrowed to what a study says of it: a value, a list of values, or ``{low, high, log, prior,
    confidence}``.

    Raises:
        InputError: what is said lies outside the knob's own range, or is no range at all.
    """
    if isinstance(said, Mapping):
        return _narrow_range(name, knob, said)
    values = tuple(said) if isinstance(said, list) else (said,)
    if not values:
        raise InputError(f"{name}: an empty list leaves nothing to search; allowed: {knob}")
    typed = tuple(_as_meant(knob, value) for value in values)
    for value in typed:
        if not (knob.admits(value) if isinstance(knob, Open) else knob.holds(value)):
            raise InputError(f"{name}: {value!r} is not allowed; allowed: {knob}")
    default = knob.default if knob.default in typed else typed[0]
    return Choice(typed, default, knob.doc)


def _as_meant(knob: Knob, value: Any) -> Any:
    """YAML reads `1e-3` as text; a number written that way is meant as one. A path is meant from here."""
    if isinstance(knob, Choice) and isinstance(value, str) and value.strip() and not knob.holds(value):
        path = path_from_here(value)
        # of a resolved study the paths are options like others
        return path if (isinstance(knob, Open) and knob.is_path) or knob.holds(path) else value
    if isinstance(knob, Float) and isinstance(value, str | int) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def path_from_here(said: str) -> str:
    """The absolute path that a value means; links stay, since another host may reach a file by them alone."""
    return str(files.absolute(os.path.expanduser(said)))


_RANGE = ["low", "high", "log", "prior", "confidence"]


def _narrow_range(name: str, knob: Knob, said: Mapping[str, Any]) -> Knob:
    if isinstance(knob, Choice):
        raise InputError(f"{name}: takes one of a few values, not a range; choices: {knob}")
    if unknown := set(said) - set(_RANGE):
        first = min(unknown, key=str)
        raise InputError(f"{name}: unknown key {first!r} in a range; {nearest(first, _RANGE)}")
    low, high = (_as_meant(knob, said.get(end, getattr(knob, end))) for end in ("low", "high"))
    log = said.get("log", knob.log)
    if not knob.holds(low) or not knob.holds(high):
        raise InputError(f"{name}: the range {low!r} to {high!r} leaves what is allowed: {knob}")
    if low >= high:
        raise InputError(f"{name}: impossible range, low {low!r} is not below high {high!r}")
    if not isinstance(log, bool) or (log and low <= 0):
        raise InputError(f"{name}: `log` is true or false, and true needs low above 0 (low is {low!r}, log is {log!r})")
    narrowed = type(knob)(low, high, min(max(knob.default, low), high), log, knob.doc)
    return _believed(name, narrowed, said) if {"prior", "confidence"} & set(said) else narrowed


def _believed(name: str, knob: Float | Int, said: Mapping[str, Any]) -> Knob:
    """The range with its prior, which is its default too."""
    prior, confidence = _as_meant(knob, said.get("prior")), said.get("confidence", "medium")
    if prior is None:
        raise InputError(f"{name}: confidence {confidence!r} in nothing; add prior, where the best value may lie")
    if not knob.holds(prior):
        raise InputError(f"{name}: the prior {prior!r} lies outside its range, {knob}")
    if confidence not in CONFIDENCE:
        raise InputError(f"{name}: no confidence {confidence!r}; {nearest(str(confidence), list(CONFIDENCE))}")
    return replace(knob, default=prior, prior=prior, confidence=confidence)


@dataclass(frozen=True)
class Space:
    """Every knob of a study: parts by family, each with its own knobs, and the training knobs.

    Attributes:
        parts: family -> part -> knob -> range.
        train: knob -> range.
    """

    parts: dict[str, dict[str, Knobs]]
    train: Knobs = field(default_factory=dict)

    def knobs(self) -> Iterator[tuple[str, Knob]]:
        """Every qualified knob, each family's choice of a part before the knobs of its parts."""
        for family, options in self.parts.items():
            yield family, Choice(tuple(options), next(iter(options)))
            for part, own in options.items():
                yield from ((f"{family}.{part}.{name}", knob) for name, knob in own.items())
        yield from ((f"train.{name}", knob) for name, knob in self.train.items())

    def draw(self, suggest: Callable[[str, Knob], Value]) -> Config:
        """A configuration, asking `suggest(name, knob)` for each active knob that can vary, in a fixed order."""
        config: Config = {}
        for name, knob in self.knobs():
            if is_active(name, config):
                config[name] = knob.default if is_fixed(knob) else suggest(name, knob)
        return config

    def conditional(self) -> dict[str, tuple[str, ...]]:
        """The families whose choice decides which of the knobs that vary there are: family -> its parts."""
        owners = {name.rpartition(".")[0] for name, knob in self.knobs() if not is_fixed(knob)}
        return {
            family: tuple(options)
            for family, options in self.parts.items()
            if len(options) > 1 and any(f"{family}.{part}" in owners for part in options)
        }

    def configurations(self) -> int | None:
        """How many there are; None where a knob has no end of values."""
        parts = (
            sum(_combinations(own.values()) for own in options.values()) for options in self.parts.values()
        )
        found = math.prod(parts) * _combinations(self.train.values())
        return int(found) if math.isfinite(found) else None

    def defaults(self) -> Config:
        """The configuration of every default."""
        return self.draw(lambda _name, knob: knob.default)

    def of_model(self, model: str) -> Config:
        """The configuration of every default with this model."""
        return self.draw(lambda name, knob: model if name == "model" else knob.default) | {"model": model}

    def random(self, rng: np.random.Generator) -> Config:
        """A configuration drawn evenly (evenly in the logarithm where a knob says so)."""
        return self.draw(lambda _name, knob: draw_one(knob, rng))

    def complete(self, said: Mapping[str, Any]) -> Config:
        """The configuration that `said` means: what it does not name keeps its default.

        Raises:
            InputError: an unknown or inactive knob, or a value outside its range.
        """
        known = dict(self.knobs())
        if strange := [name for name in said if name not in known]:
            raise InputError(f"{strange[0]}: not a knob of this study; {nearest(strange[0], list(known))}")
        said = {name: _as_meant(known[name], value) for name, value in said.items()}
        for name, value in said.items():
            if not known[name].holds(value):
                raise InputError(f"{name}: {value!r} is not in this study's space; allowed: {known[name]}")
        config = self.draw(lambda name, knob: said.get(name, knob.default))
        if idle := [name for name in said if name not in config]:
            raise InputError(f"{idle[0]}: this knob belongs to a part that the same configuration does not choose")
        return config

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON, every range written out."""
        return {
            "parts": {
                family: {part: {name: _knob_data(knob) for name, knob in own.items()} for part, own in options.items()}
                for family, options in self.parts.items()
            },
            "train": {name: _knob_data(knob) for name, knob in self.train.items()},
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Space:
        """The space that `to_data` wrote."""
        return cls(
            {
                family: {part: {name: _knob(knob) for name, knob in own.items()} for part, own in options.items()}
                for family, options in data["parts"].items()
            },
            {name: _knob(knob) for name, knob in data["train"].items()},
        )


def is_fixed(knob: Knob) -> bool:
    """Whether a knob has one value only, so that no sampler is asked about it."""
    return isinstance(knob, Choice) and len(knob.options) == 1


def _combinations(knobs: Iterable[Knob]) -> float:
    return math.prod(_values(knob) for knob in knobs)


def _values(knob: Knob) -> float:
    """How many values a knob has, infinitely many of a real number."""
    if isinstance(knob, Choice):
        return len(set(knob.options))
    return knob.high - knob.low + 1 if isinstance(knob, Int) else math.inf


def is_active(name: str, config: Config) -> bool:
    """Whether a knob applies, given the parts that `config` has chosen."""
    family, _, rest = name.partition(".")
    if family not in FAMILIES or not rest:
        return True
    return config.get(family) == rest.partition(".")[0]


def knobs_of(family: str, config: Mapping[str, Value]) -> Config:
    """A part's own knobs, unqualified: ``knobs_of("model", {"model": "vgg", "model.vgg.depth": 11})`` is
    ``{"depth": 11}``.
    """
    prefix = f"{family}." if family == "train" else f"{family}.{config[family]}."
    return {name.removeprefix(prefix): value for name, value in config.items() if name.startswith(prefix)}


def draw_one(knob: Knob, rng: np.random.Generator) -> Value:
    """One value of a knob, evenly."""
    if isinstance(knob, Choice):
        return knob.options[int(rng.integers(len(knob.options)))]
    if isinstance(knob, Int) and not knob.log:
        return int(rng.integers(knob.low, knob.high + 1))
    if knob.log:
        value = math.exp(rng.uniform(math.log(knob.low), math.log(knob.high)))
    else:
        value = float(rng.uniform(knob.low, knob.high))
    value = min(max(value, knob.low), knob.high)
    return round(value) if isinstance(knob, Int) else value


def _knob_data(knob: Knob) -> dict[str, Any]:
    if isinstance(knob, Choice):
        return {"choices": list(knob.options), "default": knob.default}
    kind = "int" if isinstance(knob, Int) else "float"
    believed = {} if knob.prior is None else {"prior": knob.prior, "confidence": knob.confidence}
    return {"type": kind, "low": knob.low, "high": knob.high, "log": knob.log, "default": knob.default, **believed}


def _knob(data: Mapping[str, Any]) -> Knob:
    if "choices" in data:
        return Choice(tuple(data["choices"]), data["default"])
    kind = Int if data["type"] == "int" else Float
    found: Knob = kind(data["low"], data["high"], data["default"], data["log"])
    believed = {name: data[name] for name in ("prior", "confidence") if name in data}
    return replace(found, **believed)
