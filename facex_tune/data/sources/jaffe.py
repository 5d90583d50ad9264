"""JAFFE (Lyons et al., FG 1998): 213 posed faces of ten Japanese women, 256 x 256, named `YM.NE1.49.tiff`.

The first two letters are the subject, the next two the emotion (NE HA SA SU AN DI FE): so public code reads it, which
was seen by search alone, without the names of its repositories. The counts by class stand in one of these, and add up
to the published total. Split "test".
"""

from __future__ import annotations

import re
from pathlib import Path

from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress, Published
from facex_tune.data.sources._labelled import Marked, named, read, refuse
from facex_tune.data.tree import open_tree
from facex_tune.emotions import EMOTIONS, N_FER2013, canonical

DESCRIPTION = "JAFFE: 213 posed faces of 10 women, for testing; SOURCE has YM.NE1.49.tiff and the like"
NEEDS_SOURCE = True
OPTIONS = ("incomplete", "uncropped", "size", "colour")
PUBLISHED = (Published.of(EMOTIONS[:N_FER2013], {"test": (30, 29, 32, 31, 31, 30, 30)}),)
CODES = {
    "AN": "angry", "DI": "disgust", "FE": "fear", "HA": "happy", "NE": "neutral", "SA": "sad", "SU": "surprise",
}  # fmt: skip
_IMAGE = re.compile(rf"([A-Z]{{2}})\.({'|'.join(CODES)})\d*\.\d+\.\w+", re.IGNORECASE)


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """All faces, by subject.

    Raises:
        InputError: no picture is named so.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        found = [
            Marked(name, canonical(CODES[match[2].upper()]), subject=match[1].upper(), key=match[0])
            for name, match in named(tree, _IMAGE)
        ]
        if not found:
            refuse(tree, "jaffe", "JAFFE", "picture that is named like YM.NE1.49.tiff")
        return read(tree, found, [], progress, face=asked.face)
