"""A run that lies nowhere: its events are kept in memory alone, for a search that is simulated."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from facex_tune.runs import events
from facex_tune.runs.events import Event, Record
from facex_tune.runs.store import Log, Run
from facex_tune.storage import files

if TYPE_CHECKING:
    from collections.abc import Callable

    from facex_tune.study import Study

_BEGAN = datetime(2000, 1, 1, tzinfo=UTC)  # any day: only differences of times are read


class MemoryRun(Run):
    """A run without a folder. It reads and writes no file; what would be deleted from its folder is not there."""

    def __init__(self, name: str, study: Study) -> None:
        super().__init__(files.place("nowhere"), name)
        self._study = study
        self._writes([])

    @property
    def study(self) -> Study:
        """The study that it was made with."""
        return self._study

    def exists(self) -> bool:
        """Tells that nothing has been written."""
        return False

    def remove_checkpoints(self, trials: Iterable[int]) -> None:
        """Does nothing: there are none."""


class MemoryLog(Log):
    """The writer of a `MemoryRun`.

    Args:
        clock: seconds, by which events are dated.
    """

    def __init__(self, run: MemoryRun, clock: Callable[[], float]) -> None:
        self.run, self.listeners = run, []
        self._clock, self._count = clock, 0

    def append(self, record: Record) -> Event:
        """Adds one event and tells the listeners."""
        self._count += 1
        when = (_BEGAN + timedelta(seconds=self._clock())).isoformat(timespec="milliseconds")
        event = events.written(record, self._count, when)
        self.run._has_written(event)
        self._tell(event)
        return event

    def close(self) -> None:
        """Does nothing: nothing is held."""
