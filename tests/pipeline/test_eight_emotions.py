"""A study of eight emotions from its faces to its report: contempt is trained, scored and named wherever it stands. A
second set that is trained on too goes all the way with it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facex_tune.data import faces as face_sets
from facex_tune.data.faces import Faces
from facex_tune.data.importing import Asked
from facex_tune.data.prepare import prepare
from facex_tune.data.sources import ferplus, synthetic
from facex_tune.emotions import EMOTIONS
from facex_tune.inference import export, predict
from facex_tune.pipeline import dry_run
from facex_tune.pipeline.begin import begin
from facex_tune.pipeline.options import Options
from facex_tune.pipeline.stages import execute
from facex_tune.runs.store import Run
from facex_tune.study import Study
from tests.evaluation.conftest import made_faces
from tests.search.conftest import tiny_study

SPLITS = ("train", "public_test", "private_test")


def eight(**changes: object) -> Study:
    said: dict[str, object] = {"data": "ferplus", "labels": "ferplus_majority", "classes": 8, "evaluate": {}}
    return tiny_study(**{**said, "retrain": {"top": 1, "seeds": 1, "epochs": 2}, "budget": {"trials": 1}, **changes})


def run_through(study: Study, faces: Faces, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """All stages over faces that are prepared as `ferplus`."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    face_sets.write(faces, folder / "data", "ferplus", source={"name": "ferplus"}, skipped=[])
    options = Options(folder / "runs", folder / "data", device="cpu")
    run = begin(study, "eight", options)
    execute(run, ["search", "retrain", "evaluate", "report"], options, [])
    return run


def report_of(run: Run) -> dict[str, object]:
    found: dict[str, object] = json.loads((run.report_folder / "report.json").read_text())
    return found


@pytest.fixture
def told_by_votes() -> Faces:
    """FER2013's labels know no contempt; the annotators' votes do. It is drawn as neutral faces upside down."""
    n = (320, 80, 80)
    labels_N = np.arange(sum(n)) % 8
    drawn = synthetic.generate(2 * sum(n), seed=0, imbalance=0, label_noise=0)
    rows_of = {k: iter(np.flatnonzero(drawn.labels_N == k)) for k in range(7)}
    rows_N = [next(rows_of[min(k, 6)]) for k in labels_N.tolist()]
    images_NHW = np.where((labels_N == 7)[:, None, None], drawn.images_NHW[rows_N, ::-1], drawn.images_NHW[rows_N])
    faces = made_faces(labels_N.tolist(), np.repeat(SPLITS, n).tolist(), seed=0, votes=True)
    return replace(faces, images_NHW=images_NHW, labels_N=labels_N % 7)


