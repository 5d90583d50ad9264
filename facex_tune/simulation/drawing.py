"""A picture of simulated searches: what would be retrained, against the time on the wall."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facex_tune.errors import InputError
from facex_tune.evaluation import plots
from facex_tune.report import figures
from facex_tune.report.wording import metric_words
from facex_tune.storage import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMS = (".png", ".svg", ".pdf")
_STYLES = ("-", "--", ":", "-.")


def check(path: Path) -> Path:
    """A file that a picture can be written to.

    Raises:
        InputError: matplotlib would not know its kind.
    """
    if path.suffix not in FORMS:
        raise InputError(f"--out {path}: a picture is a {', '.join(FORMS[:-1])} or {FORMS[-1]} file")
    return path


def draw(document: Mapping[str, Any], path: Path) -> None:
    """Draws what `simulate` found, one line an arm."""
    with plots.style():
        figure = _drawn(document)
        sink = io.BytesIO()
        figure.savefig(sink, format=path.suffix[1:], dpi=plots.PNG_DPI)
    files.write_bytes(path, sink.getvalue())


def _drawn(document: Mapping[str, Any]) -> Figure:
    figure, axes = plots.new_axes(6.4, 3.8)
    unit_s, unit = _unit(max(arm["course"][-1][0] for arm in document["arms"]))
    colours = figures.SEED_COLOURS
    for number, arm in enumerate(document["arms"]):
        times = [at / unit_s for at, _ in arm["course"]]
        axes.step(
            times,
            [value for _, value in arm["course"]],
            where="post",
            color=colours[number % len(colours)],
            linestyle=_STYLES[number // len(colours) % len(_STYLES)],
            label=name(arm),
        )
    objective = metric_words(document["objective"])
    axes.set(xlabel=f"simulated time, {unit}", ylabel=f"{objective} of what would be retrained")
    axes.legend(loc="lower right")
    return figure


def _unit(longest_s: float) -> tuple[float, str]:
    return (3600.0, "hours") if longest_s >= 2 * 3600 else (60.0, "minutes")


def name(arm: Mapping[str, Any]) -> str:
    """An arm in words."""
    reduction = "" if arm["reduction"] is None else f"/{arm['reduction']}"
    workers = f"{arm['workers']:,} worker{'s' * (arm['workers'] != 1)}"
    return f"{arm['sampler']}, {arm['scheduler']}{reduction}, {workers}"
