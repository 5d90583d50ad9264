"""The commands for runs elsewhere: submit, status, logs, stop, pull, serve. Parse, call, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from facex_tune.cli.common import examples
from facex_tune.cli.options import (
    DATA,
    STORAGE,
    Address,
    DataDir,
    Device,
    Json,
    OwnParts,
    RunName,
    Seed,
    Sets,
    Storage,
    StudyFile,
    a_name,
)
from facex_tune.errors import InputError
from facex_tune.storage import files

Dashboard = Annotated[
    str | None,
    typer.Option("--address", help="The cluster's dashboard; default RAY_API_SERVER_ADDRESS or http://127.0.0.1:8265."),
]
Service = Annotated[str | None, typer.Option("--service", envvar="FACEX_SERVICE", help="URL of a `facex-tune serve`.")]

TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        envvar="FACEX_TOKEN_FILE",
        parser=files.absolute,
        help="The service's token, in a file that others cannot read; else FACEX_TOKEN.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(epilog=examples(_SUBMIT))(submit)
    app.command(epilog=examples("facex-tune status demo", "facex-tune status"))(status)
    app.command(epilog=examples("facex-tune logs demo --follow"))(logs)
    app.command(epilog=examples("facex-tune stop demo"))(stop)
    app.command(epilog=examples(_PULL_STORAGE, _PULL_SERVICE))(pull)
    app.command(epilog=examples("facex-tune serve", _MAKE_TOKEN, _SERVE))(serve)


_SUBMIT = "facex-tune submit search_spaces/fer2013.yaml --run night --storage /shared/runs --data /shared/data"
_PULL_STORAGE = "facex-tune pull night --storage /shared/runs --to results"
_PULL_SERVICE = "facex-tune pull night --service http://127.0.0.1:8270 --to results"
_MAKE_TOKEN = "(umask 077; openssl rand -hex 24 > facex.token)"
_SERVE = "facex-tune serve --host 0.0.0.0 --token-file facex.token"


def submit(
    study: StudyFile,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="NAME", help="Name of the run; default: the study's.", callback=a_name),
    ] = None,
    address: Dashboard = None,
    storage: Annotated[
        str | None, typer.Option("--storage", help="Folder or URL of runs, as the cluster's hosts see it.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="Folder of prepared data, as the head sees it.")] = None,
    sets: Sets = None,
    seed: Seed = None,
    device: Device = None,
    parts: OwnParts = None,
    follow: Annotated[bool, typer.Option("--follow", help="Then print what the job prints, until it ends.")] = False,
) -> None:
    """Run a study as a job of a Ray cluster; a run submitted again is resumed."""
    from facex_tune import study as studies
    from facex_tune.parts import use_folder
    from facex_tune.pipeline import preflight
    from facex_tune.service import jobs

    for folder in parts or ():
        use_folder(folder)
    changes = [*(sets or ()), *([] if seed is None else [f"search.seed={seed}"])]
    checked = studies.load(study, changes)  # here, before a machine is claimed
    if found := preflight.device_problems(checked, device, joins=True):
        raise InputError(found)
    name = run or checked.name
    if storage is None or data is None:
        raise InputError(
            "--storage and --data: say where runs and prepared data lie on the cluster, "
            "such as --storage /shared/runs --data /shared/data"
        )
    order = jobs.Submission(study, name, storage, data, tuple(sets or ()), seed, device, tuple(parts or ()))
    job = jobs.submit(order, address)
    typer.echo(f"job {job}: watch it with `facex-tune logs {name} --follow`, or at {jobs.dashboard(address)}")
    if follow:
        _follow(name, address)


def status(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run; default: all that the cluster knows.")
    ] = None,
    address: Dashboard = None,
    as_json: Json = False,
) -> None:
    """Where a run's jobs on a cluster stand."""
    from facex_tune.service import jobs

    document: dict[str, Any] = {"version": 1, "runs": jobs.runs(address)} if run is None else jobs.status(run, address)
    if as_json:
        typer.echo(json.dumps(document, indent=1))
        return
    lines = document["runs"] if run is None else document["attempts"]
    for line in lines:
        message = f"  {line['message']}" if line["message"] and line["state"] not in ("RUNNING", "SUCCEEDED") else ""
        typer.echo(f"{line['job']}  {line['state'].lower()}{message}")
    if not lines:
        typer.echo(f"no runs at {jobs.dashboard(address)}; submit one: {_SUBMIT}")


