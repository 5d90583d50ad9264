"""What a run's trials, final models and stages are called in its folder, its log and everything that is shown of it."""

from __future__ import annotations

import re

STAGES = ("search", "retrain", "evaluate", "report")  # of a whole run, in their order
TRIAL_LABEL = re.compile(r"t(\d{4,})")
MODEL_LABEL = re.compile(r"t(\d{4,})-s(\d+)")
ALL_LABEL = re.compile(r"t(\d{4,})-all")
ALL = "all"  # `on` of the model that validation faces were trained on, too; None of every other


def trial_label(trial: int) -> str:
    """Names a trial by its number: ``t0007``."""
    return f"t{trial:04d}"


def model_label(candidate: int, seed: int, on: str | None = None) -> str:
    """Names a final model in files and commands: ``t0007-s0``; ``t0007-all`` where validation faces were trained on."""
    return f"{trial_label(candidate)}-{ALL if on == ALL else f's{seed}'}"


def model_name(candidate: int, seed: int, on: str | None = None) -> str:
    """Names a final model in a sentence: ``t0007 seed 0``; ``t0007 on all faces`` where validation faces were trained
    on.
    """
    return f"{trial_label(candidate)} {'on all faces' if on == ALL else f'seed {seed}'}"
