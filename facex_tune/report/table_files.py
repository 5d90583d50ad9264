"""The report's tables as files, CSV and Markdown, for a paper or a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from facex_tune.metrics import PER_EMOTION, SIX
from facex_tune.runs.frames import as_text
from facex_tune.storage import files
from facex_tune.storage.files import Place

Rows = list[dict[str, Any]]


def write(document: Mapping[str, Any], folder: Place) -> list[str]:
    """Writes every table that the report has rows for; their names."""
    tables = {name: rows for name, rows in _all(document).items() if rows}
    for name, rows in tables.items():
        files.write_bytes(folder / f"{name}.csv", as_csv(rows).encode())
        files.write_bytes(folder / f"{name}.md", as_markdown(rows).encode())
    return list(tables)


def _all(document: Mapping[str, Any]) -> dict[str, Rows]:
    found = {
        "leaderboard": _leaderboard(document),
        "models": [{**model, **model["validation"]} for model in document["models"]],
        "protocols": _protocols(document),
        "emotions": _emotions(document),
        "comparisons": _comparisons(document),
        "variants": _variants(document),
        "factors": _factors(document),
        "suspects": document["insight"]["suspects"]["faces"],
    }
    return {name: [_without(row, "config", "validation") for row in rows] for name, rows in found.items()}


def _without(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def _leaderboard(document: Mapping[str, Any]) -> Rows:
    kept = ("rank", "trial", "repeats", "n", "mean", "state", "epochs", "value")
    return [
        {**{key: row[key] for key in kept}, **{name: row["metrics"].get(name) for name in SIX}, **row["config"]}
        for row in document["leaderboard"]
    ]


def _protocols(document: Mapping[str, Any]) -> Rows:
    rows = []
    for name, scored in document["evaluation"].items():
        parts = {"": scored, "clean": scored["clean"], "per_sequence": scored.get("per_sequence")}
        for part, said in parts.items():
            for metric, value in ((said or {}).get("metrics") or {}).items():
                row = {"protocol": name, "part": part or "all", "n": said["n"], "metric": metric, "mean": value["mean"]}
                rows.append(row | _ends("interval", value["interval"]) | _ends("seeds", value["seeds_interval"]))
    return rows


def _emotions(document: Mapping[str, Any]) -> Rows:
    return [
        {"protocol": name, "emotion": emotion, "n": row["support"], "metric": kind, "mean": row[kind]}
        | _ends("interval", row[f"{kind}_interval"])
        for name, scored in document["evaluation"].items()
        for emotion, row in scored["per_emotion"].items()
        for kind in PER_EMOTION
    ]


def _comparisons(document: Mapping[str, Any]) -> Rows:
    return [
        {"protocol": name, "first": each["first"], "second": each["second"], "role": each["role"], "n": each["n"]}
        | {"metric": metric, "difference": value["mean"]}
        | _ends("interval", value["interval"])
        | _ends("seeds", value["seeds_interval"])
        | {"p_value_of_accuracy": each["p_value"]}
        for name, scored in document["evaluation"].items()
        for each in scored.get("comparisons", [])
        for metric, value in each["metrics"].items()
    ]


def _variants(document: Mapping[str, Any]) -> Rows:
    return [
        {"protocol": name, "variant": kind, "n": scored["n"], "metric": metric, "mean": value["mean"]}
        | _ends("interval", value["interval"])
        | {"minus_winner": variant["difference"]["metrics"].get(metric, {}).get("mean")}
        | _ends("minus_winner", variant["difference"]["metrics"].get(metric, {}).get("interval"))
        for name, scored in document["evaluation"].items()
        for kind, variant in scored.get("variants", {}).items()
        for metric, value in variant["metrics"].items()
    ]


def _factors(document: Mapping[str, Any]) -> Rows:
    study = document["factors"] or {"effects": []}
    return [
        {"cell": effect["cell"], "metric": metric, "effect": said["effect"]}
        | _ends("interval", said["interval"])
        | {"p_value": said["p_value"], "supported": said["supported"]}
        for effect in study["effects"]
        for metric, said in effect["metrics"].items()
    ]


def _ends(name: str, ends: Sequence[float] | None) -> dict[str, Any]:
    low, high = ends or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def as_csv(rows: Rows) -> str:
    """A column for each key of any row."""
    sink = io.StringIO()
    columns = _columns(rows)
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(map(as_text, columns))
    writer.writerows([as_text(row.get(column, "")) for column in columns] for row in rows)
    return sink.getvalue()


def as_markdown(rows: Rows) -> str:
    """A pipe table; numbers with three decimals, small ones with three digits."""
    columns = _columns(rows)
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = str(value)
    if isinstance(value, float) and value:
        text = f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.3g}"
    return text.replace("|", "\\|").replace("\n", " ")


def _columns(rows: Rows) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))
