"""The commands for a trained model: predict, export. Parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facex_tune.cli.common import examples, print_json, print_out, use_parts
from facex_tune.cli.options import STORAGE, Device, Json, OwnParts, Storage
from facex_tune.storage import files


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(
        epilog=examples("facex-tune predict demo face.png", "facex-tune predict demo/t0007-s0 faces/*.png --json")
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
        typer.Argument(metavar="MODEL", help="A run (its winner), RUN/t0007-s0, a model's folder, an exported file."),
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images of one cropped face each.")],
    storage: Storage = STORAGE,
    device: Device = None,
    parts: OwnParts = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average each face with its mirror image.")] = False,
    as_json: Json = False,
) -> None:
    """Probabilities of each emotion for faces. Expects a cropped face an image, and does not look for one."""
    from facex_tune.cli import tables
    from facex_tune.evidence import predict

    use_parts(parts)
    trained = predict.find(model, storage)
    document = predict.predict(trained, images, device_name=device, tta="flip" if flip else "none")
    if as_json:
        print_json(document)
    else:
        print_out(tables.predictions(document))


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run (its winner), RUN/t0007-s0, or a model's folder.")],
    form: Annotated[str, typer.Option("--format", help="onnx or safetensors.")] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", parser=files.absolute, help="Default: named after the model."),
    ] = None,
    storage: Storage = STORAGE,
    parts: OwnParts = None,
) -> None:
    """Write a trained model for use elsewhere; the ONNX graph takes grey 48×48 faces as they are."""
    from facex_tune.evidence import export, predict

    use_parts(parts)
    trained = predict.find(run, storage)
    path = export.export(trained, form, out or files.absolute(f"{trained.name.replace('/', '-')}.{form}"))
    typer.echo(f"exported: {path}")
