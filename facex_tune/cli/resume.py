"""The command that goes on with a run."""

from __future__ import annotations

from dataclasses import replace

import typer

from facex_tune.cli.common import examples, open_run, run_options
from facex_tune.cli.options import DATA, STORAGE, Address, DataDir, Device, Json, OwnParts, RunName, Storage
from facex_tune.cli.run import work


def add_to(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command(epilog=examples("facex-tune resume demo"))(resume)


def resume(
    run: RunName,
    data: DataDir = DATA,
    storage: Storage = STORAGE,
    device: Device = None,
    parts: OwnParts = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Go on with a run that was interrupted or killed: with the stages that were asked for and no others; what is
    unfinished goes on from its last checkpoint.
    """
    from facex_tune.pipeline.stages import unfinished
    from facex_tune.search.asked import Asked

    found = open_run(storage, run)
    events = list(found.events())
    stages, protocols = unfinished(events)
    options = run_options(storage, data, device, parts, address)
    work(found, stages, replace(options, factors=Asked.interrupted(events), protocols=protocols), as_json)
