"""Processes of this program's own beside it, for work that one of Python's threads would keep from the others."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # each is a core's work
_SERVE = "from facex_tune.storage.helpers import serve; serve()"


class Helpers:
    """A context in which calls are made by processes beside this one.

    A helper is asked by pickles through its standard input and output: what it gets and gives are calls of this
    package's own functions. Where a helper cannot be had, or ends, the call is made here.

    Args:
        n: how many; 0 makes the calls here, when they are asked for.
    """

    def __init__(self, n: int) -> None:
        self.n = n if sys.executable else 0
        self._own = threading.local()
        self._started: list[subprocess.Popen[bytes]] = []
        self._pool = ThreadPoolExecutor(self.n, "helper") if self.n else None

    def __enter__(self) -> Helpers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for process in self._started:
            process.communicate()  # its input ends, and so does it

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Asks for a call. What it raises is raised by the future."""
        if self._pool is not None:
            return self._pool.submit(self._asked, function, args)
        done: Future[Any] = Future()
        try:
            done.set_result(function(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def _asked(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """In one of the pool's threads, each of which has a helper of its own."""
        try:
            process = self._helper()
            if process.stdin is None or process.stdout is None:
                raise OSError("no pipes")
            pickle.dump((function, args), process.stdin)
            process.stdin.flush()
            is_done, found = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.PickleError, AttributeError, ImportError):
            return function(*args)
        if not is_done:
            raise found
        return found

    def _helper(self) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] | None = getattr(self._own, "process", None)
        if process is None or process.poll() is not None:
            places = os.pathsep.join(path for path in sys.path if path)
            process = subprocess.Popen(
                [sys.executable, "-c", _SERVE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": places, **ONE_THREAD},
            )
            self._own.process = process
            self._started.append(process)
        return process


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serve() -> None:
    """What a helper does: answers calls until its input ends, which it does with the process that asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to it, too, and is the other's to answer
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    while True:
        try:
            function, args = pickle.load(asked)
        except EOFError:
            return
        try:
            answer = True, function(*args)
        except Exception as error:
            answer = False, error
        try:
            pickle.dump(answer, answers)
            answers.flush()
        except BrokenPipeError:  # nobody asks any more
            os._exit(1)
