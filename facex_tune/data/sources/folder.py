"""Any set of images in class folders, or its zip: `[split/]<class>/<image>`, also `<class>/<split>/<image>`.

Images may be of any size and mode: turned as their camera says, made grey by luminance (ITU-R 601), cut centrally to a
square and resized once, antialiased. Folders named as no split hold a test set, for that is what a study's
`folder.<name>` protocol scores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from facex_tune.data.emotions import EMOTIONS, canonical
from facex_tune.data.faces import SPLITS, Faces, Skipped, exact_groups
from facex_tune.data.importing import NOTHING, Asked, Classes, Loaded, Progress, key, require_kept
from facex_tune.data.pictures import FORMATS, said_of
from facex_tune.data.tree import Tree, head_of, is_litter, is_picture, open_tree, read_images
from facex_tune.errors import InputError, nearest

DESCRIPTION = (
    "any images in class folders, of any size, in train/, val/ and test/ or all of them for tests; "
    "SOURCE is their folder or zip, and --as NAME names the set"
)
NEEDS_SOURCE = True
NAMED_BY_USER = True
OPTIONS = ("classes", "uncropped")

_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "public_test", "publictest"), "public_test"),
    **dict.fromkeys(("private_test", "privatetest"), "private_test"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class _Image(NamedTuple):
    """Sorts into the canonical order: split, then name."""

    split_rank: int
    name: str
    label: int


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """Every image below a known class, ordered by split and name; grouped by equal pixels.

    Raises:
        InputError: nothing there, no image, an empty class folder, unknown classes (all named, with what to do), a
            renamed or dropped class that is not there, or a class or split of which no image can be read.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        images, others = _sorted_out(tree)
        _refuse_empty_classes(tree, images)
        found, skipped = _find(tree, images, asked.classes)
        read = read_images(tree, [image.name for image in found], progress)
    for words in ([EMOTIONS[image.label] for image in found], [SPLITS[image.split_rank] for image in found]):
        require_kept(words, read.kept, read.skipped, path)
    found = [found[position] for position in read.kept]
    faces = Faces(
        images_NHW=read.images_KHW,
        labels_N=np.array([image.label for image in found], np.int64),
        split_N=np.array([SPLITS[image.split_rank] for image in found], dtype=np.str_),
        group_N=exact_groups(read.images_KHW),
        sequence_N=np.full(len(found), -1, np.int64),
        votes_NC=None,
        source_N=np.array([image.name for image in found], dtype=np.str_),
    )
    return Loaded(faces, skipped + others + read.skipped, read.pictures)


def _sorted_out(tree: Tree) -> tuple[list[str], list[Skipped]]:
    """The images, by their content; and what else lies in a class's folder, with what it is."""
    images, others = [], []
    for name in tree.names:
        if is_picture(tree, name):
            images.append(name)
        elif not is_litter(name) and any(_is_emotion(folder) for folder in PurePosixPath(name).parts[:-1]):
            others.append(Skipped(name, None, said_of(head_of(tree, name))))
    return images, others


def _find(tree: Tree, images: Sequence[str], classes: Classes) -> tuple[list[_Image], list[Skipped]]:
    times = Counter(images)
    places = {name: _place(name) for name in times}
    if not places:
        raise InputError(f"{tree.path} has no image ({', '.join(FORMATS)}): name the folder above the classes")
    labels = _labels(tree.path, Counter(word for word, _ in places.values()), classes)
    has_splits = any(split for _, split in places.values())
    skipped = [Skipped(name, None, "a second member of that name") for name, n in times.items() for _ in range(n - 1)]
    found = []
    for name, (word, split) in places.items():
        if key(word) in classes.drop:
            continue
        if has_splits and split is None:
            skipped.append(Skipped(name, None, "lies in no split, and others do"))
            continue
        found.append(_Image(SPLITS.index(split or "test"), name, labels[word]))
    return sorted(found), skipped


def _place(name: str) -> tuple[str, str | None]:
    """The class folder's name ('' where the image lies in none) and the split of an image's path."""
    folders = PurePosixPath(name).parts[:-1]
    splits = [_SPLIT_NAMES[key(folder)] for folder in folders if key(folder) in _SPLIT_NAMES]
    words = [folder for folder in folders if key(folder) not in _SPLIT_NAMES]
    return (words[-1] if words else "", splits[-1] if splits else None)


def _labels(path: Path, images_of: Mapping[str, int], classes: Classes) -> dict[str, int]:
    """Class folder -> emotion, for all that are not dropped."""
    there = {key(word): word for word in images_of}
    for asked in (*classes.rename, *classes.drop):
        if asked not in there:
            raise InputError(f"{path} has no class {asked!r} to map or drop: {nearest(asked, sorted(there.values()))}")
    labels, unknown = {}, []
    for word in sorted(images_of):
        if key(word) in classes.drop:
            continue
        try:
            labels[word] = canonical(classes.rename.get(key(word), word))
        except InputError:
            unknown.append(word)
    if unknown:
        listed = ", ".join(f"{word or '(no folder)'} ({images_of[word]:,} images)" for word in unknown)
        drops = "".join(f" --drop {word}" for word in unknown[1:2])
        raise InputError(
            f"{path} has classes that are no emotion: {listed}; map or drop each, as in `--map "
            f"{unknown[0] or 'CLASS'}=neutral{drops}`; emotions: {', '.join(EMOTIONS)}"
        )
    if not labels:
        raise InputError(f"{path}: every class is dropped; keep at least one")
    return labels


def _refuse_empty_classes(tree: Tree, images: Sequence[str]) -> None:
    """A folder with an emotion's name and no image in it is a download that broke off."""
    filled = {folder.as_posix() for name in images for folder in PurePosixPath(name).parents}
    for folder in tree.folders:
        if folder not in filled and _is_emotion(PurePosixPath(folder).name):
            raise InputError(f"{tree.path / folder} is an empty class: download the set again, or delete the folder")


def _is_emotion(word: str) -> bool:
    try:
        canonical(word)
    except InputError:
        return False
    return True
