"""What of a run folder is worth taking home: all but checkpoints, lease and traces of crashes. What was taken is itself
a run folder, which `show`, `report` and `load_run` read.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from facex_tune.errors import InputError
from facex_tune.storage import files, regular
from facex_tune.storage.files import DamagedRun, Place

CHUNK_BYTES = 1 << 18
PICTURE = b"data:image/png;base64,"  # a face on a report's page; what is drawn there is SVG
_FILES = ("run.json",)
_ROOMS = (*_FILES, "events", "report", "evaluation", "factors", "final")
_LEFT = ("last.safetensors",)  # checkpoints of models in the making


@dataclass(frozen=True)
class Item:
    """One file: its path within the run folder, with slashes, its size and the SHA-256 of that many bytes; and whether
    it shows faces.
    """

    path: str
    bytes: int
    sha256: str
    faces: bool = False

    @classmethod
    def parse(cls, said: Any) -> Item:
        """An item as another host told it.

        Raises:
            InputError: it is none, or its path would lead out of the folder.
        """
        try:
            path = str(said["path"])
            item = cls(path, int(said["bytes"]), str(said["sha256"]), bool(said.get("faces", _may_show_faces(path))))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"no list of a run's files: {str(said)[:100]!r}") from error
        parts = PurePosixPath(item.path).parts
        if not parts or item.path.startswith("/") or ".." in parts or "\\" in item.path or ":" in item.path:
            raise InputError(f"{item.path!r} would lead out of the run's folder: nothing was taken")
        if item.bytes < 0 or not re.fullmatch("[0-9a-f]{64}", item.sha256):  # which become a part's name and end
            raise InputError(f"{item.path!r}: {item.bytes} bytes with SHA-256 {item.sha256[:80]!r} are none of a file")
        return item


def items(folder: Place, *, faces: bool = True) -> list[Item]:
    """The files of a run, small and telling ones first: header, log, report, then scores and models.

    Args:
        faces: whether those that show faces are among them.
    """
    return [_item(folder, path) for path in paths(folder, faces=faces)]


def paths(folder: Place, *, faces: bool = True) -> list[str]:
    """As `items`, the paths alone."""
    links = (path for path in files.sizes(folder) if isinstance(path, Path) and path.is_symlink())
    left = set(links)
    found = [files.below(path, folder) for path in files.sizes(folder) if path not in left]
    kept = [path for path in found if _is_kept(path)]
    told = [path for path in kept if faces or not shows_faces(folder, path)]
    return sorted(told, key=lambda path: (_ROOMS.index(path.partition("/")[0]), path))


def _may_show_faces(path: str) -> bool:
    room = path.partition("/")[0]
    return (room == "evaluation" and path.endswith(".faces.npz")) or (room == "report" and path.endswith(".html"))


def shows_faces(folder: Place, path: str) -> bool:
    """Whether a file shows faces: those that an evaluation kept, and a report's page that was written with them."""
    if not _may_show_faces(path):
        return False
    if not path.endswith(".html"):
        return True
    before = b""
    for chunk in chunks(folder, path):
        if PICTURE in before + chunk:
            return True
        before = chunk[-len(PICTURE) :]
    return False


def _is_kept(path: str) -> bool:
    room, _, inside = path.partition("/")
    name = path.rpartition("/")[2]
    return room in _ROOMS and (room in _FILES) == (not inside) and name not in _LEFT and not name.startswith(".")


def _item(folder: Place, path: str) -> Item:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks(folder, path):
        digest.update(chunk)
        size += len(chunk)
    return Item(path, size, digest.hexdigest(), shows_faces(folder, path))


def document(run: str, folder: Place, *, faces: bool = True) -> dict[str, Any]:
    """`items` as plain data."""
    return {"version": 1, "run": run, "files": [asdict(item) for item in items(folder, faces=faces)]}


def tar(run: str, folder: Place, *, faces: bool = True) -> Iterator[bytes]:
    """The same files as one uncompressed tar, under the run's name, piece by piece: nothing is copied before.

    Raises:
        DamagedRun: a file became shorter meanwhile.
    """
    for path in paths(folder, faces=faces):
        with opened(folder, path) as file:
            entry = tarfile.TarInfo(f"{run}/{path}")
            entry.size, entry.mtime = file.seek(0, os.SEEK_END), int(files.modified(folder / path))
            yield entry.tobuf()
            left = entry.size
            for chunk in rest(file, 0, entry.size):
                left -= len(chunk)
                yield chunk
            if left:
                raise DamagedRun(f"{folder / path}: became shorter while it was read; fetch the archive again")
            yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def opened(folder: Place, path: str) -> BinaryIO:
    """A run's file, which is no link.

    Raises:
        DamagedRun: it is one.
    """
    return regular.opened(folder, path) if isinstance(folder, Path) else io.BytesIO((folder / path).read_bytes())


def chunks(folder: Place, path: str, offset: int = 0, until: int = sys.maxsize) -> Iterator[bytes]:
    """The bytes of a run's file from `offset` up to `until`."""
    yield from rest(opened(folder, path), offset, until)


def rest(file: BinaryIO, offset: int, until: int) -> Iterator[bytes]:
    """An open file's bytes from `offset` up to `until`; it is closed then."""
    with file:
        file.seek(offset)
        while offset < until and (chunk := file.read(min(CHUNK_BYTES, until - offset))):
            offset += len(chunk)
            yield chunk
