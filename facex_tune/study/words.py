"""Durations, counts and knobs as text, alike in the terminal, in the report and in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facex_tune.space import FAMILIES


def clock(seconds: float) -> str:
    """A duration: ``42s``, ``3m07s``, ``2h05m``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def plural(n: int, word: str) -> str:
    """A count with its noun: ``1 seed``, ``2 seeds``, ``1,200 faces``."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def measured_text(value: float) -> str:
    """A score with three decimals, at n = 3,589 the third is within the noise already; a cost short: ``1.23M``."""
    for least, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= least:
            return f"{value / least:.3g}{unit}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"


def value_text(value: Any) -> str:
    """A knob's value, short, as a study writes it: ``0.031``, ``1,200``, ``true``."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    return str(value)


def varying(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The knobs that tell configurations apart: parts, then training knobs, then the parts' own.

    A part's own knob counts where it differs among the configurations that chose the part; see also `not_shared`.
    """
    names = dict.fromkeys(name for config in configs for name in config)
    differing = [name for name in names if len({repr(config[name]) for config in configs if name in config}) > 1]
    return sorted(differing, key=lambda name: (name not in FAMILIES, not name.startswith("train.")))


def not_shared(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The knobs that do not have one value in all configurations, one that has no such knob included: parts first, the
    others in the order of the space.
    """
    names = dict.fromkeys(name for config in configs for name in config)
    differing = [name for name in names if len({repr(config.get(name)) for config in configs}) > 1]
    return sorted(differing, key=lambda name: (name not in FAMILIES, list(names).index(name)))