def test_contempt_is_trained_scored_and_named(
    told_by_votes: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert eight().evaluate.protocols == ("ferplus.majority8",)
    study = eight(data=["ferplus", "more"], set_balance="even", evaluate={"protocols": ["ferplus.majority8"]})
    more = made_faces([i % 8 for i in range(64)], ["train"] * 64, seed=9, votes=True)
    face_sets.write(more, tmp_path / "data", "more", source={}, skipped=[])
    run = run_through(study, told_by_votes, tmp_path, monkeypatch)
    report = report_of(run)
    scored = report["evaluation"]["ferplus.majority8"]
    assert (scored["n"], scored["classes"], scored["left_out"]) == (80, list(EMOTIONS), 0)
    assert scored["confusion"]["classes"] == list(EMOTIONS)
    assert scored["per_emotion"]["contempt"]["support"] == 10
    (gap,) = report["insight"]["gaps"]
    assert (gap["protocol"], gap["n_validation"], gap["n"], gap["same_data"]) == ("ferplus.majority8", 80, 80, True)
    assert report["study"]["classes"] == 8
    assert (run.header["faces"]["train"], run.header["faces"]["validation"]) == (320 + 64, 80)
    (told,) = report["data"]["ferplus"]["told"]  # nothing is left out: the annotators' labels are all trained on
    assert told.startswith("trained on 320 faces (angry 40, ")
    assert report["data"]["more"]["told"][0].startswith("trained on 64 faces (angry 8, ")
    trial = run.history().trials[0]
    assert "recall.contempt" in trial.metrics
    page = (run.report_folder / "index.html").read_text()
    assert page.count("contempt") > 3
    card = next((run.report_folder / "cards").glob("*.md")).read_text()
    assert "into 8 emotions (angry, disgust, fear, happy, sad, surprise, neutral, contempt)" in card
    trained = predict.find(run.name, run.storage)
    Image.fromarray(told_by_votes.images_NHW[0]).save(tmp_path / "face.png")
    for each in (trained, predict.find(str(export.export(trained, "safetensors", tmp_path / "m.safetensors")), "")):
        (answer,) = predict.predict(each, [tmp_path / "face.png"], device_name="cpu", tta="none")["images"]
        assert list(answer["probabilities"]) == list(EMOTIONS)


def test_a_dry_run_of_eight_says_nothing_of_contempt_left_out(tmp_path: Path) -> None:
    by_own = made_faces([7, 0] * 20, ["train"] * 30 + ["public_test"] * 10, seed=1)
    face_sets.write(by_own, tmp_path, "own_eight", source={}, skipped=[])
    said = {
        classes: dry_run.told(eight(data="own_eight", labels="own", classes=classes), Options(tmp_path, tmp_path))
        for classes in (7, 8)
    }
    told = "contempt (20 faces) is none of the seven emotions: trained on with classes: 8"
    assert any(told in each for each in said[7])
    assert not any("contempt (20 faces)" in each for each in said[8])


def test_what_seven_emotions_leave_out_of_ferplus_pictures_is_said_everywhere(
    told_by_votes: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of FER+ as its own tool writes it, whose labels are the votes' alone: in the dry run, the report and its data."""
    order = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt", "unknown", "not-a-face")
    columns = [face_sets.VOTE_ANSWERS.index(answer) for answer in order]
    assert told_by_votes.votes_NC is not None
    for split, folder in zip(SPLITS, ("FER2013Train", "FER2013Valid", "FER2013Test"), strict=True):
        (tmp_path / "set" / folder).mkdir(parents=True)
        lines = []
        for row in np.flatnonzero(told_by_votes.split_N == split).tolist():
            votes_C = told_by_votes.votes_NC[row] if row % 40 else 10 * np.eye(10, dtype=int)[9]
            name = f"fer{row:07d}.png"
            Image.fromarray(told_by_votes.images_NHW[row]).save(tmp_path / "set" / folder / name)
            lines.append(f'{name},"(0, 0, 48, 48)",{",".join(str(n) for n in votes_C[columns])}')
        (tmp_path / "set" / folder / "label.csv").write_text("\n".join(lines) + "\n")
    prepare("ferplus", tmp_path / "set", tmp_path / "data", asked=Asked(incomplete=True))
    said = (
        "by the annotators' majority 60 faces are contempt, which is trained on with classes: 8 alone, and 12 have no "
        "majority for an emotion: with their labels those are not trained on"
    )
    study = eight(classes=7)
    assert any(said in each for each in dry_run.told(study, Options(tmp_path, tmp_path / "data")))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    options = Options(tmp_path / "runs", tmp_path / "data", device="cpu")
    run = begin(study, "seven", options)
    execute(run, ["search", "retrain", "evaluate", "report"], options, [])
    report = report_of(run)
    assert any(said in each for each in report["data"]["ferplus"]["told"])  # type: ignore[index]
    assert any(said in finding["text"] for finding in report["findings"])  # type: ignore[attr-defined]
    assert said in (run.report_folder / "index.html").read_text().replace("&#39;", "'")


@pytest.mark.realdata
def test_real_ferplus_in_eight_classes_to_its_report(
    realdata_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every 24th face and all of contempt, whose 16 of PrivateTest thus all stay: some 1,600 faces, two epochs. What is
    scored is as the votes say; of the whole set it would be 3,153 faces.
    """
    with np.load(realdata_dir / "fer2013_rows.npz", allow_pickle=False) as rows:
        pixels_NHW, labels_N, usage_N = rows["pixels"], rows["emotion"].astype(np.int64), rows["usage"]
    _, votes_NC, _ = ferplus._votes(realdata_dir)
    majority_N = face_sets.majority_labels(votes_NC)
    contempt_N = majority_N == EMOTIONS.index("contempt")
    kept = np.flatnonzero(contempt_N | (np.arange(len(labels_N)) % 24 == 0))
    faces = Faces(
        images_NHW=pixels_NHW[kept],
        labels_N=labels_N[kept],
        split_N=np.array(SPLITS)[usage_N[kept]],
        group_N=np.arange(len(kept)),
        sequence_N=np.full(len(kept), -1, np.int64),
        votes_NC=votes_NC[kept],
        source_N=np.array([str(row) for row in kept]),
    )
    space = {"model": [{"patch_cnn": {"width": 32, "patch": 4}}], "augment": "none", "balance": "none"}
    study = eight(fidelity={"min_epochs": 1, "max_epochs": 2}, space={**space, "train": {"lr": 0.02, "batch_size": 64}})
    report = report_of(run_through(study, faces, tmp_path, monkeypatch))
    scored = report["evaluation"]["ferplus.majority8"]
    assert ((majority_N >= 0) & (usage_N == 2)).sum() == 3153
    wanted_C = np.bincount(majority_N[kept][(usage_N[kept] == 2) & (majority_N[kept] >= 0)], minlength=8)
    assert wanted_C[EMOTIONS.index("contempt")] == 16
    assert (scored["n"], scored["classes"]) == (wanted_C.sum(), list(EMOTIONS))
    assert contempt_N.sum() == (majority_N[kept] == EMOTIONS.index("contempt")).sum()
    assert {name: row["support"] for name, row in scored["per_emotion"].items()} == dict(
        zip(EMOTIONS, wanted_C.tolist(), strict=True)
    )
    assert [gap["protocol"] for gap in report["insight"]["gaps"]] == ["ferplus.majority8"]
