"""A run's log as it grows: any process can read on behind the one that writes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from facex_tune.runs import lease
from facex_tune.runs.store import Event, Run

POLL_S = 1.0
PAUSE_SHARE = 10  # a pause is that many times what the last reading took: at most a tenth of a core


def batches(run: Run, pause: Callable[[float], None] = time.sleep) -> Iterator[list[Event]]:
    """Yields the events so far, then the new ones, until no process writes the run any more."""
    seen = 0
    is_written = True
    while is_written:
        is_written = lease.holder(run.folder) is not None  # asked before reading: the last words are not missed
        began_s = time.monotonic()
        new = [event for event in run.events() if event["seq"] > seen]
        seen = max([seen, *(event["seq"] for event in new)])
        yield new
        if is_written:
            pause(max(POLL_S, PAUSE_SHARE * (time.monotonic() - began_s)))
