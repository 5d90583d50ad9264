"""The queue of a service as a file beside its runs, so that a service which is ended, or killed, and started again goes
on with the runs that it had.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from facex_tune.errors import InputError
from facex_tune.storage import files
from facex_tune.storage.files import DamagedRun, Place

FILE = "serve-queue.json"
VERSION = 1
_logger = logging.getLogger(__name__)


class Queue:
    """Names of runs, in the order in which they came, kept in the storage of runs.

    Args:
        storage: which has one service at a time.
    """

    def __init__(self, storage: Place) -> None:
        self.path = storage / FILE
        self._lock = threading.Lock()  # not the manager's, since a store may be slow to answer
        self._written: list[str] = []

    def read(self) -> list[str]:
        """The names that were kept last; none where no service has been here.

        Raises:
            DamagedRun: it is no queue.
            StorageOutage: the store does not answer.
        """
        try:
            said = files.read_json(self.path)
        except FileNotFoundError:
            return []
        if not _is_queue(said):
            raise DamagedRun(f"{self.path}: no queue of runs; remove it, and resume by hand the runs that shall go on")
        self._written = list(said["runs"])
        return list(self._written)

    def keep(self, now: Callable[[], Sequence[str] | None]) -> None:
        """Writes the names down, where they have changed. What hinders that is a warning: the runs themselves go on.

        Args:
            now: gives them, asked when it is our turn, so that the newest are written last; None leaves the file alone.
        """
        with self._lock:
            names = now()
            if names is None or list(names) == self._written:
                return
            try:
                files.write_json(self.path, {"version": VERSION, "runs": list(names)})
                self._written = list(names)
            except (OSError, InputError) as error:
                _logger.warning("%s: the queue cannot be kept for a restart: %s", self.path, error)


def _is_queue(said: Any) -> bool:
    is_ours = isinstance(said, dict) and said.get("version") == VERSION and isinstance(said.get("runs"), list)
    return is_ours and all(isinstance(name, str) for name in said["runs"])
