"""CK+ (Lucey et al., CVPR workshops 2010) in the two forms in which Kaggle has it, and as released.

* CK+48: `CK+48/<class>/S<subject>_<sequence>_<frame>.png`, in a folder or its zip, under any wrapping folder; the last
  three frames of each sequence. Frames of a sequence and sequences of a subject are far from independent: `group` is
  the subject, `sequence` the sequence. Copies of other sizes and with folders 0 to 6 (as WuJie1010's
  `preprocess_CK+.py` counts) or with the release's codes are read alike.
* the release: `_ckplus_release`.
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

from facex_tune.data import known, label_files
from facex_tune.data.faces import Faces, Skipped
from facex_tune.data.importing import NOTHING, Asked, Loaded, Published, require_kept
from facex_tune.data.known import meaning, told
from facex_tune.data.sources import _ckplus_release, _pixel_csv
from facex_tune.data.sources._download import Download
from facex_tune.data.tree import Tree, is_picture, is_zip, one_of_a_name, open_tree, read_images, require_classes
from facex_tune.emotions import EMOTIONS, GREY_48, canonical
from facex_tune.errors import InputError

DESCRIPTION = "CK+: 981 posed faces of 118 subjects, for testing; SOURCE is CK+48, ckextended.csv or the release"
NEEDS_SOURCE = True
DOWNLOAD = Download(kaggle="shawon10/ckplus")

OPTIONS = ("incomplete", "labels", "uncropped", "size", "colour")

_IMAGE = re.compile(r"S(\d+)_(\d+)_(\d+)(?:\.\w+)?", re.IGNORECASE)
_CLASSES = tuple(index for index, name in enumerate(EMOTIONS) if name != "neutral")
_LAYOUT = _pixel_csv.Layout("CK+", tuple(range(len(EMOTIONS))), dict.fromkeys(_pixel_csv.USAGES, "test"))
_SEQUENCES_C = np.array([45, 59, 25, 69, 28, 83, 593, 18])  # labelled ones by emotion; neutral: of all sequences
PUBLISHED = (
    Published.of(EMOTIONS, {"test": (135, 177, 75, 207, 84, 249, 0, 54)}),
    Published.of(EMOTIONS, {"test": _SEQUENCES_C.tolist()}),
    Published.of(EMOTIONS, {"test": (135, 177, 75, 207, 84, 249, 593, 54)}),
)
"""Of CK+48, `ckextended.csv`, and the release: CK+48's frames and a neutral one of each sequence."""
_ALL_OF = {"ckplus_folders": set(range(7)), "ckplus": set(range(1, 8))}  # what must be there; 0 of the codes is neutral
_LEAST_SHARE = 0.9  # of a set's faces, without which its counts prove nothing


def load(path: Path | None, progress: Callable[[int, int], None], asked: Asked = NOTHING) -> Loaded:
    """All frames, of split "test": by subject, sequence and frame, or in the rows' order.

    Raises:
        InputError: none of the two forms, an unknown class folder, a class without a face, or numbers in another order.
    """
    assert path is not None, "prepare asks for the source"
    if path.is_dir() or is_zip(path):
        with open_tree(path) as tree:
            if _ckplus_release.is_release(tree):
                label_files.refuse_asked(asked, "CK+ as released, whose labels lie in Emotion/")
                return _ckplus_release.load(tree, progress, asked)
            if any(_IMAGE.fullmatch(PurePosixPath(name).name) for name in tree.names):
                return _load_images(path, progress, asked)
    if found := _pixel_csv.load_rows(path, progress, _LAYOUT):
        label_files.refuse_asked(asked, "a CSV of CK+")
        _require_48(path, asked)
        _require_published_order(found.faces, path)
        return found
    return _load_images(path, progress, asked)


def _require_48(path: Path, asked: Asked) -> None:
    if asked.face != GREY_48:
        raise InputError(
            f"{asked.face.options}: {path} holds CK+ as {GREY_48} alone: the release and copies of other sizes have "
            "larger frames"
        )


def _require_published_order(faces: Faces, path: Path) -> None:
    counts_C = np.bincount(faces.labels_N, minlength=len(EMOTIONS))
    if (counts_C > _SEQUENCES_C).any() or counts_C.sum() < _LEAST_SHARE * _SEQUENCES_C.sum():
        told = ", ".join(f"{number}: {n}" for number, n in enumerate(counts_C))
        raise InputError(
            f"{path} is not the CSV of CK+ that is known (faces by number {told}; wanted "
            f"{', '.join(map(str, _SEQUENCES_C))}), so what its numbers mean is not: use CK+48, or class folders with "
            "`data prepare folder`"
        )


