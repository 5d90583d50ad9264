"""Seeds: every random draw comes from `SeedSequence([study seed, stage, trial, replicate])`."""

from __future__ import annotations

SEARCH, RETRAIN, EVALUATE, FACTORS = 0, 1, 2, 3


def of_trial(study_seed: int, trial: int) -> tuple[int, ...]:
    """Gives the seed of a trial of the search."""
    return study_seed, SEARCH, trial, 0


def of_model(study_seed: int, candidate: int, replicate: int) -> tuple[int, ...]:
    """Gives the seed of a retrained model, which no trial of the search has used."""
    return study_seed, RETRAIN, candidate, replicate


def of_factor(study_seed: int, replicate: int) -> tuple[int, ...]:
    """Gives the seed of a replicate of the factor study. Every configuration trains with the same seeds, which pairs
    them.
    """
    return study_seed, FACTORS, 0, replicate
