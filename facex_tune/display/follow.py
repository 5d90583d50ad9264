"""A run that another process writes, as it grows: its log is the source, so any process can watch any run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

from facex_tune.display.board import Board
from facex_tune.display.outline import Plan
from facex_tune.display.view import Past, View
from facex_tune.runs.events import SESSION_EVENTS, StageStarted
from facex_tune.runs.history import History
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
    board = Board(Plan.of(study))
    now = datetime.now(UTC)
    session = stage = now
    history, searched_s, share = History(), 0.0, 0.0
    for event in events:
        history.see(event)
        board.see(event)
        if event["type"] in SESSION_EVENTS:
            session = datetime.fromisoformat(event["time_utc"])
        elif event["type"] == StageStarted.TYPE:
            stage = datetime.fromisoformat(event["time_utc"])
            searched_s = history.search_seconds
            share = board.share_done(searched_s) or 0.0
    elapsed_s, stage_s = (max(0.0, (now - since).total_seconds()) for since in (session, stage))
    return board, Past(searched_s, elapsed_s, stage_s, share)
