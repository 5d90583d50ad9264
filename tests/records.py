"""Events that a test spells as the log does, as the records that a log takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facex_tune.runs.events import LOGGED, TOLD, EpochDone, Record

_OF_TYPE = {each.TYPE: each for each in (*LOGGED, *TOLD)}


def record(event: Mapping[str, Any]) -> Record:
    """The record of an event, which may have been read from a log."""
    fields = {name: value for name, value in event.items() if name not in ("v", "seq", "time_utc", "type")}
    return _OF_TYPE[event["type"]](**fields)


def epoch(trial: int = 0, number: int = 1, **metrics: float) -> EpochDone:
    """One that took a second."""
    return EpochDone(trial, number, metrics, 1.0)
