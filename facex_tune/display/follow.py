"""A run that another process writes, as it grows: its log is the source, so any process can watch any run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TextIO

from facex_tune.display.board import Board
from facex_tune.display.pace import Course, Past
from facex_tune.display.view import View
from facex_tune.runs.store import Event, Run
from facex_tune.runs.tail import batches
from facex_tune.study import Study


def watch(run: Run, stream: TextIO | None = None, pause: Callable[[float], None] = time.sleep) -> None:
    """Shows a run as its own process does, until nobody writes it any more or the watcher leaves with Ctrl-C."""
    feed = batches(run, pause)
    with suppress(KeyboardInterrupt), View(*caught_up(run.study, next(feed)), stream) as view:
        view.tell()
        for events in feed:
            for event in events:
                view(event)


def caught_up(study: Study, events: Sequence[Event]) -> tuple[Board, Past]:
    """The board after these events, and what a view must know of the time before it."""
    course = Course.of(study)
    for event in events:
        course.see(event)
    return course.board, course.past()
