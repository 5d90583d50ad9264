"""A study that somebody sent: parsed as data within bounds, before the study's own checks see it. Nothing is executed,
and nothing small can grow large: no YAML aliases, no deep nesting, no run without end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from facex_tune import study as studies
from facex_tune.errors import InputError
from facex_tune.study import Study

LARGEST_BYTES = 64 * 1024
DEEPEST = 16  # a study nests six levels
MOST = {"retrain.seeds": 50, "retrain.top": 100, "retrain.epochs": 100_000, "fidelity.max_epochs": 100_000}
MOST |= {"budget.trials": 1_000_000, "search.concurrency": 100_000}


def study(text: str) -> Study:
    """A study from YAML (and so from JSON) text.

    Raises:
        InputError: too large, too deep, aliases, no study, or one that asks for more than a service grants.
    """
    if len(text.encode()) > LARGEST_BYTES:
        raise InputError(f"the study has {len(text.encode()):,} bytes; {LARGEST_BYTES:,} at most")
    said = _loaded(text)
    if not isinstance(said, Mapping):
        raise InputError("no study: a mapping of keys such as name, data, space is wanted")
    found = studies.parse(said)
    _within_bounds(found)
    return found


def _loaded(text: str) -> Any:
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise InputError("a study sent to a service holds no YAML aliases (*name); write the values out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise InputError(f"the study nests deeper than {DEEPEST} levels; no study does")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a ValueError: a date or number out of all range
        raise InputError(f"the study is no YAML: {' '.join(str(error).split())[:300]}") from error


def _within_bounds(found: Study) -> None:
    said = found.to_data()
    problems = []
    for key, most in MOST.items():
        room, name = key.split(".")
        value = said[room].get(name)
        if value is not None and value > most:
            problems.append(f"{key}: {value:,} is more than this service grants ({most:,} at most)")
    if problems:
        raise InputError(problems)


def of_body(body: Any) -> tuple[str | None, Study]:
    """Name and study of a submission: `{"run": NAME, "study": {...} or "YAML text"}`.

    Raises:
        InputError: as `study`.
    """
    if not isinstance(body, Mapping) or "study" not in body or set(body) - {"run", "study"}:
        raise InputError('a submission is {"run": NAME, "study": {...}}; the study as a mapping or as YAML text')
    name, said = body.get("run"), body["study"]
    if name is not None and not isinstance(name, str):
        raise InputError(f"run: a name is wanted, not {str(name)[:50]!r}")
    text = said if isinstance(said, str) else json.dumps(said)
    return name, study(text)
