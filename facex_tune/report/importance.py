"""Which knobs the search's better trials differ in: observational, and labelled so.

A sampler chose the trials, so that knobs are confounded with each other; effects are what the factor study measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.evaluation import student
from facex_tune.runs.history import before_rungs
from facex_tune.space import Choice, Int, Knob

if TYPE_CHECKING:
    from facex_tune.runs.history import History, Trial
    from facex_tune.space import Config, Value
    from facex_tune.study import Study

TOP_SHARE = 0.1
MIN_TRIALS = 50  # five in the top tenth, which PED-ANOVA wants
MIN_WITH_KNOB = 2  # trials that have a knob, below which nothing is said of it
GRID = 50  # steps of a range
NARROWEST = 0.5 / 1.64  # of a kernel, in steps: nine tenths of it lie in one


def of_search(study: Study, history: History) -> dict[str, Any]:
    """PED-ANOVA over the trials among which no rung has chosen, at the epoch of the first that did: {kind, trials,
    at_epoch, needed, importances or None}.

    Importances sum to 1; they are None where there are fewer than 50 such trials. `at_epoch` is None where none was
    stopped at a rung: then it is the finished trials, at their end.
    """
    objective = study.objective[0]
    at_epoch, trials = before_rungs(history.trials.values())
    measured = [(trial, _at(trial, at_epoch)[objective]) for trial in trials if objective in _at(trial, at_epoch)]
    values = [value for _, value in measured]
    said: dict[str, Any] = {"kind": "observational", "trials": len(measured), "at_epoch": at_epoch}
    said["needed"] = MIN_TRIALS
    if len(measured) < MIN_TRIALS or len(set(values)) == 1:
        return said | {"importances": None}
    knobs = {name: knob for name, knob in study.space.knobs() if not _is_fixed(knob)}
    return said | {"importances": ped_anova([trial.config for trial, _ in measured], values, knobs, study.maximize)}


def ped_anova(
    configs: Sequence[Config], values: Sequence[float], knobs: Mapping[str, Knob], maximize: bool
) -> dict[str, float]:
    """How much each knob has to do with a trial's being in the best tenth, the largest first; they sum to 1.

    PED-ANOVA (Watanabe et al., IJCAI 2023), for knobs that some trials lack as in its conditional form
    (arXiv 2601.20800), with the grids and kernels of Optuna's evaluator, which it equals (a test): loading that one
    takes as long as a fifth of a report, for scikit-learn comes with it.
    """
    losses_T = np.array(values) * (-1 if maximize else 1)
    cut = np.sort(losses_T)[math.ceil(TOP_SHARE * len(losses_T)) - 1]
    top_T = losses_T <= cut
    found = {}
    for name in dict.fromkeys(name for config in configs for name in config if name in knobs):
        has_T = np.array([name in config for config in configs])
        both_T = has_T & top_T
        if has_T.sum() < MIN_WITH_KNOB or not both_T.any():
            found[name] = 0.0
            continue
        places_T, n_places = _on_grid(knobs[name], [config[name] for config in configs if name in config])
        measured = _measure_of(knobs[name])
        every_G, best_G = (measured(each, n_places) + 1e-12 for each in (places_T, places_T[both_T[has_T]]))
        divergence = float(every_G @ ((best_G / every_G - 1) ** 2))
        share_top, share = both_T.sum() / top_T.sum(), has_T.mean()
        found[name] = float(share_top**2 / share * divergence)
    total = sum(found.values())
    even = {name: 1 / len(found) for name in found}
    shares = {name: value / total for name, value in found.items()} if total else even
    return dict(sorted(shares.items(), key=lambda each: -each[1]))


def _on_grid(knob: Knob, values: Sequence[Value]) -> tuple[NDArray[np.int64], int]:
    """Where each value lies on the knob's grid, and how many places that has: its options, or up to 50 steps."""
    if isinstance(knob, Choice):
        return np.array([knob.options.index(value) for value in values]), len(knob.options)
    n = GRID
    if isinstance(knob, Int):
        whole = knob.high - knob.low + 1
        n = min(n, math.ceil(math.log2(whole)) + 1 if knob.log else whole)
    low, high = (math.log(knob.low), math.log(knob.high)) if knob.log else (knob.low, knob.high)
    scaled_T = np.log(np.array(values, float)) if knob.log else np.array(values, float)
    places_T = np.ceil((scaled_T - low) / ((high - low) / (n - 1)) - 0.5).astype(np.int64)
    return np.clip(places_T, 0, n - 1), n


def _measure_of(knob: Knob) -> Callable[[NDArray[np.int64], int], NDArray[np.float64]]:
    return _of_options if isinstance(knob, Choice) else _of_steps


def _of_options(places_T: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """The probability of each option: a kernel at each that was seen, and an even one, as heavy as one trial."""
    counts_G = np.bincount(places_T, minlength=n)
    seen = np.flatnonzero(counts_G)
    kernels_KG = np.full((len(seen) + 1, n), 1 / (len(seen) + 1))
    kernels_KG[np.arange(len(seen)), seen] += 1
    kernels_KG /= kernels_KG.sum(axis=1, keepdims=True)
    weights_K = np.append(counts_G[seen], 1.0)
    found_G: NDArray[np.float64] = weights_K / weights_K.sum() @ kernels_KG
    return found_G


def _of_steps(places_T: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """The probability of each step: a normal at each that was seen, as wide as Scott's rule says and no narrower than a
    step, and one over the whole grid, as heavy as one trial; each cut off at the grid's ends.
    """
    counts_G = np.bincount(places_T, minlength=n)
    seen = np.flatnonzero(counts_G)
    weights_K = counts_G[seen]
    total, heaped_K = weights_K.sum(), np.cumsum(weights_K)
    mean = seen @ weights_K / total
    spread = math.sqrt((seen - mean) ** 2 @ weights_K / max(1, total - 1))
    first = np.searchsorted(heaped_K, total // 4, side="left")
    third = np.searchsorted(heaped_K, total * 3 // 4, side="right")
    quartiles = seen[min(len(seen) - 1, third)] - seen[first]
    width = max(1.059 * min(quartiles / 1.34, spread) * total**-0.2, NARROWEST)
    middle_K1 = np.append(seen, (n - 1) / 2)[:, None]
    width_K1 = np.append(np.full(len(seen), width), n)[:, None]
    edges_E = np.arange(n + 1) - 0.5
    below_KE = student.normals_below((edges_E - middle_K1) / width_K1)
    kernels_KG = np.diff(below_KE, axis=1) / (below_KE[:, -1:] - below_KE[:, :1])
    shares_K = np.append(weights_K, 1.0)
    found_G: NDArray[np.float64] = shares_K / shares_K.sum() @ kernels_KG
    return found_G


def _at(trial: Trial, epoch: int | None) -> Mapping[str, float]:
    return trial.metrics if epoch is None else trial.epochs[epoch]


def _is_fixed(knob: Knob) -> bool:
    return isinstance(knob, Choice) and len(knob.options) == 1
