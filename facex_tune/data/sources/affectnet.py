"""AffectNet (Mollahosseini et al., TAFFC 2019) in four forms; its numbers 0 to 7 are emotions, 8 to 10 are none.

* `{train,val}_set/images/N.jpg` with `annotations/N_exp.npy`: the release of faces with eight emotions.
* `training.csv`, `validation.csv` (columns subDirectory_filePath, face_x, face_y, face_width, face_height, expression)
  with whole photographs, out of which the box is cut. Labels 8 none, 9 uncertain and 10 no face are left out, counted.
  `automatically_annotated.csv` has the labels of a machine: it is left out.
* YOLO text: `{train,valid,test}/labels/X.txt` beside `images/X.png`, whose numbers the data file (`data.yaml`) names.
  The pictures are faces already, and read whole.
* class folders `{train,val,test}/<0 to 7>/`, or named (`Train/Anger/`); by number so in
  UTS-SSTC/Facial-Emotion-Recognition-HCI `data/affectNet/README.md`. A table beside them that says otherwise, as the
  `labels.csv` of a copy on Kaggle does, is told.

The numbers are those of hhj1897/AffectNet_Scripts `expression_classes.csv` and hcmlab/hcai-datasets; the training faces
of each stand in public code that was seen by search alone, without the names of its repositories; 500 of each are for
validation, of contempt 499 in the release of faces. There is no public test set: publications test on the validation
set, which is split "test" here unless there is a test split. Who is seen is not told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from facex_tune.data import known, label_files
from facex_tune.data.boxes import Box
from facex_tune.data.decoding import one_line
from facex_tune.data.faces import Skipped
from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress, Published, key, told_reasons
from facex_tune.data.known import meaning
from facex_tune.data.members import read_array
from facex_tune.data.naming import emotion_of
from facex_tune.data.sources._labelled import (
    Finder,
    Marked,
    beside,
    files,
    named,
    number,
    read,
    refuse,
    rows,
    table,
    text_of,
    validation_for_test,
)
from facex_tune.data.tree import Tree, open_tree, printable
from facex_tune.emotions import EMOTIONS, canonical
from facex_tune.errors import InputError

DESCRIPTION = "AffectNet: 8 emotions; SOURCE has npy annotations, CSVs with face boxes, YOLO text, or class folders"
NEEDS_SOURCE = True
OPTIONS = ("incomplete", "labels", "uncropped", "size", "colour")
NUMBERS = meaning("affectnet")
_NO_EMOTION = {8: "none", 9: "uncertain", 10: "no face"}
_NUMBER_OF = {emotion: number for number, emotion in NUMBERS.items()}
_TRAIN = (74_874, 134_415, 25_459, 14_090, 6_378, 3_803, 24_882, 3_750)
PUBLISHED = tuple(
    Published.of(list(NUMBERS.values()), {"train": _TRAIN, "test": (500,) * 7 + (n_contempt,)})
    for n_contempt in (499, 500)
)
_SPLITS = {"train": "train", "val": "public_test", "valid": "public_test", "test": "test"}
_COLUMNS = ("subdirectory_filepath", "face_x", "face_y", "face_width", "face_height", "expression")
_LISTS = {"/training.csv": "train", "/validation.csv": "public_test"}
_MAX_SCALAR_BYTES, _MAX_YAML_BYTES = 2**10, 2**16
_NPY = re.compile(r"(train|val)_set/images/([^/]+)\.\w+")
_YOLO = re.compile(r"(train|val|valid|test)/images/([^/]+)\.\w+", re.IGNORECASE)
_FOLDERS = re.compile(r"(train|val|valid|test)/([^/]+)/[^/]+", re.IGNORECASE)


class _Found(NamedTuple):
    """What one form holds; `unproven` as in `Loaded`."""

    faces: list[Marked]
    skipped: list[Skipped]
    without: Counter[int]
    unproven: str = ""
    notes: tuple[str, ...] = ()


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """The faces of the first form that is there, in the order of this module's first lines.

    Raises:
        InputError: none of them, a YOLO set without its data file, a number or folder that the set does not have, or a
            table beside the folders that says otherwise.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        found = _annotated(tree) or _boxed(tree) or _yolo(tree)
        if found:
            label_files.refuse_asked(asked, "AffectNet with npy annotations, CSVs or YOLO text")
        found = found or _in_folders(tree, asked)
        if found is None:
            wanted = "N_exp.npy, training.csv, YOLO labels with data.yaml or class folders in train/ and val/"
            refuse(tree, "affectnet", "AffectNet", wanted)
        faces = validation_for_test(found.faces)
        unproven = found.unproven
        if any(each.split == "public_test" for each in faces):
            unproven = unproven or "its three splits are their maker's, whose counts are not published"
        notes = [*_notes(found.without), *found.notes]
        return read(tree, faces, found.skipped, progress, face=asked.face, notes=notes, unproven=unproven)


