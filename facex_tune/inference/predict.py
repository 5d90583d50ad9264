"""Emotions of single faces by a trained model.

It expects what it was trained on: one cropped, roughly upright and centred face an image. It does not look for faces; a
whole photograph gives an answer that means nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError, nearest, one_line
from facex_tune.runs.names import model_label
from facex_tune.runs.store import Run
from facex_tune.storage import files
from facex_tune.storage.files import Place

if TYPE_CHECKING:
    from torch import Tensor

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


def find(said: str, storage: Place) -> Trained:
    """The model that `said` means: a run's name (its winner's first seed), ``RUN/t0007-s0``, a folder with
    model.safetensors and config.json, or a file that `facex-tune export --format safetensors` wrote.

    Raises:
        InputError: there is no such model.
    """
    path = Path(said)
    if path.is_file():
        return _exported(path)
    if (path / "model.safetensors").is_file():
        tensors, _ = files.load_tensors(path / "model.safetensors")
        return Trained(path.name, tensors, files.read_json(path / "config.json"))
    name, _, label = said.partition("/")
    if not Run(storage, name).exists() or Path(name).name != name:
        runs = Run.names(storage)
        known = nearest(name, runs) if runs else f"there is no run in {storage}"
        raise InputError(f"MODEL {said!r} is neither a file, a model's folder, nor a run of {storage}: {known}")
    return of_run(Run.open(storage, name), label or None)


def of_run(run: Run, label: str | None) -> Trained:
    """A run's model by its label, such as t0007-s0; by default the winner's first seed.

    Raises:
        InputError: the run has no such model, or none at all.
    """
    history = run.history()
    rank = {candidate.trial: candidate.rank for candidate in history.candidates}
    keys = sorted(history.models, key=lambda key: (rank.get(key[0], len(rank)), key))
    if not keys:
        raise InputError(f"run {run.name!r} has no retrained model yet: run `facex-tune retrain {run.name}`")
    labels = {model_label(candidate, seed): (candidate, seed) for candidate, seed in keys}
    if label is not None and label not in labels:
        raise InputError(f"run {run.name!r} has no model {label!r}; {nearest(label, list(labels))}")
    chosen = label or next(iter(labels))
    try:
        tensors, info = run.load_model_files(*labels[chosen])
    except FileNotFoundError as error:
        folder = run.final_folder(*labels[chosen])
        gone = "its weights or config.json are gone; restore them, or name another model"
        raise InputError(f"{folder}: {gone}") from error
    return Trained(f"{run.name}/{chosen}", tensors, info)


def _exported(path: Path) -> Trained:
    try:
        tensors, values = files.load_tensors(path)
    except files.DamagedRun as error:
        how = "export one with `facex-tune export RUN --format safetensors`"
        raise InputError(f"MODEL {path}: no safetensors file of facex-tune, which predict reads; {how}") from error
    if "config" not in values or "n_classes" not in values:
        raise InputError(f"MODEL {path}: its header names no configuration; write one with `facex-tune export RUN`")
    return Trained(path.stem, tensors, values)


def read_faces(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Images as the data room reads them (grey, cut centrally to a square, 48×48), N x H x W.

    Raises:
        InputError: files that are no images, each in a line.
    """
    from facex_tune.data.tree import decode_photo

    faces, problems = [], []
    for path in paths:
        try:
            faces.append(decode_photo(path.read_bytes()))
        except Exception as error:  # a decoder fed damaged bytes raises whatever it likes
            reason = reason_of(error)
            problems.append(f"IMAGE {path}: not an image that can be read ({reason}); give PNG or JPEG files")
    if problems:
        raise InputError(problems)
    return np.stack(faces)


def reason_of(error: Exception) -> str:
    """Why a file could not be read, without the decoder's own words for where it had the bytes."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "of no known format"
    return getattr(error, "strerror", None) or one_line(error)


def predict(trained: Trained, paths: Sequence[Path], *, device_name: str | None, tta: str) -> dict[str, Any]:
    """{version, model, emotions, tta, images: [{file, emotion, probabilities {emotion: p}}]}."""
    from facex_tune.training import classifier, devices

    images_NHW = read_faces(paths)
    device = devices.pick_device(device_name)
    model = classifier.load_model(trained.info["config"], trained.tensors, trained.info["n_classes"], device)
    found_NC = classifier.probabilities_NC(model, images_NHW, device, tta=tta)
    return {
        "version": VERSION,
        "model": trained.name,
        "emotions": list(trained.emotions),
        "tta": tta,
        "images": [_one(path, found_C, trained.emotions) for path, found_C in zip(paths, found_NC, strict=True)],
    }


def _one(path: Path, found_C: NDArray[np.float32], emotions: Sequence[str]) -> dict[str, Any]:
    probabilities: Mapping[str, float] = dict(zip(emotions, map(float, found_C), strict=True))
    return {"file": str(path), "emotion": emotions[int(found_C.argmax())], "probabilities": probabilities}


def describe(trained: Trained) -> dict[str, str]:
    """What an exported file says of itself, as text."""
    return {
        "format": "facex_tune model 1",
        "model": trained.name,
        "emotions": ",".join(trained.emotions),
        "input": "faces: uint8, N x 48 x 48, grey, one cropped face each; scaling happens inside",
        "output": "probabilities: float32, N x emotions, rows sum to 1",
        "config": json.dumps(trained.info["config"]),
    }
