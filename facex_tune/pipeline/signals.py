"""SIGINT and SIGTERM as an exception in the main thread, and an end within seconds even where that thread cannot take
it; a second signal ends the process at once.

One signal may come twice: `timeout`, for one, sends it to the process and then to the process's group. The same again
within `DOUBLED_S` is no second one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from facex_tune.errors import Interrupted

GRACE_S = 7.0  # of the ten that a caller may expect
LAST_WORDS_S = 1.0
DOUBLED_S = 0.3  # whoever presses a key twice takes about as long; a third press ends the process
EXIT_CODE = 75
_CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Handles signals, and remembers those that have come.

    Attributes:
        last_words: called before the process is ended for being too slow; None where nothing is left to say.
    """

    def __init__(self, run: str, ends_process: bool) -> None:
        self.raised: Interrupted | None = None
        self.last_words: Callable[[Interrupted], object] | None = None
        self._run, self._ends_process = run, ends_process
        self._working = threading.get_ident()
        self._seen, self._left = threading.Event(), False
        self._handled, self._handled_s = 0, 0.0  # the first signal's number, and when Python met it
        # The C half of Python's signal handling writes to it at once, also while the main thread is in native code.
        self._numbers, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal in Python, which waits for the main thread."""
        for caught in _CAUGHT:  # not SIG_DFL: Python grumbles at a signal that came already and finds no handler
            signal.signal(caught, self._end_at_once)
        self._handled, self._handled_s = number, time.monotonic()
        self.raised = self._interrupted(number)
        raise self.raised

    def _end_at_once(self, number: int, frame: FrameType | None) -> None:
        if number == self._handled and time.monotonic() - self._handled_s < DOUBLED_S:
            return
        if self._ends_process:
            os._exit(128 + number)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def end(self, error: Interrupted) -> None:
        """From another thread: what went wrong leaves no time to unwind, and what the main thread waits for will not
        come. The process ends after its last words; where it is not ours to end, the thread that works is woken.
        """
        self._first = error
        if self._ends_process:
            self._end_late()
        self.raised = self.raised or error
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._working), ctypes.py_object(SystemExit))

    def behind(self, error: BaseException) -> Interrupted | None:
        """The interruption that an error comes from: a compiled library may wrap it in one of its own, and another
        handler may have turned the signal into SystemExit.
        """
        if self.raised is None and isinstance(error, SystemExit) and self._seen.wait(LAST_WORDS_S):
            self.raised = self._first
        return self.raised

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handles signals within the block. The end within seconds holds beyond it: what a process does on its way out,
        such as ending Ray's processes, takes its time too.
        """
        before = {caught: signal.signal(caught, self.handle) for caught in _CAUGHT}
        wakeup_before = signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        watch = threading.Thread(target=self._watch, name="facex-signals", daemon=True)
        watch.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup_before)
            self._left = True
            if not self._ends_process or (self.raised is None and not self._seen.is_set()):
                for caught, handler in before.items():
                    signal.signal(caught, handler)
                self._wakeup.close()
                watch.join()
                self._numbers.close()

    def _watch(self) -> None:
        number = self._next()
        if number is None:
            return
        self._first = self._interrupted(number)
        self._seen.set()
        if not self._ends_process:
            return
        came_s = time.monotonic()
        try:
            second = self._next(came_s + GRACE_S)
            while second == number and time.monotonic() - came_s < DOUBLED_S:
                second = self._next(came_s + GRACE_S)
        except TimeoutError:
            self._end_late()
        if second is not None:
            os._exit(128 + second)

    def _next(self, until_s: float | None = None) -> int | None:
        """The next signal's number; None when the block is over.

        Args:
            until_s: by the monotonic clock; None: for ever.

        Raises:
            TimeoutError: none came until then.
        """
        while True:
            if until_s is not None:
                self._numbers.settimeout(max(until_s - time.monotonic(), 0.001))
            data = self._numbers.recv(1)
            if not data:
                return None
            if data[0] in _CAUGHT:
                return data[0]

    def _end_late(self) -> NoReturn:
        if not self._left:
            words = threading.Thread(target=self._say, daemon=True)
            words.start()
            words.join(LAST_WORDS_S)
            print(self._first, file=sys.stderr, flush=True)
        os._exit(EXIT_CODE)

    def _say(self) -> None:
        if self.last_words is not None:
            with suppress(Exception):
                self.last_words(self._first)

    def _interrupted(self, number: int) -> Interrupted:
        return Interrupted(self._run, signal.Signals(number).name)


@contextmanager
def raising_interrupted(run: str, *, ends_process: bool = False) -> Iterator[Signals]:
    """Within the block, the first signal raises `Interrupted`; outside the main thread nothing changes.

    Args:
        ends_process: end the process itself, with exit code 75, if the block is not left within seconds of the signal;
            for a process that is ours alone.
    """
    signals = Signals(run, ends_process)
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    with signals.installed():
        try:
            yield signals
            if signals.raised is not None:
                raise signals.raised  # swallowed on its way
        except (Exception, SystemExit) as error:
            interrupted = signals.behind(error)
            if interrupted is None:
                raise
            raise interrupted from error
