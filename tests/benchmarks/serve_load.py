"""`facex-tune serve` under load: 200 runs, 50 watchers, as many pages that ask for the list, ten slow clients (heads
and bodies that do not end, archives that nobody takes), and a storage that hangs for 12 seconds.

    python tests/benchmarks/serve_load.py [--code before=DIR --code after=DIR] [--rounds 3] [--hang 12]

Measured are the page's own files, each over a connection of its own, while the storage hangs; the list of runs when it
is back; the service's memory under load and idle; its end in the middle of it all; and, of the last checkout
that is named, how many of three runs, one that goes and two that wait, are still there after an end and another start.
With two checkouts they take turns, and what is to be quoted are the ratios. The storage hangs by a wrapper around
`Run.open` and `Run.names` in the service's process, which wait while a file exists.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.search.conftest import tiny_study
from tests.service.conftest import STUDY, write_run

OLDEST = ("/", "/page.js", "/page.css")  # of its files, in every checkout
QUEUED = 3  # runs
SERVE = """
import sys, time
from pathlib import Path
from facex_tune.cli import main
from facex_tune.runs.store import Run

hang, storage = Path(sys.argv[1]), sys.argv[2]

def waiting(function):
    def asked(*words):
        while hang.exists():
            time.sleep(0.05)
        return function(*words)
    return asked

