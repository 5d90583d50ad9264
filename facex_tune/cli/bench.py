"""The command `bench`: where a study's time goes on this machine."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from facex_tune.cli.common import examples, load_study, print_json, print_out, run_options
from facex_tune.cli.options import DATA, STORAGE, DataDir, Device, Json, OwnParts, Sets, Storage, StudyFile


def add_to(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command(
        epilog=examples(
            "facex-tune bench search_spaces/quick.yaml",
            "facex-tune bench search_spaces/fer2013_cpu.yaml --profile --json",
        )
    )(bench)


def bench(
    study: StudyFile,
    data: DataDir = DATA,
    storage: Storage = STORAGE,
    sets: Sets = None,
    device: Device = None,
    parts: OwnParts = None,
    profile: Annotated[bool, typer.Option("--profile", help="Also by kind of operation, by torch's profiler.")] = False,
    as_json: Json = False,
) -> None:
    """Measure where the time of a study's trainings goes on this machine, and what would make them faster."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler talks to standard error, and reads this with torch
    checked = load_study(study, sets, None, parts)
    options = run_options(storage, data, device, parts, None)
    from facex_tune.pipeline import dry_run

    dry_run.check(checked, None, options)
    from facex_tune.cli import tables  # here, so that what is refused need not wait for them
    from facex_tune.display.view import naming
    from facex_tune.pipeline.bench import bench as measure

    with naming("measuring") as progress:
        found = measure(checked, options, progress, profiled=profile)
    if as_json:
        print_json({"version": 1, "study": checked.name, **found})
        return
    print_out(*tables.bench(found))
    for line in [dry_run.busy_note(found["load_average"]), *found["advice"]]:
        if line:
            typer.echo(f"note: {line}", err=True)
