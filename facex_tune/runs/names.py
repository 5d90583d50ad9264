"""What a run's trials, final models and stages are called in its folder, its log and everything that is shown of it."""

from __future__ import annotations

import re

STAGES = ("search", "retrain", "evaluate", "report")  # of a whole run, in their order
TRIAL_LABEL = re.compile(r"t(\d{4,})")
MODEL_LABEL = re.compile(r"t(\d{4,})-s(\d+)")


def trial_label(trial: int) -> str:
    """Names a trial by its number: ``t0007``."""
    return f"t{trial:04d}"


def model_label(candidate: int, seed: int) -> str:
    """Names a final model in files and commands: ``t0007-s0``."""
    return f"{trial_label(candidate)}-s{seed}"


def model_name(candidate: int, seed: int) -> str:
    """Names a final model in a sentence: ``t0007 seed 0``."""
    return f"{trial_label(candidate)} seed {seed}"
