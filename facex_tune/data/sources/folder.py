"""Any set of images in class folders, or its zip: `[split/]<class>/<image>`, also `<class>/<split>/<image>`.

Images may be of any size and mode: turned as their camera says, made grey by luminance (ITU-R 601) unless `--colour`
is asked for, cut centrally to a square and resized once, antialiased, to 48 pixels unless `--size` says otherwise.
Folders named as no split hold a test set, for that is what a study's `folder.<name>` protocol scores. What a folder
means is read off its name or asked for, never guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facex_tune.data import known, label_files, naming
from facex_tune.data.faces import SPLITS, Faces, Skipped, exact_groups
from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress, key, require_kept
from facex_tune.data.pictures import FORMATS, said_of
from facex_tune.data.sources._pixel_csv import first_line
from facex_tune.data.tree import (
    Tree,
    advice_on_binaries,
    head_of,
    is_litter,
    is_picture,
    open_tree,
    printable,
    read_images,
)
from facex_tune.emotions import EMOTIONS, canonical
from facex_tune.errors import InputError, nearest

DESCRIPTION = (
    "any images in class folders, of any size, in train/, val/ and test/ or all of them for tests; "
    "SOURCE is their folder or zip, and --as NAME names the set"
)
NEEDS_SOURCE = True
NAMED_BY_USER = True
OPTIONS = (
    "classes", "splits", "labels", "numbers", "subject", "sequence", "no_subject", "uncropped", "size", "colour"
)  # fmt: skip


class _Image(NamedTuple):
    """Sorts into the canonical order: split, then name."""

    split_rank: int
    name: str
    label: int

    @property
    def split(self) -> str:
        return SPLITS[self.split_rank]


@dataclass(frozen=True)
class _Place:
    """What the folders of an image's path say.

    Attributes:
        split: that of the innermost folder that names one.
        word: the class's folder, else the innermost that is no split; "" where there is none.
        label: the emotion of `word`; None where it is no emotion.
        above, below: (depth, folder) of those that say nothing, above and below the class.
    """

    split: str | None
    word: str
    label: int | None
    above: tuple[tuple[int, str], ...]
    below: tuple[str, ...]


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """Every image below a known class, ordered by split and name; grouped by subject, else by equal pixels.

    Raises:
        InputError: nothing there, no image, an empty class folder, folders that say nothing (all named, with what to
            do), options that do not fit the files, a label file that says otherwise than the folders, or a class or
            split of which no image can be read.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        images, others = _sorted_out(tree)
        _refuse_empty_classes(tree, images)
        habit = None if asked.subject or asked.sequence or asked.no_subject else naming.habit_of(images)
        found, skipped, notes = _find(tree, images, asked, habit)
        read = read_images(tree, [image.name for image in found], progress, face=asked.face)
    for words in ([EMOTIONS[image.label] for image in found], [image.split for image in found]):
        require_kept(words, read.kept, read.skipped, path)
    found = [found[position] for position in read.kept]
    exact_N = exact_groups(read.images_KHW)
    one_of_N, copies = _twice(found, exact_N)
    found = [found[at] for at in one_of_N]
    images_NHW = read.images_KHW[one_of_N] if copies else read.images_KHW
    group_N, sequence_N, told = _groups(path, found, exact_N[one_of_N], asked, habit)
    faces = Faces(
        images_NHW=images_NHW,
        labels_N=np.array([image.label for image in found], np.int64),
        split_N=np.array([image.split for image in found], dtype=np.str_),
        group_N=group_N,
        sequence_N=sequence_N,
        votes_NC=None,
        source_N=np.array([image.name for image in found], dtype=np.str_),
    )
    skipped += [*others, *read.skipped, *copies]
    if as_published := known.advice(known.by_names(images), "folder"):
        notes.append(as_published.removeprefix("; "))
    elif counted := known.by_counts(Counter(faces.labels_N.tolist()).values()):
        notes.append(f"by how many faces each class has, it is {counted.name}")
    return Loaded(faces, skipped, read.pictures.take(one_of_N), notes=(*told, *notes, *_crossing(faces)))


