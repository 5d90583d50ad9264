"""How far a lookup or a surrogate is from trainings of configurations that it has not seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from facex_tune.simulation.curves import Curves, Recorded
from facex_tune.simulation.worlds import Lookup, Surrogate, World, pairs
from facex_tune.space import Config

FOLDS = 5


@dataclass(frozen=True)
class Unseen:
    """What was found by leaving a fifth of the configurations out, five times.

    Attributes:
        n: whole trainings that were told of unseen, one a configuration: the mean of its seeds.
        mean_error: absolute, of the final value.
        constant_error: of telling every configuration the mean of the others.
        rank_correlation: Spearman's, between told and recorded final values.
        seed_error: mean absolute difference of two seeds of one configuration, over the root of 2; None: none has two.
        brier: mean squared error of the probability that a training fails; None for a lookup.
        constant_brier: of telling every configuration the others' share of failures.
    """

    n: int
    mean_error: float
    constant_error: float
    rank_correlation: float
    seed_error: float | None
    brier: float | None
    constant_brier: float


def of(curves: Curves, metric: str, how: str) -> Unseen:
    """Measures a lookup or a surrogate on unseen configurations."""
    column = curves.metrics.index(metric)
    told: list[tuple[float, float, float]] = []  # recorded, told, the others' mean
    failing: list[tuple[float, float, float]] = []
    for seen, unseen in _folds(curves):
        world: World = Lookup(seen, (metric,)) if how == "lookup" else Surrogate(seen, (metric,))
        others = float(np.mean([each.scores_EM[-1, column] for each in seen.whole]))
        told += [(value, world.final(config), others) for config, value in _finals(unseen, column)]
        share = len(seen.failed) / len(seen.trainings)
        for each in unseen.trainings:
            guess = world.failing(each.config) if isinstance(world, Surrogate) else share
            failing.append((float(bool(each.failure)), guess, share))
    recorded_N, told_N, others_N = np.array(told).T
    failed_N, guess_N, share_N = np.array(failing).T
    two = pairs(curves, [column])
    return Unseen(
        n=len(told),
        mean_error=float(np.abs(recorded_N - told_N).mean()),
        constant_error=float(np.abs(recorded_N - others_N).mean()),
        rank_correlation=_spearman(recorded_N, told_N),
        seed_error=float(np.mean([abs(a[-1, 0] - b[-1, 0]) for a, b in two]) / np.sqrt(2)) if two else None,
        brier=float(((failed_N - guess_N) ** 2).mean()) if how == "surrogate" else None,
        constant_brier=float(((failed_N - share_N) ** 2).mean()),
    )


def _folds(curves: Curves) -> Iterator[tuple[Curves, Curves]]:
    """What is learned from and what is not, by whole configurations."""
    numbers = sorted({each.configuration for each in curves.trainings})
    order = np.random.default_rng(0).permutation(numbers)
    for fold in range(FOLDS):
        left_out = {int(number) for number in order[fold::FOLDS]}
        yield curves.only(set(numbers) - left_out), curves.only(left_out)


def _finals(curves: Curves, column: int) -> Iterator[tuple[Config, float]]:
    by_number: dict[int, list[Recorded]] = {}
    for each in curves.whole:
        by_number.setdefault(each.configuration, []).append(each)
    for several in by_number.values():
        yield several[0].config, float(np.mean([each.scores_EM[-1, column] for each in several]))


def _spearman(one_N: np.ndarray, other_N: np.ndarray) -> float:
    """0 where either does not vary."""
    from scipy import stats

    if len(set(one_N.tolist())) < 2 or len(set(other_N.tolist())) < 2:
        return 0.0
    return float(stats.spearmanr(one_N, other_N).statistic)
