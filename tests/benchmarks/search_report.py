"""The search benchmark's table and plot."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.search_simulation import RANDOM_LONGER, Outcome
from tests.benchmarks.search_tasks import early_rank, failing_share, find

DRAWS = 10_000
Cell = dict[str, dict[int, Outcome]]  # arm -> seed -> outcome


def table(outcomes: Sequence[Outcome]) -> tuple[str, bool]:
    """The table as text, and whether every claim that could be tested holds."""
    cells: dict[tuple[str, int], Cell] = {}
    for one in outcomes:
        cells.setdefault((one.task, one.workers), {}).setdefault(one.arm, {})[one.seed] = one
    lines = [_heading()]
    found: dict[tuple[str, int], NDArray[np.float64]] = {}
    ratios: dict[int, list[float]] = {}
    for (task, workers), cell in cells.items():
        seeds = sorted(set.intersection(*(set(by_seed) for by_seed in cell.values())))
        if len(seeds) < 2 or not {"ours", "stock", "random"} <= set(cell):
            continue
        found[task, workers] = regrets(cell, "stock", seeds) - regrets(cell, "ours", seeds)
        ratios.setdefault(workers, []).extend(own := [ratio(cell["ours"][s], cell["random"][s]) for s in seeds])
        lines.append(_row(task, workers, cell, seeds, found[task, workers], statistics.median(own)))
    verdicts, holds = _claims(found, ratios)
    for name in dict.fromkeys(task for task, _ in found):
        searched = find(name)
        ranks = ", ".join(f"{early_rank(searched, epoch):.2f} after {epoch}" for epoch in (1, 3))
        failing = f"{100 * failing_share(searched):.0f} % fails"
        verdicts.append(f"{name}: {failing}; rank correlation with the final value {ranks}")
    return "\n".join([*lines, "", *_variants(cells), *verdicts]), holds


def regrets(cell: Cell, arm: str, seeds: Sequence[int]) -> NDArray[np.float64]:
    """Ideal minus found, at the end of our time, a value a seed."""
    task = find(next(iter(cell[arm].values())).task)
    end = cell["ours"][seeds[0]].length_s
    return np.array([task.ideal - cell[arm][seed].value_at(end, task.chance) for seed in seeds])


def ratio(ours: Outcome, random: Outcome) -> float:
    """Random's time over ours until a configuration as good as our last is known for good; at most RANDOM_LONGER."""
    value = ours.steps[-1][1]
    times = random.first_time(value) / max(ours.first_time(value), 1e-9)
    return min(times, RANDOM_LONGER)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 %, of the mean, by bootstrap over seeds."""
    means = np.random.default_rng(0).choice(values, (DRAWS, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def p_behind(values: NDArray[np.float64]) -> float:
    """One-sided, by random signs: how often chance alone puts ours as far behind, or farther. Ties say nothing."""
    values = values[values != 0]
    if not len(values):
        return 1.0
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (DRAWS, len(values)))
    return float(((signs * values).mean(axis=1) <= values.mean() + 1e-15).mean())


def _heading() -> str:
    names = ("ours", "stock", "random", "r.+asha")
    regret = " ".join(f"{name:>8}" for name in names)
    return (
        "regret at the end, points of accuracy, mean over seeds (ideal minus what the chosen configuration comes to)\n"
        f"{'task':<14}{'workers':>8}{'seeds':>6} {regret}  {'stock minus ours [95 %]':>26}{'random/ours':>12}"
        f"{'trials':>8}{'failed o/s %':>14}"
    )


def _row(
    task: str, workers: int, cell: Cell, seeds: Sequence[int], better: NDArray[np.float64], times: float
) -> str:
    shown = [
        f"{100 * regrets(cell, arm, seeds).mean():8.2f}" if arm in cell else f"{'':8}"
        for arm in ("ours", "stock", "random", "random-asha")
    ]
    low, high = interval(100 * better)
    trials = statistics.median(cell["ours"][seed].trials for seed in seeds)
    failed = "/".join(
        f"{100 * sum(cell[arm][s].failed for s in seeds) / sum(cell[arm][s].trials for s in seeds):.0f}"
        for arm in ("ours", "stock")
    )
    difference = f"{100 * better.mean():+.2f} [{low:+.2f}, {high:+.2f}]"
    return (
        f"{task:<14}{workers:>8}{len(seeds):>6} {' '.join(shown)}  {difference:>26}"
        f"{_times(times):>12}{trials:>8.0f}{failed:>14}"
    )


def _times(value: float) -> str:
    return f">={value:.0f}x" if value >= RANDOM_LONGER else f"{value:.1f}x"


def _claims(
    found: dict[tuple[str, int], NDArray[np.float64]], ratios: dict[int, list[float]]
) -> tuple[list[str], bool]:
    lines, holds = [], True
    ordered = sorted((p_behind(values), cell) for cell, values in found.items())
    behind = []
    for index, (p, cell) in enumerate(ordered):
        if p > 0.05 / (len(ordered) - index):
            break
        behind.append(f"{cell[0]} at {cell[1]}")
    lines.append(f"1. behind stock by more than noise (Holm, 5 %): {', '.join(behind) or 'nowhere'}")
    holds &= not behind
    failing = [values for (task, _), values in found.items() if failing_share(find(task)) >= 0.1]
    if failing:
        together = 100 * np.concatenate(failing)
        low, high = interval(together)
        holds &= low > 0
        lines.append(
            "2. where a tenth or more fails, stock minus ours: "
            f"{together.mean():+.2f} [{low:+.2f}, {high:+.2f}] points: "
            f"{'ahead' if low > 0 else 'NOT ahead'}"
        )
    for workers in (w for w in (1, 8) if w in ratios):
        median = statistics.median(ratios[workers])
        holds &= median >= 4
        lines.append(
            f"3. random's time over ours at {workers} workers: median {_times(median)} "
            f"({'at least' if median >= 4 else 'LESS than'} 4; n = {len(ratios[workers])})"
        )
    return lines, bool(holds)


def _variants(cells: dict[tuple[str, int], Cell]) -> list[str]:
    """Other answers to what is learned from a stopped trial, over all cells that have them."""
    names = sorted({arm for cell in cells.values() for arm in cell if arm.startswith("ours-")})
    lines = []
    for name in names:
        with_both = [cell for cell in cells.values() if name in cell and "ours" in cell]
        values = np.concatenate(
            [
                100 * (regrets(cell, name, seeds) - regrets(cell, "ours", seeds))
                for cell in with_both
                if (seeds := sorted(set(cell[name]) & set(cell["ours"])))
            ]
        )
        low, high = interval(values)
        lines.append(f"{name} minus ours: {values.mean():+.2f} [{low:+.2f}, {high:+.2f}] points (n = {len(values)})")
    return [*lines, ""] if lines else []


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Regret over simulated time, a panel for each task and number of workers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks, workers = list(dict.fromkeys(o.task for o in outcomes)), sorted({o.workers for o in outcomes})
    figure, axes = pyplot.subplots(
        len(tasks), len(workers), figsize=(4 * len(workers), 2.6 * len(tasks)), squeeze=False, layout="constrained"
    )
    colours = {"ours": "C0", "stock": "C1", "random": "0.5", "random-asha": "C2"}
    for row, task in enumerate(tasks):
        for column, count in enumerate(workers):
            panel = axes[row][column]
            for arm, colour in colours.items():
                drawn = [o for o in outcomes if (o.task, o.workers, o.arm) == (task, count, arm)]
                if drawn:
                    _draw(panel, drawn, colour, arm)
            panel.set(title=f"{task}, {count} workers", yscale="log", xscale="log")
    axes[0][0].legend(fontsize=7)
    figure.supxlabel("simulated time, in lengths of our search")
    figure.supylabel("regret, points of accuracy: median and quartiles over seeds")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw(panel: object, drawn: Sequence[Outcome], colour: str, label: str) -> None:
    task = find(drawn[0].task)
    longest = RANDOM_LONGER if label == "random" else 1.0
    at = np.geomspace(0.02, longest, 80)
    length = drawn[0].length_s / longest
    regret = np.array(
        [[max(100 * (task.ideal - o.value_at(t * length, task.chance)), 0.01) for t in at] for o in drawn]
    )
    low, middle, high = np.quantile(regret, [0.25, 0.5, 0.75], axis=0)
    panel.plot(at, middle, color=colour, label=label)  # type: ignore[attr-defined]
    panel.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)  # type: ignore[attr-defined]
