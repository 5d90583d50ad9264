"""One run from top to bottom: begin, then search, retrain, evaluate, report. Each stage reads what its predecessor
wrote.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facex_tune import parts, protocols, remote, surroundings
from facex_tune.data import faces, prepare
from facex_tune.data.emotions import EMOTIONS
from facex_tune.errors import InputError, Interrupted, StorageOutage, nearest
from facex_tune.files import Place
from facex_tune.remote import RemotePath
from facex_tune.signals import raising_interrupted
from facex_tune.store import Event, Log, Run, RunTaken
from facex_tune.study import Study

if TYPE_CHECKING:
    from facex_tune.history import History
    from facex_tune.search.asked import Asked
    from facex_tune.search.worker import Context

STAGES = ("search", "retrain", "evaluate", "report")
ORDER = ("search", "retrain", "evaluate", "factors", "report")
NEED_RAY = ("search", "retrain", "factors")
MINIMUM_FREE_BYTES = 200e6
LAST_WORD_S = 3.0  # of an interrupted run, to a store that may not answer


@dataclass(frozen=True)
class Options:
    """Where and on what a run is executed; nothing of it changes what the run means.

    Attributes:
        storage: the folder of runs, here or behind a URL.
        data_dir: the folder of prepared data sets.
        device: "cpu", "cuda", …; None picks.
        parts: folders of the user's own parts.
        address: a Ray cluster's; None starts Ray here.
        factors: what is asked of the factor study, where that stage is done.
        protocols: what to score under, where that stage is done; none means the study's.
        ends_process: whether a signal may end this process, with exit code 75, where unwinding takes too long.
    """

    storage: Place
    data_dir: Path
    device: str | None = None
    parts: tuple[Path, ...] = ()
    address: str | None = None
    factors: Asked | None = None
    protocols: tuple[str, ...] = ()
    ends_process: bool = False


def begin(study: Study, name: str | None, options: Options) -> Run:
    """A new run of the study, or, where `name` exists already, that run. Without a name it gets the next free one.

    Raises:
        InputError: anything that would stop the run, every problem a line; or the run exists with another study, or
            another process began one of that name meanwhile.
    """
    if isinstance(options.storage, RemotePath) and (found := _storage_problems(options.storage)):
        raise InputError(found)  # before anything waits for a store that is not there
    if name is not None and (run := Run(options.storage, name)).exists():
        _same_study(run, study)
        return run
    _prepare_synthetic(study, options)
    if found := problems(study, options):
        raise InputError(found)
    data = {name: faces.read_manifest(options.data_dir, name) for name in _data_sets(study)}
    environment = {**surroundings.describe(_trial_device(study, options)), "faces": _face_counts(study, options)}
    create = partial(Run.create, options.storage, study=study, data=data, environment=environment)
    if name is not None:
        return create(name)
    free_names = _free_names(study, options.storage)
    while True:
        with contextlib.suppress(RunTaken):  # by a run that begins at the same moment
            return create(next(free_names))


def _face_counts(study: Study, options: Options) -> dict[str, int]:
    """How many faces every trial trains on and is validated with: what its value rests on."""
    from facex_tune.data import training_set

    loaded = training_set.load(study, options.data_dir)
    return {"train": len(loaded.train), "validation": len(loaded.validation)}


def execute(run: Run, stages: Sequence[str], options: Options, listeners: Sequence[Callable[[Event], None]]) -> None:
    """Does the stages, one after another. Of a whole run (from the search on) those that the log says are finished are
    left alone, except the factor study, whose budget may have ended it, and the report of it.

    Raises:
        InputError: something the user can mend stands in the way.
        Interrupted: SIGINT or SIGTERM came; what was reported is saved.
    """
    resume = resume_words(run, options)
    with raising_interrupted(resume, ends_process=options.ends_process) as signals, run.log() as log:
        log.listeners += listeners
        signals.last_words = partial(_log_interrupted, log)
        with contextlib.ExitStack() as ray:  # outlives the last event: ending Ray takes its time
            try:
                _execute(run, stages, options, log, ray)
            except BaseException as error:  # Ray's compiled half may have made another one of the interruption
                interrupted = error if isinstance(error, Interrupted) else signals.behind(error)
                if interrupted is not None:
                    signals.last_words = None
                    _log_interrupted(log, interrupted)
                raise


def _execute(run: Run, stages: Sequence[str], options: Options, log: Log, ray: contextlib.ExitStack) -> None:
    _same_header(run)
    history = run.history()
    left = stages_left(stages, history)
    _in_order(left, run, history, options)
    if set(left) & set(NEED_RAY) and (found := device_problems(run.study, options.device, _joins(options))):
        raise InputError(found)
    _same_data(run, options)
    if history.stages:
        log.append("run_resumed", stages=left, options=_plain(options))
    else:
        log.append("run_started", stages=left, options=_plain(options), **_header_as_begun(run))
    if not log.is_fenced:
        log.tell("note", text=f"{run.storage}: this store itself keeps no second writer out; start none")
    _with_ray([stage for stage in left if stage in NEED_RAY], run, log, options, ray)
    ray.close()
    _without_ray([stage for stage in left if stage not in NEED_RAY], run, log, options)


def stages_left(stages: Sequence[str], history: History) -> list[str]:
    """Those to do: of a whole run what is not finished, with the factor study and its report; else all again."""
    if "search" not in stages or len(stages) == 1:
        return list(stages)
    again = ("factors", "report") if "factors" in stages else ()
    return [stage for stage in stages if stage in again or history.stages.get(stage) != "finished"]


def unfinished(events: Iterable[Event]) -> tuple[list[str], tuple[str, ...]]:
    """The stages that some session was asked for and that have not come to their end, in their order; and the protocols
    that `evaluate` was asked for last. All four where no session has begun, or one of a version that did not log them.
    """
    events = list(events)
    sessions = [event for event in events if event["type"] in ("run_started", "run_resumed")]
    left = set() if sessions else set(STAGES)
    protocols: tuple[str, ...] = ()
    ended: set[str] = set()
    for event in events:
        if event["type"] == "stage_started":
            left.add(event["stage"])
            ended.discard(event["stage"])
        elif event["type"] == "stage_finished":
            left.discard(event["stage"])
            ended.add(event["stage"])
        elif event["type"] in ("run_started", "run_resumed"):
            asked = event.get("stages", [stage for stage in STAGES if stage not in ended])
            left |= set(asked)
            if "evaluate" in asked:
                protocols = tuple(event.get("options", {}).get("protocols", ()))
    if "factors" in left:
        left.add("report")
    return [stage for stage in ORDER if stage in left], protocols


def _in_order(stages: Sequence[str], run: Run, history: History, options: Options) -> None:
    """A stage reads what its predecessor wrote. One that must do without is not begun, and nothing is logged that a
    resume would take for asked for.

    Raises:
        InputError: a stage's predecessor has not ended.
    """
    if "retrain" in stages and "search" not in stages and history.stages.get("search") != "finished":
        raise InputError(
            f"run {run.name!r} has not ended its search, from which the final models are chosen: "
            f"let `facex-tune resume {resume_words(run, options)}` end it first"
        )
    if "retrain" in stages:
        return
    if "factors" in stages:
        from facex_tune.search.asked import winner_of

        winner_of(history, run.name)
    if "evaluate" in stages:
        from facex_tune.evidence import evaluate

        evaluate.finished_models(run)
        asked = options.protocols or run.study.evaluate.protocols
        evaluate.check(run, [protocols.find(name) for name in asked], options.data_dir)


def resume_words(run: Run, options: Options) -> str:
    """What follows `facex-tune resume` to go on with a run as here: its name, and every option that is no default."""
    words = [run.name]
    words += [] if options.storage == Path("runs") else ["--storage", str(options.storage)]
    words += [] if options.data_dir == Path("data") else ["--data", str(options.data_dir)]
    words += [] if options.device is None else ["--device", options.device]
    words += [word for folder in options.parts for word in ("--parts", str(folder))]
    words += [] if options.address is None else ["--address", options.address]
    return shlex.join(words)


def next_command(run: Run, options: Options) -> str:
    """The command for the stage that follows those that have ended, where it was not begun; "" where there is none."""
    stages = run.history().stages
    if stages.get("search") == "finished" and "retrain" not in stages:
        return f"facex-tune retrain {resume_words(run, options)}"
    if stages.get("retrain") == "finished" and "evaluate" not in stages:
        return f"facex-tune evaluate {resume_words(run, replace(options, address=None))}"
    return ""


def _log_interrupted(log: Log, interrupted: Interrupted) -> None:
    with contextlib.suppress(StorageOutage, InputError), remote.hurry(LAST_WORD_S):  # the end must not wait
        log.append("run_interrupted", signal=interrupted.signal_name)


def _with_ray(stages: Sequence[str], run: Run, log: Log, options: Options, ray: contextlib.ExitStack) -> None:
    if not stages:
        return
    log.tell("note", text="starting Ray" if options.address is None else f"joining Ray at {options.address}")
    from facex_tune.search import cluster, factors, retrain, search, telemetry
    from facex_tune.search.asked import Asked

    work: dict[str, Callable[[Run, Log, Context], None]] = {
        "search": search.search,
        "retrain": retrain.retrain,
        "factors": partial(factors.factors, asked=options.factors or Asked()),
    }
    ray.enter_context(cluster.connected(options.address))
    log.listeners.append(telemetry.Telemetry(run.name, run.study, run.history()))
    for stage in stages:
        work[stage](run, log, _context(run, options, log.fence))


def _without_ray(stages: Sequence[str], run: Run, log: Log, options: Options) -> None:
    from facex_tune.evidence import evaluate, report

    for stage in stages:
        log.append("stage_started", stage=stage)
        if stage == "evaluate":
            evaluate.evaluate(run, log, options.data_dir, options.device, options.protocols)
        else:
            report.report(run, options.data_dir)
        log.append("stage_finished", stage=stage)


def problems(study: Study, options: Options) -> list[str]:
    """Everything that would stop a run of this study here, a line each."""
    found = parts.problems(study.space) + _data_problems(study, options) + _storage_problems(options.storage)
    found += _warm_start_problems(study, options) + _resource_problems(study, options)
    found += device_problems(study, options.device, _joins(options))
    if not found and faces.is_prepared(options.data_dir, study.data):
        from facex_tune.data import training_set

        try:
            validation = training_set.load(study, options.data_dir).validation
            found += _unmeasured(study, {EMOTIONS[label] for label in validation.labels_N.tolist()})
        except InputError as error:
            found += error.problems
    return found


def run_problems(name: str | None, study: Study, options: Options) -> list[str]:
    """What forbids a run of that name: that there is one of another study."""
    if name is not None and (run := Run(options.storage, name)).exists():
        try:
            _same_study(run, study)
        except InputError as error:
            return list(error.problems)
    return []


def can_estimate(study: Study, options: Options) -> bool:
    """Whether there is something to measure: not where a model lacks a library or weights, or the set is unknown."""
    known = study.data in prepare.names() or faces.is_prepared(options.data_dir, study.data)
    return known and not parts.problems(study.space)


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
    if _joins(options):
        return []
    found: list[str] = []
    wanted, cpus = study.resources, surroundings.ray_cpus()
    if wanted.cpus > cpus:
        found.append(
            f"resources.cpus: a trial holds {wanted.cpus}, and Ray counts {cpus} on this machine; "
            "lower it with --set resources.cpus=N, or join a larger cluster with --address"
        )
    if wanted.gpus and wanted.gpus > (gpus := surroundings.torch_gpus()):
        found.append(
            f"resources.gpus: a trial holds {wanted.gpus:g}, and torch finds {gpus} on this machine; "
            "lower it with --set resources.gpus=N (0: on CPUs), or join a cluster with GPUs with --address"
        )
    return found


def device_problems(study: Study, device: str | None, joins: bool) -> list[str]:
    """A GPU named by number, where Ray hands out GPUs: a trial that holds one sees that one alone, as cuda:0.

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
    for name in _data_sets(study):
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
    """The command that prepares a set."""
    where = "" if data_dir == Path("data") else f" --data {data_dir}"
    return f"facex-tune data prepare {name} SOURCE{where}"


