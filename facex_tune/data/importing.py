"""What importers share: what a user asked for, what comes back, what a set is proven by, and how files are chosen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.faces import Faces, Skipped, counts
from facex_tune.data.known import NUMBERINGS
from facex_tune.data.naming import SPLIT_WORDS
from facex_tune.data.near import blank
from facex_tune.data.pictures import looks_uncropped
from facex_tune.data.shapes import coloured
from facex_tune.emotions import EMOTIONS, GREY, GREY_48, RGB, FaceShape, canonical
from facex_tune.errors import InputError, nearest

MOST_UNCROPPED = 0.05  # of a set's pictures: more are no slips of a face detector, but scenes
_MANY_FLAT = 0.01  # of a set's faces; FER2013 has 13 of 35,887
Progress = Callable[[int, int], None]


def key(word: str) -> str:
    """A folder's name as it is compared with others: in lower case, without spaces around."""
    return word.strip().lower()


@dataclass(frozen=True)
class Classes:
    """What to do with folders that are no emotion's name: `rename` to one, or `drop`; names in any case."""

    rename: Mapping[str, str] = field(default_factory=dict)
    drop: Sequence[str] = ()

    @classmethod
    def parse(cls, renames: Iterable[str], drop: Iterable[str]) -> Classes:
        """From `CLASS=EMOTION` words.

        Raises:
            InputError: a word without `=`, an unknown emotion, or a class that is both renamed and dropped.
        """
        rename = {}
        for word in renames:
            name, equals, emotion = word.partition("=")
            if not (name.strip() and equals):
                raise InputError(f"--map {word!r}: write CLASS=EMOTION; emotions: {', '.join(EMOTIONS)}")
            rename[key(name)] = EMOTIONS[canonical(emotion)]
        dropped = tuple(key(name) for name in drop)
        if both := [name for name in dropped if name in rename]:
            raise InputError(f"class {both[0]!r} is both mapped and dropped: leave one of the two out")
        return cls(rename, dropped)


@dataclass(frozen=True)
class Asked:
    """What the user asked of an importer, beside the source.

    Attributes:
        incomplete: take a set that falls short of the published counts, and mark it so.
        uncropped: take whole photographs for faces.
        classes: `--map` and `--drop`.
        splits: `--split`, by folder (as `key` makes it) the split of `faces.SPLITS`.
        labels: `--labels`: FILE:COLUMN, or `folders`; "" where nothing was asked.
        numbers: `--numbers`, of `known.NUMBERINGS`.
        subject, sequence: `--subject` and `--sequence`; no_subject: `--subject none`.
        arrays: `--arrays`, with the keys images and labels.
        size, colour: `--size` and `--colour`; together `face`.
    """

    incomplete: bool = False
    uncropped: bool = False
    classes: Classes = field(default_factory=Classes)
    splits: Mapping[str, str] = field(default_factory=dict)
    labels: str = ""
    numbers: str = ""
    subject: re.Pattern[str] | None = None
    sequence: re.Pattern[str] | None = None
    no_subject: bool = False
    arrays: Mapping[str, str] = field(default_factory=dict)
    size: int = GREY_48.size
    colour: bool = False

    @classmethod
    def parse(
        cls,
        *,
        renames: Iterable[str] = (),
        drop: Iterable[str] = (),
        splits: Iterable[str] = (),
        labels: str = "",
        numbers: str = "",
        subject: str = "",
        sequence: str = "",
        arrays: Sequence[str] = (),
        incomplete: bool = False,
        uncropped: bool = False,
        size: int = GREY_48.size,
        colour: bool = False,
    ) -> Asked:
        """From the words of the command line.

        Raises:
            InputError: words that are no option's, each named with what it takes.
        """
        if numbers and numbers not in NUMBERINGS:
            raise InputError(f"--numbers {numbers!r}: no numbering of that name; {nearest(numbers, list(NUMBERINGS))}")
        if labels and labels != "folders" and not all(labels.rpartition(":")):
            raise InputError(f"--labels {labels!r}: write FILE:COLUMN, or folders")
        try:
            FaceShape(size)
        except InputError as error:
            raise InputError(f"--{error}") from error
        return cls(
            incomplete=incomplete,
            uncropped=uncropped,
            classes=Classes.parse(renames, drop),
            splits=dict(map(_folder_and_split, splits)),
            labels=labels,
            numbers=numbers,
            subject=None if subject == "none" else _pattern(subject, "--subject"),
            sequence=_pattern(sequence, "--sequence"),
            no_subject=subject == "none",
            arrays=_arrays(arrays),
            size=size,
            colour=colour,
        )

    @property
    def face(self) -> FaceShape:
        """The shape that faces are to be kept in."""
        return FaceShape(self.size, RGB if self.colour else GREY)

    @property
    def labels_file(self) -> tuple[str, str] | None:
        """(file, column) of `--labels`, where it names them."""
        file, _, column = self.labels.rpartition(":")
        return (file, column) if file else None

    def given(self) -> list[str]:
        """The fields that differ from their defaults."""
        return [each.name for each in fields(self) if getattr(self, each.name) != getattr(NOTHING, each.name)]

    def recorded(self) -> dict[str, Any]:
        """What a manifest says of it, as plain data."""
        said: dict[str, Any] = {name: True for name in ("incomplete", "uncropped", "colour") if getattr(self, name)}
        if "classes" in self.given():
            said |= {"map": dict(self.classes.rename), "drop": list(self.classes.drop)}
        if self.splits:
            said["split"] = dict(self.splits)
        said |= {name: word for name in ("labels", "numbers") if (word := getattr(self, name))}
        said |= {name: each.pattern for name in ("subject", "sequence") if (each := getattr(self, name))}
        said |= {"arrays": dict(self.arrays)} if self.arrays else {}
        said |= {"size": self.size} if self.size != GREY_48.size else {}
        return said | ({"subject": "none"} if self.no_subject else {})


