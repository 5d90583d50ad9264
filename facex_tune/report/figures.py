"""The report's plots: matplotlib figures on white, small enough to be read on a phone, and their files."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.evaluation.plots import new_axes
from facex_tune.report.wording import metric_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAINT, ACCENT = "#b8bec6", "#1f5a96"
SEED_COLOURS = ("#1f5a96", "#b3541e", "#3c7d3c", "#7a4a93", "#8a6d1d")


def _whole_numbers(axes: Axes) -> None:
    """Trials and epochs are counted: no ticks between them."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def search_progress(values: Mapping[int, float], best: Mapping[int, float], objective: str) -> Figure:
    """Each trial's last value by its number, and the best so far of those that compare."""
    figure, axes = new_axes()
    axes.scatter(list(values), list(values.values()), s=12, color=FAINT, label="a trial's last value")
    axes.step(list(best), list(best.values()), where="post", color=ACCENT, label="best so far")
    axes.set(xlabel="trial", ylabel=f"validation {metric_words(objective)}")
    _whole_numbers(axes)
    axes.legend()
    return figure


def learning_curves(curves: Mapping[str, Mapping[int, float]], winner: str, objective: str) -> Figure:
    """Validation value against epoch: all trials faint, the winner bold."""
    figure, axes = new_axes()
    others = [curve for label, curve in curves.items() if label != winner]
    for marker in ("", "."):  # a single epoch draws no line
        epochs, values = _joined([curve for curve in others if (len(curve) == 1) == bool(marker)])
        axes.plot(epochs, values, marker=marker, color=FAINT, linewidth=0.8)
    if winner in curves:
        own = curves[winner]
        bold: dict[str, Any] = {"linewidth": 2.2, "zorder": 3, "label": f"{winner} (winner)"}
        axes.plot(list(own), list(own.values()), marker="." if len(own) == 1 else "", color=ACCENT, **bold)
        axes.legend()
    axes.set(xlabel="epoch", ylabel=f"validation {metric_words(objective)}")
    _whole_numbers(axes)
    return figure


def _joined(curves: Sequence[Mapping[int, float]]) -> tuple[list[float], list[float]]:
    """Curves as one with gaps, since each line of its own takes a while to make and to draw."""
    epochs: list[float] = []
    values: list[float] = []
    for curve in curves:
        epochs += [*curve, math.nan]
        values += [*curve.values(), math.nan]
    return epochs, values


def final_curves(curves: Mapping[str, Mapping[int, float]], objective: str) -> Figure:
    """Validation value against epoch of every retrained model."""
    figure, axes = new_axes()
    for number, (label, curve) in enumerate(curves.items()):
        colour = SEED_COLOURS[number % len(SEED_COLOURS)]
        style = ("-", "--", ":")[number // len(SEED_COLOURS) % 3]
        axes.plot(list(curve), list(curve.values()), color=colour, linestyle=style, linewidth=1.4, label=label)
    axes.set(xlabel="epoch", ylabel=f"validation {metric_words(objective)}")
    _whole_numbers(axes)
    if len(curves) <= 3 * len(SEED_COLOURS):
        axes.legend(ncols=1 + (len(curves) > 6))
    return figure


def class_histogram(counts: Mapping[str, Mapping[str, int]], emotions: Sequence[str]) -> Figure:
    """Each split's share of every emotion, in percent; or each set's."""
    figure, axes = new_axes()
    names = [emotion for emotion in emotions if any(emotion in per for per in counts.values())]
    width = 0.8 / max(len(counts), 1)
    shades = (ACCENT, "#7fa6cd", "#c9b27c", "#8a8f96")
    for number, (split, per_emotion) in enumerate(counts.items()):
        total = sum(per_emotion.values())
        heights = [100 * per_emotion.get(emotion, 0) / total for emotion in names]
        places = np.arange(len(names)) + (number - (len(counts) - 1) / 2) * width
        axes.bar(places, heights, width, color=shades[number % 4], label=f"{split.replace('_', ' ')} (n = {total:,})")
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set(ylabel="share of its faces, %")
    axes.legend()
    return figure


def data_uri(svg: bytes) -> str:
    """A figure for a page that needs no file beside it."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def face_png(image_HW: NDArray[np.uint8]) -> str:
    """A face, grey or in colour (H x W x 3), as a small PNG data URI. Written here: for so few pixels an image library
    takes longer to begin than to pack them.
    """
    height, width = image_HW.shape[:2]
    rows_HB = image_HW.reshape(height, -1)
    packed = min((zlib.compress(_lines(kind, rows_HB), 9) for kind in (0, 2)), key=len)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if image_HW.ndim == 3 else 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")
    said = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + said).decode()


def _lines(kind: int, rows_HB: NDArray[np.uint8]) -> bytes:
    """Rows of bytes as PNG packs them: as they are (0), or each as what differs from the row above (2)."""
    lines = np.empty((len(rows_HB), rows_HB.shape[1] + 1), np.uint8)
    lines[:, 0], lines[:, 1:] = kind, rows_HB
    if kind == 2:
        lines[1:, 1:] -= rows_HB[:-1]
    return lines.tobytes()
