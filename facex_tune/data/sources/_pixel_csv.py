"""Read faces from a CSV as FER2013 was published in: `emotion` a number, `pixels` 2,304 numbers, `Usage` the split.

The CSV may stand alone, in a zip or in a folder; its column names in any order and case, with spaces around.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from facex_tune.data import known
from facex_tune.data.faces import Faces, Skipped, counts, exact_groups
from facex_tune.data.importing import Loaded, Progress, Published, told_reasons
from facex_tune.data.tree import (
    Tree,
    is_zip,
    missing_classes,
    open_tree,
    printable,
    refuse_other_archives,
    require_readable,
    told_as_damage,
)
from facex_tune.emotions import EMOTIONS, GREY_48
from facex_tune.errors import InputError

COLUMNS = ("emotion", "pixels", "usage")
USAGES = ("Training", "PublicTest", "PrivateTest")
MOST_SKIPPED = 100_000  # rows; FER2013 has 35,887
_MAX_LINE = 2**16  # characters: a face takes some 9,000; a file without line ends must not fill the memory


@dataclass(frozen=True)
class Layout:
    """What a CSV's numbers and words mean: emotion n is `emotions[n]` of `EMOTIONS`, Usage u split `split_of_usage[u]`.

    Each emotion must have a face in the split of Training. `name` is the set's, `published` its counts, by which
    another order of its numbers is seen.
    """

    name: str
    emotions: tuple[int, ...]
    split_of_usage: Mapping[str, str]
    published: Sequence[Published] = ()


@dataclass
class _Rows:
    """The faces read so far, as columns."""

    images: list[NDArray[np.uint8]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    strange: list[tuple[int, int]] = field(default_factory=list)
    """(row, emotion) of numbers that the layout does not have."""
    lost: set[str] = field(default_factory=set)
    """The splits that skipped rows were of, as far as that can be told: else all."""


def load_rows(path: Path, progress: Progress, layout: Layout) -> Loaded | None:
    """The faces of the CSV alone (plain, in a zip, or in a folder), in row order; None where there is no such CSV.

    `source_N` and skipped rows count data rows from 0, as the FER+ votes do.

    Raises:
        InputError: nothing there, a plain file that is no such CSV, a damaged one, an emotion or a split without a
            face, numbers that the layout does not have, or that count the emotions in another order.
    """
    require_readable(path)
    if path.is_file() and not is_zip(path):
        refuse_other_archives(path)
        with told_as_damage(path.name), path.open("rb") as file:
            return _load(file, path.stat().st_size, path.name, progress, layout)
    with open_tree(path) as tree:
        if name := _csv_name(tree):
            with told_as_damage(name), tree.open(name) as file:
                return _load(file, tree.size_bytes(name), name, progress, layout)
    return None


def _csv_name(tree: Tree) -> str | None:
    """The largest CSV with the right columns: the challenge's zip has several."""
    for name in sorted(tree.names, key=tree.size_bytes, reverse=True):
        if name.lower().endswith(".csv") and set(COLUMNS) <= set(first_line(tree, name)):
            return name
    return None


def first_line(tree: Tree, name: str) -> list[str]:
    """The column names of a CSV, in lower case and without spaces around."""
    with told_as_damage(name), tree.open(name) as file:
        return column_names(file.readline(4096).decode("utf-8-sig", errors="replace").split(","))


def column_names(header: Iterable[str]) -> list[str]:
    return [name.strip().lower() for name in header]


def records_of(file: BinaryIO, where: str) -> Generator[list[str], None, None]:
    """The records of a CSV, its header first, empty ones left out; close it before the file.

    Raises:
        InputError: it is no CSV, or a line has no end.
    """
    text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
    try:
        yield from (record for record in csv.reader(bounded_lines(text)) if record)
    except csv.Error as error:
        raise InputError(f"{where} is damaged ({error}): download it again") from error
    finally:
        text.detach()


def bounded_lines(text: TextIO) -> Iterator[str]:
    """The lines of a CSV.

    Raises:
        csv.Error: one is longer than any of a table of faces.
    """
    while line := text.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise csv.Error(f"a line of more than {_MAX_LINE:,} characters")
        yield line


