"""The service on a port, until a signal ends it."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from facex_tune.errors import InputError
from facex_tune.pipeline.options import Options
from facex_tune.service.serve import application

ENDS_WITHIN_S = 5  # for answers that are being sent; runs get their own time


def until_stopped(
    options: Options, token: str | None, *, host: str, port: int, at_once: int, told: Callable[[str], object]
) -> None:
    """Serves; on SIGINT or SIGTERM its runs save and end, and can be resumed.

    Args:
        told: told of where it listens, once it does.

    Raises:
        InputError: the port is taken.
    """
    listener = _bound(host, port)
    address, found = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    told(f"serving {options.storage} at http://{shown}:{found}/ (Ctrl-C ends it{'; token wanted' if token else ''})")
    config = uvicorn.Config(
        application(options, token, at_once=at_once, hosts=(host, address)),
        log_level="warning",
        timeout_graceful_shutdown=ENDS_WITHIN_S,
        server_header=False,
    )
    with listener:
        uvicorn.Server(config).run(sockets=[listener])


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
