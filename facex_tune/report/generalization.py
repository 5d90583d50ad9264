"""Which emotion carries over where: the winner's recall of each emotion on each sealed set, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facex_tune.emotions import EMOTIONS


def of_evaluation(evaluation: Mapping[str, Any], trained_on: Sequence[str]) -> dict[str, Any] | None:
    """Protocols by emotions; None where fewer than two different sets were scored.

    Args:
        evaluation: report.json's, by protocol.
        trained_on: the study's sets, whose protocols come first, in their order.

    Returns:
        emotions (those that any row scores) and rows: protocol, data, same_data (a set of the study's), n, clusters
        (how many, and of what an interval keeps together), copies (faces with a copy in training or validation, which
        are counted here as all others), converted (what became of faces of another shape than the models take; absent
        where nothing did), classes, recall {emotion: {n, recall, interval}}, and balanced_accuracy with
        its interval: the mean over the row's own classes, so that rows of other classes do not compare by it.
    """
    scored = {name: each for name, each in evaluation.items() if each["n"]}
    if len({each["data"] for each in scored.values()}) < 2:
        return None
    rows = [_row(name, each, each["data"] in trained_on) for name, each in scored.items()]
    rows.sort(key=lambda row: trained_on.index(row["data"]) if row["same_data"] else len(trained_on))
    there = {emotion for row in rows for emotion in row["recall"]}
    return {"emotions": [emotion for emotion in EMOTIONS if emotion in there], "rows": rows}


def _row(name: str, scored: Mapping[str, Any], same_data: bool) -> dict[str, Any]:
    recall = {
        emotion: {"n": each["support"], "recall": each["recall"], "interval": each["recall_interval"]}
        for emotion, each in scored["per_emotion"].items()
    }
    balanced = scored["metrics"]["balanced_accuracy"]
    return {
        "protocol": name,
        "data": scored["data"],
        "same_data": same_data,
        "n": scored["n"],
        "clusters": f"{scored['n_clusters']:,} {scored['clusters']}",
        "copies": scored["clean"]["excluded"],
        **({"converted": scored["converted"]} if scored.get("converted") else {}),
        "classes": list(recall),
        "recall": recall,
        "balanced_accuracy": {"mean": balanced["mean"], "interval": balanced["interval"]},
    }


def below_own(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """Protocol -> emotions whose recall there lies below that on the study's own set, interval below interval, which is
    more than the test at their level asks for. Empty without a row of the own set.
    """
    first = found["rows"][0]
    if not first["same_data"]:
        return {}
    return {
        row["protocol"]: fallen
        for row in found["rows"]
        if not row["same_data"] and (fallen := [e for e, cell in row["recall"].items() if _below(cell, first, e)])
    }


def _below(cell: Mapping[str, Any], first: Mapping[str, Any], emotion: str) -> bool:
    own = first["recall"].get(emotion, {"interval": None})
    return bool(cell["interval"] and own["interval"] and cell["interval"][1] < own["interval"][0])
