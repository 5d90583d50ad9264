"""What the page explores, as its doors tell it."""

from __future__ import annotations

import gzip
import json
import re
import urllib.request
from pathlib import Path

import pytest

from facex_tune.pipeline.options import Options
from facex_tune.runs.events import EpochDone, TrialFailed, TrialStarted, TrialStopped
from facex_tune.runs.store import Run
from facex_tune.service import console, live
from facex_tune.service.held import Held
from facex_tune.service.manager import Manager
from tests.search.conftest import tiny_study

from .conftest import STUDY, Client, serving, write_run


@pytest.fixture
def several(some_run: Run) -> Run:
    """Beside the finished trial one that a rung stopped, one that failed, and one that has no epoch yet."""
    config = some_run.history().trials[0].config
    with some_run.log() as log:
        for number in (1, 2, 3):
            log.append(TrialStarted(trial=number, config=config | {"train.lr": 0.01 * number}, source="sampler"))
        metrics = {"macro_f1": 0.5, "accuracy": 0.6, "train_images_per_second": 250.0}
        log.append(EpochDone(trial=1, epoch=1, metrics=metrics, seconds=1.0))
        log.append(TrialStopped(trial=1, epoch=1, reason="rung"))
        log.append(TrialFailed(trial=2, reason="diverged", detail="not finite", seconds=1.0))
    return some_run


def labels(told: dict[str, list[dict[str, str]]]) -> list[str]:
    return [trial["trial"] for trial in told["trials"]]


def test_a_run_tells_what_the_terminal_shows(service: Client, several: Run) -> None:
    told = service.json("/api/runs/night")["progress"]
    assert told["stage"] == "search"
    assert told["ended"] == "1 finished | 1 stopped at a rung | 1 failed (1 diverged)"
    assert told["rungs"][0]["epoch"] == 1
    assert told["rungs"][0]["seen"] == 2
    assert (told["remaining_s"], told["images_per_second"], told["under_way"]) == (None, 0.0, [])  # nobody writes it
    with several.log():
        going = service.json("/api/runs/night")["progress"]
    assert going["under_way"] == ["t0003 epoch 0/3"] or going["under_way"][0].startswith("t0003 epoch 0/")
    (moving,) = going["epochs_now"]
    assert (moving["name"], moving["epoch"], moving["epoch_s"]) == ("t0003", 0, 0.0)
    assert 0 <= moving["passed_s"] < 600, "since the log said that it began"
    assert told["epochs_now"] == []


def test_a_run_that_is_begun_anew_is_not_taken_for_the_one_before(options: Options, some_run: Run) -> None:
    import os
    import shutil

    held = Held(Manager(options))
    assert live.document(held, "night")["leaderboard"]
    shutil.rmtree(some_run.folder)
    again = Run.create(options.storage, "night", tiny_study(), data={}, environment={"packages": {}, "hardware": {}})
    os.utime(again.folder / "run.json", (1, 1))
    assert live.document(held, "night")["leaderboard"] == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["t0000", "t0001", "t0003", "t0002"]),
        ("sort=value&order=descending", ["t0001", "t0000", "t0003", "t0002"]),
        ("sort=value", ["t0000", "t0001", "t0003", "t0002"]),
        ("sort=train.lr&order=descending", ["t0000", "t0003", "t0002", "t0001"]),
        ("sort=trial&order=descending", ["t0003", "t0002", "t0001", "t0000"]),
        ("sort=accuracy&count=1", ["t0000"]),
        ("count=2&first=2", ["t0003", "t0002"]),
        ("text=failed%20DIVERGED", ["t0002"]),
        ("text=nothing%20such", []),
    ],
)
def test_trials_are_sorted_and_filtered(service: Client, several: Run, query: str, found: list[str]) -> None:
    told = service.json(f"/api/runs/night/trials?{query}")
    assert labels(told) == found
    assert told["of"] == 4


def test_what_cannot_be_sorted_by_is_named(service: Client, several: Run) -> None:
    status, body = service.ask("/api/runs/night/trials?sort=acuracy")
    assert (status, b"did you mean accuracy" in body) == (400, True)


def test_a_trial_tells_its_epochs_and_why_it_ended(service: Client, several: Run) -> None:
    told = service.json("/api/runs/night/trials/t0001")
    assert (told["ended"], told["rungs"]) == ("stopped at a rung", ["epoch 1: stopped"])
    assert [each["epoch"] for each in told["curve"]] == [1]
    passed = service.json("/api/runs/night/trials/t0000")["rungs"]
    assert passed == ["epoch 1: goes on", "epoch 2: goes on"], "which no event says"
    assert (told["better"], told["worse"]) == ("t0000", "t0003")
    assert service.json("/api/runs/night/trials/2")["ended"] == "failed: diverged"
    status, body = service.ask("/api/runs/night/trials/t0009")
    assert (status, b"it has t0000 to t0003" in body) == (404, True)


def test_views_come_again_only_when_something_has_changed(service: Client, several: Run) -> None:
    told = service.json("/api/runs/night/views")
    assert {"history", "learning", "timeline"} <= set(told["views"]["figures"])
    since = urllib.request.quote(told["stamp"])  # type: ignore[attr-defined]
    assert "views" not in service.json(f"/api/runs/night/views?since={since}")
    assert "views" in service.json("/api/runs/night/views?since=other")


