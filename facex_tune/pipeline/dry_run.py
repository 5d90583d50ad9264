"""What a run would take, told without beginning one."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from facex_tune import parts
from facex_tune.data import faces, prepare
from facex_tune.errors import InputError
from facex_tune.pipeline.begin import prepare_synthetic
from facex_tune.pipeline.options import Options, joins, trial_device
from facex_tune.pipeline.preflight import data_sets, ema_note
from facex_tune.study import Holdout, Study

if TYPE_CHECKING:
    from facex_tune.pipeline import estimating


def can_estimate(study: Study, options: Options) -> bool:
    """Whether there is something to measure: not where a model lacks a library or weights, or the set is unknown."""
    known = study.data in prepare.names() or faces.is_prepared(options.data_dir, study.data)
    return known and not parts.problems(study.space)


def estimate(study: Study, options: Options) -> dict[str, Any]:
    """What a run of the study would take, from a few measured steps of each architecture at its defaults.

    Returns:
        trials, epochs_expected (of simulated searches), epochs_are (how far to believe them), hours (searching and
        retraining), memory_gb, disk_gb, seconds_per_epoch by model, device, at_once, measured_on (this machine, also
        where a cluster is meant).
    """
    from facex_tune.pipeline import estimating

    with contextlib.suppress(InputError):
        prepare_synthetic(study, options)
    found = _train_faces(study, options)
    figures = estimating.estimate(study, sum(found.train_C), trial_device(study, options), found)
    return {**figures, "measured_on": "this machine" + (", not the cluster" if joins(options) else "")}


def told(study: Study, options: Options) -> list[str]:
    """What a user should know before it starts, a sentence each: of the sets that the study reads, as far as they are
    prepared, and of an average of the weights that cannot act in so few steps.
    """
    note = ema_note(study, sum(_train_faces(study, options).train_C))
    found = [note] if note else []
    for name in data_sets(study):
        with contextlib.suppress(InputError):
            manifest = faces.read_manifest(options.data_dir, name)
            found += [f"{name}: {each}" for each in faces.told_of(manifest)]
    return found


def _train_faces(study: Study, options: Options) -> estimating.Faces:
    """The faces that training and validation would see, after holdout and dropped copies; FER2013's own where the set
    is not prepared yet, or has none.
    """
    import numpy as np

    from facex_tune.data import training_set
    from facex_tune.pipeline import estimating

    held = study.validation.holdout if isinstance(study.validation, Holdout) else 0.0
    if faces.is_prepared(options.data_dir, study.data):
        with contextlib.suppress(InputError):
            loaded = training_set.load(study, options.data_dir)
            counts = np.bincount(loaded.train.labels_N, minlength=loaded.n_classes)
            return estimating.Faces(tuple(counts.tolist()), len(loaded.validation))
    whole = sum(estimating.FER2013)
    unprepared = estimating.Faces.like_fer2013(round(whole * (1 - held)))
    return replace(unprepared, validation=round(whole * held) or None)
