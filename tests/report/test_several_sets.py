"""A model of two sets, evaluated and reported: what belongs to which set."""

from __future__ import annotations

import json
from pathlib import Path

from facex_tune.data import faces as face_sets
from facex_tune.evaluation.evaluate import evaluate
from facex_tune.report.report import report
from tests.evaluation.conftest import RunMaker, made_faces


def test_from_evaluation_to_report(make_run: RunMaker, data_dir: Path) -> None:
    own = face_sets.open_set(data_dir, "synthetic")
    second = made_faces([i % 7 for i in range(63)], ["train"] * 42 + ["test"] * 21, seed=5)
    second.images_NHW[1] = own.images_NHW[3]  # trained on once
    second.images_NHW[42] = own.images_NHW[0]  # a test face that was trained on, in the other set
    face_sets.write(second, data_dir, "second", source={}, skipped=[])
    run = make_run(data=["synthetic", "second"], seeds=1, evaluate={})
    assert run.study.evaluate.protocols[-1] == "folder.second"
    with run.log() as log:
        evaluate(run, log, data_dir, "cpu", ["synthetic.private", "folder.second", "synthetic.lab.6"])
    index = report(run, data_dir)
    document = json.loads((index.parent / "report.json").read_text())
    scored = {name: (each["n"], each["clean"]["excluded"]) for name, each in document["evaluation"].items()}
    assert scored["folder.second"] == (21, 1), "known from the other set"
    assert scored["synthetic.private"] == (42, 2)
    rows = document["insight"]["generalization"]["rows"]
    assert [(row["protocol"], row["same_data"]) for row in rows] == [
        ("synthetic.private", True), ("folder.second", True), ("synthetic.lab.6", False),
    ]  # fmt: skip
    gaps = {row["protocol"]: row["same_data"] for row in document["insight"]["gaps"]}
    assert gaps.get("synthetic.private") is True
    assert gaps.get("folder.second", False) is False, "it was validated on the first set"
    assert document["choices"]["data"] == "synthetic"
    told = document["data"]["second"]["told"]
    assert told[0].startswith("trained on 41 faces (angry 6, ")
    assert told[0].endswith("1 left out as copies of faces in the other sets")
    said = " ".join(finding["text"] for finding in document["findings"])
    assert "Drawn faces (synthetic) were trained on beside those of the other sets." in said
    page = index.read_text()
    assert "on synthetic + second, run" in page
    assert "sets other than synthetic + second were never trained on" in page
    assert "42 validation faces (public test of synthetic, without those that have a copy in training)" in page
    card = next((index.parent / "cards").iterdir()).read_text()
    assert "on `synthetic` and `second` (own labels)" in card
