"""The command line: parse, call, print. What a command does lies in the module that it calls.

Standard output carries what was asked for (with `--json`, exactly one JSON document); progress and errors go to
standard error. Exit codes: 0 done, 2 wrong input, 75 interrupted and resumable, 1 anything else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facex_tune import __version__, elsewhere, files
from facex_tune.errors import InputError
from facex_tune.options import (
    DATA,
    STORAGE,
    Address,
    DataDir,
    Device,
    Json,
    NewRun,
    OwnParts,
    RunName,
    RunStates,
    Seed,
    Sets,
    Storage,
    StudyFile,
    TrialStates,
    a_name,
)
from facex_tune.outcome import WRONG_INPUT, Outcome

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from facex_tune.files import Place
    from facex_tune.pipeline import Options
    from facex_tune.store import Run
    from facex_tune.study import Study

ALL_STAGES = ("search", "retrain", "evaluate", "report")

app = typer.Typer(
    help="Search, retrain, evaluate and report facial-expression models; a study (YAML) says what.",
    epilog="Begin with: [bold]facex-tune run search_spaces/quick.yaml --run demo[/bold]",
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Prepare data sets, list, show and audit them.")
app.add_typer(data_app, name="data")

SHEETS = Path("sheets")
PIPE_WIDTH = 500  # columns
SHOWN, SHOWN_AT_END = 20, 5  # trials
_outcome = Outcome()


def _examples(*lines: str) -> str:
    """The end of a command's help; rich keeps paragraphs apart and joins lines."""
    return "\n\n".join(["[bold]Examples[/bold]", *(line.replace("[", r"\[") for line in lines)])


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"facex-tune {__version__}")
        raise typer.Exit


@app.command(
    epilog=_examples(
        "facex-tune run search_spaces/quick.yaml --run demo",
        "facex-tune run search_spaces/fer2013_cpu.yaml --dry-run",
        "facex-tune run search_spaces/quick.yaml --set budget.trials=4 --set retrain.seeds=3 --seed 7",
        "facex-tune run search_spaces/quick.yaml --set space.model='[resnet]' --device cpu",
    )
)
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print trials, hours, memory, disk and every problem; start no run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Every stage of a study: search, retrain the best, evaluate on the sealed test sets, report."""
    checked = _load(study, sets, seed, parts)
    options = _options(storage, data, device, parts, address)
    if dry_run:
        _dry_run(checked, run, options, as_json)
    else:
        _work(_begin(checked, run, options), ALL_STAGES, options, as_json)


@app.command(epilog=_examples("facex-tune search search_spaces/quick.yaml --run demo", "facex-tune retrain demo"))
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
    as_json: Json = False,
) -> None:
    """The search alone; retrain, evaluate and report can follow, each by its own command."""
    checked = _load(study, sets, seed, parts)
    options = _options(storage, data, device, parts, address)
    _work(_begin(checked, run, options), ["search"], options, as_json)


@app.command(epilog=_examples("facex-tune retrain demo", "facex-tune retrain demo --device cuda"))
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
    _work(_open(storage, run), ["retrain"], _options(storage, data, device, parts, address), as_json)


@app.command(
    epilog=_examples(
        "facex-tune evaluate demo",
        "facex-tune evaluate demo --protocol ferplus.majority7 --protocol folder.mine",
    )
)
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
    from facex_tune.protocols import find

    asked = tuple(find(name).id for name in protocols or ())
    options = replace(_options(storage, data, device, parts, None), protocols=asked)
    _work(_open(storage, run), ["evaluate", "report"], options, as_json)


@app.command(epilog=_examples("facex-tune factors demo", "facex-tune factors demo --seeds 3 --time 2h"))
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
    from facex_tune.search.asked import Asked

    asked = Asked(seeds, epochs, Asked.seconds(time))
    options = replace(_options(storage, data, device, parts, address), factors=asked)
    _work(_open(storage, run), ["factors", "report"], options, as_json)


@app.command(epilog=_examples("facex-tune report demo", "facex-tune report demo another"))
def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="One run, or several to compare.")],
    data: DataDir = DATA,
    storage: Storage = STORAGE,
    as_json: Json = False,
) -> None:
    """Write a run's report again; of a run that still goes on, too, and where its data are not. Of several: compare."""
    from facex_tune.evidence import report, several
    from facex_tune.options import a_name

    opened = [_open(storage, str(a_name(run))) for run in runs]
    page = report.report(opened[0], data) if len(opened) == 1 else several.report(opened, data)
    if as_json:
        _print_json({"version": 1, "run": ", ".join(runs), "report": str(page)})
    else:
        typer.echo(f"report: {page}")


