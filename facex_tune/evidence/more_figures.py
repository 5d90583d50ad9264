"""The report's further plots: reliability, effects of factors, versatility, disagreement, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from facex_tune.evidence.figures import ACCENT, FAINT, HEIGHT_IN, INK, SEED_COLOURS, WIDTH_IN, new_axes
from facex_tune.evidence.findings import metric_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS_SHOWN = 30


def reliability(before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]) -> Figure:
    """Accuracy against confidence of one model in bins of equal mass, as it is and after temperature."""
    figure, axes = new_axes(WIDTH_IN, 3.6)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8)
    for points, colour, label in ((before, ACCENT, "as trained"), (after, SEED_COLOURS[1], "after temperature")):
        xs, ys = ([point[key] for point in points] for key in ("confidence", "accuracy"))
        axes.plot(xs, ys, marker="o", markersize=3.5, color=colour, linewidth=1.2, label=label)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left")
    return figure


def effects(rows: Sequence[Mapping[str, Any]], objective: str) -> Figure:
    """Effect of each change with its interval; what is supported is drawn strong. The largest 30."""
    shown = sorted(rows, key=lambda row: -abs(row["metrics"][objective]["effect"]))[:ROWS_SHOWN][::-1]
    figure, axes = new_axes(WIDTH_IN, max(HEIGHT_IN, 0.9 + 0.2 * len(shown)))
    axes.axvline(0, color=FAINT, linewidth=0.8)
    for place, row in enumerate(shown):
        said = row["metrics"][objective]
        colour = ACCENT if said["supported"] else "#8a8f96"
        if said["interval"]:
            axes.plot(said["interval"], [place, place], color=colour, linewidth=1.4)
        axes.plot([said["effect"]], [place], marker="o", markersize=4, color=colour)
    axes.set_yticks(range(len(shown)), [str(row["cell"]) for row in shown])
    axes.set(xlabel=f"change of validation {metric_words(objective)}")
    return figure


def versatility(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Worst-class recall against accuracy of finished trials, coloured by architecture."""
    figure, axes = new_axes()
    names = list(dict.fromkeys(str(point["model"]) for point in points))
    for number, name in enumerate(names):
        own = [point for point in points if str(point["model"]) == name]
        xs, ys = ([point[key] for point in own] for key in ("accuracy", "worst_class_recall"))
        axes.scatter(xs, ys, s=16, color=SEED_COLOURS[number % len(SEED_COLOURS)], label=name)
    axes.set(xlabel="validation accuracy", ylabel="worst-class recall")
    axes.legend()
    return figure


def disagreement(bands: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy by the share of annotators who gave the most frequent answer."""
    figure, axes = new_axes(WIDTH_IN, 2.6)
    for place, band in enumerate(bands):
        axes.bar(place, band["accuracy"], 0.6, color="#7fa6cd")
        if band["interval"]:
            axes.plot([place, place], band["interval"], color=INK, linewidth=1.2)
    labels = [f"{band['from']:.0%} to {band['to']:.0%}\n(n = {band['n']:,})" for band in bands]
    axes.set_xticks(range(len(bands)), labels)
    axes.set(xlabel="annotators who agreed", ylabel="accuracy", ylim=(0, 1))
    return figure


def cost(points: Sequence[Mapping[str, Any]], objective: str) -> Figure:
    """Value against seconds an epoch; the front of what none beats at its cost is joined."""
    figure, axes = new_axes()
    xs, ys = ([point[key] for point in points] for key in ("seconds_per_epoch", "value"))
    axes.scatter(xs, ys, s=14, color=FAINT)
    front = [point for point in points if point["best_at_its_cost"]]
    xs, ys = ([point[key] for point in front] for key in ("seconds_per_epoch", "value"))
    axes.plot(xs, ys, marker="o", markersize=4, color=ACCENT, linewidth=1.2, label="none is cheaper and better")
    axes.set(xlabel="seconds an epoch", ylabel=f"validation {metric_words(objective)}")
    axes.legend()
    return figure
