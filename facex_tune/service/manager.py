"""The runs of a service: one process each, so many at once, the others waiting in the order in which they came.

A process is the same `facex-tune resume` that a person would type; what is known of a run is read from its folder, and
who waits or goes is written beside the runs: a service that was ended, or killed, and started again knows the same, and
goes on with them.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from facex_tune.errors import InputError
from facex_tune.pipeline.begin import begin
from facex_tune.pipeline.options import Options
from facex_tune.runs import overview
from facex_tune.runs.store import Run
from facex_tune.service import console, inside
from facex_tune.service.queue import Queue
from facex_tune.storage import regular
from facex_tune.storage.files import DamagedRun
from facex_tune.study import Study

MOST_WAITING = 100
ENDS_WITHIN_S = 60.0
HELD_ASKED_EVERY_S = 5.0
_logger = logging.getLogger(__name__)


class Full(InputError):
    """There is no room now; there may be later."""


@dataclass
class Manager:
    """Begins, starts, stops and resumes runs.

    Args:
        options: storage, data, device and cluster of every run.
        at_once: how many run beside each other.
    """

    options: Options
    at_once: int = 1
    actions: int = field(default=0, init=False)  # so many times what goes or waits has changed
    killed: list[str] = field(default_factory=list, init=False)  # by `close`, which would not wait longer
    _going: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _waiting: deque[str] = field(default_factory=deque)
    _stopping: set[str] = field(default_factory=set)  # told to end; those that have ended since may stand here too
    _not_started: dict[str, str] = field(default_factory=dict)  # run -> why its process could not be started
    _held: list[str] = field(default_factory=list)  # of the service before, while their processes outlive it
    _reserved: int = 0  # places of the queue for runs that are being begun
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _closing: threading.Event = field(default_factory=threading.Event)
    _scratch: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="facex-tune-serve-")))

    def __post_init__(self) -> None:
        self._queue = Queue(self.options.storage)

    def recover(self) -> None:
        """Goes on with the runs of the service before, in their order. One whose process is still there is waited for.

        Raises:
            DamagedRun, StorageOutage: the queue cannot be read, and would be overwritten.
        """
        for name in self._queue.read():
            try:
                if overview.of_run(self.open(name), top=0)["state"] == "finished":
                    continue
                if self.open(name).holder():
                    self._held.append(name)
                    threading.Thread(target=self._wait_for_end, args=(name,), daemon=True).start()
                else:
                    self.resume(name)
            except (InputError, DamagedRun) as error:
                _logger.warning("run %r was waiting and is left out: %s", name, error)
        self._keep()

    def _wait_for_end(self, name: str) -> None:
        """A run of the service before, which somebody still writes: its own process, or one on a host that is gone."""
        try:
            while self.open(name).holder():
                if self._closing.wait(HELD_ASKED_EVERY_S):
                    return  # it stays in the queue
            if overview.of_run(self.open(name), top=0)["state"] != "finished":
                self.resume(name)
        except (InputError, DamagedRun, OSError) as error:
            _logger.warning("run %r was waiting and is left out: %s", name, error)
        with self._lock:
            self._held.remove(name)
        self._keep()

    def _keep(self) -> None:
        self.actions += 1
        self._queue.keep(self._names)

    def _names(self) -> list[str] | None:
        """Who goes or waits. When the service ends that stays as it was: the next one goes on with them."""
        with self._lock:
            if self._closing.is_set():
                return None
            going = [name for name in self._going if self._is_going(name) and name not in self._stopping]
            return list(dict.fromkeys([*self._held, *going, *self._waiting]))

    def submit(self, study: Study, name: str | None) -> Run:
        """A new run of the study, started when there is room; where `name` exists with this study, that one resumed.

        Raises:
            Full: too many wait; nothing was begun then.
            InputError: the study cannot run here, or the name has another study.
        """
        with self._place_kept(name):
            run = begin(study, name, self.options)
            self._resume(run.name)
        return run

    @contextmanager
    def _place_kept(self, name: str | None) -> Iterator[None]:
        """A place in the queue, ours as long as the block lasts; one that goes or waits already needs none."""
        with self._lock:
            if self._closing.is_set():
                raise Full("this service is ending; ask again when it is back")
            is_here = name is not None and (name in self._waiting or self._is_going(name))
            if not is_here and len(self._waiting) + self._reserved >= MOST_WAITING:
                raise Full(f"{MOST_WAITING} runs are waiting already: stop one, or submit this one later")
            self._reserved += 1
        try:
            yield
        finally:
            with self._lock:
                self._reserved -= 1

    def resume(self, name: str) -> None:
        """Lets a run go on when there is room; nothing where it goes or waits already. One that is being stopped waits
        for its own end.

        Raises:
            Full: too many wait.
            InputError: no such run, another program writes it, or it could not be started.
        """
        with self._place_kept(name):
            self._resume(name)

    def _resume(self, name: str) -> None:
        run = self.open(name)
        holder = None if self._is_going(name) else run.holder()  # before the lock: a store may be slow to answer
        with self._lock:
            going = self._is_going(name)
            if name in self._waiting or (going and name not in self._stopping):
                return
            if holder and not going:
                raise InputError(f"run {name!r} is being written by {holder}: stop it there first")
            self._not_started.pop(name, None)
            self._waiting.append(name)
            self._start_what_fits()
            not_started = self._not_started.get(name)
        self._keep()
        if not_started:
            raise InputError(not_started)

    def stop(self, name: str) -> None:
        """Ends a run so that it can be resumed: it saves and leaves. One that waits no longer does.

        Raises:
            InputError: no such run, or it is not going here.
        """
        run = self.open(name)
        if self._stop(name):
            self._keep()
            return
        if holder := run.holder():
            raise InputError(f"run {name!r} is being written by {holder}: stop it there")
        raise InputError(f"run {name!r} is not going")

    def _stop(self, name: str) -> bool:
        """Whether the run went or waited here."""
        with self._lock:
            if name in self._waiting:
                self._waiting.remove(name)
                return True
            going = self._is_going(name)
            if going and name not in self._stopping:  # a second signal would end it before it has saved
                self._stopping.add(name)
                self._going[name].send_signal(signal.SIGTERM)
            return going

    def place(self, name: str, is_held: bool | None = None) -> str:
        """Where a run stands here: "going", "waiting", "elsewhere" (another program writes it) or "idle".

        Args:
            is_held: whether somebody writes it, where that is known; None looks.
        """
        with self._lock:
            if name in self._waiting:  # perhaps for its own end
                return "waiting"
            if self._is_going(name):
                return "going"
        held = self.open(name).holder() is not None if is_held is None else is_held
        return "elsewhere" if held else "idle"

    def open(self, name: str) -> Run:
        """A run of the service's storage.

        Raises:
            InputError: no such run.
            DamagedRun: a link leads out of it.
        """
        run = Run.open(self.options.storage, name)
        inside.check(self.options.storage, name)
        return run

    @property
    def is_ending(self) -> bool:
        """Whether nothing is started any more."""
        return self._closing.is_set()

    def n_waiting(self) -> int:
        """How many runs wait for their turn."""
        return len(self._waiting)

    def n_going(self) -> int:
        """How many runs' processes go here."""
        return len(self.going())

    def going(self) -> list[str]:
        """The runs whose processes go here."""
        return [name for name in list(self._going) if self._is_going(name)]

    def end(self) -> None:
        """Tells every process of ours to save and end, and starts no other; the queue keeps them for the next time."""
        with self._lock:
            self._closing.set()
            self._waiting.clear()
            for name, process in self._going.items():
                if process.poll() is None and name not in self._stopping:  # a second signal would break off its saving
                    self._stopping.add(name)
                    process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """As `end`, and waits until they have ended; who takes too long is killed, and stands in `killed`."""
        self.end()
        ends = time.monotonic() + ENDS_WITHIN_S
        for name, process in list(self._going.items()):
            try:
                process.wait(max(0.0, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                self.killed.append(name)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _is_going(self, name: str) -> bool:
        process = self._going.get(name)
        return process is not None and process.poll() is None

    def _start_what_fits(self) -> None:
        with self._lock:
            while not self._closing.is_set() and self.n_going() < self.at_once:
                name = next((name for name in self._waiting if not self._is_going(name)), None)
                if name is None:
                    return
                self._waiting.remove(name)
                self._start(name)

    def _start(self, name: str) -> None:
        """A run's process, or the reason why there is none, so that one run's fault does not keep the others waiting.
        No store is asked here, because the lock is held.
        """
        self._stopping.discard(name)
        try:
            process = self._process(name)
        except (OSError, DamagedRun) as error:  # its folder was deleted, the disk is full, no process can be made
            reason = str(error)
            if isinstance(error, OSError):
                reason = f"{error.filename or sys.executable}: {error.strerror}"
            self._not_started[name] = f"run {name!r} could not be started ({reason}); mend that, then resume it"
            _logger.warning(self._not_started[name])
            return
        self._going[name] = process
        threading.Thread(target=self._after, args=(name, process), name=f"facex-{name}", daemon=True).start()

    def _after(self, name: str, process: subprocess.Popen[bytes]) -> None:
        while _goes_on(process):
            console.shorten(self.console(name))
        self._start_what_fits()
        self._keep()

    def _process(self, name: str) -> subprocess.Popen[bytes]:
        options = self.options
        words = [sys.executable, "-m", "facex_tune", "resume", name]
        words += ["--storage", str(options.storage), "--data", str(options.data_dir)]
        words += [] if options.device is None else ["--device", options.device]
        words += [] if options.address is None else ["--address", options.address]
        console_file = self.console(name)
        console.shorten(console_file)
        with regular.appended(console_file.parent, console_file.name) as printed:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                env=_without_token(),
                start_new_session=True,  # Ctrl-C at the service is the service's to pass on
            )

    def console(self, name: str) -> Path:
        """What a run's process printed here: beside the run, or, where that is behind a URL, on this host."""
        storage = self.options.storage
        return storage / name / console.FILE if isinstance(storage, Path) else self._scratch / f"{name}.{console.FILE}"

    def not_started(self, name: str) -> str:
        """Why a run's process could not be started last time, as a line of its console; "" where it could."""
        with self._lock:
            return f"error: {self._not_started[name]}\n" if name in self._not_started else ""


def _goes_on(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(console.LOOKED_EVERY_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _without_token() -> dict[str, str]:
    from facex_tune.service.access import TOKEN

    return {name: value for name, value in os.environ.items() if name not in (TOKEN, f"{TOKEN}_FILE")}
