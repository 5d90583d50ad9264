"""Any set of images in class folders, or its zip: `[split/]<class>/<image>`, also `<class>/<split>/<image>`.

Images may be of any size and mode: turned as their camera says, made grey by luminance (ITU-R 601), cut centrally to a
square and resized once, antialiased. Folders named as no split hold a test set, for that is what a study's
`folder.<name>` protocol scores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from facex_tune.data.faces import SPLITS, Faces, Skipped, exact_groups
from facex_tune.data.tree import IMAGE_SUFFIXES, Tree, decode_any_size, is_image, open_tree, read_images
from facex_tune.emotions import EMOTIONS, canonical
from facex_tune.errors import InputError, nearest

DESCRIPTION = (
    "any images in class folders, of any size, in train/, val/ and test/ or all of them for tests; "
    "SOURCE is their folder or zip, and --as NAME names the set"
)
NEEDS_SOURCE = True
NAMED_BY_USER = True

_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "public_test", "publictest"), "public_test"),
    **dict.fromkeys(("private_test", "privatetest"), "private_test"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Classes:
    """What to do with class folders that are no emotion's name: `rename` to one, or `drop`; names in any case."""

    rename: Mapping[str, str] = field(default_factory=dict)
    drop: Sequence[str] = ()

    @classmethod
    def parse(cls, renames: Iterable[str], drop: Iterable[str]) -> Classes:
        """From `boredom=neutral` words.

        Raises:
            InputError: a word without `=`, an unknown emotion, or a class that is both renamed and dropped.
        """
        rename = {}
        for word in renames:
            name, equals, emotion = word.partition("=")
            if not (name.strip() and equals):
                raise InputError(f"--map {word!r}: write CLASS=EMOTION, such as boredom=neutral")
            rename[_key(name)] = EMOTIONS[canonical(emotion)]
        dropped = [_key(name) for name in drop]
        if both := [name for name in dropped if name in rename]:
            raise InputError(f"class {both[0]!r} is both mapped and dropped: leave one of the two out")
        return cls(rename, dropped)


class _Image(NamedTuple):
    """Sorts into the canonical order: split, then name."""

    split_rank: int
    name: str
    label: int


def load(
    path: Path | None, progress: Callable[[int, int], None], classes: Classes | None = None
) -> tuple[Faces, list[Skipped]]:
    """Every image below a known class, ordered by split and name; grouped by equal pixels.

    Raises:
        InputError: nothing there, no image, an empty class folder, unknown classes (all named, with what to do), or a
            renamed or dropped class that is not there.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        _refuse_empty_classes(tree)
        found, skipped = _find(tree, classes or Classes())
        images_NHW, kept, unreadable = read_images(tree, [image.name for image in found], progress, decode_any_size)
    found = [found[position] for position in kept]
    faces = Faces(
        images_NHW=images_NHW,
        labels_N=np.array([image.label for image in found], np.int64),
        split_N=np.array([SPLITS[image.split_rank] for image in found], dtype=np.str_),
        group_N=exact_groups(images_NHW),
        sequence_N=np.full(len(found), -1, np.int64),
        votes_NC=None,
        source_N=np.array([image.name for image in found], dtype=np.str_),
    )
    return faces, skipped + unreadable


def _find(tree: Tree, classes: Classes) -> tuple[list[_Image], list[Skipped]]:
    times = Counter(name for name in tree.names if is_image(name))
    places = {name: _place(name) for name in times}
    if not places:
        raise InputError(f"{tree.path} has no image ({', '.join(IMAGE_SUFFIXES)}): name the folder above the classes")
    labels = _labels(tree.path, Counter(word for word, _ in places.values()), classes)
    has_splits = any(split for _, split in places.values())
    skipped = [Skipped(name, None, "a second member of that name") for name, n in times.items() for _ in range(n - 1)]
    found = []
    for name, (word, split) in places.items():
        if _key(word) in classes.drop:
            continue
        if has_splits and split is None:
            skipped.append(Skipped(name, None, "lies in no split, and others do"))
            continue
        found.append(_Image(SPLITS.index(split or "test"), name, labels[word]))
    return sorted(found), skipped


def _place(name: str) -> tuple[str, str | None]:
    """The class folder's name ('' where the image lies in none) and the split of an image's path."""
    folders = PurePosixPath(name).parts[:-1]
    splits = [_SPLIT_NAMES[_key(folder)] for folder in folders if _key(folder) in _SPLIT_NAMES]
    words = [folder for folder in folders if _key(folder) not in _SPLIT_NAMES]
    return (words[-1] if words else "", splits[-1] if splits else None)


def _labels(path: Path, images_of: Mapping[str, int], classes: Classes) -> dict[str, int]:
    """Class folder -> emotion, for all that are not dropped."""
    there = {_key(word): word for word in images_of}
    for asked in (*classes.rename, *classes.drop):
        if asked not in there:
            raise InputError(f"{path} has no class {asked!r} to map or drop: {nearest(asked, sorted(there.values()))}")
    labels, unknown = {}, []
    for word in sorted(images_of):
        if _key(word) in classes.drop:
            continue
        try:
            labels[word] = canonical(classes.rename.get(_key(word), word))
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


def _refuse_empty_classes(tree: Tree) -> None:
    """A folder with an emotion's name and no image in it is a download that broke off."""
    filled = {folder.as_posix() for name in tree.names if is_image(name) for folder in PurePosixPath(name).parents}
    for folder in tree.folders:
        if folder not in filled and _is_emotion(PurePosixPath(folder).name):
            raise InputError(f"{tree.path / folder} is an empty class: download the set again, or delete the folder")


def _is_emotion(word: str) -> bool:
    try:
        canonical(word)
    except InputError:
        return False
    return True


def _key(word: str) -> str:
    return word.strip().lower()
