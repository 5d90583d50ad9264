"""Data sets of the Hugging Face hub, as Parquet: one row a face, an `Image` column and a `ClassLabel` column.

`data/train-00000-of-00001.parquet`, or `train/0000.parquet` as the hub converts others. Copies of one set there number
their classes in different orders: what a number means stands in the file's own metadata (`huggingface`: info, features,
names), and without it bare numbers are refused unless `--numbers` says whose they are. A file's name says its split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from facex_tune.data.decoding import one_line
from facex_tune.data.faces import Skipped
from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress
from facex_tune.data.pictures import MAX_BYTES
from facex_tune.data.sources._labelled import Marked, read
from facex_tune.data.sources._tables import emotions, label_column, require_split, require_unpacked, split_of, tree_of
from facex_tune.data.tree import open_tree, told_as_damage
from facex_tune.errors import InputError

DESCRIPTION = "Parquet of the Hugging Face hub with an image and a class column; --as NAME names the set"
NEEDS_SOURCE = True
NAMED_BY_USER = True
OPTIONS = ("classes", "splits", "numbers", "uncropped", "size", "colour")
MAX_GROUP_BYTES = 2**30  # of a row group's pictures
MOST_ROWS = 2_000_000  # rows without anything in them take no room in a file
LONGEST_WORD = 1000  # characters of a label


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """Every row that has a picture and an emotion, by split, file and row.

    Raises:
        InputError: no Parquet, no image or class column, classes that are no emotion, or a file of no split.
    """
    assert path is not None, "prepare asks for the source"
    require_unpacked(path)
    with _opened(path) as tables:
        found: list[tuple[str, Marked]] = []
        skipped: list[Skipped] = []
        sizes: dict[str, int] = {}
        for where, table in tables.items():
            split = _split(where, path, asked, alone=len(tables) == 1)
            image, label, names = _columns(table, path / where)
            for row, (size_bytes, number) in enumerate(_rows(table, image, label)):
                if len(found) + len(skipped) >= MOST_ROWS:
                    raise InputError(f"{path} has more than {MOST_ROWS:,} rows; name a folder with fewer of its files")
                word: Any = number
                if names and isinstance(number, int) and 0 <= number < len(names):
                    word = names[number]
                if word in (None, -1) or not size_bytes:
                    skipped.append(Skipped(where, row, "no label" if size_bytes else "no picture in the row"))
                    continue
                if isinstance(word, str | bytes) and len(word) > LONGEST_WORD:
                    skipped.append(Skipped(where, row, f"a label of more than {LONGEST_WORD:,} characters"))
                    continue
                name = f"{where} row {row:08d}"
                sizes[name] = size_bytes
                found.append((str(word), Marked(name, 0, split)))
        label_of = emotions(found, path, asked)
        kept = [each.labelled(known) for word, each in found if (known := label_of[word]) is not None]
        return read(tree_of(path, sizes, _Pictures(tables)), kept, skipped, progress, face=asked.face)


@contextmanager
def _opened(path: Path) -> Iterator[dict[str, Any]]:
    """The Parquet files by name, in a folder or alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.is_file():
        names, top = [path.name], path.parent
    else:
        with open_tree(path) as tree:
            names, top = [name for name in tree.names if PurePosixPath(name).suffix.lower() == ".parquet"], path
    if not names:
        raise InputError(f"{path} has no .parquet file: name the folder that was downloaded from the hub")
    with ExitStack() as stack:
        tables = {}
        for name in names:
            try:
                tables[name] = stack.enter_context(pq.ParquetFile(top / name))
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{top / name} is no whole Parquet ({one_line(error)}): download it again") from error
        yield tables


def _split(where: str, path: Path, asked: Asked, *, alone: bool) -> str:
    place = PurePosixPath(where)
    words = (place.stem.partition("-")[0], *reversed(place.parts[:-1]))
    if said := next(filter(None, (split_of(word, asked) for word in words)), None):
        return said
    return "test" if alone else require_split(place.stem.partition("-")[0], path, asked)