def _load_images(path: Path, progress: Callable[[int, int], None], asked: Asked) -> Loaded:
    with open_tree(path) as tree:
        found, skipped, notes = _find(tree, asked)
        read = read_images(tree, [name for *_, name in found], progress, face=asked.face)
    if asked.size > GREY_48.size and read.pictures.enlarged(GREY_48.size + 1).all():
        _require_48(path, asked)
    require_kept([PurePosixPath(name).parent.name for *_, name in found], read.kept, read.skipped, path)
    found = [found[position] for position in read.kept]
    label_of = _classes(path, {PurePosixPath(name).parent.name for *_, name in found})
    labels = [label_of[PurePosixPath(name).parent.name] for *_, name in found]
    require_classes(set(labels), _CLASSES, str(path))
    numbers = {key: number for number, key in enumerate(dict.fromkeys((subject, seq) for subject, seq, *_ in found))}
    faces = Faces(
        images_NHW=read.images_KHW,
        labels_N=np.array(labels, np.int64),
        split_N=np.full(len(found), "test"),
        group_N=np.array([subject for subject, *_ in found], np.int64),
        sequence_N=np.array([numbers[subject, sequence] for subject, sequence, *_ in found], np.int64),
        votes_NC=None,
        source_N=np.array([PurePosixPath(name).name for *_, name in found], dtype=np.str_),
    )
    return Loaded(faces, skipped + read.skipped, read.pictures, notes=tuple(notes))


def _find(tree: Tree, asked: Asked) -> tuple[list[tuple[int, int, int, str]], list[Skipped], list[str]]:
    """(subject, sequence, frame, name) of each image, sorted; the images whose names say no subject; and notes."""
    by_frame: dict[tuple[int, int, int], list[str]] = {}
    skipped = []
    for name in tree.names:
        match = _IMAGE.fullmatch(PurePosixPath(name).name)
        if match is None:
            if is_picture(tree, name):
                skipped.append(Skipped(name, None, "its name is not S<subject>_<sequence>_<frame>.png"))
            continue
        subject, sequence, frame = map(int, match.groups())
        by_frame.setdefault((subject, sequence, frame), []).append(name)
    if not by_frame:
        raise InputError(
            f"{tree.path} is not CK+: it has neither <class>/S<subject>_<sequence>_<frame>.png nor a CSV "
            f"emotion,pixels,Usage{known.advice(known.by_names(tree.names), 'ckplus')}"
        )
    folders = {PurePosixPath(name).parent.name for same in by_frame.values() for name in same}
    label_of = _classes(tree.path, folders)
    found = []
    for frame_of, same in by_frame.items():  # the published zip is known to hold the folder twice
        one, doubtful = one_of_a_name([(name, label_of[PurePosixPath(name).parent.name]) for name in same])
        skipped += doubtful
        found += [(*frame_of, name) for name in same[:one]]
    of_picture = {name: label_of[PurePosixPath(name).parent.name] for *_, name in found}
    numbering = next(iter(_numberings(folders)), "")
    return sorted(found), skipped, label_files.beside(tree, of_picture, asked, numbering)


def _numberings(folders: set[str]) -> list[str]:
    """Those that folders of numbers alone fit."""
    if not all(folder.isdecimal() for folder in folders):
        return []
    numbers = {int(folder) for folder in folders}
    return [name for name in ("ckplus_folders", "ckplus") if _ALL_OF[name] <= numbers <= set(meaning(name))]


def _classes(path: Path, folders: set[str]) -> dict[str, int]:
    """Emotion by folder: by its name, else by its number, where all folders have one and they fit one numbering.

    Raises:
        InputError: a name that is no emotion, or numbers of which nobody knows what they mean.
    """
    if not all(folder.isdecimal() for folder in folders):
        return {folder: canonical(folder) for folder in folders}
    fitting = _numberings(folders)
    if len(fitting) != 1:
        raise InputError(
            f"{path} has CK+ in folders {', '.join(sorted(folders))}, which are neither 0 to 6 "
            f"({told('ckplus_folders')}) nor the release's codes ({told('ckplus')})"
        )
    return {folder: canonical(meaning(fitting[0])[int(folder)]) for folder in folders}
