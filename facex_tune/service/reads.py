"""Work that waits for the store of runs, in threads of its own, so many at once and not for ever: a store that hangs
takes these, and nothing else of the service waits for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from facex_tune.errors import StorageOutage

P = ParamSpec("P")
T = TypeVar("T")


class Reads:
    """Gives each piece of work a thread when one is free, and its answer within a time.

    A thread cannot be ended: one whose store hangs stays until that answers, and counts as taken. It does not keep the
    process from ending.

    Args:
        at_once: threads.
        within_s: after this an asker is told that the store does not answer.
    """

    def __init__(self, at_once: int, within_s: float) -> None:
        self.within_s = within_s
        self._free = asyncio.Semaphore(at_once)

    async def do(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What `work` gives.

        Raises:
            StorageOutage: it takes too long.
        """
        try:
            async with asyncio.timeout(self.within_s) as limit:
                await self._free.acquire()
                answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
                self._begin(partial(contextvars.copy_context().run, partial(work, *args, **named)), answer)
                return await answer
        except TimeoutError as error:
            if not limit.expired():
                raise
            said = f"the storage of runs has not answered within {self.within_s:g} s; ask again"
            raise StorageOutage(said) from error

    def _begin(self, work: Callable[[], T], answer: asyncio.Future[T]) -> None:
        loop = asyncio.get_running_loop()

        def go() -> None:
            try:
                told = partial(_give, answer, work())
            except BaseException as error:  # handed on to whoever asked
                told = partial(_fail, answer, error)
            with suppress(RuntimeError):  # the service has ended meanwhile
                loop.call_soon_threadsafe(self._end, told)

        try:
            threading.Thread(target=go, name="facex-read", daemon=True).start()
        except RuntimeError as error:  # the host gives no more threads
            self._free.release()
            raise StorageOutage(f"this host has no thread to read with ({error}); ask again") from error

    def _end(self, told: Callable[[], None]) -> None:
        self._free.release()
        told()


def aside(work: Callable[[], object]) -> None:
    """Lets work that may hang, and that nobody waits for, be done."""
    threading.Thread(target=work, name="facex-aside", daemon=True).start()


def _give(answer: asyncio.Future[T], found: T) -> None:
    if not answer.done():
        answer.set_result(found)


def _fail(answer: asyncio.Future[T], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
