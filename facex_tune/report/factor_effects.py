"""What the factor study measured: effects of changing one thing, and how much parts depend on each other.

Axes of a table Y: rows are cells (configurations), columns are seeds; every cell has the same seeds.

The noise of a run is estimated from all cells together, as the residual of the additive model cell + seed (a
randomized block design: Montgomery, Design and Analysis of Experiments, chapter 4), because three seeds alone say
little of it. A cell that is noisier than that gets its own, wider interval; a reference that is noisier widens all, as
all are differences to it. The factorial's noise is that of its corners. Whether an effect is called supported is judged
with Holm's correction over everything that was tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation.intervals import LEVEL, holm
from facex_tune.runs.names import trial_label
from facex_tune.search.factor_design import Cell
from facex_tune.search.factor_progress import Progress
from facex_tune.space import Config

if TYPE_CHECKING:
    from facex_tune.runs.store import Run

NOISIER = 0.1  # p value below which a cell's own spread is not taken for chance
# The same for the reference, which every effect shares. Of 500 simulated studies of 24 changes without effect and a
# reference three times as noisy, 14 % called one supported without, 7 % with .1 and 4 % with .25; the last finds a
# change of three standard deviations in 41 % of studies with an ordinary reference, in place of 51.
REFERENCE_NOISIER = 0.25
Finished = Mapping[tuple[str, int], Mapping[str, float]]


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a single run beyond cell and seed, and its degrees of freedom.

    Attributes:
        reference: those of the reference's runs, where they seem to be noisier than the others'.
        others: then those of all other cells.
    """

    sd: float
    df: int
    reference: Noise | None = None
    others: Noise | None = None


def of_run(run: Run) -> dict[str, Any]:
    """The factor study of a run as plain data; empty where none was planned."""
    progress = Progress.of(run.events())
    if progress.plan is None:
        return {}
    failed = {cell: reason for (cell, _), reason in progress.failed.items()}
    done = analyse(progress.cells, progress.finished, int(progress.plan["seeds"]), run.study.objective[0], failed)
    return {
        "reference": trial_label(progress.plan["reference"]),
        "seeds": progress.plan["seeds"],
        "epochs": progress.plan["epochs"],
        "cells": len(progress.cells),
        "runs_left": len(progress.left),
        **done,
    }


def analyse(
    cells: Sequence[Cell], finished: Finished, n_seeds: int, objective: str, failed: Mapping[str, str]
) -> dict[str, Any]:
    """Effects and interactions.

    Returns:
        plain data: noise {metric: {sd, df and, where the reference is noisier, reference_times}}, effects [{cell,
        changed, replaced, knobs_from, failed, metrics {name: {effect, interval, p_value, supported}}}] and factorial
        {levels, corners, terms}. Effects are changed minus reference, in the metric's own units; `replaced` has the
        reference's values of what was changed.
    """
    whole = {cell.name: cell for cell in cells if all((cell.name, seed) in finished for seed in range(n_seeds))}
    names = [objective, *(f"f1.{emotion}" for emotion in EMOTIONS)]
    asked = {name: _table(list(whole), finished, n_seeds, name) for name in names}
    tables = {name: table for name, table in asked.items() if table is not None}
    row = list(whole).index("reference") if "reference" in whole else None
    noise = {name: noise_of(table, row) for name, table in tables.items()}
    reference = next((cell.config for cell in cells if not cell.changed), {})
    effects = [
        _effect(cell, reference, list(whole), tables, noise, failed)
        for cell in cells
        if cell.changed and not _is_corner(cell)
    ]
    _judge(effects, objective)
    return {
        "noise": {name: _told(each) for name, each in noise.items() if each is not None},
        "effects": effects,
        "factorial": factorial(cells, list(whole), tables.get(objective)),
    }


