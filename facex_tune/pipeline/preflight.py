"""What would stop a run, found before it begins or goes on: in parts, data, storage and resources, or in the run."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facex_tune import parts
from facex_tune.data import faces, prepare
from facex_tune.data.shapes import told_conversion
from facex_tune.emotions import EMOTIONS, FaceShape
from facex_tune.errors import InputError, nearest
from facex_tune.pipeline.environment import ray_cpus, torch_gpus
from facex_tune.pipeline.options import Options, joins
from facex_tune.runs.names import ALL
from facex_tune.runs.store import Run
from facex_tune.space import Choice, Knob
from facex_tune.storage import files, remote_path
from facex_tune.storage.files import Place
from facex_tune.storage.remote_path import RemotePath
from facex_tune.study import Study, data_text, protocols

MINIMUM_FREE_BYTES = 200_000_000


def problems(study: Study, options: Options) -> list[str]:
    """Finds everything that would stop a run of this study here, a line each."""
    found = _parts_problems(study, options) + _data_problems(study, options) + storage_problems(options.storage)
    found += _warm_start_problems(study, options) + _resource_problems(study, options)
    found += device_problems(study, options.device, joins(options))
    if not found and all(faces.is_prepared(options.data_dir, name) for name in study.sets):
        from facex_tune.data import training_set

        try:
            validation = training_set.load(study, options.data_dir).validation
            found += _unmeasured(study, {EMOTIONS[label] for label in validation.labels_N.tolist()})
            if study.retrain.on == ALL:
                training_set.load_all(study, options.data_dir)
        except InputError as error:
            found += error.problems
    return found


def _parts_problems(study: Study, options: Options) -> list[str]:
    """What would stop the study's parts with the faces that it is for; or that its sets have several shapes."""
    from facex_tune.data import training_set

    try:
        face = training_set.face_of(study, options.data_dir)
    except InputError as error:
        return error.problems
    return parts.problems(study.space, face)


def conversions(study: Study, data_dir: Path) -> list[str]:
    """What becomes of the faces of test sets of another shape than the study's models take, a sentence for each set."""
    from facex_tune.data import training_set

    own, found = training_set.face_of(study, data_dir), []
    for name in data_sets(study):
        if faces.is_prepared(data_dir, name):
            there = FaceShape.of(faces.read_manifest(data_dir, name))
            if change := told_conversion(there, own):
                found.append(f"{name}: its {there} faces are shown to the models as {own} ({change}); scores say so")
    return found


def _unmeasured(study: Study, validated: set[str]) -> list[str]:
    """Objectives and constraints of emotions that no validation face shows, which training would never measure."""
    named = [*(("objective", name) for name in study.objective), *((f"constraints.{n}", n) for n in study.bounds)]
    return [
        f"{key}: {metric} cannot be measured: data set {data_text(study.validated_on)!r} has no face of {emotion} to "
        "validate with; name another metric, or prepare the set again with such faces"
        for key, metric in named
        if (emotion := metric.partition(".")[2]) and emotion not in validated
    ]


def ema_note(study: Study, train_faces: int) -> str:
    """That a study's largest `ema_decay` cannot act in so few steps; "" where it can, or no average is asked for.

    An average that began at once would be of the first, random weights; it is shorter at first (`training.Average`),
    and where a training ends before it is as long as the decay says, all longer decays are one.
    """
    knob = study.space.train.get("ema_decay")
    batches = study.space.train.get("batch_size")
    if study.retrain.weights != "ema" or knob is None or batches is None:
        return ""
    decay, smallest = _largest(knob), _smallest(batches)
    steps = study.final_epochs * max(1, int(train_faces // smallest))
    longest = (1 + steps) / (10 + steps)
    if decay <= longest:
        return ""
    needed = round((10 * decay - 1) / (1 - decay))
    return (
        f"train.ema_decay {decay:g} cannot act: a final model does {steps:,} steps, and an average begins that long "
        f"after {needed:,}; {longest:.4g} and all above it are the same here"
    )


def _largest(knob: Knob) -> float:
    return max(float(option or 0) for option in knob.options) if isinstance(knob, Choice) else float(knob.high)


def _smallest(knob: Knob) -> float:
    return min(float(option or 1) for option in knob.options) if isinstance(knob, Choice) else float(knob.low)


def _resource_problems(study: Study, options: Options) -> list[str]:
    """What one trial holds and a Ray started here would not have. A cluster may have it, or grow to it."""
    if joins(options):
        problem = "resources.cpus: auto measures this machine, and trials run on a cluster; write a number, such as 1"
        return [problem] if study.resources.cpus == "auto" else []
    found: list[str] = []
    wanted, cpus = study.resources, ray_cpus()
    if wanted.least_cpus > cpus:
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
    named = [("learn_from", name) for name in study.search.learn_from]
    named += [("priors_from", name) for name in study.search.priors_from]
    for key, name in named:
        try:
            warm_start.find(options.storage, name, f"search.{key}")
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
    names = [*study.sets, *(protocols.find(protocol).data for protocol in study.evaluate.protocols)]
    return list(dict.fromkeys(names))


def same_study(run: Run, study: Study) -> None:
    """Makes sure that a run keeps the study that it began with.

    Raises:
        InputError: it is another one.
    """
    changed = _differences(run.study.to_data(), study.to_data())
    if changed:
        shown = "; ".join(changed[:3]) + ("; …" if len(changed) > 3 else "")
        raise InputError(f"run {run.name!r} exists with another study ({shown}): {_instead(run, changed)}")


def _instead(run: Run, changed: Sequence[str]) -> str:
    """What to do about a run that exists with another study: what its own search has left to do, or none of it."""
    new = "start a new one with --run NAME"
    if all(each.startswith("budget.") for each in changed):
        return f"raise its budget by `facex-tune resume {run.words} --set budget.trials=...`, or {new}"
    if run.history().stages.get("search") != "finished":
        return f"continue it, with the study that it began with, by `facex-tune resume {run.words}`, or {new}"
    return (
        f"its search is finished, so that no resume adds a trial to it; {new} and, to go on from what it found, "
        f"--set search.learn_from={run.name}"
    )


def header_as_begun(run: Run) -> dict[str, Any]:
    """Gives what the log keeps of run.json, to tell later whether somebody has changed it, and where."""
    sha256 = hashlib.sha256((run.folder / "run.json").read_bytes()).hexdigest()
    return {"header_sha256": sha256, "study": run.study_begun.to_data()}


def same_header(run: Run) -> None:
    """Makes sure that a run's header is as it was written. With an edited one, the log would be read as of another
    study.

    Raises:
        InputError: it was changed after the run began.
    """
    begun = next((event for event in run.events() if "header_sha256" in event), None)
    if begun is None or begun["header_sha256"] == header_as_begun(run)["header_sha256"]:
        return
    changed = _differences(begun["study"], run.study_begun.to_data()) or ["something outside the study"]
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
