"""A table without lines, which stands its rows below each other where the terminal is too narrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

GAP, INDENT = 2, 4  # characters between cells, and before the values of a row that stands below its name
MEASURED_AT = 10_000  # characters, wider than any table


class _Plain(Table):
    """A table that shows text as it is: a file may be named `face[1].png`, which rich would take for its markup. Where
    the terminal is too narrow, its rows stand below each other, and nothing of a number or a name is lost.
    """

    stacks = True

    def add_row(self, *cells: RenderableType | None, **said: Any) -> None:
        super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **said)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.stacks and self._needed(console, options) > options.max_width:
            yield from self._stacked(options.max_width)
        else:
            yield from super().__rich_console__(console, options)

    def _needed(self, console: Console, options: ConsoleOptions) -> int:
        """Characters of a line in which no cell is cut."""
        ample = options.update(width=MEASURED_AT)
        widths = []
        for column in self.columns:
            found = [Measurement.get(console, ample, cell) for cell in (column.header, *column.cells)]
            widths.append(max(each.maximum if column.no_wrap else each.minimum for each in found))
        return sum(widths) + GAP * (len(widths) - 1)

    def _stacked(self, width: int) -> Iterator[Text]:
        """Each row as its name, which is all up to the first column that is no number, and its values below."""
        named = next((n for n, column in enumerate(self.columns, 1) if column.justify == "left"), 1)
        headers = [_text(column.header) for column in self.columns]
        if self.show_header:
            yield from _filled([Text(header.plain, "dim") for header in headers[:named] if header.plain], 0, width)
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            said = [_text(cell) for cell in cells]
            yield from _filled([each for each in said[:named] if each.plain], 0, width)
            values = [
                Text.assemble((f"{header.plain} " if header.plain else "", "dim"), value)
                for header, value in list(zip(headers, said, strict=True))[named:]
                if value.plain
            ]
            yield from _filled(values, INDENT, width)


def _text(cell: Any) -> Text:
    return cell if isinstance(cell, Text) else Text(str(cell))


def _filled(pieces: Iterable[Text], indent: int, width: int) -> Iterator[Text]:
    """Lines of pieces, as many in each as fit; one that is longer than a line is folded by the terminal."""
    line = Text(overflow="fold")
    for piece in pieces:
        if line.plain and line.cell_len + GAP + piece.cell_len > width:
            yield line
            line = Text(overflow="fold")
        line.append(" " * (GAP if line.plain else indent)).append_text(piece)
    if line.plain:
        yield line


def plain(*columns: str, stacks: bool = True) -> Table:
    """A table without lines.

    A column whose name starts with `>` is aligned right; one that starts with `~` wraps where the terminal is narrow,
    and the others keep their width.

    Args:
        stacks: where all that does not fit, rows stand below each other; false where the height is bounded.
    """
    table = _Plain(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    table.stacks = stacks
    for column in columns:
        justify: JustifyMethod = "right" if column.startswith(">") else "left"
        name, wraps = Text(column.lstrip(">~")), column.startswith("~")
        table.add_column(name, justify=justify, no_wrap=not wraps, overflow="fold")
    return table