@app.command(
    epilog=_examples("facex-tune predict demo face.png", "facex-tune predict demo/t0007-s0 faces/*.png --json")
)
def predict(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A run (its winner), RUN/t0007-s0, a model's folder, an exported file."),
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images of one cropped face each.")],
    storage: Storage = STORAGE,
    device: Device = None,
    parts: OwnParts = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average each face with its mirror image.")] = False,
    as_json: Json = False,
) -> None:
    """Probabilities of each emotion for faces. Expects a cropped face an image, and does not look for one."""
    from facex_tune import tables
    from facex_tune.evidence import predict

    _use_parts(parts)
    trained = predict.find(model, storage)
    document = predict.predict(trained, images, device_name=device, tta="flip" if flip else "none")
    if as_json:
        _print_json(document)
    else:
        _print(tables.predictions(document))


@app.command(
    epilog=_examples(
        "facex-tune export demo --format onnx",
        "facex-tune export demo/t0007-s0 --format safetensors --out model.safetensors",
    )
)
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run (its winner), RUN/t0007-s0, or a model's folder.")],
    form: Annotated[str, typer.Option("--format", help="onnx or safetensors.")] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", parser=files.absolute, help="Default: named after the model."),
    ] = None,
    storage: Storage = STORAGE,
    parts: OwnParts = None,
) -> None:
    """Write a trained model for use elsewhere; the ONNX graph takes grey 48×48 faces as they are."""
    from facex_tune.evidence import export, predict

    _use_parts(parts)
    trained = predict.find(run, storage)
    path = export.export(trained, form, out or files.absolute(f"{trained.name.replace('/', '-')}.{form}"))
    typer.echo(f"exported: {path}")


@app.command(epilog=_examples("facex-tune resume demo"))
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
    from facex_tune import pipeline
    from facex_tune.search.asked import Asked

    found = _open(storage, run)
    events = list(found.events())
    stages, protocols = pipeline.unfinished(events)
    options = _options(storage, data, device, parts, address)
    _work(found, stages, replace(options, factors=Asked.interrupted(events), protocols=protocols), as_json)


@app.command(
    "runs", epilog=_examples("facex-tune runs", "facex-tune runs --state interrupted", "facex-tune runs --json")
)
def list_runs(storage: Storage = STORAGE, states: RunStates = None, as_json: Json = False) -> None:
    """List the runs of the storage folder, the newest first: state, age, trials, best value and what it rests on."""
    from facex_tune import run_tables, runs

    document = runs.of_runs(storage, states or ())
    if as_json:
        _print_json(document)
    elif document["runs"]:
        _print(run_tables.runs(document, _console().width))
    elif states:
        typer.echo(f"no runs in {storage} are {' or '.join(states)}")
    else:
        typer.echo(f"no runs in {storage}; begin one: facex-tune run search_spaces/quick.yaml")


@app.command(
    epilog=_examples(
        "facex-tune show demo",
        "facex-tune show demo --top 50 --state finished",
        "facex-tune show demo --trial t0007    # its configuration and every epoch",
        "facex-tune show demo --follow         # watch a run that another process writes",
        "facex-tune show demo --json",
    )
)
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
    from facex_tune import following, run_tables, runs

    opened = _open(storage, run)
    if follow and (as_json or trial):
        raise InputError("--follow draws a run as it goes on; leave --json and --trial out, or --follow")
    if follow:
        following.watch(opened)
    if trial is not None:
        document = runs.of_trial(opened, trial)
    else:
        document = runs.of_run(opened, states=states or (), top=top if as_json else top or SHOWN)
    if as_json:
        _print_json(document)
    elif trial is not None:
        _print(*run_tables.trial(document, ascii_only=_console().options.ascii_only))
    else:
        _print(*run_tables.run(document, _console().width))
        if states and not document["leaderboard"]:
            typer.echo(f"no trial is {' or '.join(states)}")


