"""Runs that are looked at again and again, kept open: of a log that has grown only what is new is folded in, however
many ask, and one asker at a time does so.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from facex_tune.display.pace import Course
from facex_tune.runs.store import Event, Run
from facex_tune.service.manager import Manager
from facex_tune.storage import files

MOST = 8  # runs; of a long one the log is tens of megabytes


@dataclass
class Looked:
    """A run that is looked at.

    Attributes:
        mark: of the header that it was opened with: a run that was deleted and begun anew has another.
        kept: what was made of it, by name, with what it was made from.
    """

    run: Run
    mark: Hashable
    lock: threading.Lock = field(default_factory=threading.Lock)
    kept: dict[str, tuple[Hashable, Any]] = field(default_factory=dict)
    _course: Course | None = None
    _seen: list[Event] = field(default_factory=list)

    def course(self) -> Course:
        """The run's course up to now."""
        now = self.run.events()
        if self._course is None or self._seen != now[: len(self._seen)]:  # a replaced writer had written late
            self._course, self._seen = Course.of(self.run.study), []
        for event in now[len(self._seen) :]:
            self._course.see(event)
        self._seen = now
        return self._course


class Held:
    """The runs of a service that were looked at last.

    Args:
        manager: who opens them.
    """

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, Looked] = OrderedDict()

    @contextmanager
    def run(self, name: str) -> Iterator[Looked]:
        """A run, ours alone as long as the block lasts.

        Raises:
            InputError: no such run.
            DamagedRun: a link leads out of it.
        """
        opened = self.manager.open(name)  # asked each time: it may be gone, or lead elsewhere by now
        mark = files.modified(opened.folder / "run.json")
        with self._lock:
            looked = self._runs.get(name)
            if looked is None or looked.mark != mark:
                looked = self._runs[name] = Looked(opened, mark)
            self._runs.move_to_end(name)
            while len(self._runs) > MOST:
                self._runs.popitem(last=False)
        with looked.lock:
            yield looked
