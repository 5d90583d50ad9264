"""The command line: parse, call, print. What a command does lies in the module that it calls.

Standard output carries what was asked for (with `--json`, exactly one JSON document); progress and errors go to
standard error. Exit codes: 0 done, 2 wrong input, 75 interrupted and resumable, 1 anything else.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from facex_tune import __version__
from facex_tune.cli import bench, data, delete, model, remote, resume, run, show, simulate, start
from facex_tune.cli.common import process_outcome
from facex_tune.errors import Remark

_CTRL_C = 130  # 128 and the signal's number, as shells have it; no command returns it
app = typer.Typer(
    help="Search, retrain, evaluate and report facial-expression models; a study (YAML) says what.",
    epilog="Begin with: [bold]facex-tune run search_spaces/quick.yaml --run demo[/bold]",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"facex-tune {__version__}")
        raise typer.Exit


# in the order of `facex-tune --help`
for commands in (start, run, bench, simulate, model, resume, show, data, delete, remote):
    commands.add_to(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line (default: the process's own arguments) and exits with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    process_outcome.run_folder, process_outcome.resume = None, ""
    with _remarks_as_lines():
        code = process_outcome.of(lambda: _ran(given))
    sys.exit(code)


def _ran(given: Sequence[str]) -> Any:
    """What a command returns.

    Raises:
        KeyboardInterrupt: Ctrl-C, of which newer versions of typer make an exit code without a word.
    """
    code = _command()(args=list(given), prog_name="facex-tune", standalone_mode=False)
    if code == _CTRL_C:
        raise KeyboardInterrupt
    return code


def _command() -> Any:
    """The command line as typer builds it, but for flags, which take no value and show none in their help."""
    built = typer.main.get_command(app)
    _clear_flags(built)
    return built


def _clear_flags(command: Any) -> None:
    for option in command.get_params(typer.Context(command)):
        if getattr(option, "is_flag", False):
            option.metavar = ""
    for each in getattr(command, "commands", {}).values():
        _clear_flags(each)


@contextmanager
def _remarks_as_lines() -> Iterator[None]:
    """Shows a `Remark` as one line, without the place in our code that warns of it."""
    usual = warnings.formatwarning

    def shown(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
        return f"note: {message}\n" if issubclass(category, Remark) else usual(message, category, *place, **more)

    warnings.formatwarning = shown
    try:
        yield
    finally:
        warnings.formatwarning = usual
