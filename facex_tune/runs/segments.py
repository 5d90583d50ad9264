"""How the event log lies in `events/`, and how one more record gets there.

On disks that can append (local ones, NFS) each writer has a file of its own, `000003.jsonl`, whose number is the fence
of its lease. A record that its file ends within was never acknowledged. What an earlier writer wrote after a later one
had begun was written without the right to, and is no part of the log.

Object stores cannot append. There each record is an object of its own, `000000017.jsonl`, under a number that can be
created only once: whoever creates it has written record 17, and everybody else learns that he writes no more. A writer
begins with a record that says who it is, so that a predecessor that still lives finds its next number taken. Full
hundreds of records are then packed into one object, `000000002-000000257.jsonl`, for speed of reading; the first record
of each writer stays, because it is the fence.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facex_tune import __version__
from facex_tune.errors import InputError, StorageOutage
from facex_tune.runs.events import VERSION, Event, LeaseTaken, as_named_now, written
from facex_tune.runs.lease import LeaseLost
from facex_tune.storage import regular, remote_path
from facex_tune.storage.files import NO_SPACE, DamagedRun, Place, no_space, sync_folder
from facex_tune.storage.remote_path import RemotePath

PACKED = 256  # records
TOGETHER = 4096  # records of a file that are parsed at once
WORTH_PACKING = 32  # records that an earlier writer left
PACKING_S = 10.0  # more is not waited for: it saves time, and nothing else
LISTINGS = 5  # tries to see a log whole that its writer packs at this moment
_NAME = re.compile(r"(\d{9})(?:-(\d{9}))?\.jsonl")


# On disks


class FileSegment:
    """A writer's own file, to which records are appended.

    Raises:
        FileExistsError: another writer has the same number.
    """

    def __init__(self, folder: Path, number: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{number:06d}.jsonl"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        sync_folder(folder)
        self._written = (0, 0)  # bytes and records, replaced together: a signal may come between any two steps

    @property
    def count(self) -> int:
        """The number of records written."""
        return self._written[1]

    def settle(self) -> None:
        """Does nothing: on a disk, no record is ever left undecided."""

    def append(self, line: bytes) -> None:
        """Writes a record durably, or not at all.

        Raises:
            InputError: no space left.
        """
        size, count = self._written
        try:
            rest = line
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
            self._written = (size + len(line), count + 1)
        except BaseException as error:
            with suppress(OSError):  # half a record would spoil the next
                os.ftruncate(self._file, self._written[0])
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise no_space(self.path.parent, len(line)) from error
            raise

    def close(self) -> None:
        os.close(self._file)


class FileReader:
    """Reads the records of a log on a disk. A file that has not changed since is not read again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, tuple[tuple[int, ...], list[Event]]] = {}  # as it was then, and what it held

    def events(self) -> list[Event]:
        """Every event in order.

        Raises:
            DamagedRun: a record is malformed, or some are missing.
        """
        events: list[Event] = []
        for path in _written(self.folder):
            later = self._of_file(path)
            while later and events and events[-1]["seq"] >= later[0]["seq"]:
                events.pop()  # written late, by a writer that had been replaced
            events += later
        _without_gaps(events, self.folder)
        return events

    def _of_file(self, path: Path) -> list[Event]:
        found = path.stat()
        now = found.st_size, found.st_mtime_ns, found.st_ino
        if path not in self._read or self._read[path][0] != now:
            self._read[path] = now, _read_file(path)
        return self._read[path][1]


def newest(folder: Place, reader: ObjectReader | None) -> int:
    """Finds the largest number that the log has given to an event."""
    if reader is not None:
        reader.refresh()
        return max(reader.lines, default=0)
    if isinstance(folder, RemotePath):
        return max((int(path.stem) for path in folder.glob("*.jsonl")), default=0)
    return max((int(path.stem) for path in _written(folder)), default=0)


