"""A study file as plain data: YAML, with ``key=value`` changes on top."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from facex_tune.errors import InputError, one_line

# what the parser says of the mistakes that people make, and what that is in a study
_MISTAKES = {
    "'\\t'": "a tab; YAML is indented with spaces",
    "mapping values are not allowed": "a second `: ` in one line, or a line that is indented too far; quotes let a "
    "value hold one",
    "could not find expected ':'": "a key without `: ` after it",
    "expected <block end>": "a line whose indentation fits none above it",
    "expected ',' or": "a list or mapping in brackets that is not closed",
    "cannot start any token": "a value that begins with a character of YAML's own; put it in quotes",
}


def read(path: Path, sets: Sequence[str] = ()) -> dict[str, Any]:
    """Reads a study file.

    Raises:
        InputError: the file cannot be read, is no YAML mapping, or says a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot read this study: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise InputError(f"{path}: line {line} is not UTF-8 (byte {byte:#x}); save it so") from error
    try:
        said = yaml.load(text, Loader)
    except RecursionError as error:
        raise InputError(f"{path}: not YAML that can be read: nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: what looks like a date, and is none
        raise InputError(f"{path}: not YAML: {_reason(error)}") from error
    if not isinstance(said, dict):
        raise InputError(f"{path}: a study is a mapping that starts with `version: 1`; see search_spaces/quick.yaml")
    return changed(said, sets)


def changed(said: Mapping[str, Any], sets: Sequence[str]) -> dict[str, Any]:
    """Gives a study's plain data with ``key=value`` changes on top; `said` itself stays as it is.

    Raises:
        InputError: a change is no ``key=value``, or its place is no mapping.
    """
    now = copy.deepcopy(dict(said))
    for change in sets:
        apply(now, change)
    return now


def _reason(error: Exception) -> str:
    """What is wrong and where, in a person's words if the mistake is a usual one."""
    said, mark = one_line(error), getattr(error, "problem_mark", None)
    for words, meant in _MISTAKES.items():
        if words in said and mark is not None:
            return f"line {mark.line + 1}: {meant}"
    return said.replace('in "<unicode string>", ', "in ")


class Loader(yaml.SafeLoader):
    """Safe, and strict: YAML lets the last of two equal keys win, silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Reads a mapping, and refuses one that has a key twice. A key is a word: `on`, which YAML 1.1 takes for a
        truth value, too.
        """
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:bool":
                key_node.tag = "tag:yaml.org,2002:str"
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *shared` may be overridden, which is its use
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"{key!r} is said twice, again in line {line}; say it once")
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def apply(said: dict[str, Any], change: str) -> None:
    """Applies one ``--set a.b=value``: the value as YAML, missing mappings made on the way.

    Raises:
        InputError: the change is none, or does not fit what is there.
    """
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {change}: write key=value, for example --set budget.trials=8")
    *way, last = key.strip().split(".")
    place = said
    for step in way:
        place = place.setdefault(step, {})
        if not isinstance(place, dict):
            raise InputError(f"--set {change}: {step!r} is no mapping in this study")
    try:
        place[last] = yaml.load(value, Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"--set {change}: the value is not YAML") from error
