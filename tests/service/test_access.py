"""Who is let in."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from facex_tune.errors import InputError
from facex_tune.pipeline.options import Options
from facex_tune.runs.events import TrialStarted
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
    assert refused(Gate(None), method, origin="http://127.0.0.1:8271") == 403
    assert refused(Gate(None), method, origin="https://127.0.0.1:8270") == 403
    assert refused(Gate(None), method, origin="http://127.0.0.1") == 403
    assert refused(Gate(None), method, origin="null") == 403
    assert refused(Gate(None), method, host="localhost", origin="http://localhost:80") is None
    assert refused(Gate(None), method, host="[::1]:8270", origin="http://[::1]:8270") is None
    assert refused(Gate(None), method) is None  # no browser


def test_a_token_by_header_or_cookie() -> None:
    gate = Gate(TOKEN)
    assert refused(gate) == 401
    assert refused(gate, authorization=f"Bearer {TOKEN}") is None
    assert refused(gate, authorization=f"Bearer {TOKEN}x") == 403
    assert refused(gate, authorization=f"Basic {TOKEN}") == 401
    assert refused(gate, cookies={"facex_session_8270": gate.sessions.begin()}) is None
    assert refused(gate, cookies={"facex_session_8271": gate.sessions.begin()}) == 401
    assert refused(gate, cookies={"facex_session_8270": TOKEN}) == 401


def test_a_session_ends_by_itself() -> None:
    now = [0.0]
    sessions = access.Sessions(10.0, lambda: now[0])
    word = sessions.begin()
    now[0] = 9.9
    assert sessions.holds(word)
    now[0] = 10.0
    assert not sessions.holds(word)


def test_sessions_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MOST_SESSIONS", 2)
    sessions = access.Sessions()
    words = [sessions.begin() for _ in range(3)]
    assert [sessions.holds(word) for word in words] == [False, True, True]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_elsewhere_may_ask_for_nothing(options: Options, some_run: Run, site: str) -> None:
    with serving(options) as client:
        said = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
        assert client.ask("/api/runs/night/archive", headers=said)[0] == 403
        assert client.ask("/api/runs", headers=said | {"Sec-Fetch-Mode": "navigate"})[0] == 403
        assert client.ask("/api/runs", headers={"Sec-Fetch-Site": "same-origin"})[0] == 200
        for page in ("/", "/api/runs/night/report/index.html"):
            assert client.ask(page, headers=said | {"Sec-Fetch-Mode": "navigate"})[0] == 200
        costly = "/api/comparison/page?run=night&run=night"
        assert client.ask(costly, headers=said | {"Sec-Fetch-Mode": "navigate"})[0] == 403
        assert client.ask("/api/runs/night/stop", method="POST", headers=said)[0] == 403


def test_a_study_comes_as_json_alone(options: Options) -> None:
    with serving(options) as client:
        said = {"Content-Type": "text/plain"}  # what a form elsewhere can send
        status, body = client.ask("/api/runs", method="POST", body={"study": "name: x"}, headers=said)
        assert (status, b"application/json" in body) == (415, True)


@pytest.mark.parametrize("door", ["/api/runs/night/stop", "/api/runs/night/resume", "/api/session"])
def test_no_form_opens_a_door_that_wants_no_body(options: Options, some_run: Run, door: str) -> None:
    with serving(options) as client:
        for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"):
            assert client.ask(door, method="POST", headers={"Content-Type": kind})[0] == 415
        status, _ = client.ask(door, method="POST")
        assert status in (204, 202, 409)


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
        assert "everybody with an account on this host" in service.stdout.readline()
        try:
            assert doors.status(found[1], "GET /api/runs/night", None) == 200
            assert first_line(found[1], "/api/runs/night", "evil.example") == "HTTP/1.1 403 Forbidden"
        finally:
            service.terminate()
            service.communicate()


def session(client: Client) -> tuple[str, str]:
    """The cookie that a token gets, and what the service says of it."""
    request = urllib.request.Request(f"{client.url}/api/session", method="POST")
    request.add_header("Authorization", f"Bearer {client.token}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        said = answer.headers["Set-Cookie"]
    return said.partition(";")[0], said


def test_the_token_becomes_a_session_for_the_browser(options: Options, some_run: Run) -> None:
    with serving(options, TOKEN) as client:
        browser = Client(client.url)
        assert browser.ask("/")[0] == 200  # the page itself asks
        assert browser.ask("/api/session", method="POST")[0] == 401
        cookie, said = session(client)
        assert TOKEN not in said
        assert all(each in said for each in ("HttpOnly", "SameSite=strict", "Max-Age=43200"))
        assert cookie.startswith(f"{access.COOKIE}_{client.url.rpartition(':')[2]}=")
        report = "/api/runs/night/report/index.html"
        assert browser.ask(report, headers={"Cookie": cookie})[0] == 200
        assert browser.ask("/api/session", method="DELETE", headers={"Cookie": cookie})[0] == 204
        assert browser.ask(report, headers={"Cookie": cookie})[0] == 401


def test_a_session_ends_over_http_by_itself(
    options: Options, some_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(Gate, "at", lambda hosts, token: Gate(token, sessions=access.Sessions(now=lambda: now[0])))
    with serving(options, TOKEN) as client:
        cookie, _ = session(client)
        browser = Client(client.url)
        now[0] = access.SESSION_LASTS_S - 1
        assert browser.ask("/api/runs", headers={"Cookie": cookie})[0] == 200
        now[0] = access.SESSION_LASTS_S
        status, said = browser.ask("/api/runs", headers={"Cookie": cookie})
        assert (status, b"this session has ended" in said) == (401, True)


@pytest.mark.parametrize("ends", ["log out", "by itself"])
def test_who_logs_out_watches_no_more(
    options: Options, some_run: Run, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    now = [0.0]
    monkeypatch.setattr(Gate, "at", lambda hosts, token: Gate(token, sessions=access.Sessions(now=lambda: now[0])))
    with serving(options, TOKEN) as client:
        cookies, streams = [], []
        for _ in range(2):
            cookies.append(session(client)[0])
            request = urllib.request.Request(f"{client.url}/api/runs/night/events", headers={"Cookie": cookies[-1]})
            streams.append(urllib.request.urlopen(request, timeout=60))
            assert streams[-1].readline().startswith(b"data: ")
            now[0] += 10.0
        with streams[0] as mine, streams[1] as others:
            if ends == "log out":
                left = Client(client.url).ask("/api/session", method="DELETE", headers={"Cookie": cookies[0]})
                assert left[0] == 204
            else:
                now[0] = access.SESSION_LASTS_S + 5.0
            assert mine.read() == b"\n"  # it has ended, whole
            with some_run.log() as log:
                log.append(TrialStarted(trial=1, config=some_run.history().trials[0].config, source="sampler"))
                assert others.readline() == b"\n"
                assert others.readline().startswith(b"data: ")  # that of another session goes on


def test_a_cookie_of_another_service_is_taken_away(options: Options, some_run: Run) -> None:
    with serving(options, TOKEN) as client:
        cookie, _ = session(client)
    with serving(options, TOKEN) as client:
        mine = f"{access.COOKIE}_{client.url.rpartition(':')[2]}={cookie.partition('=')[2]}"
        request = urllib.request.Request(f"{client.url}/api/runs", headers={"Cookie": mine})
        with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request, timeout=60):
            pass
        with refused.value as answer:
            assert answer.code == 401
            assert "Max-Age=0" in answer.headers["Set-Cookie"]


def test_a_token_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o640)  # as Kubernetes gives it to a group
    assert access.token(file) == TOKEN
    monkeypatch.setenv(access.TOKEN, TOKEN)
    with pytest.raises(InputError, match="FACEX_TOKEN is set, too"):
        access.token(file)


@pytest.mark.parametrize(("content", "mode"), [(TOKEN, 0o644), ("short", 0o600), ("", 0o600), (TOKEN * 999, 0o600)])
def test_a_token_file_that_keeps_nobody_out_is_refused(tmp_path: Path, content: str, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)
    with pytest.raises(InputError, match=r"may read it; `chmod o=|at least 16"):
        access.token(file)


def test_a_token_file_that_is_not_there_is_told_how_to_make(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match=r"--token-file .*openssl rand -hex 24 > "):
            access.token(path)
