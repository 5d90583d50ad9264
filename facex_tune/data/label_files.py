"""Tables beside pictures that say their labels: found, held against the folders, or read instead of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

from facex_tune.data import known
from facex_tune.data.importing import Asked, key
from facex_tune.data.members import TooLarge
from facex_tune.data.naming import emotion_of
from facex_tune.data.tree import Tree, content, printable, told_as_damage
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError, nearest

SUFFIXES = (".csv", ".tsv", ".txt", ".lst")
MAX_BYTES = 2**26  # of a table
_NAMED = 0.5  # of a column's cells that must be names of pictures
_WORDS = 0.9  # of a column's cells that must be labels


@dataclass(frozen=True)
class Table:
    """A table with a column that names pictures.

    Attributes:
        image_R: each row's picture, a name of the tree, or None where there is none of that name.
        said_R: what the row calls it.
        columns: the other columns, by name.
    """

    name: str
    image_R: list[str | None]
    said_R: list[str]
    columns: dict[str, list[str]]


def found(tree: Tree, images: Sequence[str]) -> list[Table]:
    """The tables of a tree that name its pictures."""
    names = [name for name in tree.names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    tables = (_table(tree, name, images) for name in names if tree.size_bytes(name) <= MAX_BYTES)
    return [table for table in tables if table is not None]


def read(tree: Tree, name: str, images: Sequence[str]) -> Table:
    """One table by its name, or the end of it.

    Raises:
        InputError: there is no such file, or it names no picture.
    """
    if (below := _below(tree, name)) is not None:
        name = below
    hits = [each for each in tree.names if each == name or each.endswith(f"/{name}")]
    if not hits:
        raise InputError(f"--labels {name}: {tree.path} has no such file; {nearest(name, _tables_of(tree))}")
    if (table := _table(tree, hits[0], images)) is None:
        raise InputError(f"--labels {hits[0]}: no column of it names the pictures that lie there")
    return table


def _below(tree: Tree, name: str) -> str | None:
    """A file's place in the tree, where its path on this disk leads there."""
    try:
        return Path(name).resolve(strict=True).relative_to(tree.path.resolve()).as_posix()
    except (OSError, ValueError):
        return None


def _tables_of(tree: Tree) -> list[str]:
    return [name for name in tree.names if PurePosixPath(name).suffix.lower() in SUFFIXES] or ["none is there"]


def _table(tree: Tree, name: str, images: Sequence[str]) -> Table | None:
    try:
        with told_as_damage(name):
            text = content(tree, name, MAX_BYTES).decode("utf-8-sig", errors="replace")
    except TooLarge as error:
        raise InputError(f"{name} has more than {MAX_BYTES:,} bytes, too many for a table of labels") from error
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or "\0" in text:
        return None
    separator = max(",;\t ", key=lambda each: (each in lines[0] and each in lines[1], lines[1].count(each) > 0))
    try:
        rows = [
            [cell.strip() for cell in row] for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)
        ]
    except csv.Error:
        return None
    header, *body = [row for row in rows if len(row) == len(rows[0])]
    find = _finder(PurePosixPath(name).parent, images)
    for at in range(len(header)):
        hits = [find(row[at]) for row in body]
        if sum(hit is not None for hit in hits) >= max(1, _NAMED * len(body)):
            others = {each: [row[column] for row in body] for column, each in enumerate(header) if column != at}
            return Table(name, hits, [row[at] for row in body], others)
    return None


def _finder(folder: PurePosixPath, images: Sequence[str]) -> Callable[[str], str | None]:
    """What finds a picture by a path from the table or the top, or by its name alone, of several the nearest."""
    there = set(images)
    of_file: dict[str, list[str]] = {}
    for image in images:
        of_file.setdefault(PurePosixPath(image).name, []).append(image)

    def find(said: str) -> str | None:
        place = PurePosixPath(said.replace("\\", "/"))
        for candidate in ((folder / place).as_posix(), place.as_posix()):
            if candidate in there:
                return candidate
        same = of_file.get(place.name, [])
        ends = [image for image in same if image.endswith(f"/{place.as_posix()}")] or same
        far = [_far(PurePosixPath(image).parts, folder.parts) for image in ends]
        return ends[far.index(min(far))] if far and far.count(min(far)) == 1 else None

    return find


def _far(image: Sequence[str], folder: Sequence[str]) -> tuple[int, int]:
    """Sorts pictures by how near they lie to a table's folder: a set may lie in a tree twice, its tables too."""
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(image, folder, strict=False)))
    return -shared, len(image)


