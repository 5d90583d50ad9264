"""FERG-DB (Aneja et al., ACCV 2016): 55,767 pictures of six drawn characters, 256 x 256.

`FERG_DB_256/<character>/<character>_<emotion>/<file>.png`, where joy is happy, as public code reads it (seen by search
alone, without the names of its repositories). The character is the subject. Counts by class are not published: the
total proves it. No people: what a model scores here says how far it carries over to drawings. Split "test".
"""

from __future__ import annotations

import re
from pathlib import Path

from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress, held_to_totals
from facex_tune.data.sources._labelled import Marked, beside, named, read, refuse
from facex_tune.data.tree import open_tree
from facex_tune.emotions import canonical

DESCRIPTION = "FERG-DB: 55,767 drawn faces of 6 characters, for testing; SOURCE has aia/aia_anger/ and the like"
NEEDS_SOURCE = True
OPTIONS = ("incomplete", "labels", "uncropped", "size", "colour")
_CHARACTERS = "aia|bonnie|jules|malcolm|mery|ray"
_IMAGE = re.compile(rf"({_CHARACTERS})/\1_([a-z]+)/[^/]+", re.IGNORECASE)


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """All faces, by character.

    Raises:
        InputError: no such folders, one of no emotion, or a table beside them that says otherwise.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        found = [
            Marked(name, canonical(match[2]), subject=match[1].lower(), key=match[0])
            for name, match in named(tree, _IMAGE)
        ]
        if not found:
            refuse(tree, "ferg", "FERG-DB", "folders <character>/<character>_<emotion>, such as aia/aia_anger")
        loaded = read(tree, found, [], progress, face=asked.face, notes=beside(tree, found, asked))
        return held_to_totals("ferg", loaded, {"pictures": len(loaded.faces)}, {"pictures": 55_767})
