"""A study before it is submitted: a template to begin with, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from facex_tune.data import faces
from facex_tune.errors import InputError
from facex_tune.inspection import starter
from facex_tune.pipeline import dry_run
from facex_tune.pipeline.begin import checked
from facex_tune.runs import overview
from facex_tune.service import received
from facex_tune.service.manager import Manager
from facex_tune.service.reads import Reads
from facex_tune.service.received import Ceiling
from facex_tune.storage.files import NAME
from facex_tune.storage.patience import bounded_checks

FILE = "study.yaml"  # that the template's header speaks of
USUAL_HOURS = 2.0
MOST_PROBLEMS = 50


def router(manager: Manager, ceiling: Ceiling | None, reads: Reads, errors: Mapping[int | str, Any]) -> APIRouter:
    """The door of the template. That of the check takes a body, and stands with those that act."""
    made = APIRouter(prefix="/api", responses=dict(errors))

    @made.get("/study-template")
    async def template(
        data: Annotated[str, Query(pattern=NAME, description="A data set's name.")] = "synthetic",
        machine: Literal["cpu", "gpu"] = "cpu",
        time: Annotated[str | None, Query(max_length=16, description="Of the search, such as 45m or 2h.")] = None,
    ) -> dict[str, Any]:
        """A commented study to begin with, as `facex-tune init` writes it, and the sets that it could be for."""
        return await reads.do(of_template, manager, ceiling, data, machine, time)

    return made


def of_template(manager: Manager, ceiling: Ceiling | None, data: str, machine: str, time: str | None) -> dict[str, Any]:
    """{version, data, machines, time, study}.

    Raises:
        InputError: no time is called so.
    """
    data_dir = manager.options.data_dir
    hours = min(USUAL_HOURS, USUAL_HOURS if ceiling is None or ceiling.hours is None else ceiling.hours)
    time = time or (f"{hours:g}h" if hours >= 1 else f"{max(1, int(60 * hours))}m")
    asked = starter.Asked(name=data[:60].lstrip("_.-") or "study", data=data, machine=machine, time=time)
    try:
        text = starter.text(asked, data_dir, FILE)
    except InputError as error:
        raise InputError([problem.removeprefix("--") for problem in error.problems]) from error
    known = dict.fromkeys(["synthetic", *faces.prepared_names(data_dir)])
    said = {"version": overview.VERSION, "data": list(known), "machines": list(starter.MACHINES)}
    return said | {"time": time, "study": text}


def of_check(manager: Manager, ceiling: Ceiling | None, body: Any) -> dict[str, Any]:
    """{version, study, run, goes_on, problems, told}: what a submission would be refused for, a line each, and what a
    user should know before. Nothing is begun.

    Raises:
        InputError: the body is no submission.
    """
    received.check_shape_of(body)
    said: dict[str, Any] = {"version": overview.VERSION, "study": None, "run": None, "goes_on": False}
    told: list[str] = []
    with bounded_checks(received.MOST_COMBINATIONS, received.CHECKED_WITHIN_S):
        try:
            name, study = received.of_body(body, ceiling)
            said |= {"study": study.name, "run": name}
            said["goes_on"] = checked(study, name, manager.options) is not None
        except InputError as error:
            problems = error.problems[:MOST_PROBLEMS]
            left = len(error.problems) - len(problems)
            return said | {"problems": [*problems, *([f"and {left:,} more"] if left else [])], "told": []}
        with suppress(InputError):
            told = dry_run.told(study, manager.options)
    return said | {"problems": [], "told": told}
