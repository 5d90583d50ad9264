"""The service: submit studies, watch, stop and resume runs, fetch reports, over HTTP. A study is data here: it is
checked, stored and run, and nothing in it is executed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mimetypes
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse

from facex_tune import __version__
from facex_tune.errors import InputError, StorageOutage
from facex_tune.pipeline.options import Options
from facex_tune.runs import overview as told
from facex_tune.runs.store import Run
from facex_tune.service import bundle, live, received
from facex_tune.service.access import COOKIE, Gate
from facex_tune.service.manager import Manager
from facex_tune.storage.files import DamagedRun, Place
from facex_tune.study import json_schema

PAGES = Path(__file__).parent / "pages"
LARGEST_BODY_BYTES = 4 * received.LARGEST_BYTES  # a study within JSON, escaped
CONSOLE_TAIL_BYTES = 64 * 1024
WATCHED_EVERY_S = 1.0
STILL_THERE_EVERY_S = 15.0
MOST_WATCHERS = 64
MOST_PROBLEMS = 50  # a study can be wrong in thousands of places
_SAME_ORIGIN = "default-src 'self'; img-src 'self' data:; frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
# A report carries its own scripts and pictures; the sandbox gives it an origin of its own, without our cookie.
_REPORT = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}

Name = Annotated[str, PathParameter(pattern=received.NAME, description="A run's name.")]
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "What was sent is not what is wanted; `detail` says why."},
    401: {"description": "A token is wanted."},
    403: {"description": "Not with this token, or not from there."},
    404: {"description": "No such run or file."},
    409: {"description": "Not as the run stands; `detail` says why."},
    413: {"description": "Too large."},
    503: {"description": "The storage of runs does not answer."},
}


def application(options: Options, token: str | None, *, at_once: int = 1, hosts: Iterable[str] = ()) -> FastAPI:
    """The service over a folder of runs.

    Args:
        token: what callers must know; None: whoever reaches it.
        at_once: runs beside each other.
        hosts: where it listens, besides the usual names of loopback.
    """
    manager = Manager(options, at_once)

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
    app.state.manager, app.state.watchers = manager, 0
    _guard(app, Gate.at(hosts, token))
    app.add_exception_handler(InputError, _input_error)
    app.add_exception_handler(DamagedRun, _damaged)
    app.add_exception_handler(StorageOutage, _storage_outage)
    app.include_router(_pages(token is not None))
    app.include_router(_api())
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


def _guard(app: FastAPI, gate: Gate) -> None:
    open_paths = ("/", "/page.js", "/page.css", "/api/session")

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Any]) -> Response:
        refused = None if _routed_path(request) in open_paths and gate.token else gate.refusal(
            request.method, request.headers, request.cookies
        )
        if refused is not None:
            status, detail = refused
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
            return JSONResponse({"detail": detail}, status, headers | _HEADERS)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > LARGEST_BODY_BYTES:
            return JSONResponse({"detail": f"a body has {LARGEST_BODY_BYTES:,} bytes at most"}, 413, _HEADERS)
        response: Response = await go_on(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", _SAME_ORIGIN)
        return response

    app.state.gate = gate


def _routed_path(request: Request) -> str:
    """The path that routes are chosen by. `request.url` is no such thing: it is parsed anew from the Host header, which
    the caller writes.
    """
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))


async def _input_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, InputError)
    problems = error.problems[:MOST_PROBLEMS]
    if left := len(error.problems) - len(problems):
        problems.append(f"and {left:,} more")
    text = "; ".join(problems)
    status = 404 if text.startswith("no run named") else 400
    return JSONResponse({"detail": text, "problems": problems}, status)


async def _damaged(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 409)


async def _storage_outage(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 503)


def _manager(request: Request) -> Manager:
    manager: Manager = request.app.state.manager
    return manager


Runs = Annotated[Manager, Depends(_manager)]


def _pages(asks_for_token: bool) -> APIRouter:
    """What a browser shows."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def page() -> HTMLResponse:
        html = (PAGES / "index.html").read_text(encoding="utf-8")
        return HTMLResponse(html.replace("{{asks}}", "true" if asks_for_token else "false"))

    @router.get("/page.js")
    def script() -> FileResponse:
        return FileResponse(PAGES / "page.js", media_type="text/javascript")

    @router.get("/page.css")
    def style() -> FileResponse:
        return FileResponse(PAGES / "page.css", media_type="text/css")

    @router.post("/api/session")
    async def session(request: Request) -> Response:
        """Turns a token into a cookie that scripts cannot read, for pages and reports that a browser opens itself."""
        gate: Gate = request.app.state.gate
        refused = gate.refusal(request.method, request.headers, {})
        if refused is not None:
            return JSONResponse({"detail": refused[1]}, refused[0])
        answer = Response(status_code=204)
        if gate.token is not None:
            secure = request.url.scheme == "https"
            answer.set_cookie(COOKIE, gate.token, httponly=True, samesite="strict", secure=secure)
        return answer

    return router


