"""What nobody in their right mind sends: the service's own OpenAPI turned against it, and studies made to hang it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from facex_tune.errors import InputError
from facex_tune.pipeline.options import Options
from facex_tune.service import received, serve
from tests.search.conftest import tiny_study

from .conftest import Client, serving, write_run
from .test_serve import STUDY, until

IS_FULL = os.environ.get("FACEX_E2E") == "full"
CASES_A_DOOR = 300 if IS_FULL else 6
DEADLINE_S = 3000
UNFIT_CHECKS = (
    "positive_data_acceptance",  # what a schema allows may still name no data set and no run
    "allow_header_conformance",  # Starlette tells the methods of a path's first route alone
)
# A case for each bound of each knob of each part is thousands, a quarter of an hour: the full form's alone.
SUBMITTING, OTHERS = ([f"--{way}-operation-id-regex=^submit"] for way in ("include", "exclude"))
OF_A_RUN = ["--include-path-regex", "{run}", "--exclude-path-regex", "events$"]  # whose events never end
AT_ONCE_S = 20.0  # a bomb takes for ever; a busy machine takes its time


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("held") / "runs"


@pytest.fixture(scope="module")
def held(storage: Path, tiny_data: Path) -> Iterator[Client]:
    """A service with a run that another program writes, so that whoever resumes it starts nothing."""
    run = write_run(storage, "night", tiny_study())
    with run.log(), serving(Options(storage=storage, data_dir=tiny_data, device="cpu")) as client:
        yield client


# By its command line: its pytest plugin reaches for what the newest pytest no longer has.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "words", "fewest"),
    [
        ("", ["--phases=coverage,fuzzing", *OTHERS], 100),
        ("", ["--phases=coverage,fuzzing" if IS_FULL else "--phases=fuzzing", *SUBMITTING], CASES_A_DOOR),
        ('[parameters]\nrun = "night"\n', ["--phases=coverage,fuzzing", *OF_A_RUN], 100),
    ],
    ids=["any", "submitting", "night"],
)
def test_every_door_answers_as_the_openapi_document_says(
    held: Client, config: str, words: list[str], fewest: int, tmp_path: Path
) -> None:
    pytest.importorskip("schemathesis")
    (tmp_path / "schemathesis.toml").write_text(config)
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{held.url}/openapi.json", "--no-color"]
    command += [f"--max-examples={CASES_A_DOOR}", "--continue-on-failure"]
    command += ["--seed=1", "--generation-deterministic", "--request-timeout=60"]
    command += ["--exclude-checks", ",".join(UNFIT_CHECKS), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"([\d,]+) generated", done.stdout)
    assert found, done.stdout
    print(f"{found[1]} requests")
    assert int(found[1].replace(",", "")) >= fewest


@pytest.mark.parametrize("name", ["..", "%2e%2e", ".", "..%2f..%2fetc", "%2fetc", "night%00", "night%0a", "a" * 300])
@pytest.mark.parametrize("door", ["", "/files", "/console", "/archive", "/events", "/files/run.json"])
def test_a_name_leads_out_of_no_storage(held: Client, name: str, door: str) -> None:
    status, body = held.ask(f"/api/runs/{name}{door}")
    assert status in (404, 422)
    assert b"root:" not in body


@pytest.mark.parametrize(
    "path",
    [
        *("%00", "%FF%FE", "a" * 5000, "run.json/", "/run.json", "./run.json", "events/../run.json"),
        *("%252e%252e/run.json", "..\\run.json", "..%5c..%5cetc", "file:%2f%2f/etc/passwd"),
        "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    ],
)
@pytest.mark.parametrize("room", ["files", "report"])
def test_a_path_leads_to_no_other_file(held: Client, room: str, path: str) -> None:
    assert held.ask(f"/api/runs/night/{room}/{path}")[0] == 404


LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    "said",
    [
        LAUGHS,
        "a: &a [*a]",
        "{a: " * 5000,
        "- " * 20_000 + "x",
        "\n".join(" " * depth + "a:" for depth in range(300)),
        "".join(f"k{n}: 1\n" for n in range(7000)),
        f"{STUDY}resources: {{cpus: 0x{'f' * 20_000}}}",
        f"{STUDY}resources: {{cpus: {':'.join(['59'] * 20_000)}}}",
        STUDY.replace("high: 0.1", f"high: {'9' * 400}"),
        STUDY.replace("max_epochs: 2", "max_epochs: 100000000000000000"),
        STUDY.replace("trials: 2", "trials: 1000000000000"),
        STUDY.replace("batch_size: 32", f"batch_size: [{', '.join(map(str, range(1, 9000)))}]"),
        f"{STUDY}evaluate: {{protocols: [folder.{'a' * 5000}]}}",
        STUDY + '"\\ud800": 1',
        {"\ud800": 1},
        "\ud800",
        "x: !!int ''",
        "x: !!timestamp x",
    ],
    ids=range(18),
)
def test_a_study_made_to_hang_or_break_it_is_refused_at_once(held: Client, said: object) -> None:
    start = time.monotonic()
    status, body = held.ask("/api/runs", method="POST", body={"study": said})
    assert status == 400, body
    assert len(body) < 100_000
    assert time.monotonic() - start < AT_ONCE_S
    assert held.ask("/api/runs")[0] == 200


def test_a_study_that_takes_long_to_check_holds_nobody_up(held: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, others_were_answered = threading.Event(), threading.Event()

    def slowly(*_: object) -> None:
        begun.set()
        assert others_were_answered.wait(60)
        raise InputError("checked")

    monkeypatch.setattr(received, "study", slowly)
    answers: list[bytes] = []
    sender = threading.Thread(
        target=lambda: answers.append(held.ask("/api/runs", method="POST", body={"study": STUDY})[1])
    )
    sender.start()
    assert begun.wait(60)
    assert held.ask("/api/runs")[0] == 200
    others_were_answered.set()
    sender.join()
    assert json.loads(answers[0])["detail"] == "checked"


@pytest.mark.parametrize("path", ["/api/runs", "/api/runs/night/stop", "/api/session"])
def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_is_read(held: Client, path: str) -> None:
    assert held.ask(path, method="POST", body=b" " * (serve.LARGEST_BODY_BYTES + 1))[0] == 413
    assert held.ask(path, method="POST", body=b" " * serve.LARGEST_BODY_BYTES)[0] != 413


def test_a_damaged_run_is_told_of(held: Client, storage: Path) -> None:
    damaged = write_run(storage, "damaged", tiny_study())
    (damaged.folder / "run.json").write_text("[]")
    for path in ("", "/events"):
        status, body = held.ask(f"/api/runs/damaged{path}")
        assert status == 409, body
        assert b"restore the file" in body
    # a list is up to half a second old, however many ask for it
    until(lambda: {run["run"] for run in held.json("/api/runs")["runs"]} == {"damaged", "night"})