def logs(
    run: RunName,
    address: Dashboard = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
) -> None:
    """What a run's last job printed."""
    if follow:
        _follow(run, address)
        return
    from facex_tune.service import jobs

    for piece in jobs.logs(run, address, follow=False):
        typer.echo(piece, nl=False)


def _follow(run: str, address: str | None) -> None:
    from facex_tune.service import jobs

    for piece in jobs.logs(run, address, follow=True):
        typer.echo(piece, nl=False)


def stop(run: RunName, address: Dashboard = None) -> None:
    """End a run's job; it saves first, and submitting it again resumes it."""
    from facex_tune.service import jobs

    state = jobs.stop(run, address)
    typer.echo(f"run {run}: {state.lower()}; submit it again to resume it")


def pull(
    run: RunName,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", parser=files.absolute, help="Where to put it: DIR/RUN.")],
    storage: Storage = STORAGE,
    service: Service = None,
    token_file: TokenFile = None,
    without_faces: Annotated[
        bool, typer.Option("--without-faces", help="Leave behind what shows faces of the test sets.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring a run's report, models, scores and trials here, checked; what is here already is not fetched again."""
    from facex_tune.display.view import counting
    from facex_tune.runs.store import Run
    from facex_tune.service import access
    from facex_tune.service import pull as pulling

    source: pulling.Source
    if service is not None:
        source = pulling.ServiceSource(service, run, access.token(token_file))
    else:
        source = pulling.FolderSource(Run.open(storage, run).folder)
    target = to / run
    with counting(f"pulling {run}") as progress:
        items = pulling.pull(source, target, progress, faces=not without_faces)
    told = pulling.summary(items, target)
    if as_json:
        typer.echo(json.dumps(told, indent=1))
        return
    typer.echo(f"run {run}: {told['files']} files, {told['bytes'] / 1e6:.1f} MB, in {target}")
    if told["faces"]:
        typer.echo(f"they show faces: {', '.join(told['faces'])}; --without-faces leaves these behind")
    again = f"facex-tune report {run} --storage {to} --without-faces"
    none = f"no page without faces; `{again}` writes one" if without_faces else "no report yet"
    typer.echo(f"report: {told['report']}" if told["report"] else none)


def serve(
    data: DataDir = DATA,
    storage: Storage = STORAGE,
    device: Device = None,
    address: Address = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; any but loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8270,
    token_file: TokenFile = None,
    at_once: Annotated[int, typer.Option("--at-once", min=1, help="Runs beside each other; others wait.")] = 1,
    most_hours: Annotated[
        float | None, typer.Option("--most-hours", min=0.01, help="Hours of a search; a study must then say its time.")
    ] = None,
    most_trials: Annotated[
        int | None, typer.Option("--most-trials", min=1, help="Trials of one study, which must then say them.")
    ] = None,
    most_epochs: Annotated[
        int | None, typer.Option("--most-epochs", min=1, help="Epochs of one training; default 1,000.")
    ] = None,
    audit_log: Annotated[
        Path | None,
        typer.Option(
            "--audit-log",
            metavar="FILE",
            parser=files.absolute,
            help="Who submitted, stopped, fetched, was refused: a JSON line each; default standard error.",
        ),
    ] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="Every request in it, too.")] = False,
) -> None:
    """A service and its page: submit studies, watch, stop and resume runs, fetch reports."""
    from facex_tune.pipeline.options import Options
    from facex_tune.service import access

    token = access.token(token_file)
    access.check_bind(host, token)
    try:
        from facex_tune.service import listen
        from facex_tune.service.received import Ceiling
    except ModuleNotFoundError as error:
        raise InputError(f"the service needs {error.name}: pip install 'facex-tune[serve]'") from error

    options = Options(storage=storage, data_dir=data, device=device, address=address)
    ceiling = Ceiling(most_hours, most_trials, most_epochs)
    listen.until_stopped(
        options,
        token,
        host=host,
        port=port,
        at_once=at_once,
        told=typer.echo,
        ceiling=ceiling,
        audit_log=audit_log,
        every_request=access_log,
    )
