"""What importers of labelled pictures share: each finds its faces as `Marked`, and `read` does the rest.

Beside it the readers of what labels stand in: lists (`rows`), tables with column names (`table`), and pictures found by
their names (`named`) or by what a list calls them (`Finder`).
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import PurePosixPath
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from facex_tune.data import known, label_files
from facex_tune.data.boxes import Box
from facex_tune.data.faces import SPLITS, Faces, Skipped, exact_groups
from facex_tune.data.importing import Asked, Loaded, Progress, require_kept, told_reasons
from facex_tune.data.members import TooLarge
from facex_tune.data.near import blank
from facex_tune.data.tree import (
    Tree,
    advice_on_binaries,
    content,
    is_picture,
    printable,
    read_images,
    told_as_damage,
)
from facex_tune.emotions import EMOTIONS, GREY_48, FaceShape, canonical
from facex_tune.errors import InputError

BLANK = "it shows nothing"
_MAX_LIST_BYTES = 2**29  # AffectNet's training.csv takes some 300 MB, most of it landmarks


@dataclass(frozen=True)
class Marked:
    """A picture, or a box of one, and what a set says of the face in it.

    Attributes:
        name: its file in the tree.
        subject, sequence: who is seen, and in which of his or her sequences; "" where nobody knows.
        part: which face of a picture with several it is.
        votes: counts of annotators by `faces.VOTE_ANSWERS`, of all faces or of none.
        key: what two files of one face have in common, where a set may lie in a tree twice; by default the file.
    """

    name: str
    label: int
    split: str = "test"
    subject: str = ""
    sequence: str = ""
    box: Box | None = None
    part: str = ""
    votes: tuple[int, ...] = ()
    key: str = ""

    def labelled(self, label: int) -> Marked:
        """The same face with another label."""
        return replace(self, label=label)


def read(
    tree: Tree,
    found: Iterable[Marked],
    skipped: Sequence[Skipped],
    progress: Progress,
    *,
    face: FaceShape = GREY_48,
    notes: Sequence[str] = (),
    unproven: str = "",
    without_blank: bool = False,
) -> Loaded:
    """The faces in order of split, name and box, named from the folder on that they share.

    Args:
        face: the shape to keep them in.
        without_blank: faces that show next to nothing are skipped.

    Raises:
        InputError: not one picture can be read, or none of a class or split.
    """
    marked, doubtful = _once(found)
    if not marked:
        raise InputError(f"{tree.path}: not one face can be read ({told_reasons([*skipped, *doubtful])})")
    marked.sort(key=_order)
    boxes = [each.box for each in marked]
    pictures = read_images(tree, [each.name for each in marked], progress, boxes=boxes, face=face)
    lost = [*skipped, *doubtful, *pictures.skipped]
    kept = np.array(pictures.kept, np.int64)
    images_NHW, sizes = pictures.images_KHW, pictures.pictures
    if without_blank and (flat_K := blank(images_NHW)).any():
        lost += [Skipped(marked[at].name, None, BLANK) for at in kept[flat_K]]
        kept, images_NHW, sizes = kept[~flat_K], images_NHW[~flat_K], sizes.take(np.flatnonzero(~flat_K))
    for words in ([EMOTIONS[each.label] for each in marked], [each.split for each in marked]):
        require_kept(words, kept.tolist(), lost, tree.path)
    marked = [marked[at] for at in kept]
    group_N, sequence_N = _groups(marked, images_NHW)
    faces = Faces(
        images_NHW=images_NHW,
        labels_N=np.array([each.label for each in marked], np.int64),
        split_N=np.array([each.split for each in marked], dtype=np.str_),
        group_N=group_N,
        sequence_N=sequence_N,
        votes_NC=np.array([each.votes for each in marked], np.int16) if marked[0].votes else None,
        source_N=np.array(_sources(marked), dtype=np.str_),
    )
    return Loaded(faces, lost, sizes, unproven=unproven, notes=tuple(notes))


def _order(each: Marked) -> tuple[int, str, tuple[float, ...], str]:
    return SPLITS.index(each.split), each.name, each.box or (), each.part


def _once(found: Iterable[Marked]) -> tuple[list[Marked], list[Skipped]]:
    """Each face once; one that is said to be two emotions, or of two splits, counts in neither."""
    same: dict[tuple[str, Box | None], list[Marked]] = defaultdict(list)
    for each in sorted(found, key=lambda each: (each.name.count("/"), each.name)):
        same[(each.key or each.name).lower(), each.box].append(each)
    kept, doubtful = [], []
    for first, *others in same.values():
        said = {(each.label, each.split, each.votes) for each in (first, *others)}
        if len(said) > 1:
            words = " and ".join(sorted({f"{EMOTIONS[label]} of {split}" for label, split, _ in said}))
            doubtful += [Skipped(each.name, None, f"it is said to be {words}") for each in (first, *others)]
            continue
        kept.append(first)
        doubtful += [Skipped(each.name, None, f"a second copy of {first.name}") for each in others]
    return kept, doubtful


def _groups(marked: Sequence[Marked], images_NHW: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(group_N, sequence_N): by subject; where none is known by photograph, if one has several faces, else by pixels.

    Frames of one sequence that show two emotions are two sequences; a face of no sequence is its own.
    """
    if not any(each.subject for each in marked):
        several = len({each.name for each in marked}) < len(marked)
        group_N = _numbers([each.name for each in marked]) if several else exact_groups(images_NHW)
        return group_N, np.full(len(marked), -1, np.int64)
    whole = [(each.subject, each.sequence, each.label, "" if each.sequence else each.name) for each in marked]
    return _numbers([each.subject for each in marked]), _numbers(whole)


