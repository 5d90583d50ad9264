"""Tables for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from facex_tune.cli import run_tables, tables
from facex_tune.display.table import plain
from facex_tune.display.text import gpu_time
from facex_tune.inspection.doctor import PROBLEM, Finding
from facex_tune.study.words import value_text

ODD = ["img[copy].png", "[/y]", "[bold]face[/bold].png", ":smile:.png"]


def shown(*renderables: RenderableType, width: int = 300) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(*renderables, sep="\n")
    return capture.get()


@pytest.mark.parametrize("file", ODD)
def test_predictions_show_a_files_name_as_it_is(file: str) -> None:
    image = {"file": file, "emotion": "happy", "probabilities": {"angry": 0.25, "happy": 0.75}}
    text = shown(tables.predictions({"emotions": ["angry", "happy"], "images": [image]}))
    assert text.splitlines()[1].split() == [file, "happy", "0.250", "0.750"]


@pytest.mark.parametrize("said", ODD)
def test_other_tables_show_what_a_user_named_as_it_is(said: str, tmp_path: Path) -> None:
    damaged: dict[str, Any] = {"run": "r", "state": "damaged", "problem": f"{tmp_path / said}: malformed"}
    assert said in shown(tables.findings([Finding(PROBLEM, "storage", f"{said} cannot be written")]))
    assert said in shown(tables.data_sets({"prepared": {"x": {"problem": f"{said} is damaged"}}, "sources": {}}))
    assert said in shown(run_tables.runs({"runs": [damaged]}, 200))
    assert said in shown(plain(said))


@pytest.mark.parametrize("short", ["", "105 of 35,887 published faces, too few of train angry 5 of 3,995"])
def test_a_set_that_falls_short_is_marked(short: str) -> None:
    counts = {"train": {"happy": 3}, "test": {"happy": 2}}
    manifest = {"n": 5, "counts": counts, "incomplete": short, "notes": [], "pictures": {}, "size": 48, "channels": 1}
    listed = shown(tables.data_sets({"prepared": {"mine": manifest}, "sources": {}})).splitlines()[1]
    assert listed.split("|")[1:] == ([" incomplete"] if short else [])
    one = {"name": "mine", "folder": "data/mine", "sequences": 0, "skipped": []}
    told = shown(*tables.data_set(manifest | one | {"groups": None, "majority_counts": None}))
    assert (f"note: incomplete: {short}" in told.splitlines()) == bool(short)
    assert ("incomplete" in told) == bool(short)


def narrow(width: int, *rows: tuple[str, ...], stacks: bool = True) -> list[str]:
    """The lines of a table in a terminal of that width."""
    table = plain("protocol", ">faces", ">accuracy", "", stacks=stacks)
    for row in rows:
        table.add_row(*row)
    return [line.rstrip() for line in shown(table, width=width).splitlines()]


ROWS = (("fer2013.private", "3,589", "0.674 [.659, .688]", "#####"), ("ckplus.6", "927", "0.741 [.704, .778]", ""))


def test_a_table_that_fits_stands_in_columns() -> None:
    assert narrow(49, *ROWS)[0].split() == ["protocol", "faces", "accuracy"]
    assert len(narrow(49, *ROWS)) == 3


@pytest.mark.parametrize("width", [48, 40, 33])
def test_a_narrow_terminal_shows_every_digit_and_every_name(width: int) -> None:
    """Rows stand below each other, each value beside its column's name."""
    lines = narrow(width, *ROWS)
    assert max(len(line) for line in lines) <= width
    assert lines[0] == "protocol"
    assert lines.index("fer2013.private") < lines.index("ckplus.6")
    values = " ".join(line.strip() for line in lines)
    for said in ("faces 3,589", "accuracy 0.674 [.659, .688]", "#####", "faces 927", "accuracy 0.741 [.704, .778]"):
        assert said in values
    assert "0.741[.704,.778]" in "".join(narrow(16, *ROWS)).replace(" ", ""), "folded where a line is shorter yet"


def test_a_name_that_is_no_number_heads_its_row_with_what_stands_before_it() -> None:
    table = plain(">#", "trial", ">macro_f1", ">accuracy")
    table.add_row("1", "t0007", "0.504", "0.555")
    lines = ["#  trial", "1  t0007", "    macro_f1 0.504", "    accuracy 0.555"]
    assert shown(table, width=20).splitlines() == lines


def test_the_live_view_keeps_its_height() -> None:
    assert len(narrow(20, *ROWS, stacks=False)) < len(narrow(20, *ROWS))


@pytest.mark.parametrize(
    ("value", "text"),
    [(1260.4, "1,260"), (187.3, "187"), (0.00012345, "0.000123"), (3, "3"), (2e9, "2e+09"), ("x", "x")],
)
def test_a_large_number_is_written_out(value: object, text: str) -> None:
    assert value_text(value) == text


def test_a_final_model_that_could_not_be_trained_stands_with_the_others() -> None:
    model = {"candidate": 0, "seed": 0, "validation": {"macro_f1": 0.5}}
    failed = {"candidate": 0, "seed": 1, "reason": "diverged"}
    text = shown(
        run_tables.models({"objectives": ["macro_f1"], "leaderboard": [], "models": [model], "failed_models": [failed]})
    )
    assert "t0000 seed 1 failed: diverged" in text.splitlines()[2]


def test_gpus_held_for_a_moment_are_not_told_as_nothing() -> None:
    assert gpu_time(2.345) == "2.35 GPU-hours"
    assert gpu_time(4 / 3600) == "4s of GPU time"
