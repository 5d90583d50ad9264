"""The files of `cluster/`: those that could not be run are at least what their programs read."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes_validate import validate

from tests.kubernetes_rules import value_mistakes

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "cluster"
RAY_UP = ("aws.yaml", "gcp.yaml", "onprem.yaml")
KUBERAY = ("rayjob.yaml", "raycluster.yaml")
KUBERNETES = ("1.30", "1.37")  # of these kubernetes-validate has the schemas
# The fields that our files use, with KubeRay's types: https://github.com/ray-project/kuberay, the `json` tags of
# ray-operator/apis/ray/v1/rayjob_types.go and raycluster_types.go.
RESOURCE = {"apiVersion": str, "kind": str, "metadata": dict, "spec": dict}
JOB_SPEC = {
    "entrypoint": str,
    "backoffLimit": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "submissionMode": str,
    "runtimeEnvYAML": str,
    "rayClusterSpec": dict,
}
CLUSTER_SPEC = {"rayVersion": str, "enableInTreeAutoscaling": bool, "headGroupSpec": dict, "workerGroupSpecs": list}
GROUP = {"rayStartParams": dict, "template": dict}
WORKER_GROUP = GROUP | {"groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int}
MARKED = sorted(path for path in CLUSTER.rglob("*") if path.suffix in (".yaml", ".sbatch"))


def ray_schema() -> dict[str, object]:
    import ray

    schema: dict[str, object] = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    return schema


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_takes_its_own_files(name: str) -> None:
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


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml", "kuberay/raycluster.yaml", "kuberay/rayjob.yaml"])
def test_a_cluster_that_grows_from_nothing_is_told_how_far(name: str) -> None:
    """Without it, `cluster.capacity` refuses a cluster that holds no trial yet."""
    commands = re.findall(r"search_spaces/fer2013\.yaml --run night[^#]*?concurrency=\d+|$", text(name))
    assert commands[0], f"{name}: no `--set search.concurrency=N`"


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_prepared_data_are_brought_to_where_the_run_looks_for_them(name: str) -> None:
    [looked_for] = re.findall(r"--data (\S+)", text(name))
    [(source, target)] = re.findall(rf"ray rsync-up cluster/{name} (\S+) (\S+)", text(name))
    assert (source, target) == ("data/", f"{looked_for}/")
    assert "/data" in yaml.safe_load(text(name))["rsync_exclude"], "else it goes to every worker, with the checkout"


def text(name: str) -> str:
    return (CLUSTER / name).read_text()


@pytest.mark.parametrize("name", RAY_UP)
@pytest.mark.parametrize("existing", [(), (".profile",), (".bash_profile",), (".bash_login", ".profile")])
def test_a_login_shell_finds_the_venv_and_what_it_read_before(
    name: str, existing: tuple[str, ...], tmp_path: Path
) -> None:
    for file in existing:
        (tmp_path / file).write_text("export BEFORE=kept\n")
    [command] = [line for line in yaml.safe_load(text(name))["setup_commands"] if "profile" in line]
    environment = {**os.environ, "HOME": str(tmp_path)}

    def shell(line: str) -> list[str]:
        done = subprocess.run(["bash", "--login", "-c", line], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    for _ in range(2):  # `ray up` again
        assert shell(command) == []
    path, *before = shell("echo $PATH $BEFORE")
    assert path.split(":").count(f"{tmp_path}/facex_venv/bin") == 1
    assert before == (["kept"] if existing else [])
    assert all(file.read_text().count("facex_venv") == 1 for file in tmp_path.iterdir())


@pytest.mark.parametrize("path", MARKED, ids=lambda path: path.name)
def test_at_most_three_edits(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# ")]
    edits = re.findall(r"EDIT(?::[^\n]*)?", "\n".join(lines))
    assert len([edit for edit in edits if "the same" not in edit]) <= 3


def specs(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a KubeRay file says, and the RayCluster's spec in it."""
    said = yaml.safe_load((CLUSTER / "kuberay" / name).read_text())
    return said, said["spec"]["rayClusterSpec"] if said["kind"] == "RayJob" else said["spec"]


def mistakes(said: dict[str, Any], fields: Mapping[str, type], required: Set[str], place: str) -> list[str]:
    """Fields that KubeRay does not know, of another type, or missing: the API server would drop or refuse them."""
    found = [f"{place}: no {name}" for name in required - set(said)]
    for name, value in said.items():
        if type(value) is not fields.get(name):
            found.append(f"{place}.{name}: {type(value).__name__}")
    return found


