"""The files of `cluster/`: those that could not be run are at least what their programs read."""

from __future__ import annotations

import configparser
import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes_validate import validate
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from facex_tune import __version__
from facex_tune.service import health, listen, manager
from tests.kubernetes_rules import value_mistakes
from tests.test_docs import parsed

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
CLUSTER_SPEC |= {"authOptions": dict}
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
    """Without it, `ray_session.capacity` refuses a cluster that holds no trial yet."""
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


SERVE = CLUSTER / "serve"


def serve_deployment() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((SERVE / "deployment.yaml").read_text()))


def serve_unit() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(SERVE / "facex-tune.service")
    return unit["Service"]


def test_the_service_is_given_the_time_that_its_runs_need() -> None:
    needed_s = manager.ENDS_WITHIN_S + listen.ENDS_WITHIN_S + 10
    pod = serve_deployment()[0]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= needed_s
    assert int(serve_unit()["TimeoutStopSec"]) >= needed_s
    assert serve_unit()["KillMode"] == "mixed"  # else its runs are told to end twice
    assert pod["containers"][0]["readinessProbe"]["timeoutSeconds"] > health.READY_WITHIN_S


def test_the_service_is_started_by_words_that_it_knows() -> None:
    container = serve_deployment()[0]["spec"]["template"]["spec"]["containers"][0]
    for line in (serve_unit()["ExecStart"], shlex.join([*container["command"], *container["args"]])):
        context = parsed("facex-tune" + line.partition("facex-tune")[2])
        assert context.info_name == "serve"
        assert context.params["token_file"].name == "token"


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_the_deployment_of_the_service(version: str) -> None:
    deployment, service, policy = serve_deployment()
    for document in (deployment, service, policy):
        validate(document, version, strict=True)
        assert value_mistakes(document) == []
    with pytest.raises(jsonschema.ValidationError):
        validate(broken(deployment, ("spec", "strategy", "kind"), "Recreate"), version, strict=True)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    assert deployment["spec"]["replicas"] == 1  # a storage has one service
    assert deployment["spec"]["strategy"]["type"] == "Recreate"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "facex-tune.service"
    text = (SERVE / "facex-tune.service").read_text()
    unit.write_text(text.replace("/srv/facex/venv/bin/facex-tune", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def pods() -> list[dict[str, Any]]:
    """The templates of every pod in our files."""
    clusters = [specs(name)[1] for name in KUBERAY]
    groups = [group for cluster in clusters for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    return [*(group["template"] for group in groups), serve_deployment()[0]["spec"]["template"]]


def test_every_ray_asks_for_a_token() -> None:
    for name in RAY_UP:
        said = yaml.safe_load(text(name))
        started = [line for line in re.findall(r"[^\n]*ray start [^\n]*", text(name)) if not line.startswith("#")]
        assert len(started) == 2
        assert all("RAY_AUTH_MODE=token" in line for line in started), name
        assert [target for target in said["file_mounts"] if target.endswith("/.ray/auth_token")], name
    for name in KUBERAY:
        assert specs(name)[1]["authOptions"] == {"mode": "token"}, name


def test_a_slurm_job_makes_a_token_that_nobody_foresees() -> None:
    script = text("slurm/search.sbatch")
    assert "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN\n" in script
    [line] = re.findall(r"^RAY_AUTH_TOKEN=.*$", script, re.MULTILINE)
    made = [subprocess.check_output(["bash", "-c", f'{line}; echo "$RAY_AUTH_TOKEN"'], text=True) for _ in range(2)]
    assert made[0] != made[1]
    assert all(re.fullmatch("[0-9a-f]{64}\n", token) for token in made)


def test_no_pod_is_root_or_may_become_it() -> None:
    for pod in pods():
        said = pod["spec"]["securityContext"]
        assert (said["runAsNonRoot"], said["fsGroup"]) == (True, said["runAsUser"])
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert f"--uid {pods()[0]['spec']['securityContext']['runAsUser']} " in text("container/Dockerfile")


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_network_lets_in_those_alone_who_must_reach_ray(version: str) -> None:
    policy = yaml.safe_load(text("kuberay/network.yaml"))
    validate(policy, version, strict=True)
    ours = policy["spec"]["podSelector"]["matchLabels"]
    assert all(pod["metadata"]["labels"] == ours for pod in pods()[:-1])
    everything, submits, metrics = policy["spec"]["ingress"]
    assert everything == {"from": [{"podSelector": {"matchLabels": ours}}]}
    job = submits["from"][0]["podSelector"]["matchLabels"]["job-name"]
    assert job == specs("rayjob.yaml")[0]["metadata"]["name"]
    assert [submits["ports"], metrics["ports"]] == [[{"port": 8265}], [{"port": 8080}]]


def test_images_and_what_is_in_them_have_versions_that_do_not_move() -> None:
    dockerfile = text("container/Dockerfile")
    images = re.findall(r"REGISTRY/\S+", dockerfile + "".join(path.read_text() for path in MARKED))
    assert {image.rstrip("`") for image in images} == {f"REGISTRY/facex_tune:{__version__}"}
    assert re.search(r"^FROM \S+:\d+\.\d+\.\d+-", dockerfile, re.MULTILINE)
    held = {}
    for line in text("container/constraints.txt").splitlines()[1:]:
        name, version = line.split("==")
        held[canonicalize_name(name)] = version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [*project["optional-dependencies"]["serve"], *project["optional-dependencies"]["s3"]]
    for line in [*project["dependencies"], *extras]:
        wanted = Requirement(line)
        assert held[canonicalize_name(wanted.name)] in wanted.specifier, line
    assert "-c cluster/container/constraints.txt" in dockerfile


def test_nothing_goes_into_the_image_but_what_it_is_built_from() -> None:
    first, *kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("#", "")]
    assert first == "*"
    wanted = {line.removeprefix("!") for line in kept if line.startswith("!")}
    copied = [line.split()[1:-1] for line in text("container/Dockerfile").splitlines() if line.startswith("COPY ")]
    assert {re.sub(r"(facex_tune)/.*", r"\1", path) for paths in copied for path in paths} == wanted


def test_workers_in_a_cloud_may_do_no_more_than_reach_the_storage() -> None:
    worker = yaml.safe_load(text("gcp.yaml"))["available_node_types"]["gpu"]["node_config"]
    [account] = worker["serviceAccounts"]
    assert account["scopes"] == ["https://www.googleapis.com/auth/devstorage.read_write"]


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
        if path.is_file() and path.name != "README.md":
            assert path.name in text, path.name


ASK_WITHOUT_TOKEN = """
import time, urllib.request
import ray
from facex_tune.search import ray_session

with ray_session.connected(None):
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
    security = text("README.md").partition("## Security")[2].partition("## Watching")[0]
    ports = {8090, 44217, 44227}
    assert {port for port in ports if re.search(rf"dport .*\b{port}\b", security)} == ports
    for name in RAY_UP:
        started = re.findall(r"ray start [^\n]*", text(name))
        assert started
        assert all("--metrics-export-port=8090" in line for line in started), name
