"""What every command needs: a study or a run to work on, options, and a way to print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from facex_tune.cli.outcome import Outcome

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from facex_tune.pipeline.options import Options
    from facex_tune.runs.store import Run
    from facex_tune.storage.files import Place
    from facex_tune.study import Study

PIPE_WIDTH = 500  # columns
process_outcome = Outcome()


def examples(*lines: str) -> str:
    """Writes the examples at the end of a command's help. Rich keeps paragraphs apart and joins lines."""
    return "\n\n".join(["[bold]Examples[/bold]", *(line.replace("[", r"\[") for line in lines)])


def run_options(
    storage: Place, data: Path, device: str | None, own_parts: Sequence[Path] | None, address: str | None
) -> Options:
    """Makes the pipeline's options; the user's own parts are known from here on."""
    from facex_tune.pipeline.options import Options

    use_parts(own_parts)
    return Options(
        storage=storage,
        data_dir=data,
        device=device,
        parts=tuple(own_parts or ()),
        address=address,
        ends_process=True,
    )


def use_parts(folders: Sequence[Path] | None) -> None:
    """Makes the parts of these folders known."""
    from facex_tune import parts

    for folder in folders or ():
        parts.use_folder(folder)


def load_study(path: Path, sets: Sequence[str] | None, seed: int | None, own_parts: Sequence[Path] | None) -> Study:
    """Loads and checks the study before anything that takes long is even imported."""
    from facex_tune import study

    use_parts(own_parts)
    return study.load(path, [*(sets or ()), *([] if seed is None else [f"search.seed={seed}"])])


def open_run(storage: Place, name: str) -> Run:
    """Opens a run of the storage folder.

    Raises:
        InputError: there is none of that name.
    """
    from facex_tune.runs.store import Run

    return Run.open(storage, name)


def stdout_console() -> Console:
    """Makes a console on standard output: a terminal has its own width, a pipe gets whole lines, for grep."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def print_out(*renderables: RenderableType) -> None:
    """Prints tables and text, one below the other."""
    console = stdout_console()
    if console.is_terminal:
        console.print(*renderables, sep="\n")
        return
    with console.capture() as capture:
        console.print(*renderables, sep="\n")
    for line in capture.get().splitlines():
        typer.echo(line.rstrip())


def print_json(document: Any) -> None:
    """Prints one JSON document."""
    typer.echo(json.dumps(document, indent=1, allow_nan=False))