def _sorted_out(tree: Tree) -> tuple[list[str], list[Skipped]]:
    """The images, by their content; and what else lies in a class's folder, with what it is."""
    images, others = [], []
    for name in tree.names:
        if is_picture(tree, name):
            images.append(name)
        elif not is_litter(name) and any(map(_is_emotion, _folders(name))):
            others.append(Skipped(name, None, said_of(head_of(tree, name))))
    return images, others


def _find(
    tree: Tree, images: Sequence[str], asked: Asked, habit: naming.Habit | None
) -> tuple[list[_Image], list[Skipped], list[str]]:
    """The images with split and label, in order; those left out; and what the user should know."""
    times = Counter(images)
    if not times:
        there = ", ".join(tree.names[:3]) or "nothing"
        what_to_do = advice_on_binaries(tree) or _on_tables(tree) or "name the folder above the classes"
        raise InputError(f"{tree.path} has no image ({', '.join(FORMATS)}) but {there}: {what_to_do}")
    skipped = [Skipped(name, None, "a second member of that name") for name, n in times.items() for _ in range(n - 1)]
    _require_there(tree.path, times, asked)
    people = [pattern for pattern in (asked.subject, asked.sequence, habit and habit.pattern) if pattern]
    places = {name: _place(name, asked, people) for name in times if not _is_dropped(name, asked)}
    if not places:
        raise InputError(f"{tree.path}: every class is dropped; keep at least one")
    labels, unlabelled, notes = _labels(tree, places, asked)
    skipped += unlabelled
    _refuse_unknown_splits(tree.path, {name: places[name] for name in labels})
    has_splits = any(place.split for place in places.values())
    found = []
    for name, label in labels.items():
        split = places[name].split
        if has_splits and split is None:
            skipped.append(Skipped(name, None, "lies in no split, and others do"))
            continue
        found.append(_Image(SPLITS.index(split or "test"), name, label))
    return sorted(found), skipped, notes


def _on_tables(tree: Tree) -> str:
    """What reads the first table of a tree without pictures; "" where there is none."""
    for name in tree.names:
        columns = first_line(tree, name) if name.lower().endswith((".csv", ".tsv")) else []
        if {"emotion", "pixels"} <= set(columns):
            return f"{name} is a CSV of pixels: read it with `facex-tune data prepare fer2013 SOURCE`"
        if len(columns) > 1:
            how = "read it with `facex-tune data prepare table SOURCE --as NAME`"
            return f"{name} is a table: put the pictures that it names beside it and {how}"
    return ""


def _require_there(path: Path, images: Collection[str], asked: Asked) -> None:
    """InputError where a folder that the user named is not there."""
    asked_for = (*asked.classes.rename, *asked.classes.drop, *asked.splits)
    there = {key(folder): folder for name in images if asked_for for folder in _folders(name)}
    for word in (*asked.classes.rename, *asked.classes.drop):
        if word not in there:
            raise InputError(f"{path} has no class {word!r} to map or drop: {nearest(word, sorted(there.values()))}")
    for word in asked.splits:
        if word not in there:
            raise InputError(f"--split {word}: {path} has no such folder: {nearest(word, sorted(there.values()))}")


def _is_dropped(name: str, asked: Asked) -> bool:
    return any(key(folder) in asked.classes.drop for folder in _folders(name))