def kuberay_mistakes(said: dict[str, Any], cluster: dict[str, Any]) -> list[str]:
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    found = mistakes(said, RESOURCE, set(RESOURCE), "file")
    found += mistakes(cluster, CLUSTER_SPEC, {"headGroupSpec"}, "cluster")
    if said["kind"] == "RayJob":
        found += mistakes(said["spec"], JOB_SPEC, {"entrypoint", "rayClusterSpec"}, "job")
    found += mistakes(head, GROUP, set(GROUP), "head")
    for worker in workers:
        found += mistakes(worker, WORKER_GROUP, set(WORKER_GROUP) - {"replicas"}, "worker")
    return found


def broken(said: Any, at: tuple[str | int, ...], value: object) -> Any:
    """A copy with one value put at a path; None takes away what is there."""
    made = copy.deepcopy(said)
    parent = made
    for key in at[:-1]:
        parent = parent[key]
    if value is None:
        del parent[at[-1]]
    else:
        parent[at[-1]] = value
    return made


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_knows_every_field(name: str) -> None:
    said, cluster = specs(name)
    assert kuberay_mistakes(said, cluster) == []
    wrong = [(("maxReplica",), 1), (("maxReplicas",), "4"), (("minReplicas",), None), (("rayStartParams",), [])]
    for at, value in wrong:
        changed = broken(cluster, ("workerGroupSpecs", 0, *at), value)
        assert kuberay_mistakes(said, changed), f"{at} {value}: not noticed"


@pytest.mark.parametrize("name", KUBERAY)
def test_kubernetes_takes_the_pods(name: str) -> None:
    _, cluster = specs(name)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": group["template"]}
        for version in KUBERNETES:
            validate(pod, version, strict=True)
        for at, value in ((("volumes", 0, "claim"), "x"), (("containers", 0, "name"), None)):
            with pytest.raises(jsonschema.ValidationError):
                validate(broken(pod, ("template", "spec", *at), value), KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_the_claim_that_the_pods_mount(version: str) -> None:
    claim = yaml.safe_load((CLUSTER / "kuberay" / "storage.yaml").read_text())
    validate(claim, version, strict=True)
    with pytest.raises(jsonschema.ValidationError):
        validate(broken(claim, ("spec", "accessMode"), "ReadWriteMany"), version, strict=True)
    for name in KUBERAY:
        _, cluster = specs(name)
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            [volume] = group["template"]["spec"]["volumes"]
            assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


@pytest.mark.parametrize("path", sorted((CLUSTER / "kuberay").glob("*.yaml")), ids=lambda path: path.name)
def test_kubernetes_takes_the_values(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    assert documents
    assert [line for document in documents for line in value_mistakes(document)] == []


POD = ("headGroupSpec", "template", "spec")
WORKER = ("workerGroupSpecs", 0)
PLANTED: list[tuple[tuple[str | int, ...], object, str]] = [
    ((*POD, "containers", 0, "resources", "limits", "memory"), "8GB", "memory '8GB' is no quantity"),
    ((*POD, "containers", 0, "resources", "limits", "memory"), "8 Gi", "is no quantity"),
    ((*POD, "containers", 0, "resources", "requests", "memory"), "8", "less than a megabyte"),
    ((*POD, "containers", 0, "resources", "requests", "memory"), "8000m", "less than a megabyte"),
    ((*POD, "containers", 0, "resources", "limits", "cpu"), "2Gi", "counts CPUs in bytes"),
    ((*POD, "containers", 0, "resources", "requests", "cpu"), "4", "the request 4 does not go with the limit 2"),
    (
        (*WORKER, "template", "spec", "containers", 0, "resources", "requests", "nvidia.com/gpu"),
        "0.5",
        "is no whole device",
    ),
    (
        (*WORKER, "template", "spec", "containers", 0, "resources", "limits", "nvidia.com/gpu"),
        "2",
        "does not go with the limit 2",
    ),
    ((*POD, "restartPolicy"), "Allways", "restartPolicy 'Allways' is none of Always"),
    ((*POD, "containers", 0, "imagePullPolicy"), "ifnotpresent", "is none of Always, IfNotPresent, Never"),
    ((*WORKER, "template", "spec", "tolerations", 0, "operator"), "Exist", "operator 'Exist' is none of"),
    ((*WORKER, "template", "spec", "tolerations", 0, "value"), "x", "Exists takes no value"),
    ((*WORKER, "template", "spec", "tolerations", 0, "effect"), "NoScheduling", "effect 'NoScheduling' is none of"),
    ((*POD, "containers", 0, "ports"), [{"containerPort": 70000}], "containerPort 70000 is no port"),
    ((*POD, "containers", 0, "ports"), [{"containerPort": 8265, "name": "ray_dashboard"}], "port name 'ray_dashboard'"),
    ((*POD, "containers", 0, "ports"), [{"containerPort": 8265, "protocol": "tcp"}], "protocol 'tcp' is none of"),
    ((*POD, "containers", 0, "name"), "Ray_Head", "container 'Ray_Head' is no name"),
    ((*POD, "containers", 0, "image"), "facex tune:latest", "is no reference to an image"),
    ((*POD, "containers", 0, "volumeMounts", 0, "name"), "shard", "volumeMount 'shard': no such volume"),
    ((*POD, "containers", 0, "volumeMounts", 0, "mountPath"), "shared", "is not absolute"),
    ((*POD, "containers", 0, "env"), [{"name": "2FAST", "value": "1"}], "env '2FAST'"),
    ((*POD, "containers", 0, "env"), [{"name": "N", "value": 1}], "its value is no text"),
    ((*POD, "volumes", 0, "name"), "Shared", "volume 'Shared' is no name"),
    ((*POD, "volumes", 0, "persistentVolumeClaim", "claimName"), "facex_shared", "claimName 'facex_shared' is no name"),
    ((*WORKER, "groupName"), "GPU", "groupName 'GPU' is no name"),
    ((*WORKER, "replicas"), 9, "replicas lie outside"),
    ((*WORKER, "minReplicas"), -1, "minReplicas -1 is below 0"),
    (("headGroupSpec", "rayStartParams", "num-cpus"), 0, "is no text"),
    (("headGroupSpec", "rayStartParams", "metrics-export-port"), "80900", "is no port"),
]


@pytest.mark.parametrize("name", KUBERAY)
@pytest.mark.parametrize(("at", "value", "said"), PLANTED, ids=lambda each: str(each)[-40:])
def test_a_planted_wrong_value_is_seen(name: str, at: tuple[str | int, ...], value: object, said: str) -> None:
    document, _ = specs(name)
    place = ("spec", "rayClusterSpec") if document["kind"] == "RayJob" else ("spec",)
    [line] = value_mistakes(broken(document, (*place, *at), value))[:1] or [""]
    assert said in line


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (("metadata", "name"), "Facex", "name 'Facex' is no name"),
        (("metadata", "labels"), {"a b": "c"}, "label a b=c"),
        (("spec", "accessModes"), ["ReadWriteAll"], "accessModes 'ReadWriteAll' is none of"),
        (("spec", "storageClassName"), "NFS", "storageClassName 'NFS' is no name"),
        (("spec", "resources", "requests", "storage"), "50GB", "storage '50GB' is no quantity"),
        (("spec", "volumeMode"), "File", "volumeMode 'File' is none of"),
    ],
)
def test_a_planted_wrong_value_of_the_claim_is_seen_and_the_schema_does_not(
    at: tuple[str | int, ...], value: object, said: str
) -> None:
    claim = broken(yaml.safe_load((CLUSTER / "kuberay" / "storage.yaml").read_text()), at, value)
    validate(claim, KUBERNETES[-1], strict=True)
    [line] = value_mistakes(claim)
    assert said in line


