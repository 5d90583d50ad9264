"""The commands that look: at runs, one run, parts, this machine; mirror, gc. Parse, call, print."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from facex_tune.cli import completing
from facex_tune.cli.common import examples, open_run, print_json, print_out, stdout_console, use_parts
from facex_tune.cli.options import (
    DATA,
    STORAGE,
    DataDir,
    Device,
    Json,
    OwnParts,
    RunName,
    RunStates,
    Storage,
    TrialStates,
    a_name,
)
from facex_tune.emotions import GREY, RGB, FaceShape
from facex_tune.errors import InputError
from facex_tune.storage import files

SHEETS = Path("sheets")
SHOWN = 20  # trials


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(
        "runs", epilog=examples("facex-tune runs", "facex-tune runs --state interrupted", "facex-tune runs --json")
    )(list_runs)
    app.command(
        epilog=examples(
            "facex-tune show demo",
            "facex-tune show demo --top 50 --state finished",
            "facex-tune show demo --trial t0007    # its configuration and every epoch",
            "facex-tune show demo --follow         # watch a run that another process writes",
            "facex-tune show demo --json",
        )
    )(show)
    app.command(
        epilog=examples(
            "facex-tune mirror demo                        # all three, into the run's own folder",
            "facex-tune mirror demo --optuna study.log --follow    # meanwhile: optuna-dashboard study.log",
            "facex-tune mirror demo --tensorboard logs     # then: tensorboard --logdir logs",
            "facex-tune mirror demo --csv trials.csv",
            "facex-tune mirror demo --mlflow mlflow.db     # then: mlflow ui --backend-store-uri sqlite:///mlflow.db",
            "facex-tune mirror demo --wandb offline        # then: wandb leet offline/wandb",
        )
    )(mirror)
    app.command(epilog=examples("facex-tune gc", "facex-tune gc demo --yes", "facex-tune gc --json"))(gc)
    app.command(
        epilog=examples(
            "facex-tune parts",
            "facex-tune parts model vgg resnet",
            "facex-tune parts models    # and what each costs here",
            "facex-tune parts augment --show    # sheets of faces: sheets/affine.png and so on",
            "facex-tune parts augment --show mixup randaugment --faces fer2013 --out pictures",
            "facex-tune parts --parts my_parts --json",
        )
    )(parts)
    app.command("doctor", epilog=examples("facex-tune doctor", "facex-tune doctor --full", "facex-tune doctor --json"))(
        examine
    )


def list_runs(storage: Storage = STORAGE, states: RunStates = None, as_json: Json = False) -> None:
    """List the runs of the storage folder, the newest first: state, age, trials, best value and what it rests on."""
    from facex_tune.cli import run_tables
    from facex_tune.runs import overview

    document = overview.of_runs(storage, states or ())
    if as_json:
        print_json(document)
    elif document["runs"]:
        print_out(run_tables.runs(document, stdout_console().width))
    elif states:
        typer.echo(f"no runs in {storage} are {' or '.join(states)}")
    else:
        typer.echo(f"no runs in {storage}; begin one: facex-tune run search_spaces/quick.yaml")


def show(
    run: RunName,
    storage: Storage = STORAGE,
    top: Annotated[int | None, typer.Option("--top", min=1, help="How many trials; default: 20, all as JSON.")] = None,
    states: TrialStates = None,
    trial: Annotated[
        str | None, typer.Option("--trial", metavar="TRIAL", help="One trial alone, with its epochs.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "--live", help="Watch the run for as long as another process writes it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """A run's state, leaderboard, final models and test scores; one trial of it; or the run as it goes on."""
    from facex_tune.cli import run_tables
    from facex_tune.runs import overview

    opened = open_run(storage, run)
    if follow and (as_json or trial):
        raise InputError("--follow draws a run as it goes on; leave --json and --trial out, or --follow")
    if follow:
        from facex_tune.display.follow import watch  # the live board, which nothing else here needs

        watch(opened)
    if trial is not None:
        document = overview.of_trial(opened, trial)
    else:
        document = overview.of_run(opened, states=states or (), top=top if as_json else top or SHOWN)
    if as_json:
        print_json(document)
    elif trial is not None:
        print_out(*run_tables.trial(document, ascii_only=stdout_console().options.ascii_only))
    else:
        print_out(*run_tables.run(document, stdout_console().width))
        if states and not document["leaderboard"]:
            typer.echo(f"no trial is {' or '.join(states)}")