@app.command(
    epilog=_examples(
        "facex-tune mirror demo                        # all three, into the run's own folder",
        "facex-tune mirror demo --optuna study.log --follow    # meanwhile: optuna-dashboard study.log",
        "facex-tune mirror demo --tensorboard logs     # then: tensorboard --logdir logs",
        "facex-tune mirror demo --csv trials.csv",
    )
)
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
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on for as long as another process writes the run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a run for other tools: optuna-dashboard, TensorBoard, a spreadsheet. Changes nothing of the run itself."""
    from facex_tune.mirrors import mirror

    opened = _open(storage, run)
    document = mirror.mirror(opened, mirror.Targets.chosen(opened, optuna, tensorboard, csv), follow=follow)
    if as_json:
        _print_json(document)
        return
    for form, path in document["written"].items():
        typer.echo(f"{path}{mirror.HOW_TO_OPEN[form].format(path)}")


@app.command(epilog=_examples("facex-tune gc", "facex-tune gc demo --yes", "facex-tune gc --json"))
def gc(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="One run; default: all of the storage folder.", callback=a_name),
    ] = None,
    storage: Storage = STORAGE,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Delete what runs no longer need: old checkpoints, broken-off writes. Never a final model, log or report."""
    from facex_tune import retention

    found = retention.look_at_all(storage) if run is None else [retention.look(_open(storage, run))]
    for each in found if yes else ():
        if each.waste:
            retention.remove(storage, each)
    if as_json:
        _print_json(retention.document(found, yes))
    else:
        typer.echo("\n".join(retention.in_words(found, yes)))


@app.command(
    epilog=_examples(
        "facex-tune parts",
        "facex-tune parts model vgg resnet",
        "facex-tune parts models    # and what each costs here",
        "facex-tune parts augment --show    # sheets of faces: sheets/affine.png and so on",
        "facex-tune parts augment --show mixup randaugment --faces fer2013 --out pictures",
        "facex-tune parts --parts my_parts --json",
    )
)
def parts(
    family: Annotated[
        str | None, typer.Argument(metavar="[FAMILY]", help="model, augment or balance; default: all.")
    ] = None,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Parts of the family; default: all.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="With augment: draw a sheet of faces for each policy and mixing knob.")
    ] = False,
    faces: Annotated[
        str | None,
        typer.Option("--faces", metavar="SET", help="With --show: a prepared set's training faces; default: drawn."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", parser=files.absolute, help="With --show: the sheets' folder.")
    ] = SHEETS,
    data: DataDir = DATA,
    parts: OwnParts = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="models: time each on this machine (a second or two each).")
    ] = True,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """List the parts that a study can name, with their knobs and ranges; of models alone also what each costs. Or look
    at what augmentations do to faces.
    """
    from facex_tune import overview, tables
    from facex_tune.space import FAMILIES

    _use_parts(parts)
    if show:
        _show_sheets(None if family is None else overview.family(family), names or (), faces, data, out, as_json)
        return
    if faces is not None:
        raise InputError(f"--faces {faces} goes with --show: `facex-tune parts augment --show --faces {faces}`")
    families = list(FAMILIES) if family is None else [overview.family(family)]
    document = overview.of_parts(families, names or ())
    if families == ["model"]:
        document["costs"] = _costs(list(document["families"]["model"]), device, measure)
    if as_json:
        _print_json(document)
    else:
        _print(tables.parts(document), *(["", *tables.costs(document["costs"])] if "costs" in document else []))


@app.command("doctor", epilog=_examples("facex-tune doctor", "facex-tune doctor --full", "facex-tune doctor --json"))
def examine(
    data: DataDir = DATA,
    storage: Storage = STORAGE,
    full: Annotated[bool, typer.Option("--full", help="Also start Ray and stop it (up to a minute).")] = False,
    as_json: Json = False,
) -> None:
    """What of this machine works, what does not, and what to do. Exit code 1 where something would stop a run."""
    from facex_tune import doctor, tables

    findings = doctor.examine(data, storage, full=full)
    if as_json:
        _print_json(doctor.to_data(findings))
    else:
        _print(tables.findings(findings))
    raise typer.Exit(doctor.exit_code(findings))


