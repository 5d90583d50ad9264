"""The design of a factor study: the winner, the winner with one thing changed at a time, and a small factorial of
architecture × augmentation × balancing. Pure: configurations in, configurations out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from facex_tune.runs.history import FINISHED, History
from facex_tune.space import FAMILIES, Choice, Config, Float, Int, Knob, Space, Value, is_active, knobs_of
from facex_tune.study import Study

ENDS = (0.1, 0.9)  # of a numeric knob's range, where it is tried
_NEAR = 0.1  # of the range: closer to the winner's value than this, an end is no change
_ROUNDED = 0.01  # of the range: how far rounding may move a value that is tried
_DIGITS = range(3, 18)  # significant ones of a value that is tried; the last is exact


@dataclass(frozen=True)
class Cell:
    """One configuration of the study.

    Attributes:
        name: "reference", "model=vgg", "train.lr=0.1", or "model=vgg+augment=none"; names its folder too.
        changed: knob -> what it was changed to; empty for the reference.
        knobs_from: where a swapped part's own knobs come from: a trial, or "defaults".
        factorial: whether it belongs to the factorial.
    """

    name: str
    config: Config
    changed: dict[str, Value]
    knobs_from: dict[str, str]
    factorial: bool = False

    def to_data(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Cell:
        return cls(**data)


def design(study: Study, history: History, winner: Config) -> list[Cell]:
    """Lists every cell: the reference, the part swaps, the factorial's other corners, the knobs.

    Args:
        winner: the configuration in the middle of everything.
    """
    own = _OwnKnobs(study, history)
    swaps = [cell for family in FAMILIES for cell in _part_swaps(study.space, winner, family, own)]
    chosen = _levels(study, history, swaps)
    corners = list(_corners(winner, chosen, own, study.space))
    swaps = [_marked(cell, [level for level in chosen.values()]) for cell in swaps]
    reference = Cell("reference", winner, {}, {}, factorial=bool(corners))
    return [reference, *swaps, *corners, *_knob_swaps(study.space, winner)]


def _marked(cell: Cell, levels: list[Cell]) -> Cell:
    in_factorial = len(levels) > 1 and cell.name in [level.name for level in levels]
    return Cell(cell.name, cell.config, cell.changed, cell.knobs_from, factorial=in_factorial)


class _OwnKnobs:
    """The knobs that a part is tried with: those of the best finished trial that used it, else its defaults."""

    def __init__(self, study: Study, history: History) -> None:
        finished = [trial for trial in history.leaderboard(study) if trial.state == FINISHED]
        self._best: dict[tuple[str, Value], tuple[str, Config]] = {}
        for trial, family in itertools.product(finished, FAMILIES):
            key = family, trial.config.get(family)
            self._best.setdefault(key, (trial.label, knobs_of(family, trial.config)))

    def swapped(self, space: Space, config: Config, family: str, part: str) -> tuple[Config, str]:
        """Gives `config` with another part of the family, and says where that part's knobs come from."""
        source, knobs = self._best.get((family, part), ("defaults", {}))
        kept = {name: value for name, value in config.items() if not name.startswith(f"{family}.") and name != family}
        said = {**kept, family: part, **{f"{family}.{part}.{name}": value for name, value in knobs.items()}}
        return space.complete(said), source


def _part_swaps(space: Space, winner: Config, family: str, own: _OwnKnobs) -> Iterator[Cell]:
    for part in space.parts[family]:
        if part != winner[family]:
            config, source = own.swapped(space, winner, family, part)
            yield Cell(f"{family}={part}", config, {family: part}, {family: source})


def _levels(study: Study, history: History, swaps: list[Cell]) -> dict[str, Cell]:
    """The second level of each family in the factorial: the alternative that did best in the search."""
    order = [trial.config for trial in history.leaderboard(study) if trial.state == FINISHED]

    def rank(cell: Cell, family: str) -> int:
        return next((n for n, config in enumerate(order) if config.get(family) == cell.changed[family]), len(order))

    found = {}
    for family in FAMILIES:
        own = [cell for cell in swaps if family in cell.changed]
        if own:
            found[family] = min(own, key=lambda cell: rank(cell, family))
    return found


def _corners(winner: Config, levels: Mapping[str, Cell], own: _OwnKnobs, space: Space) -> Iterator[Cell]:
    """Two and three swaps at once; the single ones are there already."""
    for size in (2, 3):
        for families in itertools.combinations(levels, size):
            config, sources = winner, {}
            for family in families:
                part = str(levels[family].changed[family])
                config, sources[family] = own.swapped(space, config, family, part)
            changed = {family: levels[family].changed[family] for family in families}
            yield Cell("+".join(levels[family].name for family in families), config, changed, sources, factorial=True)


def _knob_swaps(space: Space, winner: Config) -> Iterator[Cell]:
    """Each knob that the study varies and the winner uses: every other option, or the two ends of its range."""
    for name, knob in space.knobs():
        if name in FAMILIES or not is_active(name, winner) or name not in winner:
            continue
        for value in alternatives(knob, winner[name]):
            yield Cell(f"{name}={_short(value)}", {**winner, name: value}, {name: value}, {})


def alternatives(knob: Knob, value: Value) -> list[Value]:
    """Chooses the values to try in place of the winner's."""
    if isinstance(knob, Choice):
        options = {repr(option): option for option in knob.options if repr(option) != repr(value)}
        return list(options.values())  # one that a study names twice is tried once
    assert isinstance(value, int | float)
    place = _place(knob, float(value))
    tried = [_at(knob, end) for end in ENDS if abs(end - place) > _NEAR]
    return [each for each in dict.fromkeys(tried) if each != value]


def _place(knob: Float | Int, value: float) -> float:
    """0 at the low end of the range, 1 at the high end."""
    low, high = float(knob.low), float(knob.high)
    if knob.log:
        low, high, value = math.log(low), math.log(high), math.log(max(value, low))
    return (value - low) / (high - low)


def _at(knob: Float | Int, place: float) -> Value:
    low, high = float(knob.low), float(knob.high)
    if knob.log:
        value = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
    else:
        value = low + place * (high - low)
    return round(value) if isinstance(knob, Int) else _rounded(knob, value)


def _rounded(knob: Float, value: float) -> float:
    """To as few digits as keep it in the range and near its place there: an `ema_decay` of 0.99981 is not 1."""
    for digits in _DIGITS:
        rounded = float(f"{value:.{digits}g}")
        if knob.holds(rounded) and abs(_place(knob, rounded) - _place(knob, value)) <= _ROUNDED:
            return rounded
    return min(max(value, knob.low), knob.high)


def _short(value: Value) -> str:
    """A value in a cell's name: three digits where it has no more, else all, so that no two cells share a name."""
    if isinstance(value, float):
        short = f"{value:.3g}"
        return short if float(short) == value else repr(value)
    return str(value)
