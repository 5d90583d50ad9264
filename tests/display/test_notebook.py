"""The board of a notebook: what is shown, and how it renews itself; in a real kernel where one is installed."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.text import Text

from facex_tune.display import notebook
from facex_tune.display.board import Board
from facex_tune.display.view import ONE_LINE_S, View
from tests.display.test_view import PLAN, STORY, Clock


def boards(step_s: float, last: str = "", error: Exception | None = None) -> tuple[list[str], str]:
    """What a notebook was shown of the story, and what went to standard error."""
    shown: list[str] = []
    stream, now = io.StringIO(), Clock()
    view = View(Board(PLAN), stream=stream, now=now, show=shown.append, last=lambda: last)
    with view:
        for event in STORY:
            now.now_s += step_s
            view(event)
        if error is not None:
            view.__exit__(type(error), error, None)
    return shown, stream.getvalue()


def test_the_board_renews_itself_in_place_and_ends_with_the_summary() -> None:
    shown, written = boards(ONE_LINE_S, last="<p>how good it is</p>")
    assert written == "", "the board is the cell's output"
    assert len(shown) == len(STORY) + 2
    assert shown[-1] == "<p>how good it is</p>"
    assert "search | 3/4 trials" in shown[-2]
    assert "t0000" in shown[-2]
    assert "0.600" in shown[-2]


def test_a_board_is_not_renewed_with_every_event() -> None:
    assert len(boards(ONE_LINE_S / 4)[0]) == len(STORY) // 4 + 2


def test_of_a_run_that_broke_off_the_board_stays() -> None:
    shown, _ = boards(ONE_LINE_S, last="the summary", error=KeyboardInterrupt())  # type: ignore[arg-type]
    assert "search | 3/4 trials" in shown[-2]


def test_a_notebook_that_takes_nothing_more_does_not_end_the_run() -> None:
    def closed(html: str) -> None:
        raise ConnectionError("the kernel's socket is closed")

    with View(Board(PLAN), stream=io.StringIO(), now=Clock(), show=closed) as view:
        for event in STORY:
            view(event)


def test_words_of_a_run_are_not_markup() -> None:
    html = notebook.as_html(Text("<script>alert(1)</script> & <b>"))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_outside_a_notebook_there_is_no_output() -> None:
    assert notebook.output() is None


CELL = """
from facex_tune.display.board import Board
from facex_tune.display.view import View
from tests.display.test_view import PLAN, STORY, Clock

now = Clock()
with View(Board(PLAN), now=now, last=lambda: "<p>the summary</p>") as view:
    for event in STORY:
        now.now_s += 2.0
        view(event)
"""


def test_in_a_kernel_one_output_is_displayed_and_updated() -> None:
    """A cell is run by a kernel of its own, as a notebook does."""
    nbformat = pytest.importorskip("nbformat")
    client: Any = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cell = nbformat.v4.new_code_cell(CELL)
    client.NotebookClient(nbformat.v4.new_notebook(cells=[cell]), timeout=300).execute()
    (output,) = [each for each in cell.outputs if each.output_type == "display_data"]
    assert output.data["text/html"] == "<p>the summary</p>", "the last of the board's updates"
    assert [each for each in cell.outputs if each.output_type == "error"] == []
