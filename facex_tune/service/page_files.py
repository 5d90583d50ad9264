"""What a browser shows: the page's own files, the script that draws its charts, and sessions."""

from __future__ import annotations

import pkgutil
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from facex_tune import report
from facex_tune.service.access import SESSION_LASTS_S, cookie_name
from facex_tune.service.guard import Guard, check_is_no_form
from facex_tune.service.reads import Reads

PAGES = Path(__file__).parent / "pages"
TEMPLATES = Path(str(report.__file__)).parent / "templates"
TYPES = {".js": "text/javascript", ".css": "text/css"}
_SHARED = "charts.js"  # the report's charts and the page's are dressed alike
PIECE_BYTES = 64 * 1024
GZIP = 16 + zlib.MAX_WBITS  # the form in which browsers take it
PACKED_WITHIN_S = 60.0
_SESSION: dict[int | str, dict[str, Any]] = {
    401: {"description": "A token is wanted."},
    403: {"description": "Not with this token, or not from there."},
    413: {"description": "Too large."},
    415: {"description": "A form."},
}
# plotly.js writes the rules of its maps into the page, which draws none and whose policy refuses them, unless something
# there has their name.
_OWN_RULES = re.compile(rb'if\(!document\.getElementById\("([0-9a-f]{64})"\)\)')


def names() -> list[str]:
    """The page's own files beside `/`: everybody may read them, since the page asks for the token itself."""
    return sorted([path.name for path in PAGES.iterdir() if path.suffix in TYPES] + [_SHARED])


def router(asks_for_token: bool) -> APIRouter:
    """The doors of a browser."""
    pages, made = APIRouter(include_in_schema=False), APIRouter()
    _files(pages, asks_for_token)
    _charts(pages)
    _sessions(made)
    made.include_router(pages)
    return made


def _files(made: APIRouter, asks_for_token: bool) -> None:
    html = (PAGES / "index.html").read_text(encoding="utf-8")
    html = html.replace("{{asks}}", str(asks_for_token).lower()).replace("{{plotly}}", version("plotly"))
    texts = {name: _text(name) for name in names()}

    # async, and read before: they are there however busy the threads are, and the disk

    @made.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse(html)

    for name, text in texts.items():
        made.add_api_route(f"/{name}", _answering(text, TYPES[Path(name).suffix]), methods=["GET"])


def _text(name: str) -> str:
    folder = TEMPLATES if name == _SHARED else PAGES
    return (folder / name).read_text(encoding="utf-8")


def _answering(text: str, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return Response(text, media_type=media_type)

    return answer


def _charts(made: APIRouter) -> None:
    packing = Reads(1, PACKED_WITHIN_S)  # its own: a store of runs that hangs does not hold it up
    packed: list[bytes] = []

    @made.get("/plotly.js")
    async def plotly(request: Request) -> Response:
        """plotly.js as the installed package has it, packed once."""
        if not packed:
            packed.append(await packing.do(_packed_plotly))
        takes_gzip = "gzip" in request.headers.get("accept-encoding", "")
        headers = {"Vary": "Accept-Encoding", "Cache-Control": "private, max-age=31536000, immutable"}
        headers |= {"Content-Encoding": "gzip"} if takes_gzip else {}
        pieces = _pieces(packed[0]) if takes_gzip else _unpacked(packed[0])
        return StreamingResponse(pieces, media_type=TYPES[".js"], headers=headers)


def _packed_plotly() -> bytes:
    script = pkgutil.get_data("plotly", "package_data/plotly.min.js")
    assert script is not None, "plotly's package has lost its script"
    names = sorted({name.decode() for name in _OWN_RULES.findall(script)})
    before = (
        f'for (const id of {names}) document.head.append(Object.assign(document.createElement("meta"), {{ id }}));\n'
    )
    packer = zlib.compressobj(6, wbits=GZIP)
    return packer.compress(before.encode() + script) + packer.flush()


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    """Piece by piece, so that a browser that takes none keeps none of it in memory."""
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]


async def _unpacked(content: bytes) -> AsyncIterator[bytes]:
    unpacker = zlib.decompressobj(wbits=GZIP)
    async for piece in _pieces(content):
        yield unpacker.decompress(piece)
    yield unpacker.flush()


def _sessions(made: APIRouter) -> None:
    @made.post("/api/session", status_code=204, response_class=Response, responses=_SESSION)
    async def session(request: Request) -> Response:
        """Begins a session for a token: a cookie that scripts cannot read, for pages and reports that a browser opens
        itself.
        """
        guard: Guard = request.app.state.guard
        gate = guard.gate
        if refused := guard.refusal(request, {}):
            return guard.refused(request, refused)
        check_is_no_form(request)
        answer = Response(status_code=204)
        if gate.token is not None:
            answer.set_cookie(
                cookie_name(request.headers),
                gate.sessions.begin(),
                max_age=int(SESSION_LASTS_S),
                httponly=True,
                samesite="strict",
                secure=request.scope["scheme"] == "https",
            )
        return answer

    @made.delete("/api/session", status_code=204, response_class=Response, responses=_SESSION)
    async def leave(request: Request) -> Response:
        """Ends the session."""
        guard: Guard = request.app.state.guard
        if refused := guard.refusal(request, request.cookies):
            return guard.refused(request, refused)
        name = cookie_name(request.headers)
        guard.gate.sessions.end(request.cookies.get(name, ""))
        answer = Response(status_code=204)
        answer.delete_cookie(name, httponly=True, samesite="strict")
        return answer
