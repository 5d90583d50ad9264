"""How long a check may take: a study that a stranger sent must not occupy the service that looks at it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from facex_tune.errors import InputError


@dataclass
class _Patience:
    most: int
    seconds: float
    began_s: float  # by this thread's own clock, so that nothing is refused because the machine is busy
    elsewhere_s: float = 0.0  # by other threads, which work for this one

    @property
    def is_over(self) -> bool:
        return time.thread_time() - self.began_s + self.elsewhere_s > self.seconds


_patience: ContextVar[_Patience | None] = ContextVar("facex_patience", default=None)


@contextmanager
def bounded_checks(most: int, seconds: float) -> Iterator[None]:
    """Within the block, a check raises InputError beyond so many networks of a part, or beyond so many seconds of
    processor time, which everything in it shares.
    """
    said = _patience.set(_Patience(most, seconds, time.thread_time()))
    try:
        yield
    finally:
        _patience.reset(said)


@contextmanager
def apart() -> Iterator[None]:
    """What the block takes is not counted: it is done once, whoever asks first."""
    began_s = time.thread_time()
    try:
        yield
    finally:
        if (patience := _patience.get()) is not None:
            patience.began_s += time.thread_time() - began_s


def about_to_check(name: str, combinations: int) -> None:
    """To be called by a part's `problems` before each network that it builds for a look.

    Args:
        combinations: how many it builds in all.

    Raises:
        InputError: that is more than whoever asks has patience for.
    """
    patience = _patience.get()
    if patience is None:
        return
    fewer = f"narrow the ranges of {name} to fewer networks, or begin this study on the command line"
    if combinations > patience.most:
        raise InputError(
            f"space.{name}: {combinations:,} combinations would be built to check this study, {patience.most:,} at "
            f"most are; {fewer}"
        )
    go_on(f"space.{name}", fewer)


def go_on(where: str, advice: str, elsewhere_s: float = 0.0) -> None:
    """To be called between the steps of what may take long.

    Args:
        where: the key of the study that it is about.
        advice: what to do where there is no time left.
        elsewhere_s: seconds of processor time that other threads have worked for this one since.

    Raises:
        InputError: whoever asks has no patience left.
    """
    patience = _patience.get()
    if patience is None:
        return
    patience.elsewhere_s += elsewhere_s
    if patience.is_over:
        raise InputError(f"{where}: checking this study takes more than {patience.seconds:g} s; {advice}")
