"""The commands that execute stages: run, search, retrain, evaluate, factors, report. Parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from facex_tune.cli import completing
from facex_tune.cli.common import (
    examples,
    load_study,
    open_run,
    print_json,
    print_out,
    process_outcome,
    run_options,
    stdout_console,
)
from facex_tune.cli.options import (
    DATA,
    STORAGE,
    Address,
    DataDir,
    Device,
    DryRun,
    Json,
    NewRun,
    OwnParts,
    RunName,
    Seed,
    Sets,
    Storage,
    StudyFile,
    a_name,
)
from facex_tune.cli.outcome import WRONG_INPUT
from facex_tune.errors import InputError
from facex_tune.runs.names import STAGES

if TYPE_CHECKING:
    from facex_tune.pipeline.options import Options
    from facex_tune.runs.store import Run
    from facex_tune.study import Study

SHOWN_AT_END = 5  # trials


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(
        epilog=examples(
            "facex-tune run search_spaces/quick.yaml --run demo",
            "facex-tune run search_spaces/fer2013_cpu.yaml --dry-run",
            "facex-tune run search_spaces/quick.yaml --set budget.trials=4 --set retrain.seeds=3 --seed 7",
            "facex-tune run search_spaces/quick.yaml --set space.model='[resnet]' --device cpu",
        )
    )(run)
    app.command(epilog=examples("facex-tune search search_spaces/quick.yaml --run demo", "facex-tune retrain demo"))(
        search
    )
    app.command(epilog=examples("facex-tune retrain demo", "facex-tune retrain demo --device cuda"))(retrain)
    app.command(
        epilog=examples(
            "facex-tune evaluate demo",
            "facex-tune evaluate demo --protocol ferplus.majority7 --protocol folder.mine",
        )
    )(evaluate)
    app.command(epilog=examples("facex-tune factors demo", "facex-tune factors demo --seeds 3 --time 2h"))(factors)
    app.command(epilog=examples("facex-tune report demo", "facex-tune report demo another"))(report)


def run(
    study: StudyFile,
    run: NewRun = None,
    data: DataDir = DATA,
    storage: Storage = STORAGE,
    sets: Sets = None,
    seed: Seed = None,
    device: Device = None,
    parts: OwnParts = None,
    address: Address = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Every stage of a study: search, retrain the best, evaluate on the sealed test sets, report."""
    checked = load_study(study, sets, seed, parts)
    options = run_options(storage, data, device, parts, address)
    if dry_run:
        _dry_run(checked, run, STAGES, options, as_json)
    else:
        work(_begin(checked, run, options), STAGES, options, as_json)


