"""ExpW (Zhang et al., IJCV 2018): 91,793 faces in photographs from the web, several in some.

`label/label.lst` has a line `image face_id top left right bottom confidence label` for each face; the photographs lie
under `image/origin/`. That order of the corners is the one in which the boxes of real rows come out square. The labels
count as FER2013's do, and the total of each class is published in that order. Faces of one photograph share a group.
The set has no splits of its own: all of it is split "test".
"""

from __future__ import annotations

from pathlib import Path

from facex_tune.data.boxes import Box
from facex_tune.data.faces import Skipped
from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress, Published
from facex_tune.data.known import meaning
from facex_tune.data.sources._labelled import Finder, Marked, files, number, read, refuse, rows
from facex_tune.data.tree import open_tree
from facex_tune.emotions import EMOTIONS, N_FER2013
from facex_tune.errors import InputError

DESCRIPTION = "ExpW: 91,793 faces in photographs; SOURCE has label/label.lst and image/origin"
NEEDS_SOURCE = True
OPTIONS = ("incomplete", "uncropped", "size", "colour")
PUBLISHED = (Published.of(EMOTIONS[:N_FER2013], {"test": (3671, 3995, 1088, 30537, 10559, 7060, 34883)}),)
_NUMBERS = meaning("fer2013")
_FIELDS = 8


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """Each listed face, cut out by its box.

    Raises:
        InputError: no list, a line without eight fields, a box or label that is none, or no photograph of the list.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        where = next(iter(files(tree, "/label.lst")), None)
        if where is None:
            refuse(tree, "expw", "ExpW", "label/label.lst with a line for each face")
        find = Finder(tree.names, where)
        found, skipped = [], []
        for at, fields in enumerate(rows(tree, where, _FIELDS)):
            image, (face, top, left, right, bottom, _, label) = " ".join(fields[:-7]), fields[-7:]
            emotion = number(label, _NUMBERS, f"{where}, line {at + 1:,}")
            if file := find(image):
                box = _box(left, top, right, bottom, f"{where}, line {at + 1:,}")
                found.append(Marked(file, emotion, box=box, part=face))
            else:
                skipped.append(Skipped(where, at, f"{image} is not there"))
        if not found:
            raise InputError(f"{where} names {len(skipped):,} faces, and no photograph of it is in image/origin")
        return read(tree, found, skipped, progress, face=asked.face)


def _box(left: str, top: str, right: str, bottom: str, where: str) -> Box:
    try:
        return Box(float(left), float(top), float(right), float(bottom))
    except ValueError:
        raise InputError(f"{where}: {left} {top} {right} {bottom} are no corners of a box") from None
