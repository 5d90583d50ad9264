"""A proxy in the environment: it is asked for other hosts, and never for this machine."""

from __future__ import annotations

import http.server
import os
import threading
import urllib.request
from collections.abc import Iterator

import pytest
import requests

from facex_tune.errors import InputError
from facex_tune.service import jobs
from facex_tune.service.pull import ServiceSource
from facex_tune.storage import loopback, remote_access
from tests.object_store import CREDENTIALS


class _Answering(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(404)
        self.end_headers()

    do_PUT = do_POST = do_HEAD = do_CONNECT = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.asked: list[str] = []

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.server_port}"


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    made = Server(), Server()
    threads = [threading.Thread(target=server.serve_forever) for server in made]
    for thread in threads:
        thread.start()
    yield made
    for server, thread in zip(made, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def proxy(servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("no_proxy", "NO_PROXY"):  # so that what the tests set is taken back
        monkeypatch.setenv(name, "")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{servers[0].at}")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return servers[0]


@pytest.fixture
def service(servers: tuple[Server, Server]) -> Server:
    return servers[1]


def ask_jobs(at: str) -> None:
    jobs.connect(f"http://{at}")


def ask_service(at: str) -> None:
    ServiceSource(f"http://{at}", "r", None).items()


def ask_store(at: str) -> None:
    fs, path = remote_access.opened(f"s3://bucket/{at}", f"endpoint_override={at}&scheme=http")
    fs.ls(path)


@pytest.mark.parametrize("ask", [ask_jobs, ask_service, ask_store])
def test_loopback_is_asked_directly(ask: object, proxy: Server, service: Server) -> None:
    with pytest.raises((InputError, FileNotFoundError)):
        ask(service.at)  # type: ignore[operator]
    assert service.asked
    assert not proxy.asked


def test_other_hosts_go_through_the_proxy(proxy: Server) -> None:
    loopback.spare_proxy("http://facex.test:8270")
    with pytest.raises(InputError):
        ask_service("facex.test")
    assert proxy.asked == ["http://facex.test/api/runs/r/files"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.8.7", "localhost", "a.localhost", "LOCALHOST", "[::1]", "0.0.0.0", "[::]"]
)
@pytest.mark.parametrize("said", ["", "example.com, .org", "*"])
def test_every_library_is_told_and_what_was_said_stays(
    host: str, said: str, proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", said)
    url = f"http://{host}:8265/x"
    loopback.spare_proxy(url)
    loopback.spare_proxy(url)
    assert urllib.request.proxy_bypass(f"{host}:8265")
    assert requests.utils.should_bypass_proxies(url, None)
    assert not requests.utils.should_bypass_proxies("http://facex.test", None) or said == "*"
    for name in ("no_proxy", "NO_PROXY"):
        told = os.environ.get(name, "").split(",")
        assert len(told) == len(set(told))
    assert set(said.split(", ")) - {""} <= set(os.environ["NO_PROXY"].split(","))


@pytest.mark.parametrize("url", ["", None, "http://10.0.0.1:8265", "http://[::2]", "http://[", "s3://bucket/x", "auto"])
def test_what_is_elsewhere_changes_nothing(url: str | None, proxy: Server) -> None:
    before = dict(os.environ)
    loopback.spare_proxy(url)
    assert dict(os.environ) == before


def test_without_a_proxy_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    before = dict(os.environ)
    loopback.spare_proxy("http://127.0.0.1:8265")
    assert dict(os.environ) == before