@data_app.command(
    epilog=_examples(
        "facex-tune data prepare fer2013 ~/Downloads/fer2013.zip",
        "facex-tune data prepare ckplus ~/Downloads/ckplus.zip",
        "facex-tune data prepare ferplus ~/Downloads/ferplus    # fer2013.csv and fer2013new.csv",
        "facex-tune data prepare folder ~/faces --as my_faces --map boredom=neutral --drop other",
        "facex-tune data prepare synthetic",
    )
)
def prepare(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set; `facex-tune data list` names them.")],
    source: Annotated[Path | None, typer.Argument(metavar="[SOURCE]", help="Its folder, zip or CSV.")] = None,
    data: DataDir = DATA,
    named: Annotated[str | None, typer.Option("--as", metavar="SET", help="folder: what to name the set.")] = None,
    renames: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="CLASS=EMOTION", help="folder: what a class counts as. Repeatable."),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", metavar="CLASS", help="folder: leaves a class out. Repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read a data set from where you downloaded it into the folder of prepared data sets."""
    from facex_tune.data import faces, prepare
    from facex_tune.data.sources.folder import Classes
    from facex_tune.progress import counting

    classes = Classes.parse(renames or (), drop or ()) if renames or drop else None
    before = faces.fingerprints(data)
    with counting(f"preparing {name}") as progress:
        manifests = prepare.prepare(name, source, data, progress, set_name=named, classes=classes)
    _tell_prepared(manifests, before, data, as_json)


@data_app.command("get", epilog=_examples("facex-tune data get fer2013", "facex-tune data get ckplus"))
def get_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="fer2013, ferplus, ckplus or synthetic.")],
    data: DataDir = DATA,
    as_json: Json = False,
) -> None:
    """Download a data set and prepare it (needs the extra: pip install 'facex-tune\\[kaggle]')."""
    from facex_tune.data import faces, get
    from facex_tune.progress import counting

    before = faces.fingerprints(data)
    with counting(f"preparing {name}") as progress:
        manifests = get.get(name, data, progress)
    _tell_prepared(manifests, before, data, as_json)


def _tell_prepared(manifests: dict[str, dict[str, Any]], before: Mapping[str, str], data: Path, as_json: bool) -> None:
    for each, manifest in manifests.items():
        if before.get(each, manifest["sha256"]) != manifest["sha256"]:
            typer.echo(
                f"note: {each}: replaced other faces of that name; a run begun with those goes on with those alone",
                err=True,
            )
    if as_json:
        _print_json({"version": 1, "folder": str(data), "prepared": manifests})
        return
    for each, manifest in manifests.items():
        skipped = f", {len(manifest['skipped'])} skipped (reasons in its manifest.json)" if manifest["skipped"] else ""
        splits = ", ".join(f"{split} {sum(counts.values()):,}" for split, counts in manifest["counts"].items())
        typer.echo(f"{each}: {manifest['n']:,} faces ({splits}){skipped}, in {data / each}")


@data_app.command("list", epilog=_examples("facex-tune data list", "facex-tune data list --json"))
def list_data(data: DataDir = DATA, as_json: Json = False) -> None:
    """Data sets that are prepared, and those that could be."""
    from facex_tune import overview, tables

    document = overview.of_data(data)
    if as_json:
        _print_json(document)
    else:
        _print(tables.data_sets(document))


@data_app.command(
    "show",
    epilog=_examples(
        "facex-tune data show fer2013",
        "facex-tune data show fer2013 --out pictures    # classes.png and faces.png",
        "facex-tune data show fer2013 --json",
    ),
)
def show_data(
    name: Annotated[str, typer.Argument(metavar="SET", help="A prepared set; `facex-tune data list` names them.")],
    data: DataDir = DATA,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            parser=files.absolute,
            help="Also write a class histogram and a sheet of faces.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """A prepared set's classes, split by split; with --out as pictures, with sample faces of each emotion."""
    from facex_tune import overview, tables

    document = overview.of_set(data, name)
    if as_json:
        _print_json(document)
    else:
        _print(*tables.data_set(document))
    if out is not None:
        from facex_tune.data import sheets
        from facex_tune.data.faces import open_set

        for path in sheets.write_show(open_set(data, name), document, out):
            typer.echo(f"written: {path}", err=as_json)


