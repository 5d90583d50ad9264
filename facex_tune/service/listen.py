"""The service on a port, until a signal ends it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from facex_tune.errors import InputError
from facex_tune.pipeline.options import Options
from facex_tune.service import manager, records
from facex_tune.service.connections import Connection
from facex_tune.service.reads import aside
from facex_tune.service.received import Ceiling
from facex_tune.service.serve import application

NO_TOKEN = (
    "no token: everybody with an account on this host can submit, stop and fetch runs, also on loopback; "
    "where others log in, give --token-file FILE"
)
LETS_GO_EVERY_S = 0.1
ENDS_WITHIN_S = 5  # for answers that are being sent; runs get their own time


def until_stopped(
    options: Options,
    token: str | None,
    *,
    host: str,
    port: int,
    at_once: int,
    told: Callable[[str], object],
    ceiling: Ceiling | None = None,
    audit_log: Path | None = None,
    every_request: bool = False,
) -> None:
    """Serves; on SIGINT or SIGTERM its runs save and end, and can be resumed.

    Args:
        told: told of where it listens, once it does.
        ceiling: of what one study may ask for.
        audit_log: where it is written down who did what; None: standard error.
        every_request: written down, too.

    Raises:
        InputError: the port is taken, or the file cannot be written.
    """
    records.write_to(audit_log, every_request=every_request)
    listener = _bound(host, port)
    address, found = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    told(f"serving {options.storage} at http://{shown}:{found}/ (Ctrl-C ends it{'; token wanted' if token else ''})")
    if token is None:
        told(NO_TOKEN)
    app = application(options, token, at_once=at_once, hosts=(host, address), ceiling=ceiling)
    with listener, suppress(KeyboardInterrupt):  # which uvicorn raises again when all is done
        Server(app, told=told).run(sockets=[listener])


def ending(going: Sequence[str]) -> str:
    """What is said when the service begins to end: what it waits for, and how long."""
    if not going:
        return "stopping: no run goes, so nothing is waited for"
    runs = f"run {going[0]} saves" if len(going) == 1 else f"{len(going)} runs save: {', '.join(going)}"
    return f"stopping: {runs} (up to {manager.ENDS_WITHIN_S:g} s); the next `facex-tune serve` goes on with it"


class Server(uvicorn.Server):
    """Serves an application of `serve.application`. When it is told to end, runs are told so at once, and watchers are
    sent away, so that nothing but the runs' own saving is waited for.

    Args:
        root_path: where a proxy has put the service.
        told: told of the end: what is waited for, and when it is over.
    """

    def __init__(self, app: FastAPI, *, root_path: str = "", told: Callable[[str], object] = lambda _: None) -> None:
        said = uvicorn.Config(
            app,
            log_level="warning",
            timeout_graceful_shutdown=ENDS_WITHIN_S,
            server_header=False,
            root_path=root_path,
            http=Connection,
            loop="asyncio",
        )
        super().__init__(said)
        self._app, self._told = app, told

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own, which waits for answers that would never end, and says nothing."""
        self._told(ending(self._app.state.manager.going()))
        self._app.state.feed.end()
        aside(self._app.state.manager.end)
        letting_go = asyncio.create_task(self._let_all_go())
        await super().shutdown(sockets)
        letting_go.cancel()
        for name in self._app.state.manager.killed:
            self._told(f"run {name} did not save in time and was ended; what it had reported is kept")
        self._told("stopped")

    async def _let_all_go(self) -> None:
        """Breaks off what waits for the other side, and, before uvicorn cancels it with a traceback, everything."""
        ends = time.monotonic() + ENDS_WITHIN_S - 1
        while True:
            self._let_go(everybody=time.monotonic() >= ends)
            await asyncio.sleep(LETS_GO_EVERY_S)

    def _let_go(self, *, everybody: bool) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection) and (everybody or connection.is_idle):
                connection.transport.abort()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # from now on nobody is refused, though answers may wait
    except OSError as error:
        listener.close()
        raise InputError(f"--host {host} --port {port}: {error.strerror}; choose another with --port") from error
    return listener