def _place(name: str, asked: Asked, people: Sequence[re.Pattern[str]]) -> _Place:
    folders = _folders(name)
    label_of = {at: label for at, folder in enumerate(folders) if (label := _label(folder, asked)) is not None}
    splits = {at: split for at, folder in enumerate(folders) if (split := _split(folder, asked)) is not None}
    if len(set(label_of.values())) > 1:
        both = " and ".join(folders[at] for at in label_of)
        raise InputError(f"{name} lies in folders of two emotions, {both}: leave one out with --drop NAME")
    silent = [at for at, folder in enumerate(folders) if at not in label_of and at not in splits]
    silent = [at for at in silent if not _is_of_a_person(name, folders, at, people)]
    if label_of:
        at = max(label_of)
    elif asked.labels_file or not silent:
        at = len(folders)
    else:
        at = silent[-1]
    return _Place(
        split=splits[max(splits)] if splits else None,
        word=folders[at] if at < len(folders) else "",
        label=label_of.get(at),
        above=tuple((each, folders[each]) for each in silent if each < at),
        below=tuple(folders[each] for each in silent if each > at),
    )


def _label(folder: str, asked: Asked) -> int | None:
    """The emotion of a class's folder: as it was mapped, by its number, or by its name."""
    if emotion := asked.classes.rename.get(key(folder)):
        return canonical(emotion)
    if asked.numbers and folder.strip().isdigit():
        return known.emotion(asked.numbers, int(folder))
    try:
        return naming.emotion_of(folder)
    except InputError as error:
        raise InputError(f"{error}, as in --map {folder}=EMOTION, or leave it out with --drop {folder}") from error


def _meant(word: str, asked: Asked) -> int | None:
    """The emotion of a folder or of a table's cell, as it was mapped, numbered or named; None where it has none."""
    if emotion := asked.classes.rename.get(key(word)):
        return canonical(emotion)
    return label_files.emotion_said(word, asked.numbers)


def _split(folder: str, asked: Asked) -> str | None:
    return asked.splits.get(key(folder)) or naming.split_of(folder)


def _is_of_a_person(name: str, folders: Sequence[str], at: int, people: Sequence[re.Pattern[str]]) -> bool:
    """Whether a folder is what a pattern of people or sequences matches, or part of it."""
    start = sum(len(folder) + 1 for folder in folders[:at])
    matches = [pattern.search(name) for pattern in people]
    return any(match.start() < start + len(folders[at]) and match.end() > start for match in matches if match)


def _labels(
    tree: Tree, places: Mapping[str, _Place], asked: Asked
) -> tuple[dict[str, int], list[Skipped], list[str]]:
    """Each image's emotion, from the label file that the user named or from its folder; and those without one."""
    if asked.labels_file:
        return *_of_the_file(tree, places, asked.labels_file, asked), []
    _refuse_unknown_classes(tree.path, places, asked)
    notes = []
    if asked.labels != "folders":
        tables = label_files.found(tree, list(places))
        words = {name: place.word for name, place in places.items()}
        notes = label_files.held_against(tables, words, tree.path, lambda word: _meant(word, asked))
    return {name: place.label for name, place in places.items() if place.label is not None}, [], notes


def _of_the_file(
    tree: Tree, places: Mapping[str, _Place], said: tuple[str, str], asked: Asked
) -> tuple[dict[str, int], list[Skipped]]:
    name, column = said
    table = label_files.read(tree, name, list(places))
    cells = label_files.column(table, column)
    if gone := [said for image, said in zip(table.image_R, table.said_R, strict=True) if image is None]:
        raise InputError(
            f"--labels {table.name}: {len(gone):,} of {len(cells):,} rows name no image, such as {', '.join(gone[:3])}"
        )
    if asked.numbers:
        known.require_numbers(asked.numbers, cells, list(map(printable, table.said_R)))
    strange = Counter(cell for cell in cells if _label(cell, asked) is None)
    if strange:
        listed = ", ".join(f"{word or '(empty)'} ({n:,} rows)" for word, n in strange.most_common(10))
        raise InputError(
            f"--labels {table.name}:{column}: labels that are no emotion: {listed}; give each one with "
            f"--map NAME=EMOTION{_numbers_told(list(strange))}"
        )
    labels = {str(image): int(_label(cell, asked) or 0) for image, cell in zip(table.image_R, cells, strict=True)}
    skipped = [Skipped(image, None, f"{table.name} does not name it") for image in places if image not in labels]
    return {image: label for image, label in labels.items() if image in places}, skipped


