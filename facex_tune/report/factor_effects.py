"""What the factor study measured: effects of changing one thing, and how much parts depend on each other.

Axes of a table Y: rows are cells (configurations), columns are seeds; every cell has the same seeds.

The noise of a run is estimated from all cells together, as the residual of the additive model cell + seed (a
randomized block design: Montgomery, Design and Analysis of Experiments, chapter 4), because three seeds alone say
little of it. A cell that is noisier than that gets its own, wider interval. Whether an effect is called supported is
judged with Holm's correction over everything that was tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation.intervals import LEVEL
from facex_tune.runs.names import trial_label
from facex_tune.search.factor_design import Cell
from facex_tune.search.factor_progress import Progress
from facex_tune.space import Config

if TYPE_CHECKING:
    from facex_tune.runs.store import Run

NOISIER = 0.1  # p value below which a cell's own spread is not taken for chance
Finished = Mapping[tuple[str, int], Mapping[str, float]]


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a single run beyond cell and seed, and its degrees of freedom."""

    sd: float
    df: int


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
        plain data: noise {metric: {sd, df}}, effects [{cell, changed, replaced, knobs_from, failed, metrics {name:
        {effect, interval, p_value, supported}}}] and factorial {levels, corners, terms}. Effects are changed minus
        reference, in the metric's own units; `replaced` has the reference's values of what was changed.
    """
    whole = {cell.name: cell for cell in cells if all((cell.name, seed) in finished for seed in range(n_seeds))}
    names = [objective, *(f"f1.{emotion}" for emotion in EMOTIONS)]
    asked = {name: _table(list(whole), finished, n_seeds, name) for name in names}
    tables = {name: table for name, table in asked.items() if table is not None}
    noise = {name: noise_of(table) for name, table in tables.items()}
    reference = next((cell.config for cell in cells if not cell.changed), {})
    effects = [
        _effect(cell, reference, list(whole), tables, noise, failed)
        for cell in cells
        if cell.changed and not _is_corner(cell)
    ]
    _judge(effects, objective)
    return {
        "noise": {name: {"sd": each.sd, "df": each.df} for name, each in noise.items() if each is not None},
        "effects": effects,
        "factorial": factorial(cells, list(whole), tables.get(objective), noise.get(objective)),
    }


def _is_corner(cell: Cell) -> bool:
    return len(cell.changed) > 1


def _table(rows: list[str], finished: Finished, n_seeds: int, name: str) -> NDArray[np.float64] | None:
    """Y of one metric; None where a run has not measured it."""
    values = [[finished[row, seed].get(name) for seed in range(n_seeds)] for row in rows]
    if not rows or any(value is None for row in values for value in row):
        return None
    return np.array(values, np.float64)


def noise_of(table: NDArray[np.float64]) -> Noise | None:
    """The residual standard deviation; None with one seed or one cell, which have no residual."""
    n_cells, n_seeds = table.shape
    df = (n_cells - 1) * (n_seeds - 1)
    if df == 0:
        return None
    residual = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    return Noise(float(np.sqrt((residual**2).sum() / df)), df)


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
    spread = (max(2 * noise.sd**2, own_variance) / len(gap_S)) ** 0.5
    is_noisier = _is_noisier(own_variance, len(gap_S) - 1, noise)
    return _with_interval(effect, spread, len(gap_S) - 1 if is_noisier else noise.df)


def _is_noisier(own_variance: float, own_df: int, noise: Noise) -> bool:
    """Whether paired differences spread wider than the noise of all cells lets expect (an F test)."""
    from scipy import special

    if not own_df or not noise.sd:
        return False
    return float(special.fdtrc(own_df, noise.df, own_variance / (2 * noise.sd**2))) < NOISIER


def _with_interval(effect: float, spread: float, df: int) -> dict[str, Any]:
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


def holm(p_values: Sequence[float]) -> list[bool]:
    """Which hypotheses are rejected at 5 % together (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    rejected = [False] * len(p_values)
    for rank, number in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[number] > (1 - LEVEL) / (len(p_values) - rank):
            break
        rejected[int(number)] = True
    return rejected


def factorial(
    cells: Sequence[Cell], rows: list[str], table: NDArray[np.float64] | None, noise: Noise | None
) -> dict[str, Any] | None:
    """Main effects and interactions of the factorial; None until each of its corners is measured.

    A main effect averages over the other families' levels. An interaction of two is how much more one swap brings with
    the other swapped too (difference of differences), averaged over the third.
    """
    corners = [cell for cell in cells if cell.factorial]
    if table is None or not corners or any(cell.name not in rows for cell in corners):
        return None
    families = [family for family in max(corners, key=lambda cell: len(cell.changed)).changed]
    signs = {family: np.array([1.0 if family in cell.changed else -1.0 for cell in corners]) for family in families}
    means_C = np.array([table[rows.index(cell.name)].mean() for cell in corners])
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
