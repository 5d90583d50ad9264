"""Seeds: every random draw comes from `SeedSequence([study seed, stage, trial, replicate])`."""

from __future__ import annotations

SEARCH, RETRAIN, EVALUATE, FACTORS = 0, 1, 2, 3


def of_trial(study_seed: int, trial: int) -> tuple[int, ...]:
    """A search trial's."""
    return study_seed, SEARCH, trial, 0


def of_model(study_seed: int, candidate: int, replicate: int) -> tuple[int, ...]:
    """A retrained model's; never one that the search has used."""
    return study_seed, RETRAIN, candidate, replicate


def of_factor(study_seed: int, replicate: int) -> tuple[int, ...]:
    """A replicate's of the factor study: the same for every configuration, so that they are paired."""
    return study_seed, FACTORS, 0, replicate
