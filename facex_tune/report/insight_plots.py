"""The report's further plots: reliability, effects of factors, versatility, disagreement, cost."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from facex_tune.evaluation.plots import HEIGHT_IN, INK, WIDTH_IN, new_axes
from facex_tune.report.figures import ACCENT, FAINT, SEED_COLOURS
from facex_tune.report.wording import metric_words

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
    shown = _largest(rows, objective)[::-1]  # the first row at the top
    figure, axes = new_axes(WIDTH_IN, max(HEIGHT_IN, 0.9 + 0.2 * len(shown)))
    axes.axvline(0, color=FAINT, linewidth=0.8)
    for place, row in enumerate(shown):
        said = row["metrics"][objective]
        colour = ACCENT if said["supported"] else "#8a8f96"
        if said["interval"]:
            axes.plot(said["interval"], [place, place], color=colour, linewidth=1.4)
        axes.plot([said["effect"]], [place], marker="o", markersize=4, color=colour)
    axes.set_yticks(range(len(shown)), [str(row["cell"]) for row in shown])
    axes.set(xlabel=f"change of validation {metric_words(objective)}", ylim=(-0.6, len(shown) - 0.4))
    return figure


def _largest(rows: Sequence[Mapping[str, Any]], objective: str) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: -abs(row["metrics"][objective]["effect"]))[:ROWS_SHOWN]


def emotion_effects(rows: Sequence[Mapping[str, Any]], emotions: Sequence[str], objective: str) -> Figure:
    """Effect of each change on each emotion's F1 as colours; its hundredths where it is supported. Rows and their order
    are those of `effects`.
    """
    shown = _largest(rows, objective)
    effect_RE = np.array([[row["metrics"][f"f1.{emotion}"]["effect"] for emotion in emotions] for row in shown])
    reach = max(float(np.abs(effect_RE).max()), 1e-9)
    figure, axes = new_axes(WIDTH_IN, max(HEIGHT_IN, 1.5 + 0.2 * len(shown)))
    image = axes.imshow(effect_RE, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
    for place, row in enumerate(shown):
        for column, emotion in enumerate(emotions):
            said = row["metrics"][f"f1.{emotion}"]
            if said["supported"]:
                ink = "white" if abs(said["effect"]) > 0.6 * reach else INK
                axes.text(column, place, f"{100 * said['effect']:+.0f}", ha="center", va="center", color=ink)
    axes.set_yticks(range(len(shown)), [str(row["cell"]) for row in shown])
    axes.set_xticks(range(len(emotions)), list(emotions), rotation=40, ha="right", rotation_mode="anchor")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, location="top", label="change of validation F1", shrink=0.9, aspect=30)
    return figure


def generalization(found: Mapping[str, Any]) -> Figure:
    """Recall of each emotion (column) on each protocol (row) as colours, in per cent, with n below; the study's own set
    stands on top, with a line below it. Nothing where a set has no face of the emotion.
    """
    rows, emotions = found["rows"], found["emotions"]
    recall_PE = np.array([[row["recall"].get(each, {"recall": np.nan})["recall"] for each in emotions] for row in rows])
    figure, axes = new_axes(1.2 + 0.75 * len(emotions), 1.4 + 0.42 * len(rows))
    image = axes.imshow(recall_PE, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for place, row in enumerate(rows):
        for column, emotion in enumerate(emotions):
            if cell := row["recall"].get(emotion):
                ink = "white" if cell["recall"] > 0.55 else INK
                axes.text(column, place - 0.12, f"{100 * cell['recall']:.0f}", ha="center", va="center", color=ink)
                small: dict[str, Any] = {"ha": "center", "va": "center", "color": ink, "fontsize": 6}
                axes.text(column, place + 0.28, f"n = {cell['n']:,}", **small)
    if 0 < (own := sum(row["same_data"] for row in rows)) < len(rows):
        axes.axhline(own - 0.5, color=INK, linewidth=1)
    axes.set_yticks(range(len(rows)), [str(row["protocol"]) for row in rows])
    axes.set_xticks(range(len(emotions)), list(emotions), rotation=40, ha="right", rotation_mode="anchor")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, location="top", label="recall, %", shrink=0.9, aspect=30)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100"])
    return figure


def factorial(corners: Sequence[Mapping[str, Any]], levels: Mapping[str, Sequence[Any]], objective: str) -> Figure:
    """Every corner of the factorial: the first family along x, a line for each choice of the others; lines that are not
    parallel are an interaction. Dots are seeds.
    """
    first, *others = levels
    figure, axes = new_axes(WIDTH_IN, HEIGHT_IN + 0.6)
    for number, chosen in enumerate(itertools.product(*(levels[family] for family in others))):
        own = [
            next(
                corner
                for corner in corners
                if corner["parts"][first] == level
                and all(corner["parts"][family] == part for family, part in zip(others, chosen, strict=True))
            )
            for level in levels[first]
        ]
        colour = SEED_COLOURS[number % len(SEED_COLOURS)]
        line = "-" if chosen[-1] == levels[others[-1]][0] else "--"
        label = ", ".join(str(part) for part in chosen)
        axes.plot(range(len(own)), [corner["value"] for corner in own], color=colour, linestyle=line, label=label)
        for place, corner in enumerate(own):
            axes.scatter([place] * len(corner["per_seed"]), corner["per_seed"], s=10, color=colour, alpha=0.6)
    axes.set_xticks(range(len(levels[first])), [f"{first} {level}" for level in levels[first]])
    axes.set(ylabel=f"validation {metric_words(objective)}", xlim=(-0.3, len(levels[first]) - 0.7))
    place_below: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.1)}
    axes.legend(title=" × ".join(others), title_fontsize=8, ncols=2, **place_below)
    return figure


def versatility(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Worst-class recall against accuracy of trials, coloured by architecture."""
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