def _refuse_unknown_classes(path: Path, places: Mapping[str, _Place], asked: Asked) -> None:
    """InputError that names all folders that ought to be a class and are none."""
    if asked.numbers:
        numbered = {name: place.word for name, place in places.items() if place.label is None}
        known.require_numbers(asked.numbers, numbered.values(), list(numbered))
    unknown = Counter(place.word or _nowhere(name) for name, place in places.items() if place.label is None)
    below = Counter(folder for place in places.values() for folder in place.below[-1:] if place.label is not None)
    if below and not unknown:
        raise InputError(
            f"{path} has folders below its classes: {_some_of(below)}; where each holds a sequence or a person, say so "
            "with --sequence REGEX or --subject REGEX, which finds it in the path, such as --sequence "
            f"'/([^/]+)/[^/]+$'; else leave it out with --drop NAME{naming.looks_like(sorted(below))}"
        )
    unknown += below
    if not unknown:
        return
    words = sorted(unknown)
    raise InputError(
        f"{path} has classes that are no emotion: {_some_of(unknown, 20)}; map each with --map NAME=EMOTION or leave "
        f"it out with --drop NAME; emotions: {', '.join(EMOTIONS)}{naming.looks_like(words)}"
        f"{_numbers_told(words, asked)}"
        f"{known.advice(known.by_names(list(places)), 'folder')}"
    )


def _some_of(times: Mapping[str, int], n: int = 3) -> str:
    """The first n folders with how many images each has, and how many more there are."""
    listed = ", ".join(f"{word} ({times[word]:,} images)" for word in sorted(times)[:n])
    return listed + (f" and {len(times) - n:,} more" if len(times) > n else "")


def _nowhere(name: str) -> str:
    """What stands for the class of an image that lies in no folder but those of splits."""
    folder = PurePosixPath(name).parent.as_posix()
    return "(no folder)" if folder == "." else f"(no class below {folder})"


def _numbers_told(words: Sequence[str], asked: Asked = NOTHING) -> str:
    """The numberings that have all of these numbers; "" where the words are no numbers of classes."""
    digits = [word for word in words if word.strip().isdigit()]
    if asked.numbers or not digits or not all(map(naming.is_class_number, digits)):
        return ""
    numbers = {int(word) for word in digits}
    fitting = [name for name in known.NUMBERINGS if numbers <= set(known.meaning(name))] or list(known.NUMBERINGS)
    return "; say whose numbers with --numbers NAME: " + "; ".join(f"{name} ({known.told(name)})" for name in fitting)


def _refuse_unknown_splits(path: Path, places: Mapping[str, _Place]) -> None:
    """InputError that names the folders above the classes of images that are in no split, unless all lie in them."""
    wrappers = _shared(map(_folders, places))
    unsplit = [place for place in places.values() if place.split is None]
    above = Counter(folder for place in unsplit for depth, folder in place.above if depth >= wrappers)
    if not above:
        return
    raise InputError(
        f"{path} has folders above its classes that are no split: {_some_of(above, 10)}; say what each is with "
        f"--split NAME={'|'.join(naming.SPLIT_WORDS)} or leave it out with --drop NAME"
        f"{naming.looks_like(sorted(above))}{known.advice(known.by_names(list(places)), 'folder')}"
    )


def _folders(name: str) -> tuple[str, ...]:
    """The folders of an image's path; many times quicker than pathlib."""
    return tuple(name.split("/")[:-1])


def _shared(paths: Iterable[tuple[str, ...]]) -> int:
    """How many folders all paths begin with."""
    depths = zip(*paths, strict=False)
    return sum(1 for _ in takewhile(lambda folders: len(set(folders)) == 1, depths))