def _load(file: BinaryIO, size_bytes: int, where: str, progress: Progress, layout: Layout) -> Loaded:
    rows = _Rows()
    # a number that cannot be read is a DeprecationWarning in numpy 1 and 2, a ValueError later: here always an error
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        _read(file, size_bytes, where, rows, progress, layout)
    _refuse_strange_numbers(rows, where, layout)
    _require_splits_and_classes(rows, where, layout)
    images_NHW = np.stack(rows.images)
    faces = Faces(
        images_NHW=images_NHW,
        labels_N=np.array(rows.labels, np.int64),
        split_N=np.array(rows.splits, dtype=np.str_),
        group_N=exact_groups(images_NHW),
        sequence_N=np.full(len(images_NHW), -1, np.int64),
        votes_NC=None,
        source_N=np.array([str(number) for number in rows.numbers], dtype=np.str_),
    )
    _refuse_another_order(faces, where, layout)
    return Loaded(faces, rows.skipped, notes=_unproven_order(faces, layout))


def _unproven_order(faces: Faces, layout: Layout) -> tuple[str, ...]:
    """A note where the counts do not prove what the numbers mean."""
    if not layout.published or any(each.resembles(counts(faces), slack=0.01) for each in layout.published):
        return ()
    meant = " ".join(f"{number} {EMOTIONS[label]}" for number, label in enumerate(layout.emotions))
    return (f"its numbers were taken for {meant}, which so few faces, or others, do not prove",)


def _refuse_strange_numbers(rows: _Rows, where: str, layout: Layout) -> None:
    """Numbers beyond those of the set are no slips of a few rows: it is another set, or another numbering."""
    if not rows.strange:
        return
    (first, emotion), times = rows.strange[0], len(rows.strange)
    numbers = Counter([*rows.labels, *(len(EMOTIONS) + number for _, number in rows.strange)])
    advice = known.advice(known.by_counts(numbers.values()), layout.name.lower())
    meant = " ".join(f"{number} {EMOTIONS[label]}" for number, label in enumerate(layout.emotions))
    raise InputError(
        f"{where} is not {layout.name}: emotion {emotion} in {times:,} rows, the first row {first:,}, where it has "
        f"{meant}{advice}"
    )


def _require_splits_and_classes(rows: _Rows, where: str, layout: Layout) -> None:
    """Where rows were skipped and nothing of a split or an emotion is left, the reason is what must be mended."""
    first = layout.split_of_usage[USAGES[0]]
    gone = sorted(rows.lost - set(rows.splits))
    labels = {label for label, split in zip(rows.labels, rows.splits, strict=True) if split == first}
    absent = missing_classes(labels, layout.emotions)
    if gone or (absent and rows.skipped):
        what = ", ".join(gone) or f"{first} {', '.join(absent)}"
        raise InputError(f"{where} has no face of {what} that can be read: {told_reasons(rows.skipped)}; mend them")
    if absent:
        raise InputError(
            f"{where} ({first}) has no face of {', '.join(absent)}: the data set is incomplete, download it again"
        )


def _refuse_another_order(faces: Faces, where: str, layout: Layout) -> None:
    """The published counts are told apart by the order of the emotions, so that another one shows."""
    own = {number: EMOTIONS[label] for number, label in enumerate(layout.emotions)}
    found = counts(faces)
    for published in layout.published:
        for name in known.NUMBERINGS:
            other = known.meaning(name)
            if sorted(other.values()) != sorted(own.values()) or set(other) != set(own):
                continue
            renamed = {own[number]: other[number] for number in own}
            read_so = {split: {renamed[each]: n for each, n in of.items()} for split, of in found.items()}
            if published.resembles(read_so) and not published.resembles(found, slack=2 * published.distance(read_so)):
                raise InputError(
                    f"{where} counts its emotions in another order: by how many there are, {known.told(name)} "
                    f"({name}), where {layout.name} has {' '.join(f'{at} {emotion}' for at, emotion in own.items())}; "
                    "renumber its column `emotion`"
                )


def _read(file: BinaryIO, size_bytes: int, where: str, rows: _Rows, progress: Progress, layout: Layout) -> None:
    with closing(records_of(file, where)) as records:
        _read_records(records, file, size_bytes, where, rows, progress, layout)
    progress(size_bytes, size_bytes)


