"""What a run would take, told without beginning one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from facex_tune import parts
from facex_tune.data import faces
from facex_tune.emotions import GREY_48
from facex_tune.errors import InputError
from facex_tune.pipeline.begin import checked
from facex_tune.pipeline.options import Options, joins, trial_device
from facex_tune.pipeline.preflight import conversions, data_sets, ema_note, problems, same_data, same_header
from facex_tune.study import Study

if TYPE_CHECKING:
    from facex_tune.pipeline import estimating

BUSY = 0.25  # load a core from which other work slows a measurement noticeably


def check(study: Study, name: str | None, options: Options) -> None:
    """Refuses what `run` refuses, in the same words and before anything is measured.

    Args:
        name: the run's; one that exists would go on.

    Raises:
        InputError: something would stop the run, every problem a line.
    """
    run = checked(study, name, options)
    if run is not None:
        same_header(run)
        same_data(run, options)
        if found := problems(study, options):
            raise InputError(found)
    from facex_tune.training.devices import pick_device  # here, so that what is refused need not wait for torch

    pick_device(trial_device(study, options))


def estimate(
    study: Study,
    options: Options,
    progress: Callable[[str, int, int], object] = lambda _model, _number, _all: None,
    *,
    retrains: bool = True,
) -> dict[str, Any]:
    """Estimates what a run of the study would take, from a few measured steps of each architecture at its defaults. The
    study was checked before (`check`).

    Args:
        progress: told which model is measured now, its number from 1, and how many there are.
        retrains: whether the final models count too; they do not where the search alone is asked for.

    Returns:
        trials, epochs_expected (of simulated searches), epochs_are (how far to believe them), hours (searching and
        retraining), hours_are (how far to believe them), memory_gb, disk_gb, seconds_per_epoch by model, device,
        at_once, faces_of (the shape of the study's, unless 48×48 grey), measured_on (this machine, also where a cluster
        is meant), load_average (of the machine in the minute before, None where it does not tell), cpu_cores.
    """
    from facex_tune.data import training_set
    from facex_tune.pipeline import estimating

    load = load_average()
    found = train_faces(study, options)
    face = training_set.face_of(study, options.data_dir)
    device = trial_device(study, options)
    n = sum(found.train_C)
    figures = estimating.estimate(study, n, device, found, progress=progress, retrains=retrains, face=face)
    where = "this machine" + (", not the cluster" if joins(options) else "")
    figures |= {"faces_of": str(face)} if face != GREY_48 else {}
    return {**figures, "measured_on": where, "load_average": load, "cpu_cores": os.cpu_count()}


def load_average() -> float | None:
    """Processes that ran or waited for a CPU in the mean of the last minute; None where the system does not tell."""
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def busy_note(load: float | None) -> str:
    """What to tell of a measurement on a machine that had other work; "" where it had none, or does not tell."""
    cores = os.cpu_count() or 1
    if load is None or load < BUSY * cores:
        return ""
    return (
        f"measured while this machine was at work (load average {load:g} on {cores} cores): on an idle one it is faster"
    )


def told(study: Study, options: Options) -> list[str]:
    """What a user should know before it starts, a sentence each: of the sets that the study reads; of an average of the
    weights that cannot act in so few steps; of final models that are trained less than trials; of a space that is
    smaller than the budget; of a search that may settle before its budget ends it; and what the chosen parts say of
    themselves (`parts.notes`).
    """
    average = ema_note(study, sum(train_faces(study, options).train_C))
    own = (study.short_retraining, study.repetition, study.settling)
    found = [line for line in (average, *own, *parts.notes(study.space)) if line]
    for name in data_sets(study):
        with contextlib.suppress(InputError):
            manifest = faces.read_manifest(options.data_dir, name)
            reading = faces.as_read(study.to_data(), name)
            found += [f"{name}: {each}" for each in faces.told_of(manifest, **reading)]
    found += conversions(study, options.data_dir)
    return found + _shares(study, options)


def _shares(study: Study, options: Options) -> list[str]:
    """What each of several sets gives, a sentence each."""
    from facex_tune.data import joining, training_set

    if len(study.sets) == 1:
        return []
    by_set = training_set.load(study, options.data_dir).by_set()
    return [f"{name}: {joining.told_of_share(share)}" for name, share in by_set.items()]


def train_faces(study: Study, options: Options) -> estimating.Faces:
    """The faces that training and validation would see, after holdout and dropped copies."""
    import numpy as np

    from facex_tune.data import training_set
    from facex_tune.pipeline import estimating

    loaded = training_set.load(study, options.data_dir)
    counts = np.bincount(loaded.train.labels_N, minlength=loaded.n_classes)
    return estimating.Faces(tuple(counts.tolist()), len(loaded.validation))
