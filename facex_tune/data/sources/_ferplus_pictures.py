"""FER+ as its own tool writes it: pictures of 48 x 48 with their votes beside them, and without FER2013's labels.

`FER2013Train/`, `FER2013Valid/` and `FER2013Test/` (FER2013's Training, PublicTest, PrivateTest), each with a
`label.csv` that has no header: file, a box as text `"(0, 0, 48, 48)"`, and ten votes in the order of `_ANSWERS`
(microsoft/FERPlus `src/generate_training_data.py` and its README). A face's label is the majority's; one without a
majority has none, and is skipped. Four names of the set stand in two rows: alike in three, otherwise in one, which
counts in neither.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from facex_tune.data.faces import VOTE_ANSWERS, Skipped, majority_labels, told_of_majority
from facex_tune.data.importing import Loaded, Progress, Published
from facex_tune.data.sources._labelled import Finder, Marked, files, read, text_of
from facex_tune.data.tree import Tree, is_picture
from facex_tune.emotions import EMOTIONS, canonical
from facex_tune.errors import InputError

PUBLISHED = Published.of(
    EMOTIONS,
    {
        "train": (2099, 119, 532, 7287, 3013, 3149, 8739, 119),
        "public_test": (287, 24, 62, 865, 351, 415, 1182, 13),
        "private_test": (273, 18, 83, 893, 384, 396, 1089, 16),
    },
)
"""By `fer2013new.csv`: its named rows with a majority, each name once."""

_SPLITS = {"fer2013train": "train", "fer2013valid": "public_test", "fer2013test": "private_test"}
_ANSWERS = [
    *map(canonical, ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")),
    VOTE_ANSWERS.index("unknown"),
    VOTE_ANSWERS.index("not-a-face"),
]
_BOX = "(0, 0, 48, 48)"
_WITHOUT = "no emotion has a majority of its votes"


def lists(tree: Tree) -> list[str]:
    """The lists of the three folders with pictures beside them, which FERPlus' repository has none of."""
    places = [PurePosixPath(name) for name in files(tree, "/label.csv")]
    named = [place for place in places if place.parent.name.lower() in _SPLITS]
    return [str(place) for place in named if _has_pictures(tree, place.parent)]


def _has_pictures(tree: Tree, folder: PurePosixPath) -> bool:
    beside = (name for name in tree.names if PurePosixPath(name).parent == folder)
    return any(is_picture(tree, name) for name in beside)


def load(tree: Tree, progress: Progress) -> Loaded:
    """The faces that have a majority, with their votes.

    Raises:
        InputError: a row that is none of such a list, or none of its pictures is there.
    """
    found, skipped, n_without = [], [], 0
    for where in lists(tree):
        find = Finder(tree.names, where)
        split = _SPLITS[PurePosixPath(where).parent.name.lower()]
        for said, several in _votes(tree, where).items():
            file = find(f"{PurePosixPath(where).parent.name}/{said}")
            label = int(majority_labels(np.array(several[:1], np.int16))[0])
            if lost := _lost(file, several, label):
                skipped += [Skipped(file or f"{where}: {said}", None, lost)] * len(several)
                n_without += lost == _WITHOUT
            else:
                found.append(Marked(str(file), label, split, votes=several[0], key=f"{split}/{said}"))
    n_contempt = sum(each.label == EMOTIONS.index("contempt") for each in found)
    return read(tree, found, skipped, progress, notes=[told_of_majority(n_contempt, n_without)])


def _lost(file: str | None, several: Sequence[tuple[int, ...]], label: int) -> str:
    """Why a listed face does not count; "" where it does."""
    if file is None:
        return "it is not there"
    if len(set(several)) > 1:
        return "it is listed with different votes"
    return _WITHOUT if label < 0 else ""


def _votes(tree: Tree, where: str) -> dict[str, list[tuple[int, ...]]]:
    """The votes, in the order of `VOTE_ANSWERS`, of each row of each name."""
    found: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for number, row in enumerate(csv.reader(io.StringIO(text_of(tree, where), newline=""), skipinitialspace=True), 1):
        if not row:
            continue
        name, box, *said = (field.strip() for field in row)
        if box != _BOX or len(said) != len(_ANSWERS) or not all(n.isdecimal() and int(n) <= 100 for n in said):
            raise InputError(f'{where}: line {number:,} is not file, "{_BOX}" and ten numbers of votes')
        found[name].append(tuple(int(said[_ANSWERS.index(answer)]) for answer in range(len(VOTE_ANSWERS))))
    return found
