"""RAF-DB (Li et al., CVPR 2017), its basic set of seven emotions, 100 x 100 aligned faces.

* as released: `EmoLabel/list_patition_label.txt` (spelt so), lines `train_00001.jpg 5`, and
  `Image/aligned/train_00001_aligned.jpg`; a third column of some lists is not read. The name's prefix is the split.
* as on Kaggle: `DATASET/{train,test}/<1 to 7>/train_00001_aligned.jpg`, with `train_labels.csv` beside it.

The numbers are those of yaoing/DAN `rafdb.py` and radudeaconu/fer `scripts/prepare_rafdb.py`; the training faces of
each stand in public code that was seen by search alone, without the names of its repositories, and the test faces are
the totals (seen once) without them. The compound set has the same list's name, labels up to 11, and names such as
`test_792.jpg`: it is refused. Who is seen is not told.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from facex_tune.data import label_files
from facex_tune.data.faces import Skipped
from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress, Published
from facex_tune.data.known import meaning
from facex_tune.data.sources._labelled import Finder, Marked, beside, files, named, number, read, refuse, rows
from facex_tune.data.tree import Tree, open_tree
from facex_tune.errors import InputError

DESCRIPTION = "RAF-DB: 15,339 faces; SOURCE is the release (EmoLabel and Image/aligned), Kaggle's folders 1-7, or a zip"
NEEDS_SOURCE = True
OPTIONS = ("incomplete", "labels", "uncropped", "size", "colour")
NUMBERS = meaning("rafdb")
PUBLISHED = (
    Published.of(
        list(NUMBERS.values()),
        {"train": (1290, 281, 717, 4772, 1982, 705, 2524), "test": (329, 74, 160, 1185, 478, 162, 680)},
    ),
)
_LISTS = ("/list_patition_label.txt", "/list_partition_label.txt")
_LISTED = re.compile(r"(train)_\d{5}\.jpg|(test)_\d{4}\.jpg")
_FOLDERS = re.compile(r"(train|test)/([^/]+)/((?:train|test)_\d+_aligned\.\w+)", re.IGNORECASE)


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """The faces of the list, else of the numbered folders.

    Raises:
        InputError: neither form, the compound set, a number that is no emotion, or a table that says otherwise.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        lists = files(tree, *_LISTS)
        if lists:
            label_files.refuse_asked(asked, f"the release with its {PurePosixPath(lists[0]).name}")
        found, skipped = _listed(tree, lists[0]) if lists else (_in_folders(tree), [])
        if not found:
            refuse(tree, "rafdb", "RAF-DB", f"{_LISTS[0][1:]} and none of its aligned faces in train/1 to test/7")
        notes = [] if lists else beside(tree, found, asked, "rafdb")
        return read(tree, found, skipped, progress, face=asked.face, notes=notes)


def _listed(tree: Tree, where: str) -> tuple[list[Marked], list[Skipped]]:
    find = Finder(tree.names, where)
    found, skipped = [], []
    lines = rows(tree, where, 2)
    for at, (name, label, *_) in enumerate(lines):
        match = _LISTED.fullmatch(name)
        if match is None or (label.isdecimal() and len(NUMBERS) < int(label) <= 11):
            raise InputError(
                f"{where}: line {at + 1:,} is `{name} {label}`, as in RAF-DB's compound set, which has other classes: "
                "prepare the basic set"
            )
        emotion = number(label, NUMBERS, f"{where}, line {at + 1:,}")
        if file := find(f"{name.removesuffix('.jpg')}_aligned.jpg"):
            found.append(Marked(file, emotion, match[1] or match[2]))
        else:
            skipped.append(Skipped(where, at, f"{name} has no aligned face"))
    if not found:
        raise InputError(f"{where} names {len(lines):,} faces and none of them is there, such as Image/aligned/{name}")
    return found, skipped


def _in_folders(tree: Tree) -> list[Marked]:
    found = []
    for name, match in named(tree, _FOLDERS):
        split, folder, file = match[1].lower(), match[2], match[3]
        if not file.lower().startswith(split):
            raise InputError(f"{name} lies in {split} and is named as of the other: get the set as it was published")
        found.append(Marked(name, number(folder, NUMBERS, name), split, key=match[0]))
    return found
