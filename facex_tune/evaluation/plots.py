"""What every plot here looks like, and the confusion matrix, which reports and other tools show alike."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#222222"
STYLE: Any = {
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans"],  # the first of the default, alone: the others are looked for at every text
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "figure.facecolor": "white",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "path",  # the same letters on every machine
    "svg.hashsalt": "facex_tune",  # the same file from the same numbers
}
WIDTH_IN, HEIGHT_IN = 4.8, 3.0
PNG_DPI = 200


def style() -> AbstractContextManager[None]:
    """The settings that every figure here is drawn and saved under."""
    import matplotlib as mpl

    return mpl.rc_context(STYLE)


def new_axes(width: float = WIDTH_IN, height: float = HEIGHT_IN) -> tuple[Figure, Axes]:
    """A figure that no global state knows of, so that nothing is left open."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def confusion(counts_KK: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Row-normalised confusion matrix in percent.

    Rows are the true classes that have faces, columns those and whatever else was answered.
    """
    support_K, answered_K = counts_KK.sum(axis=1), counts_KK.sum(axis=0)
    rows, columns = np.flatnonzero(support_K).tolist(), np.flatnonzero(support_K + answered_K).tolist()
    share = counts_KK[np.ix_(rows, columns)] / support_K[rows][:, None]
    figure, axes = new_axes(WIDTH_IN, 4.1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(columns)), [classes[k] for k in columns], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [classes[k] for k in rows])
    axes.set(xlabel="predicted", ylabel="true")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for (row, column), value in np.ndenumerate(share):
        ink = "white" if value > 0.55 else INK
        axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=ink)
    return figure
