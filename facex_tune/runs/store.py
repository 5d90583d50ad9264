"""The run folder: the only owner of its paths and of its event log. Nothing here is a pickle.

It lies in a folder of this machine or behind a URL; `segments.py` knows how the log is kept in either.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facex_tune.errors import InputError, StorageOutage, nearest, one_line
from facex_tune.runs import events, lease, segments
from facex_tune.runs.events import BudgetRaised, Record
from facex_tune.runs.events import Event as Event
from facex_tune.runs.history import History
from facex_tune.runs.lease import Lease
from facex_tune.runs.names import model_label, trial_label
from facex_tune.runs.segments import FileReader, FileSegment, ObjectReader, ObjectSegments, refuse_newer
from facex_tune.storage import files, regular
from facex_tune.storage.files import (
    DamagedRun,
    Place,
    load_tensors,
    read_json,
    save_tensors,
    sync_folder,
    write_bytes,
    write_json,
)
from facex_tune.storage.remote_path import RemotePath
from facex_tune.study import Budget, Study

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1  # of run.json
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)  # as FAT and some network mounts say it


class RunTaken(InputError):
    """The name belongs to another run, which may have been begun a moment ago."""


class Run:
    """A run folder: its paths, its header and its event log.

    Args:
        storage: the folder of all runs, or its URL.
        name: the run's own folder in it.
    """

    def __init__(self, storage: Place | str, name: str) -> None:
        self.storage, self.name = files.place(storage), name
        self.folder = self.storage / name
        self._header: dict[str, Any] | None = None  # a URL's is fetched once
        self._is_ours = False  # its header was read, and is of our schema
        events = self.folder / "events"
        self._objects = ObjectReader(events) if isinstance(events, RemotePath) else None
        self._files = FileReader(events) if isinstance(events, Path) else None
        self._written: list[Event] | None = None  # while a log of ours is open: all, and nobody else adds to them
        self._history: History | None = None  # once somebody has asked for it
        self._folded: list[Event] = []  # what it has taken in

    @property
    def words(self) -> str:
        """What names it on a command line given from here: its name, and `--storage` where that is not `runs`."""
        elsewhere = [] if self.storage == files.absolute("runs") else ["--storage", str(self.storage)]
        return shlex.join([self.name, *elsewhere])

    @classmethod
    def create(
        cls, storage: Place, name: str, study: Study, *, data: Mapping[str, Any], environment: Mapping[str, Any]
    ) -> Run:
        """Creates a run folder with its header. Where several ask for one name at the same moment, one gets it.

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
                f"continue that one with `facex-tune resume {run.words}`, or choose another name with --run"
            )
        return run

    @classmethod
    def open(cls, storage: Place, name: str) -> Run:
        """Opens a run that exists.

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
        """Lists the runs of a storage folder, the oldest first."""
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
        """Tells whether the run's header has been written."""
        return (self.folder / "run.json").is_file()

    @property
    def header(self) -> dict[str, Any]:
        """`run.json`: schema, resolved study, seed, packages, hardware, data manifests."""
        header: dict[str, Any] = self._header or regular.read_json(self.folder / "run.json")
        if not isinstance(header, dict):
            raise DamagedRun(f"{self.folder}/run.json: no run's header; restore the file")
        if header.get("schema") != SCHEMA:
            packages = header.get("packages")
            by = packages.get("facex-tune", "") if isinstance(packages, dict) else ""
            refuse_newer(header.get("schema"), SCHEMA, f"{self.folder}/run.json", by)
            raise DamagedRun(
                f"{self.folder}/run.json: schema {header.get('schema')!r}, which no facex_tune wrote; restore the file"
            )
        if self._objects is not None:
            self._header = header
        return header

    @property
    def study(self) -> Study:
        """The study of the run, with the budget that it has been raised to."""
        begun = self.study_begun
        raised = [event["budget"] for event in self.events() if event["type"] == BudgetRaised.TYPE]  # no fold for it
        return begun.model_copy(update={"budget": Budget(**raised[-1])}) if raised else begun

    @property
    def study_begun(self) -> Study:
        """The study as it was resolved when the run began."""
        try:
            return Study.from_data(self.header["study"])
        except (KeyError, TypeError, ValueError) as error:
            said = one_line(error, 200)
            raise DamagedRun(f"{self.folder}/run.json: its study is malformed ({said}); restore the file") from error

    def holder(self) -> str | None:
        """Says who writes this run now, in words for a person; None where nobody does."""
        held = lease.holder(self.folder)
        return None if held is None else f"process {held['pid']} on {held['host']}"

    def events(self) -> list[Event]:
        """Reads every event, in order. A torn last record of a segment is left out. So are events of types that this
        version does not know, with one `Remark`.

        Raises:
            InputError: a newer version wrote the run, which its header says before any record is looked at.
            DamagedRun: any other record is malformed, or some are missing.
        """
        return events.known(self._all_events(), self.folder / "events")

    def _all_events(self) -> list[Event]:
        if self._written is not None:
            return self._written
        if not self._is_ours and self.exists():
            self._is_ours = bool(self.header)
        if self._objects is not None:
            self._objects.refresh()
            return self._objects.events()
        assert self._files is not None
        return self._files.events()

    def history(self) -> History:
        """Gives what the events add up to by now. Each is folded in once: the same history goes on with what has come
        since, and while `log` is open with each event that is appended.

        Raises:
            InputError, DamagedRun: see `events`.
        """
        now = self.events()
        if self._history is None or self._folded != now[: len(self._folded)]:  # a replaced writer had written late
            self._history, self._folded = History(), []
        for event in now[len(self._folded) :]:
            self._history.see(event)
            self._folded.append(event)
        return self._history

    def _writes(self, written: list[Event] | None) -> None:
        """A log of ours begins to write after these events, or (None) has ended."""
        self._written = written
        if written is not None and self._history is not None:
            self.history()  # takes in what others have written since

    def _has_written(self, event: Event) -> None:
        """A log of ours has written this event."""
        if self._written is not None:
            self._written.append(event)
        if self._history is not None:
            self._history.see(event)
            self._folded.append(event)

    @contextmanager
    def log(self) -> Iterator[Log]:
        """Holds the right to write for as long as the block lasts.

        Raises:
            InputError: another process holds it.
        """
        log = Log(self)
        try:
            yield log
        finally:
            log.close()

    def final_folder(self, candidate: int, seed: int, on: str | None = None) -> Place:
        """The folder of one retrained model, such as `final/t0007-s0`, or `final/t0007-all`."""
        return self.folder / "final" / model_label(candidate, seed, on)

    @property
    def evaluation_folder(self) -> Place:
        return _made(self.folder / "evaluation")

    @property
    def validation_folder(self) -> Place:
        """The folder of the final models' scores on the validation faces, and of what was chosen by them."""
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
        """Where the last checkpoint of a trial lies."""
        return self.folder / "trials" / trial_label(trial) / "last.safetensors"

    def final_checkpoint(self, candidate: int, seed: int, on: str | None = None) -> Place:
        """Where the last checkpoint of a model in the making lies."""
        return self.final_folder(candidate, seed, on) / "last.safetensors"

    def factor_checkpoint(self, name: str, replicate: int) -> Place:
        """Where the last checkpoint of a configuration of the factor study in the making lies."""
        return self.folder / "factors" / f"{name}-s{replicate}" / "last.safetensors"

    def remove_checkpoints(self, trials: Iterable[int]) -> None:
        """Deletes the checkpoints of these trials, where there are any."""
        files.remove([self.trial_checkpoint(trial) for trial in trials])

    def save_model(
        self, candidate: int, seed: int, tensors: dict[str, Tensor], info: Mapping[str, Any], on: str | None = None
    ) -> None:
        """Saves a finished model. Its configuration is written last, so that a model that has one is whole."""
        folder = self.final_folder(candidate, seed, on)
        save_tensors(folder / "model.safetensors", tensors, {})
        write_json(folder / "config.json", info)

    def load_model_files(
        self, candidate: int, seed: int, on: str | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Loads the tensors and `config.json` of a finished model."""
        folder = self.final_folder(candidate, seed, on)
        tensors, _ = load_tensors(folder / "model.safetensors")
        info: dict[str, Any] = read_json(folder / "config.json")
        return tensors, info


class Log:
    """The one writer of a run's events, which tells its listeners of each after it is durable."""

    def __init__(self, run: Run) -> None:
        self.listeners: list[Callable[[Event], None]] = []
        self.run = run
        self._undecided: Event | None = None  # may be written: its writing was broken off, or the store was slow
        self._lock = threading.Lock()
        newest = segments.newest(run.folder / "events", run._objects)
        self._lease = Lease(run.folder, run.name, newest)
        self.fence = self._lease.fence
        self._writer: FileSegment | ObjectSegments | None = None
        try:
            before = list(run._all_events())
            self._before = before[-1]["seq"] if before else 0
            if not self._before:
                _is_new(run)
            self._writer = self._segment(run)
            self._lease.keep()
            run._writes(before)
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

    def append(self, record: Record) -> Event:
        """Writes one event durably, then tells the listeners.

        Returns:
            the event as it is written.

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
            self._decide(self._writer)
            seq = self._before + self._writer.count + 1
            event = events.written(record, seq, now_utc())
            line = segments.encoded(event)
            self._undecided = event
            self._writer.append(line)
            self._decide(self._writer)
        self._tell(event)
        return event

    def _decide(self, writer: FileSegment | ObjectSegments) -> None:
        """Tells the run of the last event, if it came to be written."""
        event, self._undecided = self._undecided, None
        if event is not None and event["seq"] <= self._before + writer.count:
            self.run._has_written(event)

    def tell(self, record: Record) -> None:
        """Tells the listeners alone something that a person watches and that no replay needs."""
        self._tell(events.told(record, now_utc()))

    def close(self) -> None:
        """Gives the lease back."""
        try:
            self.run._writes(None)
            if self._writer is not None:
                self._writer.close()
        finally:  # on a full disk closing may fail, and the run must not stay locked
            self._lease.release()

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)


def now_utc() -> str:
    """Gives this moment in ISO 8601, with milliseconds."""
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
