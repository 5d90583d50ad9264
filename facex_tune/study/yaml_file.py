"""A study file as plain data: YAML, with ``key=value`` changes on top."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from facex_tune.errors import InputError, one_line


def read(path: Path, sets: Sequence[str] = ()) -> dict[str, Any]:
    """Reads a study file.

    Raises:
        InputError: the file cannot be read, is no YAML mapping, or says a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read this study: {getattr(error, 'strerror', None) or error}") from error
    try:
        said = yaml.load(text, _Loader)
    except RecursionError as error:
        raise InputError(f"{path}: not YAML that can be read: nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: what looks like a date, and is none
        reason = one_line(error).replace('in "<unicode string>", ', "in ")
        raise InputError(f"{path}: not YAML: {reason}") from error
    if not isinstance(said, dict):
        raise InputError(f"{path}: a study is a mapping that starts with `version: 1`; see search_spaces/quick.yaml")
    for change in sets:
        _apply(said, change)
    return said


class _Loader(yaml.SafeLoader):
    """Safe, and strict: YAML lets the last of two equal keys win, silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Reads a mapping, and refuses one that has a key twice."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *shared` may be overridden, which is its use
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"{key!r} is said twice, again in line {line}; say it once")
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _apply(said: dict[str, Any], change: str) -> None:
    """One ``--set a.b=value``: the value as YAML, missing mappings made on the way."""
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
        place[last] = yaml.load(value, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"--set {change}: the value is not YAML") from error
