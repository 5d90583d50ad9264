"""What supervisors and monitoring ask: is it alive, can it work, how much does it do."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from facex_tune.errors import StorageOutage
from facex_tune.runs.store import Run
from facex_tune.service.counts import Counts
from facex_tune.service.listing import Listing
from facex_tune.service.manager import Manager
from facex_tune.service.reads import Reads

OPEN = ("/healthz", "/readyz")  # to everybody: they tell nothing of runs, and a supervisor has no token
ASKED_EVERY_S = 1.0  # the storage, however many ask
READY_WITHIN_S = 5.0


class Readiness:
    """Whether the storage answers.

    Args:
        manager: of the service, which also knows whether it is ending.
    """

    def __init__(self, manager: Manager) -> None:
        self._manager, self._reads = manager, Reads(1, READY_WITHIN_S)
        self._asked, self._problem = float("-inf"), ""

    async def problem(self) -> str:
        """What hinders it from working; "" where nothing does."""
        if self._manager.is_ending:
            return "this service is ending"
        if time.monotonic() >= self._asked + ASKED_EVERY_S:
            self._problem = await self._ask()
            self._asked = time.monotonic()
        return self._problem

    async def _ask(self) -> str:
        try:
            await self._reads.do(Run.names, self._manager.options.storage)
        except (StorageOutage, OSError):
            return "the storage of runs does not answer"
        return ""


def router(manager: Manager, listing: Listing, reads: Reads, counts: Counts) -> APIRouter:
    """`/healthz`, `/readyz` and `/metrics`."""
    made, readiness = APIRouter(), Readiness(manager)

    @made.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> PlainTextResponse:
        """Answers while the service does. Needs no token."""
        return PlainTextResponse("ok\n")

    @made.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "Not now; why."}})
    async def readyz() -> PlainTextResponse:
        """Whether the storage of runs answers, and the service is not ending. Needs no token."""
        problem = await readiness.problem()
        return PlainTextResponse(f"{problem or 'ready'}\n", 503 if problem else 200)

    refused: dict[int | str, dict[str, Any]] = {401: {"description": "A token is wanted."}}
    refused[403] = {"description": "Not with this token, or not from there."}

    @made.get("/metrics", response_class=PlainTextResponse, responses=refused)
    async def metrics(request: Request) -> Response:
        """Runs by state, queue, watchers, requests and refusals, for Prometheus."""
        try:
            states = await reads.do(listing.states)
        except StorageOutage:
            states = None
        return Response(counts.text(states), media_type=CONTENT_TYPE_LATEST)

    return made
