"""Emotions of single faces by a trained model.

It expects what it was trained on: one cropped, roughly upright and centred face an image. It does not look for faces:
of a whole photograph the answer would mean nothing, so that what looks like one is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.emotions import EMOTIONS, GREY_48, FaceShape
from facex_tune.errors import InputError, nearest, one_line
from facex_tune.inference import checked
from facex_tune.runs.lease import holder
from facex_tune.runs.names import ALL, model_label
from facex_tune.runs.store import Run
from facex_tune.storage import files
from facex_tune.storage.files import Place

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

VERSION = 1


@dataclass(frozen=True)
class Trained:
    """A model as it was kept: its weights, and what config.json says of it."""

    name: str
    tensors: dict[str, Tensor]
    info: dict[str, Any]

    @property
    def emotions(self) -> tuple[str, ...]:
        return EMOTIONS[: self.info["n_classes"]]

    @property
    def face(self) -> FaceShape:
        """The shape of the faces that it was trained on and takes."""
        return FaceShape.of(self.info)

    @property
    def data(self) -> tuple[str, ...]:
        """The sets that it was trained on; () where its file does not tell."""
        said = self.info.get("data")
        return tuple(said) if isinstance(said, list) and all(isinstance(name, str) for name in said) else ()

    def load(self, device: torch.device) -> nn.Module:
        """The network with its weights, on a device."""
        from facex_tune.training import classifier

        return classifier.load_model(self.info["config"], self.tensors, self.info["n_classes"], device, self.face)


def find(said: str, storage: Place) -> Trained:
    """The model that `said` means, checked: see `_found` and `checked.check`.

    Raises:
        InputError: there is no such model, or it is none that can be built.
    """
    trained = _found(said, storage)
    checked.check(said, trained.tensors, trained.info)
    return trained


def _found(said: str, storage: Place) -> Trained:
    """The model that `said` means: a run's name (its winner's first seed), ``RUN/t0007-s0``, a folder with
    model.safetensors and config.json, or a file that `facex-tune export --format safetensors` wrote.

    Raises:
        InputError: there is no such model.
    """
    path = Path(said)
    if path.is_file():
        return _exported(path)
    if (path / "model.safetensors").is_file():
        return _of_folder(path)
    name, _, label = said.partition("/")
    if not Run(storage, name).exists() or Path(name).name != name:
        runs = Run.names(storage)
        known = nearest(name, runs) if runs else f"there is no run in {storage}"
        raise InputError(f"MODEL {said!r} is neither a file, a model's folder, nor a run of {storage}: {known}")
    return of_run(Run.open(storage, name), label or None)


def of_run(run: Run, label: str | None) -> Trained:
    """A run's model by its label, such as t0007-s0; by default the winner's first seed, of which the honest figures are
    told. The one that was trained on validation faces too, t0007-all, has to be named.

    Raises:
        InputError: the run has no such model, or none at all.
    """
    history = run.history()
    keys = history.finished_models
    if not keys:
        if (held := holder(run.folder)) is not None:
            raise InputError(
                f"run {run.name!r} has no retrained model yet: process {held['pid']} on {held['host']} is at work on it"
            )
        raise InputError(f"run {run.name!r} has no retrained model yet: run `facex-tune retrain {run.words}`")
    labels: dict[str, tuple[int, int, str | None]] = {model_label(*key): (*key, None) for key in keys}
    labels |= {model_label(*key, ALL): (*key, ALL) for key in history.models_on_all}
    if label is not None and label not in labels:
        raise InputError(f"run {run.name!r} has no model {label!r}; {nearest(label, list(labels))}")
    chosen = label or next(iter(labels))
    try:
        tensors, info = run.load_model_files(*labels[chosen])
    except FileNotFoundError as error:
        folder = run.final_folder(*labels[chosen])
        gone = "its weights or config.json are gone; restore them, or name another model"
        raise InputError(f"{folder}: {gone}") from error
    # models of earlier versions do not tell what they were trained on
    return Trained(f"{run.name}/{chosen}", tensors, {"data": list(run.study.sets), **info})


def _of_folder(path: Path) -> Trained:
    """A model's folder, as a run keeps it.

    Raises:
        InputError: its weights or what they are of cannot be read.
    """
    try:
        tensors, _ = files.load_tensors(path / "model.safetensors")
        return Trained(path.name, tensors, files.read_json(path / "config.json"))
    except FileNotFoundError as error:
        raise InputError(f"MODEL {path}: it has no config.json, which says what its weights are of") from error
    except (files.DamagedRun, RecursionError) as error:
        raise InputError(f"MODEL {path}: {one_line(error)}") from error


def _exported(path: Path) -> Trained:
    try:
        tensors, values = files.load_tensors(path)
    except files.DamagedRun as error:
        how = "export one with `facex-tune export RUN --format safetensors`"
        raise InputError(f"MODEL {path}: no safetensors file of facex-tune, which predict reads; {how}") from error
    if "config" not in values or "n_classes" not in values:
        raise InputError(f"MODEL {path}: its header names no configuration; write one with `facex-tune export RUN`")
    return Trained(path.stem, tensors, values)


def read_faces(
    paths: Sequence[Path], *, face: FaceShape = GREY_48, uncropped: bool = False
) -> NDArray[np.uint8]:
    """Images as the data room reads them (grey or in colour, cut centrally to a square, resized), N x H x W (x 3).

    Args:
        face: the shape of the faces that the model takes.
        uncropped: take whole photographs too, of which the middle is read, whatever is there.

    Raises:
        InputError: files that are no images, or look like whole photographs, each in a line.
    """
    from facex_tune.data.members import read_whole
    from facex_tune.data.pictures import MAX_BYTES, decode, looks_uncropped

    faces, problems = [], []
    for path in paths:
        try:
            with path.open("rb") as file:
                picture = decode(read_whole(file, path.stat().st_size, MAX_BYTES), face)
        except Exception as error:  # a decoder fed damaged bytes raises whatever it likes
            reason = reason_of(error)
            problems.append(f"IMAGE {path}: not an image that can be read ({reason}); give PNG or JPEG files")
            continue
        if looks_uncropped(picture.width, picture.height) and not uncropped:
            problems.append(
                f"IMAGE {path}: {picture.width} x {picture.height} pixels look like a whole photograph, and no face is "
                "looked for: cut the face out, or take the middle with --uncropped"
            )
        faces.append(picture.image_HW)
    if problems:
        raise InputError(problems)
    return np.stack(faces)


def reason_of(error: Exception) -> str:
    """Why a file could not be read, without the decoder's own words for where it had the bytes."""
    from PIL import UnidentifiedImageError

    from facex_tune.data.pictures import UNKNOWN

    if isinstance(error, UnidentifiedImageError) or str(error) == UNKNOWN:
        return "of no known format"
    return getattr(error, "strerror", None) or one_line(error)


