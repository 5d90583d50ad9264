"""The run folder: the only owner of its paths and of its event log. Nothing here is a pickle.

It lies in a folder of this machine or behind a URL; `segments.py` knows how the log is kept in either.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facex_tune import files, lease, segments
from facex_tune.errors import InputError, StorageOutage, nearest
from facex_tune.files import (
    DamagedRun,
    Place,
    load_tensors,
    read_json,
    save_tensors,
    sync_folder,
    write_bytes,
    write_json,
)
from facex_tune.history import History, fold
from facex_tune.lease import Lease
from facex_tune.remote import RemotePath
from facex_tune.segments import SCHEMA, FileSegment, ObjectReader, ObjectSegments, refuse_newer
from facex_tune.segments import Event as Event
from facex_tune.study import Study

if TYPE_CHECKING:
    from torch import Tensor

_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)  # as FAT and some network mounts say it


class RunTaken(InputError):
    """The name belongs to another run, which may have been begun a moment ago."""


class Run:
    """One run folder.

    Args:
        storage: the folder of all runs, or its URL.
        name: the run's own folder in it.
    """

    def __init__(self, storage: Place | str, name: str) -> None:
        self.storage, self.name = files.place(storage), name
        self.folder = self.storage / name
        self._header: dict[str, Any] | None = None  # a URL's is fetched once
        self._is_ours = False  # its header was read, and is of our schema
        self._objects = ObjectReader(self.folder / "events") if isinstance(self.folder, RemotePath) else None

    @classmethod
    def create(
        cls, storage: Place, name: str, study: Study, *, data: Mapping[str, Any], environment: Mapping[str, Any]
    ) -> Run:
        """A new run folder with its header. Of several that ask for one name at one moment, one gets it.

        Args:
            data: manifests of the prepared sets, by name.
            environment: package versions, hardware, git commit.

        Raises:
            RunTaken: there is a run of that name.
            InputError: the folder cannot be made.
        """
        run = cls(storage, name)
        header = {
            "schema": SCHEMA,
            "run": name,
            "id": secrets.token_hex(8),  # tells apart two headers that are written at one moment
            "created_utc": now_utc(),
            "study": study.to_data(),
            "seed": study.search.seed,
            **environment,
            "data": dict(data),
        }
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            is_ours = _created(run.folder / "run.json", header)
        except StorageOutage:
            raise
        except OSError as error:
            raise InputError(
                f"{run.folder}: cannot write there ({error.strerror}); choose another folder with --storage"
            ) from error
        if not is_ours:
            raise RunTaken(
                f"run {name!r} was begun by another process at this moment: "
                f"continue that one with `facex-tune resume {name}`, or choose another name with --run"
            )
        return run

    @classmethod
    def open(cls, storage: Place, name: str) -> Run:
        """An existing run.

        Raises:
            InputError: there is none of that name, with the nearest ones.
        """
        run = cls(storage, name)
        if not run.exists():
            if isinstance(storage, Path) and not storage.is_dir():
                raise InputError(
                    f"no run named {name!r}: {storage} is no folder; name that of your runs with --storage"
                )
            others = cls.names(storage)
            raise InputError(
                f"no run named {name!r} in {storage}; {nearest(name, others) if others else 'there are none yet'}"
            )
        return run

    @staticmethod
    def names(storage: Place) -> list[str]:
        """The runs of a storage folder, oldest first."""
        age: dict[str, float] = {}
        for folder in storage.iterdir() if storage.is_dir() else ():
            try:
                age[folder.name] = files.modified(folder / "run.json")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                continue
            except PermissionError:  # told of that one alone, once it is read
                age[folder.name] = 0.0
        return sorted(age, key=lambda name: (age[name], name))

    def exists(self) -> bool:
        """Whether its header has been written."""
        return (self.folder / "run.json").is_file()

    @property
    def header(self) -> dict[str, Any]:
        """`run.json`: schema, resolved study, seed, packages, hardware, data manifests."""
        header: dict[str, Any] = self._header or read_json(self.folder / "run.json")
        if not isinstance(header, dict):
            raise DamagedRun(f"{self.folder}/run.json: no run's header; restore the file")
        if header.get("schema") != SCHEMA:
            packages = header.get("packages")
            by = packages.get("facex-tune", "") if isinstance(packages, dict) else ""
            refuse_newer(header.get("schema"), f"{self.folder}/run.json", by)
            raise DamagedRun(
                f"{self.folder}/run.json: schema {header.get('schema')!r}, which no facex_tune wrote; restore the file"
            )
        if self._objects is not None:
            self._header = header
        return header

    @property
    def study(self) -> Study:
        """The study as it was resolved when the run began."""
        try:
            return Study.from_data(self.header["study"])
        except (KeyError, TypeError, ValueError) as error:
            said = " ".join(str(error).split())[:200]
            raise DamagedRun(f"{self.folder}/run.json: its study is malformed ({said}); restore the file") from error

    def holder(self) -> str | None:
        """Who writes this run now, as a person would say it; None: nobody."""
        held = lease.holder(self.folder)
        return None if held is None else f"process {held['pid']} on {held['host']}"

    def events(self) -> Iterator[Event]:
        """Every event, in order. A torn last record of a segment is left out.

        Raises:
            InputError: a newer version wrote the run, which its header says before any record is looked at.
            DamagedRun: any other record is malformed, or some are missing.
        """
        if not self._is_ours and self.exists():
            self._is_ours = bool(self.header)
        if self._objects is not None:
            self._objects.refresh()
            yield from self._objects.events()
        elif not isinstance(self.folder, RemotePath):
            yield from segments.read_files(self.folder / "events")

    def history(self) -> History:
        """What the events add up to."""
        return fold(self.events())

    @contextmanager
    def log(self) -> Iterator[Log]:
        """The right to write, for as long as the block lasts.

        Raises:
            InputError: another process holds it.
        """
        log = Log(self)
        try:
            yield log
        finally:
            log.close()

    def final_folder(self, candidate: int, seed: int) -> Place:
        """`final/t0007-s0`: one retrained model."""
        return self.folder / "final" / f"t{candidate:04d}-s{seed}"

    @property
    def evaluation_folder(self) -> Place:
        return _made(self.folder / "evaluation")

    @property
    def validation_folder(self) -> Place:
        """The final models on the validation faces, and what was chosen by them."""
        return _made(self.folder / "validation")

    @property
    def report_folder(self) -> Place:
        return _made(self.folder / "report")

    def newest_fence(self) -> int:
        """The number of the newest writer that this run has had; 0 before the first."""
        if self._objects is not None:
            return lease.newest_fence(self.folder)
        return segments.newest(self.folder / "events", None)

    def trial_checkpoint(self, trial: int) -> Place:
        """The last checkpoint of one trial."""
        return self.folder / "trials" / f"t{trial:04d}" / "last.safetensors"

    def final_checkpoint(self, candidate: int, seed: int) -> Place:
        """The last checkpoint of a model in the making."""
        return self.final_folder(candidate, seed) / "last.safetensors"

    def factor_checkpoint(self, name: str, replicate: int) -> Place:
        """The last checkpoint of a configuration of the factor study in the making."""
        return self.folder / "factors" / f"{name}-s{replicate}" / "last.safetensors"

    def remove_checkpoints(self, trials: Iterable[int]) -> None:
        """Drops these trials' checkpoints, where there are any."""
        files.remove([self.trial_checkpoint(trial) for trial in trials])

    def save_model(self, candidate: int, seed: int, tensors: dict[str, Tensor], info: Mapping[str, Any]) -> None:
        """A finished model; its configuration is written last, so that a model that has one is whole."""
        folder = self.final_folder(candidate, seed)
        save_tensors(folder / "model.safetensors", tensors, {})
        write_json(folder / "config.json", info)

    def load_model_files(self, candidate: int, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and `config.json` of a finished model."""
        folder = self.final_folder(candidate, seed)
        tensors, _ = load_tensors(folder / "model.safetensors")
        info: dict[str, Any] = read_json(folder / "config.json")
        return tensors, info


class Log:
    """The one writer of a run's events, which tells its listeners of each after it is durable."""

    def __init__(self, run: Run) -> None:
        self.listeners: list[Callable[[Event], None]] = []
        self._lock = threading.Lock()
        newest = segments.newest(run.folder / "events", run._objects)
        self._lease = Lease(run.folder, run.name, newest)
        self.fence = self._lease.fence
        self._writer: FileSegment | ObjectSegments | None = None
        try:
            self._before = max((event["seq"] for event in run.events()), default=0)
            if not self._before:
                _is_new(run)
            self._writer = self._segment(run)
            self._lease.keep()
        except FileExistsError as error:  # of two that took the lease at one moment, one gets its segment
            self.close()
            raise InputError(f"run {run.name!r} was taken by another process at this moment; wait for it") from error
        except BaseException:
            self.close()
            raise

    def _segment(self, run: Run) -> FileSegment | ObjectSegments:
        if run._objects is None:
            assert not isinstance(run.folder, RemotePath)
            return FileSegment(run.folder / "events", self._lease.fence)
        claim = segments.claim(self._before, now_utc(), self._lease.holder)
        return ObjectSegments(run._objects, claim, self._lease.check)

    @property
    def is_fenced(self) -> bool:
        """Whether the store itself keeps a second writer out, however late it comes."""
        return isinstance(self._writer, FileSegment) or (self._writer is not None and self._writer.is_exclusive)

    def append(self, type: str, **fields: Any) -> Event:
        """Writes one event durably, then tells the listeners.

        Raises:
            LeaseLost: another process writes this run now.
            InputError: no space left.
            StorageOutage: the store has not answered for too long; nobody was told of the event.
        """
        with self._lock:
            assert self._writer is not None
            if isinstance(self._writer, FileSegment):
                self._lease.check()
            self._writer.settle()
            seq = self._before + self._writer.count + 1
            event: Event = {"v": SCHEMA, "seq": seq, "time_utc": now_utc(), "type": type, **fields}
            self._writer.append(segments.encoded(event))
        self._tell(event)
        return event

    def tell(self, type: str, **fields: Any) -> None:
        """Tells the listeners alone: what a person watches and nobody replays."""
        self._tell({"type": type, "time_utc": now_utc(), **fields})

    def close(self) -> None:
        """Gives the lease back."""
        try:
            if self._writer is not None:
                self._writer.close()
        finally:  # on a full disk closing may fail, and the run must not stay locked
            self._lease.release()

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)


