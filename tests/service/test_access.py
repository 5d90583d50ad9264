"""Who is let in."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from facex_tune.errors import InputError
from facex_tune.pipeline.options import Options
from facex_tune.runs.store import Run
from facex_tune.service import access
from facex_tune.service.access import Gate

from . import doors
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


def first_line(url: str, path: str, host: str) -> str:
    """What a GET with any Host header is answered with."""
    address, port = url.removeprefix("http://").split(":")
    with socket.create_connection((address, int(port)), timeout=60) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            return answer.readline().decode().strip()


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/api/runs", "x/page.js?"),  # what older Starlette made a URL of, whose path then was /page.js
        ("/api/runs", "x/page.js#"),
        ("/api/runs/night/files", "x/api/session?"),
        ("/page.js%09", "127.0.0.1"),  # parsed as a URL, the tab is gone
    ],
)
def test_no_header_makes_a_door_look_like_an_open_one(options: Options, some_run: Run, path: str, host: str) -> None:
    with serving(options, TOKEN) as client:
        assert first_line(client.url, path, host) == "HTTP/1.1 401 Unauthorized"
        assert first_line(client.url, "/page.js", host) == "HTTP/1.1 200 OK"


def test_behind_a_proxy_that_gives_it_a_folder_the_same_doors_are_open(options: Options, some_run: Run) -> None:
    with serving(options, TOKEN, root_path="/under") as client:
        assert Client(client.url).ask("/page.js")[0] == 200
        assert Client(client.url).ask("/api/runs")[0] == 401
        assert client.ask("/api/runs")[0] == 200


def command(*words: str, token: str | None) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != access.TOKEN}
    environment |= {access.TOKEN: token} if token else {}
    return subprocess.Popen(
        [sys.executable, "-m", "facex_tune", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_a_service_that_others_reach_opens_no_door_without_the_token(some_run: Run, tmp_path: Path) -> None:
    storage = ["--storage", str(tmp_path / "runs")]
    with command("serve", "--host", "0.0.0.0", "--port", "0", *storage, token=TOKEN) as service:
        assert service.stdout is not None
        found = re.search(r"http://0\.0\.0\.0:(\d+)/ .*token wanted", service.stdout.readline())
        assert found
        url = f"http://127.0.0.1:{found[1]}"
        try:
            for token in (None, TOKEN[::-1]):
                assert doors.open_doors(url, doors.SERVICE, token) == {}
                pulled = command("pull", "night", "--service", url, "--to", str(tmp_path / "here"), token=token)
                _, errors = pulled.communicate()
                assert (pulled.returncode, errors.count("\n")) == (2, 1)
                assert access.TOKEN in errors
            assert doors.status(url, "GET /api/runs/night", TOKEN) == 200
        finally:
            service.terminate()
            service.communicate()


def test_the_service_starts_nowhere_else_without_a_token(tmp_path: Path) -> None:
    refused = command("serve", "--host", "0.0.0.0", "--port", "0", "--storage", str(tmp_path), token=None)
    _, errors = refused.communicate()
    assert (refused.returncode, errors.count("\n")) == (2, 1)
    assert access.TOKEN in errors


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.1 alone is loopback's")
def test_any_address_of_loopback_answers_under_its_own_name(some_run: Run, tmp_path: Path) -> None:
    words = ["serve", "--host", "127.0.0.2", "--port", "0", "--storage", str(tmp_path / "runs")]
    with command(*words, token=None) as service:
        assert service.stdout is not None
        found = re.search(r"(http://127\.0\.0\.2:\d+)/ ", service.stdout.readline())
        assert found
        try:
            assert doors.status(found[1], "GET /api/runs/night", None) == 200
            assert first_line(found[1], "/api/runs/night", "evil.example") == "HTTP/1.1 403 Forbidden"
        finally:
            service.terminate()
            service.communicate()


def test_the_token_becomes_a_cookie_for_the_browser(options: Options, some_run: Run) -> None:
    with serving(options, TOKEN) as client:
        assert Client(client.url).ask("/")[0] == 200  # the page itself asks
        assert Client(client.url).ask("/api/session", method="POST")[0] == 401
        assert client.ask("/api/session", method="POST")[0] == 204
        cookie = {"Cookie": f"{access.COOKIE}={TOKEN}"}
        assert Client(client.url).ask("/api/runs/night/report/index.html", headers=cookie)[0] == 200
