"""`docs/contracts.md` says what the code does: events, exit codes, metrics, protocols, keys of report.json."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from facex_tune import metrics
from facex_tune.cli import outcome
from facex_tune.emotions import EMOTIONS
from facex_tune.runs import events
from facex_tune.runs.events import Record
from facex_tune.study import protocols

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """What stands below a heading."""
    found = re.search(rf"^## {re.escape(title)}.*?\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"no section {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of every table of a section, without heads."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in cells if not set(row[0]) <= {"-", "|"} and row[0] not in ("type", "id", "code", "key")]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def written(record: type[Record]) -> list[str]:
    return [each.name + ("?" if each.default is None else "") for each in fields(record)]


def test_every_event_stands_there_with_its_fields_and_no_other() -> None:
    said = {code(row[0])[0]: code(row[1]) for row in rows(section("The log"))}
    assert said == {record.TYPE: written(record) for record in (*events.LOGGED, *events.TOLD)}


def test_every_protocol_stands_there_with_its_set() -> None:
    said = {code(row[0])[0]: code(row[1])[0] for row in rows(section("Protocols"))}
    assert said == {protocol.id: protocol.data for protocol in protocols._TABLE}
    assert not [protocol.id for protocol in protocols._TABLE if f"| {protocol.doc} |" not in PAGE]


def test_every_exit_code_stands_there() -> None:
    said = [int(row[0]) for row in rows(section("Exit codes"))]
    assert said == [outcome.DONE, outcome.WRONG_INPUT, outcome.INTERRUPTED, outcome.INTERNAL]


def test_every_metric_and_emotion_stands_there_in_its_order() -> None:
    said = code(section("Metrics"))
    named = [name for name in metrics.names() if "." not in name]
    assert [word for word in said if word in named] == named
    assert [word for word in said if word in EMOTIONS] == list(EMOTIONS)
    families = {word.partition(".")[0] for word in said if word.endswith(".<emotion>")}
    assert families == {name.partition(".")[0] for name in metrics.names() if "." in name}


def test_every_key_of_the_report_stands_there() -> None:
    schema = json.loads((ROOT / "facex_tune" / "report" / "report.schema.json").read_text(encoding="utf-8"))
    said = [key for row in rows(section("report.json")) for key in code(row[0])]
    assert said == list(schema["properties"])


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_files_and_pages_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / "docs" / link).exists(), link
    if page == "architecture.md":
        for name in {each for each in code(text) if re.fullmatch(r"[a-z_]+/(?:[a-z_]+/)?[a-z_]*(\.py)?", each)}:
            assert (ROOT / "facex_tune" / name).exists() or (ROOT / name).exists(), name
