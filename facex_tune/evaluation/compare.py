"""Tests of two candidates on the same faces, with the same bootstrap draws.

Axes: M models of each candidate (of seeds of their own, unless said otherwise), N faces, C classes that a model knows,
D bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune import metrics
from facex_tune.evaluation import intervals

SIGN_FLIPS = 10_000
COMPARED = (*metrics.COUNTED, "log_loss")


def difference(
    first_MNC: NDArray[np.floating[Any]],
    second_MNC: NDArray[np.floating[Any]],
    labels_N: NDArray[np.int64],
    groups_N: NDArray[np.int64],
    seed: np.random.SeedSequence,
    *,
    same_models: bool = False,
) -> dict[str, Any]:
    """First minus second, by metric.

    Args:
        same_models: the models of both are the same ones, one by one, and only what is made of their answers differs.

    Returns:
        n, models [of the first, of the second], metrics {name: {mean, interval, seeds_interval, p_value}} and p_value.
        `interval` (faces) draws whole clusters, the same for both; `seeds_interval` is Welch's t interval, or the
        paired one of the same models, where each has three or more. A metric's p_value is the larger of those over
        faces and over seeds, for corrections over several comparisons. The other p_value is that of the difference in
        accuracy if the two were exchangeable on every cluster (a sign-flip test).
    """
    n_first = len(first_MNC)
    every_MNC = [*first_MNC, *second_MNC]
    scores = [metrics.scores(found_NC, labels_N) for found_NC in every_MNC]
    draws = drawn(every_MNC, labels_N, groups_N, seed)
    table = {}
    for name in COMPARED:
        clusters = intervals.rests_on(name, labels_N, groups_N)
        values = [each[name] for each in scores]
        of_name = None if draws is None else draws.get(name)
        gap_D = None if of_name is None else of_name[:, :n_first].mean(axis=1) - of_name[:, n_first:].mean(axis=1)
        first, second = values[:n_first], values[n_first:]
        table[name] = {
            "mean": float(np.mean(first) - np.mean(second)),
            "interval": None if gap_D is None else intervals.percentile(gap_D, clusters),
            "seeds_interval": _over_models(first, second, same_models),
            "p_value": _p_value(gap_D, first, second, clusters, same_models),
        }
    p_value = _sign_flip(first_MNC, second_MNC, labels_N, groups_N, seed)
    counts = [n_first, len(second_MNC)]
    return {"n": len(labels_N), "models": counts, "metrics": table, "p_value": p_value}


def _over_models(first: list[float], second: list[float], same_models: bool) -> intervals.Interval | None:
    if not same_models:
        return intervals.between_seeds(first, second)
    return intervals.over_seeds([one - other for one, other in zip(first, second, strict=True)])


def _p_value(
    gap_D: NDArray[np.float64] | None, first: list[float], second: list[float], n_clusters: float, same_models: bool
) -> float | None:
    """Two-sided, that the difference is 0: over faces by the draws' spread, over seeds by t; None without draws."""
    from scipy import special

    said_D = np.empty(0) if gap_D is None else gap_D[np.isfinite(gap_D)]
    spread = float(said_D.std(ddof=1)) if len(said_D) > 1 else 0.0
    if not spread:
        return None
    gap = float(np.mean(first) - np.mean(second))
    found = [2 * float(special.stdtr(n_clusters - 1, -abs(gap) / spread))]
    if (ends := _over_models(first, second, same_models)) is not None:
        df = len(first) - 1 if same_models else intervals.welch(first, second)[1]
        scale = (ends[1] - ends[0]) / 2 / float(special.stdtrit(df, (1 + intervals.LEVEL) / 2))
        found.append(2 * float(special.stdtr(df, -abs(gap) / scale)))
    return max(found)


def corrected(every: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, int]]:
    """Of each comparison, what `supported` says of each metric, as far as it holds for all that are asked together
    (Holm, Scandinavian Journal of Statistics 6, 1979). Those of a run from before p values were kept stand as they are.
    """
    asked = [(place, name) for place, each in enumerate(every) for name in names if name in each["metrics"]]
    p_values = {key: every[key[0]]["metrics"][key[1]].get("p_value") for key in asked}
    known = {key: p_value for key, p_value in p_values.items() if p_value is not None}
    held = {key for key, is_held in zip(known, intervals.holm(list(known.values())), strict=True) if is_held}
    stands = held | {key for key in asked if "p_value" not in every[key[0]]["metrics"][key[1]]}
    return [
        {name: supported(each, name) if (place, name) in stands else 0 for name in names if name in each["metrics"]}
        for place, each in enumerate(every)
    ]


def supported(compared: Mapping[str, Any], name: str) -> int:
    """1 or -1 where the first is better or worse by a metric beyond its intervals, over faces and (where there is one)
    over seeds; else 0.
    """
    said = compared["metrics"][name]
    if said["interval"] is None:
        return 0
    signs = {_side(said["interval"]), *([_side(said["seeds_interval"])] if said["seeds_interval"] else [])}
    return signs.pop() * (1 if metrics.MAXIMIZE[name] else -1) if len(signs) == 1 else 0


def _side(ends: Any) -> int:
    return 1 if ends[0] > 0 else -1 if ends[1] < 0 else 0


def drawn(
    every_MNC: list[NDArray[np.floating[Any]]],
    labels_N: NDArray[np.int64],
    groups_N: NDArray[np.int64],
    seed: np.random.SeedSequence,
) -> dict[str, NDArray[np.float64]] | None:
    """Each metric of every model in each draw, D x M (precision, recall and F1 of each class: D x M x K); None where
    the faces are one cluster.
    """
    n_classes = max(max(found_NC.shape[1] for found_NC in every_MNC), int(labels_N.max()) + 1)
    answers_MN = np.stack([found_NC.argmax(axis=1) for found_NC in every_MNC])
    losses_MN = np.stack([metrics.log_losses(found_NC, labels_N) for found_NC in every_MNC])
    resampled = intervals.resampled(answers_MN, labels_N, losses_MN, groups_N, n_classes, seed)
    if resampled is None:
        return None
    draws_DMKK, losses_DM = resampled
    found = intervals.without_few(intervals.scores_of_draws(draws_DMKK), labels_N, groups_N)
    return found | {"log_loss": losses_DM}


def _sign_flip(
    first_MNC: NDArray[np.floating[Any]],
    second_MNC: NDArray[np.floating[Any]],
    labels_N: NDArray[np.int64],
    groups_N: NDArray[np.int64],
    seed: np.random.SeedSequence,
) -> float | None:
    """Two-sided, with the observed signs counted among the flips, so that it is never 0."""
    right_N = [(found_MNC.argmax(axis=2) == labels_N).mean(axis=0) for found_MNC in (first_MNC, second_MNC)]
    _, cluster_N = np.unique(groups_N, return_inverse=True)
    sums_G = np.bincount(cluster_N, right_N[0] - right_N[1])
    sums_G = sums_G[sums_G != 0]
    if not len(sums_G):
        return None
    rng = np.random.default_rng(seed)
    signs_FG = rng.integers(0, 2, (SIGN_FLIPS, len(sums_G)), dtype=np.int8) * 2 - 1
    flipped_F = np.abs(signs_FG @ sums_G)
    return float((1 + (flipped_F >= abs(sums_G.sum()) - 1e-12).sum()) / (1 + SIGN_FLIPS))
