"""The command that takes a run or a prepared set away. Parse, call, ask, print."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from facex_tune.cli import completing
from facex_tune.cli.common import examples, print_json
from facex_tune.cli.options import DATA, STORAGE, Address, DataDir, Json, Storage, a_name
from facex_tune.errors import InputError


def add_to(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    lines = ("facex-tune delete demo", "facex-tune delete my_faces --yes", "facex-tune delete my_faces --address auto")
    app.command(epilog=examples(*lines))(delete)


def delete(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN|SET",
            help="A run's name, or a prepared set's.",
            callback=a_name,
            autocompletion=completing.runs_and_sets,
        ),
    ],
    storage: Storage = STORAGE,
    data: DataDir = DATA,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="run|set", help="Which, where both have that name.")
    ] = None,
    address: Address = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Take a run away, or a prepared set with the copies of it that hosts keep. Refuses while somebody writes."""
    from facex_tune.pipeline import delete as deleting

    if kind not in (None, deleting.RUN, deleting.SET):
        raise InputError(f"--kind {kind}: run or set")
    doomed = deleting.look(name, storage, data, kind)
    if not yes:
        _ask(doomed.question())
    copies = deleting.remove(doomed, storage, address)
    if as_json:
        print_json(deleting.document(doomed, copies))
        return
    typer.echo(f"deleted: {doomed.question().partition(chr(10))[0]}")
    for copy in copies:
        typer.echo(f"deleted: a copy in {copy}")
    if doomed.kind == deleting.SET and address is None:
        typer.echo("copies on other hosts of a cluster stay; --address AUTO_OR_HOST takes them, too")


def _ask(question: str) -> None:
    typer.echo(question, err=True)
    if not sys.stdin.isatty():
        raise InputError("nobody can be asked here; --yes deletes it")
    if not typer.confirm("delete it for good?", err=True):
        raise InputError("nothing was deleted")
