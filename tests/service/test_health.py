"""What supervisors, monitoring and auditors are told."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from facex_tune.errors import InputError
from facex_tune.pipeline.options import Options
from facex_tune.runs.store import Run
from facex_tune.service import console, health, records, serve
from facex_tune.service.manager import Manager
from facex_tune.service.records import Records
from tests.search.conftest import tiny_study

from .conftest import STUDY, Client, serving, write_run
from .test_access import TOKEN, session
from .test_connections import until


def samples(client: Client) -> dict[tuple[str, ...], float]:
    text = client.ask("/metrics")[1].decode()
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in found}


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, records.AUDIT.name)
    return caplog


def lines(told: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [json.loads(record.getMessage()) for record in told.records if record.name == records.AUDIT.name]


def test_health_tells_nothing_and_asks_for_nothing(options: Options, some_run: Run) -> None:
    with serving(options, TOKEN) as client:
        stranger = Client(client.url)
        for path, said in (("/healthz", b"ok\n"), ("/readyz", b"ready\n")):
            assert stranger.ask(path, headers={"Host": "10.0.0.7:8270"}) == (200, said)
        assert stranger.ask("/metrics")[0] == 401
    with serving(options) as client:
        assert client.ask("/readyz", headers={"Host": "10.0.0.7:8270"})[0] == 200
        assert client.ask("/metrics", headers={"Host": "10.0.0.7:8270"})[0] == 403


def test_metrics_tell_runs_requests_and_refusals(options: Options, some_run: Run) -> None:
    write_run(options.storage, "other", tiny_study())
    with serving(options, TOKEN) as client:
        for path in ("/api/runs/night", "/api/runs/other", "/api/runs/none", "/nowhere"):
            client.ask(path)
        Client(client.url).ask("/api/runs")
        Client(client.url, "wrong" * 5).ask("/api/runs")
        client.ask("/api/runs", method="POST", body=b"x" * 300_000)
        found = samples(client)
    assert found[("facex_serve_runs", "interrupted")] == 2
    assert found[("facex_serve_storage_answers",)] == 1
    assert [found[(f"facex_serve_{name}",)] for name in ("queue", "going", "watchers")] == [0, 0, 0]
    assert found[("facex_serve_requests_total", "GET", "/api/runs/{run}", "200")] == 2
    assert found[("facex_serve_requests_total", "GET", "/api/runs/{run}", "404")] == 1
    assert found[("facex_serve_requests_total", "GET", "none", "404")] == 1
    assert [found[("facex_serve_refusals_total", why)] for why in ("no token", "wrong token", "too large")] == [1, 1, 1]


def test_a_storage_that_does_not_answer_is_told(
    options: Options, some_run: Run, monkeypatch: pytest.MonkeyPatch, hanging: threading.Event
) -> None:
    monkeypatch.setattr(health, "READY_WITHIN_S", 0.3)
    monkeypatch.setattr(serve, "READ_WITHIN_S", 0.3)
    with serving(options) as client:
        assert client.ask("/healthz")[0] == 200
        assert client.ask("/readyz") == (503, b"the storage of runs does not answer\n")
        assert samples(client)[("facex_serve_storage_answers",)] == 0
        hanging.set()
        until(lambda: client.ask("/readyz")[0] == 200)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A storage that lists no runs until it is set."""
    back, names = threading.Event(), Run.names
    monkeypatch.setattr(Run, "names", lambda storage: (back.wait(60), names(storage))[1])
    yield back
    back.set()


def test_who_did_what_is_written_down(options: Options, some_run: Run, told: pytest.LogCaptureFixture) -> None:
    with serving(options, TOKEN) as client:
        cookie, _ = session(client)
        browser = Client(client.url)
        browser.ask("/api/runs/night/report/index.html", headers={"Cookie": cookie})
        client.ask("/api/runs/night/archive")
        client.ask("/api/runs/night/stop", method="POST")
        client.ask("/api/runs/night")  # is no act
        browser.ask("/api/runs/night")  # came without a token, as a browser does
        browser.ask("/api/runs/x%0A%7B%7D", headers={"Origin": "http://evil.example"})
    found = lines(told)
    acts = [(line["did"], line.get("run"), line["status"], str(line.get("by")).partition(" ")[0]) for line in found]
    assert acts == [
        ("log in", None, 204, "token"),
        ("fetch", "night", 200, "session"),
        ("fetch", "night", 200, "token"),
        ("stop", "night", 409, "token"),
        ("refused", None, 403, "None"),
    ]
    assert (found[-1]["why"], found[-1]["path"]) == ("another site", "/api/runs/x\n{}")
    assert {line["client"] for line in found} == {"127.0.0.1"}
    assert TOKEN not in told.text
    assert cookie.partition("=")[2] not in told.text


