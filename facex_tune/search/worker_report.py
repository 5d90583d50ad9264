"""What a worker tells its driver after each step, as records. Ray Tune carries a report as JSON text, our own actors as
it is.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Note:
    """Something that befell a job and did not end it.

    Attributes:
        reason: the name that the log counts it under: "hung", "out_of_memory", "checkpoint_lost", …
        detail: one line for a person.
    """

    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What every kind of report may carry."""

    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Epoch(Report):
    """A job has trained one more epoch, or tells again the one that its checkpoint holds.

    Attributes:
        epoch: its number, from 1.
        metrics: measured on the validation faces.
        seconds: the wall-clock time that it took.
        host: the machine that trained it.
        unsaved: whether no checkpoint holds it yet.
    """

    epoch: int
    metrics: dict[str, float]
    seconds: float
    host: str = ""
    unsaved: bool = False


@dataclass(frozen=True)
class End(Epoch):
    """A job has trained its last epoch, and its model is kept where the job asks for that."""


@dataclass(frozen=True)
class Failure(Report):
    """A job cannot be trained; others can.

    Attributes:
        reason: "diverged", "out_of_memory", "hung" or "error".
        detail: one line for a person.
        seconds: the wall-clock time that was spent since the last epoch.
    """

    reason: str
    detail: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Fatal(Report):
    """A fault that no other job would escape either, told as the user is to read it."""

    problem: str


@dataclass(frozen=True)
class Outage(Report):
    """The run folder's store does not answer, which ends the run until it does."""

    problem: str


KINDS: dict[str, type[Report]] = {kind.__name__: kind for kind in (Epoch, End, Failure, Fatal, Outage)}


def to_json(report: Report) -> str:
    """A report as one JSON text: its fields, and `kind`, which names its class."""
    return json.dumps({"kind": type(report).__name__, **asdict(report)})


def from_json(text: str) -> Report:
    """The report that `to_json` wrote."""
    fields: dict[str, Any] = json.loads(text)
    kind = KINDS[fields.pop("kind")]
    notes = tuple(Note(**note) for note in fields.pop("notes"))
    return kind(**fields, notes=notes)