def _notes(without: Counter[int]) -> list[str]:
    if not without:
        return []
    listed = ", ".join(f"{_NO_EMOTION[label]} {n:,}" for label, n in sorted(without.items()))
    return [f"{without.total():,} faces without an emotion are left out: {listed}"]


def _sorted_out(said: Iterable[tuple[str, Marked]], without: Counter[int], where: str) -> Iterator[Marked]:
    """The faces with the emotion of their number's words; those without one are counted."""
    for label, each in said:
        if label in map(str, _NO_EMOTION):
            without[int(label)] += 1
        else:
            yield replace(each, label=number(label, NUMBERS, where))


def _annotated(tree: Tree) -> _Found | None:
    said, skipped = [], []
    there = set(tree.names)
    for name, match in named(tree, _NPY):
        label = f"{name[: match.start()]}{match[1]}_set/annotations/{match[2]}_exp.npy"
        if label not in there:
            skipped.append(Skipped(name, None, f"it has no {match[2]}_exp.npy"))
            continue
        try:
            said.append((_scalar(tree, label), Marked(name, 0, _SPLITS[match[1].lower()], key=match[0])))
        except ValueError as error:
            skipped.append(Skipped(name, None, f"{label}: {one_line(error)}"))
    without: Counter[int] = Counter()
    return _Found(list(_sorted_out(said, without, "annotations")), skipped, without) if said else None


def _scalar(tree: Tree, name: str) -> str:
    """A number that stands alone in an array of text or numbers.

    Raises:
        ValueError: it is something else; nothing is unpickled.
    """
    with tree.open(name) as file:
        array = read_array(file, _MAX_SCALAR_BYTES)
    if array.size != 1:
        raise ValueError(f"{array.size} numbers where one is wanted")
    text = str(array.reshape(())[()])
    return text.removesuffix(".0")


def _boxed(tree: Tree) -> _Found | None:
    without: Counter[int] = Counter()
    found: list[Marked] = []
    skipped: list[Skipped] = []
    lists = [name for ending in _LISTS for name in files(tree, ending)[:1]]  # a set may lie in a tree twice
    for where in lists:
        find = Finder(tree.names, where)
        said = []
        for row, fields in table(tree, where, _COLUMNS):
            try:
                file, label, box = find(fields["subdirectory_filepath"]), fields["expression"], _box(fields)
            except (KeyError, ValueError) as error:
                skipped.append(Skipped(where, row, f"no face box ({one_line(error)})"))
                continue
            if file is None:
                skipped.append(Skipped(where, row, f"{printable(fields['subdirectory_filepath'])} is not there"))
                continue
            said.append((label, Marked(file, 0, _LISTS[f"/{PurePosixPath(where).name.lower()}"], box=box)))
        found += _sorted_out(said, without, where)
    if skipped and not found:
        raise InputError(f"{tree.path}: no row of its lists can be read ({told_reasons(skipped)})")
    return _Found(found, skipped, without) if found else None