def _told(noise: Noise) -> dict[str, float]:
    """A noise as plain data; `reference_times` says how much noisier the reference seems than the rest."""
    said: dict[str, float] = {"sd": noise.sd, "df": noise.df}
    if noise.reference is not None and noise.others is not None:
        said["reference_times"] = noise.reference.sd / noise.others.sd
    return said


def _is_corner(cell: Cell) -> bool:
    return len(cell.changed) > 1


def _table(rows: list[str], finished: Finished, n_seeds: int, name: str) -> NDArray[np.float64] | None:
    """Y of one metric; None where a run has not measured it."""
    values = [[finished[row, seed].get(name) for seed in range(n_seeds)] for row in rows]
    if not rows or any(value is None for row in values for value in row):
        return None
    return np.array(values, np.float64)


def noise_of(table: NDArray[np.float64], reference: int | None = 0) -> Noise | None:
    """The residual standard deviation; None with one seed or one cell, which have no residual.

    Args:
        reference: the row that the others are compared with, if it is there.
    """
    found = _residual(table)
    if found is None or reference is None or len(table) < 3:
        return found
    others_CS = np.delete(table, reference, axis=0)
    others = _residual(others_CS)
    own_variance = float((table[reference] - others_CS.mean(axis=0)).var(ddof=1))
    if others is None or not others.sd or not _is_beyond(own_variance, table.shape[1] - 1, others, REFERENCE_NOISIER):
        return found
    return Noise(found.sd, found.df, Noise(own_variance**0.5, table.shape[1] - 1), others)


def _residual(table: NDArray[np.float64]) -> Noise | None:
    n_cells, n_seeds = table.shape
    df = (n_cells - 1) * (n_seeds - 1)
    if df == 0:
        return None
    residual = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    return Noise(float(np.sqrt((residual**2).sum() / df)), df)


def _is_beyond(variance: float, df: int, noise: Noise, level: float) -> bool:
    """Whether a variance is greater than noise lets expect (an F test)."""
    from scipy import special

    return float(special.fdtrc(df, noise.df, variance / noise.sd**2)) < level


def _effect(
    cell: Cell,
    reference: Config,
    rows: list[str],
    tables: Mapping[str, NDArray[np.float64]],
    noise: Mapping[str, Noise | None],
    failed: Mapping[str, str],
) -> dict[str, Any]:
    said: dict[str, Any] = {
        "cell": cell.name,
        "changed": cell.changed,
        "replaced": {knob: reference.get(knob) for knob in cell.changed},
        "knobs_from": cell.knobs_from,
        "failed": failed.get(cell.name),
        "metrics": {},
    }
    if cell.name in rows and "reference" in rows:
        for name, table in tables.items():
            changed_S, reference_S = table[rows.index(cell.name)], table[rows.index("reference")]
            said["metrics"][name] = contrast(changed_S - reference_S, noise[name])
    return said


def contrast(gap_S: NDArray[np.float64], noise: Noise | None) -> dict[str, Any]:
    """The mean of paired differences, its 95 % interval and p value; both None where there is no noise estimate."""
    effect = float(gap_S.mean())
    if noise is None:
        return {"effect": effect, "interval": None, "p_value": None, "supported": False}
    own_variance = float(gap_S.var(ddof=1)) if len(gap_S) > 1 else 0.0
    if noise.reference is not None and noise.others is not None:
        return _against_noisy(effect, own_variance, len(gap_S), noise.reference, noise.others)
    spread = (max(2 * noise.sd**2, own_variance) / len(gap_S)) ** 0.5
    is_noisier = _is_noisier(own_variance, len(gap_S) - 1, noise)
    return _with_interval(effect, spread, len(gap_S) - 1 if is_noisier else noise.df)


