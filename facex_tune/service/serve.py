"""The service: submit studies, watch, stop and resume runs, fetch reports, over HTTP. A study is data here: it is
checked, stored and run, and nothing in it is executed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mimetypes
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect

from facex_tune import __version__
from facex_tune.errors import InputError, StorageOutage
from facex_tune.pipeline.options import Options
from facex_tune.service import bundle, console, drafting, exploring, health, live, page_files, received
from facex_tune.service.access import Gate
from facex_tune.service.counts import Counts
from facex_tune.service.feed import Feed
from facex_tune.service.guard import Guard, check_is_json, check_is_no_form
from facex_tune.service.held import Held
from facex_tune.service.listing import Listing
from facex_tune.service.manager import Full, Manager
from facex_tune.service.reads import Reads, aside
from facex_tune.service.received import Ceiling
from facex_tune.storage.files import NAME, DamagedRun
from facex_tune.storage.patience import bounded_checks
from facex_tune.study import json_schema

LARGEST_BODY_BYTES = 4 * received.LARGEST_BYTES  # a study within JSON, escaped
CONSOLE_TAIL_BYTES = 64 * 1024
BODY_WITHIN_S = 30.0
READS_AT_ONCE, READ_WITHIN_S = 16, 10.0  # of the store of runs
FETCHES_AT_ONCE, FETCH_WITHIN_S = 4, 300.0  # of lists of files, which read them all for their checksums
ACT_WITHIN_S = 60.0  # to submit, stop or resume
SLOW_AT_ONCE, SLOW_WITHIN_S = 2, 120.0  # views and comparisons, which are reckoned
ARCHIVES_AT_ONCE = 4
MOST_PROBLEMS = 50  # a study can be wrong in thousands of places
# A report carries its own scripts and pictures; the sandbox gives it an origin of its own, without our cookie.
_REPORT = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
_PAGE = re.compile(r"/|/api/runs/[^/]+/report/.*")  # where a link elsewhere may lead
Name = Annotated[str, PathParameter(pattern=NAME, description="A run's name.")]
WithFaces = Annotated[
    bool, Query(description="Whether what shows faces is in it: evaluation/*.faces.npz, and the report's page.")
]
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "What was sent is not what is wanted; `detail` says why."},
    401: {"description": "A token is wanted."},
    403: {"description": "Not with this token, or not from there."},
    404: {"description": "No such run or file."},
    409: {"description": "Not as the run stands; `detail` says why."},
    408: {"description": "The body took too long to come."},
    413: {"description": "Too large."},
    415: {"description": "No JSON."},
    503: {"description": "The storage of runs does not answer, or too many runs wait."},
}


def application(
    options: Options,
    token: str | None,
    *,
    at_once: int = 1,
    hosts: Iterable[str] = (),
    ceiling: Ceiling | None = None,
) -> FastAPI:
    """The service over a folder of runs.

    Args:
        token: what callers must know; None: whoever reaches it.
        at_once: runs beside each other.
        hosts: where it listens, besides the usual names of loopback.
        ceiling: of what one study may ask for.

    Raises:
        DamagedRun, StorageOutage: the queue of the service before cannot be read.
    """
    manager = Manager(options, at_once)
    manager.recover()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(manager.close)

    app = _Service(
        title="facex_tune",
        version=__version__,
        summary="Searches for facial expression recognition: submit, watch, stop, resume, pull.",
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    reads = Reads(READS_AT_ONCE, READ_WITHIN_S)
    app.state.manager, app.state.ceiling, app.state.reads = manager, ceiling, reads
    held = Held(manager)
    app.state.held, app.state.listing, app.state.feed = held, Listing(manager), Feed(held, reads)
    app.state.fetches = Reads(FETCHES_AT_ONCE, FETCH_WITHIN_S)
    app.state.acts = Reads(1, ACT_WITHIN_S)  # one study after another, so that checking all costs what one may cost
    app.state.archives = asyncio.Semaphore(ARCHIVES_AT_ONCE)
    counts = Counts(manager, app.state.feed)
    is_page = lambda path: bool(_PAGE.fullmatch(path))  # noqa: E731
    gate, opens = Gate.at(hosts, token), ("/", "/api/session", *(f"/{name}" for name in page_files.names()))
    Guard(gate, counts, is_page=is_page, opens=opens, largest_body_bytes=LARGEST_BODY_BYTES).on(app)
    app.add_exception_handler(Full, _full)
    app.add_exception_handler(InputError, _input_error)
    app.add_exception_handler(DamagedRun, _damaged)
    app.add_exception_handler(StorageOutage, _storage_outage)
    app.include_router(page_files.router(token is not None))
    slow = Reads(SLOW_AT_ONCE, SLOW_WITHIN_S)
    app.include_router(exploring.router(held, Held(manager), reads, slow, _ERRORS, _REPORT))
    app.include_router(drafting.router(manager, ceiling, reads, _ERRORS))
    app.include_router(_api())
    app.include_router(health.router(manager, app.state.listing, reads, counts))
    return app


class _Service(FastAPI):
    """FastAPI, whose document also tells what a study is."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            study = json.loads(json.dumps(json_schema()).replace("#/$defs/", "#/components/schemas/"))
            schemas = super().openapi()["components"]["schemas"]
            schemas |= {**study.pop("$defs"), "Study": study}
        assert self.openapi_schema is not None
        return self.openapi_schema


