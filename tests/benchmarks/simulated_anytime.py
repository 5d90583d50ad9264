"""Any-time curves of `simulated_search.py`: regret over the time of a search, as CSV and as a picture."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from facex_tune.evaluation import intervals, plots
from facex_tune.report import figures

SHARES = tuple(step / 20 for step in range(1, 21))  # of a search's time
COLUMNS = ("task", "workers", "arm", "n", "share_of_time", "regret_percent", "low", "high")
PANEL_INCHES = 3.2


class Judged(Protocol):
    """The searches of one task, as `simulated_search` judges them."""

    task: Any
    arms: list[str]
    workers: list[int]

    def seeds(self, arm: str, workers: int) -> list[int]:
        """The seeds that are compared."""

    def regret(self, key: tuple[str, int, int], share: float) -> float:
        """In percent, at a share of the time."""


def rows(judged: Sequence[Judged]) -> list[tuple[Any, ...]]:
    """A row for each task, number of workers, arm and share of the time: the mean over the seeds with its interval."""
    found: list[tuple[Any, ...]] = []
    for one in judged:
        for workers in one.workers:
            for arm in one.arms:
                seeds = one.seeds(arm, workers)
                for share in SHARES if seeds else ():
                    values = [one.regret((arm, workers, seed), share) for seed in seeds]
                    low, high = intervals.over_seeds(values) or (None, None)
                    found.append((one.task.name, workers, arm, len(seeds), share, statistics.fmean(values), low, high))
    return found


def write(judged: Sequence[Judged], folder: Path) -> None:
    """Writes `anytime.csv` and, where there is something to draw, `anytime.png`."""
    told = rows(judged)
    with (folder / "anytime.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(told)
    if told:
        _draw(told, folder / "anytime.png")


def _draw(told: Sequence[tuple[Any, ...]], path: Path) -> None:
    """A panel for each task and number of workers; a line an arm, the same colour in all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(row[0] for row in told))
    workers = sorted({row[1] for row in told})
    arms = list(dict.fromkeys(row[2] for row in told))
    with plots.style():
        figure = Figure(figsize=(PANEL_INCHES * len(workers) + 1.8, PANEL_INCHES * len(tasks)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(tasks), len(workers), squeeze=False, sharex=True)
        for down, task in enumerate(tasks):
            for across, number in enumerate(workers):
                panel = axes[down][across]
                for place, arm in enumerate(arms):
                    own = [row for row in told if row[:3] == (task, number, arm)]
                    _line(panel, own, arm, place)
                panel.set_title(f"{task}, {number} worker{'s' * (number != 1)}")
                panel.set_xlabel("share of the time")
                panel.set_ylabel("regret, %")
        # of the fullest panel: an arm may be missing in others
        most = max((panel for line in axes for panel in line), key=lambda each: len(each.get_lines()))
        figure.legend(*most.get_legend_handles_labels(), loc="outside right upper")
        figure.savefig(path, dpi=plots.PNG_DPI)


def _line(panel: Any, rows: Sequence[tuple[Any, ...]], arm: str, place: int) -> None:
    if not rows:
        return
    colours = figures.SEED_COLOURS
    style = ("-", "--", ":", "-.")[place // len(colours) % 4]
    shares, means = [row[4] for row in rows], [row[5] for row in rows]
    colour = colours[place % len(colours)]
    panel.plot(shares, means, color=colour, linestyle=style, label=arm)
    if rows[0][6] is not None:
        panel.fill_between(shares, [row[6] for row in rows], [row[7] for row in rows], color=colour, alpha=0.12, lw=0)
