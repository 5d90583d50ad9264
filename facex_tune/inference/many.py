"""Many faces: a folder of images, or a table of their paths, answered batch by batch into a CSV file.

An image that cannot be read keeps its row, without an answer and with the reason, so that one of a hundred thousand
loses nothing of the others.
"""

from __future__ import annotations

import csv
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.pictures import HEAD_BYTES, kind_of
from facex_tune.data.sources._pixel_csv import bounded_lines
from facex_tune.data.tree import IMAGE_SUFFIXES, is_litter
from facex_tune.emotions import FaceShape
from facex_tune.errors import InputError, nearest
from facex_tune.inference import find_faces
from facex_tune.inference.answers import Asked
from facex_tune.inference.predict import read_faces
from facex_tune.runs.frames import as_text

BATCH = 256
MOST_IMAGES = 2_000_000  # that a table may name
PATH_COLUMNS = ("path", "file", "filename", "image", "image_path")  # the first that a table has names its images
_READ_AS = "IMAGE {}: "


@dataclass(frozen=True)
class Told:
    """What came of it: how many images there were, how many could not be read, and the first of the reasons."""

    images: int
    unread: int
    first_problem: str


def listed(source: Path, column: str | None = None) -> list[Path]:
    """Lists the images of a folder, folders below it included, by name; or those that a CSV file names, a relative path
    from the file's own folder.

    Args:
        column: of the CSV file; None: the first of `PATH_COLUMNS` that it has, or its only one.

    Raises:
        InputError: it is neither, holds no image, or has no such column.
    """
    found = _of_folder(source) if source.is_dir() else _of_table(source, column)
    if not found:
        raise InputError(f"IMAGES {source}: no image in it")
    return found


def _of_folder(folder: Path) -> list[Path]:
    files = sorted(Path(where) / name for where, _, names in os.walk(folder) for name in names)
    return [path for path in files if not is_litter(path.name) and _is_picture(path)]


def _is_picture(path: Path) -> bool:
    """By its content; one that is named so counts, so that it is missed."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    with path.open("rb") as file:
        return kind_of(file.read(HEAD_BYTES)) is not None


def _of_table(path: Path, column: str | None) -> list[Path]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(bounded_lines(file))
            name = _column(path, list(reader.fieldnames or ()), column)
            said = [row[name] or "" for row in islice(reader, MOST_IMAGES + 1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"IMAGES {path}: no CSV file that can be read ({error})") from error
    if len(said) > MOST_IMAGES:
        raise InputError(f"IMAGES {path}: more than {MOST_IMAGES:,} rows; split it, and ask for each part")
    if "" in said:
        raise InputError(f"IMAGES {path}: row {said.index('') + 1} names no image in column {name!r}")
    return [path.parent / each for each in said]


def _column(path: Path, names: Sequence[str], wanted: str | None) -> str:
    if wanted is not None and wanted not in names:
        raise InputError(f"--column {wanted}: {path} has no such column; {nearest(wanted, names)}")
    usual = [name for name in PATH_COLUMNS if name in names]
    if wanted is None and not usual and len(names) != 1:
        raise InputError(f"IMAGES {path}: which column holds the paths? Say it with --column; {nearest('path', names)}")
    return wanted or (usual or list(names))[0]


def answer(
    asked: Asked,
    paths: Sequence[Path],
    out: Path,
    *,
    uncropped: bool = False,
    margin: float | None = None,
    progress: Callable[[int, int], object] = lambda _done, _all: None,
) -> Told:
    """Writes a CSV file with a row for each image: file, emotion, a probability for each emotion, problem. The file has
    its name once it is whole.

    Args:
        margin: finds the faces of whole photographs and cuts them out with it (`find_faces`); a row for each face. None
            takes each image for one cropped face.
        progress: told after each batch how many images are done, and how many there are.
    """
    unread, first = 0, ""
    with _written(out) as file:
        writer = csv.writer(file, lineterminator="\n")
        found = None if margin is None else find_faces.columns(asked)
        writer.writerow(found or ["file", "emotion", *asked.emotions, "problem"])
        done, left = 0, iter(paths)
        while batch := list(islice(left, BATCH)):
            for row in _rows(asked, batch, uncropped) if margin is None else _found(asked, batch, margin):
                writer.writerow(map(as_text, row))
                unread += row[-1] != ""
                first = first or row[-1]
            done += len(batch)
            progress(done, len(paths))
    return Told(len(paths), unread, first)


def _rows(asked: Asked, batch: Sequence[Path], uncropped: bool) -> Iterator[list[Any]]:
    read = [_read(path, asked.face, uncropped) for path in batch]
    faces = [face for face, _ in read if face is not None]
    answers = iter(asked.probabilities_NC(np.stack(faces))) if faces else iter(())
    for path, (face, problem) in zip(batch, read, strict=True):
        if face is None:
            yield [str(path), "", *[""] * len(asked.emotions), problem]
            continue
        found_C = next(answers)
        told = [f"{probability:.6f}" for probability in found_C]
        yield [str(path), asked.emotions[int(found_C.argmax())], *told, ""]


def _found(asked: Asked, batch: Sequence[Path], margin: float) -> Iterator[list[Any]]:
    for path in batch:
        yield from find_faces.rows(asked, path, margin)


def _read(path: Path, shape: FaceShape, uncropped: bool) -> tuple[NDArray[np.uint8] | None, str]:
    try:
        return read_faces([path], face=shape, uncropped=uncropped)[0], ""
    except InputError as error:
        return None, error.problems[0].removeprefix(_READ_AS.format(path))


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """A file beside the wanted one, which takes its name at the end; nothing is left of one that broke off."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")  # a name that nobody can foresee
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("x", encoding="utf-8", newline="") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
