"""What watchers of runs are sent: each run is looked at once a second, however many watch it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from facex_tune.errors import InputError, StorageOutage
from facex_tune.runs.store import Run
from facex_tune.service import live
from facex_tune.service.held import Held
from facex_tune.service.manager import Full
from facex_tune.service.reads import Reads
from facex_tune.storage.files import DamagedRun

LOOKED_EVERY_S = 1.0
STILL_THERE_EVERY_S = 15.0
MOST_WATCHERS = 64
_Asked = Callable[[], Awaitable[bool]]


@dataclass
class _Watched:
    run: Run
    watchers: int = 0
    stamp: str = ""
    text: str = ""  # the document, as JSON
    looked: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Feed:
    """Server-sent events for whoever watches, until `end`."""

    def __init__(self, held: Held, reads: Reads) -> None:
        self._held, self._manager, self._reads = held, held.manager, reads
        self._watched: dict[str, _Watched] = {}
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Lets every watcher go, its stream whole."""
        self._ending.set()

    @property
    def watchers(self) -> int:
        """How many there are."""
        return sum(each.watchers for each in self._watched.values())

    async def of(self, name: str, is_gone: _Asked) -> tuple[AsyncIterator[str], Callable[[], None]]:
        """A run's stream, and what is to be called when it is over.

        Args:
            is_gone: whether the watcher has left.

        Raises:
            Full: too many watch.
            InputError, DamagedRun, StorageOutage: it cannot be read.
        """
        if self.watchers >= MOST_WATCHERS:
            raise Full(f"{MOST_WATCHERS} are watching already; ask `GET /api/runs/{name}` instead")
        if name not in self._watched:
            run = await self._reads.do(self._manager.open, name)
            self._watched.setdefault(name, _Watched(run))
        watched = self._watched[name]
        watched.watchers += 1
        try:
            await self._look(watched)
        except BaseException:
            self._leave(watched)
            raise
        return self._stream(watched, is_gone), partial(self._leave, watched)

    def _leave(self, watched: _Watched) -> None:
        watched.watchers -= 1
        if not watched.watchers:
            self._watched.pop(watched.run.name, None)

    async def _stream(self, watched: _Watched, is_gone: _Asked) -> AsyncIterator[str]:
        before, said_s = "", time.monotonic()
        try:
            while not self._ending.is_set() and not await is_gone():
                with suppress(StorageOutage):  # the store may be back in a minute
                    await self._look(watched)
                if watched.stamp != before:
                    before, said_s = watched.stamp, time.monotonic()
                    yield f"data: {watched.text}\n\n"
                elif time.monotonic() - said_s >= STILL_THERE_EVERY_S:
                    said_s = time.monotonic()
                    yield ": still there\n\n"
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), LOOKED_EVERY_S)
        except (InputError, DamagedRun):
            return  # the run is gone: who asks again is told so

    async def _look(self, watched: _Watched) -> None:
        async with watched.lock:
            if time.monotonic() < watched.looked + LOOKED_EVERY_S / 2:
                return
            stamp = await self._reads.do(live.stamp, self._manager, watched.run)
            if stamp != watched.stamp:
                watched.text = await self._reads.do(_text, self._held, watched.run.name)
                watched.stamp = stamp
            watched.looked = time.monotonic()


def _text(held: Held, name: str) -> str:
    return json.dumps(live.document(held, name), allow_nan=False)
