"""Stands before every door of the service: lets requests in or refuses them, and writes down both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response

from facex_tune.service import health
from facex_tune.service.access import Gate, Refusal, cookie_name
from facex_tune.service.counts import Counts
from facex_tune.service.records import Records

HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
# plotly.js begins its own rules of style with an empty element; what stands in <b> it writes with font-weight:bold, and
# exponents with font-size:70%; contours it draws with an empty style.
_EMPTY = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
_BOLD = "'sha256-wkY2X5hecQzbhnFCqvTpwrUJ1f4X8LH5WFjYUzv1wmU='"
_RAISED = "'sha256-S+l+cz1wXqs2B0FcjqqT7NvjwGmhD1UjJswXjlSkj0s='"
_SAME_ORIGIN = (
    f"default-src 'self'; style-src 'self' {_EMPTY}; style-src-attr 'unsafe-hashes' {_EMPTY} {_BOLD} {_RAISED}; "
    "img-src 'self' data:; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
)


class Guard:
    """The gate, and what is told of it.

    Args:
        is_page: whether a path is one that a link elsewhere may lead to.
        opens: paths that need no token, where there is one: the page's own files, and what asks for itself.
    """

    def __init__(
        self,
        gate: Gate,
        counts: Counts,
        *,
        is_page: Callable[[str], bool],
        opens: Collection[str],
        largest_body_bytes: int,
    ) -> None:
        self.gate, self.counts, self.records = gate, counts, Records()
        self._is_page, self._opens, self._largest_body_bytes = is_page, frozenset(opens), largest_body_bytes

    def on(self, app: FastAPI) -> None:
        """Stands before the doors of an application."""
        app.state.guard = self

        @app.middleware("http")
        async def guard(request: Request, go_on: Callable[[Request], Any]) -> Response:
            path = routed_path(request)
            is_open = path in health.OPEN or (path in self._opens and self.gate.token is not None)
            refused = None if is_open else self.refusal(request, request.cookies, is_page=self._is_page(path))
            if refused is not None:
                return self.refused(request, refused)
            length = request.headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > self._largest_body_bytes:
                said = f"a body has {self._largest_body_bytes:,} bytes at most"
                return self.refused(request, Refusal(413, said, "too large"))
            response: Response = await go_on(request)
            self._answered(request, response.status_code)
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            response.headers.setdefault("Content-Security-Policy", _SAME_ORIGIN)
            return response

    def refusal(self, request: Request, cookies: Mapping[str, str], *, is_page: bool = False) -> Refusal | None:
        """As the gate says."""
        scheme = str(request.scope.get("scheme", "http"))
        return self.gate.refusal(request.method, request.headers, cookies, scheme=scheme, is_page=is_page)

    def refused(self, request: Request, refusal: Refusal) -> Response:
        """Its answer, which also takes away a cookie that lets nobody in."""
        request.state.is_refused = True
        self.counts.refused(refusal.why)
        self.records.refused(request.method, refusal.why, **self._about(request, refusal.status))
        headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
        answer = JSONResponse({"detail": refusal.detail}, refusal.status, headers | HEADERS)
        if refusal.status == 401 and (name := cookie_name(request.headers)) in request.cookies:
            answer.delete_cookie(name, httponly=True, samesite="strict")
        return answer

    def _answered(self, request: Request, status: int) -> None:
        if getattr(request.state, "is_refused", False):  # by a door that asks for itself
            return
        route = route_of(request)
        self.counts.answered(request.method, route, status)
        if status in (408, 413, 503):
            self.counts.refused({408: "too slow", 413: "too large", 503: "no room or no storage"}[status])
        run = request.path_params.get("run", "") or getattr(request.state, "run", "")
        who = self.gate.who(request.headers, request.cookies)
        self.records.answered(request.method, route, run=run, by=who, **self._about(request, status))

    def _about(self, request: Request, status: int) -> dict[str, object]:
        client = request.client.host if request.client else ""
        return {"path": request.scope["path"], "status": status, "client": client}


def check_is_json(request: Request) -> None:
    """Lets a body pass that comes as JSON, which no form can say.

    Raises:
        HTTPException: it does not.
    """
    if _type_of(request) != "application/json":
        raise HTTPException(415, "a study comes as JSON: Content-Type: application/json")


def check_is_no_form(request: Request) -> None:
    """The same for doors that want no body: a form says its kind even where it is empty.

    Raises:
        HTTPException: it has a kind, which is not JSON.
    """
    if _type_of(request) not in ("", "application/json"):
        raise HTTPException(415, "no form is taken here: send no body, or Content-Type: application/json")


def _type_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def routed_path(request: Request) -> str:
    """The path that routes are chosen by. `request.url` is no such thing: it is parsed anew from the Host header, which
    the caller writes.
    """
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))


def route_of(request: Request) -> str:
    """The door, without what a client put into its path."""
    return str(getattr(request.scope.get("route"), "path", "none"))