@pytest.mark.parametrize("field", ["submissionMode", "backoffLimit"])
def test_a_planted_wrong_value_of_the_job_is_seen(field: str) -> None:
    said, _ = specs("rayjob.yaml")
    [line] = value_mistakes(broken(said, ("spec", field), {"submissionMode": "K8SJobMode", "backoffLimit": -1}[field]))
    assert field in line


@pytest.mark.parametrize("name", KUBERAY)
def test_kubernetes_files_have_what_kuberay_reads(name: str) -> None:
    file, cluster = specs(name)
    assert file["apiVersion"] == "ray.io/v1"
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


ASK_WITHOUT_TOKEN = """
import time, urllib.request
import ray
from facex_tune.search import cluster

with cluster.connected(None):
    [node] = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + 60
    while True:
        try:
            print(urllib.request.urlopen(address, timeout=10).status)
            break
        except ConnectionError:
            assert time.monotonic() < deadline
        except OSError as error:
            assert isinstance(error.reason, ConnectionError) and time.monotonic() < deadline
"""


@pytest.mark.slow
def test_the_readme_tells_how_to_keep_in_what_answers_without_the_token() -> None:
    """Once Ray asks for the token there too, or can be bound to one address, the section has more to say."""
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}
    done = subprocess.run(
        [sys.executable, "-c", ASK_WITHOUT_TOKEN], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split()[-1:] == ["200"], done.stderr
    security = text("README.md").partition("## Security")[2].partition("## Machines")[0]
    ports = {8090, 44217, 44227}
    assert {port for port in ports if re.search(rf"dport .*\b{port}\b", security)} == ports
    for name in RAY_UP:
        started = re.findall(r"ray start [^\n]*", text(name))
        assert started
        assert all("--metrics-export-port=8090" in line for line in started), name
