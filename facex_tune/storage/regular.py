"""Files opened without following links. In a folder that others may write, a link, a pipe or a device would lead who
reads, or appends, to something that is none of the folder's.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from facex_tune.storage.files import DamagedRun, Place

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_LINK
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # for a pipe's other end
_IS_LINK = (errno.ELOOP, errno.EMLINK)


def opened(folder: Path, below: str) -> BinaryIO:
    """A regular file for reading, by its path below a folder; neither it nor what lies between may be a link.

    Raises:
        DamagedRun: it is no regular file, or a link leads there.
        OSError: it is not there, or cannot be read.
    """
    return os.fdopen(_descriptor(folder, below, os.O_RDONLY), "rb")


def content(path: Place, rooms: int = 0) -> bytes:
    """A record's bytes.

    Args:
        rooms: how many of the folders that it lies in may be no link, either.

    Raises:
        DamagedRun: as `opened`.
        OSError: as `opened`.
    """
    if not isinstance(path, Path):
        return path.read_bytes()
    with opened(path.parents[rooms], "/".join(path.parts[-rooms - 1 :])) as file:
        return file.read()


def read_json(path: Place, rooms: int = 0) -> Any:
    """The same as what `files.write_json` wrote.

    Raises:
        DamagedRun: malformed, or as `opened`.
    """
    try:
        return json.loads(content(path, rooms))
    except ValueError as error:
        raise DamagedRun(f"{path}: malformed JSON ({error})") from error


def appended(folder: Path, below: str) -> BinaryIO:
    """The same, made where it is missing, for adding at its end."""
    return os.fdopen(_descriptor(folder, below, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")


def changed(folder: Path, below: str) -> BinaryIO:
    """The same, which must be there, for reading and writing anywhere in it."""
    return os.fdopen(_descriptor(folder, below, os.O_RDWR), "r+b")


def is_link_or_odd(path: Path) -> bool:
    """Whether something stands there that is neither a folder nor a regular file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def odd(path: Path) -> DamagedRun:
    """What such a thing is told as."""
    return DamagedRun(f"{path}: a link, or no regular file, which is not followed here; put the file itself there")


def _descriptor(folder: Path, below: str, flags: int) -> int:
    *between, name = PurePosixPath(below).parts
    try:
        if os.open not in os.supports_dir_fd:  # Windows, where links want a right of their own
            return _checked(os.open(folder / below, flags), folder / below)
        there = os.open(folder, _FOLDER & ~_NO_LINK)
        for each in between:
            there = _step(there, each)
        try:
            found = os.open(name, flags | _NO_LINK | _NO_WAITING, 0o666, dir_fd=there)
        finally:
            os.close(there)
    except OSError as error:
        if error.errno in (*_IS_LINK, errno.ENXIO):  # a pipe that nobody reads
            raise odd(folder / below) from error
        error.filename = str(folder / below)
        raise
    return _checked(found, folder / below)


def _step(there: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=there)
    except NotADirectoryError as error:  # as Linux says it of a link, too
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from error
    finally:
        os.close(there)


def _checked(descriptor: int, path: Path) -> int:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise odd(path)
