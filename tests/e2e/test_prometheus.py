"""Debian's Prometheus scrapes a real Ray during a search: every query of the Grafana dashboard has data."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.search.conftest import tiny_data
from tests.service.test_jobs import Cluster, cluster, free_port

__all__ = ["cluster", "tiny_data"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("FACEX_E2E") != "full", reason="minutes of a real search: `make e2e`"),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's prometheus"),
]
ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "cluster" / "monitoring"
PARTS = ROOT / "tests" / "faults" / "parts"
NEED_GPU = ("ray_facex_gpu_memory_bytes",)
DEADLINE_S = 600
# A layer that costs nothing, slowed to about a second an epoch so that scrapes see it; the first trial diverges. It is
# stopped long before its budget is spent.
STUDY = """
version: 1
name: watched
data: synthetic
budget: {trials: 500}
fidelity: {min_epochs: 1, max_epochs: 4, reduction: 2}
search:
  seed: 3
  concurrency: 1
  start_with: [{model: faulty_net, model.faulty_net.fault: nan}]
space:
  model: [{faulty_net: {fault: [none, nan], tag: {low: 0.0, high: 1.0}, step_ms: 100, fits: 16, sound_steps: 0}}]
  augment: [none]
  balance: [none]
  train: {lr: 0.01, batch_size: 32}
retrain: {top: 1, seeds: 1, epochs: 1}
"""


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus server; what it is asked, it answers as Grafana would see it."""

    url: str

    def ask(self, door: str, **said: str) -> Any:
        words = urllib.parse.urlencode(said)
        with urllib.request.urlopen(f"{self.url}/api/v1/{door}?{words}", timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found


@pytest.fixture
def prometheus(cluster: Cluster, tmp_path: Path) -> Iterator[Prometheus]:
    """With the configuration as shipped, but for the folder of this Ray."""
    shipped = (MONITORING / "prometheus.yml").read_text()
    assert "/tmp/ray/" in shipped
    config = tmp_path / "prometheus.yml"
    config.write_text(shipped.replace("/tmp/ray/", f"/tmp/ray-{os.getpid()}/"))
    port = free_port()
    words = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}", "--log.level=warn"]
    words += [f"--web.listen-address=127.0.0.1:{port}"]
    with (tmp_path / "prometheus.log").open("wb") as sink:
        process = subprocess.Popen(words, stdout=sink, stderr=sink)
    try:
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(60)


def panels() -> dict[str, tuple[str, list[str]]]:
    """Query and the labels that its legend names, by the panel's title."""
    found = {}
    for panel in json.loads((MONITORING / "grafana.json").read_text())["panels"]:
        for target in panel["targets"]:
            labels = re.findall(r"{{(\w+)}}", target["legendFormat"])
            found[panel["title"]] = (target["expr"].replace("$run", "night"), labels)
    return found


def drawn(prometheus: Prometheus, expression: str, labels: list[str]) -> dict[str, float]:
    """The panel's lines by their legend, at this moment; empty where one has no name or no number."""
    lines = prometheus.query(expression)
    values = {" ".join(line["metric"].get(label, "") for label in labels): float(line["value"][1]) for line in lines}
    named = all(line["metric"].get(label) for line in lines for label in labels)
    return values if named and all(map(math.isfinite, values.values())) else {}


def test_every_panel_of_the_dashboard_has_data_during_a_search(
    cluster: Cluster, prometheus: Prometheus, tiny_data: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY)
    where = ["--storage", str(tmp_path / "runs"), "--data", str(tiny_data), "--parts", str(PARTS)]
    submitted = cluster.facex("submit", str(study), "--run", "night", *where)
    assert submitted.returncode == 0, submitted.stderr
    asked = {title: panel for title, panel in panels().items() if not any(name in panel[0] for name in NEED_GPU)}
    assert len(asked) == len(panels()) - len(NEED_GPU)
    found: dict[str, dict[str, float]] = {}
    deadline = time.monotonic() + DEADLINE_S
    while not (found and all(found.values()) and any(found["Images a second"].values())):  # 0 between two trials
        assert time.monotonic() < deadline, f"{found}\n{cluster.facex('logs', 'night').stdout}"
        time.sleep(1)  # between questions; what is awaited is the answer
        with contextlib.suppress(urllib.error.URLError):  # Prometheus is still starting
            found = {title: drawn(prometheus, *panel) for title, panel in asked.items()}
    print(json.dumps(found, indent=1))
    assert found["Stops by guards"]["night diverged"] >= 1
    assert 0 < found["Budget left"]["night trials"] < 1
    assert prometheus.ask("label/run/values", **{"match[]": "ray_facex_trials"}) == ["night"]  # the list of runs
    assert cluster.facex("stop", "night").returncode == 0
