"""Runs as jobs of a real Ray cluster on loopback, with token authentication on: submit, status, logs, stop, submit
again, pull. The same on three hosts: tests/e2e.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from facex_tune.errors import InputError
from facex_tune.runs.store import Run
from facex_tune.service import jobs, packing
from facex_tune.service.jobs import Submission

from . import doors
from .test_serve import STUDY

TOKEN = "0123456789abcdef0123456789abcdef"
DEADLINE_S = 400
COMMAND = [sys.executable, "-m", "facex_tune"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Cluster:
    """A head on loopback; `facex` runs our command line against it."""

    url: str
    folder: Path

    def facex(self, *words: str, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"HOME": str(self.folder), "RAY_API_SERVER_ADDRESS": self.url, "COLUMNS": "200"}
        environment |= {"RAY_AUTH_TOKEN": token} if token else {}
        return subprocess.run([*COMMAND, *words], capture_output=True, text=True, env=environment, timeout=DEADLINE_S)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "auth_token").write_text(TOKEN)
    port, log = free_port(), folder / "ray.log"
    words = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={free_port()}"]
    words += ["--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
    words += [f"--dashboard-agent-listen-port={free_port()}", "--include-dashboard=true"]
    words += [f"--temp-dir=/tmp/ray-{os.getpid()}", f"--ray-client-server-port={free_port()}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "auth_token")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # a job's `python` is found there
    environment |= {"PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    with log.open("wb") as sink:
        head = subprocess.Popen(words, stdout=sink, stderr=sink, env=environment)
    try:
        made = Cluster(f"http://127.0.0.1:{port}", folder)
        _wait_for(lambda: made.facex("status").returncode == 0, head, log)
        yield made
    finally:
        head.terminate()
        head.wait(60)


def _wait_for(happened: Callable[[], bool], head: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not happened():
        assert head.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)


@pytest.mark.slow
def test_submit_status_logs_stop_submit_again_pull(cluster: Cluster, tiny_data: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY)
    where = ["--storage", str(tmp_path / "runs"), "--data", str(tiny_data)]
    words = ["submit", str(study), "--run", "night", *where]
    assert re.search("job night-1", cluster.facex(*words).stdout)
    second = cluster.facex(*words)
    assert second.returncode == 2
    assert "going already, as job night-1" in second.stderr

    run = Run(tmp_path / "runs", "night")
    deadline = time.monotonic() + DEADLINE_S
    while not (run.exists() and any(event["type"] == "epoch" for event in run.events())):
        assert time.monotonic() < deadline, cluster.facex("logs", "night").stdout
        time.sleep(0.2)
    assert json.loads(cluster.facex("status", "night", "--json").stdout)["state"] == "RUNNING"
    stopped = cluster.facex("stop", "night")
    assert stopped.returncode == 0, stopped.stderr
    assert [event["signal"] for event in run.events() if event["type"] == "run_interrupted"] == ["SIGTERM"]
    assert cluster.facex("stop", "night").returncode == 2  # it has ended

    assert "job night-2" in cluster.facex(*words).stdout
    followed = cluster.facex("logs", "night", "--follow")
    assert "report:" in followed.stdout, followed.stdout + followed.stderr
    assert run.history().stages["report"] == "finished"
    status = json.loads(cluster.facex("status", "night", "--json").stdout)
    assert [attempt["state"] for attempt in status["attempts"]] == ["STOPPED", "SUCCEEDED"]
    home = str(tmp_path / "home")
    pulled = cluster.facex("pull", "night", "--storage", str(tmp_path / "runs"), "--to", home, "--json")
    assert Path(json.loads(pulled.stdout)["report"]).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, "f" * 32])
def test_who_has_not_the_token_is_told_so_in_one_line(cluster: Cluster, token: str | None, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY)
    submit = ["submit", str(study), "--storage", "/x", "--data", "/x"]
    for words in (["status"], ["logs", "night"], ["stop", "night"], submit):
        done = cluster.facex(*words, token=token)
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
        assert "token" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, "f" * 32])
def test_no_door_of_the_jobs_api_opens_without_the_token(cluster: Cluster, token: str | None) -> None:
    assert doors.open_doors(cluster.url, doors.JOBS, token) == {}
    assert doors.status(cluster.url, "GET /api/jobs/", TOKEN) == 200
    assert doors.status(cluster.url, "GET /api/jobs/none/logs", TOKEN) == 404


def test_no_cluster_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no Ray dashboard answers"):
        jobs.status("night", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="http"):
        jobs.status("night", "ray://127.0.0.1:10001")


def test_a_job_needs_places_that_every_host_sees(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--storage runs: a job runs in a folder of its own"):
        jobs.submit(Submission(tmp_path / "x.yaml", "night", "runs", "/data"), None)


def test_the_command_is_one_that_a_shell_reads_back() -> None:
    order = Submission(Path("x.yaml"), "night", "/runs", "/a b", ("space.model=[resnet]",), 7, "cpu", (Path("mine"),))
    assert order.command() == (
        "python -m facex_tune run study.yaml --run night --storage /runs --data '/a b' "
        "--set 'space.model=[resnet]' --seed 7 --device cpu --parts parts/0"
    )


def test_what_travels_runs_by_itself_and_holds_no_data(tmp_path: Path) -> None:
    study = tmp_path / "s.yaml"
    study.write_text(STUDY)
    (tmp_path / "mine" / "models").mkdir(parents=True)
    (tmp_path / "mine" / "models" / "own.py").write_text("")
    (tmp_path / "mine" / "faces.npy").write_bytes(b"no code")
    with packing.packed(study, [tmp_path / "mine"]) as folder:
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 3e6
        assert (folder / "parts" / "0" / "models" / "own.py").is_file()
        assert not list(folder.rglob("*.npy"))
        asked = "import facex_tune; print(facex_tune.__file__)"
        done = subprocess.run([sys.executable, "-c", asked], cwd=folder, capture_output=True, text=True)
        assert done.stdout.startswith(str(folder)), done.stderr
        assert (folder / "facex_tune" / "service" / "pages" / "page.js").is_file()