Run.open, Run.names = map(waiting, (Run.open, Run.names))
main(["serve", "--storage", storage, "--data", storage + "/none", "--port", "0"])
"""
LARGE_BYTES = 40_000_000


@dataclass(frozen=True)
class Found:
    """One round: seconds for each of the page's files (the slowest), for the list of runs after the hang, to end in the
    middle; resident bytes idle and under load; of `QUEUED` runs those that are there after an end.
    """

    page_s: float
    list_s: float
    end_s: float
    idle_bytes: int
    loaded_bytes: int
    kept: int | None = None


def main() -> None:
    """Measures and prints."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--code", action="append", metavar="NAME=DIR", help="a checkout; default: this one")
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--runs", type=int, default=200)
    asked.add_argument("--watchers", type=int, default=50)
    asked.add_argument("--slow", type=int, default=10)
    asked.add_argument("--hang", type=float, default=12.0, help="seconds")
    said = asked.parse_args()
    checkouts = dict(each.split("=", 1) for each in said.code or [f"this={Path(__file__).resolve().parents[2]}"])
    found: dict[str, list[Found]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as place:
        _write_runs(Path(place) / "runs", said.runs)
        for _ in range(said.rounds):
            for name, code in checkouts.items():
                found[name].append(_round(Path(code), Path(place), said, ends_with_runs=name == [*checkouts][-1]))
                print(name, found[name][-1], flush=True)
    base = found[next(iter(found))]
    for name, rounds in found.items():
        told = [_told(rounds, base, field) for field in ("page_s", "list_s", "end_s")]
        print(f"{name:8s}", *told, _memory(rounds), _there(rounds))


def _told(rounds: list[Found], base: list[Found], field: str) -> str:
    own, others = ([getattr(each, field) for each in these] for these in (rounds, base))
    ratios = [one / other for one, other in zip(own, others, strict=True)]
    return f"{field} {statistics.median(own):.3f} (ratio {statistics.median(ratios):.3f}, {max(ratios):.3f} at most)"


def _memory(rounds: list[Found]) -> str:
    return f"memory under load / idle {max(each.loaded_bytes / each.idle_bytes for each in rounds):.2f} at most"


def _there(rounds: list[Found]) -> str:
    kept = [each.kept for each in rounds if each.kept is not None]
    return f"after an end {min(kept)} of {QUEUED} runs are there at least" if kept else ""


def _write_runs(storage: Path, n_runs: int) -> None:
    first = write_run(storage, "r000", tiny_study()).folder
    assert isinstance(first, Path)
    for number in range(1, n_runs):
        other = storage / f"r{number:03d}"
        other.mkdir()
        shutil.copy(first / "run.json", other)
        shutil.copytree(first / "events", other / "events")
    with (first / "final" / "large.bin").open("wb") as file:
        file.truncate(LARGE_BYTES)


def _round(code: Path, place: Path, said: argparse.Namespace, *, ends_with_runs: bool) -> Found:
    hang = place / "hang"
    environment = os.environ | {"PYTHONPATH": str(code)}
    words = [sys.executable, "-c", SERVE, str(hang), str(place / "runs")]
    with subprocess.Popen(words, cwd=code, env=environment, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            line = re.search(r"http://127\.0\.0\.1:(\d+)/", service.stdout.readline())
            assert line
            found = asyncio.run(_measured(service, int(line[1]), hang, _files(code), said))
        finally:
            hang.unlink(missing_ok=True)
            service.kill()
    if not ends_with_runs:
        return found
    return replace(found, kept=asyncio.run(_kept(words, code, environment, place / "runs")))


def _files(code: Path) -> list[str]:
    """The page and all of its own files, as they lie in a checkout."""
    found = {f"/{path.name}" for path in (code / "facex_tune" / "service").glob("page*/*") if path.suffix != ".html"}
    charts = code / "facex_tune" / "report" / "templates" / "charts.js"
    return sorted({*OLDEST, *found, *(["/charts.js"] if charts.is_file() else [])})


async def _kept(words: list[str], code: Path, environment: dict[str, str], storage: Path) -> int:
    """How many of some runs go or wait in the next service, when the one that they were sent to is ended."""
    names = [f"q{number}" for number in range(QUEUED)]
    places: dict[str, str] = {}
    for is_next in (False, True):
        with subprocess.Popen(words, cwd=code, env=environment, stdout=subprocess.PIPE, text=True) as service:
            assert service.stdout is not None
            line = re.search(r"http://127\.0\.0\.1:(\d+)/", service.stdout.readline())
            assert line
            await _until_it_answers(int(line[1]))
            if is_next:
                listed = json.loads((await _answered(int(line[1]), _get("/api/runs"))).partition(b"\r\n\r\n")[2])
                places = {run["run"]: run["place"] for run in listed["runs"]}
            else:
                for name in names:
                    await _answered(int(line[1]), _post("/api/runs", {"run": name, "study": STUDY}))
            service.send_signal(signal.SIGTERM)
            await asyncio.to_thread(service.wait)
    (storage / "serve-queue.json").unlink(missing_ok=True)
    for name in names:
        shutil.rmtree(storage / name, ignore_errors=True)
    return sum(places.get(name) in ("going", "waiting") for name in names)


def _post(path: str, said: Any) -> str:
    body = json.dumps(said)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}"


async def _measured(
    service: subprocess.Popen[str], port: int, hang: Path, files: list[str], said: argparse.Namespace
) -> Found:
    await _until_it_answers(port)
    await _got(port, "/api/runs")
    idle_bytes = _resident_bytes(service.pid)
    tasks = [asyncio.create_task(_watch(port, f"r{number % said.runs:03d}")) for number in range(said.watchers)]
    tasks += [asyncio.create_task(_slow(port, number)) for number in range(said.slow)]
    await asyncio.sleep(3)
    hang.touch()
    tasks += [asyncio.create_task(_quiet(port, "/api/runs")) for _ in range(said.watchers)]  # a page each
    await asyncio.sleep(0.5)
    ends = asyncio.get_running_loop().call_later(said.hang, hang.unlink)
    page_s = max([await _seconds(port, path) for path in files])
    loaded_bytes = _resident_bytes(service.pid)
    await asyncio.sleep(max(0.0, ends.when() - asyncio.get_running_loop().time()) + 1)
    list_s = await _seconds(port, "/api/runs")
    loaded_bytes = max(loaded_bytes, _resident_bytes(service.pid))
    began = time.monotonic()
    service.send_signal(signal.SIGTERM)
    await asyncio.to_thread(service.wait)
    end_s = time.monotonic() - began
    await _gone(tasks)
    return Found(page_s, list_s, end_s, idle_bytes, loaded_bytes)


async def _until_it_answers(port: int) -> None:
    while True:
        with suppress(OSError):
            return await _got(port, "/page.css")
        await asyncio.sleep(0.1)


async def _opened(port: int, said: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    writer.write(said.encode())
    await writer.drain()
    return reader, writer


def _get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


async def _got(port: int, path: str) -> None:
    await _answered(port, _get(path))


async def _answered(port: int, asked: str) -> bytes:
    reader, writer = await _opened(port, asked)
    pieces = []
    while piece := await reader.read(1 << 16):
        pieces.append(piece)
    writer.close()
    return b"".join(pieces)


async def _seconds(port: int, path: str) -> float:
    began = time.monotonic()
    await _got(port, path)
    return time.monotonic() - began


async def _quiet(port: int, path: str) -> None:
    with suppress(OSError):
        await _got(port, path)


async def _watch(port: int, run: str) -> None:
    await _quiet(port, f"/api/runs/{run}/events")


async def _slow(port: int, number: int) -> None:
    """A head, a body or an archive that does not end; the archive is not taken."""
    post = "POST /api/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    post += "Content-Length: 1000\r\n\r\n{"
    said = ("GET / HTTP/1.1\r\nX-Slow: ", post, _get("/api/runs/r000/archive"))[number % 3]
    with suppress(OSError):
        _, writer = await _opened(port, said)
        await asyncio.sleep(3600)
        writer.close()


async def _gone(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _resident_bytes(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