def test_the_study_of_a_run_can_be_submitted_again(service: Client, some_run: Run) -> None:
    said = service.ask("/api/runs/night/study")[1].decode()
    told = service.json("/api/check", method="POST", body={"run": "again", "study": said})
    assert told["problems"] == []


def test_runs_are_compared(service: Client, options: Options, some_run: Run) -> None:
    write_run(options.storage, "other", tiny_study())
    told = service.json("/api/comparison?run=night&run=other")
    assert [run["run"] for run in told["runs"]] == ["night", "other"]
    assert [each["name"] for each in told["figures"]["best"]["data"]] == ["night", "other"]
    with urllib.request.urlopen(f"{service.url}/api/comparison/page?run=night&run=other", timeout=60) as answer:
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert b"night and other" in answer.read()
    assert service.ask("/api/comparison?run=night")[0] == 422
    assert service.ask("/api/comparison?run=night&run=none")[0] == 404
    assert b"named twice" in service.ask("/api/comparison?run=night&run=night")[1]


def test_a_template_passes_the_check(service: Client) -> None:
    told = service.json("/api/study-template?data=synthetic&machine=cpu&time=45m")
    assert "time: 45m" in told["study"]
    assert "synthetic" in told["data"]
    assert service.json("/api/check", method="POST", body={"study": told["study"]})["problems"] == []
    status, body = service.ask("/api/study-template?time=soon")
    assert status == 400
    assert json.loads(body)["detail"].startswith("time")


def test_a_check_names_everything_that_is_wrong_and_begins_nothing(service: Client, options: Options) -> None:
    wrong = STUDY.replace("budget:", "bugdet:").replace("retrain:", "retrian:")
    told = service.json("/api/check", method="POST", body={"run": "r", "study": wrong})
    assert [problem.partition(":")[0] for problem in told["problems"]] == ["bugdet", "retrian"]
    good = service.json("/api/check", method="POST", body={"run": "r", "study": STUDY})
    assert (good["problems"], good["study"], good["goes_on"]) == ([], "tiny", False)
    assert Run.names(options.storage) == []
    assert (
        service.ask("/api/check", method="POST", body={"study": STUDY}, headers={"Content-Type": "text/plain"})[0]
        == 415
    )


@pytest.mark.parametrize("door", ["/api/runs", "/api/check"])
def test_an_unknown_key_is_named(service: Client, door: str) -> None:
    status, body = service.ask(door, method="POST", body={"nme": "r", "study": STUDY})
    assert status == 400
    assert json.loads(body)["problems"] == ["'nme': no key of a submission; choices: run, study"]


def test_a_console_is_sent_from_where_the_reader_is(tmp_path: Path) -> None:
    path = tmp_path / console.FILE
    assert console.end_of(path, None, 100) == ("", 0, 0)
    path.write_bytes("first\nübung\n".encode())
    text, begin, end = console.end_of(path, None, 100)
    assert (text, begin, end) == ("first\nübung\n", 0, 13)
    assert console.end_of(path, end, 100) == ("", 13, 13)
    with path.open("ab") as file:
        file.write("ü".encode()[:1])  # half a letter
    assert console.end_of(path, end, 100) == ("", 13, 13)
    with path.open("ab") as file:
        file.write("ü".encode()[1:] + b"!\n")
    assert console.end_of(path, end, 100) == ("ü!\n", 13, 17)
    assert console.end_of(path, 4, 6) == ("g\nü!\n"[0:], 11, 17)
    path.write_bytes(b"new\n")  # shortened
    assert console.end_of(path, 17, 100) == ("new\n", 0, 4)


def test_a_door_tells_where_a_console_ends(service: Client, some_run: Run) -> None:
    (some_run.folder / console.FILE).write_bytes(b"printed\n")
    with urllib.request.urlopen(f"{service.url}/api/runs/night/console?after=3", timeout=60) as answer:
        assert answer.read() == b"nted\n"
        assert (answer.headers["X-Console-Begin"], answer.headers["X-Console-End"]) == ("3", "8")


def test_the_script_of_charts_is_the_installed_packages(service: Client) -> None:
    from plotly.offline import get_plotlyjs

    plain = service.ask("/plotly.js")[1].decode()
    assert plain.endswith(get_plotlyjs())
    request = urllib.request.Request(f"{service.url}/plotly.js", headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert "immutable" in answer.headers["Cache-Control"]
        assert gzip.decompress(answer.read()).decode() == plain


def test_the_pages_own_files_need_no_token_and_all_else_does(options: Options, some_run: Run) -> None:
    with serving(options, "0123456789abcdef0123") as client:
        stranger = Client(client.url)
        html = stranger.ask("/")[1].decode()
        named = set(re.findall(r'(?:src|href)="([\w.]+\.(?:js|css))"', html))
        scripts = {name: stranger.ask(f"/{name}") for name in named}
        named |= {name for _, body in scripts.values() for name in re.findall(r'from "\./([\w.]+)"', body.decode())}
        assert {"base.js", "runs.js", "run.js", "trial.js", "compare.js", "study.js", "charts.js"} <= named
        assert {stranger.ask(f"/{name}")[0] for name in named} == {200}
        for door in (
            "/plotly.js",
            "/api/runs/night/views",
            "/api/comparison?run=night&run=other",
            "/api/study-template",
        ):
            assert stranger.ask(door)[0] == 401
        assert stranger.ask("/api/check", method="POST", body={"study": STUDY})[0] == 401
