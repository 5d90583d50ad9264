"""What a study would take, before it is run: a few measured steps of each architecture, and arithmetic."""

from __future__ import annotations

import heapq
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from facex_tune import parts
from facex_tune.balance import Targets
from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.pipeline import side_by_side
from facex_tune.pipeline.environment import ray_cpus
from facex_tune.search import scheduler
from facex_tune.space import Config
from facex_tune.study import Study
from facex_tune.training import costs, random_faces
from facex_tune.training.classifier import build_model
from facex_tune.training.devices import pick_device
from facex_tune.training.optimization import PROGRESSIVE_PIXELS

GPU_STEPS = 30  # measured; the three of a CPU's would end, on a GPU, before the clock has seen them
PROCESS_GB = 0.9  # torch, Ray's worker and the faces, measured on Linux
HOST_GB = 1.2  # the driver and Ray's own processes
VALIDATION_SHARE = 0.05  # validation is a forward pass over a tenth of the faces, where nobody tells how many
FORWARD_SHARE = 1 / 3  # what a validation face costs, of a training face
START_S = 12.0  # Ray and the first workers, on two cores
SIMULATED_TRIALS = 6_000  # in all simulations of a search together
MOST_SIZES = 24  # of an architecture, whose multiply-accumulates are counted
TRIALS_DRAWN = 1_000  # for the mean cost of an architecture; more would change nothing
IMPROVEMENT = 1.0  # by how many of their standard deviations a sampler's last trials are better than its first
NOISE = 0.5  # of a value after one epoch, in the same unit; of later ones less
FER2013 = (3995, 436, 4097, 7215, 4830, 3171, 4965)  # Training, by class


@dataclass(frozen=True)
class Faces:
    """How many faces there are to train on, by class, and to validate with."""

    train_C: tuple[int, ...]
    validation: int | None = None

    @classmethod
    def like_fer2013(cls, n: int) -> Faces:
        """`n` training faces with FER2013's shares of classes."""
        scale = n / sum(FER2013)
        return cls(tuple(max(1, round(count * scale)) for count in FER2013))


@dataclass(frozen=True)
class Course:
    """What a simulated search came to."""

    epochs: int
    seconds: float


def estimate(
    study: Study,
    train_faces: int,
    device_name: str,
    faces: Faces | None = None,
    *,
    progress: Callable[[str, int, int], object] = lambda _model, _number, _all: None,
    retrains: bool = True,
    face: FaceShape = GREY_48,
) -> dict[str, Any]:
    """See `dry_run.estimate`.

    Args:
        face: the shape of the faces.
        train_faces: training images, of FER2013's classes unless `faces` tells how many of each there are.
        device_name: what trials train on.
    """
    faces = faces or Faces.like_fer2013(train_faces)
    device = pick_device(device_name)
    at_once = _at_once(study, device)
    threads = torch.get_num_threads()
    if device.type == "cpu":
        asked = study.resources.least_cpus
        torch.set_num_threads(max(1, min(asked, ray_cpus())))  # more would only wait for each other
    try:
        measured = _measured(study, train_faces, device, progress, at_once, face)
    finally:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        slowed = shared_gpu(at_once, torch.cuda.device_count())
        measured = {model: {**each, "seconds": each["seconds"] * slowed} for model, each in measured.items()}
    of_epochs = _Costs(study, {model: each["seconds"] for model, each in measured.items()}, faces, face)
    trials = study.budget.trials
    courses = [] if trials is None else simulated(study, trials, at_once, of_epochs)
    search_s = _search_seconds(study, courses, at_once)
    models = study.n_final_models if retrains else 0
    per_epoch = {model: of_epochs.mean(model) for model in measured}
    retrain_s = math.ceil(models / at_once) * study.final_epochs * statistics.fmean(per_epoch.values())
    more_bytes = math.prod(face.images(1)) - math.prod(GREY_48.images(1))  # of a face, than PROCESS_GB has
    checkpoint_gb = max(each["parameters"] for each in measured.values()) * 4 * 3 / 1e9
    return {
        "trials": trials,
        "epochs_expected": math.ceil(statistics.fmean(each.epochs for each in courses)) if courses else None,
        "epochs_are": _meaning_of_epochs(study, courses) if courses else None,
        "hours": round((search_s + retrain_s) / 3600, 3) if search_s is not None else None,
        **({"hours_are": _meaning_of_hours(study, courses)} if courses else {}),
        "hours_search": round(search_s / 3600, 3) if search_s is not None else None,
        **({"hours_retrain": round(retrain_s / 3600, 3)} if retrains else {}),
        "memory_gb": round(HOST_GB + at_once * (PROCESS_GB + more_bytes * train_faces / 1e9), 1),
        "disk_gb": round(checkpoint_gb * (at_once + 2 * study.retrain.top + models), 2),
        "seconds_per_epoch": {model: round(seconds, 1) for model, seconds in per_epoch.items()},
        "device": str(device),
        "at_once": at_once,
    }


