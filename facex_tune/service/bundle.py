"""What of a run folder is worth taking home: all but checkpoints, lease and traces of crashes. What was taken is itself
a run folder, which `show`, `report` and `load_run` read.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from facex_tune.errors import InputError
from facex_tune.storage import files
from facex_tune.storage.files import Place

CHUNK_BYTES = 1 << 20
_FILES = ("run.json",)
_ROOMS = (*_FILES, "events", "report", "evaluation", "factors", "final")
_LEFT = ("last.safetensors",)  # checkpoints of models in the making


@dataclass(frozen=True)
class Item:
    """One file: its path within the run folder, with slashes, its size and the SHA-256 of that many bytes."""

    path: str
    bytes: int
    sha256: str

    @classmethod
    def parse(cls, said: Any) -> Item:
        """An item as another host told it.

        Raises:
            InputError: it is none, or its path would lead out of the folder.
        """
        try:
            item = cls(str(said["path"]), int(said["bytes"]), str(said["sha256"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"no list of a run's files: {str(said)[:100]!r}") from error
        parts = PurePosixPath(item.path).parts
        if not parts or item.path.startswith("/") or ".." in parts or "\\" in item.path or ":" in item.path:
            raise InputError(f"{item.path!r} would lead out of the run's folder: nothing was taken")
        return item


def items(folder: Place) -> list[Item]:
    """The files of a run, small and telling ones first: header, log, report, then scores and models."""
    return [_item(folder, path) for path in paths(folder)]


def paths(folder: Place) -> list[str]:
    """As `items`, the paths alone."""
    links = (path for path in files.sizes(folder) if isinstance(path, Path) and path.is_symlink())
    left = set(links)
    found = [files.below(path, folder) for path in files.sizes(folder) if path not in left]
    kept = [path for path in found if _is_kept(path)]
    return sorted(kept, key=lambda path: (_ROOMS.index(path.partition("/")[0]), path))


def _is_kept(path: str) -> bool:
    room, _, inside = path.partition("/")
    name = path.rpartition("/")[2]
    return room in _ROOMS and (room in _FILES) == (not inside) and name not in _LEFT and not name.startswith(".")


def _item(folder: Place, path: str) -> Item:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks(folder / path):
        digest.update(chunk)
        size += len(chunk)
    return Item(path, size, digest.hexdigest())


def document(run: str, folder: Place) -> dict[str, Any]:
    """`items` as plain data."""
    return {"version": 1, "run": run, "files": [asdict(item) for item in items(folder)]}


def write_tar(run: str, folder: Place, sink: BinaryIO) -> None:
    """The same files as one uncompressed tar, under the run's name."""
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for path in paths(folder):
            content = (folder / path).read_bytes()
            entry = tarfile.TarInfo(f"{run}/{path}")
            entry.size, entry.mtime = len(content), int(files.modified(folder / path))
            tar.addfile(entry, io.BytesIO(content))


def chunks(path: Place, offset: int = 0, until: int = sys.maxsize) -> Iterator[bytes]:
    """A file's bytes from `offset` up to `until`."""
    with path.open("rb") if isinstance(path, Path) else io.BytesIO(path.read_bytes()) as file:
        file.seek(offset)
        while offset < until and (chunk := file.read(min(CHUNK_BYTES, until - offset))):
            offset += len(chunk)
            yield chunk
