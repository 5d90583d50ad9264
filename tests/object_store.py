"""An S3 server on loopback, and a proxy in front of it that fails as networks do."""

from __future__ import annotations

import asyncio
import io
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "only",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
NOT_FORWARDED = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "expect"}
FAULTS = ("refused", "internal", "slow_down", "lost_answer", "cut_answer")
_ANSWERS = {"internal": ("InternalError", 500), "slow_down": ("SlowDown", 503), "denied": ("AccessDenied", 403)}
STARTS_WITHIN_S = 120.0


@contextmanager
def server() -> Iterator[int]:
    """The port of an S3 server (moto's) in a process of its own."""
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not _answers(port):
            assert process.poll() is None, "the S3 server has ended"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


def make_bucket(port: int, name: str) -> None:
    """An empty bucket; this server checks no signature."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{name}", method="PUT", headers=_SIGNED)
    urllib.request.urlopen(request).close()


_SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=tests/20260101/us-east-1/s3/aws4_request"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/data.json", timeout=2).close()
    except OSError:
        return False
    return True


class FaultyProxy:
    """Forwards every request to the server behind it, or fails it.

    Attributes:
        rate: the share of requests that fail, each in one of `FAULTS` drawn at random: refused, answered with 500 or
            503, done but never answered, answered with half of the content.
        is_down: every request is cut off, as in an outage.
        is_silent: no request is answered, as when packets vanish.
        always: every request has this fault.
        ignores_conditions: "only if it is not there" goes unheard, as by stores that do not know it.
        requests: how many came, by method; failed ones by their fault.
    """

    def __init__(self, behind: int, seed: int = 0) -> None:
        self.rate, self.is_down, self.is_silent = 0.0, False, False
        self.next_fault: str | None = None
        self.always: str | None = None
        self.ignores_conditions = False
        self.requests: Counter[str] = Counter()
        self.port = _free_port()
        self._behind, self._draw = behind, random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ready, self._over = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        assert self._ready.wait(STARTS_WITHIN_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def url(self, bucket: str) -> str:
        """What --storage is given."""
        return f"s3://{bucket}?endpoint_override=127.0.0.1:{self.port}&scheme=http"

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.run_until_complete(_end_others())
        self._loop.close()

    async def _serve(self) -> None:
        # S3 creates a key once however many ask at a moment; the server behind does so only one request at a time
        self._writing = asyncio.Lock()
        timeout, connector = ClientTimeout(total=60), TCPConnector(limit=32)
        async with ClientSession(auto_decompress=False, timeout=timeout, connector=connector) as self._session:
            runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            self._ready.set()
            await self._over.wait()
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests[request.method] += 1
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body = await request.content.read()  # `request.read` takes no more than a megabyte
        if self.is_silent:
            await asyncio.sleep(3600)
        fault = "refused" if self.is_down else self._fault()
        if fault:
            self.requests[fault] += 1
        if fault == "refused":
            return _cut(request)
        if fault in _ANSWERS:
            code, status = _ANSWERS[fault]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>planted</Message></Error>"
            return web.Response(status=status, text="" if request.method == "HEAD" else text)
        if request.method in ("PUT", "POST", "DELETE"):
            async with self._writing:
                status, headers, content = await self._forward(request, body)
        else:
            status, headers, content = await self._forward(request, body)
        if fault == "lost_answer":
            return _cut(request)
        if fault == "cut_answer" and content and request.method == "GET":
            return await _half(request, status, headers, content)
        if request.method == "HEAD":
            return await _head(request, status, headers)
        return web.Response(status=status, headers=_kept(headers), body=content)

    def _fault(self) -> str | None:
        if self.always is not None:
            return self.always
        if self.next_fault is not None:
            fault, self.next_fault = self.next_fault, None
            return fault
        return self._draw.choice(FAULTS) if self._draw.random() < self.rate else None

    async def _forward(self, request: web.BaseRequest, body: bytes) -> tuple[int, Any, bytes]:
        url = URL(f"http://127.0.0.1:{self._behind}{request.raw_path}", encoded=True)
        headers = _kept(request.headers)
        if self.ignores_conditions:
            headers = {name: value for name, value in headers.items() if name.lower() != "if-none-match"}
        content = io.BytesIO(body) if body else None  # aiohttp warns of a large one as bytes
        async with self._session.request(
            request.method, url, headers=headers, data=content, allow_redirects=False
        ) as answer:
            return answer.status, answer.headers, await answer.read()


async def _end_others() -> None:
    """What still waits on connections that a client keeps open."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _kept(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in NOT_FORWARDED}


def _cut(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _half(request: web.BaseRequest, status: int, headers: Any, content: bytes) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers={**_kept(headers), "Content-Length": str(len(content))})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    return _cut(request)


async def _head(request: web.BaseRequest, status: int, headers: Any) -> web.StreamResponse:
    length = {"Content-Length": headers["Content-Length"]} if "Content-Length" in headers else {}
    response = web.StreamResponse(status=status, headers={**_kept(headers), **length})
    await response.prepare(request)
    return response
