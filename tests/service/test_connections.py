"""Clients that are slow, idle or many, and a store that hangs: the service stays there for the others."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from facex_tune.pipeline.options import Options
from facex_tune.runs.store import Run
from facex_tune.service import connections, listen, live, serve

from .conftest import Client, serving

DEADLINE_S = 60.0
SOON_S = 0.3
SUBMIT = b"POST /api/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"

ARCHIVE = b"GET /api/runs/night/archive HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@contextlib.contextmanager
def connected(service: Client, said: bytes = b"", *, window_bytes: int = 0) -> Iterator[socket.socket]:
    """A plain connection that has said so much."""
    host, port = urllib.parse.urlsplit(service.url).netloc.split(":")
    with socket.socket() as connection:
        connection.settimeout(DEADLINE_S)
        if window_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
        connection.connect((host, int(port)))
        connection.sendall(said)
        yield connection


def all_of(connection: socket.socket) -> bytes:
    """What comes until the other side closes, or breaks it off."""
    found = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(1 << 16):
            found += chunk
    return bytes(found)


@pytest.mark.parametrize("said", [b"", b"G", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "])
def test_a_head_that_does_not_end_is_not_waited_for(
    service: Client, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", SOON_S)
    with connected(service, said) as connection:
        assert all_of(connection) == b""


def test_a_head_that_drips_is_not_waited_for(service: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", SOON_S)
    with connected(service, b"GET / HTTP/1.1\r\n") as connection, pytest.raises(ConnectionError):
        _drip(connection)


def _drip(connection: socket.socket) -> None:
    for _ in range(int(DEADLINE_S / 0.02)):
        connection.sendall(b"X: y\r\n")
        time.sleep(0.02)


def test_a_second_request_has_its_time_too(service: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", SOON_S)
    with connected(service, b"GET /page.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as connection:
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.sendall(b"GET ")
        assert all_of(connection).count(b"HTTP/1.1") == 0


def test_a_body_that_does_not_come_is_not_waited_for(service: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "BODY_WITHIN_S", SOON_S)
    with connected(service, SUBMIT) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


def test_one_connection_too_many_is_told_so(service: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 2)
    with connected(service), connected(service), connected(service) as third:
        assert all_of(third).startswith(b"HTTP/1.1 503")
    until(lambda: service.ask("/page.css")[0] == 200)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def large_run(some_run: Run) -> Run:
    with (some_run.folder / "final" / "large.bin").open("wb") as file:
        file.truncate(40_000_000)  # more than the kernel keeps between two programs
    return some_run


def test_an_answer_that_nobody_takes_is_given_up(
    options: Options, large_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "ARCHIVES_AT_ONCE", 1)
    monkeypatch.setattr(connections, "TAKEN_WITHIN_S", SOON_S)
    with serving(options) as client, connected(client, ARCHIVE, window_bytes=4096) as connection:
        assert connection.recv(12) == b"HTTP/1.1 200"
        until(lambda: client.ask("/api/runs/night/archive")[0] == 200)  # its place is free again
        assert len(all_of(connection)) < 40_000_000


def test_so_many_archives_are_made_at_once(options: Options, large_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "ARCHIVES_AT_ONCE", 1)
    with serving(options) as client:
        with connected(client, ARCHIVE, window_bytes=4096) as connection:
            assert connection.recv(12) == b"HTTP/1.1 200"
            assert client.ask("/api/runs/night/archive")[0] == 503
        until(lambda: client.ask("/api/runs/night/archive")[0] == 200)


def test_slow_clients_do_not_keep_the_service_from_ending(
    options: Options, large_run: Run, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody_went: list[bool] = []
    let_go = listen.Server._let_go

    def watched(server: listen.Server, *, everybody: bool) -> None:
        everybody_went.append(everybody)
        let_go(server, everybody=everybody)

    monkeypatch.setattr(listen, "ENDS_WITHIN_S", DEADLINE_S)
    monkeypatch.setattr(listen.Server, "_let_go", watched)
    with contextlib.ExitStack() as ends:
        with serving(options) as client:
            taking = ends.enter_context(connected(client, ARCHIVE, window_bytes=4096))
            assert taking.recv(12) == b"HTTP/1.1 200"
            ends.enter_context(connected(client, SUBMIT))
            ends.enter_context(connected(client, b"GET / HTTP/1.1\r\nX-Slow: "))
            until(lambda: client.ask("/page.css")[0] == 200)
        assert len(all_of(taking)) < 40_000_000
    assert capfd.readouterr().err == ""  # uvicorn's tracebacks would be there
    assert not any(everybody_went)  # those who wait for nobody had their time


@pytest.fixture
def hanging_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A store that answers no question of a run until it is set."""
    back, document = threading.Event(), live.document
    monkeypatch.setattr(live, "document", lambda *words: (back.wait(DEADLINE_S), document(*words))[1])
    yield back
    back.set()


def test_a_store_that_hangs_holds_up_nothing_else(
    options: Options, some_run: Run, hanging_store: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "READ_WITHIN_S", SOON_S)
    monkeypatch.setattr(serve, "READS_AT_ONCE", 2)
    with serving(options) as client, ThreadPoolExecutor(8) as askers:
        answers = list(askers.map(lambda _: client.ask("/api/runs/night"), range(8)))
        assert {status for status, _ in answers} == {503}
        assert b"has not answered within 0.3 s" in answers[0][1]
        assert [client.ask(path)[0] for path in ("/", "/page.js", "/page.css", "/api/runs")] == [200, 200, 200, 503]
        hanging_store.set()
        until(lambda: client.ask("/api/runs/night")[0] == 200)
        assert client.ask("/api/runs")[0] == 200


def test_a_store_that_hangs_does_not_keep_the_service_from_ending(
    options: Options, some_run: Run, hanging_store: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "READ_WITHIN_S", SOON_S)
    with serving(options) as client:
        assert client.ask("/api/runs/night")[0] == 503
    assert not hanging_store.is_set()
