"""The files of `cluster/`: those that could not be run are at least what their programs read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "cluster"
RAY_UP = ("aws.yaml", "gcp.yaml", "onprem.yaml")
MARKED = sorted(path for path in CLUSTER.rglob("*") if path.suffix in (".yaml", ".sbatch"))


def ray_schema() -> dict[str, object]:
    import ray

    schema: dict[str, object] = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    return schema


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_takes_its_own_files(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    said = yaml.safe_load((CLUSTER / name).read_text())
    jsonschema.validate(said, ray_schema())
    node_types = said.get("available_node_types", {})
    for node_type in node_types.values():
        assert node_type["node_config"]
    assert said.get("head_node_type", "head") in {"head", *node_types}


@pytest.mark.parametrize("name", RAY_UP)
def test_no_trials_on_the_head_and_no_dashboard_for_others(name: str) -> None:
    said = yaml.safe_load((CLUSTER / name).read_text())
    start = next(line for line in said["head_start_ray_commands"] if "ray start" in line)
    assert "--dashboard-host=127.0.0.1" in start
    heads_own = said.get("available_node_types", {}).get("head", {}).get("resources", {})
    assert "--num-cpus=0" in start or heads_own["CPU"] == 0


@pytest.mark.parametrize("path", MARKED, ids=lambda path: path.name)
def test_at_most_three_edits(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# ")]
    edits = re.findall(r"EDIT(?::[^\n]*)?", "\n".join(lines))
    assert len([edit for edit in edits if "the same" not in edit]) <= 3


@pytest.mark.parametrize("name", ["rayjob.yaml", "raycluster.yaml"])
def test_kubernetes_files_have_what_kuberay_reads(name: str) -> None:
    said = yaml.safe_load((CLUSTER / "kuberay" / name).read_text())
    assert said["apiVersion"] == "ray.io/v1"
    cluster = said["spec"]["rayClusterSpec"] if said["kind"] == "RayJob" else said["spec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = set()
    for group in groups:
        pod = group["template"]["spec"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())  # KubeRay refuses numbers
        claims = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            images.add(container["image"])
            assert {mount["name"] for mount in container["volumeMounts"]} <= claims
    assert len(images) == 1
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    worker = cluster["workerGroupSpecs"][0]
    assert worker["minReplicas"] == 0 <= worker["maxReplicas"]


def test_the_job_goes_on_when_it_is_retried() -> None:
    said = yaml.safe_load((CLUSTER / "kuberay" / "rayjob.yaml").read_text())
    assert said["spec"]["backoffLimit"] > 0
    assert "--run night" in said["spec"]["entrypoint"]


def test_every_file_says_whether_it_was_run() -> None:
    for path in MARKED:
        if path.name == "storage.yaml":
            continue
        head = path.read_text()[:1500]
        assert "Not run here" in head or "Checked by" in head, path


def test_the_dashboard_asks_for_what_is_told() -> None:
    told = (ROOT / "facex_tune" / "search" / "telemetry.py").read_text()
    names = set(re.findall(r'"(facex_[a-z_]+)"', told))
    asked = set()
    for panel in json.loads((CLUSTER / "monitoring" / "grafana.json").read_text())["panels"]:
        found = re.findall(r"ray_(facex_[a-z_]+)", panel["targets"][0]["expr"])
        asked |= {name.removesuffix("_total") for name in found}
    assert asked == names


def test_the_readme_names_every_file() -> None:
    text = (CLUSTER / "README.md").read_text()
    for path in CLUSTER.rglob("*"):
        if path.is_file() and path.name not in ("README.md", "storage.yaml", "Dockerfile"):
            assert path.name in text, path.name