def _api() -> APIRouter:
    router = APIRouter(prefix="/api", responses=_ERRORS)
    _reading(router)
    _acting(router)
    _fetching(router)
    return router


def _reading(router: APIRouter) -> None:
    @router.get("/runs")
    def list_runs(runs: Runs) -> dict[str, Any]:
        """Every run of the storage, the newest first."""
        found = told.of_runs(runs.options.storage)
        for each in found["runs"]:
            if "problem" not in each:
                each["place"] = runs.place(each["run"])
        return found

    @router.get("/study-schema")
    def study_schema() -> dict[str, Any]:
        """The JSON schema of a study."""
        return json_schema()

    @router.get("/runs/{run}")
    def show(run: Name, runs: Runs) -> dict[str, Any]:
        """One run: state, leaderboard, curves, final models, test scores."""
        return live.document(runs, run)

    @router.get("/runs/{run}/events", response_class=StreamingResponse)
    async def watch(run: Name, runs: Runs, request: Request) -> StreamingResponse:
        """As `show`, sent again whenever it changes (server-sent events)."""
        await run_in_threadpool(live.document, runs, run)  # a run missing or damaged is told of before a stream begins
        if request.app.state.watchers >= MOST_WATCHERS:
            raise HTTPException(409, f"{MOST_WATCHERS} are watching already; ask `GET /api/runs/{run}` instead")
        return StreamingResponse(_changes(request, runs, run), media_type="text/event-stream")

    @router.get("/runs/{run}/console", response_class=PlainTextResponse)
    def console(run: Name, runs: Runs) -> PlainTextResponse:
        """The end of what the run's process printed here."""
        runs.open(run)  # its error is a 404
        return PlainTextResponse(_end_of(runs.console(run)) + runs.not_started(run))


def _end_of(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - CONSOLE_TAIL_BYTES))
        return file.read().decode(errors="replace")


async def _changes(request: Request, runs: Manager, name: str) -> AsyncIterator[str]:
    request.app.state.watchers += 1
    before, quiet_s = "", 0.0
    try:
        run = await run_in_threadpool(runs.open, name)
        while not await request.is_disconnected():
            now = await run_in_threadpool(live.stamp, runs, run)
            if now != before:
                document = await run_in_threadpool(live.document, runs, name)
                yield f"data: {json.dumps(document, allow_nan=False)}\n\n"
                before, quiet_s = now, 0.0
            elif quiet_s >= STILL_THERE_EVERY_S:
                yield ": still there\n\n"
                quiet_s = 0.0
            await asyncio.sleep(WATCHED_EVERY_S)
            quiet_s += WATCHED_EVERY_S
    finally:
        request.app.state.watchers -= 1