def search(
    study: StudyFile,
    run: NewRun = None,
    data: DataDir = DATA,
    storage: Storage = STORAGE,
    sets: Sets = None,
    seed: Seed = None,
    device: Device = None,
    parts: OwnParts = None,
    address: Address = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """The search alone; retrain, evaluate and report can follow, each by its own command."""
    checked = load_study(study, sets, seed, parts)
    options = run_options(storage, data, device, parts, address)
    if dry_run:
        _dry_run(checked, run, ["search"], options, as_json)
    else:
        work(_begin(checked, run, options), ["search"], options, as_json)


def retrain(
    run: RunName,
    data: DataDir = DATA,
    storage: Storage = STORAGE,
    device: Device = None,
    parts: OwnParts = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Train a searched run's best candidates again with new seeds, at the full budget."""
    work(open_run(storage, run), ["retrain"], run_options(storage, data, device, parts, address), as_json)


def evaluate(
    run: RunName,
    protocols: Annotated[
        list[str] | None,
        typer.Option("--protocol", metavar="ID", help="Score under this; repeatable. Default: what the study names."),
    ] = None,
    data: DataDir = DATA,
    storage: Storage = STORAGE,
    device: Device = None,
    parts: OwnParts = None,
    as_json: Json = False,
) -> None:
    """Score a run's final models on the sealed test sets, and report; every opening of one is logged and counted."""
    from facex_tune.study.protocols import find

    asked = tuple(find(name).id for name in protocols or ())
    options = replace(run_options(storage, data, device, parts, None), protocols=asked)
    work(open_run(storage, run), ["evaluate", "report"], options, as_json)


def factors(
    run: RunName,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Replicates of each configuration, paired. Default: 3.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Of each. Default: the study's fidelity.max_epochs.")
    ] = None,
    time: Annotated[
        str | None, typer.Option("--time", help="Wall clock of this session, such as 2h; the same command goes on.")
    ] = None,
    data: DataDir = DATA,
    storage: Storage = STORAGE,
    device: Device = None,
    parts: OwnParts = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Measure what matters: the winner with one part or knob changed at a time, and architecture × augmentation ×
    balancing, all trained alike.
    """
    from facex_tune.search.factor_progress import Asked

    asked = Asked(seeds, epochs, Asked.seconds(time))
    options = replace(run_options(storage, data, device, parts, address), factors=asked)
    work(open_run(storage, run), ["factors", "report"], options, as_json)


def report(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="One run, or several to compare.", autocompletion=completing.run_names),
    ],
    data: DataDir = DATA,
    storage: Storage = STORAGE,
    without_faces: Annotated[
        bool, typer.Option("--without-faces", help="Show no faces of the test sets; a page that may be passed on.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a run's report again; of a run that still goes on, too, and where its data are not. Of several: compare."""
    opened = [open_run(storage, str(a_name(run))) for run in runs]
    if len(opened) == 1:
        from facex_tune.api import runs as api

        options = run_options(storage, data, None, None, None)
        page = api.Run(opened[0], options).report(faces=not without_faces).report_path
    else:
        from facex_tune.report import several_runs

        page = several_runs.report(opened, data)  # which shows none
    if as_json:
        print_json({"version": 1, "run": ", ".join(runs), "report": str(page)})
    else:
        typer.echo(f"report: {page}")


def _begin(study: Study, name: str | None, options: Options) -> Run:
    from facex_tune.pipeline.begin import begin

    return begin(study, name, options)


def work(run: Run, stages: Sequence[str], options: Options, as_json: bool) -> None:
    """Does the stages, shows them as they go on, and then tells where things stand and where the report is."""
    from facex_tune.api import runs
    from facex_tune.cli import run_tables
    from facex_tune.pipeline.options import resume_words
    from facex_tune.pipeline.stages import next_command
    from facex_tune.runs import overview

    process_outcome.run_folder, process_outcome.resume = run.folder, resume_words(run, options)
    runs.work(run, stages, options)
    if as_json:
        print_json(overview.of_run(run))
        return
    print_out(*run_tables.run(overview.of_run(run, top=SHOWN_AT_END), stdout_console().width))
    typer.echo(f"run {run.name}: {run.folder}")
    if following := next_command(run, options):
        typer.echo(f"next: {following}")
    page = run.folder / "report" / "index.html"
    if page.exists():
        typer.echo(f"report: {page}")


def _dry_run(study: Study, run: str | None, stages: Sequence[str], options: Options, as_json: bool) -> None:
    from facex_tune.pipeline import dry_run

    try:
        dry_run.check(study, run, options)
    except InputError as error:
        if not as_json:
            raise
        print_json({"version": 1, "study": study.name, "problems": error.problems, "estimate": None, "told": []})
        raise typer.Exit(WRONG_INPUT) from error
    from facex_tune.cli import tables  # here, so that what is refused need not wait for them
    from facex_tune.display.view import naming

    with naming("measuring") as progress:
        figures = dry_run.estimate(study, options, progress, retrains="retrain" in stages)
    busy = dry_run.busy_note(figures["load_average"])
    told = [*([busy] if busy else []), *dry_run.told(study, options)]
    if as_json:
        print_json({"version": 1, "study": study.name, "problems": [], "estimate": figures, "told": told})
        return
    print_out(tables.estimate(figures))
    for note in told:
        typer.echo(f"note: {note}", err=True)