def _folder_and_split(word: str) -> tuple[str, str]:
    name, equals, split = word.partition("=")
    if not (name.strip() and equals) or key(split) not in SPLIT_WORDS:
        raise InputError(f"--split {word!r}: write NAME={'|'.join(SPLIT_WORDS)}")
    return key(name), SPLIT_WORDS[key(split)]


def _arrays(words: Sequence[str]) -> dict[str, str]:
    pairs = dict(word.partition("=")[::2] for word in words)
    if words and not (set(pairs) == {"images", "labels"} and all(pairs.values())):
        raise InputError(f"--arrays {' '.join(words)}: write --arrays images=NAME labels=NAME")
    return pairs


def _pattern(text: str, flag: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise InputError(f"{flag} {text!r} is no regular expression: {error}") from error


NOTHING = Asked()
FLAGS = {
    "incomplete": ("--incomplete",), "uncropped": ("--uncropped",), "classes": ("--map", "--drop"),
    "splits": ("--split",), "labels": ("--labels",), "numbers": ("--numbers",), "subject": ("--subject",),
    "sequence": ("--sequence",), "no_subject": ("--subject",), "arrays": ("--arrays",),
    "size": ("--size",), "colour": ("--colour",),
}  # fmt: skip
"""The command line's options by the field that they fill."""


@dataclass(frozen=True)
class Pictures:
    """Sizes of the pictures that faces were read from, as they are seen, and which files hold more than one.

    width_N and height_N are in pixels, and go with the faces.
    """

    width_N: NDArray[np.int64]
    height_N: NDArray[np.int64]
    animated_N: NDArray[np.bool_]

    def uncropped(self) -> NDArray[np.bool_]:
        """uncropped_N: which look like whole photographs."""
        sizes = zip(self.width_N.tolist(), self.height_N.tolist(), strict=True)
        return np.array([looks_uncropped(width, height) for width, height in sizes], np.bool_)

    def enlarged(self, size: int) -> NDArray[np.bool_]:
        """enlarged_N: which were smaller than a face is kept."""
        return np.asarray(np.minimum(self.width_N, self.height_N) < size)

    def take(self, rows: NDArray[np.integer[Any]]) -> Pictures:
        """Those at an index array, in its order."""
        return Pictures(self.width_N[rows], self.height_N[rows], self.animated_N[rows])


@dataclass(frozen=True)
class Loaded:
    """What an importer read.

    Attributes:
        skipped: every file or row that could have been a face and is none, with the reason.
        pictures: the sizes of the files, where each face is one.
        unproven: why the set is not proven to be what its name says although its counts may fit; "" leaves it to the
            counts (`PUBLISHED`).
        notes: what the user should know, a sentence each.
        proven: whether its totals are the published ones, where no counts by class are (`held_to_totals`).
    """

    faces: Faces
    skipped: list[Skipped]
    pictures: Pictures | None = None
    unproven: str = ""
    notes: tuple[str, ...] = ()
    proven: bool = False


NOT_BY_CLASS = "its counts are not published by class"


def held_to_totals(name: str, loaded: Loaded, found: Mapping[str, int], published: Mapping[str, int]) -> Loaded:
    """A set of which totals alone are published, with what that proves.

    Args:
        found, published: how many faces there are and should be, by what they are counted by, in words.

    Raises:
        InputError: there are more than were published.
    """
    if more := [f"{what} {n:,}" for what, n in found.items() if n > published.get(what, 0)]:
        told = ", ".join(f"{what} {n:,}" for what, n in list(published.items())[:2])
        raise InputError(
            f"this is not {name}: {_some(more)}, where {told} were published; prepare it under a name of its own with "
            "`facex-tune data prepare folder SOURCE --as NAME`, as class folders"
        )
    short = [f"{what} {found.get(what, 0):,} of {n:,}" for what, n in published.items() if found.get(what, 0) < n]
    notes = (*loaded.notes, f"{NOT_BY_CLASS}: {'nothing' if not published else 'the totals alone'} proves it")
    unproven = f"too few of {_some(short)}" if short else ""
    return replace(loaded, notes=notes, unproven=unproven, proven=bool(published) and not short)


@dataclass(frozen=True)
class Published:
    """How many faces of each emotion each split of a published set has, which proves it."""

    by_split: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, emotions: Sequence[str], by_split: Mapping[str, Sequence[int]]) -> Published:
        """Counts in the order of `emotions`."""
        table = {split: dict(zip(emotions, numbers, strict=True)) for split, numbers in by_split.items()}
        return cls({split: {name: n for name, n in numbers.items() if n} for split, numbers in table.items()})

    @property
    def n(self) -> int:
        return sum(sum(numbers.values()) for numbers in self.by_split.values())

    def is_met(self, found: Mapping[str, Mapping[str, int]]) -> bool:
        return {split: dict(numbers) for split, numbers in found.items()} == self.by_split

    def distance(self, found: Mapping[str, Mapping[str, int]]) -> float:
        """How far the shares of the emotions are from the published ones: half the sum of differences, 0 to 1."""
        there, here = (_shares(each) for each in (self.by_split, found))
        return float(np.abs(there - here).sum() / 2)

    def resembles(self, found: Mapping[str, Mapping[str, int]], slack: float = 0.03) -> bool:
        """Whether the shares of the emotions are the published ones, up to chance in some thousand faces."""
        return self.distance(found) <= slack

    def missing(self, found: Mapping[str, Mapping[str, int]]) -> list[str]:
        """Of each split and emotion that falls short, how many there are and should be, in words."""
        there = {(split, name): n for split, numbers in found.items() for name, n in numbers.items()}
        return [
            f"{split} {name} {there.get((split, name), 0):,} of {n:,}"
            for split, numbers in self.by_split.items()
            for name, n in numbers.items()
            if there.get((split, name), 0) < n
        ]

    def exceeds(self, found: Mapping[str, Mapping[str, int]]) -> list[str]:
        """Of each split and emotion that has more than was published, both numbers, in words."""
        return [
            f"{split} {name} {n:,} where {self.by_split.get(split, {}).get(name, 0):,} were published"
            for split, numbers in found.items()
            for name, n in numbers.items()
            if n > self.by_split.get(split, {}).get(name, 0)
        ]


