"""Configurations as vectors: a column for each knob that varies, one for each option of a choice without an order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facex_tune.space import Choice, Config, Float, Int, Knob, Space, Value, is_fixed

IDLE = 0.5  # where a knob does not apply: in the middle, as far from the one end as from the other
ONE_HOT = math.sqrt(0.5)  # so that two options are 1 apart, as the ends of a range are


class Encoding:
    """A space's vectors. Features F lie in [0, 1]: of a range, the share of it (of its logarithm where it says so)."""

    def __init__(self, space: Space) -> None:
        self._knobs = [(name, knob) for name, knob in space.knobs() if not is_fixed(knob)]

    def of(self, configs: Sequence[Config]) -> NDArray[np.float64]:
        """features_NF of N configurations."""
        return np.array([[share for name, knob in self._knobs for share in _shares(knob, config, name)]
                         for config in configs], dtype=np.float64)


def _shares(knob: Knob, config: Config, name: str) -> list[float]:
    if not isinstance(knob, Choice):
        return [_share(knob, config[name]) if name in config else IDLE]
    if _is_ordered(knob):
        ranks = sorted(float(option) for option in knob.options)  # type: ignore[arg-type]
        return [ranks.index(float(config[name])) / (len(ranks) - 1) if name in config else IDLE]  # type: ignore[arg-type]
    if name not in config:
        return [IDLE * ONE_HOT] * len(knob.options)
    return [ONE_HOT * (config[name] == option) for option in knob.options]


def _is_ordered(knob: Choice) -> bool:
    return all(isinstance(option, int | float) and not isinstance(option, bool) for option in knob.options)


def _share(knob: Float | Int, value: Value) -> float:
    low, high, at = float(knob.low), float(knob.high), float(value or 0)
    if knob.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)
