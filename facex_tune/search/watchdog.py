"""Ends a worker's own process when its training stands still, so that the trial can go on in another.

It watches from a thread of that process, so it works while the driver is busy; behind it stands the interpreter's own
timer, which needs no lock of Python's and so ends a process whose native code holds it.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

USUAL_EPOCHS = 10  # without one batch: hung
FIRST_EPOCH_FACTOR = 6  # of the patience, while nobody knows how long an epoch usually takes
BACKSTOP_S = 60.0  # after which the interpreter's timer ends a process that could not say its last words
STOPPED_S = (
    2.0  # later than that, the watch itself has been asleep: the whole process was stopped, and not its training
)
EXIT_CODE = 76


class Watchdog:
    """Watches one epoch after another.

    Args:
        patience_s: no trial is taken for hung that has done a batch within it.
        last_words: takes one line, what hung and where, just before the process ends.
    """

    def __init__(self, patience_s: float, last_words: Callable[[str], object]) -> None:
        self.patience_s, self._last_words = patience_s, last_words
        self._deadline = self._armed = self._limit_s = 0.0

    @contextmanager
    def watching(self, usual_s: float | None) -> Iterator[None]:
        """Ends the process if no `beat` comes for ten times `usual_s`, and the patience.

        Where `usual_s`, an epoch's, is None, as in a first one, it is ended if none comes for six times the patience.
        """
        if usual_s is None:
            self._limit_s = FIRST_EPOCH_FACTOR * self.patience_s
        else:
            self._limit_s = max(self.patience_s, USUAL_EPOCHS * usual_s)
        over = threading.Event()
        self._arm(time.monotonic())
        watch = threading.Thread(target=self._watch, args=(over, threading.get_ident()), daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()
            faulthandler.cancel_dump_traceback_later()

    def beat(self) -> None:
        """Gives a sign of life: one batch is done. A training that other processes slow down, however much, is not
        hung.
        """
        now = time.monotonic()
        self._deadline = now + self._limit_s
        if now - self._armed > BACKSTOP_S / 2:
            self._arm(now)

    def _arm(self, now: float) -> None:
        self._deadline, self._armed = now + self._limit_s, now
        faulthandler.dump_traceback_later(self._limit_s + BACKSTOP_S, exit=True, file=sys.__stderr__ or sys.stderr)

    def _watch(self, over: threading.Event, watched: int) -> None:
        planned = self._deadline
        while not over.wait(max(0.0, planned - time.monotonic())):
            now = time.monotonic()
            if now - planned > STOPPED_S:
                self._deadline = now + self._limit_s
            elif now >= self._deadline:
                self._end(watched)
            planned = self._deadline

    def _end(self, watched: int) -> None:
        try:
            frame = traceback.extract_stack(sys._current_frames()[watched])[-1]
            place = f"{os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}"
            self._last_words(f"no batch was done for {self._limit_s:.0f} s; it stood at {place}")
        finally:
            os._exit(EXIT_CODE)
