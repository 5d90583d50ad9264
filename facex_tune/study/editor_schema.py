"""The JSON schema of a study file, for editors that complete and check YAML: every key, every part and every knob with
its type, range, default and what it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from facex_tune import parts, train_knobs
from facex_tune.space import CONFIDENCE, FAMILIES, Choice, Int, Knob, Knobs, Open, unasked
from facex_tune.study.consistency import SAMPLERS, SCHEDULERS
from facex_tune.study.schema import Body

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_NUMBER_AS_TEXT = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"  # YAML 1.1 reads 1e-3 as text


def json_schema() -> dict[str, Any]:
    """Gives the JSON schema of a study file. The user's own parts are in it once `parts.use_folder` knows them."""
    schema = Body.model_json_schema()
    searching = schema["$defs"]["Search"]["properties"]
    searching["sampler"]["enum"], searching["scheduler"]["enum"] = list(SAMPLERS), list(SCHEDULERS)
    schema["$defs"] |= {family: _single(family) for family in FAMILIES}
    families = {family: _family(family) for family in FAMILIES}
    train = _object(
        {name: _knob(knob, knob.default) for name, knob in train_knobs.SPACE.items()},
        "training knobs; one that is not named keeps its default",
    )
    schema["properties"]["space"] = _object({**families, "train": train}, "what is searched over")
    return {"$schema": DRAFT, "title": "a study of facex_tune", **{k: v for k, v in schema.items() if k != "title"}}


def _family(family: str) -> dict[str, Any]:
    names, single = parts.names(family), {"$ref": f"#/$defs/{family}"}
    said = f"one of {', '.join(names)}, or a mapping that narrows its knobs; or a list of them, which is searched over"
    return {"description": said, "anyOf": [single, {"type": "array", "items": single, "minItems": 1}]}


def _single(family: str) -> dict[str, Any]:
    """One part: its name, or a mapping that narrows its knobs."""
    names = parts.names(family)
    return {"anyOf": [*(_name(family, name) for name in names), *(_mapping(family, name) for name in names)]}


def _name(family: str, name: str) -> dict[str, Any]:
    return {"const": name, "description": parts.summary(family, name)}


def _mapping(family: str, name: str) -> dict[str, Any]:
    space: Knobs = parts.find(family, name).SPACE
    said = parts.summary(family, name)
    own = _object({knob: _knob(each, unasked(each).default) for knob, each in space.items()}, said)
    narrowed = {"anyOf": [own, {"type": "null"}], "description": said}
    return {**_object({name: narrowed}, said), "required": [name]}


def _object(properties: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "additionalProperties": False,
    }


def _knob(knob: Knob, default: Any) -> dict[str, Any]:
    """A value, a list of values, or of a number a range."""
    said = "; ".join(filter(None, [knob.doc, f"allowed: {knob}", f"default: {default}"]))
    value = _value(knob)
    forms = [*value, {"type": "array", "items": {"anyOf": value}, "minItems": 1}]
    if not isinstance(knob, Choice):
        ends = {end: {"anyOf": value} for end in ("low", "high", "prior")}
        more = {"log": {"type": "boolean"}, "confidence": {"enum": list(CONFIDENCE)}}
        forms.append(_object({**ends, **more}, "a part of the range; prior: where the best value may lie"))
    return {"description": said, "default": default, "anyOf": forms}


def _value(knob: Knob) -> list[dict[str, Any]]:
    if isinstance(knob, Choice):
        text: list[dict[str, Any]] = [{"type": "string"}] if isinstance(knob, Open) and knob.also else []
        return [{"enum": list(_distinct(knob.options))}, *text]
    bounds = {"minimum": knob.low, "maximum": knob.high}
    if isinstance(knob, Int):
        return [{"type": "integer", **bounds}]
    return [{"type": "number", **bounds}, {"type": "string", "pattern": _NUMBER_AS_TEXT}]


def _distinct(options: Iterable[Any]) -> Iterable[Any]:
    return dict.fromkeys(options)
