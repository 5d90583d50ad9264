"""How far a number can be believed: over seeds by Student's t, over faces by a bootstrap of whole clusters.

Axes: D bootstrap draws, M models, N faces, G clusters, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune import metrics

LEVEL = 0.95
DRAWS = 2000
MIN_SEEDS = 3
MEANS_OVER_CLASSES = ("balanced_accuracy", "macro_f1")
MIN_CLUSTERS = 5
"""That a class's numbers must rest on, and balanced accuracy for each: with fewer a recall's interval held in .68 to
.84 of simulated test sets, and balanced accuracy's in .44 to .96; from five on both in .93 to .97.
"""
_CHUNK_CELLS = 1_000_000  # draws x clusters held at once, 8 MB of integers

Interval = tuple[float, float]


def over_seeds(values: Sequence[float]) -> Interval | None:
    """The 95 % t interval of the mean; None below three seeds, and where all agree, which is not certainty."""
    if len(values) < MIN_SEEDS or len(set(values)) == 1:
        return None
    from scipy import special  # scipy.stats would take a second to import

    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    reach = float(special.stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * spread
    return mean - reach, mean + reach


def between_seeds(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """The 95 % interval of the difference of two means over seeds that have nothing to do with each other (Welch,
    Biometrika 34, 1947); None below three seeds of either, and where all of both agree.
    """
    if min(len(first), len(second)) < MIN_SEEDS or len(set(first)) == len(set(second)) == 1:
        return None
    from scipy import special

    spread, df = welch(first, second)
    reach = float(special.stdtrit(df, (1 + LEVEL) / 2)) * spread
    gap = float(np.mean(first) - np.mean(second))
    return gap - reach, gap + reach


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """The standard error of the difference of two means, and its degrees of freedom."""
    variances = [float(np.var(values, ddof=1)) / len(values) for values in (first, second)]
    each_df = [len(values) - 1 for values in (first, second)]
    df = sum(variances) ** 2 / sum(own**2 / df for own, df in zip(variances, each_df, strict=True))
    return sum(variances) ** 0.5, df


def holm(p_values: Sequence[float]) -> list[bool]:
    """Which hypotheses are rejected at 5 % together (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    rejected = [False] * len(p_values)
    for rank, number in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[number] > (1 - LEVEL) / (len(p_values) - rank):
            break
        rejected[int(number)] = True
    return rejected


def resampled_confusion(
    answers_MN: NDArray[np.integer[Any]],
    labels_N: NDArray[np.integer[Any]],
    groups_N: NDArray[np.integer[Any]],
    n_classes: int,
    seed: np.random.SeedSequence,
    draws: int = DRAWS,
) -> NDArray[np.float64] | None:
    """Confusion matrices of every model in every draw, D x M x K x K; None where there is but one cluster.

    A draw takes as many whole clusters as there are, with replacement (the cluster bootstrap, Davison & Hinkley 1997,
    section 3.8), and the same ones for every model. Faces of one cluster are far from independent; drawing them one by
    one would make the interval too narrow.
    """
    found = resampled(answers_MN, labels_N, np.empty((0, len(labels_N))), groups_N, n_classes, seed, draws)
    return None if found is None else found[0]


def resampled(
    answers_MN: NDArray[np.integer[Any]],
    labels_N: NDArray[np.integer[Any]],
    values_VN: NDArray[np.floating[Any]],
    groups_N: NDArray[np.integer[Any]],
    n_classes: int,
    seed: np.random.SeedSequence,
    draws: int = DRAWS,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """What `resampled_confusion` gives of the answers and `resampled_mean` of the values (V rows of them), from the
    same draws, which are made once; None where there is but one cluster.
    """
    clusters, cluster_N = np.unique(groups_N, return_inverse=True)
    if len(clusters) < 2:
        return None
    kind_G, first_K = _alike(answers_MN, labels_N, cluster_N, len(clusters))
    counts_KC = _cluster_counts(answers_MN, labels_N, cluster_N, len(clusters), n_classes)[first_K]
    sums_GV = _cluster_sums(values_VN, cluster_N, len(clusters))
    size_G = np.bincount(cluster_N, minlength=len(clusters)).astype(np.float64)
    confusions, means = [], []
    for members_DG in _members(len(clusters), seed, draws):
        confusions.append(_counted(kind_G[members_DG], len(first_K)).astype(np.float32) @ counts_KC)
        if len(values_VN):
            weights_DG = _counted(members_DG, len(clusters)).astype(np.float64)
            means.append((weights_DG @ sums_GV) / (weights_DG @ size_G)[:, None])
    confusion_DMKK = np.concatenate(confusions).astype(np.float64).reshape(draws, len(answers_MN), n_classes, n_classes)
    return confusion_DMKK, np.concatenate(means) if means else np.empty((draws, 0))


def resampled_mean(
    values_MN: NDArray[np.floating[Any]],
    groups_N: NDArray[np.integer[Any]],
    seed: np.random.SeedSequence,
    draws: int = DRAWS,
) -> NDArray[np.float64] | None:
    """Means over faces in every draw of whole clusters, D x M; None where there is but one cluster."""
    clusters, cluster_N = np.unique(groups_N, return_inverse=True)
    if len(clusters) < 2:
        return None
    sums_GM = _cluster_sums(values_MN, cluster_N, len(clusters))
    size_G = np.bincount(cluster_N, minlength=len(clusters)).astype(np.float64)
    parts = (each_DG.astype(np.float64) for each_DG in _draws(len(clusters), seed, draws))
    return np.concatenate([(drawn_DG @ sums_GM) / (drawn_DG @ size_G)[:, None] for drawn_DG in parts])


def scores_of_draws(draws_DMKK: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """What a confusion matrix gives, of every model in every draw: the counted metrics but one, D x M, and precision,
    recall and F1 of each class, D x M x K.

    Worst-class recall is left out: the least of several recalls that are close is lower in every draw than it is, so
    that no percentile interval holds it (Andrews, Econometrica 68, 2000: a bootstrap fails where a parameter lies on
    such an edge). It held 11 times in 150 for seven equal classes. The recalls themselves have intervals.

    NaN where a draw lacks what is asked: its class, or, for a mean or minimum over classes, any of those that the faces
    have. A mean over the classes that happen to be left would be another number.
    """
    supported_DMK = draws_DMKK.sum(axis=-1) > 0
    lacks_DM = (~supported_DMK & supported_DMK.any(axis=(0, 1))).any(axis=-1)
    per_class = {name: np.where(supported_DMK, each, np.nan) for name, each in metrics.per_class(draws_DMKK).items()}
    counted = metrics.counted(draws_DMKK)
    over_classes = {name: np.where(lacks_DM, np.nan, counted[name]) for name in MEANS_OVER_CLASSES}
    return {"accuracy": counted["accuracy"], **over_classes, **per_class}


def _draws(n_clusters: int, seed: np.random.SeedSequence, draws: int) -> Iterator[NDArray[np.int64]]:
    """How often each cluster is in each draw, D x G, some draws at a time.

    Members are drawn and counted: numpy's multinomial, the same distribution, takes five times as long.
    """
    return (_counted(members_DG, n_clusters) for members_DG in _members(n_clusters, seed, draws))


def _members(n_clusters: int, seed: np.random.SeedSequence, draws: int) -> Iterator[NDArray[np.int64]]:
    """The clusters of each draw, D x G, some draws at a time."""
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK_CELLS // n_clusters)
    for start in range(0, draws, step):
        yield rng.integers(n_clusters, size=(min(step, draws - start), n_clusters))


def _counted(members_DG: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """How often each of `n` is in each row, D x n. What was given is overwritten."""
    rows = len(members_DG)
    members_DG += n * np.arange(rows)[:, None]
    return np.bincount(members_DG.ravel(), minlength=rows * n).reshape(rows, n)


def _alike(
    answers_MN: NDArray[Any], labels_N: NDArray[Any], cluster_N: NDArray[Any], n_clusters: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The kind of each cluster, and a cluster of each kind: single faces of one label with the same answers are alike,
    and so a draw's confusion matrices follow from far fewer counts. Every larger cluster is a kind of its own.
    """
    size_G = np.bincount(cluster_N, minlength=n_clusters)
    face_G = np.zeros(n_clusters, np.int64)
    face_G[cluster_N] = np.arange(len(cluster_N))
    kind_G = labels_N[face_G].astype(np.int64)
    for answers_N in answers_MN:  # numbered anew each time, so that no number grows too large
        code_G = kind_G * (int(answers_N.max(initial=0)) + 1) + answers_N[face_G]
        kind_G = np.unique(code_G, return_inverse=True)[1].astype(np.int64)
    larger = np.flatnonzero(size_G > 1)
    kind_G[larger] = kind_G.max() + 1 + np.arange(len(larger))
    _, first_K, kind_G = np.unique(kind_G, return_index=True, return_inverse=True)
    return kind_G, first_K


def _cluster_counts(
    answers_MN: NDArray[Any], labels_N: NDArray[Any], cluster_N: NDArray[Any], n_clusters: int, n_classes: int
) -> NDArray[np.float32]:
    """One row a cluster: the models' flattened confusion matrices beside each other."""
    cells = n_classes**2
    per_model = [
        np.bincount((cluster_N * n_classes + labels_N) * n_classes + answers_N, minlength=n_clusters * cells)
        for answers_N in answers_MN
    ]
    counts_MGC = np.stack(per_model).reshape(len(answers_MN), n_clusters, cells)
    return np.moveaxis(counts_MGC, 0, 1).reshape(n_clusters, -1).astype(np.float32)


def _cluster_sums(
    values_MN: NDArray[np.floating[Any]], cluster_N: NDArray[Any], n_clusters: int
) -> NDArray[np.float64]:
    """sums_GM."""
    sums_GM = np.empty((n_clusters, len(values_MN)))
    for m, values_N in enumerate(values_MN):
        sums_GM[:, m] = np.bincount(cluster_N, values_N, n_clusters)
    return sums_GM


def clusters_of_each(labels_N: NDArray[np.integer[Any]], groups_N: NDArray[np.integer[Any]]) -> dict[int, int]:
    """How many clusters have a face of the class: what its recall rests on."""
    return {int(k): len(np.unique(groups_N[labels_N == k])) for k in np.unique(labels_N)}


def without_few(
    draws: dict[str, NDArray[np.float64]], labels_N: NDArray[np.integer[Any]], groups_N: NDArray[np.integer[Any]]
) -> dict[str, NDArray[np.float64]]:
    """Draws of metrics less balanced accuracy, where a class has too few clusters for its interval to hold."""
    if min(clusters_of_each(labels_N, groups_N).values()) >= MIN_CLUSTERS:
        return draws
    return {name: each for name, each in draws.items() if name != "balanced_accuracy"}


def rests_on(name: str, labels_N: NDArray[np.integer[Any]], groups_N: NDArray[np.integer[Any]]) -> float:
    """How many clusters a metric rests on, for `percentile`: all; of a mean over classes one more than the degrees of
    freedom of a mean whose parts' variances go with one over their clusters (Satterthwaite, Biometrics Bulletin 2,
    1946), since the rarest class scatters most.

    Chosen in `tests/benchmarks/coverage.py --choose` among all clusters (balanced accuracy held in .89 to .98, macro-F1
    in .87 to .96), the harmonic mean of the classes' own (.96 to .99, .96 to .98: too wide) and this one.
    """
    if name not in MEANS_OVER_CLASSES:
        return len(np.unique(groups_N))
    counts_K = np.array(list(clusters_of_each(labels_N, groups_N).values()), np.float64)
    if counts_K.min() < 2:
        return 2.0
    return float((1 / counts_K).sum() ** 2 / (1 / counts_K**2 / (counts_K - 1)).sum()) + 1


def rests_on_class(
    answers_MN: NDArray[np.integer[Any]],
    labels_N: NDArray[np.integer[Any]],
    groups_N: NDArray[np.integer[Any]],
    kind: str,
    k: int,
) -> int:
    """How many clusters a class's recall, precision or F1 rests on: those that have a face of it; of the other two also
    those with an answer of it.

    Chosen like `rests_on`: by the former alone precision held in .976 and F1 in .965 of 2,767, by both in .962, .948.
    """
    counted_N = labels_N == k
    if kind != "recall":
        counted_N = counted_N | (answers_MN == k).any(axis=0)
    return len(np.unique(groups_N[counted_N]))


def together(draws: Sequence[NDArray[np.float64]], n_clusters: Sequence[float]) -> float:
    """How many clusters the difference of two numbers rests on that have nothing to do with each other, each with its
    draws and what it rests on: one more than the degrees of freedom of the sum of their variances (Satterthwaite,
    Biometrics Bulletin 2, 1946).
    """
    variances = [float(np.nanvar(values_D)) if np.isfinite(values_D).any() else 0.0 for values_D in draws]
    shares = [own**2 / max(n - 1, 1e-9) for own, n in zip(variances, n_clusters, strict=True)]
    return sum(variances) ** 2 / sum(shares) + 1 if sum(shares) > 0 else min(n_clusters)


def percentile(values_D: NDArray[np.float64], n_clusters: float | None = None) -> Interval | None:
    """The central 95 % of the draws; None where they agree (a class never recognised), which is not certainty, and
    where more than half of them are NaN and say nothing.

    Args:
        n_clusters: how many the number rests on (`rests_on`). The bootstrap is too narrow for few, by the root of
            (n - 1) / n and by normal instead of t quantiles; the percentiles are moved outwards by as much (the
            expanded percentile interval: Hesterberg, The American Statistician 69, 2015, section 5.2).
    """
    if n_clusters is not None and n_clusters < 2:
        return None
    said_D = values_D[np.isfinite(values_D)]
    if len(said_D) * 2 < len(values_D):
        return None
    tail = (1 - LEVEL) / 2 if n_clusters is None else _expanded_tail(n_clusters)
    low, high = np.quantile(said_D, [tail, 1 - tail])
    return (float(low), float(high)) if low < high else None


def _expanded_tail(n_clusters: float) -> float:
    from scipy import special

    reach = (n_clusters / (n_clusters - 1)) ** 0.5 * float(special.stdtrit(n_clusters - 1, (1 + LEVEL) / 2))
    return float(special.ndtr(-reach))