def _shares(counts_by_split: Mapping[str, Mapping[str, int]]) -> NDArray[np.float64]:
    """shares_C of the emotions over all splits."""
    n_C = np.array([sum(each.get(name, 0) for each in counts_by_split.values()) for name in EMOTIONS], np.float64)
    shares_C: NDArray[np.float64] = n_C / max(n_C.sum(), 1)
    return shares_C


def proof(name: str, loaded: Loaded, published: Sequence[Published], asked: Asked) -> tuple[bool | None, str]:
    """(whether the set is proven to be the published one, else what it falls short of); None: nothing is published.

    Raises:
        InputError: it is another set, or it falls short and `--incomplete` was not given.
    """
    found = counts(loaded.faces)
    if loaded.proven:
        return True, ""
    if not published and not loaded.unproven:
        return None, ""
    if not loaded.unproven:
        if any(each.is_met(found) for each in published):
            return True, ""
        nearest_one = min(published, key=lambda each: len(each.exceeds(found)))
        if more := nearest_one.exceeds(found):
            raise InputError(
                f"this is not {name}: {_some(more)}; prepare it under a name of its own with "
                "`facex-tune data prepare folder SOURCE --as NAME`, as class folders"
            )
    short = loaded.unproven or _shortfall(loaded, nearest_one, found)
    if not asked.incomplete:
        raise InputError(f"{name} is not proven: {short}; get it whole, or take it as it is with --incomplete")
    return False, short


