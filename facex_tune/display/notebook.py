"""A run's board in a notebook: one output that renews itself in place, by IPython's display protocol.

IPython is there where this is asked, as the kernel's own; it is looked up by name and is no requirement.
"""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType

WIDTH = 110  # columns
_PRE = '<pre style="font-family:monospace;line-height:1.25;white-space:pre;overflow-x:auto">{code}</pre>'

Show = Callable[[str], None]  # is given HTML, and shows it in place of what it showed before


def output() -> Show | None:
    """A new output below the cell that runs; None where this process is no notebook's kernel."""
    if "ipykernel" not in sys.modules or "IPython" not in sys.modules:
        return None
    try:
        tools: Any = importlib.import_module("IPython.display")
        shell = importlib.import_module("IPython").get_ipython()
    except (ImportError, AttributeError):
        return None
    if shell is None:
        return None
    handle: Any = None

    def show(html: str) -> None:
        nonlocal handle
        if handle is None:
            handle = tools.display(tools.HTML(html), display_id=True)
        else:
            handle.update(tools.HTML(html))

    return show


def as_html(drawn: RenderableType) -> str:
    """What a terminal would show, in colours that do on light and on dark ground."""
    console = Console(
        file=io.StringIO(), record=True, width=WIDTH, force_terminal=True, color_system="standard", force_jupyter=False
    )
    console.print(drawn)
    return console.export_html(inline_styles=True, code_format=_PRE)