class _Costs:
    """Seconds of an epoch: an architecture's over all faces, times what a balancing strategy makes of their number, and
    validation.
    """

    def __init__(self, study: Study, seconds: Mapping[str, float], faces: Faces, face: FaceShape) -> None:
        self._study, self._seconds, self._faces = study, seconds, faces
        self._labels_N = torch.repeat_interleave(torch.arange(len(faces.train_C)), torch.tensor(faces.train_C))
        self._shares: dict[tuple[Any, ...], float] = {}
        self._sizes = _Sizes(study, face)

    def of(self, config: Config) -> float:
        """Of a configuration."""
        return self._whole(str(config["model"]), self._share(config)) * self._sizes.of(config)

    def mean(self, model: str) -> float:
        """Of an architecture, over its sizes and the study's balancing strategies as a search would try them."""
        rng = np.random.default_rng(0)
        trials = min(self._study.budget.trials or 60, TRIALS_DRAWN)
        drawn = [_config(self._study, trial, rng) for trial in range(trials)]
        sizes = [self._sizes.of(config) for config in drawn if config["model"] == model]
        return self._whole(model, statistics.fmean(map(self._share, drawn))) * statistics.fmean(sizes or [1.0])

    def _whole(self, model: str, share: float) -> float:
        validation = VALIDATION_SHARE
        if self._faces.validation is not None:
            validation = FORWARD_SHARE * self._faces.validation / len(self._labels_N)
        return self._seconds[model] * (share + validation) / (1 + VALIDATION_SHARE)

    def _share(self, config: Config) -> float:
        """An epoch's faces for each training face."""
        knobs = parts.knobs("balance", config)
        key = (config["balance"], *sorted(knobs.items()))
        if key not in self._shares:
            n_classes, n = len(self._faces.train_C), len(self._labels_N)
            targets = Targets.of(self._labels_N, n_classes)
            with parts.blaming(config):
                plan = parts.balance_plan(str(config["balance"]), self._labels_N, n_classes, knobs, targets)
            self._shares[key] = plan.faces_per_epoch(n) / n
        return self._shares[key]


class _Sizes:
    """How much longer a network's epoch takes than that of its architecture at its defaults, which is what is measured:
    by its multiply-accumulates, counted for as many sizes as there is time for, and in their mean for the others.
    """

    def __init__(self, study: Study, face: FaceShape) -> None:
        self._study, self._face = study, face
        self._macs: dict[str, dict[tuple[Any, ...], float]] = {}

    def of(self, config: Config) -> float:
        """Of a configuration."""
        model = str(config["model"])
        default = self._study.space.of_model(model)
        own, usual = (_discrete(parts.knobs("model", each)) for each in (config, default))
        if own == usual:
            return 1.0
        if model not in self._macs:  # building and counting takes up to half a second
            self._macs[model] = {usual: self._counted(default)}
        known = self._macs[model]
        if own not in known and len(known) < MOST_SIZES:
            known[own] = self._counted(config)
        whole = known[usual]
        return known.get(own, statistics.fmean(known.values())) / whole if whole else 1.0

    def _counted(self, config: Config) -> float:
        with parts.blaming(config):
            network = build_model(config, self._study.classes, face=self._face)
        return float(costs.counted(network, self._face, torch.device("cpu"))["macs"])