def _numbers(words: Sequence[object]) -> NDArray[np.int64]:
    """A number for each word, from 0 in their sorted order."""
    rank = {word: number for number, word in enumerate(sorted(set(words)))}  # type: ignore[type-var]  # of one type
    return np.array([rank[word] for word in words], np.int64)


def _sources(marked: Sequence[Marked]) -> list[str]:
    places = [PurePosixPath(each.name).parts for each in marked]
    shared = min(_shared(min(places), max(places)), min(map(len, places)) - 1)
    return [
        "/".join(place[shared:]) + (f" face {each.part}" if each.part else "")
        for place, each in zip(places, marked, strict=True)
    ]


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many folders two paths begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def named(tree: Tree, pattern: re.Pattern[str]) -> Iterator[tuple[str, re.Match[str]]]:
    """The pictures whose path, from the start of a folder's or file's name to its end, is of a pattern."""
    for name in tree.names:
        for start in (0, *(at + 1 for at, letter in enumerate(name) if letter == "/")):
            if (match := pattern.fullmatch(name, start)) and is_picture(tree, name):
                yield name, match
                break


def beside(tree: Tree, found: Iterable[Marked], asked: Asked, numbering: str = "") -> list[str]:
    """As `label_files.beside`, of faces that are marked by their folders."""
    return label_files.beside(tree, {each.name: each.label for each in found}, asked, numbering)


def files(tree: Tree, *endings: str) -> list[str]:
    """The files that are named so (in any case), those in the fewest folders first."""
    wanted = tuple(ending.lower() for ending in endings)
    found = [name for name in tree.names if f"/{name}".lower().endswith(wanted)]
    return sorted(found, key=lambda name: (name.count("/"), name))


def text_of(tree: Tree, name: str, limit_bytes: int = _MAX_LIST_BYTES) -> str:
    """A list's text, without a mark of its encoding.

    Raises:
        InputError: it is damaged, or too large for a list.
    """
    try:
        with told_as_damage(name):
            return content(tree, name, limit_bytes).decode("utf-8-sig", errors="replace")
    except TooLarge as error:
        raise InputError(f"{name} has more than {limit_bytes:,} bytes, too many for a list of labels") from error


def rows(tree: Tree, name: str, least: int) -> list[list[str]]:
    """The fields of each line of a list, which white space divides.

    Raises:
        InputError: a line has fewer fields than `least`.
    """
    found = [line.split() for line in text_of(tree, name).splitlines() if line.strip()]
    for number, fields in enumerate(found, 1):
        if len(fields) < least:
            raise InputError(f"{name}: line {number:,} has {len(fields)} fields where {least} are wanted")
    return found


def table(tree: Tree, name: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(row from 0, field by column) of a CSV; of short rows what is there.

    Raises:
        InputError: it has not these columns (in lower case), or is no CSV.
    """
    records = csv.reader(io.StringIO(text_of(tree, name), newline=""))
    try:
        header = [field.strip().lower() for field in next(records, [])]
        if missing := [column for column in columns if column not in header]:
            shown = printable(", ".join(header)[:80]) or "nothing"
            raise InputError(f"{name} has no column {', '.join(missing)}: found {shown}")
        for number, record in enumerate(filter(None, records)):
            yield number, {column: field.strip() for column, field in zip(header, record, strict=False)}
    except csv.Error as error:
        raise InputError(f"{name} is damaged ({error}): download it again") from error


class Finder:
    """Finds a file by the end of its path, as a list names it, of several the one that lies nearest to the list.

    None where there is none, or several are as near.
    """

    def __init__(self, names: Iterable[str], where: str) -> None:
        self._list = PurePosixPath(where).parts
        self._of_file: dict[str, list[str]] = defaultdict(list)
        for name in names:
            self._of_file[PurePosixPath(name).name].append(name)

    def __call__(self, said: str) -> str | None:
        end = PurePosixPath(said.replace("\\", "/")).as_posix().lstrip("/")
        same = self._of_file.get(PurePosixPath(end).name, [])
        found = [name for name in same if f"/{name}".endswith(f"/{end}")]
        if len(found) > 1:
            shared = [_shared(PurePosixPath(name).parts, self._list) for name in found]
            found = [name for name, n in zip(found, shared, strict=True) if n == max(shared)]
            found = [name for name in found if name.count("/") == min(each.count("/") for each in found)]
        return found[0] if len(found) == 1 else None


def validation_for_test(found: Sequence[Marked]) -> list[Marked]:
    """With the validation set as the test set where there is none, as publications take it of sets without one."""
    if any(each.split == "test" for each in found):
        return list(found)
    return [replace(each, split="test") if each.split == "public_test" else each for each in found]


def number(text: str, numbering: Mapping[int, str], where: str) -> int:
    """The index into EMOTIONS of a set's number.

    Raises:
        InputError: it is none of them; all are named.
    """
    if not re.fullmatch(r"-?\d{1,9}", text.strip()) or int(text) not in numbering:
        told = " ".join(f"{number} {emotion}" for number, emotion in numbering.items())
        raise InputError(f"{where}: label {printable(text[:20])!r} is none of {told}")
    return canonical(numbering[int(text)])


def refuse(tree: Tree, source: str, name: str, wanted: str) -> NoReturn:
    """InputError: a tree is not the set `name`, which has `wanted`; a set that is known by its files is named."""
    pictures = [each for each in tree.names if is_picture(tree, each)]
    if advice := advice_on_binaries(tree) if not pictures else "":
        raise InputError(f"{tree.path} is not {name}: {advice}")
    advice = known.advice(known.by_names(pictures), source)
    raise InputError(
        f"{tree.path} is not {name}: it has no {wanted}"
        f"{advice or '; class folders with names go with `facex-tune data prepare folder SOURCE --as NAME`'}"
    )
