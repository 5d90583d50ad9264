"""The command line's arguments and options that several commands share, with their checks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facex_tune.cli import completing
from facex_tune.errors import InputError
from facex_tune.storage import files

# typer takes no union of types; what its parser returns is a `Place`
if TYPE_CHECKING:
    from facex_tune.storage.files import Place as _Place
else:
    _Place = Any

DATA = Path("data")  # made absolute as a given one is
STORAGE = Path("runs")


def a_name(value: str | None) -> str | None:
    """Checks a run's name, which is its folder's and must not lead out of the storage folder."""
    if value is not None and not re.fullmatch(files.NAME, value):
        raise InputError(f"a run's name holds letters, digits, '_', '.' and '-' only, 64 at most; not {value!r}")
    return value


def _a_device(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise InputError(f"--device: no device named {value!r}; choices: auto, cpu, cuda, cuda:<number>, mps")
    return value


StudyFile = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY", help="A study, such as search_spaces/quick.yaml.", autocompletion=completing.study_files
    ),
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's name; `facex-tune runs` lists them.",
        callback=a_name,
        autocompletion=completing.run_names,
    ),
]
NewRun = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="NAME",
        help="Name of the run; one that exists is resumed. Default: the study's name and a number.",
        callback=a_name,
        autocompletion=completing.run_names,
    ),
]
DataDir = Annotated[
    Path,
    typer.Option(
        "--data", metavar="DIR", envvar="FACEX_DATA", parser=files.absolute, help="Folder of prepared data sets."
    ),
]
Storage = Annotated[
    _Place,
    typer.Option(
        "--storage",
        metavar="DIR|URL",
        envvar="FACEX_STORAGE",
        parser=files.place,
        help="Folder of runs, or its URL, such as s3://bucket/prefix.",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides a key of the study, e.g. budget.trials=8. Repeatable."),
]
Raises = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="budget.KEY=VALUE", help="Raises a budget, such as budget.trials=40. Repeatable."),
]
Seed = Annotated[int | None, typer.Option("--seed", help="The study's seed (search.seed).")]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="cpu, cuda, cuda:1, mps, or auto (the default).",
        callback=_a_device,
        autocompletion=completing.among(completing.DEVICES),
    ),
]
OwnParts = Annotated[
    list[Path] | None,
    typer.Option(
        "--parts",
        metavar="DIR",
        parser=files.absolute,
        help="Folder with parts of your own (models/x.py and so on). Repeatable.",
    ),
]
Address = Annotated[str | None, typer.Option("--address", help="A Ray cluster's address; default: Ray on this one.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print every problem, or else trials, hours, memory and disk; start no run."),
]
Incomplete = Annotated[
    bool, typer.Option("--incomplete", help="Take a set that falls short of the published counts; it is marked so.")
]
RunStates = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        help="Runs of this state alone: running, interrupted, finished, ... Repeatable.",
        autocompletion=completing.among(completing.RUN_STATES),
    ),
]
TrialStates = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        help="Trials of this state alone: finished, stopped, running or failed. Repeatable.",
        autocompletion=completing.among(completing.TRIAL_STATES),
    ),
]
