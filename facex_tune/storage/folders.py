"""Write a folder in one step: whole or not at all, with the disk's faults told as the user's to mend."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from facex_tune.errors import InputError
from facex_tune.storage.files import NO_SPACE, no_space, sync_folder

YOUNG_S = 600.0  # where folders cannot be locked: so long after its last change one may still be written
FREE_SOME = "free some or choose another folder with --data"


def write_folder(final: Path, writers: Mapping[str, Callable[[BinaryIO], object]], needed_bytes: int) -> None:
    """Make the folder `final` with one file per entry of `writers`, replacing an older folder of that name.

    The files go to a temporary folder beside it, are flushed to disk, and are then renamed into place: a reader sees
    the old folder or the new one, and a failure leaves nothing behind.

    Raises:
        InputError: less than `needed_bytes` are free, the disk fills up, or the place cannot be written.
    """
    with _told_as_input_error(final.parent, needed_bytes):
        final.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(final.parent).free < needed_bytes:
            raise no_space(final.parent, needed_bytes, FREE_SOME)
        temporary = final.parent / f".{final.name}.{secrets.token_hex(8)}"  # a name that nobody can foresee
        temporary.mkdir()  # by the user's umask; tempfile's 0700 would hide it from the others of a shared disk
        try:
            with _held(temporary):
                for file_name, write_to in writers.items():
                    _write_durably(temporary / file_name, write_to)
                _swap_in(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def is_being_written(folder: Path) -> bool:
    """Whether a `write_folder` is at work in a folder: by its lock, which ends with its process; where folders cannot
    be locked (as on NFS), by how young what it holds is.
    """
    try:
        held = _locked(folder)
    except BlockingIOError:
        return True
    if held is None:
        return time.time() - _changed(folder) < YOUNG_S
    os.close(held)
    return False


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    held = None
    with suppress(BlockingIOError):  # somebody looks whether it is held
        held = _locked(folder)
    try:
        yield
    finally:
        if held is not None:
            os.close(held)


def _locked(folder: Path) -> int | None:
    """A folder, opened and locked for this process; None where folders cannot be locked.

    Raises:
        BlockingIOError: another one has locked it.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        raise
    except OSError:
        os.close(opened)
        return None
    return opened


def _changed(folder: Path) -> float:
    """When something in it was written last."""
    found = [0.0]
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):
            found.append(path.stat().st_mtime)
    return max(found)


def _write_durably(path: Path, write_to: Callable[[BinaryIO], object]) -> None:
    with path.open("wb") as file:
        write_to(file)
        file.flush()
        os.fsync(file.fileno())


def _swap_in(temporary: Path, final: Path) -> None:
    """Rename `temporary` to `final`; an older `final` steps aside first and comes back if the rename fails."""
    aside = temporary.with_name(temporary.name + ".old")
    if final.exists():
        final.rename(aside)
    try:
        temporary.rename(final)
    except OSError:
        if aside.exists():
            aside.rename(final)
        raise
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    sync_folder(final.parent)  # makes the rename itself survive a power cut


@contextmanager
def _told_as_input_error(folder: Path, needed_bytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise no_space(folder, needed_bytes, FREE_SOME) from error
        reason = error.strerror or str(error)
        raise InputError(f"cannot write {folder}: {reason}; choose another folder with --data") from error
