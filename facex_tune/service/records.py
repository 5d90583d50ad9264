"""What the service writes down: who submitted, stopped or fetched what, who was refused, and, if asked, every request.
A line is one JSON document, so that nothing that a client sends can look like another line.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path

from facex_tune.errors import InputError

AUDIT = logging.getLogger("facex_tune.service.audit")
ACCESS = logging.getLogger("facex_tune.service.access_log")
MOST_REFUSED_A_MINUTE = 60  # lines: who guesses tokens shall not fill the disk
LONGEST = 200  # characters of what a client sent
_ACTS = {
    ("POST", "/api/runs"): "submit",
    ("POST", "/api/runs/{run}/stop"): "stop",
    ("POST", "/api/runs/{run}/resume"): "resume",
    ("GET", "/api/runs/{run}/archive"): "fetch",
    ("GET", "/api/runs/{run}/files/{path:path}"): "fetch",
    ("GET", "/api/runs/{run}/report/{path:path}"): "fetch",
    ("POST", "/api/session"): "log in",
    ("DELETE", "/api/session"): "log out",
}


class Records:
    """Lines for AUDIT and ACCESS.

    Args:
        now: seconds, for tests.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._minute, self._refused = 0, 0

    def answered(self, method: str, route: str, **said: object) -> None:
        """A request that was let in."""
        ACCESS.info(_line("request", method=method, **said))
        if did := _ACTS.get((method, route)):
            AUDIT.info(_line(did, **said))

    def refused(self, method: str, why: str, **said: object) -> None:
        """One that was not. Who only came without a token, as each browser does first, is no matter for the audit."""
        ACCESS.info(_line("refused", why=why, method=method, **said))
        if why == "no token":
            return
        minute = int(self._now() // 60)
        if minute != self._minute:
            if self._refused > MOST_REFUSED_A_MINUTE:
                AUDIT.info(_line("refused", more=self._refused - MOST_REFUSED_A_MINUTE))
            self._minute, self._refused = minute, 0
        self._refused += 1
        if self._refused <= MOST_REFUSED_A_MINUTE:
            AUDIT.info(_line("refused", why=why, method=method, **said))


def _line(did: str, **said: object) -> str:
    told = {key: value[:LONGEST] if isinstance(value, str) else value for key, value in said.items() if value != ""}
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"at": at, "did": did, **told})


def write_to(file: Path | None, *, every_request: bool) -> None:
    """Lets the lines be written.

    Args:
        file: where they are added; one that was moved away, as logrotate does, is made anew. None: standard error.

    Raises:
        InputError: it cannot be written.
    """
    handler = logging.StreamHandler(sys.stderr) if file is None else _file_handler(file)
    for logger, wanted in ((AUDIT, True), (ACCESS, every_request)):
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if wanted else logging.WARNING)


class _OwnFile(logging.handlers.WatchedFileHandler):
    """A file that others do not read, also one that is made anew."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return TextIOWrapper(os.fdopen(descriptor, "ab"), encoding="utf-8")


def _file_handler(file: Path) -> logging.Handler:
    try:
        return _OwnFile(file)
    except OSError as error:
        raise InputError(f"--audit-log {file}: {error.strerror}; name a file in a folder that you may write") from error
