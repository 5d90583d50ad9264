"""The report's figures, drawn by a process beside the one that reckons: loading matplotlib and laying out a dozen
figures takes as long as everything else.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from facex_tune.evaluation import plots
from facex_tune.report import figures
from facex_tune.storage import files
from facex_tune.storage.helpers import Helpers, processors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from facex_tune.storage.files import Place


@dataclass(frozen=True)
class Drawing:
    """A figure to be drawn: `function(*args)` gives it. Plain data, so that another process can do it."""

    name: str
    function: Callable[..., Figure]
    args: tuple[Any, ...]


def helpers() -> Helpers:
    """One process that draws, for a `with` statement: a second would load matplotlib again, which takes as long as a
    third of the figures. None with one processor, or where matplotlib is loaded already.
    """
    return Helpers(1 if processors() > 1 and "matplotlib" not in sys.modules else 0)


def warm(asked: Helpers) -> None:
    """Lets helpers load what they need while this process reckons."""
    for _ in range(asked.n):
        asked.submit(_load)


def _load() -> None:
    from facex_tune.report import rendering  # noqa: F401


def paint(drawing: Drawing) -> tuple[bytes, bytes]:
    """A drawing as SVG and as PNG."""
    from facex_tune.report import rendering

    with plots.style():
        return rendering.both(drawing.function(*drawing.args))


class Painted(Mapping[str, str]):
    """Name -> data URI of a figure's SVG. Helpers draw while others go on; who asks for a figure waits for it.

    Args:
        folder: where <name>.svg and <name>.png of each are written, once it is asked for, or by `finish`.
    """

    def __init__(self, helpers: Helpers, drawings: Iterable[Drawing], folder: Place) -> None:
        self._asked: dict[str, Future[tuple[bytes, bytes]]] = {}
        same: dict[bytes, Future[tuple[bytes, bytes]]] = {}  # of two protocols over the same faces and labels
        for drawing in drawings:
            said = pickle.dumps((drawing.function, drawing.args))
            if said not in same:
                same[said] = helpers.submit(paint, drawing)
            self._asked[drawing.name] = same[said]
        self._done: dict[str, str] = {}
        self._folder = folder

    def __getitem__(self, name: str) -> str:
        if name not in self._done:
            svg, png = self._asked[name].result()
            files.write_bytes(self._folder / f"{name}.svg", svg)
            files.write_bytes(self._folder / f"{name}.png", png)
            self._done[name] = figures.data_uri(svg)
        return self._done[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._asked)

    def __len__(self) -> int:
        return len(self._asked)

    def __contains__(self, name: object) -> bool:
        return name in self._asked

    def finish(self) -> None:
        """Writes those that nobody asked for, too."""
        for name in self:
            self[name]
