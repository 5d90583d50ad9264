"""The runs of a service: one process each, so many at once, the others waiting in the order in which they came.

A process is the same `facex-tune resume` that a person would type; what is known of a run is read from its folder, so a
service that was killed and started again knows the same.
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
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from facex_tune.errors import InputError
from facex_tune.pipeline.begin import begin
from facex_tune.pipeline.options import Options
from facex_tune.runs.store import Run
from facex_tune.study import Study

CONSOLE = "console.log"
MOST_WAITING = 100
ENDS_WITHIN_S = 60.0
_logger = logging.getLogger(__name__)


@dataclass
class Manager:
    """Begins, starts, stops and resumes runs.

    Args:
        options: storage, data, device and cluster of every run.
        at_once: how many run beside each other.
    """

    options: Options
    at_once: int = 1
    _going: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _waiting: deque[str] = field(default_factory=deque)
    _stopping: set[str] = field(default_factory=set)  # told to end; those that have ended since may stand here too
    _not_started: dict[str, str] = field(default_factory=dict)  # run -> why its process could not be started
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _closed: bool = False
    _scratch: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="facex-tune-serve-")))

    def submit(self, study: Study, name: str | None) -> Run:
        """A new run of the study, started when there is room; where `name` exists with this study, that one resumed.

        Raises:
            InputError: the study cannot run here, the name has another study, or too many wait.
        """
        run = begin(study, name, self.options)
        self.resume(run.name)
        return run

    def resume(self, name: str) -> None:
        """Lets a run go on when there is room; nothing where it goes or waits already. One that is being stopped waits
        for its own end.

        Raises:
            InputError: no such run, another program writes it, too many wait, or it could not be started.
        """
        run = self.open(name)
        holder = None if self._is_going(name) else run.holder()  # before the lock: a store may be slow to answer
        with self._lock:
            going = self._is_going(name)
            if name in self._waiting or (going and name not in self._stopping):
                return
            if holder and not going:
                raise InputError(f"run {name!r} is being written by {holder}: stop it there first")
            if len(self._waiting) >= MOST_WAITING:
                raise InputError(f"{MOST_WAITING} runs are waiting already: stop one, or submit this one later")
            self._not_started.pop(name, None)
            self._waiting.append(name)
            self._start_what_fits()
            if name in self._not_started:
                raise InputError(self._not_started[name])

    def stop(self, name: str) -> None:
        """Ends a run so that it can be resumed: it saves and leaves. One that waits no longer does.

        Raises:
            InputError: no such run, or it is not going here.
        """
        run = self.open(name)
        with self._lock:
            if name in self._waiting:
                self._waiting.remove(name)
                return
            if self._is_going(name):
                if name not in self._stopping:  # a second signal would end it before it has saved
                    self._stopping.add(name)
                    self._going[name].send_signal(signal.SIGTERM)
                return
        if holder := run.holder():
            raise InputError(f"run {name!r} is being written by {holder}: stop it there")
        raise InputError(f"run {name!r} is not going")

    def place(self, name: str) -> str:
        """Where a run stands here: "going", "waiting", "elsewhere" (another program writes it) or "idle"."""
        with self._lock:
            if name in self._waiting:  # perhaps for its own end
                return "waiting"
            if self._is_going(name):
                return "going"
        return "elsewhere" if self.open(name).holder() else "idle"

    def open(self, name: str) -> Run:
        """A run of the service's storage.

        Raises:
            InputError: no such run.
        """
        return Run.open(self.options.storage, name)

    def close(self) -> None:
        """Ends every process of ours, each with time to save."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            going = list(self._going.values())
        for process in going:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in going:
            try:
                process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _is_going(self, name: str) -> bool:
        process = self._going.get(name)
        return process is not None and process.poll() is None

    def _start_what_fits(self) -> None:
        with self._lock:
            while not self._closed and sum(map(self._is_going, list(self._going))) < self.at_once:
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
        except OSError as error:  # its folder was deleted, the disk is full, no process can be made
            reason = f"{error.filename or sys.executable}: {error.strerror}"
            self._not_started[name] = f"run {name!r} could not be started ({reason}); mend that, then resume it"
            _logger.warning(self._not_started[name])
            return
        self._going[name] = process
        threading.Thread(target=self._after, args=(process,), name=f"facex-{name}", daemon=True).start()

    def _after(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._start_what_fits()

    def _process(self, name: str) -> subprocess.Popen[bytes]:
        options = self.options
        words = [sys.executable, "-m", "facex_tune", "resume", name]
        words += ["--storage", str(options.storage), "--data", str(options.data_dir)]
        words += [] if options.device is None else ["--device", options.device]
        words += [] if options.address is None else ["--address", options.address]
        with self.console(name).open("ab") as console:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=_without_token(),
                start_new_session=True,  # Ctrl-C at the service is the service's to pass on
            )

    def console(self, name: str) -> Path:
        """What a run's process printed here: beside the run, or, where that is behind a URL, on this host."""
        storage = self.options.storage
        return storage / name / CONSOLE if isinstance(storage, Path) else self._scratch / f"{name}.{CONSOLE}"

    def not_started(self, name: str) -> str:
        """Why a run's process could not be started last time, as a line of its console; "" where it could."""
        with self._lock:
            return f"error: {self._not_started[name]}\n" if name in self._not_started else ""


def _without_token() -> dict[str, str]:
    from facex_tune.service.access import TOKEN

    return {name: value for name, value in os.environ.items() if name != TOKEN}
