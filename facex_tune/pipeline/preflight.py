"""What would stop a run, found before it begins or goes on: in parts, data, storage and resources, or in the run."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from facex_tune import parts
from facex_tune.data import faces, prepare
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError, nearest
from facex_tune.pipeline.environment import ray_cpus, torch_gpus
from facex_tune.pipeline.options import Options, joins
from facex_tune.runs.store import Run
from facex_tune.storage import files, remote_path
from facex_tune.storage.files import Place
from facex_tune.storage.remote_path import RemotePath
from facex_tune.study import Study, protocols

MINIMUM_FREE_BYTES = 200e6


def problems(study: Study, options: Options) -> list[str]:
    """Finds everything that would stop a run of this study here, a line each."""
    found = parts.problems(study.space) + _data_problems(study, options) + storage_problems(options.storage)
    found += _warm_start_problems(study, options) + _resource_problems(study, options)
    found += device_problems(study, options.device, joins(options))
    if not found and faces.is_prepared(options.data_dir, study.data):
        from facex_tune.data import training_set

        try:
            validation = training_set.load(study, options.data_dir).validation
            found += _unmeasured(study, {EMOTIONS[label] for label in validation.labels_N.tolist()})
        except InputError as error:
            found += error.problems
    return found


def run_problems(name: str | None, study: Study, options: Options) -> list[str]:
    """Finds what forbids a run of that name: a run of another study has it."""
    if name is not None and (run := Run(options.storage, name)).exists():
        try:
            same_study(run, study)
        except InputError as error:
            return list(error.problems)
    return []


def _unmeasured(study: Study, validated: set[str]) -> list[str]:
    """Objectives and constraints of emotions that no validation face shows, which training would never measure."""
    named = [*(("objective", name) for name in study.objective), *((f"constraints.{n}", n) for n in study.bounds)]
    return [
        f"{key}: {metric} cannot be measured: data set {study.data!r} has no face of {emotion} to validate with; "
        "name another metric, or prepare the set again with such faces"
        for key, metric in named
        if (emotion := metric.partition(".")[2]) and emotion not in validated
    ]


def _resource_problems(study: Study, options: Options) -> list[str]:
    """What one trial holds and a Ray started here would not have. A cluster may have it, or grow to it."""
    if joins(options):
        return []
    found: list[str] = []
    wanted, cpus = study.resources, ray_cpus()
    if wanted.cpus > cpus:
        found.append(
            f"resources.cpus: a trial holds {wanted.cpus}, and Ray counts {cpus} on this machine; "
            "lower it with --set resources.cpus=N, or join a larger cluster with --address"
        )
    if wanted.gpus and wanted.gpus > (gpus := torch_gpus()):
        found.append(
            f"resources.gpus: a trial holds {wanted.gpus:g}, and torch finds {gpus} on this machine; "
            "lower it with --set resources.gpus=N (0: on CPUs), or join a cluster with GPUs with --address"
        )
    return found


def device_problems(study: Study, device: str | None, joins: bool) -> list[str]:
    """Finds a GPU named by number where Ray hands out GPUs. A trial that holds one sees that one alone, as cuda:0.

    Args:
        joins: whether the run joins a cluster, whose GPUs are not chosen from here.
    """
    name, _, number = (device or "").partition(":")
    if name != "cuda" or not number or not study.resources.gpus:
        return []
    mend = "write --device cuda" if joins else f"write CUDA_VISIBLE_DEVICES={number} facex-tune ... --device cuda"
    return [
        f"--device {device}: a trial holds {study.resources.gpus:g} GPU (resources.gpus), and Ray chooses which; {mend}"
    ]


def _warm_start_problems(study: Study, options: Options) -> list[str]:
    from facex_tune.search import warm_start

    found: list[str] = []
    for name in study.search.learn_from:
        try:
            warm_start.find(options.storage, name)
        except InputError as error:
            found += error.problems
    return found


def _data_problems(study: Study, options: Options) -> list[str]:
    found: list[str] = []
    for name in data_sets(study):
        if faces.is_prepared(options.data_dir, name) or name.startswith("synthetic"):
            continue
        if name not in prepare.names():
            known = sorted({*prepare.names(), *faces.prepared_names(options.data_dir)})
            found.append(
                f"data set {name!r} is neither prepared in {options.data_dir} nor known; {nearest(name, known)}"
            )
        else:
            found.append(
                f"data set {name!r} is not prepared in {options.data_dir}: "
                f"run `{prepare_command(name, options.data_dir)}`"
            )
    return found


def prepare_command(name: str, data_dir: Path) -> str:
    """Gives the command that prepares a set."""
    where = "" if data_dir == files.absolute("data") else f" --data {data_dir}"
    return f"facex-tune data prepare {name} SOURCE{where}"


def storage_problems(storage: Place) -> list[str]:
    """Finds what forbids writing runs there, or would end it soon."""
    if isinstance(storage, RemotePath):
        found = remote_path.problem(storage)
        return [found] if found else []
    existing = next(folder for folder in (storage, *storage.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return [f"--storage {storage}: cannot write there; choose another folder"]
    free = shutil.disk_usage(existing).free
    if free < MINIMUM_FREE_BYTES:
        advice = "free some or choose another folder with --storage"
        return files.no_space(storage, MINIMUM_FREE_BYTES, advice).problems
    return []


def data_sets(study: Study) -> list[str]:
    """Lists the sets that a study reads, its own first."""
    names = [study.data, *(protocols.find(protocol).data for protocol in study.evaluate.protocols)]
    return list(dict.fromkeys(names))


def same_study(run: Run, study: Study) -> None:
    """Makes sure that a run keeps the study that it began with.

    Raises:
        InputError: it is another one.
    """
    changed = _differences(run.study.to_data(), study.to_data())
    if changed:
        shown = "; ".join(changed[:3]) + ("; …" if len(changed) > 3 else "")
        raise InputError(
            f"run {run.name!r} exists with another study ({shown}): "
            f"continue it with `facex-tune resume {run.name}`, or start a new one with --run NAME"
        )


def header_as_begun(run: Run) -> dict[str, Any]:
    """Gives what the log keeps of run.json, to tell later whether somebody has changed it, and where."""
    sha256 = hashlib.sha256((run.folder / "run.json").read_bytes()).hexdigest()
    return {"header_sha256": sha256, "study": run.study.to_data()}


def same_header(run: Run) -> None:
    """Makes sure that a run's header is as it was written. With an edited one, the log would be read as of another
    study.

    Raises:
        InputError: it was changed after the run began.
    """
    begun = next((event for event in run.events() if "header_sha256" in event), None)
    if begun is None or begun["header_sha256"] == header_as_begun(run)["header_sha256"]:
        return
    changed = _differences(begun["study"], run.study.to_data()) or ["something outside the study"]
    raise InputError(
        f"{run.folder / 'run.json'} was changed after the run began ({'; '.join(changed[:3])}): "
        f"undo that, or start a new run with --run NAME"
    )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What two studies differ in, a key each."""
    then, today = _flat(before), _flat(now)
    changed = sorted(key for key in then.keys() | today.keys() if then.get(key) != today.get(key))
    return [f"{key}: {then.get(key)!r} then, {today.get(key)!r} now" for key in changed]


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix: data}
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def same_data(run: Run, options: Options) -> None:
    """Makes sure that a run keeps the faces that it began with.

    Raises:
        InputError: a set was prepared again with others.
    """
    for name, manifest in run.header["data"].items():
        now = faces.read_manifest(options.data_dir, name)
        if now["sha256"] != manifest["sha256"]:
            raise InputError(
                f"data set {name!r} in {options.data_dir} is not the one that run {run.name!r} began with: "
                f"prepare that one again, name its folder with --data, or start a new run"
            )
