"""How long a check may take: a study that a stranger sent must not occupy the service that looks at it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from facex_tune.errors import InputError


@dataclass(frozen=True)
class _Patience:
    most: int
    ends_s: float  # by this thread's own clock, so that nothing is refused because the machine is busy
    seconds: float


_patience: ContextVar[_Patience | None] = ContextVar("facex_patience", default=None)


@contextmanager
def bounded_checks(most: int, seconds: float) -> Iterator[None]:
    """Within the block, `parts.problems` raises InputError beyond so many networks of a part or seconds of a thread."""
    said = _patience.set(_Patience(most, time.thread_time() + seconds, seconds))
    try:
        yield
    finally:
        _patience.reset(said)


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
    if time.thread_time() > patience.ends_s:
        raise InputError(f"space.{name}: checking this study takes more than {patience.seconds:g} s; {fewer}")
