"""The command `simulate`: what a study's search would find by when, on recorded learning curves."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facex_tune.cli.common import examples, load_study, open_run, print_json, print_out
from facex_tune.cli.options import STORAGE, Json, OwnParts, Seed, Sets, Storage, StudyFile
from facex_tune.storage import files

if TYPE_CHECKING:
    from facex_tune.simulation.curves import Curves
    from facex_tune.simulation.simulate import Arm
    from facex_tune.storage.files import Place


def add_to(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command(
        epilog=examples(
            "facex-tune simulate search_spaces/small_curves.yaml",
            "facex-tune simulate search_spaces/small_curves.yaml --sampler tpe --sampler random --workers 8",
            "facex-tune simulate my_study.yaml --curves my_earlier_run --set budget.trials=100 --json",
        )
    )(simulate)


def simulate(
    study: StudyFile,
    curves: Annotated[
        str | None,
        typer.Option("--curves", metavar="FILE|RUN", help="Recorded trainings. Default: the package's, of FER2013."),
    ] = None,
    samplers: Annotated[
        list[str] | None, typer.Option("--sampler", help="In place of the study's. Repeatable, to compare.")
    ] = None,
    schedulers: Annotated[
        list[str] | None, typer.Option("--scheduler", help="In place of the study's. Repeatable.")
    ] = None,
    reductions: Annotated[
        list[int] | None, typer.Option("--reduction", help="In place of fidelity.reduction. Repeatable.")
    ] = None,
    workers: Annotated[
        list[int] | None, typer.Option("--workers", help="Trials at once, 1 to 1,000. Repeatable. Default: 1.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Searches of each kind, over which means are.")] = 5,
    by: Annotated[
        str, typer.Option("--by", help="surrogate: a model of the curves; lookup: the nearest recorded training.")
    ] = "surrogate",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", parser=files.absolute, help="The picture. Default: STUDY-simulated.png."),
    ] = None,
    storage: Storage = STORAGE,
    sets: Sets = None,
    seed: Seed = None,
    parts: OwnParts = None,
    as_json: Json = False,
) -> None:
    """Simulate a study's search on recorded learning curves: what it would find by when, at what cost."""
    from facex_tune.simulation.simulate import Arm

    instead = {"search.sampler": samplers, "search.scheduler": schedulers, "fidelity.reduction": reductions}
    said = [[f"{key}={value}" for value in values] for key, values in instead.items() if values]
    arms = [
        Arm(load_study(study, [*(sets or ()), *each], seed, parts), count)
        for each in itertools.product(*said)
        for count in workers or [1]
    ]
    _simulate(arms, _curves(curves, storage), by, seeds, out, as_json)


def _simulate(arms: list[Arm], curves: Curves, by: str, seeds: int, out: Path | None, as_json: bool) -> None:
    from facex_tune.simulation import drawing
    from facex_tune.simulation.simulate import simulate

    name = arms[0].study.name
    picture = drawing.check(out or files.absolute(f"{name}-simulated.png"))
    document = simulate(arms, curves, how=by, seeds=seeds)
    if out is not None or not as_json:
        drawing.draw(document, picture)
    if as_json:
        print_json(document)
        return
    from facex_tune.cli import tables

    print_out(*tables.simulated(document))
    for line in document["notes"]:
        typer.echo(f"note: {line}", err=True)
    typer.echo(str(picture))


def _curves(said: str | None, storage: Place) -> Curves:
    """The table of a file, or of a run: what is no file is a run's name."""
    from facex_tune.simulation import curves

    if said is None:
        return curves.read(curves.PACKAGED)
    path = files.absolute(said)
    if path.is_file() or path.suffix in (".csv", ".gz"):
        return curves.read(path)
    return curves.of_run(open_run(storage, said))
