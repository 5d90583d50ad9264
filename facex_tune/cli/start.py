"""The commands to begin with: init, schema. Parse, call, print."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from facex_tune.cli import completing
from facex_tune.cli.common import examples, print_json, use_parts
from facex_tune.cli.options import DATA, DataDir, OwnParts
from facex_tune.errors import InputError
from facex_tune.storage import files

SCHEMA_LINE = "# yaml-language-server: $schema="
SCHEMA_FILE = "study.schema.json"


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(
        epilog=examples(
            "facex-tune init                                  # asks",
            "facex-tune init mine.yaml --for fer2013 --machine cpu --time 2h",
        )
    )(init)
    app.command(
        epilog=examples(
            f"facex-tune schema > {SCHEMA_FILE}    # then, as a study's first line:",
            f"{SCHEMA_LINE}{SCHEMA_FILE}",
            "facex-tune schema --parts my_parts",
        )
    )(schema)


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", parser=files.absolute, help="Where to write it.")] = Path(
        "study.yaml"
    ),
    wanted: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="SET",
            help="The data set; `facex-tune data list` names them.",
            autocompletion=completing.set_names,
        ),
    ] = None,
    machine: Annotated[str | None, typer.Option("--machine", help="cpu or gpu.")] = None,
    time: Annotated[str | None, typer.Option("--time", help="Of the search, such as 45m or 2h.")] = None,
    data: DataDir = DATA,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a commented study for a data set and a machine. In a terminal it asks for what is not said.

    The study's JSON schema is written beside it, where none is: editors complete and check the study by it.
    """
    from facex_tune.inspection import starter

    path = files.absolute(file)
    if path.is_dir() or (path.exists() and not force):
        what = "a folder is there; name a file" if path.is_dir() else "is there already; name another file, or --force"
        raise InputError(f"{path}: {what}")
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{path}: a study's file is called .yaml")
    asked = starter.Asked(
        name=_name(path),
        data=_said("--for", wanted, f"Data set ({', '.join(_sets(data))})", "synthetic"),
        machine=_said("--machine", machine, "Machine (cpu, gpu)", "cpu"),
        time=_said("--time", time, "Time of the search", "2h"),
    )
    where = shlex.quote(os.path.relpath(path) if path.is_relative_to(files.absolute(".")) else str(path))
    text = f"{SCHEMA_LINE}{SCHEMA_FILE}\n{starter.text(asked, data, where)}"
    beside = _schema_beside(path.parent / SCHEMA_FILE, force)
    files.write_bytes(path, text.encode())
    typer.echo(f"study: {path}")
    typer.echo(f"schema, for editors: {beside}")
    typer.echo(f"next: facex-tune run {where} --dry-run")


def _schema_beside(path: Path, force: bool) -> str:
    """Writes the schema where none is, and says what came of it. Another file of that name may hold somebody's own
    parts: it is replaced by force alone.
    """
    from facex_tune import study

    schema = (json.dumps(study.json_schema(), indent=1, allow_nan=False) + "\n").encode()
    if path.is_file() and path.read_bytes() == schema:
        return f"{path} (was there)"
    if path.exists() and (path.is_dir() or not force):
        kept = "a folder is there" if path.is_dir() else "another file is there, left as it is; --force replaces it"
        return f"{path} ({kept})"
    files.write_bytes(path, schema)
    return str(path)


def schema(parts: OwnParts = None) -> None:
    """Print a study file's JSON schema, for editors: every key, part and knob, with type, range, default and doc."""
    from facex_tune import study

    use_parts(parts)
    print_json(study.json_schema())


def _said(option: str, said: str | None, question: str, usual: str) -> str:
    """What an option says, or the answer to a question where somebody can answer."""
    if said is not None:
        return said
    if not sys.stdin.isatty():
        raise InputError(f"{option}: nobody is here to ask (no terminal); say it, for example {option} {usual}")
    typer.echo(f"{question} [{usual}]: ", nl=False, err=True)  # typer's own prompt leaves a space on standard output
    answer = sys.stdin.readline()
    if not answer:
        raise typer.Abort
    return answer.strip() or usual


def _sets(data: Path) -> list[str]:
    from facex_tune.data import faces

    return list(dict.fromkeys(["synthetic", "fer2013", *faces.prepared_names(data)]))


def _name(path: Path) -> str:
    """The study's name: that of its file, in the letters that a run's name may have."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem)
    return name.lstrip("_.-")[:60] or "study"
