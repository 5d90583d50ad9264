"""What a run would take, told without beginning one."""

from __future__ import annotations

import contextlib
from typing import Any

from facex_tune import parts
from facex_tune.data import faces, prepare
from facex_tune.errors import InputError
from facex_tune.pipeline.begin import prepare_synthetic
from facex_tune.pipeline.options import Options, joins, trial_device
from facex_tune.study import Study


def can_estimate(study: Study, options: Options) -> bool:
    """Tells whether there is something to measure. There is not where a model lacks a library or weights, or the set is
    unknown.
    """
    known = study.data in prepare.names() or faces.is_prepared(options.data_dir, study.data)
    return known and not parts.problems(study.space)


def estimate(study: Study, options: Options) -> dict[str, Any]:
    """Estimates what a run of the study would take, from a few measured steps of each architecture at its defaults.

    Returns:
        trials, epochs_expected, epochs_are (how far to believe them), hours (searching and retraining), memory_gb,
        disk_gb, seconds_per_epoch by model, device, at_once, measured_on (this machine, also where a cluster is meant).
    """
    from facex_tune.pipeline import estimating

    with contextlib.suppress(InputError):
        prepare_synthetic(study, options)
    figures = estimating.estimate(study, _train_faces(study, options), trial_device(study, options))
    return {**figures, "measured_on": "this machine" + (", not the cluster" if joins(options) else "")}


def _train_faces(study: Study, options: Options) -> int:
    """How many faces an epoch trains on; FER2013's own number where the set is not prepared yet, or has none."""
    if not faces.is_prepared(options.data_dir, study.data):
        return 28_709
    counts = faces.read_manifest(options.data_dir, study.data)["counts"]
    return sum(counts.get("train", {}).values()) or 28_709
