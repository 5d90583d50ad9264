"""GPU time, ages, metrics, configurations and short curves as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from facex_tune.space import FAMILIES
from facex_tune.study.words import clock, measured_text, value_text

_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"


def gpu_time(hours: float) -> str:
    """What GPUs were held for: ``2.35 GPU-hours``, ``1m24s of GPU time``."""
    return f"{hours:.2f} GPU-hours" if hours >= 0.1 else f"{clock(3600 * hours)} of GPU time"


def ago(seconds: float) -> str:
    """An age in its largest unit: ``42s``, ``3m``, ``2h``, ``5d``."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:.0f}s"


def metric(value: float | None) -> str:
    """Three decimals, costs short, a dash where nothing was measured."""
    return "-" if value is None or math.isnan(value) else measured_text(value)


def sparkline(values: Sequence[float], low: float, high: float, *, width: int = 16, ascii_only: bool = False) -> str:
    """Bars between `low` and `high`, one a value, the last `width` of them; what is not a number is a blank."""
    bars = _ASCII_BARS if ascii_only else _BARS
    span = (high - low) or 1.0

    def bar(value: float) -> str:
        if not math.isfinite(value):
            return " "
        return bars[min(len(bars) - 1, max(0, int((value - low) / span * len(bars))))]

    return "".join(bar(value) for value in values[-width:])


def compact(config: Mapping[str, Any], knobs: Sequence[str]) -> str:
    """Knobs as short text, the parts first: ``resnet none | lr=0.031 resnet.width=32``."""
    chosen = [str(config[name]) for name in knobs if name in FAMILIES and name in config]
    rest = [f"{_short(name)}={value_text(config[name])}" for name in knobs if name not in FAMILIES and name in config]
    return " ".join([*chosen, *(["|"] if chosen and rest else []), *rest])


def _short(knob: str) -> str:
    """Without the family, which the part's own name or the knob's tells."""
    return knob.partition(".")[2]
