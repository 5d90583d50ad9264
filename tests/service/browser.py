"""A browser without a window, driven through two pipes (Chrome DevTools Protocol): what a page shows, what its console
says, and what it asks for.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DEADLINE_S = 240
needed = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")


@dataclass
class Browser:
    """A page.

    Attributes:
        complaints: what its console said as a warning or an error, and exceptions that nobody caught.
        asked: every URL that it asked for.
    """

    _to: int
    _from: int
    _session: str = ""
    _rest: bytes = b""
    _number: int = 0
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def call(self, method: str, **params: Any) -> Any:
        """The result of a command of the protocol."""
        self._number += 1
        number = self._number
        said: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            said["sessionId"] = self._session
        os.write(self._to, json.dumps(said).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]
            self._see(told)

    def _next(self) -> Any:
        while b"\0" not in self._rest:
            assert select.select([self._from], [], [], DEADLINE_S)[0], "the browser does not answer"
            piece = os.read(self._from, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        said, _, self._rest = self._rest.partition(b"\0")
        return json.loads(said)

    def _see(self, told: Any) -> None:
        params = told.get("params", {})
        if told["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:500])
        elif told["method"] == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif told["method"] == "Runtime.consoleAPICalled" and params["type"] in ("warning", "error", "assert"):
            self.complaints.append(str([each.get("value") for each in params["args"]]))
        elif told["method"] == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])

    def open(self, url: str) -> None:
        """Goes to a page, or to another place of the same one."""
        self.call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript comes to."""
        told = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, expression: str) -> None:
        """Waits for it to be true; a page that is only coming has nothing to look at yet."""
        deadline = time.monotonic() + DEADLINE_S
        while not self.value(f"(() => {{ try {{ return Boolean({expression}); }} catch {{ return false; }} }})()"):
            if time.monotonic() > deadline:
                said = self.value("document.body.innerText.slice(0, 500)")
                raise AssertionError((expression, self.complaints[:5], said))
            time.sleep(0.05)

    def look(self, *, width: int, dark: bool = False, height: int = 900) -> None:
        """A window of that width, in pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """All of the page, as a PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 12_000), "scale": 1}
        told = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(told["data"]))


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """A browser with one empty page."""
    assert CHROMIUM is not None
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        words += ["--no-first-run", "--disable-component-update", "--disable-extensions", f"--user-data-dir={folder}"]
        # the protocol's pipes are 3 and 4 of the browser's own
        begin = f"import os, sys; os.dup2({to_read}, 3); os.dup2({from_write}, 4); os.execv(sys.argv[1], sys.argv[1:])"
        shell = [sys.executable, "-c", begin, *words, "--remote-debugging-pipe"]
        with subprocess.Popen(
            shell, pass_fds=(to_read, from_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            os.close(to_read)
            os.close(from_write)
            try:
                browser = Browser(to_write, from_read)
                target = browser.call("Target.createTarget", url="about:blank")["targetId"]
                session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
                browser._session = session
                for room in ("Page", "Runtime", "Log", "Network"):
                    browser.call(f"{room}.enable")
                browser.look(width=1280)
                yield browser
            finally:
                process.terminate()
                os.close(to_write)
                os.close(from_read)