def test_who_submitted_what_is_written_down(
    options: Options, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Manager, "_start_what_fits", lambda self: None)  # nothing need run
    with serving(options, TOKEN) as client:
        client.json("/api/runs", method="POST", body={"run": "mine", "study": STUDY})
        client.ask("/api/runs", method="POST", body={"run": "no", "study": "name: x"})
    acts = [(line["did"], line.get("run"), line["status"], line["by"]) for line in lines(told)]
    assert acts == [("submit", "mine", 201, "token"), ("submit", None, 400, "token")]


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
@pytest.mark.parametrize("every", [False, True])
def test_the_logs_are_asked_for_by_the_command(some_run: Run, tmp_path: Path, every: bool) -> None:
    file = tmp_path / "audit.jsonl"
    words = [sys.executable, "-m", "facex_tune", "serve", "--port", "0", "--storage", str(some_run.storage)]
    words += ["--audit-log", str(file), *(["--access-log"] if every else [])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        found = re.search(r"at (http://\S+)/", service.stdout.readline())
        assert found
        client = Client(found[1])
        assert client.ask("/api/runs/night")[0] == 200
        assert client.ask("/api/runs/night/archive")[0] == 200
        service.send_signal(signal.SIGINT)
        _, errors = service.communicate()
    dids = [json.loads(line)["did"] for line in file.read_text().splitlines()]
    assert [dids.count(did) for did in ("request", "fetch")] == [2 if every else 0, 1]
    assert len(dids) == (3 if every else 1)
    assert errors == ""


def test_a_console_is_kept_short_while_its_run_goes(
    options: Options, some_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "MOST_BYTES", 2000)
    monkeypatch.setattr(console, "KEPT_BYTES", 1000)
    monkeypatch.setattr(console, "LOOKED_EVERY_S", 0.05)
    printing = "import sys\nprint('line ' * 2000, flush=True)\nsys.stdin.read()"
    processes: list[subprocess.Popen[bytes]] = []

    def started(_: Manager, name: str) -> subprocess.Popen[bytes]:
        with (folder / console.FILE).open("ab") as file:
            processes.append(
                subprocess.Popen([sys.executable, "-c", printing], stdin=subprocess.PIPE, stdout=file)
            )
        return processes[0]

    folder = some_run.folder
    assert isinstance(folder, Path)
    monkeypatch.setattr(Manager, "_process", started)
    manager = Manager(options)
    try:
        manager.resume("night")
        until(lambda: (folder / console.FILE).read_bytes().startswith(b"["))
        assert processes[0].poll() is None, "while it goes"
        assert (folder / console.FILE).stat().st_size < 1100
    finally:
        assert processes[0].stdin is not None
        processes[0].stdin.close()
        manager.close()


def test_guessing_does_not_fill_the_disk(told: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    made = Records(lambda: now[0])
    for _ in range(100):
        made.refused("GET", "wrong token", path="/" * 1000, status=403)
    now[0] = 60.0
    made.refused("GET", "wrong token", path="/", status=403)
    found = lines(told)
    assert [len(found), found[60].get("more"), found[61]["path"]] == [62, 40, "/"]
    assert max(len(str(line.get("path", ""))) for line in found) == records.LONGEST


@pytest.fixture
def loggers() -> Iterator[None]:
    before = [(each, each.handlers, each.propagate, each.level) for each in (records.AUDIT, records.ACCESS)]
    yield
    for each, handlers, propagate, level in before:
        for handler in each.handlers:
            handler.close()
        each.handlers, each.propagate = handlers, propagate
        each.setLevel(level)


@pytest.mark.usefixtures("loggers")
def test_the_log_is_a_file_of_its_own_that_may_be_moved_away(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    records.write_to(file, every_request=False)
    made = Records()
    made.answered("GET", "/api/runs", path="/api/runs", status=200)
    made.answered("POST", "/api/runs", path="/api/runs", status=201, run="night")
    file.rename(tmp_path / "audit.jsonl.1")
    records.ACCESS.setLevel(logging.INFO)
    made.answered("GET", "/api/runs", path="/api/runs", status=200)
    dids = [json.loads(path.read_text())["did"] for path in (tmp_path / "audit.jsonl.1", file)]
    assert dids == ["submit", "request"]
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="--audit-log"):
        records.write_to(tmp_path / "none" / "audit.jsonl", every_request=False)


def test_a_console_keeps_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "MOST_BYTES", 2000)
    monkeypatch.setattr(console, "KEPT_BYTES", 1000)
    path = tmp_path / console.FILE
    printing = "import sys\nfor word in sys.stdin: print('a line', word, flush=True, end='')"
    with path.open("ab") as file:
        words = [sys.executable, "-c", printing]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=file, text=True) as process:
            assert process.stdin is not None
            print(*range(300), sep="\n", file=process.stdin, flush=True)
            until(lambda: path.read_bytes().endswith(b"a line 299\n"))
            console.shorten(path)
            print("after", file=process.stdin, flush=True)
            process.stdin.close()
    first, *rest = path.read_text().splitlines()
    assert first.endswith("bytes were left out]")
    assert rest[-2:] == ["a line 299", "a line after"]
    assert path.stat().st_size < 1100
    console.shorten(path)
    assert path.read_text().splitlines() == [first, *rest]


def test_a_console_that_is_a_link_is_not_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "MOST_BYTES", 10)
    (tmp_path / "other").write_text("x" * 100)
    os.symlink(tmp_path / "other", tmp_path / console.FILE)
    console.shorten(tmp_path / console.FILE)
    assert (tmp_path / "other").read_text() == "x" * 100
