"""Connections of the service: each has its time, and there are so many at once. uvicorn itself bounds neither how long
the head of a request may take nor how long an answer may stay untaken.
"""

from __future__ import annotations

import asyncio
from typing import cast

from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 256
HEAD_WITHIN_S = 10.0  # from the connection's, or the head's, first byte to its last
TAKEN_WITHIN_S = 30.0  # for the next tens of kilobytes of an answer
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Connection(H11Protocol):
    """As uvicorn's own; it is closed when nothing whole comes, and when nothing is taken."""

    _head_ends: asyncio.TimerHandle | None = None
    _taking_ends: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for the other side: for the rest of a request, or to take an answer."""
        cycle = self.cycle
        is_asking = cycle is not None and not cycle.response_complete and cycle.more_body
        return is_asking or self._taking_ends is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins to wait for a request; one connection too many is told so, and closed."""
        made = cast(asyncio.Transport, transport)
        super().connection_made(made)
        if len(self.connections) > MOST_CONNECTIONS:
            cast(FastAPI, self.config.app).state.guard.counts.refused("too many connections")
            made.write(_FULL)
            made.close()
            return
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Takes more of a request; while none is being answered its head is waited for, and no longer than that."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_head()
        elif self._head_ends is None:
            self._expect_head()

    def pause_writing(self) -> None:
        """Nobody takes what is sent."""
        super().pause_writing()
        self._forget_taking()
        self._taking_ends = self.loop.call_later(TAKEN_WITHIN_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It is taken again."""
        super().resume_writing()
        self._forget_taking()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the times."""
        self._forget_head()
        self._forget_taking()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_ends = self.loop.call_later(HEAD_WITHIN_S, self._too_late)

    def _too_late(self) -> None:
        self._head_ends = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _forget_head(self) -> None:
        if self._head_ends is not None:
            self._head_ends.cancel()
            self._head_ends = None

    def _forget_taking(self) -> None:
        if self._taking_ends is not None:
            self._taking_ends.cancel()
            self._taking_ends = None