def _shortfall(loaded: Loaded, published: Published, found: Mapping[str, Mapping[str, int]]) -> str:
    skipped = f" ({told_reasons(loaded.skipped)})" if loaded.skipped else ""
    return (
        f"{len(loaded.faces):,} of {published.n:,} published faces{skipped}, too few of "
        f"{_some(published.missing(found))}"
    )


def notes(loaded: Loaded) -> list[str]:
    """What the user should know of any set's pictures, a sentence each."""
    found = []
    n = len(loaded.faces)
    if loaded.pictures is not None and (several := int(loaded.pictures.animated_N.sum())):
        found.append(f"{several:,} of {n:,} files hold more than one picture: the first of each was read")
    flat = int(blank(loaded.faces.images_NHW).sum())
    if flat >= _MANY_FLAT * n:
        found.append(f"{flat:,} of {n:,} faces show next to nothing (their pixels' standard deviation is under 1)")
    face = loaded.faces.face
    if face.is_colour and (grey := n - int(coloured(loaded.faces.images_NHW).sum())):
        found.append(f"{grey:,} of {n:,} faces have no colours: their three channels are equal")
    return found


def sizes(loaded: Loaded, asked: Asked, path: Path | None) -> dict[str, Any] | None:
    """What a manifest says of the sizes of the pictures; None where there are no pictures, or all are of the size
    that is kept.

    Raises:
        InputError: too many look like whole photographs, and `--uncropped` was not given.
    """
    pictures = loaded.pictures
    size = loaded.faces.face.size
    if pictures is None or ((pictures.width_N == size) & (pictures.height_N == size)).all():
        return None
    uncropped_N, n = pictures.uncropped(), len(loaded.faces)
    width, height = (int(np.median(each)) for each in (pictures.width_N, pictures.height_N))
    if uncropped_N.sum() > MOST_UNCROPPED * n and not asked.uncropped:
        raise InputError(
            f"{path}: {int(uncropped_N.sum()):,} of {n:,} pictures look like whole photographs (median {width} x "
            f"{height} pixels), such as {', '.join(loaded.faces.source_N[uncropped_N][:3].tolist())}, and a face in "
            "them would be a few pixels: cut the faces out first, or take their middle with --uncropped"
        )
    return {
        "median_width": width,
        "median_height": height,
        "median_aspect": round(float(np.median(pictures.width_N / pictures.height_N)), 3),
        "enlarged": int(pictures.enlarged(size).sum()),
        "uncropped": loaded.faces.source_N[uncropped_N].tolist(),
    }


def _some(words: Sequence[str], n: int = 3) -> str:
    return ", ".join(words[:n]) + (f" and {len(words) - n:,} more" if len(words) > n else "")


def told_reasons(skipped: Sequence[Skipped], n: int = 3) -> str:
    """The reasons why faces were skipped, the most frequent first, each with how many and the first one's place."""
    first: dict[str, Skipped] = {}
    for each in skipped:
        first.setdefault(each.reason, each)
    times = Counter(each.reason for each in skipped)
    told = [f"{count:,} skipped: {reason}, the first {_place(first[reason])}" for reason, count in times.most_common(n)]
    return "; ".join(told) + ("; ..." if len(times) > n else "")


def _place(skipped: Skipped) -> str:
    return skipped.file if skipped.row is None else f"row {skipped.row:,} of {skipped.file}"


def require_kept(of_N: Iterable[str], kept: Iterable[int], skipped: Sequence[Skipped], where: object) -> None:
    """InputError that names a class or split whose every picture was skipped, and why.

    Args:
        of_N: the class or split of each picture that was found.
        kept: the positions of those that were read.
    """
    words = list(of_N)
    there = {words[position] for position in kept}
    if gone := sorted(set(words) - there):
        raise InputError(f"{where}: nothing of {', '.join(gone)} can be read ({told_reasons(skipped)}): mend it first")