def column(table: Table, name: str) -> list[str]:
    """A column's cells.

    Raises:
        InputError: there is no such column.
    """
    columns = {key(each): cells for each, cells in table.columns.items()}
    if key(name) not in columns:
        raise InputError(
            f"--labels {table.name}:{name}: no such column; {nearest(name, list(map(printable, table.columns)))}"
        )
    return columns[key(name)]


def emotion_said(word: str, numbering: str = "") -> int | None:
    """The emotion that a cell or a folder says, by its name or by its number in a numbering; None: it says none."""
    if numbering and word.strip().isdecimal():
        return next((EMOTIONS.index(each) for at, each in known.meaning(numbering).items() if at == int(word)), None)
    try:
        return emotion_of(word) if word else None
    except InputError:
        return None


def beside(tree: Tree, label_of: Mapping[str, int], asked: Asked, numbering: str = "") -> list[str]:
    """Notes on the tables beside a published set's class folders, label_of each picture, that agree with them.

    Args:
        numbering: of `known.NUMBERINGS`, by which the tables' numbers are read.

    Raises:
        InputError: a table says otherwise and `--labels folders` was not given, or `--labels` names a table.
    """
    how = "facex-tune data prepare folder SOURCE --as NAME" + f" --numbers {numbering}" * bool(numbering)
    if asked.labels_file:
        raise InputError(
            f"--labels {asked.labels}: with a table's labels it is not the published set any more: prepare it under a "
            f"name of its own with `{how} --labels {asked.labels}`, or keep the folders' with --labels folders"
        )
    if asked.labels:
        return []
    words = {name: EMOTIONS[label] for name, label in label_of.items()}
    return held_against(
        found(tree, list(label_of)),
        words,
        tree.path,
        lambda word: emotion_said(word, numbering),
        lambda said: f"keep those of the folders with --labels folders, or take the table's with `{how} {said}`",
    )


def refuse_asked(asked: Asked, form: str) -> None:
    """InputError where `--labels` was given and a set's labels lie in no folders."""
    if asked.labels:
        raise InputError(f"--labels {asked.labels} goes with class folders, and SOURCE is {form}: leave it out")


def _either(said: str) -> str:
    return f"say which hold with {said} or --labels folders"


def held_against(
    tables: Sequence[Table],
    word_of: Mapping[str, str],
    path: Path,
    meant: Callable[[str], int | None] = emotion_said,
    what_to_do: Callable[[str], str] = _either,
) -> list[str]:
    """Notes on tables that agree with the folders, word_of each picture.

    Args:
        meant: the emotion of a cell or a folder's word; None where it is none.
        what_to_do: what a refusal ends with, by the option that takes the table's labels.

    Raises:
        InputError: one says otherwise, or cannot be held against them.
    """
    notes: list[str] = []
    words = set(word_of.values())
    for table in tables:
        labels = {name: cells for name, cells in table.columns.items() if _are_labels(cells, words, meant)}
        rows = [(at, image) for at, image in enumerate(table.image_R) if image in word_of]
        if not labels or not rows:
            continue
        differ = {
            name: [image for at, image in rows if not _same(cells[at], word_of[str(image)], meant)]
            for name, cells in labels.items()
        }
        best = min(differ, key=lambda name: len(differ[name]))
        if differ[best]:
            first = ", ".join(map(str, differ[best][:3]))
            raise InputError(
                f"{path}: {table.name} has other labels ({printable(best)}) than the folders for {len(differ[best]):,} "
                f"of {len(rows):,} images, such as {first}: {what_to_do(f'--labels {table.name}:{printable(best)}')}"
            )
        name = PurePosixPath(table.name).name
        notes.append(f"{name} ({printable(best)}) agrees with the folders for {len(rows):,} images")
    return notes


def _are_labels(cells: Sequence[str], words: set[str], meant: Callable[[str], int | None]) -> bool:
    """Whether a column's cells are the folders' names, or emotions, or small numbers."""
    keys = {key(word) for word in words}
    distinct = set(cells)
    known = {cell for cell in distinct if key(cell) in keys or meant(cell) is not None or cell.isdigit()}
    return len(distinct) <= 30 and sum(cell in known for cell in cells) >= _WORDS * len(cells)


def _same(cell: str, word: str, meant: Callable[[str], int | None]) -> bool:
    emotion = meant(word)
    return key(cell) == key(word) or (emotion is not None and meant(cell) == emotion)
