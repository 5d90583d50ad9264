"""Faces on every node: once per node, by fingerprint, from shared storage where a node sees it, else through Ray's
object store. And whether a node sees the run's folder at all.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from facex_tune.data import faces
from facex_tune.errors import InputError
from facex_tune.runs.store import Run
from facex_tune.search import face_cache
from facex_tune.search.job import Context
from facex_tune.storage.files import Place, one_at_a_time
from facex_tune.storage.folders import write_folder

PROBE_WAITS_S = 60.0
T = TypeVar("T")


@dataclass(frozen=True)
class Shared:
    """The prepared sets of a run, for nodes that do not see the driver's folder.

    Attributes:
        sets: name -> (fingerprint, {file name: reference to its bytes in the object store}).
    """

    sets: Mapping[str, tuple[str, Mapping[str, Any]]]


def share(context: Context) -> Shared:
    """Puts the run's prepared sets into the object store, each file once; does so only on a cluster of several nodes.
    """
    if len(_nodes()) < 2 and not _may_grow():
        return Shared({})
    sets, data_dir = {}, Path(context.data_dir)
    for name in Run(context.storage, context.run).header["data"]:
        inside = sorted(path for path in (data_dir / name).iterdir() if path.is_file())
        found = {path.name: ray.put(path.read_bytes()) for path in inside}
        sets[name] = (str(faces.read_manifest(data_dir, name)["sha256"]), found)
    return Shared(sets)


def placed(context: Context, shared: Shared) -> Context:
    """Gives the context as this node must read it, with the driver's data folder or this node's own copy."""
    missing = {name: said for name, said in shared.sets.items() if not _holds(Path(context.data_dir), name, said[0])}
    if not missing:
        return context
    key = "-".join(sorted(fingerprint[:16] for fingerprint, _ in shared.sets.values()))
    own = face_cache.folder() / key
    for name, (fingerprint, contents) in shared.sets.items():
        if not _holds(own, name, fingerprint):
            _fetch(own, name, contents)
    return replace(context, data_dir=str(own))


def _holds(data_dir: Path, name: str, fingerprint: str) -> bool:
    try:
        return bool(faces.read_manifest(data_dir, name)["sha256"] == fingerprint)
    except InputError:
        return False


def _fetch(data_dir: Path, name: str, contents: Mapping[str, Any]) -> None:
    data_dir.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(data_dir / f".{name}.lock"):
        if (data_dir / name / "manifest.json").is_file():
            return  # another worker of this node was first
        found = {file: ray.get(reference) for file, reference in contents.items()}
        writers = {file: partial(_write, content) for file, content in found.items()}
        write_folder(data_dir / name, writers, sum(map(len, found.values())))


def _write(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def forget(name: str) -> list[str]:
    """Deletes this host's copies of a prepared set; says which."""
    gone = []
    for copy in sorted(face_cache.folder().glob(f"*/{name}")):
        if (copy / "manifest.json").is_file() and not copy.is_symlink():
            shutil.rmtree(copy)
            copy.with_name(f".{name}.lock").unlink(missing_ok=True)
            gone.append(f"{copy} on {socket.gethostname()}")
    return gone


def forget_everywhere(name: str) -> list[str]:
    """The same on every host of the cluster that is connected.

    Raises:
        InputError: a host does not answer.
    """
    try:
        return [copy for gone in _asked(_nodes(), forget, name).values() for copy in gone]
    except ray.exceptions.RayError as error:
        said = type(error).__name__
        raise InputError(f"a host of the cluster has not answered ({said}); its copies may be there still") from error


def check_storage(run_folder: Place) -> None:
    """Makes sure that every node sees the run's folder, before a trial is lost to one that does not.

    Raises:
        InputError: some do not, by name.
    """
    nodes = _nodes()
    if len(nodes) < 2 or not isinstance(run_folder, Path):  # a URL means the same everywhere
        return
    probe = run_folder / f".seen-{secrets.token_hex(8)}"
    probe.write_text("facex_tune\n")
    try:
        blind = [name for name, seen in _asked(nodes, _sees, str(probe)).items() if not seen]
    finally:
        probe.unlink()
    if blind:
        raise InputError(
            f"--storage {run_folder.parent}: {len(blind)} of {len(nodes)} hosts do not see it "
            f"({', '.join(blind[:5])}); "
            "name shared storage (NFS mounted at the same path everywhere, or a URL such as s3://bucket/runs)"
        )


def _asked(nodes: list[dict[str, Any]], act: Callable[[str], T], said: str) -> dict[str, T]:
    """What each host answers, by its name."""
    remote = ray.remote(act)
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[str(node["NodeManagerHostname"])] = remote.options(num_cpus=0, scheduling_strategy=there).remote(said)
    return {name: ray.get(answer, timeout=PROBE_WAITS_S) for name, answer in asked.items()}


def _sees(path: str) -> bool:
    return Path(path).is_file()


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def _may_grow() -> bool:
    """Whether an autoscaler may bring nodes that are not there yet."""
    return bool(os.environ.get("RAY_ADDRESS")) or Path("~/ray_bootstrap_config.yaml").expanduser().exists()
