"""Several sets at once: which faces, classes and clusters each is scored over, side by side, with the picture."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from facex_tune.data.prepare import prepare
from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation.evaluate import evaluate
from facex_tune.report import findings, generalization
from facex_tune.report.report import report
from tests.data.forms import FORMS, written
from tests.evaluation.conftest import RunMaker

SETS = {
    "rafdb_release": "rafdb.test", "affectnet_npy": "affectnet.val8", "jaffe_release": "jaffe",
    "kdef_release": "kdef.front",
}  # fmt: skip


@pytest.fixture
def four(tmp_path: Path, data_dir: Path) -> dict[str, list[tuple[str, str, str]]]:
    """Miniatures of four sets, prepared: of each protocol what it scores, as (name, emotion, subject)."""
    scored = {}
    for form in FORMS:
        if protocol := SETS.get(form.name):
            there = written(form, tmp_path / form.name)
            prepare(form.source, there.root, data_dir, asked=form.asked)
            faces = [(name, *said) for name, said in there.faces.items()]
            scored[protocol] = [(name, emotion, who) for name, emotion, split, who, _ in faces if split == "test"]
    front = [face for face in scored["kdef.front"] if face[0].rpartition(".")[0].upper().endswith("S")]
    return scored | {"kdef.front": front}


def test_four_sets_beside_the_own_one(
    four: dict[str, list[tuple[str, str, str]]], make_run: RunMaker, data_dir: Path
) -> None:
    run = make_run(evaluate={"protocols": [*four, "synthetic.private"]})
    with run.log() as log:
        evaluate(run, log, data_dir, "cpu")
    index = report(run, data_dir)
    document = json.loads((index.parent / "report.json").read_text())
    found = document["insight"]["generalization"]
    rows = {row["protocol"]: row for row in found["rows"]}
    assert list(rows) == ["synthetic.private", *four], "the study's own set first"
    for name, faces in four.items():
        per_emotion = Counter(emotion for _, emotion, _ in faces)
        subjects = {subject for _, _, subject in faces}
        row = rows[name]
        assert row["n"] == len(faces), name
        assert row["classes"] == [emotion for emotion in EMOTIONS if emotion in per_emotion]
        assert {emotion: cell["n"] for emotion, cell in row["recall"].items()} == dict(per_emotion)
        n_clusters = len(subjects) if subjects != {""} else len(faces)  # no two drawn faces are copies
        what = "subjects" if subjects != {""} else "duplicate groups"
        assert row["clusters"] == f"{n_clusters} {what}"
        assert row["same_data"] is False
        scored = document["evaluation"][name]
        for emotion, cell in row["recall"].items():
            assert cell["recall"] == scored["per_emotion"][emotion]["recall"]
            assert cell["interval"] == scored["per_emotion"][emotion]["recall_interval"]
    assert found["emotions"] == list(EMOTIONS), "contempt, of affectnet.val8, which seven classes miss"
    assert rows["affectnet.val8"]["recall"]["contempt"]["recall"] == 0
    page = index.read_text()
    assert "Which emotion carries over where" in page
    assert (index.parent / "figures" / "generalization.png").stat().st_size > 10_000


def test_one_set_alone_carries_nothing_over(make_run: RunMaker, data_dir: Path) -> None:
    run = make_run(evaluate={"protocols": ["synthetic.private", "synthetic.majority7"]})
    with run.log() as log:
        evaluate(run, log, data_dir, "cpu")
    index = report(run, data_dir)
    assert json.loads((index.parent / "report.json").read_text())["insight"]["generalization"] is None
    assert "Which emotion carries over" not in index.read_text()


def row(data: str, **recalls: tuple[float, float, float]) -> dict[str, Any]:
    per_emotion = {
        emotion: {"support": 50, "recall": value, "recall_interval": (low, high)}
        for emotion, (value, low, high) in recalls.items()
    }
    balanced = {"mean": 0.5, "interval": None}
    said = {"data": data, "n": 100, "n_clusters": 90, "clusters": "subjects", "clean": {"excluded": 0}}
    return {**said, "per_emotion": per_emotion, "metrics": {"balanced_accuracy": balanced}}


def test_what_is_recognised_less_elsewhere_is_said_only_beyond_intervals() -> None:
    own = row("fer2013", happy=(0.9, 0.85, 0.95), sad=(0.6, 0.5, 0.7))
    other = row("jaffe", happy=(0.5, 0.4, 0.6), sad=(0.5, 0.3, 0.6), contempt=(0.1, 0.0, 0.2))
    found = generalization.of_evaluation({"jaffe": other, "fer2013.private": own}, "fer2013")
    assert found is not None
    assert generalization.below_own(found) == {"jaffe": ["happy"]}
    (said,) = findings._carries_over({"insight": {"generalization": found}})
    assert said["text"] == "Recognised less often than on fer2013.private, interval below interval: on jaffe happy."
    elsewhere = generalization.of_evaluation({"jaffe": other, "kdef": row("kdef", happy=(0.1, 0, 0.2))}, "fer2013")
    assert elsewhere is not None
    assert generalization.below_own(elsewhere) == {}