def mirror(
    run: RunName,
    storage: Storage = STORAGE,
    optuna: Annotated[
        Path | None,
        typer.Option("--optuna", metavar="FILE", parser=files.absolute, help="An Optuna study, as a journal file."),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            "--tensorboard", metavar="DIR", parser=files.absolute, help="TensorBoard logs: scalars and hparams."
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", parser=files.absolute, help="A table, one row a trial.")
    ] = None,
    mlflow: Annotated[
        Path | None,
        typer.Option(
            "--mlflow", metavar="FILE", parser=files.absolute, help="An experiment in a local SQLite file of MLflow's."
        ),
    ] = None,
    wandb: Annotated[
        Path | None,
        typer.Option("--wandb", metavar="DIR", parser=files.absolute, help="Offline runs of Weights & Biases."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on for as long as another process writes the run.")
    ] = False,
    with_faces: Annotated[
        bool, typer.Option("--with-faces", help="Show some of the test sets' faces in the TensorBoard logs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a run for other tools: optuna-dashboard, TensorBoard, MLflow, W&B, spreadsheets. The run is only read."""
    from facex_tune.mirrors import mirror

    opened = open_run(storage, run)
    named = {"optuna": optuna, "tensorboard": tensorboard, "csv": csv, "mlflow": mlflow, "wandb": wandb}
    targets = mirror.Targets.chosen(opened, **named)
    document = mirror.mirror(opened, targets, follow=follow, faces=with_faces)
    if as_json:
        print_json(document)
        return
    for form, path in document["written"].items():
        typer.echo(f"{path}{mirror.HOW_TO_OPEN[form].format(shlex.quote(path))}")


def gc(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="One run; default: all of the storage folder.",
            callback=a_name,
            autocompletion=completing.run_names,
        ),
    ] = None,
    storage: Storage = STORAGE,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Delete what runs no longer need: old checkpoints, broken-off writes. Never a final model, log or report."""
    from facex_tune.runs import retention

    found = retention.look_at_all(storage) if run is None else [retention.look(open_run(storage, run))]
    for each in found if yes else ():
        if each.waste:
            retention.remove(storage, each)
    if as_json:
        print_json(retention.document(found, yes))
    else:
        typer.echo("\n".join(retention.in_words(found, yes)))


def parts(
    family: Annotated[
        str | None,
        typer.Argument(
            metavar="[FAMILY]",
            help="model, augment or balance; default: all.",
            autocompletion=completing.among(completing.FAMILIES),
        ),
    ] = None,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Parts of the family; default: all.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="With augment: draw a sheet of faces for each policy and mixing knob.")
    ] = False,
    faces: Annotated[
        str | None,
        typer.Option(
            "--faces",
            metavar="SET",
            help="With --show: a prepared set's training faces; default: drawn.",
            autocompletion=completing.set_names,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", parser=files.absolute, help="With --show: the sheets' folder.")
    ] = SHEETS,
    data: DataDir = DATA,
    parts: OwnParts = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="models: time each here, a second or two (of --parts).")
    ] = True,
    size: Annotated[int, typer.Option("--size", metavar="PIXELS", help="models: cost of faces of that size.")] = 48,
    colour: Annotated[bool, typer.Option("--colour", "--color", help="models: cost of faces in colour.")] = False,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """List the parts that a study can name, with their knobs and ranges; of models alone also what each costs. Or look
    at what augmentations do to faces.
    """
    from facex_tune.cli import tables
    from facex_tune.inspection import catalog
    from facex_tune.parts import is_own
    from facex_tune.space import FAMILIES

    use_parts(parts)
    if show:
        _show_sheets(None if family is None else catalog.family(family), names or (), faces, data, out, as_json)
        return
    if faces is not None:
        raise InputError(f"--faces {faces} goes with --show: `facex-tune parts augment --show --faces {faces}`")
    families = list(FAMILIES) if family is None else [catalog.family(family)]
    document = catalog.of_parts(families, names or ())
    if families == ["model"]:
        models = list(document["families"]["model"])
        own = [] if names else [name for name in models if is_own("model", name)]  # who asks by --parts asks for these
        timed = own or models
        document["costs"] = _costs(models, device, timed if measure else [], FaceShape(size, RGB if colour else GREY))
    if as_json:
        print_json(document)
    else:
        print_out(tables.parts(document), *(["", *tables.costs(document["costs"])] if "costs" in document else []))


def examine(
    data: DataDir = DATA,
    storage: Storage = STORAGE,
    full: Annotated[bool, typer.Option("--full", help="Also start Ray and stop it (up to a minute).")] = False,
    as_json: Json = False,
) -> None:
    """What of this machine works, what does not, and what to do. Exit code 1 where something would stop a run."""
    from facex_tune.cli import tables
    from facex_tune.inspection import doctor

    findings = doctor.examine(data, storage, full=full)
    if as_json:
        print_json(doctor.to_data(findings))
    else:
        print_out(tables.findings(findings))
    raise typer.Exit(doctor.exit_code(findings))


def _show_sheets(
    family: str | None, names: Sequence[str], faces: str | None, data: Path, out: Path, as_json: bool
) -> None:
    if family != "augment":
        raise InputError(f"--show: {family or 'no family'} has no sheets; write `facex-tune parts augment --show`")
    from facex_tune.inspection import augment_sheets

    written = augment_sheets.write(names, data, faces, out)
    if as_json:
        print_json({"version": 1, "sheets": {name: str(path) for name, path in written.items()}})
    else:
        for path in written.values():
            typer.echo(f"written: {path}")


def _costs(models: list[str], device: str | None, timed: list[str], face: FaceShape) -> dict[str, Any]:
    from facex_tune.display.view import counting
    from facex_tune.inspection import costs

    with counting("measuring models") as progress:
        return costs.of_models(models, device, timed=timed, face=face, progress=progress)