@data_app.command(
    epilog=_examples(
        "facex-tune data audit fer2013 ckplus",
        "facex-tune data audit fer2013 ckplus --out audit    # audit.json, pairs.png, suspects.png",
        "facex-tune data audit fer2013 --json",
    )
)
def audit(
    names: Annotated[list[str], typer.Argument(metavar="SET...", help="Prepared sets; `facex-tune data list`.")],
    data: DataDir = DATA,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            parser=files.absolute,
            help="Also write audit.json, sheets of pairs and of suspects.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find copies within and across splits and sets, contradicting labels, blank images and what is no face."""
    from facex_tune import tables
    from facex_tune.data import audit
    from facex_tune.progress import counting

    with counting("comparing every face with every other") as progress:
        found = audit.search(names, data, progress)
    document = audit.document(found, names, data)
    if as_json:
        _print_json(document)
    else:
        _print(*tables.audit(document))
    if out is not None:
        from facex_tune.data import sheets

        for path in sheets.write_audit(found, document, out):
            typer.echo(f"written: {path}", err=as_json)


def _show_sheets(
    family: str | None, names: Sequence[str], faces: str | None, data: Path, out: Path, as_json: bool
) -> None:
    if family != "augment":
        raise InputError(f"--show: {family or 'no family'} has no sheets; write `facex-tune parts augment --show`")
    from facex_tune.augment import _sheet

    written = _sheet.write(names, data, faces, out)
    if as_json:
        _print_json({"version": 1, "sheets": {name: str(path) for name, path in written.items()}})
    else:
        for path in written.values():
            typer.echo(f"written: {path}")


def _costs(models: list[str], device: str | None, measure: bool) -> dict[str, Any]:
    from facex_tune import costs
    from facex_tune.progress import counting

    with counting("measuring models") as progress:
        return costs.of_models(models, device, measure=measure, progress=progress)


elsewhere.add_to(app)


def _options(
    storage: Place, data: Path, device: str | None, own_parts: Sequence[Path] | None, address: str | None
) -> Options:
    from facex_tune.pipeline import Options

    _use_parts(own_parts)
    return Options(
        storage=storage,
        data_dir=data,
        device=device,
        parts=tuple(own_parts or ()),
        address=address,
        ends_process=True,
    )


def _use_parts(folders: Sequence[Path] | None) -> None:
    from facex_tune import parts

    for folder in folders or ():
        parts.use_folder(folder)


def _load(path: Path, sets: Sequence[str] | None, seed: int | None, own_parts: Sequence[Path] | None) -> Study:
    """The study, checked before anything that takes long is even imported."""
    from facex_tune import study

    _use_parts(own_parts)
    return study.load(path, [*(sets or ()), *([] if seed is None else [f"search.seed={seed}"])])


def _begin(study: Study, name: str | None, options: Options) -> Run:
    from facex_tune import pipeline

    return pipeline.begin(study, name, options)


def _open(storage: Place, name: str) -> Run:
    from facex_tune.store import Run

    return Run.open(storage, name)


def _work(run: Run, stages: Sequence[str], options: Options, as_json: bool) -> None:
    """The stages, watched; then where things stand and where the report is."""
    from facex_tune import pipeline, run_tables, runs
    from facex_tune.board import Board
    from facex_tune.progress import Past, View
    from facex_tune.search.asked import Progress

    _outcome.run_folder, _outcome.resume = run.folder, pipeline.resume_words(run, options)
    history = run.history()
    board = Board.of(run.study, history, Progress.of(run.events()) if "factors" in stages else None)
    with View(board, Past(history.search_seconds)) as view:
        pipeline.execute(run, stages, options, [view])
    if as_json:
        _print_json(runs.of_run(run))
        return
    _print(*run_tables.run(runs.of_run(run, top=SHOWN_AT_END), _console().width))
    typer.echo(f"run {run.name}: {run.folder}")
    if following := pipeline.next_command(run, options):
        typer.echo(f"next: {following}")
    page = run.folder / "report" / "index.html"
    if page.exists():
        typer.echo(f"report: {page}")


def _dry_run(study: Study, run: str | None, options: Options, as_json: bool) -> None:
    from facex_tune import pipeline, tables

    # Before the problems, because it draws the synthetic faces that are still missing.
    figures = pipeline.estimate(study, options) if pipeline.can_estimate(study, options) else None
    problems = pipeline.run_problems(run, study, options) + pipeline.problems(study, options)
    if as_json:
        _print_json({"version": 1, "study": study.name, "problems": problems, "estimate": figures})
    elif figures is not None:
        _print(tables.estimate(figures))
    if problems and not as_json:
        raise InputError(problems)
    if problems:
        raise typer.Exit(WRONG_INPUT)


def _console() -> Console:
    """Standard output: a terminal in its own width, a pipe in full, for grep."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def _print(*renderables: RenderableType) -> None:
    console = _console()
    if console.is_terminal:
        console.print(*renderables, sep="\n")
        return
    with console.capture() as capture:
        console.print(*renderables, sep="\n")
    for line in capture.get().splitlines():
        typer.echo(line.rstrip())


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=1, allow_nan=False))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line (default: the process's own arguments) and exits with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    _outcome.run_folder, _outcome.resume = None, ""
    sys.exit(_outcome.of(lambda: app(args=given, prog_name="facex-tune", standalone_mode=False)))