def _columns(table: Any, path: Path) -> tuple[str, str, list[str]]:
    """The image's column, the label's, and what the label's numbers are called, where the file says so."""
    features = _features(table)
    images = [name for name, of in features.items() if of.get("_type") == "Image"]
    images = images or [field.name for field in table.schema_arrow if "binary" in str(field.type)]
    labels = [name for name, of in features.items() if of.get("_type") == "ClassLabel"]
    if not images:
        raise InputError(f"{path} has no column of pictures: found {', '.join(table.schema_arrow.names)}")
    others = [name for name in table.schema_arrow.names if name not in images]
    label = labels[0] if len(labels) == 1 else label_column(labels or others, path)
    return images[0], label, list(features.get(label, {}).get("names") or [])


def _features(table: Any) -> dict[str, Any]:
    """Of each column, as the hub's own library wrote it; none where it did not."""
    try:
        features = json.loads((table.schema_arrow.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): of for name, of in features.items() if isinstance(of, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _rows(table: Any, image: str, label: str) -> Iterator[tuple[int, Any]]:
    """(bytes of the picture, label) of each row, one row in memory at a time."""
    for group in range(table.num_row_groups):
        for n_bytes, _, word in _group(table, group, image, label):
            yield n_bytes, word


def _group(table: Any, group: int, image: str, label: str | None = None) -> Iterator[tuple[int, bytes, Any]]:
    """(bytes of a picture's file, the file as `_picture` has it, label) of each row of a row group. What the file says
    of its size is not believed: rows of the same picture take no room there, and are unpacked one at a time.

    Raises:
        InputError: it holds more than is read, by the file's own directory or in truth.
    """
    columns = [image] if label is None else [image, label]
    said = table.metadata.row_group(group)
    chunks = (said.column(at) for at in range(said.num_columns))
    told_bytes = sum(each.total_uncompressed_size for each in chunks if _is_of(each, columns))
    _refuse_above(group, told_bytes)
    if told_bytes > said.num_rows * MAX_BYTES:  # one page of it would take several times as much as any picture may
        raise InputError(
            f"row group {group} takes {told_bytes:,} bytes for {said.num_rows:,} rows, and a picture may take "
            f"{MAX_BYTES:,}: write the table with pictures of faces alone"
        )
    n_bytes = 0
    for row in table.iter_batches(1, row_groups=[group], columns=columns, use_threads=False):
        n_picture_bytes, picture = _picture(row[image][0])
        n_bytes += n_picture_bytes
        _refuse_above(group, n_bytes)
        yield n_picture_bytes, picture, None if label is None else row[label][0].as_py()


def _is_of(chunk: Any, columns: Sequence[str]) -> bool:
    return chunk.path_in_schema.split(".")[0] in columns


def _refuse_above(group: int, n_bytes: int) -> None:
    if n_bytes > MAX_GROUP_BYTES:
        raise InputError(
            f"row group {group} takes {n_bytes:,} bytes or more, and {MAX_GROUP_BYTES:,} are read at most: write the "
            "table with smaller row groups"
        )


def _picture(value: Any) -> tuple[int, bytes]:
    """(how many bytes a picture's file has, the file); empty where it lies elsewhere, or is larger than any is read."""
    import pyarrow as pa

    if isinstance(value, pa.StructScalar):
        value = value["bytes"] if value.is_valid and "bytes" in value else None
    if not isinstance(value, pa.BinaryScalar | pa.LargeBinaryScalar) or isinstance(value, pa.StringScalar):
        return 0, b""
    buffer = value.as_buffer()  # no copy
    n_bytes = 0 if buffer is None else buffer.size
    return n_bytes, buffer.to_pybytes() if 0 < n_bytes <= MAX_BYTES else b""


class _Pictures:
    """Reads the picture of a row; the row group that was read last stays in memory."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self._tables = tables
        self._last: tuple[str, int, list[bytes]] = ("", 0, [])

    def __call__(self, name: str) -> bytes:
        where, _, row = name.rpartition(" row ")
        file, start, pictures = self._last
        if file != where or not start <= int(row) < start + len(pictures):
            self._last = ("", 0, [])  # its memory is given back before the next takes its own
            start, pictures = self._group_of(where, int(row))
            self._last = (where, start, pictures)
        return pictures[int(row) - start]

    def _group_of(self, where: str, row: int) -> tuple[int, list[bytes]]:
        table, start = self._tables[where], 0
        for group in range(table.num_row_groups):
            end = start + table.metadata.row_group(group).num_rows
            if row < end:
                image = _columns(table, Path(where))[0]
                with told_as_damage(where):
                    return start, [picture for _, picture, _ in _group(table, group, image)]
            start = end
        raise IndexError(row)
