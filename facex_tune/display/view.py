"""A run as it happens: a live board in a terminal and in a notebook, one line that renews itself where a cell runs a
command, plain lines elsewhere; on standard error, but for the notebook's board, which is an output of its cell.

`View` listens to the run's events and changes nothing. Whatever becomes of the terminal, the run goes on: an output
that has gone away silences the view.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import Progress
from rich.text import Text

from facex_tune.display import notebook, pace
from facex_tune.display.board import Board
from facex_tune.display.event_lines import line
from facex_tune.display.pace import Past
from facex_tune.display.screen import TALL, headline, screen, under_way
from facex_tune.display.text import metric
from facex_tune.runs.events import FactorFinished, Note, StageStarted, TrialFinished, TrialStopped

HEARTBEAT_S = 30.0  # the longest silence without a terminal, at first
HEARTBEAT_SHARE, HEARTBEAT_MAX_S = 0.05, 600.0  # later a share of the time that has passed, so that logs stay short
ONE_LINE_S = 2.0  # between two renewals of a notebook's line, or board
ONE_LINE_WIDTH = 110  # columns
PULSE_S = 2.0  # an epoch may take many minutes, in which no event comes: a clock of its own ends those silences
# In a terminal these need no line of their own.
_ON_BOARD = (TrialFinished.TYPE, TrialStopped.TYPE, FactorFinished.TYPE, Note.TYPE)


class View:
    """A listener for a run's events, and a context manager around the run.

    Args:
        board: how far the run had come before.
        past: how long that had taken.
        stream: where to write; standard error by default.
        now: a monotonic clock in seconds.
        show: takes the board as HTML, each time in place of the last one; by default an output of the notebook's cell,
            where this process is a notebook's kernel and `stream` is not given.
        last: what a notebook shows in the end, as HTML; by default the board as it was last.
        utc: the clock that events are dated by.
    """

    def __init__(
        self,
        board: Board,
        past: Past | None = None,
        stream: TextIO | None = None,
        now: Callable[[], float] = time.monotonic,
        show: notebook.Show | None = None,
        last: Callable[[], str] | None = None,
        utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        past = past or Past()
        self._board, self._searched_s, self._now = board, past.searched_s, now
        self._show = notebook.output() if show is None and stream is None else show
        self._last, self._utc = last, utc
        self._stream = sys.stderr if stream is None else stream
        self._began_s, self._stage_began_s = now() - past.elapsed_s, now() - past.stage_s
        self._said_s = now()
        self._share_before = past.share
        self._lock = threading.Lock()  # the live display and the pulse have a thread of their own
        self._live: Live | None = None
        self._one_line: _OneLine | None = None
        self._pulse: threading.Thread | None = None
        self._ended = threading.Event()
        self._silent = False

    def __enter__(self) -> View:
        console = Console(file=self._stream, force_jupyter=False)
        if self._show is not None:
            self._renew_board()
        elif _in_notebook(self._stream):
            self._one_line = _OneLine(self._stream)
        elif console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=2, transient=True)
            self._live.start()
        if self._live is None:
            self._pulse = threading.Thread(target=self._beats, name="view", daemon=True)
            self._pulse.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self._pulse is not None:
            self._ended.set()
            self._pulse.join()
        if self._one_line is not None:
            self._write(self._one_line.end)
        if self._show is not None:
            self._renew_board(self._last if error is None else None)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Takes one event in and shows what it changed."""
        with self._lock:
            self._fold(event)
            said = line(self._board, event, self._now() - self._stage_began_s)
        if self._live is not None:
            if said and event["type"] not in _ON_BOARD:
                self._say(said)
        else:
            self._beat(said)

    def _beats(self) -> None:
        while not self._ended.wait(PULSE_S):
            self._beat()

    def _beat(self, said: str = "") -> None:
        """Without a board: `said`, or where the run stands, where nothing was written for long."""
        with self._lock:
            if self._show is not None:
                if self._now() - self._said_s >= ONE_LINE_S:
                    self._renew_board()
            elif self._one_line is not None:
                self._renew(self._one_line)
            elif said or self._now() - self._said_s >= self._heartbeat_s():
                self._say(said or self._heartbeat())

    def tell(self) -> None:
        """Says where the run stands, where no board is drawn."""
        if self._one_line is None and self._live is None and self._show is None:
            self._say(self._heartbeat())

    def _fold(self, event: Mapping[str, Any]) -> None:
        begins = event["type"] == StageStarted.TYPE
        if begins:
            self._stage_begins()
        self._board.see(event)
        if begins:
            self._share_before = self._board.share_done(self._searched_s) or 0.0

    def _stage_begins(self) -> None:
        if self._board.stage == "search":
            self._searched_s += self._now() - self._stage_began_s
        self._stage_began_s = self._now()

    def _draw(self) -> RenderableType:
        with self._lock:
            console = None if self._live is None else self._live.console
            return screen(
                self._board,
                self._headline(),
                self._searched(),
                ascii_only=console is None or console.options.ascii_only,
                height=0 if console is None else console.height,
                now=self._utc(),
            )

    def _headline(self) -> str:
        return headline(self._board, self._now() - self._began_s, self._remaining_s())

    def _searched(self) -> float:
        """Seconds of searching, over all sessions."""
        return self._searched_s + (self._now() - self._stage_began_s if self._board.stage == "search" else 0.0)

    def _remaining_s(self) -> float | None:
        stage_s = self._now() - self._stage_began_s
        return pace.remaining_s(self._board, stage_s, self._searched_s, self._share_before)

    def _heartbeat_s(self) -> float:
        return min(HEARTBEAT_MAX_S, max(HEARTBEAT_S, HEARTBEAT_SHARE * (self._now() - self._began_s)))

    def _heartbeat(self) -> str:
        running = ", ".join(under_way(self._board, self._utc()))
        return f"{self._headline()} | running: {running}" if running else self._headline()

    def _renew(self, one_line: _OneLine) -> None:
        if self._now() - self._said_s < ONE_LINE_S:
            return
        best = self._board.best(1)
        leader = f" | best {best[0].label} {metric(best[0].value)}" if best else ""
        self._said_s = self._now()
        self._write(lambda: one_line.show(self._headline() + leader))

    def _renew_board(self, last: Callable[[], str] | None = None) -> None:
        """A notebook whose page has been closed loses its board, and the run goes on."""
        self._said_s = self._now()
        if self._show is None or self._silent:
            return
        try:
            drawn = screen(self._board, self._headline(), self._searched(), height=TALL, now=self._utc())
            self._show(notebook.as_html(drawn) if last is None else last())
        except Exception:
            self._silent = True

    def _say(self, line: str) -> None:
        self._said_s = self._now()
        if self._live is None:
            self._write(lambda: self._stream.write(line + "\n"))
        else:
            console = self._live.console
            self._write(lambda: console.print(Text(line)))

    def _write(self, write: Callable[[], Any]) -> None:
        if self._silent:
            return
        try:
            write()
            if self._live is None:
                self._stream.flush()
        except OSError:  # the terminal or the pipe's reader has gone; what is worth keeping is in the log
            self._silent = True


