"""The command that goes on with a run."""

from __future__ import annotations

from dataclasses import replace

import typer

from facex_tune.cli.common import examples, open_run, run_options
from facex_tune.cli.options import DATA, STORAGE, Address, DataDir, Device, Json, OwnParts, Raises, RunName, Storage
from facex_tune.cli.run import work


def add_to(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command(epilog=examples("facex-tune resume demo", "facex-tune resume demo --set budget.trials=40"))(resume)


def resume(
    run: RunName,
    data: DataDir = DATA,
    storage: Storage = STORAGE,
    device: Device = None,
    parts: OwnParts = None,
    address: Address = None,
    sets: Raises = None,
    as_json: Json = False,
) -> None:
    """Go on with a run that was interrupted or killed: with the stages that were asked for and no others; what is
    unfinished goes on from its last checkpoint. With a raised budget, a finished run goes on too, and chooses anew.
    """
    from facex_tune.pipeline.raising import raised
    from facex_tune.pipeline.stages import unfinished
    from facex_tune.search.factor_progress import Asked

    found = open_run(storage, run)
    events = list(found.events())
    more = raised(found, sets) if sets else None
    stages, protocols = unfinished(events if more is None else [*events, {"type": more.TYPE, **more.fields()}])
    options = replace(run_options(storage, data, device, parts, address), raised=more, protocols=protocols)
    work(found, stages, replace(options, factors=Asked.interrupted(events)), as_json)
