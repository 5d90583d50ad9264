"""Runs beside each other: what was searched, what came out, and paired tests of their winners on the same faces.

Reads the runs' folders and opens no set: two winners are compared on the faces that both scored, row by row, where the
prepared set was the same one.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facex_tune import seeds
from facex_tune.emotions import FaceShape
from facex_tune.errors import InputError
from facex_tune.evaluation import compare
from facex_tune.report import page, summary
from facex_tune.report.insight import Answers
from facex_tune.report.report import manifests
from facex_tune.runs.store import Run
from facex_tune.storage import files
from facex_tune.storage.files import Place
from facex_tune.study import data_text

FOLDER = "comparisons"


def report(runs: Sequence[Run], data_dir: Path | None) -> Place:
    """Writes comparisons/<run>--<run>/index.html and report.json in the storage folder; the page's path.

    Raises:
        InputError: a run is named twice.
    """
    names = [run.name for run in runs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"report: {twice[0]!r} is named twice; name each run once")
    document = compared(runs, data_dir)
    folder = runs[0].storage / FOLDER / re.sub(r"[^A-Za-z0-9_.-]", "_", "--".join(names))[:120]
    files.write_json(folder / "report.json", document)
    files.write_bytes(folder / "index.html", page.of_several(document).encode())
    return folder / "index.html"


def compared(runs: Sequence[Run], data_dir: Path | None) -> dict[str, Any]:
    """{version, runs: [{run, study, data, best, training, evaluation, ...}], differences: [{protocol, first, ...}]}."""
    documents = [summary.document(run, manifests(run, data_dir)) for run in runs]
    return {
        "version": summary.VERSION,
        "runs": [_row(run, document) for run, document in zip(runs, documents, strict=True)],
        "differences": [
            found
            for (one, other) in itertools.combinations(zip(runs, documents, strict=True), 2)
            for found in _differences(one, other)
        ],
    }


def _row(run: Run, document: Mapping[str, Any]) -> dict[str, Any]:
    best = document["search"]["best"]
    kept = ("n", "winner", "seeds", "metrics", "opened", "tta")
    return {
        "run": document["run"],
        "study": document["study"]["name"],
        "data": data_text(document["study"]["data"]),
        "validation": document["study"]["validation"],
        "trials": sum(document["search"]["trials"].values()),
        "seconds": document["search"]["seconds"],
        "best": None if best is None else {key: best[key] for key in ("trial", "objective", "value", "config")},
        "training": _training(run),
        "evaluation": {
            name: {key: scored[key] for key in kept} for name, scored in document["evaluation"].items() if scored["n"]
        },
    }


def _training(run: Run) -> dict[str, Any]:
    """What makes final models differ beside their configuration."""
    study = run.study
    return {
        "validation": study.to_data()["validation"],
        "labels": study.labels,
        "classes": study.classes,
        "duplicates": study.duplicates,
        "validation copies": study.validation_copies,
        "size and colour of faces": _shapes(run),
        "training faces": (run.header.get("faces") or {}).get("train"),
        "epochs of final models": study.final_epochs,
        "weights": study.retrain.weights,
        "test-time augmentation": study.evaluate.tta,
    }


def _shapes(run: Run) -> str:
    """Of the faces that a run was trained on; "48×48 grey" where its header says nothing of them."""
    manifests = run.header.get("data") or {}
    return ", ".join(dict.fromkeys(str(FaceShape.of(manifests.get(name) or {})) for name in run.study.sets))


def _differences(one: tuple[Run, Mapping[str, Any]], other: tuple[Run, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """First minus second on every protocol that both scored, on the same faces."""
    found = []
    for name, scored in one[1]["evaluation"].items():
        theirs = other[1]["evaluation"].get(name)
        tables = [_answers(run, document, name) for run, document in (one, other)]
        if theirs is None or tables[0] is None or tables[1] is None:
            continue
        gap = _difference(tables[0], tables[1], name)
        if gap is None or not _same_set(one[1], other[1], scored["data"]):
            continue
        found.append({"protocol": name, "first": one[0].name, "second": other[0].name, **gap})
    return found


def _answers(run: Run, document: Mapping[str, Any], name: str) -> Answers | None:
    scored = document["evaluation"].get(name)
    if not scored or not scored["n"]:
        return None
    return Answers.read(name, run.folder / "evaluation" / f"{name}.parquet", scored["models"])


def _same_set(one: Mapping[str, Any], other: Mapping[str, Any], data: str) -> bool:
    hashes = [document["data"].get(data, {}).get("sha256") for document in (one, other)]
    return hashes[0] is not None and hashes[0] == hashes[1]


def _difference(first: Answers, second: Answers, name: str) -> dict[str, Any] | None:
    if first.sources_N != second.sources_N or not np.array_equal(first.labels_N, second.labels_N):
        return None
    seed = np.random.SeedSequence([seeds.EVALUATE, zlib.crc32(name.encode())])
    return compare.difference(first.probabilities_MNC, second.probabilities_MNC, first.labels_N, first.groups_N, seed)
