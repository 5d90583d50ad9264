"""Tables for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from facex_tune import run_tables, tables
from facex_tune.doctor import PROBLEM, Finding

ODD = ["img[copy].png", "[/y]", "[bold]face[/bold].png", ":smile:.png"]


def shown(*renderables: RenderableType) -> str:
    console = Console(width=300, highlight=False)
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
    assert said in shown(tables.plain(said))