def _discrete(knobs: Mapping[str, Any]) -> tuple[Any, ...]:
    """What may change a network's size: not a probability of dropping something."""
    return tuple(sorted((name, value) for name, value in knobs.items() if not isinstance(value, float)))


def expected_epochs(study: Study, trials: int, at_once: int = 1) -> int:
    """Epochs that `trials` trials train, in the mean of simulated searches; see `simulated`."""
    return math.ceil(statistics.fmean(each.epochs for each in simulated(study, trials, at_once, lambda config: 1.0)))


def simulated(study: Study, trials: int, at_once: int, seconds: _Costs | Callable[[Config], float]) -> list[Course]:
    """Searches with the study's own rungs, of trials that are worth something at random, later ones more if a sampler
    learns: the same ones for the same study. `median`, which depends on curves, stops nobody here.

    Args:
        seconds: of an epoch of a configuration.
    """
    of = seconds.of if isinstance(seconds, _Costs) else seconds
    count = max(5, min(100, SIMULATED_TRIALS // max(trials, 1)))
    some = min(trials, SIMULATED_TRIALS)
    found = [_simulate(study, some, at_once, of, np.random.default_rng(seed)) for seed in range(count)]
    return [_like(each, trials / some, study.budget.time or math.inf) for each in found]


def _like(course: Course, times: float, until: float) -> Course:
    """What a search of so many times as many trials comes to, as far as its time allows."""
    times = max(1.0, min(times, until / course.seconds)) if course.seconds else times
    return Course(round(course.epochs * times), course.seconds * times)


def _simulate(
    study: Study, trials: int, at_once: int, seconds: Callable[[Config], float], rng: np.random.Generator
) -> Course:
    """One search, event by event: (when, trial) of each epoch's end."""
    rungs = _rungs(study)
    last = study.fidelity.max_epochs
    improvement = 0.0 if study.search.sampler in ("random", "qmc") else IMPROVEMENT
    sign = 1.0 if study.maximize else -1.0
    worth_T = sign * (rng.normal(size=trials) + improvement * np.arange(trials) / trials)
    cost, epochs, waiting = {}, Counter[int](), iter(range(trials))
    ends: list[tuple[float, int]] = []
    now, until = 0.0, study.budget.time or math.inf

    def start(at: float) -> None:
        if (trial := next(waiting, None)) is not None:
            cost[trial] = seconds(_config(study, trial, rng))
            heapq.heappush(ends, (at + cost[trial], trial))

    for _ in range(at_once):
        start(0.0)
    while ends:
        now, trial = heapq.heappop(ends)
        epochs[trial] += 1
        value = worth_T[trial] + rng.normal() * NOISE / epochs[trial]
        goes_on = epochs[trial] < last and rungs.goes_on(trial, epochs[trial], float(value))
        if now >= until:
            continue
        if goes_on:
            heapq.heappush(ends, (now + cost[trial], trial))
        else:
            start(now)
    return Course(epochs.total(), now)


def _rungs(study: Study) -> scheduler.Scheduler:
    """What cuts trials short; of the promoting form its stopping form, which takes about as many epochs."""
    if not study.search.scheduler.startswith("asha"):
        return scheduler.NoScheduler()
    fidelity = study.fidelity
    return scheduler.Asha(fidelity.min_epochs, fidelity.max_epochs, fidelity.reduction, study.maximize)


def _config(study: Study, trial: int, rng: np.random.Generator) -> Config:
    """What a search might try as that trial: what it is to start with, then anything."""
    starts = study.search.start_with
    return study.space.complete(starts[trial]) if trial < len(starts) else study.space.random(rng)


def _meaning_of_epochs(study: Study, courses: Sequence[Course]) -> str:
    """How far `epochs_expected` can be believed; short, as one line of a table."""
    low, high = np.quantile([each.epochs for each in courses], [0.05, 0.95])
    simulated = f"expected: simulated, nine of ten between {low:.0f} and {high:.0f}"
    return {
        "asha": simulated,
        "asha_promotion": simulated,
        "median": "an upper bound: median stops trials, nobody knows when",
        "none": "all: every trial runs its whole course",
    }[study.search.scheduler]


def _meaning_of_hours(study: Study, courses: Sequence[Course]) -> str:
    """How far `hours` can be believed: what the scheduler's luck makes of the search, and what was not measured."""
    low, high = np.quantile([(START_S + each.seconds) / 3600 for each in courses], [0.05, 0.95])
    if study.budget.time is not None:
        low, high = (min(each, study.budget.time / 3600) for each in (low, high))
    return f"search, nine of ten: {low:.2g} to {high:.2g} at default knobs"


def shared_gpu(at_once: int, gpus: int) -> float:
    """How many times longer an epoch takes where trials share GPUs: one fills a GPU, so that sharing saves no time
    (five at once on an H200 trained at .92 of the pace of one after the other).
    """
    return max(1.0, at_once / gpus)


def _search_seconds(study: Study, courses: Sequence[Course], at_once: int) -> float | None:
    bounds = [START_S + statistics.fmean(each.seconds for each in courses)] if courses else []
    if study.budget.time is not None:
        bounds.append(study.budget.time)
    if study.budget.gpu_hours is not None and study.resources.gpus:
        bounds.append(study.budget.gpu_hours * 3600 / (study.resources.gpus * at_once))
    return min(bounds) if bounds else None


def _at_once(study: Study, device: torch.device) -> int:
    slots = ray_cpus() // study.resources.least_cpus
    if study.resources.gpus and device.type == "cuda":
        slots = min(slots, int(torch.cuda.device_count() / study.resources.gpus))
    return max(1, min(slots, study.search.concurrency or slots))


def _measured(
    study: Study,
    train_faces: int,
    device: torch.device,
    progress: Callable[[str, int, int], object],
    at_once: int,
    face: FaceShape,
) -> dict[str, dict[str, float]]:
    """`_measure` of each model, one after another; on a CPU beside as many like it as would train at once, which share
    its caches and memory, and as low in priority as Ray's workers are.
    """
    models = list(study.space.parts["model"])
    found = {}
    beside = at_once if device.type == "cpu" else 1
    with side_by_side.Gauges(beside, study.resources.least_cpus, face) as gauges:
        for number, model in enumerate(models, start=1):
            progress(model, number, len(models))
            found[model] = _measure(study, model, train_faces, device, face)
            if (speed := gauges.images_per_second(study.space.of_model(model), study.classes)) is not None:
                found[model]["seconds"] = _epoch_seconds(study, model, train_faces, speed)
    return found


def _measure(
    study: Study, model: str, train_faces: int, device: torch.device, face: FaceShape
) -> dict[str, float]:
    """Seconds of an epoch of every training face once and number of parameters, of a model at the study's defaults."""
    config = study.space.of_model(model)
    with parts.blaming(config):
        steps = GPU_STEPS if device.type == "cuda" else random_faces.STEPS
        training = random_faces.training(config, study.classes, device, steps, face)
        training.epoch()  # the first pays for the library's own set-up
        images_per_second = training.epoch().metrics["train_images_per_second"]
    seconds = _epoch_seconds(study, model, train_faces, images_per_second)
    return {"seconds": seconds, "parameters": sum(parameter.numel() for parameter in training.model.parameters())}


def _epoch_seconds(study: Study, model: str, train_faces: int, images_per_second: float) -> float:
    """Of an epoch of every training face once, with validation."""
    share = _share_of_pixels() if study.space.of_model(model)["train.progressive"] else 1.0
    return train_faces / images_per_second * (1 + VALIDATION_SHARE) * share


def _share_of_pixels() -> float:
    """Pixels that a progressive course sees, as a share of those of whole faces: its cost, since both go together."""
    share, before = 0.0, 0.0
    for until, size in PROGRESSIVE_PIXELS:
        share, before = share + (until - before) * size**2, until
    return share