def _box(fields: dict[str, str]) -> Box:
    left, top, width, height = (float(fields[f"face_{name}"]) for name in ("x", "y", "width", "height"))
    if not (width > 0 and height > 0):
        raise ValueError(f"{width:g} x {height:g} pixels")
    return Box(left, top, left + width, top + height)


def _yolo(tree: Tree) -> _Found | None:
    pictures = list(named(tree, _YOLO))
    there = set(tree.names)
    labels = {name: f"{name[: match.start(2)][: -len('images/')]}labels/{match[2]}.txt" for name, match in pictures}
    if not any(label in there for label in labels.values()):
        return None
    numbering = _yolo_names(tree)
    found, skipped = [], []
    for name, match in pictures:
        lines = rows(tree, labels[name], 5) if labels[name] in there else []
        if len(lines) != 1:
            skipped.append(Skipped(name, None, f"{len(lines)} labels where one is wanted"))
            continue
        label = number(lines[0][0], numbering, labels[name])
        found.append(Marked(name, label, _SPLITS[match[1].lower()], key=match[0]))
    return _Found(found, skipped, Counter(), "of the sets with YOLO text no counts by class are published")


def _yolo_names(tree: Tree) -> dict[int, str]:
    """Number -> class, of the data file."""
    import yaml

    where = next(iter(files(tree, "/data.yaml", "/data.yml")), None)
    if where is None:
        raise InputError(f"{tree.path} has YOLO labels and no data.yaml, which says what its numbers mean")
    try:
        document: Any = yaml.safe_load(text_of(tree, where, _MAX_YAML_BYTES))
        names = document["names"]
        numbered = dict(enumerate(names)) if isinstance(names, list) else dict(names)
        return {int(at): EMOTIONS[canonical(_word(name))] for at, name in numbered.items()}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where} does not name its classes ({one_line(error)}): get the set's own") from error


def _word(name: Any) -> str:
    """A class's name; anything else could be a list of lists whose text has no end.

    Raises:
        ValueError: it is no word.
    """
    if not isinstance(name, str):
        raise ValueError(f"a {type(name).__name__} where a class's name is wanted")
    return name


def _in_folders(tree: Tree, asked: Asked) -> _Found | None:
    without: Counter[int] = Counter()
    said, strange = [], Counter[str]()
    for name, match in named(tree, _FOLDERS):
        if label := _number_said(match[2]):
            said.append((label, Marked(name, 0, _SPLITS[match[1].lower()], key=match[0])))
        else:
            strange[match[2]] += 1
    if strange and said:
        listed = ", ".join(f"{printable(folder)} ({n:,} images)" for folder, n in strange.most_common(3))
        raise InputError(f"{tree.path} has folders beside AffectNet's classes that are none: {listed}; move them away")
    if named_so := known.advice(known.by_names([each.name for _, each in said]), "affectnet"):
        raise InputError(f"{tree.path} is not AffectNet, by the names of its files{named_so}")
    for split in set(_SPLITS.values()):
        other = known.by_counts(Counter(label for label, each in said if each.split == split).values())
        if advice := known.advice(other, "affectnet"):
            raise InputError(f"{tree.path} is not AffectNet, by how many faces its folders of {split} have{advice}")
    if not said:
        return None
    faces = list(_sorted_out(said, without, str(tree.path)))
    return _Found(faces, [], without, notes=tuple(beside(tree, faces, asked, "affectnet")))


def _number_said(folder: str) -> str:
    """A class's number, by which its folder is called or by its name; "" where it is no class.

    Raises:
        InputError: the name may mean two emotions.
    """
    word = key(folder).replace("-", " ").replace("_", " ")
    if word.isdecimal():
        return word
    if word in _NO_EMOTION.values():
        return next(str(number) for number, name in _NO_EMOTION.items() if name == word)
    emotion = emotion_of(folder)
    return "" if emotion is None else str(_NUMBER_OF[EMOTIONS[emotion]])