def predict(
    trained: Trained, paths: Sequence[Path], *, device_name: str | None, tta: str, uncropped: bool = False
) -> dict[str, Any]:
    """{version, model, emotions, tta, images: [{file, emotion, probabilities {emotion: p}}]}."""
    from facex_tune.training import classifier, devices

    images_NHW = read_faces(paths, face=trained.face, uncropped=uncropped)
    device = devices.pick_device(device_name)
    model = trained.load(device)
    found_NC = classifier.probabilities_NC(model, images_NHW, device, tta=tta)
    return document(trained.name, trained.emotions, tta, paths, found_NC)


def document(
    name: str, emotions: Sequence[str], tta: str, paths: Sequence[Path], found_NC: NDArray[np.float32]
) -> dict[str, Any]:
    """What `predict` gives, of the model's answers for these files."""
    return {
        "version": VERSION,
        "model": name,
        "emotions": list(emotions),
        "tta": tta,
        "images": [_one(path, found_C, emotions) for path, found_C in zip(paths, found_NC, strict=True)],
    }


def _one(path: Path, found_C: NDArray[np.float32], emotions: Sequence[str]) -> dict[str, Any]:
    probabilities: Mapping[str, float] = dict(zip(emotions, map(float, found_C), strict=True))
    return {"file": str(path), "emotion": emotions[int(found_C.argmax())], "probabilities": probabilities}


def describe(trained: Trained) -> dict[str, str]:
    """What an exported file says of itself, as text."""
    face = trained.face
    axes = " x ".join(["N", *map(str, face.images(1)[1:])])
    colours = "red, green and blue" if face.is_colour else "grey"
    return {
        "format": "facex_tune model 1",
        "model": trained.name,
        "emotions": ",".join(trained.emotions),
        "input": f"faces: uint8, {axes}, {colours}, one cropped face each; scaling happens inside",
        **({} if face == GREY_48 else {"face": json.dumps(face.to_data())}),
        **({"data": ",".join(trained.data)} if trained.data else {}),
        "output": "probabilities: float32, N x emotions, rows sum to 1",
        "config": json.dumps(trained.info["config"]),
    }
