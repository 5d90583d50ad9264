"""A CSV or TSV that names pictures and says their labels, such as `image,emotion`, with the pictures beside it.

SOURCE is the table, or a folder or zip with one (or with one for each split, such as `train.csv` and `test.csv`). The
column of pictures is the one whose cells name files that are there; that of labels is called emotion, label, expression
or class, unless `--labels FILE:COLUMN` says otherwise; a column split, usage or set says the split. Separators may be
mixed: each line is cut at commas, tabs or semicolons, whichever give as many fields as the header has (`legend.csv` of
muxspace/facial_expressions has commas and tabs). Labels are read in any case and by any of their names.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from facex_tune.data.faces import Skipped
from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress, key
from facex_tune.data.sources._labelled import Finder, Marked, read, text_of
from facex_tune.data.sources._tables import emotions, label_column, require_split, split_of
from facex_tune.data.tree import Tree, is_picture, open_tree, printable, require_readable
from facex_tune.errors import InputError, nearest

DESCRIPTION = "a CSV or TSV that names pictures and their emotions, such as image,emotion; --as NAME names the set"
NEEDS_SOURCE = True
NAMED_BY_USER = True
OPTIONS = ("classes", "splits", "numbers", "labels", "uncropped", "size", "colour")
_SUFFIXES = (".csv", ".tsv", ".txt", ".lst")
_SPLIT_COLUMNS = ("split", "usage", "set", "subset", "phase")
_SEPARATORS = ",\t;"
_NAMED = 0.5  # of a column's cells that name a picture


@dataclass(frozen=True)
class _Table:
    """Rows as fields by column, the column of pictures, and lines that are no rows."""

    name: str
    header: list[str]
    rows: list[tuple[int, list[str]]]
    images: int
    broken: list[Skipped]


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """Every row whose picture is there and whose label is an emotion.

    Raises:
        InputError: no such table, several of no split, no column of labels, or labels that are no emotion.
    """
    assert path is not None, "prepare asks for the source"
    require_readable(path)
    alone = path.is_file() and path.suffix.lower() in _SUFFIXES
    with open_tree(path.parent if alone else path) as tree:
        pictures = [name for name in tree.names if is_picture(tree, name)]
        tables = _asked_for(_tables(tree, pictures, path.name if alone else ""), asked, path)
        found: list[tuple[str, Marked]] = []
        skipped = []
        for each in tables:
            said, lost = _faces(each, pictures, path, asked, alone=len(tables) == 1)
            found += said
            skipped += lost
        label_of = emotions(found, path, asked)
        kept = [each.labelled(label) for word, each in found if (label := label_of[word]) is not None]
        return read(tree, kept, skipped, progress, face=asked.face)


def _tables(tree: Tree, pictures: Sequence[str], alone: str) -> list[_Table]:
    """The tables that name pictures of the tree."""
    names = [alone] if alone else [name for name in tree.names if PurePosixPath(name).suffix.lower() in _SUFFIXES]
    return [table for name in names if (table := _table(tree, name, pictures)) is not None]


def _table(tree: Tree, name: str, pictures: Sequence[str]) -> _Table | None:
    numbered = [(number, line) for number, line in enumerate(text_of(tree, name).splitlines()) if line.strip()]
    if len(numbered) < 2:
        return None
    header = max((_cells(numbered[0][1], separator) for separator in _SEPARATORS), key=len)
    rows, broken = [], []
    for number, line in numbered[1:]:
        if (cells := _fitting(line, len(header))) is None:
            broken.append(Skipped(name, number - 1, f"it has not {len(header)} fields"))
        else:
            rows.append((number - 1, cells))
    find = Finder(pictures, name)
    for at in range(len(header)):
        hits = sum(find(cells[at]) is not None for _, cells in rows)
        if len(header) > 1 and hits >= max(1, _NAMED * len(rows)):
            return _Table(name, header, rows, at, broken)
    return None


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]


def _fitting(line: str, n: int) -> list[str] | None:
    """The line's n fields; None where neither one separator nor all of them together give as many."""
    cuts = [_cells(line, separator) for separator in _SEPARATORS]
    cuts.append(_cells(line.translate(dict.fromkeys(map(ord, _SEPARATORS), ",")), ","))
    return next((cells for cells in cuts if len(cells) == n), None)


def _asked_for(tables: list[_Table], asked: Asked, path: Path) -> list[_Table]:
    """The table that `--labels` names, else all, which must be of different splits.

    Raises:
        InputError: none names pictures, or several do and their names say no split.
    """
    if not tables:
        raise InputError(
            f"{path} has no table with a column that names pictures beside it: wanted are a header such as "
            "image,emotion and the pictures' names as they lie there"
        )
    if asked.labels_file:
        wanted = asked.labels_file[0]
        hits = [table for table in tables if f"/{table.name}".endswith(f"/{PurePosixPath(wanted).name}")]
        if not hits:
            raise InputError(f"--labels {wanted}: no such table; {nearest(wanted, [table.name for table in tables])}")
        return hits[:1]
    silent = [table.name for table in tables if split_of(PurePosixPath(table.name).stem, asked) is None]
    if len(tables) > 1 and silent:
        listed = ", ".join(printable(name) for name in silent)
        raise InputError(
            f"{path} has {len(tables)} tables that name pictures, and {listed} of no split: name one of them as SOURCE"
        )
    return tables


def _faces(
    table: _Table, pictures: Sequence[str], path: Path, asked: Asked, *, alone: bool
) -> tuple[list[tuple[str, Marked]], list[Skipped]]:
    columns = [key(column) for column in table.header]
    others = [column for at, column in enumerate(table.header) if at != table.images]
    label = columns.index(key(_label_column(table, others, path, asked)))
    split = next((columns.index(word) for word in _SPLIT_COLUMNS if word in columns), None)
    stem = PurePosixPath(table.name).stem
    whole = (split_of(stem, asked) or "test") if alone else require_split(stem, path, asked)
    find = Finder(pictures, table.name)
    found, skipped = [], list(table.broken)
    for row, cells in table.rows:
        if (file := find(cells[table.images])) is None:
            skipped.append(Skipped(table.name, row, f"{printable(cells[table.images][:80])} is not there"))
            continue
        of = whole if split is None else require_split(cells[split], path, asked)
        found.append((cells[label], Marked(file, 0, of)))
    return found, skipped


def _label_column(table: _Table, others: Sequence[str], path: Path, asked: Asked) -> str:
    if asked.labels_file is None:
        return label_column(others, path)
    column = asked.labels_file[1]
    if key(column) not in map(key, others):
        raise InputError(f"--labels {table.name}:{printable(column)}: no such column; {nearest(column, list(others))}")
    return column