class _OneLine:
    """A line that each call of `show` replaces: a notebook knows the carriage return and no other control."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._shown = stream, ""

    def show(self, text: str) -> None:
        text = text[:ONE_LINE_WIDTH]
        self._stream.write(f"\r{text.ljust(len(self._shown))}")
        self._shown = text

    def end(self) -> None:
        """Leaves the line, where there is one, for what is printed next."""
        if self._shown:
            self._stream.write("\n")


def _in_notebook(stream: TextIO) -> bool:
    """Whether a notebook shows the stream: this process is its kernel, or a command that a cell runs (`!command`),
    which gets a terminal that draws nothing but text.
    """
    return "ipykernel" in sys.modules or ("JPY_PARENT_PID" in os.environ and stream.isatty())


@contextmanager
def counting(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for something that counts to a known total, in a terminal; silence elsewhere.

    Yields:
        a function to be told (done, total).
    """
    if not sys.stderr.isatty():  # a bar that is disabled leaves an empty line behind in rich 14
        yield lambda done, total: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(title), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def naming(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Names each of several things as its turn comes: in a bar in a terminal, in a line of its own elsewhere.

    Yields:
        a function to be told (name, its number from 1, how many there are).
    """
    is_bar = sys.stderr.isatty() and not _in_notebook(sys.stderr)
    if not is_bar:
        yield lambda name, number, n: print(f"{title} {name} ({number} of {n})", file=sys.stderr, flush=True)
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(title), total=None)
        yield lambda name, number, n: bar.update(
            task, completed=number - 1, total=n, description=escape(f"{title} {name} ({number} of {n})")
        )