def _against_noisy(effect: float, own_variance: float, n_seeds: int, reference: Noise, others: Noise) -> dict[str, Any]:
    """An effect against a reference that is noisier than the rest: both variances, and Satterthwaite's degrees of
    freedom (Biometrics Bulletin 2, 1946).
    """
    variance = reference.sd**2 + others.sd**2
    df = variance**2 / (reference.sd**4 / reference.df + others.sd**4 / others.df)
    if own_variance > variance:
        variance, df = own_variance, min(df, n_seeds - 1)
    return _with_interval(effect, (variance / n_seeds) ** 0.5, df)


def _is_noisier(own_variance: float, own_df: int, noise: Noise) -> bool:
    """Whether paired differences spread wider than the noise of all cells lets expect."""
    return bool(own_df and noise.sd) and _is_beyond(own_variance / 2, own_df, noise, NOISIER)


def _with_interval(effect: float, spread: float, df: float) -> dict[str, Any]:
    from scipy import special

    if spread == 0:
        return {"effect": effect, "interval": None, "p_value": None, "supported": False}
    reach = float(special.stdtrit(df, (1 + LEVEL) / 2)) * spread
    p_value = 2 * float(special.stdtr(df, -abs(effect) / spread))
    return {"effect": effect, "interval": (effect - reach, effect + reach), "p_value": p_value, "supported": False}


def _judge(effects: list[dict[str, Any]], objective: str) -> None:
    """Sets `supported`: Holm over all cells for the objective, over all cells and emotions for the emotions."""
    for is_objective in (True, False):
        family = [
            measured
            for effect in effects
            for name, measured in effect["metrics"].items()
            if (name == objective) == is_objective and measured["p_value"] is not None
        ]
        for measured, is_supported in zip(family, holm([each["p_value"] for each in family]), strict=True):
            measured["supported"] = is_supported


def factorial(cells: Sequence[Cell], rows: list[str], table: NDArray[np.float64] | None) -> dict[str, Any] | None:
    """Main effects and interactions of the factorial; None until each of its corners is measured.

    A main effect averages over the other families' levels. An interaction of two is how much more one swap brings with
    the other swapped too (difference of differences), averaged over the third. All corners weigh alike in each, so that
    their own noise is the right one even where they differ in it, as that of all cells is not: with one corner three
    times as noisy among eleven or fifteen cells, intervals by the latter held in .82 to .91 of simulations.
    """
    corners = [cell for cell in cells if cell.factorial]
    if table is None or not corners or any(cell.name not in rows for cell in corners):
        return None
    families = [family for family in max(corners, key=lambda cell: len(cell.changed)).changed]
    signs = {family: np.array([1.0 if family in cell.changed else -1.0 for cell in corners]) for family in families}
    corners_CS = table[[rows.index(cell.name) for cell in corners]]
    means_C, noise = corners_CS.mean(axis=1), _residual(corners_CS)
    terms = []
    for size in range(1, len(families) + 1):
        for chosen in itertools.combinations(families, size):
            product_C = np.prod([signs[family] for family in chosen], axis=0)
            scale = 2.0**size / len(corners)
            effect = float((product_C * means_C).sum() * scale)
            spread = None if noise is None else scale * noise.sd * (len(corners) / table.shape[1]) ** 0.5
            measured = _with_interval(effect, spread or 0.0, noise.df if noise else 1)
            terms.append({"term": " × ".join(chosen), "families": list(chosen), **measured})
    judged = holm([term["p_value"] for term in terms]) if all(term["p_value"] is not None for term in terms) else []
    for term, is_supported in zip(terms, judged, strict=False):
        term["supported"] = is_supported
    full = max(corners, key=lambda cell: len(cell.changed))
    reference = next(cell for cell in corners if not cell.changed)
    return {
        "levels": {family: [reference.config[family], full.changed[family]] for family in families},
        "corners": [
            {
                "cell": cell.name,
                "parts": {family: cell.config[family] for family in families},
                "value": float(mean),
                "per_seed": table[rows.index(cell.name)].tolist(),
            }
            for cell, mean in zip(corners, means_C, strict=True)
        ],
        "terms": terms,
    }