def _storage_problems(storage: Place) -> list[str]:
    if isinstance(storage, RemotePath):
        found = remote.problem(storage)
        return [found] if found else []
    existing = next(folder for folder in (storage, *storage.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return [f"--storage {storage}: cannot write there; choose another folder"]
    free = shutil.disk_usage(existing).free
    if free < MINIMUM_FREE_BYTES:
        return [
            f"--storage {storage}: no space left ({free / 1e6:.0f} MB free, "
            f"at least {MINIMUM_FREE_BYTES / 1e6:.0f} MB are needed)"
        ]
    return []


def _data_sets(study: Study) -> list[str]:
    """The sets that a study reads, its own first."""
    names = [study.data, *(protocols.find(protocol).data for protocol in study.evaluate.protocols)]
    return list(dict.fromkeys(names))


def _prepare_synthetic(study: Study, options: Options) -> None:
    wanted = [name for name in _data_sets(study) if name.startswith("synthetic")]
    if any(not faces.is_prepared(options.data_dir, name) for name in wanted):
        prepare.prepare("synthetic", None, options.data_dir)


def _free_names(study: Study, storage: Place) -> Iterator[str]:
    """The study's name with each number that no run has; without end."""
    taken = set(Run.names(storage))
    return (name for number in itertools.count(1) if (name := f"{study.name}-{number}") not in taken)


def _same_study(run: Run, study: Study) -> None:
    """A run keeps the study that it began with."""
    changed = _differences(run.study.to_data(), study.to_data())
    if changed:
        shown = "; ".join(changed[:3]) + ("; …" if len(changed) > 3 else "")
        raise InputError(f"run {run.name!r} exists with another study ({shown}): {_instead(run)}")


def _instead(run: Run) -> str:
    """What to do about a run that exists with another study: what its own search has left to do, or none of it."""
    new = "start a new one with --run NAME"
    if run.history().stages.get("search") != "finished":
        return f"continue it, with the study that it began with, by `facex-tune resume {run.name}`, or {new}"
    return (
        f"its search is finished, so that no resume adds a trial to it; {new} and, to go on from what it found, "
        f"--set search.learn_from={run.name}"
    )


def _header_as_begun(run: Run) -> dict[str, Any]:
    """What the log keeps of run.json, to tell later whether somebody has changed it, and what."""
    sha256 = hashlib.sha256((run.folder / "run.json").read_bytes()).hexdigest()
    return {"header_sha256": sha256, "study": run.study.to_data()}


def _same_header(run: Run) -> None:
    """A run's header is written once; an edited one would let the log be read with another study's eyes."""
    begun = next((event for event in run.events() if "header_sha256" in event), None)
    if begun is None or begun["header_sha256"] == _header_as_begun(run)["header_sha256"]:
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


def _same_data(run: Run, options: Options) -> None:
    for name, manifest in run.header["data"].items():
        now = faces.read_manifest(options.data_dir, name)
        if now["sha256"] != manifest["sha256"]:
            raise InputError(
                f"data set {name!r} in {options.data_dir} is not the one that run {run.name!r} began with: "
                f"prepare that one again, name its folder with --data, or start a new run"
            )


def _joins(options: Options) -> bool:
    """Whether trials run on a cluster that is there already, and not on a Ray started here."""
    return bool(options.address or os.environ.get("RAY_ADDRESS"))


def _trial_device(study: Study, options: Options) -> str:
    """The name of the device that trials train on."""
    return options.device or ("auto" if study.resources.gpus else "cpu")


def _context(run: Run, options: Options, fence: int) -> Context:
    from facex_tune.search.worker import Context

    study = run.study
    return Context(
        storage=str(options.storage.absolute()),
        run=run.name,
        study=study.to_data(),
        data_dir=str(options.data_dir.absolute()),
        threads=study.resources.cpus,
        device=_trial_device(study, options),
        parts=tuple(parts.own_folders()),
        fence=fence,
        joined=_joins(options),
    )


def _plain(options: Options) -> dict[str, Any]:
    return {
        "data": str(options.data_dir),
        "device": options.device,
        "parts": [str(folder) for folder in options.parts],
        "address": options.address,
        "protocols": list(options.protocols),
        "factors": None if options.factors is None else asdict(options.factors),
    }


def estimate(study: Study, options: Options) -> dict[str, Any]:
    """What a run of the study would take, from a few measured steps of each architecture at its defaults.

    Returns:
        trials, repeats (where the space is smaller, in words), epochs_expected, epochs_are (how far to believe them),
        hours (searching and retraining), memory_gb, disk_gb, seconds_per_epoch by model, device, at_once, measured_on
        (this machine, also where a cluster is meant).
    """
    from facex_tune import estimating

    with contextlib.suppress(InputError):
        _prepare_synthetic(study, options)
    figures = estimating.estimate(study, _train_faces(study, options), _trial_device(study, options))
    if told := parts.notes(study.space):
        figures["notes"] = "; ".join(told)
    return {**figures, "measured_on": "this machine" + (", not the cluster" if _joins(options) else "")}


def _train_faces(study: Study, options: Options) -> int:
    """How many faces an epoch trains on; FER2013's own number where the set is not prepared yet, or has none."""
    if not faces.is_prepared(options.data_dir, study.data):
        return 28_709
    counts = faces.read_manifest(options.data_dir, study.data)["counts"]
    return sum(counts.get("train", {}).values()) or 28_709
