"""FER+ (Barsoum et al., ICMI 2016): FER2013's faces with the votes of ten annotators.

`fer2013new.csv` names its images, but some names are blank and some occur twice: its rows are joined to those of
`fer2013.csv` by number, and each pair's Usage must agree. Every face stays, under FER2013's own label; what the
annotators say stands in `votes_NC`, where `majority_labels` and soft targets take it from.

Its own tool writes pictures with votes beside them: `_ferplus_pictures`.

Kaggle also has FER+ as class folders (`train|validation|test/<class>/...`), cleaned, and balanced by changed copies of
faces. Those have the majority's labels and no votes, and their splits are their maker's: a copy of a face may stand in
another split, which `data audit` tells.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from facex_tune.data import known, label_files
from facex_tune.data.faces import VOTE_ANSWERS, Faces, counts, majority_labels, told_of_majority
from facex_tune.data.importing import NOTHING, Asked, Loaded
from facex_tune.data.sources import _ferplus_pictures, fer2013, folder
from facex_tune.data.sources._download import Download
from facex_tune.data.sources._pixel_csv import column_names, first_line, records_of
from facex_tune.data.sources.fer2013 import SPLIT_OF_USAGE
from facex_tune.data.tree import Tree, is_picture, is_zip, open_tree, require_classes, require_readable, told_as_damage
from facex_tune.emotions import EMOTIONS, N_FER2013, canonical
from facex_tune.errors import InputError

DESCRIPTION = "FER+: SOURCE has fer2013.csv and fer2013new.csv (annotators' votes), FER2013Train/label.csv, or classes"
NEEDS_SOURCE = True
MOST_ROWS = 100_000  # of votes; there are 35,887
VOTES_FILE = "fer2013new.csv"
VOTES_COMMIT = "8ad5426c7b69e86e78afccb42c5f516850f52a28"  # of 2017-03-13, the last one that changed them
DOWNLOAD = Download(
    kaggle="deadskull7/fer2013",
    file_url=f"https://raw.githubusercontent.com/microsoft/FERPlus/{VOTES_COMMIT}/{VOTES_FILE}",
    file_sha256="9206e20d62f56475939f516847d61753e4860caeac9718b560129541b776fc2c",
)

OPTIONS = ("incomplete", "labels")
PUBLISHED = (*fer2013.PUBLISHED, _ferplus_pictures.PUBLISHED)
"""FER2013's faces and labels, beside which the votes come; or the majorities of the pictures that its tool writes."""

_ANSWER_OF_COLUMN = {"unknown": VOTE_ANSWERS.index("unknown"), "nf": VOTE_ANSWERS.index("not-a-face")}
_KEPT = {"train": 25_060, "public_test": 3_199, "private_test": 3_153}  # faces with a majority
_OTHERWISE = "; prepare other class folders with `facex-tune data prepare folder SOURCE --as NAME`"
_EMOTION_COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
_ANSWER_OF_COLUMN |= {name: canonical(name) for name in _EMOTION_COLUMNS}


def load(path: Path | None, progress: Callable[[int, int], None], asked: Asked = NOTHING) -> Loaded:
    """FER2013's rows with `votes_NC`; SOURCE may also be either CSV (or its zip) with the other beside it.

    Of class folders: their faces, without votes.

    Raises:
        InputError: one of the two files is missing or damaged, their rows do not belong together, or a
            table beside class folders says otherwise.
    """
    assert path is not None, "prepare asks for the source"
    require_readable(path)
    if path.is_file() and path.name.lower() == VOTES_FILE:
        path = path.parent
    if path.is_dir() or is_zip(path):
        with open_tree(path) as tree:
            if _ferplus_pictures.lists(tree):
                label_files.refuse_asked(asked, "FER+ with votes")
                return _ferplus_pictures.load(tree, progress)
    if _is_class_folders(path):
        return _load_folders(path, progress, asked)
    label_files.refuse_asked(asked, "FER+ with votes")
    usage_R, votes_RC, where = _votes(path)
    loaded = _faces(path, progress)
    faces = loaded.faces
    n_rows = len(faces) + len(loaded.skipped)
    if n_rows != len(votes_RC):
        raise InputError(f"{where} has {len(votes_RC):,} rows, FER2013's CSV {n_rows:,}: give the two complete files")
    row_N = faces.source_N.astype(np.int64)
    if (strange := np.flatnonzero(usage_R[row_N] != faces.split_N)).size:
        row, split = row_N[strange[0]], faces.split_N[strange[0]]
        raise InputError(f"{where}: row {row} is of {usage_R[row]}, in FER2013's CSV of {split}: not the same order")
    faces = replace(faces, votes_NC=votes_RC[row_N])
    majority_N = majority_labels(votes_RC[row_N])
    n_contempt, n_without = int((majority_N == EMOTIONS.index("contempt")).sum()), int((majority_N < 0).sum())
    notes = (*loaded.notes, told_of_majority(n_contempt, n_without))
    return replace(loaded, faces=faces, unproven=_unpublished_votes(faces), notes=notes)


