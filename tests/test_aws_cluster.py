"""`cluster/aws.yaml` against moto, which answers for EC2 and IAM on loopback: what `ray up` asks of the cloud, and the
autoscaler of a head that runs here with the head's own rights.

SSH and rsync are stand-ins that write down what they are told: there is no machine behind moto's instances.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError

from tests.object_store import server

ROOT = Path(__file__).resolve().parents[1]
RAY = str(Path(sys.executable).with_name("ray"))
REGION, MINE = "eu-central-1", "203.0.113.7/32"
TOKEN = "0123456789abcdef0123456789abcdef"
STAND_IN = """#!/bin/bash
printf '%s ' "$(basename "$0")" "$@" | tr '\\n' ' ' >> {told}; echo >> {told}
for word in "$@"; do case "$word" in /*bootstrap*) test -f "$word" && cp "$word" {config};; esac; done
exit 0
"""
WANTS = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
trials = [ray.remote(num_cpus=2, num_gpus=0.5)(type("Trial", (), {})).remote() for _ in range(3)]
time.sleep(600)
"""
ENFORCE = "/moto-api/reset-auth"  # from its next request on, moto heeds the policies


@dataclass(frozen=True)
class Cloud:
    """moto's, with a home folder of its own for whoever asks it."""

    url: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
        own |= {"HOME": str(self.folder), "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        own |= {"AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "only"}
        return own | {"AWS_EC2_METADATA_DISABLED": "true", "RAY_USAGE_STATS_ENABLED": "0"}

    def client(self, name: str, **credentials: str) -> Any:
        keys = {"aws_access_key_id": "tests", "aws_secret_access_key": "only", **credentials}
        return boto3.client(name, REGION, endpoint_url=self.url, **keys)

    def run(self, *words: str, **more: str) -> str:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=300, env=self.environment | more, cwd=ROOT, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def prepare(self, ssh_from: str = MINE) -> str:
        words = ["--region", REGION, "--bucket", "facex-runs", "--ssh-from", ssh_from]
        return self.run(sys.executable, "cluster/aws_prepare.py", *words)

    def instances(self) -> list[dict[str, Any]]:
        found = self.client("ec2").describe_instances()["Reservations"]
        alive = [each for reservation in found for each in reservation["Instances"]]
        return [each for each in alive if each["State"]["Name"] == "running"]

    def acting_as(self, role: str) -> dict[str, str]:
        arn = self.client("iam").get_role(RoleName=role)["Role"]["Arn"]
        keys = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="head")["Credentials"]
        names = {"AccessKeyId": "aws_access_key_id", "SecretAccessKey": "aws_secret_access_key"}
        return {mine: keys[theirs] for theirs, mine in (names | {"SessionToken": "aws_session_token"}).items()}


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A short folder: Ray's sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="f", dir="/tmp") as folder, server() as port:
        made = Cloud(f"http://127.0.0.1:{port}", Path(folder))
        (made.folder / "bin").mkdir()
        for name in ("ssh", "rsync"):
            script = made.folder / "bin" / name
            script.write_text(STAND_IN.format(told=made.folder / "told", config=made.folder / "bootstrap.json"))
            script.chmod(0o755)
        (made.folder / ".ray").mkdir()
        (made.folder / ".ray" / "auth_token").write_text(TOKEN)
        yield made


@pytest.fixture
def config(cloud: Cloud) -> Path:
    """The file with its edits done."""
    group = yaml.safe_load(cloud.prepare())["SecurityGroupIds"][0]
    image = cloud.client("ec2").describe_images()["Images"][0]["ImageId"]
    text = (ROOT / "cluster" / "aws.yaml").read_text()
    edited = cloud.folder / "aws.yaml"
    edited.write_text(text.replace("ami-00000000000000000", image).replace("sg-00000000000000000", group))
    return edited


def rules(cloud: Cloud) -> list[tuple[Any, ...]]:
    [group] = cloud.client("ec2").describe_security_groups(GroupNames=["facex"])["SecurityGroups"]
    return [
        (
            rule.get("FromPort"),
            [each["CidrIp"] for each in rule["IpRanges"]],
            [each["GroupId"] == group["GroupId"] for each in rule["UserIdGroupPairs"]],
        )
        for rule in group["IpPermissions"]
    ]


def allowed(cloud: Cloud, role: str) -> dict[str, str]:
    policy = cloud.client("iam").get_role_policy(RoleName=role, PolicyName=role)["PolicyDocument"]
    return {action: each["Resource"] for each in policy["Statement"] for action in each["Action"]}


def test_what_is_prepared_lets_in_whom_it_says(cloud: Cloud) -> None:
    assert cloud.prepare() == cloud.prepare(), "again, all is there already"
    found = rules(cloud)
    assert (22, [MINE], []) in found
    assert [rule for rule in found if rule[0] != 22] == [(None, [], [True])]
    head, worker = allowed(cloud, "facex-head"), allowed(cloud, "facex-worker")
    assert set(worker) < set(head)
    assert all(action.startswith("s3:") and "facex-runs" in resource for action, resource in worker.items())
    assert head["iam:PassRole"].endswith(":role/facex-worker")
    with pytest.raises(AssertionError, match="the whole world"):
        cloud.prepare("0.0.0.0/0")


def test_who_was_let_in_before_is_not_any_more(cloud: Cloud) -> None:
    cloud.prepare()
    ec2 = cloud.client("ec2")
    [group] = ec2.describe_security_groups(GroupNames=["facex"])["SecurityGroups"]
    world = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    world["Ipv6Ranges"] = [{"CidrIpv6": "::/0"}]
    ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[world])
    cloud.prepare("198.51.100.4/32")
    [group] = ec2.describe_security_groups(GroupNames=["facex"])["SecurityGroups"]
    ssh = [rule for rule in group["IpPermissions"] if rule.get("FromPort") == 22]
    assert [each["CidrIp"] for rule in ssh for each in rule["IpRanges"]] == ["198.51.100.4/32"]
    assert [each for rule in ssh for each in rule.get("Ipv6Ranges", [])] == []
    assert (None, [], [True]) in rules(cloud), "hosts of the cluster still reach each other"


def test_ray_up_asks_for_a_head_that_can_grow(cloud: Cloud, config: Path) -> None:
    cloud.run(RAY, "up", "-y", "--no-config-cache", str(config))
    [head] = cloud.instances()
    assert head["InstanceType"] == "m6i.large"
    assert "InstanceLifecycle" not in head, "a head on spot would take the run with it"
    assert head["IamInstanceProfile"]["Arn"].endswith("/facex-head")
    assert [each["GroupName"] for each in head["SecurityGroups"]] == ["facex"]
    assert {each["GroupName"] for each in cloud.client("ec2").describe_security_groups()["SecurityGroups"]} == {
        "default",
        "facex",
    }, "none of Ray's, which is open to the world"
    assert "ray-autoscaler-v1" not in [each["RoleName"] for each in cloud.client("iam").list_roles()["Roles"]]
    told = (cloud.folder / "told").read_text().splitlines()
    assert any(line.startswith("rsync") and ".ray/auth_token" in line for line in told)
    [start] = [line for line in told if "ray start --head" in line]
    assert "RAY_AUTH_MODE=token" in start
    assert "--dashboard-host=127.0.0.1" in start
    grown = json.loads((cloud.folder / "bootstrap.json").read_text())["available_node_types"]
    assert (grown["head"]["max_workers"], grown["head"]["resources"]) == (0, {"CPU": 0, "GPU": 0})
    assert {name: grown["gpu"]["resources"][name] for name in ("CPU", "GPU")} == {"CPU": 4, "GPU": 1}
    cloud.run(RAY, "down", "-y", str(config))
    assert cloud.instances() == []


@pytest.mark.slow
def test_the_heads_autoscaler_asks_for_spot_workers_with_the_heads_own_rights(cloud: Cloud, config: Path) -> None:
    cloud.run(RAY, "up", "-y", "--no-config-cache", str(config))
    [head] = cloud.instances()
    said = json.loads((cloud.folder / "bootstrap.json").read_text())
    [key] = (cloud.folder / ".ssh").glob("*.pem")
    said |= {"file_mounts": {}, "auth": {**said["auth"], "ssh_private_key": str(key)}}  # which lie on the head
    (cloud.folder / "head.yaml").write_text(yaml.safe_dump(said))
    rights, worker = cloud.acting_as("facex-head"), cloud.acting_as("facex-worker")
    asked = urllib.request.Request(cloud.url + ENFORCE, data=b"0", headers={"Content-Type": "text/plain"})
    urllib.request.urlopen(asked).close()
    with pytest.raises(ClientError, match="not authorized"):
        cloud.client("ec2", **worker).terminate_instances(InstanceIds=[head["InstanceId"]])

    gcs = f"127.0.0.1:{free_port()}"
    environment = cloud.environment | {name.upper(): value for name, value in rights.items()}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_OVERRIDE_RESOURCES": '{"CPU":0,"GPU":0}'}
    environment |= {"RAY_CLOUD_INSTANCE_ID": head["InstanceId"], "RAY_NODE_TYPE_NAME": "head"}
    environment |= {"RAY_enable_autoscaler_v2": "1"}  # as `ray up` says it
    words = [RAY, "start", "--head", "--block", f"--port={gcs.partition(':')[2]}", "--node-ip-address=127.0.0.1"]
    words += [f"--temp-dir={cloud.folder}/r", f"--autoscaling-config={cloud.folder}/head.yaml"]
    words += [f"--dashboard-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    with (cloud.folder / "head.log").open("w") as log:
        running = [subprocess.Popen(words, env=environment, stdout=log, stderr=log)]
        try:
            await_port(int(gcs.partition(":")[2]))
            running.append(subprocess.Popen([sys.executable, "-c", WANTS, gcs], env=environment, stderr=log))
            workers = await_workers(cloud, rights, 2)
        finally:
            for each in reversed(running):
                each.terminate()
                each.wait(60)
    for each in workers:
        assert (each["InstanceType"], each["InstanceLifecycle"]) == ("g5.xlarge", "spot")
        assert each["IamInstanceProfile"]["Arn"].endswith("/facex-worker")
        assert [group["GroupName"] for group in each["SecurityGroups"]] == ["facex"]
        assert each["MetadataOptions"]["HttpTokens"] == "required"
        assert {"Key": "ray-cluster-name", "Value": "facex"} in each["Tags"]


def free_port() -> int:
    """Below those that Ray keeps for its workers."""
    for port in range(7000 + os.getpid() % 1000, 9900):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in _given:
                _given.add(port)
                return port
    raise OSError("no port is free")


_given: set[int] = set()


def await_port(port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError


def await_workers(cloud: Cloud, rights: dict[str, str], n: int) -> list[dict[str, Any]]:
    """Two halves of a GPU each fit on one worker, so three trials want two; none is asked for beyond them."""
    deadline, ec2 = time.monotonic() + 150, cloud.client("ec2", **rights)
    found: list[dict[str, Any]] = []
    while len(found) < n and time.monotonic() < deadline:
        time.sleep(1)
        every = [each for group in ec2.describe_instances()["Reservations"] for each in group["Instances"]]
        found = [each for each in every if {"Key": "ray-node-type", "Value": "worker"} in each.get("Tags", [])]
    monitor = "".join(path.read_text() for path in cloud.folder.glob("r/session_2*/logs/monitor.*"))
    assert len(found) == n, (cloud.folder / "head.log").read_text()[-2000:] + monitor[-6000:]
    return found
