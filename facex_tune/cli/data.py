"""The commands for data sets: prepare, get, list, show, audit. Parse, call, print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from facex_tune.cli import completing
from facex_tune.cli.common import examples, print_json, print_out
from facex_tune.cli.options import DATA, DataDir, Incomplete, Json
from facex_tune.storage import files


def add_to(app: typer.Typer) -> None:
    """Adds the group `data` to the command line."""
    data_app = typer.Typer(help="Prepare data sets, list, show and audit them.")
    app.add_typer(data_app, name="data")
    data_app.command(
        epilog=examples(
            "facex-tune data prepare fer2013 ~/Downloads/fer2013.zip",
            "facex-tune data prepare ckplus ~/Downloads/ckplus.zip",
            "facex-tune data prepare ferplus ~/Downloads/ferplus    # fer2013.csv and fer2013new.csv",
            "facex-tune data prepare folder ~/faces --as my_faces --drop other",
            "facex-tune data prepare rafdb ~/rafdb --size 96 --colour --data data/96    # 48×48 grey, unless asked",
            "facex-tune data prepare synthetic",
        )
    )(prepare)
    data_app.command("get", epilog=examples("facex-tune data get fer2013", "facex-tune data get ckplus"))(get_data)
    data_app.command("list", epilog=examples("facex-tune data list", "facex-tune data list --json"))(list_data)
    data_app.command(
        "show",
        epilog=examples(
            "facex-tune data show fer2013",
            "facex-tune data show fer2013 --out pictures    # classes.png and faces.png",
            "facex-tune data show fer2013 --json",
        ),
    )(show_data)
    data_app.command(
        epilog=examples(
            "facex-tune data audit fer2013 ckplus",
            "facex-tune data audit fer2013 ckplus --out audit    # audit.json, pairs.png, suspects.png",
            "facex-tune data audit fer2013 --json",
        )
    )(audit)


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
        list[str] | None, typer.Option("--drop", metavar="NAME", help="folder: leaves a folder out. Repeatable.")
    ] = None,
    splits: Annotated[
        list[str] | None,
        typer.Option("--split", metavar="NAME=SPLIT", help="folder: what a folder holds: train, validation or test."),
    ] = None,
    labels: Annotated[
        str,
        typer.Option("--labels", metavar="FILE:COLUMN", help="Labels of a table beside folders, or `folders`: theirs."),
    ] = "",
    numbers: Annotated[
        str, typer.Option("--numbers", metavar="SET", help="folder: whose numbers its classes are, such as rafdb.")
    ] = "",
    subject: Annotated[
        str, typer.Option("--subject", metavar="REGEX", help="folder: finds who is seen in an image's path, or `none`.")
    ] = "",
    sequence: Annotated[
        str, typer.Option("--sequence", metavar="REGEX", help="folder: finds an image's sequence in its path.")
    ] = "",
    uncropped: Annotated[
        bool, typer.Option("--uncropped", help="folder: take whole photographs; their middle is read, face or not.")
    ] = False,
    arrays: Annotated[
        tuple[str, str] | None,
        typer.Option("--arrays", metavar="images=X labels=Y", help="arrays: which hold the faces and their labels."),
    ] = None,
    size: Annotated[
        int, typer.Option("--size", metavar="PIXELS", help="Keep faces of so many pixels a side, 48 to 256.")
    ] = 48,
    colour: Annotated[
        bool, typer.Option("--colour", "--color", help="Keep red, green and blue, where a set has them.")
    ] = False,
    incomplete: Incomplete = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Write class histogram and a sheet of labelled faces; prepare nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read a data set from where you downloaded it into the folder of prepared data sets."""
    from facex_tune.data import faces, prepare
    from facex_tune.data.importing import Asked
    from facex_tune.display.view import counting

    asked = Asked.parse(
        renames=renames or (), drop=drop or (), splits=splits or (), labels=labels, numbers=numbers, subject=subject,
        sequence=sequence, arrays=arrays or (), incomplete=incomplete, uncropped=uncropped,
        size=size, colour=colour,
    )  # fmt: skip
    if preview:
        with counting(f"reading {name}") as progress:
            written = prepare.preview(name, source, files.absolute(f"preview-{named or name}"), progress, named, asked)
        _tell_preview(*written, as_json)
        return
    before = faces.fingerprints(data)
    with counting(f"preparing {name}") as progress:
        manifests = prepare.prepare(name, source, data, progress, set_name=named, asked=asked)
    _tell_prepared(manifests, before, data, as_json)


