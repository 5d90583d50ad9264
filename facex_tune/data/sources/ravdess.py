"""Frames of RAVDESS (Livingstone & Russo, PLOS ONE 2018): 24 actors who speak and sing with an emotion.

A clip is named by seven numbers, `01-01-06-01-02-01-12.mp4`: the third is the emotion, the last the actor. Frames keep
that name in their own (`01-01-06-01-02-01-12_frame3.jpg`) or in their folder's. Its neutral and calm clips are both
neutral here. Frames are whole video pictures, 1280 x 720: cut the faces out first, or insist with `--uncropped`. So the
set's naming page has it, and so do robertjkeck2/EmoNet `server/data/RAVDESS/README.md` and
anon3y/predict-emotion-from-voice- `README.md`. How many frames there are is whoever took them to say: nothing proves
it. Subjects are actors, sequences clips. Split "test".
"""

from __future__ import annotations

import re
from pathlib import Path

from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress, held_to_totals
from facex_tune.data.known import meaning
from facex_tune.data.sources._labelled import Marked, named, number, read, refuse
from facex_tune.data.tree import open_tree

DESCRIPTION = "RAVDESS: frames of 24 actors' clips, for testing; SOURCE has 01-01-06-01-02-01-12_frame3.jpg and so on"
NEEDS_SOURCE = True
OPTIONS = ("uncropped", "size", "colour")
_CLIP = r"\d\d-\d\d-(\d\d)-\d\d-\d\d-\d\d-(\d\d)"
_FRAME = re.compile(rf"({_CLIP})(?:[^\d/-][^/]*)?(?:/[^/]+)?\.\w+", re.IGNORECASE)


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """All frames, by actor and clip.

    Raises:
        InputError: no picture is named so, or an emotion's number that there is not.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        found = [
            Marked(name, number(match[2], meaning("ravdess"), name), subject=match[3], sequence=match[1], key=match[0])
            for name, match in named(tree, _FRAME)
        ]
        if not found:
            refuse(tree, "ravdess", "RAVDESS", "frame that is named like 01-01-06-01-02-01-12_frame3.jpg")
        loaded = read(tree, found, [], progress, face=asked.face)
        return held_to_totals("ravdess", loaded, {}, {})
