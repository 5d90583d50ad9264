"""SFEW 2.0 (Dhall et al., ICMI 2015): faces from films, 958 to train with, 436 to validate, aligned to 143 x 181.

`{Train,Val}_Aligned_Faces/<Angry ...>/<film>.png`, below `Train/` and `Val/` or beside each other (the archives are
called `Train_Aligned_Faces` and `Val_Aligned_Faces_new`). The labels of the test set were never published: its pictures
are left out, and the validation set is split "test", as publications have it. Classes and names of films are those of
Caterina1996/SFEW_dataset (`Train/Angry/`) and panxnan/SFEW_emotion_classification_pruning
(`code_v2/data/Images/Angry/`); the archives' names were seen by search alone. Counts by class are not published: the
totals prove it. Films are named in the files, people are not.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress, held_to_totals
from facex_tune.data.sources._labelled import Marked, beside, named, read, refuse
from facex_tune.data.tree import open_tree
from facex_tune.emotions import canonical

DESCRIPTION = "SFEW 2.0: 1,394 faces from films; SOURCE has Train_Aligned_Faces/ and Val_Aligned_Faces/"
NEEDS_SOURCE = True
OPTIONS = ("incomplete", "labels", "uncropped", "size", "colour")
_FOLDER = "(Train|Val)_Aligned_Faces(?:_new)?/"
_IMAGE = re.compile(rf"{_FOLDER}(?:{_FOLDER})?([A-Z]+)/[^/]+", re.IGNORECASE)
_UNLABELLED = re.compile(r"Test_Aligned_Faces\w*/[^/]+", re.IGNORECASE)
_SPLITS = {"train": "train", "val": "test"}


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """The faces of the two labelled splits.

    Raises:
        InputError: no such folders, one of no emotion, or a table beside them that says otherwise.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        found = []
        for name, match in named(tree, _IMAGE):
            key = "/".join((match[1], *name.split("/")[-2:]))
            found.append(Marked(name, canonical(match[3]), _SPLITS[match[1].lower()], key=key))
        if not found:
            refuse(tree, "sfew", "SFEW", "folders like Train_Aligned_Faces/Angry")
        n_test = sum(1 for _ in named(tree, _UNLABELLED))
        notes = [f"{n_test:,} pictures of the test set have no labels: left out"] if n_test else []
        notes += beside(tree, found, asked)
        loaded = read(tree, found, [], progress, face=asked.face, notes=notes)
        there = Counter(loaded.faces.split_N.tolist())
        return held_to_totals("sfew", loaded, there, {"train": 958, "test": 436})
