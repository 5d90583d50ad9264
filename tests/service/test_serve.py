"""The service over HTTP, on loopback, with a real run in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import timm

from facex_tune.pipeline.options import Options
from facex_tune.runs.events import TrialStarted
from facex_tune.runs.store import Run
from facex_tune.service.received import Ceiling
from tests.search.conftest import tiny_study

from .conftest import STUDY, Client, serving, write_run

DEADLINE_S = 300
NAMES = [name for name in timm.list_models() if name.startswith("resne")] * 3  # more than are built for a look


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_runs_and_one_run(service: Client, some_run: Run) -> None:
    runs = service.json("/api/runs")["runs"]
    assert [(run["run"], run["place"]) for run in runs] == [("night", "idle")]
    run = service.json("/api/runs/night")
    assert run["leaderboard"][0]["value"] == pytest.approx(0.3)
    assert run["curves"] == [
        {"trial": "t0000", "state": "finished", "epochs": [1, 2, 3], "values": pytest.approx([0.1, 0.2, 0.3])}
    ]
    assert run["has_report"]


def test_the_list_tells_what_has_changed_since(service: Client, options: Options, some_run: Run) -> None:
    write_run(options.storage, "other", tiny_study())
    first = service.json("/api/runs")
    assert (len(first["runs"]), first["names"]) == (2, ["other", "night"])
    assert service.json(f"/api/runs?since={first['stamp']}")["runs"] == []
    with some_run.log() as log:
        log.append(TrialStarted(trial=1, config=some_run.history().trials[0].config, source="sampler"))
        until(lambda: bool(service.json(f"/api/runs?since={first['stamp']}")["runs"]))
        second = service.json(f"/api/runs?since={first['stamp']}")
    assert [(run["run"], run["trials"]) for run in second["runs"]] == [("night", {"finished": 1, "running": 1})]
    shutil.rmtree(options.storage / "other")
    until(lambda: service.json(f"/api/runs?since={second['stamp']}")["names"] == ["night"])
    assert len(service.json("/api/runs?since=0123abcd-7")["runs"]) == 1  # of another service


def test_events_come_when_the_log_grows(service: Client, some_run: Run) -> None:
    with urllib.request.urlopen(f"{service.url}/api/runs/night/events", timeout=60) as stream:
        first = json.loads(stream.readline().removeprefix(b"data: "))
        with some_run.log() as log:
            log.append(TrialStarted(trial=1, config=some_run.history().trials[0].config, source="sampler"))
            line = b""
            while not line.startswith(b"data: "):
                line = stream.readline()
    assert len(first["leaderboard"]) == 1
    assert len(json.loads(line.removeprefix(b"data: "))["leaderboard"]) == 2


def test_the_service_ends_while_somebody_watches(
    options: Options, some_run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    with contextlib.ExitStack() as ends:
        with serving(options) as client:
            stream = ends.enter_context(urllib.request.urlopen(f"{client.url}/api/runs/night/events", timeout=60))
            stream.readline()
        assert stream.read() == b"\n"  # ended, not broken off
    assert capfd.readouterr().err == ""  # uvicorn's tracebacks would be there


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs/none",
        "/api/runs/night/files/nothing",
        "/api/runs/night/files/..%2F..%2Fetc%2Fpasswd",
        "/api/runs/night/files/%2Fetc%2Fpasswd",
        "/api/runs/night/files/trials/t0000/last.safetensors",
        "/api/runs/night/report/..%2Frun.json",
        "/api/runs/night/report/../run.json",
    ],
)
def test_what_is_not_there_or_not_to_be_had(service: Client, some_run: Run, path: str) -> None:
    status, body = service.ask(path)
    assert status == 404, body


def test_a_link_in_a_report_leads_nowhere(service: Client, some_run: Run) -> None:
    os.symlink("/etc/hostname", some_run.folder / "report" / "link")
    assert service.ask("/api/runs/night/report/link")[0] == 409


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[" * 100_000, 400),
        (b"{}", 400),
        ({"study": "x"}, 400),
        ({"study": STUDY, "run": "../x"}, 400),
        ({"study": STUDY + "unknown: 1\n"}, 400),
        ({"study": STUDY.replace("facex_cnn: {width: 0.25}", "resnet: {pretrained: /etc/passwd}")}, 400),
        (b'{"study": {"name": "a", "name": "b"}}', 400),
        ({"study": STUDY.replace("[{facex_cnn: {width: 0.25}}]", f"[{{timm: {{name: {NAMES}}}}}]")}, 400),
        ({"study": STUDY.replace("trials: 2", "time: 3650d")}, 400),
        (b"x" * 300_000, 413),
    ],
)
def test_what_is_no_study_is_refused(service: Client, options: Options, body: object, status: int) -> None:
    found, answer = service.ask("/api/runs", method="POST", body=body)
    assert found == status
    assert json.loads(answer)["detail"]
    assert Run.names(options.storage) == []


def test_a_study_above_the_operators_ceiling_is_refused_at_both_doors(options: Options) -> None:
    with serving(options, ceiling=Ceiling(hours=1, trials=2, epochs=4)) as client:
        above = {"run": "r", "study": STUDY}  # two trials, one final model, and no time
        status, body = client.ask("/api/runs", method="POST", body=above)
        assert status == 400
        wanted = [
            "budget.time: this service wants it said, and grants 1h at most",
            "retrain: 1 final models beside 2 trials are more trainings than this service grants (2 at most); lower "
            "retrain.top, retrain.seeds or budget.trials",
        ]
        assert json.loads(body)["problems"] == wanted
        assert client.json("/api/check", method="POST", body=above)["problems"] == wanted
        below = {"run": "r", "study": STUDY.replace("trials: 2", "trials: 1, time: 1h")}
        assert client.json("/api/check", method="POST", body=below)["problems"] == []
    assert Run.names(options.storage) == []


def test_a_body_of_many_keys_and_one_twice_is_refused_at_once(service: Client) -> None:
    keys = ",".join(f'"{number}":1' for number in range(20_000))
    began_s = time.process_time()
    status, body = service.ask("/api/runs", method="POST", body=f'{{{keys},"17":2}}'.encode())
    assert (status, b"'17' is said twice" in body) == (400, True)
    assert time.process_time() - began_s < 5  # each key compared with each takes far longer


def test_a_body_without_a_length_is_bounded_too(service: Client) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        said = b"Host: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(b"POST /api/runs HTTP/1.1\r\n" + said)
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(5):
            connection.sendall(chunk)
        assert b"413" in connection.recv(100)


def test_answers_forbid_what_a_page_need_not(service: Client, some_run: Run) -> None:
    with urllib.request.urlopen(f"{service.url}/api/runs/night/report/index.html", timeout=60) as answer:
        assert "sandbox" in answer.headers["Content-Security-Policy"]
    with urllib.request.urlopen(f"{service.url}/", timeout=60) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_study_submitted_stopped_and_resumed_to_its_end(options: Options) -> None:
    with serving(options) as client:
        made = client.json("/api/runs", method="POST", body={"run": "r", "study": STUDY})
        assert made["place"] == "going"
        waiting = client.json("/api/runs", method="POST", body={"run": "later", "study": STUDY})
        assert waiting["place"] == "waiting"
        assert client.json("/api/runs/later/stop", method="POST")["place"] == "idle"
        run = Run.open(options.storage, "r")
        until(lambda: any(event["type"] == "epoch" for event in run.events()))
        client.json("/api/runs/r/stop", method="POST")
        until(lambda: client.json("/api/runs/r")["place"] == "idle")
        assert [event["signal"] for event in run.events() if event["type"] == "run_interrupted"] == ["SIGTERM"]
        assert client.ask("/api/runs/r/stop", method="POST")[0] == 409
        client.json("/api/runs/r/resume", method="POST")
        until(lambda: run.history().stages.get("report") == "finished")
        until(lambda: client.json("/api/runs/r")["place"] == "idle")
        assert client.ask("/api/runs/r/report/index.html")[0] == 200
        assert b"resume" not in client.ask("/api/runs/r/console")[1].splitlines()[-1]


def test_a_run_that_another_program_writes_is_left_to_it(service: Client, some_run: Run) -> None:
    with some_run.log():
        assert service.json("/api/runs/night")["place"] == "elsewhere"
        status, body = service.ask("/api/runs/night/resume", method="POST")
        assert status == 409
        assert b"being written by process" in body


def test_a_name_with_another_study_is_refused(service: Client, some_run: Run) -> None:
    status, body = service.ask("/api/runs", method="POST", body={"run": "night", "study": STUDY})
    assert status == 400
    assert b"another study" in body


def test_the_openapi_document_tells_of_every_door(service: Client) -> None:
    paths = service.json("/openapi.json")["paths"]
    assert {"/api/runs", "/api/runs/{run}", "/api/runs/{run}/stop", "/api/runs/{run}/files/{path}"} <= set(paths)
    assert "post" in paths["/api/runs"]
    assert {"/healthz", "/readyz", "/metrics"} <= set(paths)
    assert set(paths["/api/session"]) == {"post", "delete"}
    assert not {"/", "/page.js", "/plotly.js"} & set(paths)


def test_the_study_schema_is_served(service: Client) -> None:
    assert service.json("/api/study-schema")["properties"]["budget"]
    assert tiny_study().name == "tiny"


def test_no_storage_yet_is_no_run(tmp_path: Path, tiny_data: Path) -> None:
    with serving(Options(storage=tmp_path / "none", data_dir=tiny_data)) as client:
        assert client.json("/api/runs")["runs"] == []
