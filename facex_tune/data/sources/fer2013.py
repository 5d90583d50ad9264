"""FER2013 (Goodfellow et al., ICONIP 2013) in each form in which it is found.

* the Kaggle folder: `train/<class>/Training_<id>.jpg`, `test/<class>/PublicTest_<id>.jpg`, `PrivateTest_<id>.jpg`
* its unopened zip, also with everything in one wrapping folder
* the original `fer2013.csv` (or `icml_face_data.csv`, with spaces in its column names): emotion, pixels, Usage; plain,
  in a zip, or in a folder

Which one is seen by looking. Folder and zip give the same faces in the same order (split, then id); a CSV keeps its
row order, to which the votes of FER+ are joined by row number.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from facex_tune.data import known, label_files
from facex_tune.data.faces import SPLITS, Faces, Skipped, exact_groups
from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress, Published, require_kept
from facex_tune.data.sources import _pixel_csv
from facex_tune.data.sources._download import Download
from facex_tune.data.sources._pixel_csv import first_line, told_of_challenge
from facex_tune.data.tree import Tree, is_picture, is_zip, open_tree, read_images, require_classes
from facex_tune.emotions import EMOTIONS, GREY_48, N_FER2013, canonical
from facex_tune.errors import InputError

DESCRIPTION = "FER2013: 35,887 faces; SOURCE is the folder data set, its zip, or fer2013.csv (plain or zipped)"
NEEDS_SOURCE = True
DOWNLOAD = Download(kaggle="msambare/fer2013")
SPLIT_OF_USAGE = dict(zip(_pixel_csv.USAGES, ("train", "public_test", "private_test"), strict=True))

OPTIONS = ("incomplete", "labels")
PUBLISHED = (
    Published.of(
        EMOTIONS[:N_FER2013],
        {
            "train": (3995, 436, 4097, 7215, 4830, 3171, 4965),
            "public_test": (467, 56, 496, 895, 653, 415, 607),
            "private_test": (491, 55, 528, 879, 594, 416, 626),
        },
    ),
)

_LAYOUT = _pixel_csv.Layout("FER2013", tuple(range(N_FER2013)), SPLIT_OF_USAGE, PUBLISHED)
_IMAGE = re.compile(r"(Training|PublicTest|PrivateTest)_(\d+)(?:\.\w+)?", re.IGNORECASE)
_USAGES = {usage.lower(): usage for usage in SPLIT_OF_USAGE}
_HALVES = {"train": ("train",), "test": ("public_test", "private_test")}


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """All three splits, grouped by equal pixels; `source_N` is the file's name, or the row number of a CSV.

    Raises:
        InputError: no such file, none of the three forms, an unknown class, a class without a face, a damaged zip,
            numbers that are no emotion of FER2013 or count in another order, or a table that says otherwise
            than the folders do.
    """
    assert path is not None, "prepare asks for the source"
    if path.is_dir() or is_zip(path):
        with open_tree(path) as tree:
            if any(is_image_name(name) for name in tree.names):
                return _load_images(tree, progress, asked)
    label_files.refuse_asked(asked, "no folder of FER2013's pictures")
    if found := load_rows(path, progress):
        return found
    raise InputError(
        f"{path} is not FER2013: neither train/<class>/Training_<id>.jpg nor a CSV emotion,pixels,Usage"
        f"{_recognised(path)}"
    )


def _recognised(path: Path) -> str:
    """What it looks like instead, in words; "" where nobody knows."""
    if path.is_file() and not is_zip(path):
        return ""
    with open_tree(path) as tree:
        for name in tree.names:
            if name.lower().endswith(".csv") and (said := told_of_challenge(first_line(tree, name))):
                return f" ({name} has no column Usage{said})"
        return known.advice(known.by_names([name for name in tree.names if is_picture(tree, name)]), "fer2013")


def load_rows(path: Path, progress: Progress) -> Loaded | None:
    """As `_pixel_csv.load_rows`, of FER2013."""
    return _pixel_csv.load_rows(path, progress, _LAYOUT)


def is_image_name(name: str) -> bool:
    """Whether a file is named as in the Kaggle folder, which holds FER2013's own labels."""
    return _IMAGE.fullmatch(PurePosixPath(name).name) is not None


def _load_images(tree: Tree, progress: Progress, asked: Asked) -> Loaded:
    found, skipped = _find(tree)
    notes = label_files.beside(tree, {image.name: image.label for image in found}, asked, "fer2013")
    read = read_images(tree, [image.name for image in found], progress, GREY_48.size)
    for words in ([image.split for image in found], [EMOTIONS[image.label] for image in found]):
        require_kept(words, read.kept, read.skipped, tree.path)
    found = [found[position] for position in read.kept]
    for half, splits in _HALVES.items():
        labels = {image.label for image in found if image.split in splits}
        require_classes(labels, tuple(range(N_FER2013)), f"{tree.path} ({half})")
    faces = Faces(
        images_NHW=read.images_KHW,
        labels_N=np.array([image.label for image in found], np.int64),
        split_N=np.array([image.split for image in found], dtype=np.str_),
        group_N=exact_groups(read.images_KHW),
        sequence_N=np.full(len(found), -1, np.int64),
        votes_NC=None,
        source_N=np.array(_sources(found), dtype=np.str_),
    )
    return Loaded(faces, skipped + read.skipped, read.pictures, notes=tuple(notes))


class _Image(NamedTuple):
    """Sorts into the canonical order: split, id, and (for an id in two classes) label and name."""

    split_rank: int
    number: int
    label: int
    name: str

    @property
    def split(self) -> str:
        return SPLITS[self.split_rank]


def _find(tree: Tree) -> tuple[list[_Image], list[Skipped]]:
    found: dict[tuple[int, int, int], _Image] = {}
    skipped = []
    for name in tree.names:
        file = PurePosixPath(name)
        match = _IMAGE.fullmatch(file.name)
        if match is None:
            if is_picture(tree, name):
                skipped.append(Skipped(name, None, "its name is not Training_, PublicTest_ or PrivateTest_<id>.jpg"))
            continue
        split_rank = SPLITS.index(SPLIT_OF_USAGE[_USAGES[match[1].lower()]])
        image = _Image(split_rank, int(match[2]), _class(file), name)
        first = found.setdefault(image[:3], image)
        if first is not image:
            skipped.append(Skipped(name, None, f"a second copy of {first.name}"))
    return sorted(found.values()), skipped


def _sources(found: list[_Image]) -> list[str]:
    """The files' names, with the class before those that stand in two: FER2013 has two such pairs, of other faces."""
    times = Counter((image.split_rank, image.number) for image in found)
    places = [PurePosixPath(image.name) for image in found]
    return [
        place.name if times[image.split_rank, image.number] == 1 else f"{place.parent.name}/{place.name}"
        for image, place in zip(found, places, strict=True)
    ]


def _class(file: PurePosixPath) -> int:
    if file.parent.name.isdigit():
        raise InputError(
            f"{file} lies in class {file.parent.name!r}, a number, which copies of FER2013 give in more than "
            "one order: name folders by emotion, or run `facex-tune data prepare folder SOURCE --as NAME --numbers SET`"
        )
    label = canonical(file.parent.name)
    if label >= N_FER2013:
        raise InputError(f"{file} lies in class {file.parent.name!r}, which FER2013 does not have")
    return label
