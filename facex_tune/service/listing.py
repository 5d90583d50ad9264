"""Every run of the storage in a line, looked at again only where something of it has changed."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from facex_tune.errors import InputError, StorageOutage
from facex_tune.runs import overview
from facex_tune.runs.store import Run
from facex_tune.service.manager import Manager
from facex_tune.storage import files
from facex_tune.storage.files import DamagedRun

LOOKED_EVERY_S = 0.5  # however many ask


@dataclass(frozen=True)
class _Line:
    mark: Hashable  # of the files that it was made from
    number: int  # of the change that made it so
    said: dict[str, Any]


class Listing:
    """The runs of a service's storage.

    Args:
        manager: who knows what of them goes or waits.
    """

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._number = 0
        self._since = secrets.token_hex(4)  # numbers of another service are none of ours
        self._looked: tuple[float, int] | None = None  # when, and after how many actions of the manager

    def document(self, since: str = "") -> dict[str, Any]:
        """Every run, the newest first.

        Args:
            since: the `stamp` of a document before: only runs that have changed are told then, with every run's name.
        """
        with self._lock:
            self._look()
            kept = sorted(self._lines.values(), key=lambda line: str(line.said.get("created_utc", "")), reverse=True)
            series, _, number = since.partition("-")
            known = int(number) if series == self._since and number.isdecimal() else -1
            return {
                "version": overview.VERSION,
                "stamp": f"{self._since}-{self._number}",
                "names": [line.said["run"] for line in kept],
                "runs": [_aged(line.said) for line in kept if line.number > known],
            }

    def states(self) -> list[str]:
        """Each run's state, in no order."""
        with self._lock:
            self._look()
            return [str(line.said.get("state", "damaged")) for line in self._lines.values()]

    def _look(self) -> None:
        now = time.monotonic(), self._manager.actions
        if self._looked and self._looked[1] == now[1] and now[0] < self._looked[0] + LOOKED_EVERY_S:
            return
        names = Run.names(self._manager.options.storage)
        self._lines = {name: self._line(name) for name in names}
        self._looked = now

    def _line(self, name: str) -> _Line:
        before = self._lines.get(name)
        try:
            run = self._manager.open(name)
            holder = run.holder()
            place = self._manager.place(name, is_held=holder is not None)
            mark = place, holder, files.modified(run.folder / "run.json"), str(files.sizes(run.folder / "events"))
            if before is not None and before.mark == mark:
                return before
            said = overview.one_of_runs(run.storage, name)
            said |= {} if "problem" in said else {"place": place}
            return self._changed(mark, said)
        except StorageOutage:
            raise
        except (InputError, DamagedRun, OSError) as error:
            problem = str(error)
            if before is not None and before.mark == problem:
                return before
            return self._changed(problem, {"run": name, "state": "damaged", "problem": problem})

    def _changed(self, mark: Hashable, said: dict[str, Any]) -> _Line:
        self._number += 1
        return _Line(mark, self._number, said)


def _aged(said: dict[str, Any]) -> dict[str, Any]:
    ages = {"age_s": "created_utc", "idle_s": "updated_utc"}
    return said | {age: overview.seconds_since(said[since]) for age, since in ages.items() if since in said}
