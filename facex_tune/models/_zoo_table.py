"""What became of timm's networks when each was tried once on small grey faces, from `timm_zoo.csv` beside this file.

`tests/benchmarks/timm_zoo.py` makes the table: two epochs of one step, on faces of 32 and 48 pixels, for every name of
`timm.list_models()` up to 60 million parameters, with either stem, each in its own process. Needs neither torch nor
timm.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("timm_zoo.csv")
OK, UNTRIED = "ok", "untried"
LARGEST = 60_000_000  # parameters of what was tried


@dataclass(frozen=True)
class Row:
    """One network of the zoo.

    Attributes:
        name: as timm calls it, without a tag of weights.
        timm: the version of timm that it was tried with.
        parameters: of the network for one channel and seven classes; 0 where it could not be built at all.
        halved, whole: what became of it with `halve_stem` true and false: "ok", "untried" or why it failed.
    """

    name: str
    timm: str
    parameters: int
    halved: str
    whole: str

    def outcome(self, halve_stem: bool) -> str:
        """What became of it with this stem."""
        return self.halved if halve_stem else self.whole


@cache
def rows(path: Path = FILE) -> dict[str, Row]:
    """The table by name; without a file, none."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as lines:
        cells: list[dict[str, Any]] = list(csv.DictReader(lines))
    return {each["name"]: Row(**{**each, "parameters": int(each["parameters"])}) for each in cells}


def failure(name: str, halve_stem: bool, version: str) -> str:
    """Why the network failed with this stem when this version of timm was tried; "" where it did not, or was not."""
    row = rows().get(name.partition(".")[0])
    if row is None or row.timm != version:
        return ""
    return "" if (outcome := row.outcome(halve_stem)) in (OK, UNTRIED) else outcome


def instead_of(name: str) -> str:
    """The end of an error about a network that cannot be used: the most similar ones that were tried and can be."""
    row, good = rows().get(name.partition(".")[0]), [row for row in rows().values() if row.halved == row.whole == OK]
    size = row.parameters if row and row.parameters else 10_000_000

    def distance(other: Row) -> tuple[int, float]:
        alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(name, other.name, strict=False))
        return -len(list(alike)), abs(math.log(other.parameters / size))

    nearest = [other.name for other in sorted(good, key=distance)[:3]]
    return f"choose another network, for example {', '.join(nearest)}" if nearest else "choose another network"


def note(name: str, version: str) -> str:
    """What the table cannot vouch for of a network that this version of timm builds here; "" where it was tried."""
    row = rows().get(name.partition(".")[0])
    if row is None:
        return f"{name} is a name that was not tried in training"
    if row.parameters > LARGEST:
        return f"{name} has {row.parameters / 1e6:,.0f} million parameters; above {LARGEST / 1e6:.0f} none was tried"
    if UNTRIED in (row.halved, row.whole):
        return f"{name} was not tried in training"
    return f"{name} was tried with timm {row.timm}, here is {version}" if row.timm != version else ""


def in_words() -> str:
    """The table in a sentence, which docs/search.md has."""
    table = list(rows().values())
    small = [row for row in table if row.parameters <= LARGEST]
    tried = [row for row in small if UNTRIED not in (row.halved, row.whole)]
    works = Counter((row.halved == OK) + (row.whole == OK) for row in tried)
    left = f", {len(small) - len(tried):,} wait for their turn" if len(tried) < len(small) else ""
    return (
        f"of {len(table):,} names of timm {max(row.timm for row in table)}, {len(small):,} have up to "
        f"{LARGEST / 1e6:.0f} million parameters; {len(tried):,} of these were trained for two steps with either stem: "
        f"{works[2]:,} take small faces with both, {works[1]:,} with one of them, {works[0]:,} with none{left}; the "
        f"{len(table) - len(small):,} larger ones are untried"
    )


def write(path: Path, table: Iterable[Row]) -> None:
    """Writes the table by name, whole or not at all."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")  # a name that nobody can foresee
    try:
        with new.open("x", encoding="utf-8", newline="") as lines:
            writer = csv.writer(lines, lineterminator="\n")
            writer.writerow([each.name for each in fields(Row)])
            writer.writerows(astuple(row) for row in sorted(table, key=lambda row: row.name))
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