def _twice(found: Sequence[_Image], exact_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[Skipped]]:
    """The positions of the images, each file once; and the copies of one file that lie in a second tree.

    Args:
        exact_N: one number for each image, shared by those with equal pixels.
    """
    first: dict[tuple[int, int, str, int], str] = {}
    one_of, copies = [], []
    for at, (image, group) in enumerate(zip(found, exact_N.tolist(), strict=True)):
        same = first.setdefault((image.split_rank, image.label, image.name.rpartition("/")[2], group), image.name)
        if same == image.name:
            one_of.append(at)
        else:
            copies.append(Skipped(image.name, None, f"a second copy of {same}"))
    return np.array(one_of, np.int64), copies


def _groups(
    path: Path, found: Sequence[_Image], exact_N: NDArray[np.int64], asked: Asked, habit: naming.Habit | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """(group_N, sequence_N, notes): by the patterns that the user gave, else by a habit of names, else by pixels."""
    names = [image.name for image in found]
    if asked.subject or asked.sequence:
        subjects = _matched(path, names, asked.subject, "--subject") if asked.subject else None
        sequences = _matched(path, names, asked.sequence, "--sequence") if asked.sequence else None
        return *_numbered(subjects, sequences), []
    if habit is None:
        return _first_seen(exact_N.tolist()), np.full(len(found), -1, np.int64), []
    matches = [habit.pattern.search(name) for name in names]
    subjects = [match["subject"] if match else name for match, name in zip(matches, names, strict=True)]
    sequences = None
    if "sequence" in habit.pattern.groupindex:
        sequences = [match["sequence"] if match else name for match, name in zip(matches, names, strict=True)]
    like = f"as {habit.name} writes them, " if habit.name else ""
    note = (
        f"names tell {len(set(subjects)):,} people ({like}such as {subjects[0]}), whose faces stay together in "
        "and intervals; --subject REGEX tells them otherwise, --subject none leaves them apart"
    )
    return *_numbered(subjects, sequences), [note]


def _matched(path: Path, names: Sequence[str], pattern: re.Pattern[str], flag: str) -> list[str]:
    """What a pattern finds in each name: its first group, else all of it.

    Raises:
        InputError: it finds nothing in some.
    """
    matches = [pattern.search(name) for name in names]
    if lacking := [name for name, match in zip(names, matches, strict=True) if match is None]:
        raise InputError(
            f"{flag} {pattern.pattern!r} matches {len(names) - len(lacking):,} of {len(names):,} images of {path}, and "
            f"not {', '.join(lacking[:3])}: it is searched for in the path below that folder"
        )
    return [(match[1] if match.re.groups else match[0]) or "" for match in matches if match is not None]


def _numbered(
    subjects: Sequence[str] | None, sequences: Sequence[str] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(group_N, sequence_N): subjects, else sequences, in order of appearance; without sequences each face is one."""
    groups = subjects if subjects is not None else sequences
    assert groups is not None
    whole = range(len(groups)) if sequences is None else zip(groups, sequences, strict=True)
    return _first_seen(groups), _first_seen(list(whole))


def _first_seen(words: Sequence[object]) -> NDArray[np.int64]:
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(word, len(numbers)) for word in words], np.int64)


def _crossing(faces: Faces) -> list[str]:
    """A note where people stand in training and in another split."""
    if (faces.sequence_N < 0).any():
        return []
    train, others = (set(faces.group_N[mask].tolist()) for mask in (faces.split_N == "train", faces.split_N != "train"))
    if not train & others:
        return []
    return [f"{len(train & others):,} of {len(others):,} people of the other splits are also trained on"]


def _refuse_empty_classes(tree: Tree, images: Sequence[str]) -> None:
    """A folder with an emotion's name and no image in it is a download that broke off."""
    holding = {name.rpartition("/")[0] for name in images}
    filled = holding | {folder.as_posix() for place in holding for folder in PurePosixPath(place).parents}
    for folder in tree.folders:
        if folder not in filled and _is_emotion(PurePosixPath(folder).name):
            raise InputError(f"{tree.path / folder} is an empty class: download the set again, or delete the folder")


def _is_emotion(word: str) -> bool:
    try:
        return naming.emotion_of(word) is not None
    except InputError:  # one that may mean two
        return True
