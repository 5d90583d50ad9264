"""Who is let in."""

from __future__ import annotations

import pytest

from facex_tune.errors import InputError
from facex_tune.pipeline import Options
from facex_tune.service import access
from facex_tune.service.access import Gate
from facex_tune.store import Run

from .conftest import Client, serving

TOKEN = "0123456789abcdef0123"


def refused(gate: Gate, method: str = "GET", cookies: dict[str, str] | None = None, **headers: str) -> int | None:
    found = gate.refusal(method, {"host": "127.0.0.1:8270", **headers}, cookies or {})
    return found[0] if found else None


def test_on_loopback_everybody_of_this_host_may_pass() -> None:
    assert refused(Gate(None)) is None
    assert refused(Gate(None), host="localhost:1") is None
    assert refused(Gate(None), host="[::1]:8270") is None


def test_a_name_that_was_made_to_resolve_to_this_host_may_not() -> None:
    assert refused(Gate(None), host="evil.example:8270") == 403


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_page_elsewhere_may_not_act(method: str) -> None:
    assert refused(Gate(None), method, origin="https://evil.example") == 403
    assert refused(Gate(None), method, origin="http://127.0.0.1:8270") is None
    assert refused(Gate(None), method) is None  # no browser


def test_a_token_by_header_or_cookie() -> None:
    gate = Gate(TOKEN)
    assert refused(gate) == 401
    assert refused(gate, authorization=f"Bearer {TOKEN}") is None
    assert refused(gate, authorization=f"Bearer {TOKEN}x") == 403
    assert refused(gate, authorization=f"Basic {TOKEN}") == 401
    assert refused(gate, cookies={access.COOKIE: TOKEN}) is None
    assert refused(gate, cookies={access.COOKIE: "wrong"}) == 403


def test_elsewhere_than_loopback_a_token_is_needed() -> None:
    access.check_bind("127.0.0.1", None)
    access.check_bind("::1", None)
    access.check_bind("0.0.0.0", TOKEN)
    with pytest.raises(InputError, match="FACEX_TOKEN"):
        access.check_bind("0.0.0.0", None)


@pytest.mark.parametrize("said", ["short", "with space " * 4, "ü" * 20, 'quote"' * 5])
def test_a_token_that_keeps_nobody_out_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(access.TOKEN, said)
    with pytest.raises(InputError, match="at least 16"):
        access.token()


@pytest.mark.parametrize(
    "path", ["/api/runs", "/api/runs/night", "/api/runs/night/files", "/openapi.json", "/api/runs/night/archive"]
)
def test_every_door_asks_for_the_token(options: Options, some_run: Run, path: str) -> None:
    with serving(options, TOKEN) as client:
        assert Client(client.url).ask(path)[0] == 401
        assert Client(client.url, "wrong" * 5).ask(path)[0] == 403
        assert client.ask(path)[0] == 200
        assert Client(client.url).ask("/api/runs/night/stop", method="POST")[0] == 401


def test_the_token_becomes_a_cookie_for_the_browser(options: Options, some_run: Run) -> None:
    with serving(options, TOKEN) as client:
        assert Client(client.url).ask("/")[0] == 200  # the page itself asks
        assert Client(client.url).ask("/api/session", method="POST")[0] == 401
        assert client.ask("/api/session", method="POST")[0] == 204
        cookie = {"Cookie": f"{access.COOKIE}={TOKEN}"}
        assert Client(client.url).ask("/api/runs/night/report/index.html", headers=cookie)[0] == 200