def get_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="fer2013, ferplus, ckplus or synthetic.")],
    data: DataDir = DATA,
    incomplete: Incomplete = False,
    as_json: Json = False,
) -> None:
    """Download a data set and prepare it (needs the extra: pip install 'facex-tune\\[kaggle]')."""
    from facex_tune.data import faces, get
    from facex_tune.data.importing import Asked
    from facex_tune.display.view import counting

    before = faces.fingerprints(data)
    with counting(f"preparing {name}") as progress:
        manifests = get.get(name, data, progress, asked=Asked(incomplete=incomplete))
    _tell_prepared(manifests, before, data, as_json)


def list_data(data: DataDir = DATA, as_json: Json = False) -> None:
    """Data sets that are prepared, and those that could be."""
    from facex_tune.cli import tables
    from facex_tune.inspection import catalog

    document = catalog.of_data(data)
    if as_json:
        print_json(document)
    else:
        print_out(tables.data_sets(document))


def show_data(
    name: Annotated[
        str,
        typer.Argument(
            metavar="SET",
            help="A prepared set; `facex-tune data list` names them.",
            autocompletion=completing.set_names,
        ),
    ],
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
    from facex_tune.cli import tables
    from facex_tune.inspection import catalog

    document = catalog.of_set(data, name)
    if as_json:
        print_json(document)
    else:
        print_out(*tables.data_set(document))
    if out is not None:
        from facex_tune.data import sheets
        from facex_tune.data.faces import open_set

        for path in sheets.write_show(open_set(data, name), document, out):
            typer.echo(f"written: {path}", err=as_json)


def audit(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="SET...", help="Prepared sets; `facex-tune data list`.", autocompletion=completing.set_names
        ),
    ],
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
    from facex_tune.cli import tables
    from facex_tune.data import audit
    from facex_tune.display.view import counting

    with counting("comparing every face with every other") as progress:
        found = audit.search(names, data, progress)
    document = audit.document(found, names, data)
    if as_json:
        print_json(document)
    else:
        print_out(*tables.audit(document))
    if out is not None:
        from facex_tune.data import sheets

        for path in sheets.write_audit(found, document, out):
            typer.echo(f"written: {path}", err=as_json)


def _tell_preview(document: dict[str, Any], paths: Sequence[Path], as_json: bool) -> None:
    for note in document["notes"]:
        typer.echo(f"note: {note}", err=True)
    if as_json:
        print_json({"version": 1, "preview": document, "written": [str(path) for path in paths]})
        return
    for path in paths:
        typer.echo(f"written: {path}")
    typer.echo(f"{document['n']:,} faces read, nothing prepared: look at the labels, then leave out --preview")


def _tell_prepared(manifests: dict[str, dict[str, Any]], before: Mapping[str, str], data: Path, as_json: bool) -> None:
    from facex_tune.data import copies
    from facex_tune.display.view import counting

    found = {}
    for each in manifests:
        with counting(f"looking for {each} in other sets") as progress:
            found[each] = copies.across(data, each, progress=progress)
    for each, manifest in manifests.items():
        for note in _notes(each, manifest, before, copies.told(found[each], each, data)):
            typer.echo(f"note: {each}: {note}", err=True)
    if as_json:
        shared = {each: [row.to_data() for row in rows] for each, rows in found.items()}
        print_json({"version": 1, "folder": str(data), "prepared": manifests, "copies": shared})
        return
    for each, manifest in manifests.items():
        skipped = f", {len(manifest['skipped'])} skipped (reasons in its manifest.json)" if manifest["skipped"] else ""
        splits = ", ".join(f"{split} {sum(counts.values()):,}" for split, counts in manifest["counts"].items())
        typer.echo(f"{each}: {manifest['n']:,} faces ({splits}){skipped}, in {data / each}")


def _notes(name: str, manifest: Mapping[str, Any], before: Mapping[str, str], copies: Sequence[str]) -> list[str]:
    """What a user should know of a set that was just prepared."""
    from facex_tune.data.faces import told_of

    found = []
    if before.get(name, manifest["sha256"]) != manifest["sha256"]:
        found.append("replaced other faces of that name; a run begun with those goes on with those alone")
    found += told_of(manifest) if manifest["source"].get("path") else []  # drawn faces are as they are meant
    if manifest["source"].get("name") == "folder" and set(manifest["counts"]) == {"test"}:  # class folders alone
        put = "put their class folders into train/, and the others' into test/"
        found.append(f"all its faces are test faces: to train on some, {put}")
    return [*found, *copies]