async def _input_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, InputError)
    problems = error.problems[:MOST_PROBLEMS]
    if left := len(error.problems) - len(problems):
        problems.append(f"and {left:,} more")
    text = "; ".join(problems)
    status = 404 if text.startswith("no run named") else 400
    return JSONResponse({"detail": text, "problems": problems}, status)


async def _full(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "60"})


async def _damaged(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 409)


async def _storage_outage(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 503)


async def _manager(request: Request) -> Manager:
    manager: Manager = request.app.state.manager
    return manager


Runs = Annotated[Manager, Depends(_manager)]


def _api() -> APIRouter:
    router = APIRouter(prefix="/api", responses=_ERRORS)
    _reading(router)
    _acting(router)
    _fetching(router)
    return router


def _reading(router: APIRouter) -> None:
    @router.get("/runs")
    async def list_runs(request: Request, since: Annotated[str, Query(max_length=64)] = "") -> dict[str, Any]:
        """Every run of the storage, the newest first; with the `stamp` of an answer before, those that have changed."""
        listing: Listing = request.app.state.listing
        return await _reads(request).do(listing.document, since)

    @router.get("/study-schema")
    async def study_schema() -> dict[str, Any]:
        """The JSON schema of a study."""
        return json_schema()

    @router.get("/runs/{run}")
    async def show(run: Name, request: Request) -> dict[str, Any]:
        """One run: state, progress, leaderboard, curves, final models, test scores."""
        return await _reads(request).do(live.document, request.app.state.held, run)

    @router.get("/runs/{run}/events", response_class=StreamingResponse)
    async def watch(run: Name, request: Request) -> StreamingResponse:
        """As `show`, sent again whenever it changes (server-sent events), until the watcher leaves or logs out."""
        feed: Feed = request.app.state.feed
        guard: Guard = request.app.state.guard

        async def is_gone() -> bool:
            return await request.is_disconnected() or guard.refusal(request, request.cookies) is not None

        stream, leave = await feed.of(run, is_gone)
        return _Streamed(stream, leave, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    @router.get("/runs/{run}/console", response_class=PlainTextResponse)
    async def console(
        run: Name,
        runs: Runs,
        request: Request,
        after: Annotated[
            int | None, Query(ge=0, le=2**62, description="`X-Console-End` of an answer before: what came since.")
        ] = None,
    ) -> PlainTextResponse:
        """The end of what the run's process printed here, or of that what is new. `X-Console-Begin` and `X-Console-End`
        say which bytes these are; where it does not begin at `after`, more than an answer holds came since, or it was
        shortened.
        """
        text, begin, end = await _reads(request).do(_console, runs, run, after)
        return PlainTextResponse(text, headers={"X-Console-Begin": str(begin), "X-Console-End": str(end)})


def _reads(request: Request) -> Reads:
    reads: Reads = request.app.state.reads
    return reads


def _console(runs: Manager, run: str, after: int | None) -> tuple[str, int, int]:
    runs.open(run)  # its error is a 404
    text, begin, end = console.end_of(runs.console(run), after, CONSOLE_TAIL_BYTES)
    return text + ("" if after else runs.not_started(run)), begin, end


class _Streamed(StreamingResponse):
    """Calls `gone` when it is sent, or is wanted no more, also where nothing of it was ever read."""

    def __init__(self, content: AsyncIterator[str | bytes], gone: Callable[[], object], **said: Any) -> None:
        super().__init__(content, **said)
        self._gone = gone

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._gone()


async def _pieces(reads: Reads, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while chunk := await reads.do(next, chunks, b""):
        yield chunk


def _acting(router: APIRouter) -> None:
    @router.post("/runs", status_code=201, openapi_extra=_SUBMISSION)
    async def submit(request: Request, runs: Runs) -> dict[str, Any]:
        """Checks a study and starts its run when there is room. A name that exists, with the same study, is resumed."""
        check_is_json(request)
        body, state = await _body(request), request.app.state
        told = await _acted(request, _submitted, runs, state.ceiling, body)  # a large study takes seconds
        request.state.run = told["run"]
        return told

    @router.post("/check", openapi_extra=_DRAFT)
    async def check(request: Request, runs: Runs) -> dict[str, Any]:
        """What a submission would be refused for, and what to know before it. Nothing is begun."""
        check_is_json(request)
        body, state = await _body(request), request.app.state
        return await _acted(request, _checked, runs, state.ceiling, body)

    @router.post("/runs/{run}/stop", status_code=202)
    async def stop(run: Name, runs: Runs, request: Request) -> dict[str, Any]:
        """Ends a run so that it can be resumed."""
        check_is_no_form(request)
        return await _acted(request, _done, runs, run, runs.stop)

    @router.post("/runs/{run}/resume", status_code=202)
    async def resume(run: Name, runs: Runs, request: Request) -> dict[str, Any]:
        """Lets an interrupted run go on."""
        check_is_no_form(request)
        return await _acted(request, _done, runs, run, runs.resume)


def _checked(runs: Manager, ceiling: Ceiling | None, body: bytes) -> dict[str, Any]:
    return drafting.of_check(runs, ceiling, _json(body))


async def _acted(request: Request, act: Callable[..., dict[str, Any]], *words: Any) -> dict[str, Any]:
    acts: Reads = request.app.state.acts
    return await acts.do(act, *words)


def _fetching(router: APIRouter) -> None:
    @router.get("/runs/{run}/files")
    async def list_files(run: Name, runs: Runs, request: Request, faces: WithFaces = True) -> dict[str, Any]:
        """Report, scores, models and log, with sizes and SHA-256: what `facex-tune pull` takes."""
        found = await _reads(request).do(runs.open, run)
        fetches: Reads = request.app.state.fetches
        return await fetches.do(partial(bundle.document, faces=faces), run, found.folder)

    @router.get("/runs/{run}/files/{path:path}", response_class=StreamingResponse)
    async def fetch(run: Name, path: str, runs: Runs, request: Request) -> Response:
        """One of these files; a range is understood."""
        file = await _reads(request).do(_opened, runs, run, path)
        return _File(file, "application/octet-stream", request.headers.get("range", ""), _reads(request))

    @router.get("/runs/{run}/archive", response_class=StreamingResponse)
    async def archive(run: Name, runs: Runs, request: Request, faces: WithFaces = True) -> Response:
        """All of them as one tar, so many of which are made at once."""
        going: asyncio.Semaphore = request.app.state.archives
        found = await _reads(request).do(runs.open, run)
        if going.locked():
            raise Full(f"{ARCHIVES_AT_ONCE} archives are being fetched; ask again")
        await going.acquire()
        pieces = _pieces(_reads(request), bundle.tar(run, found.folder, faces=faces))
        named = {"Content-Disposition": f'attachment; filename="{run}.tar"'}
        return _Streamed(pieces, going.release, media_type="application/x-tar", headers=named)

    @router.get("/runs/{run}/report/{path:path}", response_class=StreamingResponse)
    async def report(run: Name, path: str, runs: Runs, request: Request) -> Response:
        """The report's pages: `index.html`, `report.json`, `trials.csv`, figures."""
        path = f"report/{path or 'index.html'}"
        media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        file = await _reads(request).do(_opened, runs, run, path)
        answer = _File(file, media_type, "", _reads(request))
        answer.headers["Content-Security-Policy"] = _REPORT
        return answer


def _opened(runs: Manager, run: str, path: str) -> BinaryIO:
    """A file of a run by the path in its own list, so that no other can be named."""
    folder = runs.open(run).folder
    if path not in bundle.paths(folder):
        raise HTTPException(404, f"run {run!r} has no file {path[:200]!r}")
    return bundle.opened(folder, path)


class _File(_Streamed):
    """An open file, or one range of it.

    Raises:
        HTTPException: the range begins behind the end.
    """

    def __init__(self, file: BinaryIO, media_type: str, wanted: str, reads: Reads) -> None:
        size = file.seek(0, os.SEEK_END)
        said = re.fullmatch(r"bytes=(\d{1,18})-(\d{1,18})?", wanted)  # others that there are, we need not understand
        first, last = (int(said[1]), min(int(said[2] or size), size - 1)) if said else (0, size - 1)
        is_part = said is not None and int(said[2] or size) >= first
        if is_part and first >= size:
            file.close()
            raise HTTPException(416, f"the file has {size:,} bytes", {"Content-Range": f"bytes */{size}"})
        first, last = (first, last) if is_part else (0, size - 1)
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(last + 1 - first)}
        headers |= {"Content-Range": f"bytes {first}-{last}/{size}"} if is_part else {}
        pieces = _pieces(reads, bundle.rest(file, first, last + 1))
        status = 206 if is_part else 200
        super().__init__(pieces, partial(aside, file.close), status_code=status, headers=headers, media_type=media_type)


def _submitted(runs: Manager, ceiling: Ceiling | None, body: bytes) -> dict[str, Any]:
    with bounded_checks(received.MOST_COMBINATIONS, received.CHECKED_WITHIN_S):
        name, study = received.of_body(_json(body), ceiling)
        run = runs.submit(study, name)
    return {"version": 1, "run": run.name, "place": runs.place(run.name)}


def _done(runs: Manager, run: str, act: Callable[[str], None]) -> dict[str, Any]:
    runs.open(run)  # its error is a 404
    try:
        act(run)
    except Full:
        raise
    except InputError as error:
        raise HTTPException(409, "; ".join(error.problems)) from error
    return {"version": 1, "run": run, "place": runs.place(run)}


async def _body(request: Request) -> bytes:
    """What was sent, within bounds even where nobody said its length."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_BODY_BYTES:
                    raise HTTPException(413, f"a body has {LARGEST_BODY_BYTES:,} bytes at most")
    except ClientDisconnect as error:
        raise HTTPException(400, "the body has not come: the connection was closed") from error  # nobody hears it
    except TimeoutError as error:
        raise HTTPException(408, f"the body has not come within {BODY_WITHIN_S:g} s") from error
    return bytes(body)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body, object_pairs_hook=_said_once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is no JSON: {str(error)[:200]}") from error


def _said_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON lets the last of two equal keys win, silently."""
    said = dict(pairs)
    if len(said) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise InputError(f"{twice[:80]!r} is said twice in the body; say it once")
    return said


def _body_with(study: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """What a door says of its body, a study and the name of its run."""
    schema = {
        "type": "object",
        "required": ["study"],
        "additionalProperties": False,
        "properties": {"run": run, "study": study},
    }
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_STUDY = {"oneOf": [{"$ref": "#/components/schemas/Study"}, {"type": "string"}]}
_SUBMISSION = _body_with(_STUDY, {"type": "string", "pattern": NAME})
_DRAFT = _body_with({}, {})  # whatever is wrong with either is the answer
