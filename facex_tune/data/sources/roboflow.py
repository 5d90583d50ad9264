"""Roboflow's export for several classes: `train/`, `valid/`, `test/`, each with its pictures and a `_classes.csv`.

`_classes.csv` has the column `filename` and one for each class (spaces around its name), 1 where the picture shows it.
A picture of none or of several is no face with one emotion, and is skipped. A lone table outside of these folders is a
test set. Class folders go with `folder`.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from facex_tune.data.faces import Skipped
from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress
from facex_tune.data.sources._labelled import Finder, Marked, files, read, refuse, table
from facex_tune.data.sources._tables import emotions, require_split, split_of
from facex_tune.data.tree import open_tree

DESCRIPTION = "Roboflow's exports with a _classes.csv in train/, valid/, test/; --as NAME names the set"
NEEDS_SOURCE = True
NAMED_BY_USER = True
OPTIONS = ("classes", "splits", "uncropped", "size", "colour")


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """Every picture of just one class.

    Raises:
        InputError: no such table, a folder of no split, or classes that are no emotion.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        lists = files(tree, "/_classes.csv")
        if not lists:
            refuse(tree, "roboflow", "an export of Roboflow", "_classes.csv")
        found: list[tuple[str, Marked]] = []
        skipped = []
        for where in lists:
            folder = PurePosixPath(where).parent.name
            alone = len(lists) == 1 and split_of(folder, asked) is None
            split = "test" if alone else require_split(folder, path, asked)
            find = Finder(tree.names, where)
            for row, fields in table(tree, where, ("filename",)):
                shown = [name for name, field in fields.items() if name != "filename" and field == "1"]
                file = find(f"{folder}/{fields['filename']}".lstrip("/"))
                if file is None or len(shown) != 1:
                    reason = f"{len(shown)} classes where one is wanted" if file else "its picture is not there"
                    skipped.append(Skipped(where, row, reason))
                    continue
                found.append((shown[0], Marked(file, 0, split, key=f"{split}/{fields['filename']}")))
        label_of = emotions(found, path, asked)
        kept = [each.labelled(label) for word, each in found if (label := label_of[word]) is not None]
        return read(tree, kept, skipped, progress, face=asked.face)
