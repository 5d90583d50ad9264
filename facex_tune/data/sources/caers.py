"""CAER-S (Lee et al., ICCV 2019): some 70,000 frames of television series, `{train,test}/<Anger ...>/0001.png`.

Class folders of whole frames, in which faces are small: the set publishes no boxes. Cut the faces out first (the
folders stay), or insist on the middle of each frame with `--uncropped`. The folders are those of
larrylu0426/CAERS-Annotation (seen once), which has boxes of its own, for 47,966 frames to train with and 20,868 to test
on, and calls one of them Angry. No counts are published that would prove it. Who is seen is not told.
"""

from __future__ import annotations

import re
from pathlib import Path

from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress, held_to_totals
from facex_tune.data.sources._labelled import Marked, beside, named, read, refuse
from facex_tune.data.tree import open_tree
from facex_tune.emotions import canonical

DESCRIPTION = "CAER-S: frames of television series; SOURCE has train/ and test/ with Anger ... Surprise, faces cut out"
NEEDS_SOURCE = True
OPTIONS = ("labels", "uncropped", "size", "colour")
_CLASSES = "Anger|Angry|Disgust|Fear|Happy|Neutral|Sad|Surprise"
_IMAGE = re.compile(rf"(train|test)/({_CLASSES})/\d{{4,5}}\.\w+", re.IGNORECASE)


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """All frames of both splits.

    Raises:
        InputError: no such folders, files that are not named as CAER-S' are, or a table that says otherwise.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        found = [
            Marked(name, canonical(match[2]), match[1].lower(), key=match[0]) for name, match in named(tree, _IMAGE)
        ]
        if not found:
            refuse(tree, "caers", "CAER-S", "frames like train/Anger/0001.png")
        loaded = read(tree, found, [], progress, face=asked.face, notes=beside(tree, found, asked))
        return held_to_totals("caers", loaded, {}, {})
