"""The commands for a trained model: predict, export. Parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facex_tune.cli import completing
from facex_tune.cli.common import examples, print_json, print_out, use_parts
from facex_tune.cli.options import STORAGE, Device, Json, OwnParts, Storage
from facex_tune.errors import InputError
from facex_tune.storage import files

if TYPE_CHECKING:
    from facex_tune.inference.answers import Asked


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(
        epilog=examples(
            "facex-tune predict demo face.png",
            "facex-tune predict demo/t0007-s0 faces/*.png --json",
            "facex-tune predict demo my_faces --out answers.csv          # a folder, in batches",
            "facex-tune predict demo photo.jpg --find-faces              # whole photographs, a row a face",
            "facex-tune predict model.onnx faces.csv --column path --out answers.csv",
        )
    )(predict)
    app.command(
        epilog=examples(
            "facex-tune export demo --format onnx",
            "facex-tune export demo/t0007-s0 --format safetensors --out model.safetensors",
        )
    )(export)


def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A run (its winner), RUN/t0007-s0, a model's folder, an exported file.",
            autocompletion=completing.run_names,
        ),
    ],
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="Images of one cropped face each; or a folder, or a CSV of paths."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="CSV", parser=files.absolute, help="Writes the answers there, a row an image."),
    ] = None,
    column: Annotated[str | None, typer.Option("--column", help="Of a CSV: the one that holds the paths.")] = None,
    storage: Storage = STORAGE,
    device: Device = None,
    parts: OwnParts = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average each face with its mirror image.")] = False,
    uncropped: Annotated[
        bool, typer.Option("--uncropped", help="Take whole photographs; their middle is read, face or not.")
    ] = False,
    find: Annotated[
        bool,
        typer.Option("--find-faces", help="Find the faces of whole photographs first; needs the extra find-faces."),
    ] = False,
    margin: Annotated[
        float | None,
        typer.Option("--margin", help="With --find-faces: what is cut out beyond a face, a share of it on each side."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Probabilities of each emotion for faces. Expects a cropped face an image; --find-faces looks for them."""
    from facex_tune.cli import tables
    from facex_tune.inference import answers, find_faces, predict

    use_parts(parts)
    if margin is not None and not find:
        raise InputError("--margin: it says how found faces are cut out; give --find-faces too")
    if find and uncropped:
        raise InputError("--find-faces, --uncropped: one finds the faces of a photograph, the other takes its middle")
    cut = find_faces.asked_margin(margin) if find else None
    is_many = len(images) == 1 and (images[0].is_dir() or images[0].suffix.lower() == ".csv")
    if is_many and out is None:
        raise InputError(f"IMAGES {images[0]}: the answers of a folder or a CSV go into a file; name it with --out")
    if column is not None and not is_many:
        raise InputError("--column: it names a column of a CSV of paths, and none was given")
    tta = "flip" if flip else "none"
    asked = answers.ask(model, storage, device_name=device, tta=tta)
    if find and margin is None and (note := find_faces.margin_note(asked)):
        typer.echo(f"note: {note}", err=True)
    if out is not None:
        _many(asked, images, is_many, column, out, uncropped, cut, as_json)
        return
    if cut is not None:
        found = find_faces.document(asked, tta, images, cut)
        if as_json:
            print_json(found)
        else:
            print_out(tables.found_faces(found))
        return
    found_NC = asked.probabilities_NC(predict.read_faces(images, face=asked.face, uncropped=uncropped))
    document = predict.document(asked.name, asked.emotions, tta, images, found_NC)
    if as_json:
        print_json(document)
    else:
        print_out(tables.predictions(document))


def _many(
    asked: Asked,
    images: list[Path],
    is_many: bool,
    column: str | None,
    out: Path,
    uncropped: bool,
    margin: float | None,
    as_json: bool,
) -> None:
    from facex_tune.display.view import counting
    from facex_tune.inference import many

    paths = many.listed(images[0], column) if is_many else images
    if out.is_dir() or out.suffix.lower() != ".csv" or any(files.absolute(each) == out for each in images):
        raise InputError(f"--out {out}: name a new file that ends with .csv")
    with counting("faces") as progress:
        told = many.answer(asked, paths, out, uncropped=uncropped, margin=margin, progress=progress)
    if as_json:
        counts = {"images": told.images, "unread": told.unread}
        print_json({"version": 1, "model": asked.name, "emotions": list(asked.emotions), **counts, "answers": str(out)})
    else:
        typer.echo(f"answers: {out} ({told.images - told.unread:,} of {told.images:,} images)")
    if told.unread:
        note = f"note: {told.unread:,} images have no answer, and the reason in column problem; the first: "
        typer.echo(note + told.first_problem, err=True)
    if told.unread == told.images:
        raise InputError(f"none of {told.images:,} images could be read: {told.first_problem}")


def export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run (its winner), RUN/t0007-s0, or a model's folder.",
            autocompletion=completing.run_names,
        ),
    ],
    form: Annotated[str, typer.Option("--format", help="onnx or safetensors.")] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", parser=files.absolute, help="Default: named after the model."),
    ] = None,
    storage: Storage = STORAGE,
    parts: OwnParts = None,
) -> None:
    """Write a trained model for use elsewhere; the ONNX graph takes faces as they are, uint8."""
    from facex_tune.inference import export, predict

    use_parts(parts)
    trained = predict.find(run, storage)
    path = export.export(trained, form, out or files.absolute(f"{trained.name.replace('/', '-')}.{form}"))
    typer.echo(f"exported: {path}")