def _written(folder: Path) -> list[Path]:
    """The files of a log, oldest first; none before the first. A folder that may not be read is no empty one: an
    `OSError`, which `Path.glob` would have kept to itself.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(folder / name for name in names if name.endswith(".jsonl"))


def _read_file(path: Path) -> list[Event]:
    # a whole record ends with a newline, so nothing follows the last one: what does is torn
    lines = regular.content(path, rooms=1).split(b"\n")[:-1]
    together = [event for at in range(0, len(lines), TOGETHER) for event in _together(lines[at : at + TOGETHER])]
    if len(together) == len(lines):
        return together
    return [parsed(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def _together(lines: Sequence[bytes]) -> list[Event]:
    """Records read as one JSON list, so that equal names in them are one text in memory; fewer than there are lines
    where any is not as it should be, which `parsed` then tells.
    """
    try:
        found = json.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        return []
    is_event = len(found) == len(lines) and all(isinstance(each, dict) and _is_event(each) for each in found)
    return [as_named_now(each) for each in found] if is_event else []


def _is_event(said: Mapping[str, Any]) -> bool:
    return said.get("v") == VERSION and isinstance(said.get("seq"), int) and isinstance(said.get("type"), str)


def parsed(line: bytes, where: str) -> Event:
    """Reads an event from its record; its type may be one that this version does not know.

    Raises:
        InputError: a newer version wrote it.
        DamagedRun: it is malformed.
    """
    try:
        event: Event = json.loads(line)
        version = event["v"]
        refuse_newer(version, VERSION, where)
        if version != VERSION or not isinstance(event["seq"], int) or not isinstance(event["type"], str):
            raise ValueError("not an event of this version")
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRun(f"{where}: malformed record ({error}); restore the file, or remove what follows") from error
    return as_named_now(event)


def refuse_newer(version: object, ours: int, where: str, by: str = "") -> None:
    """
    Args:
        version: of the file's form, as the file says it.
        ours: the highest that is read here.
        by: the version of facex_tune that wrote it, where that is known.

    Raises:
        InputError: `version` is a number above ours.
    """
    if type(version) is int and version > ours:
        raise InputError(
            f"{where}: written by a newer facex_tune{f' ({by})' if by else ''}: schema {version}, and this one, "
            f"{__version__}, reads {ours}; nothing is damaged: update facex_tune here (docs/upgrading.md)"
        )


def _without_gaps(events: Sequence[Event], folder: Path | RemotePath) -> None:
    for expected, event in enumerate(events, start=1):
        if event["seq"] != expected:
            raise DamagedRun(
                f"{folder}: event {expected} is missing (the next one is {event['seq']}); restore the folder, "
                f"or remove what follows"
            )


def encoded(event: Mapping[str, Any]) -> bytes:
    """Writes an event as a record.

    Raises:
        ValueError: it holds what JSON cannot say.
    """
    return (json.dumps(event, allow_nan=False) + "\n").encode()


# On object stores


class ObjectReader:
    """The records of a log on an object store. They never change, so each is fetched once."""

    def __init__(self, folder: RemotePath) -> None:
        self.folder = folder
        self.lines: dict[int, bytes] = {}
        self._parsed: dict[int, Event] = {}
        self.packed: set[int] = set()

    def refresh(self) -> None:
        """Fetches the records that have come since the last time.

        Raises:
            DamagedRun: records are missing.
        """
        for attempt in range(LISTINGS):
            time.sleep(0.1 * attempt)
            self._fetch()
            if len(self.lines) == max(self.lines, default=0):
                return
        missing = next(number for number in range(1, len(self.lines) + 2) if number not in self.lines)
        raise DamagedRun(f"{self.folder}: record {missing:09d}.jsonl is missing; restore it, or remove what follows")

    def _fetch(self) -> None:
        packs: list[tuple[int, int, RemotePath]] = []
        singles: dict[int, RemotePath] = {}
        for path in self.folder.iterdir():
            if named := _NAME.fullmatch(path.name):
                first, last = int(named[1]), named[2]
                if last is None:
                    singles[first] = path
                else:
                    packs.append((first, int(last), path))
        wanted: list[tuple[int, int, RemotePath]] = []
        coming: set[int] = set()
        for first, last, path in packs:
            numbers = set(range(first, last + 1))
            self.packed |= numbers
            if numbers - self.lines.keys() - coming:
                wanted.append((first, last, path))
                coming |= numbers
        wanted += [(n, n, path) for n, path in singles.items() if n not in self.lines and n not in coming]
        contents = remote_path.read_many([path for *_, path in wanted])
        for (first, last, path), content in zip(wanted, contents, strict=True):
            if content is not None:
                self._take(first, last, path, content)

    def _take(self, first: int, last: int, path: RemotePath, content: bytes) -> None:
        lines = content.splitlines(keepends=True)
        if len(lines) != last - first + 1 or not content.endswith(b"\n"):
            raise DamagedRun(f"{path.url}: {len(lines)} records in place of {last - first + 1}; restore the object")
        self.lines.update(enumerate(lines, start=first))

    def events(self) -> list[Event]:
        """Reads every event, in order.

        Raises:
            DamagedRun: a record is malformed, or some are missing.
        """
        for number in sorted(self.lines.keys() - self._parsed.keys()):
            self._parsed[number] = parsed(self.lines[number], f"{self.folder.url}/{number:09d}.jsonl")
        events = [self._parsed[n] for n in sorted(self._parsed) if self._parsed[n]["type"] != LeaseTaken.TYPE]
        _without_gaps(events, self.folder)
        return events


@dataclass(frozen=True)
class _Progress:
    """What a writer has written; replaced as a whole, because a signal may come between any two steps."""

    slot: int  # the next number
    count: int
    undecided: bytes | None = None  # a record that may or may not have arrived


class ObjectSegments:
    """A writer's records, each an object.

    Args:
        reader: the log so far.
        claim: this writer's first record.
        check: raises `LeaseLost`; asked before each record where the store itself cannot keep a second writer out.

    Raises:
        FileExistsError: another writer was faster.
    """

    def __init__(self, reader: ObjectReader, claim: bytes, check: Callable[[], None]) -> None:
        self.folder, self._check = reader.folder, check
        slot = max(reader.lines, default=0) + 1
        self._path(slot).create(claim)
        self.fence = slot
        packed = max(reader.packed, default=0)
        self._unpacked = {n: line for n, line in reader.lines.items() if n > packed}
        self.is_exclusive = self._path(slot).is_exclusive()
        self._progress = _Progress(slot + 1, 0)
        if len(self._unpacked) >= WORTH_PACKING:
            self._pack()
        self._unpacked = {}

    @property
    def count(self) -> int:
        """The number of records written, without the first one."""
        return self._progress.count

    def settle(self) -> None:
        """Finds out whether a record whose writing was broken off has arrived.

        Raises:
            LeaseLost: another process writes this run now.
        """
        slot, count, line = self._progress.slot, self._progress.count, self._progress.undecided
        if line is None:
            return
        if not self.is_exclusive:
            self._check()
        try:
            self._path(slot).create(line)
        except FileExistsError as error:
            raise LeaseLost(
                f"{self.folder.url}: record {slot} is another process's, which writes this run now"
            ) from error
        self._unpacked[slot] = line
        self._progress = _Progress(slot + 1, count + 1)

    def append(self, line: bytes) -> None:
        """Writes a record, durable when this returns.

        Raises:
            LeaseLost: another process writes this run now.
            StorageOutage: the store does not answer; the record may arrive yet, `settle` finds out.
        """
        self.settle()
        self._progress = _Progress(self._progress.slot, self._progress.count, line)
        self.settle()
        if len(self._unpacked) >= PACKED:
            self._pack()

    def _pack(self) -> None:
        """Puts the records since the last pack into one object; the single ones then go, all but fences."""
        first, last = min(self._unpacked), max(self._unpacked)
        pack = self.folder / f"{first:09d}-{last:09d}.jsonl"
        gone = [self._path(n) for n, line in self._unpacked.items() if not _is_claim(line)]
        with suppress(StorageOutage, FileExistsError), remote_path.hurry(PACKING_S):
            pack.create(b"".join(line for _, line in sorted(self._unpacked.items())))
            remote_path.remove_many(gone)
            self._unpacked = {}

    def _path(self, slot: int) -> RemotePath:
        return self.folder / f"{slot:09d}.jsonl"

    def close(self) -> None:
        """Does nothing: no file is open."""


def _is_claim(line: bytes) -> bool:
    return bool(json.loads(line)["type"] == LeaseTaken.TYPE)


def claim(seq: int, time_utc: str, holder: Mapping[str, Any]) -> bytes:
    """A writer's first record.

    Args:
        seq: the last event's number.
        holder: who it is; unlike any other.
    """
    return encoded(written(LeaseTaken(**holder), seq, time_utc))