def _read_records(
    records: Iterator[list[str]],
    file: BinaryIO,
    size_bytes: int,
    where: str,
    rows: _Rows,
    progress: Progress,
    layout: Layout,
) -> None:
    columns = _columns(next(records, []), where)
    for number, record in enumerate(records):
        try:
            emotion, pixels, usage = _fields(record, columns)
            if _is_strange(emotion, layout):
                rows.strange.append((number, int(emotion)))
                _refuse_flood(rows, where)
                continue
            image_HW, label, split = _image(pixels), _label(emotion, layout), _split(usage, layout)
        except ValueError as error:
            rows.skipped.append(Skipped(where, number, str(error)))
            _refuse_flood(rows, where)
            rows.lost |= _splits_of(record, columns, layout)
            continue
        rows.images.append(image_HW)
        rows.labels.append(label)
        rows.splits.append(split)
        rows.numbers.append(number)
        if number % 512 == 511:
            progress(min(file.tell(), size_bytes), size_bytes)


def _refuse_flood(rows: _Rows, where: str) -> None:
    """A small archive can hold more rows that are no faces than memory can hold reasons."""
    if (n := len(rows.skipped) + len(rows.strange)) > MOST_SKIPPED:
        reason = rows.skipped[0].reason if rows.skipped else "emotions that the set does not have"
        raise InputError(f"{where}: more than {n - 1:,} rows are no faces ({reason}): get the set from its publisher")


def told_of_challenge(names: Iterable[str]) -> str:
    """What to say of a CSV of the challenge's pair, by its column names; "" of another."""
    there = set(names)
    if "pixels" not in there or "usage" in there:
        return ""
    which = "train.csv, beside which test.csv has no labels" if "emotion" in there else "test.csv, which has no labels"
    return (
        f"; it looks like the challenge's {which}, so that nothing could be scored: get fer2013.csv or "
        "icml_face_data.csv, which have all three splits"
    )


def _columns(header: list[str], where: str) -> list[int]:
    names = column_names(header)
    if missing := [name for name in COLUMNS if name not in names]:
        shown = printable(", ".join(names)[:80]) or "nothing"
        shown += " (its separator is ';': wanted ',')" * (names[0].count(";") > 1 if names else False)
        shown += " (text of UTF-16: save it as UTF-8)" * shown.startswith("\ufffd\ufffd")
        raise InputError(
            f"{where} has no column {', '.join(missing)}: wanted emotion,pixels,Usage, found {shown}"
            f"{told_of_challenge(names)}"
        )
    return [names.index(name) for name in COLUMNS]


def _fields(record: list[str], columns: list[int]) -> tuple[str, str, str]:
    if len(record) <= max(columns):
        raise ValueError(f"{len(record)} fields where {max(columns) + 1} are wanted")
    emotion, pixels, usage = (record[column].strip() for column in columns)
    return emotion, pixels, usage


def _splits_of(record: list[str], columns: list[int], layout: Layout) -> set[str]:
    usage = record[columns[2]].strip() if len(record) > columns[2] else ""
    splits = layout.split_of_usage
    return {splits[usage]} if usage in splits else set(splits.values())


def _image(pixels: str) -> NDArray[np.uint8]:
    try:
        values = np.fromstring(pixels, np.int64, sep=" ")
    except (DeprecationWarning, ValueError):
        raise ValueError("pixels holds something that is not a whole number") from None
    if values.size != GREY_48.size**2:
        raise ValueError(f"{values.size:,} pixels where {GREY_48.size**2:,} are wanted")
    if values.min() < 0 or values.max() > 255:
        strange = values[(values < 0) | (values > 255)][0]
        raise ValueError(f"pixel {strange} out of range 0..255")
    return values.astype(np.uint8).reshape(GREY_48.size, GREY_48.size)


def _is_strange(emotion: str, layout: Layout) -> bool:
    """Whether it is a whole number that the layout does not have."""
    return re.fullmatch(r"-?[0-9]{1,9}", emotion) is not None and not 0 <= int(emotion) < len(layout.emotions)


def _label(emotion: str, layout: Layout) -> int:
    if emotion not in {str(index) for index in range(len(layout.emotions))}:
        raise ValueError(f"emotion {printable(emotion[:20])!r} is no number of 0..{len(layout.emotions) - 1}")
    return layout.emotions[int(emotion)]


def _split(usage: str, layout: Layout) -> str:
    if usage not in layout.split_of_usage:
        raise ValueError(f"Usage {printable(usage[:20])!r} is none of {', '.join(layout.split_of_usage)}")
    return layout.split_of_usage[usage]
