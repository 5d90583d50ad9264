"""The command line: parse, call, print. What a command does lies in the module that it calls.

Standard output carries what was asked for (with `--json`, exactly one JSON document); progress and errors go to
standard error. Exit codes: 0 done, 2 wrong input, 75 interrupted and resumable, 1 anything else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from facex_tune import __version__
from facex_tune.cli import data, model, remote, resume, run, show
from facex_tune.cli.common import process_outcome

app = typer.Typer(
    help="Search, retrain, evaluate and report facial-expression models; a study (YAML) says what.",
    epilog="Begin with: [bold]facex-tune run search_spaces/quick.yaml --run demo[/bold]",
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"facex-tune {__version__}")
        raise typer.Exit


# in the order of `facex-tune --help`
for commands in (run, model, resume, show, data, remote):
    commands.add_to(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line (default: the process's own arguments) and exits with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    process_outcome.run_folder, process_outcome.resume = None, ""
    sys.exit(process_outcome.of(lambda: app(args=given, prog_name="facex-tune", standalone_mode=False)))