def _acting(router: APIRouter) -> None:
    @router.post("/runs", status_code=201, openapi_extra=_SUBMISSION)
    async def submit(request: Request, runs: Runs) -> dict[str, Any]:
        """Checks a study and starts its run when there is room. A name that exists, with the same study, is resumed."""
        run = await run_in_threadpool(_submitted, runs, await _body(request))  # a large study takes seconds to check
        return {"version": 1, "run": run.name, "place": runs.place(run.name)}

    @router.post("/runs/{run}/stop", status_code=202)
    def stop(run: Name, runs: Runs) -> dict[str, Any]:
        """Ends a run so that it can be resumed."""
        _or_conflict(runs, run, runs.stop)
        return {"version": 1, "run": run, "place": runs.place(run)}

    @router.post("/runs/{run}/resume", status_code=202)
    def resume(run: Name, runs: Runs) -> dict[str, Any]:
        """Lets an interrupted run go on."""
        _or_conflict(runs, run, runs.resume)
        return {"version": 1, "run": run, "place": runs.place(run)}


def _fetching(router: APIRouter) -> None:
    @router.get("/runs/{run}/files")
    def list_files(run: Name, runs: Runs) -> dict[str, Any]:
        """Report, scores, models and log, with sizes and SHA-256: what `facex-tune pull` takes."""
        return bundle.document(run, runs.open(run).folder)

    @router.get("/runs/{run}/files/{path:path}", response_class=FileResponse)
    def fetch(run: Name, path: str, runs: Runs) -> Response:
        """One of these files; ranges are understood where the storage is a folder."""
        return _sent(_file(runs, run, path), "application/octet-stream")

    @router.get("/runs/{run}/archive", response_class=FileResponse)
    def archive(run: Name, runs: Runs) -> FileResponse:
        """All of them as one tar."""
        folder = runs.open(run).folder
        descriptor, made = tempfile.mkstemp(prefix="facex-tune-", suffix=".tar")
        with os.fdopen(descriptor, "wb") as sink:
            bundle.write_tar(run, folder, sink)
        gone = BackgroundTasks()
        gone.add_task(Path(made).unlink, missing_ok=True)
        return FileResponse(made, media_type="application/x-tar", filename=f"{run}.tar", background=gone)

    @router.get("/runs/{run}/report/{path:path}", response_class=FileResponse)
    def report(run: Name, path: str, runs: Runs) -> Response:
        """The report's pages: `index.html`, `report.json`, `trials.csv`, figures."""
        found = _file(runs, run, f"report/{path or 'index.html'}")
        answer = _sent(found, mimetypes.guess_type(found.name)[0] or "application/octet-stream")
        answer.headers["Content-Security-Policy"] = _REPORT
        return answer


def _sent(path: Place, media_type: str) -> Response:
    if isinstance(path, Path):
        return FileResponse(path, media_type=media_type)
    return Response(path.read_bytes(), media_type=media_type)


def _file(runs: Manager, run: str, path: str) -> Place:
    """A file of a run by the path in its own list, so that no other can be named."""
    folder = runs.open(run).folder
    if path not in bundle.paths(folder):
        raise HTTPException(404, f"run {run!r} has no file {path[:200]!r}")
    return folder / path


def _submitted(runs: Manager, body: bytes) -> Run:
    name, study = received.of_body(_json(body))
    return runs.submit(study, name)


def _or_conflict(runs: Manager, run: str, act: Callable[[str], None]) -> None:
    runs.open(run)  # its error is a 404
    try:
        act(run)
    except InputError as error:
        raise HTTPException(409, "; ".join(error.problems)) from error


async def _body(request: Request) -> bytes:
    """What was sent, within bounds even where nobody said its length."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY_BYTES:
            raise HTTPException(413, f"a body has {LARGEST_BODY_BYTES:,} bytes at most")
    return bytes(body)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is no JSON: {str(error)[:200]}") from error


_SUBMISSION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["study"],
                    "additionalProperties": False,
                    "properties": {
                        "run": {"type": "string", "pattern": received.NAME},
                        "study": {"oneOf": [{"$ref": "#/components/schemas/Study"}, {"type": "string"}]},
                    },
                }
            }
        },
    }
}