def _unpublished_votes(faces: Faces) -> str:
    """What tells votes beside all of FER2013 from the published ones; "" where nothing does, or faces are missing."""
    assert faces.votes_NC is not None
    kept_N = majority_labels(faces.votes_NC) >= 0
    kept = {split: int((kept_N & (faces.split_N == split)).sum()) for split in _KEPT}
    if kept == _KEPT or not PUBLISHED[0].is_met(counts(faces)):
        return ""
    there, wanted = (", ".join(f"{split} {n:,}" for split, n in each.items()) for each in (kept, _KEPT))
    return f"its votes are not the published ones: a majority has {there}, published {wanted}"


def _votes(path: Path) -> tuple[NDArray[np.str_], NDArray[np.int16], str]:
    """usage_R (as splits) and votes_RC from the source, or from beside it; and the file's name."""
    for place in (path, path.parent) if path.is_file() else (path,):
        if place.is_file() and not is_zip(place):
            continue
        with open_tree(place) as tree:
            if name := _votes_name(tree):
                with told_as_damage(name), tree.open(name) as file:
                    return *_read(file, name), name
    raise InputError(
        f"{path} has no {VOTES_FILE} (columns Usage, {', '.join(_ANSWER_OF_COLUMN)}) in it or beside it: "
        "put the one of github.com/microsoft/FERPlus there"
    )


def _votes_name(tree: Tree) -> str | None:
    """The CSV with the votes' columns."""
    wanted = {"usage", *_ANSWER_OF_COLUMN}
    csvs = (name for name in tree.names if name.lower().endswith(".csv"))
    return next((name for name in csvs if wanted <= set(first_line(tree, name))), None)


def _is_class_folders(path: Path) -> bool:
    if path.is_file() and not is_zip(path):
        return False
    with open_tree(path) as tree:
        images = [name for name in tree.names if is_picture(tree, name)]
        if not images or _votes_name(tree):
            return False
        contempt = any("contempt" in name.lower() for name in images)
        if not contempt and any(fer2013.is_image_name(name) for name in images):
            raise InputError(
                f"{path} holds FER2013 with its own labels, not those of FER+: give {VOTES_FILE} and fer2013.csv in "
                "one folder, or run `facex-tune data prepare fer2013` with it"
            )
        recognised = known.by_names(images)
        if recognised is None or recognised.source != "ferplus":
            raise InputError(
                f"{path} is not FER+: it has neither {VOTES_FILE} nor class folders of FER+'s faces, which are named "
                f"fer0000000.png{known.advice(recognised, 'ferplus') or _OTHERWISE}"
            )
    return True


def _load_folders(path: Path, progress: Callable[[int, int], None], asked: Asked) -> Loaded:
    loaded = folder.load(path, progress, Asked(labels="folders"))
    require_classes(set(loaded.faces.labels_N.tolist()), tuple(range(N_FER2013)), str(path))
    unproven = f"class folders without {VOTES_FILE} hold the labels that their maker chose"
    label_of = dict(zip(loaded.faces.source_N.tolist(), loaded.faces.labels_N.tolist(), strict=True))
    with open_tree(path) as tree:
        notes = label_files.beside(tree, label_of, asked, "ferplus")
    return replace(loaded, notes=tuple(notes), unproven=unproven)


def _read(file: BinaryIO, where: str) -> tuple[NDArray[np.str_], NDArray[np.int16]]:
    with closing(records_of(file, where)) as records:
        names = column_names(next(records))
        rows = list(islice(records, MOST_ROWS + 1))
    if len(rows) > MOST_ROWS:
        raise InputError(f"{where}: more than {MOST_ROWS:,} rows are no votes of FER+: download it again")
    answers = [(names.index(name), answer) for name, answer in _ANSWER_OF_COLUMN.items()]
    votes_RC = np.zeros((len(rows), len(VOTE_ANSWERS)), np.int16)
    splits = []
    for number, row in enumerate(rows):
        try:
            splits.append(SPLIT_OF_USAGE[row[names.index("usage")].strip()])
            votes_RC[number, [answer for _, answer in answers]] = [_count(row[column]) for column, _ in answers]
        except (IndexError, KeyError, ValueError) as error:
            raise InputError(f"{where}: row {number} is damaged ({error}): download it again") from error
    return np.array(splits, dtype=np.str_), votes_RC


def _count(field: str) -> int:
    """A number of annotators; ValueError for anything else."""
    if not field.strip().isdecimal() or int(field) > 100:
        raise ValueError(f"{field.strip()[:20]!r} is no number of votes")
    return int(field)


def _faces(path: Path, progress: Callable[[int, int], None]) -> Loaded:
    """The CSV's faces: from the source, else from a zip that lies in the folder."""
    zips = sorted(each for each in path.iterdir() if is_zip(each)) if path.is_dir() else []
    for place in (path, *zips):
        if found := fer2013.load_rows(place, progress):
            return found
    raise InputError(
        f"{path} has no CSV emotion,pixels,Usage, plain or zipped: FER+ is joined by row number, which the folders "
        "of images do not keep; put fer2013.csv beside fer2013new.csv"
    )
