"""CK+ (Lucey et al., CVPR workshops 2010) in the two forms in which Kaggle has it, at 48 x 48 pixels.

* CK+48: `CK+48/<class>/S<subject>_<sequence>_<frame>.png`, in a folder or its zip, under any wrapping folder; the last
  three frames of each sequence. Frames of a sequence and sequences of a subject are far from independent: `group` is
  the subject, `sequence` the sequence.
* `ckextended.csv`: emotion, pixels, Usage; one peak frame of each labelled sequence, and a neutral face of each of the
  593. It tells neither subject nor sequence: only faces that look alike share a group, and intervals come out too
  narrow. Its Usage divides frames at random, subjects and all: here everything is of split "test".

The numbers of that CSV are emotions in the published order, which is FER2013's with contempt as 7. The file proves it:
no two classes of CK+ have the same number of sequences, so that no other order fits the counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from facex_tune.data.faces import Faces, Skipped
from facex_tune.data.sources import _pixel_csv
from facex_tune.data.sources._download import Download
from facex_tune.data.tree import is_zip, one_of_a_name, open_tree, read_images, require_classes
from facex_tune.emotions import EMOTIONS, canonical
from facex_tune.errors import InputError

DESCRIPTION = "CK+: 981 posed faces of 118 subjects, for testing only; SOURCE is CK+48, its zip, or ckextended.csv"
NEEDS_SOURCE = True
DOWNLOAD = Download(kaggle="shawon10/ckplus")

_IMAGE = re.compile(r"S(\d+)_(\d+)_(\d+)\.png", re.IGNORECASE)
_CLASSES = tuple(index for index, name in enumerate(EMOTIONS) if name != "neutral")
_LAYOUT = _pixel_csv.Layout(tuple(range(len(EMOTIONS))), dict.fromkeys(_pixel_csv.USAGES, "test"))
_SEQUENCES_C = np.array([45, 59, 25, 69, 28, 83, 593, 18])  # labelled ones by emotion; neutral: of all sequences
_LEAST_SHARE = 0.9  # of a set's faces, without which its counts prove nothing


def load(path: Path | None, progress: Callable[[int, int], None]) -> tuple[Faces, list[Skipped]]:
    """All frames, of split "test": by subject, sequence and frame, or in the rows' order.

    Raises:
        InputError: none of the two forms, an unknown class folder, a class without a face, or numbers in another order.
    """
    assert path is not None, "prepare asks for the source"
    if (path.is_dir() or is_zip(path)) and _has_images(path):
        return _load_images(path, progress)
    if found := _pixel_csv.load_rows(path, progress, _LAYOUT):
        _require_published_order(found[0], path)
        return found
    return _load_images(path, progress)


def _has_images(path: Path) -> bool:
    with open_tree(path) as tree:
        return any(_IMAGE.fullmatch(PurePosixPath(name).name) for name in tree.names)


def _require_published_order(faces: Faces, path: Path) -> None:
    counts_C = np.bincount(faces.labels_N, minlength=len(EMOTIONS))
    if (counts_C > _SEQUENCES_C).any() or counts_C.sum() < _LEAST_SHARE * _SEQUENCES_C.sum():
        told = ", ".join(f"{number}: {n}" for number, n in enumerate(counts_C))
        raise InputError(
            f"{path} is not the CSV of CK+ that is known (faces by number {told}; wanted "
            f"{', '.join(map(str, _SEQUENCES_C))}), so what its numbers mean is not: use CK+48, or class folders with "
            "`data prepare folder`"
        )


def _load_images(path: Path, progress: Callable[[int, int], None]) -> tuple[Faces, list[Skipped]]:
    with open_tree(path) as tree:
        found, skipped = _find(tree.names, path)
        images_NHW, kept, unreadable = read_images(tree, [name for *_, name in found], progress)
    found = [found[position] for position in kept]
    labels = [canonical(PurePosixPath(name).parent.name) for *_, name in found]
    require_classes(set(labels), _CLASSES, str(path))
    numbers = {key: number for number, key in enumerate(dict.fromkeys((subject, seq) for subject, seq, *_ in found))}
    faces = Faces(
        images_NHW=images_NHW,
        labels_N=np.array(labels, np.int64),
        split_N=np.full(len(found), "test"),
        group_N=np.array([subject for subject, *_ in found], np.int64),
        sequence_N=np.array([numbers[subject, sequence] for subject, sequence, *_ in found], np.int64),
        votes_NC=None,
        source_N=np.array([PurePosixPath(name).name for *_, name in found], dtype=np.str_),
    )
    return faces, skipped + unreadable


def _find(names: list[str], path: Path) -> tuple[list[tuple[int, int, int, str]], list[Skipped]]:
    """(subject, sequence, frame, name) of each image, sorted, and the images whose names say no subject."""
    by_frame: dict[tuple[int, int, int], list[str]] = {}
    skipped = []
    for name in names:
        file = PurePosixPath(name)
        if file.suffix.lower() != ".png":
            continue
        match = _IMAGE.fullmatch(file.name)
        if match is None:
            skipped.append(Skipped(name, None, "its name is not S<subject>_<sequence>_<frame>.png"))
            continue
        subject, sequence, frame = map(int, match.groups())
        by_frame.setdefault((subject, sequence, frame), []).append(name)
    if not by_frame:
        raise InputError(
            f"{path} is not CK+: it has neither <class>/S<subject>_<sequence>_<frame>.png nor a CSV "
            "emotion,pixels,Usage"
        )
    found = []
    for frame_of, same in by_frame.items():  # the published zip is known to hold the folder twice
        one, doubtful = one_of_a_name([(name, canonical(PurePosixPath(name).parent.name)) for name in same])
        skipped += doubtful
        found += [(*frame_of, name) for name in same[:one]]
    return sorted(found), skipped
