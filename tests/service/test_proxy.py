"""Behind nginx, set up as docs/service.md says."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest

from facex_tune.pipeline.options import Options
from facex_tune.runs.events import TrialStarted
from facex_tune.runs.store import Run
from facex_tune.service import listen

from .conftest import serving
from .test_access import TOKEN

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "service.md"
DEADLINE_S = 60.0
WHOLE = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{ access_log {folder}/access.log; {temporary} {server} }}
"""
pytestmark = pytest.mark.skipif(NGINX is None, reason="needs nginx: apt-get install nginx-light")


def settings(folder: Path, port: int, service: str, path: str) -> str:
    """The page's own block, at free ports and below `path`."""
    found = re.search(r"^```nginx\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found
    server = found[1].replace("listen 443", f"listen 127.0.0.1:{port}").replace("/etc/ssl/", f"{folder}/")
    server = server.replace("location / {", f"location {path} {{")
    target = f"proxy_pass {service}" + ("" if path == "/" else "/")
    server = server.replace("proxy_pass http://127.0.0.1:8270", target)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    return WHOLE.format(folder=folder, temporary=temporary, server=server)


def certificate(folder: Path) -> None:
    words = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    words += ["-keyout", str(folder / "facex.key"), "-out", str(folder / "facex.crt")]
    subprocess.run(["openssl", "req", *words], check=True, capture_output=True)


@pytest.fixture(params=["/", "/facex/"])
def proxied(request: pytest.FixtureRequest, options: Options, some_run: Run, tmp_path: Path) -> Iterator[Browser]:
    folder = tmp_path / "nginx"
    folder.mkdir()
    certificate(folder)
    with listen._bound("127.0.0.1", 0) as free:
        port = int(free.getsockname()[1])
    assert NGINX
    with serving(options, TOKEN) as client:
        (folder / "nginx.conf").write_text(settings(folder, port, client.url, request.param))
        with subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]) as nginx:
            try:
                yield Browser(f"https://localhost:{port}", request.param, folder)
            finally:
                nginx.terminate()


class Browser:
    """What a page behind the proxy asks."""

    def __init__(self, origin: str, path: str, folder: Path) -> None:
        self.origin, self.path, self.folder, self.cookie = origin, path, folder, ""
        self._tls = ssl.create_default_context(cafile=str(folder / "facex.crt"))
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                return self.ask("page.css").close()
            except OSError:
                time.sleep(0.05)
        raise AssertionError((self.folder / "error.log").read_text())

    def ask(self, path: str, method: str = "GET", **headers: str) -> HTTPResponse:
        said = {"Origin": self.origin, "Cookie": self.cookie} | headers
        request = urllib.request.Request(f"{self.origin}{self.path}{path}", method=method, headers=said)
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=60, context=self._tls)
        return answer

    def status(self, path: str, method: str = "GET", **headers: str) -> int:
        try:
            with self.ask(path, method, **headers) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code


def test_the_page_works_behind_nginx(proxied: Browser, some_run: Run) -> None:
    assert proxied.status("api/runs") == 401
    with proxied.ask("api/session", "POST", Authorization=f"Bearer {TOKEN}") as answer:
        said = answer.headers["Set-Cookie"]
    assert "Secure" in said
    proxied.cookie = said.partition(";")[0]
    assert proxied.status("api/runs") == 200
    assert proxied.status("api/runs/night/archive") == 200
    assert proxied.status("api/runs", Origin=proxied.origin.replace("https", "http")) == 403
    assert proxied.status("api/runs", Origin="https://evil.example") == 403
    _events_come_at_once(proxied, some_run)
    assert proxied.status("api/session", "DELETE") == 204
    assert proxied.status("api/runs") == 401
    assert TOKEN not in (proxied.folder / "access.log").read_text()


def _events_come_at_once(proxied: Browser, run: Run) -> None:
    with proxied.ask("api/runs/night/events") as stream:
        first = json.loads(stream.readline().removeprefix(b"data: "))
        with run.log() as log:
            log.append(TrialStarted(trial=1, config=run.history().trials[0].config, source="sampler"))
            line = b""
            while not line.startswith(b"data: "):
                line = stream.readline()
    assert (len(first["leaderboard"]), len(json.loads(line.removeprefix(b"data: "))["leaderboard"])) == (1, 2)