def now_utc() -> str:
    """This moment, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _is_new(run: Run) -> None:
    """A log that is empty although trials have been trained was lost; starting again would hide it.

    Raises:
        DamagedRun: so it is.
    """
    if any(True for _ in (run.folder / "trials").glob("t*")):
        raise DamagedRun(
            f"{run.folder}/events: holds no event, although {run.folder}/trials holds checkpoints; restore the log, "
            f"or start a new run under another name"
        )


def _created(path: Place, data: Mapping[str, Any]) -> bool:
    """Writes JSON where nothing is yet, durable before this returns, whole or not at all; False: something is there.

    Of two writers at one moment one succeeds. Where the file system offers no such step (see `RemotePath.create`;
    disks without hard links), the second is refused only if it comes after the first has written.
    """
    content = (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()
    try:
        if isinstance(path, RemotePath):
            path.create(content)
        else:
            _create_file(path, content)
    except FileExistsError:
        return False
    return True


def _create_file(path: Path, content: bytes) -> None:
    """Raises FileExistsError where something is there."""
    whole = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")  # as `facex-tune gc` knows what was broken off
    try:
        write_bytes(whole, content)
        _link(whole, path)
        sync_folder(path.parent)
    finally:
        whole.unlink(missing_ok=True)


def _link(whole: Path, path: Path) -> None:
    """Gives a file its final name too, unless that is taken: FileExistsError."""
    try:
        os.link(whole, path)
    except FileExistsError:
        if not path.samefile(whole):  # the same: NFS did it, and its answer was lost
            raise
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        os.replace(whole, path)


def _made(folder: Place) -> Place:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
