"""What Kubernetes' schemas do not say of a manifest's values: quantities, policies, ports, names.

The schemas know the types alone: to them "8GB" is a quantity, "Allways" a policy, 70000 a port and "My_Claim" a name;
the API server refuses such a file, or the pod waits for ever. The rules are those of Kubernetes' own documentation
("Object Names and IDs", "Resource Management for Pods and Containers", the API reference) and of KubeRay's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
IMAGE = re.compile(r"[a-z0-9]+([._:/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?")
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|Ki|Mi|Gi|Ti|Pi|Ei|M|G|T|P|E)?")
UNITS = {"m": 1e-3, "k": 1e3, **{unit: 10 ** (3 * n) for n, unit in enumerate("MGTPE", 2)}}
UNITS |= {f"{unit}i": 1024**n for n, unit in enumerate("KMGTPE", 1)}
BYTES = ("memory", "storage", "ephemeral-storage")
LEAST_BYTES = 2**20  # less was meant to have a unit
POLICIES: dict[str, tuple[str, ...]] = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "terminationMessagePolicy": ("File", "FallbackToLogsOnError"),
    "preemptionPolicy": ("PreemptLowerPriority", "Never"),
    "fsGroupChangePolicy": ("Always", "OnRootMismatch"),
    "persistentVolumeReclaimPolicy": ("Retain", "Delete", "Recycle"),
    "volumeMode": ("Filesystem", "Block"),
    "operator": ("Exists", "Equal", "In", "NotIn", "DoesNotExist", "Gt", "Lt"),
    "effect": ("NoSchedule", "PreferNoSchedule", "NoExecute"),
    "protocol": ("TCP", "UDP", "SCTP"),
    "accessModes": ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"),
    "policyTypes": ("Ingress", "Egress"),
    "whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway"),
    "upscalingMode": ("Default", "Aggressive", "Conservative"),
    "submissionMode": ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"),
}
PORTS = ("containerPort", "hostPort", "port", "targetPort", "nodePort")
START_PORTS = ("port", "dashboard-port", "metrics-export-port", "ray-client-server-port", "object-manager-port")
NAMES = {"claimName": SUBDOMAIN, "storageClassName": SUBDOMAIN, "serviceAccountName": SUBDOMAIN, "groupName": LABEL}
AT_LEAST_0 = ("backoffLimit", "ttlSecondsAfterFinished", "terminationGracePeriodSeconds", "replicas", "minReplicas")


def value_mistakes(document: Mapping[str, Any]) -> list[str]:
    """Every value that Kubernetes or KubeRay would refuse, a line each with its place."""
    return [f"{place}: {said}" for place, said in _walk(document, str(document.get("kind", "file")))]


def quantity(said: object) -> float | None:
    """The number that a quantity means; None where it is none."""
    found = QUANTITY.fullmatch(str(said))
    return None if found is None or isinstance(said, bool) else float(found[1]) * UNITS.get(found[2] or "", 1)


def _walk(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _walk(each, f"{place}.{number}")
    if not isinstance(value, Mapping):
        return
    for rule in _RULES:
        yield from ((place, said) for said in rule(value))
    for key, each in value.items():
        yield from _walk(each, f"{place}.{key}")


def _policies(node: Mapping[str, Any]) -> Iterator[str]:
    for key, choices in POLICIES.items():
        for said in node.get(key, ()) if isinstance(node.get(key), list) else [node[key]] if key in node else ():
            if said not in choices:
                yield f"{key} {said!r} is none of {', '.join(choices)}"
    if node.get("operator") == "Exists" and "value" in node:
        yield "operator Exists takes no value"


def _numbers(node: Mapping[str, Any]) -> Iterator[str]:
    for key in PORTS:
        if key in node and not _is_port(node[key], key):
            yield f"{key} {node[key]!r} is no port from 1 to 65535"
    for key in AT_LEAST_0:
        if isinstance(node.get(key), int) and node[key] < 0:
            yield f"{key} {node[key]} is below 0"
    if "maxReplicas" in node and not node.get("minReplicas", 0) <= node.get("replicas", 0) <= node["maxReplicas"]:
        yield "replicas lie outside minReplicas to maxReplicas"


def _is_port(said: object, key: str) -> bool:
    if isinstance(said, str):
        return key in ("port", "targetPort") and PORT_NAME.fullmatch(said) is not None
    return isinstance(said, int) and not isinstance(said, bool) and 1 <= said <= 65535


def _resources(node: Mapping[str, Any]) -> Iterator[str]:
    said = node.get("resources")
    if not isinstance(said, Mapping):
        return
    requests, limits = said.get("requests", {}), said.get("limits", {})
    for name, amount in [*requests.items(), *limits.items()]:
        if wrong := _amount(name, amount):
            yield f"{name} {amount!r} {wrong}"
    for name in requests.keys() & limits.keys():
        asked, most = quantity(requests[name]), quantity(limits[name])
        if asked is not None and most is not None and (asked > most or ("/" in name and asked != most)):
            yield f"{name}: the request {requests[name]} does not go with the limit {limits[name]}"


def _amount(name: str, said: object) -> str:
    found = quantity(said)
    if found is None:
        return "is no quantity: a number and m, k, M, G, T, Ki, Mi, Gi or Ti"
    if name in BYTES and found < LEAST_BYTES:
        return "is less than a megabyte: its unit is missing or m, a thousandth"
    if name == "cpu" and str(said)[-1:] not in "m0123456789":
        return "counts CPUs in bytes"
    return "is no whole device" if "/" in name and not found.is_integer() else ""


def _names(node: Mapping[str, Any]) -> Iterator[str]:
    for key, form in NAMES.items():
        if key in node and not form.fullmatch(str(node[key])):
            yield f"{key} {node[key]!r} is no name: small letters, digits and - between them"
    metadata = node.get("metadata")
    if isinstance(metadata, Mapping):
        if "name" in metadata and not SUBDOMAIN.fullmatch(str(metadata["name"])):
            yield f"name {metadata['name']!r} is no name: small letters, digits, - and . between them"
        for key, value in metadata.get("labels", {}).items():
            if not KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(str(value)):
                yield f"label {key}={value} has a form that no label has"


def _pods(node: Mapping[str, Any]) -> Iterator[str]:
    containers = [*node.get("initContainers", ()), *node.get("containers", ())] if "containers" in node else []
    volumes = [volume.get("name") for volume in node.get("volumes", ())] if containers else []
    yield from _labels("container", [container.get("name") for container in containers])
    yield from _labels("volume", volumes)
    for container in containers:
        if not IMAGE.fullmatch(str(container.get("image")).replace("REGISTRY", "registry")):  # to be edited
            yield f"image {container.get('image')!r} is no reference to an image"
        for mount in container.get("volumeMounts", ()):
            if mount.get("name") not in volumes:
                yield f"volumeMount {mount.get('name')!r}: no such volume"
            if not str(mount.get("mountPath")).startswith("/") or ":" in str(mount.get("mountPath")):
                yield f"mountPath {mount.get('mountPath')!r} is not absolute, or has a colon"
        for port in container.get("ports", ()):
            if "name" in port and not PORT_NAME.fullmatch(str(port["name"])):
                yield f"port name {port['name']!r}: at most 15 small letters, digits and -"
        for variable in container.get("env", ()):
            if not ENVIRONMENT_NAME.fullmatch(str(variable.get("name"))) or not isinstance(
                variable.get("value", ""), str
            ):
                yield f"env {variable.get('name')!r}: no name of a variable, or its value is no text"


def _labels(what: str, names: list[Any]) -> Iterator[str]:
    for name in names:
        if not LABEL.fullmatch(str(name)):
            yield f"{what} {name!r} is no name: at most 63 small letters, digits and -"
        if names.count(name) > 1:
            yield f"{what} {name!r} is there twice"


def _ray(node: Mapping[str, Any]) -> Iterator[str]:
    for name, said in (node.get("rayStartParams") or {}).items() if "rayStartParams" in node else ():
        if not isinstance(said, str):
            yield f"rayStartParams.{name} {said!r} is no text, which KubeRay wants"
        elif name in START_PORTS and not (said.isdecimal() and 1 <= int(said) <= 65535):
            yield f"rayStartParams.{name} {said!r} is no port from 1 to 65535"
        elif name in ("num-cpus", "num-gpus", "memory") and not said.isdecimal():
            yield f"rayStartParams.{name} {said!r} is no whole number"


_RULES: tuple[Callable[[Mapping[str, Any]], Iterator[str]], ...] = (
    _policies,
    _numbers,
    _resources,
    _names,
    _pods,
    _ray,
)
