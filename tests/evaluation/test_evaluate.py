"""Evaluation of real models on sealed sets: what is opened, when, and what is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from facex_tune import metrics
from facex_tune.data import faces
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError
from facex_tune.evaluation import scoring
from facex_tune.evaluation.evaluate import evaluate
from facex_tune.pipeline import stages
from facex_tune.pipeline.options import Options
from facex_tune.report import findings, insight
from facex_tune.report.report import manifests, report
from facex_tune.runs.store import Run
from facex_tune.training import classifier, devices

from .conftest import RunMaker, made_faces


def _evaluated(run: Run, data_dir: Path, protocols: Sequence[str] = ()) -> dict[str, Any]:
    with run.log() as log:
        evaluate(run, log, data_dir, "cpu", protocols)
    return {path.stem: json.loads(path.read_bytes()) for path in run.evaluation_folder.glob("*.json")}


def test_scores_are_those_of_the_models(make_run: RunMaker, data_dir: Path) -> None:
    """What is written equals what the models, loaded by hand, say of the private test faces."""
    run = make_run()
    scored = _evaluated(run, data_dir, ["synthetic.private"])["synthetic.private"]
    private = faces.open_set(data_dir, "synthetic").where("private_test")
    accuracies = []
    for seed in (0, 1):
        tensors, info = run.load_model_files(1, seed)  # trial 1 has the best value of those that finished
        model = classifier.load_model(info["config"], tensors, 7, devices.pick_device("cpu"))
        probabilities_NC = classifier.probabilities_NC(model, private.images_NHW, devices.pick_device("cpu"))
        accuracies.append(metrics.scores(probabilities_NC, private.labels_N)["accuracy"])
    assert scored["winner"] == "t0001"
    assert scored["metrics"]["accuracy"]["per_model"] == pytest.approx(accuracies)
    assert scored["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert (scored["n"], scored["seeds"], scored["opened"]) == (42, [0, 1], 1)
    assert list(scored["candidates"]) == ["t0001", "t0000"]
    assert np.sum(scored["confusion"]["counts"]) == 2 * 42


def _adjust(run: Run, trial: int, seed: int, tau: float, counts: list[int]) -> None:
    """What a model's own training would have saved with it."""
    path = run.final_folder(trial, seed) / "config.json"
    info = json.loads(path.read_bytes())
    info["metrics"]["adjust_tau"], info["class_counts"] = tau, counts
    path.write_text(json.dumps(info))


def test_answers_are_adjusted_by_each_models_own_tau(make_run: RunMaker, data_dir: Path) -> None:
    """By the formula, from the probabilities that the evaluation wrote; under a mask too."""
    run, counts = make_run(), [40, 1, 10, 5, 5, 4, 5]
    for seed, tau in ((0, 0.5), (1, 1.0)):
        _adjust(run, 1, seed, tau, counts)
    names = ["synthetic.private", "synthetic.lab.6.masked"]
    for name, scored in _evaluated(run, data_dir, names).items():
        table = pd.read_parquet(run.evaluation_folder / f"{name}.parquet")
        expected = []
        for seed, tau in ((0, 0.5), (1, 1.0)):
            found_NC = table[[f"t0001-s{seed}.{emotion}" for emotion in EMOTIONS[:7]]].to_numpy()
            answers_N = (found_NC / np.power(np.array(counts) / 70, tau)).argmax(axis=1)
            expected.append((answers_N == table["label"]).mean())
        assert scored["adjusted"]["tau"] == [0.5, 1.0]
        assert scored["adjusted"]["metrics"]["accuracy"]["per_model"] == pytest.approx(expected)
        assert scored["adjusted"]["metrics"]["accuracy"] != scored["metrics"]["accuracy"]
        assert scored["adjusted"]["metrics"]["macro_f1"]["interval"] is not None
        assert scored["candidates"]["t0000"]["adjusted"] is None, "its models were saved without"


def test_a_candidate_is_adjusted_only_with_all_its_models(make_run: RunMaker, data_dir: Path) -> None:
    run = make_run()
    _adjust(run, 1, 0, 0.5, [10] * 7)
    scored = _evaluated(run, data_dir, ["synthetic.private"])["synthetic.private"]
    assert scored["adjusted"] is None


def test_two_seeds_have_no_interval_over_seeds_and_three_have(make_run: RunMaker, data_dir: Path) -> None:
    two = _evaluated(make_run("two", seeds=2), data_dir, ["synthetic.private"])["synthetic.private"]
    three = _evaluated(make_run("three", seeds=3), data_dir, ["synthetic.private"])["synthetic.private"]
    assert all(metric["seeds_interval"] is None for metric in two["metrics"].values())
    assert three["metrics"]["log_loss"]["seeds_interval"] is not None


def test_the_opening_is_logged_before_the_set_is_read(
    make_run: RunMaker, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the lab set fails; the log knows of the attempt all the same, and nothing is written."""
    run = make_run()
    real = faces.open_set

    def fail(folder: Path, name: str) -> faces.Faces:
        if name == "synthetic_lab":
            assert run.history().opened == {"synthetic.lab.6": 1}
            raise OSError("gone")
        return real(folder, name)

    monkeypatch.setattr(faces, "open_set", fail)
    with pytest.raises(OSError, match="gone"):
        _evaluated(run, data_dir, ["synthetic.lab.6"])
    event = next(event for event in run.events() if event["type"] == "test_opened")
    assert (event["n"], event["models"]) == (42, ["t0001-s0", "t0001-s1", "t0000-s0", "t0000-s1"])
    assert not list(run.evaluation_folder.iterdir())


def test_openings_are_counted_over_repetitions(make_run: RunMaker, data_dir: Path) -> None:
    run = make_run()
    first = _evaluated(run, data_dir, ["synthetic.private"])["synthetic.private"]
    again = _evaluated(run, data_dir, ["synthetic.private"])["synthetic.private"]
    assert (first["opened"], again["opened"]) == (1, 2)
    assert first["metrics"] == again["metrics"]  # seeded: the same intervals too


def test_clean_excludes_planted_copies_and_mirrored_copies(make_run: RunMaker, data_dir: Path) -> None:
    run = make_run()
    scored = _evaluated(run, data_dir, ["synthetic.private"])["synthetic.private"]
    table = pd.read_parquet(run.evaluation_folder / "synthetic.private.parquet")
    assert table.loc[table["in_training"], "row"].tolist() == [112, 113]
    assert (scored["clean"]["n"], scored["clean"]["excluded"]) == (40, 2)
    kept = table[~table["in_training"]]
    columns = [f"t0001-s0.{emotion}" for emotion in EMOTIONS[:7]]
    expected = metrics.scores(kept[columns].to_numpy(np.float64), kept["label"].to_numpy())["macro_f1"]
    assert scored["clean"]["metrics"]["macro_f1"]["per_model"][0] == pytest.approx(expected, abs=1e-6)


def test_the_validation_table_tells_which_faces_have_a_copy_in_training(make_run: RunMaker, data_dir: Path) -> None:
    whole = faces.open_set(data_dir, "synthetic")
    images_NHW = whole.images_NHW.copy()
    train, held = (np.flatnonzero(whole.split_N == split) for split in ("train", "public_test"))
    images_NHW[held[4]] = images_NHW[train[0]][:, ::-1]
    faces.write(replace(whole, images_NHW=images_NHW), data_dir, "synthetic", source={}, skipped=[])
    run, without = make_run(validation_copies="keep"), make_run(name="without")
    for each in (run, without):
        _evaluated(each, data_dir, ["synthetic.private"])
    table = pd.read_parquet(run.validation_folder / "validation.parquet")
    assert np.flatnonzero(table["in_training"]).tolist() == [4]
    dropped = pd.read_parquet(without.validation_folder / "validation.parquet")
    assert (len(dropped), dropped["in_training"].any()) == (len(table) - 1, False)


def test_clean_excludes_near_copies_in_another_set(make_run: RunMaker, data_dir: Path) -> None:
    wild, lab = faces.open_set(data_dir, "synthetic"), faces.open_set(data_dir, "synthetic_lab")
    images = lab.images_NHW.copy()
    images[8] = np.roll(wild.images_NHW[5], (1, -1), (0, 1))  # of a training face
    images[9] = np.roll(wild.images_NHW[80], (1, -1), (0, 1))  # of a validation face
    faces.write(replace(lab, images_NHW=images), data_dir, "synthetic_lab", source={}, skipped=[])
    run = make_run()
    scored = _evaluated(run, data_dir, ["synthetic.lab.6"])["synthetic.lab.6"]
    table = pd.read_parquet(run.evaluation_folder / "synthetic.lab.6.parquet")
    assert table.loc[table["in_training"], "row"].tolist() == [8]
    assert table.loc[table["in_validation"], "row"].tolist() == [9], "the winner was chosen by it"
    clean = scored["clean"]
    assert (clean["n"], clean["excluded"], clean["in_training"]) == (34, 2, 1)
    said = [each["text"] for each in findings._copies({"evaluation": {"synthetic.lab.6": scored}})]
    assert "copy of 1 of the 36 faces of synthetic.lab.6, validation alone of 1; without such faces" in said[0]
    answers = insight.Answers.read("x", run.evaluation_folder / "synthetic.lab.6.parquet", ["t0001-s0"])
    assert answers is not None
    assert answers.in_training_N is not None
    assert int(answers.in_training_N.sum()) == 2, "the gap, too, is told on faces that nobody knew"
    assert scored["clusters"] == "duplicate groups (subjects are unknown)"  # this set has no sequences


def test_copies_that_the_study_dropped_from_training_are_no_leak(make_run: RunMaker, data_dir: Path) -> None:
    scored = _evaluated(make_run(duplicates="drop"), data_dir, ["synthetic.private"])["synthetic.private"]
    assert (scored["clean"]["n"], scored["clean"]["excluded"]) == (42, 0)


def test_masked_protocol_equals_masking_by_hand(make_run: RunMaker, data_dir: Path) -> None:
    run = make_run()
    both = _evaluated(run, data_dir, ["synthetic.lab.6", "synthetic.lab.6.masked"])
    columns = [f"t0001-s0.{emotion}" for emotion in EMOTIONS[:7]]
    free, masked = (
        pd.read_parquet(run.evaluation_folder / f"synthetic.lab.6{end}.parquet")[columns].to_numpy(np.float64)
        for end in ("", ".masked")
    )
    assert len(free) == 36  # six of seven classes
    assert masked[:, 6].max() == 0
    assert masked == pytest.approx(scoring.masked(free, (0, 1, 2, 3, 4, 5)), abs=1e-6)
    assert masked[:, 0] == pytest.approx(free[:, 0] / (1 - free[:, 6]), abs=1e-5)
    answered_neutral = np.array(both["synthetic.lab.6.masked"]["confusion"]["counts"])[:, 6].sum()
    assert answered_neutral == 0
    assert both["synthetic.lab.6"]["n_clusters"] == 14


def test_the_table_of_faces_gives_the_scores_again(make_run: RunMaker, data_dir: Path) -> None:
    run = make_run()
    scored = _evaluated(run, data_dir, ["synthetic.majority7"])["synthetic.majority7"]
    table = pd.read_parquet(run.evaluation_folder / "synthetic.majority7.parquet")
    found = table[[f"t0001-s1.{emotion}" for emotion in EMOTIONS[:7]]].to_numpy(np.float64)
    again = metrics.scores(found, table["label"].to_numpy())
    assert scored["metrics"]["log_loss"]["per_model"][1] == pytest.approx(again["log_loss"], abs=1e-5)
    assert table["source"].iloc[0] == "face 112"


def test_every_problem_is_told_before_anything_is_opened(make_run: RunMaker, data_dir: Path) -> None:
    run = make_run()
    with pytest.raises(InputError) as caught:
        _evaluated(run, data_dir, ["fer2013.both", "ckplus.6", "synthetic.private"])
    told = "\n".join(caught.value.problems)
    assert "PublicTest" in told
    assert "facex-tune data prepare ckplus" in told
    assert not run.history().opened


def test_both_is_allowed_where_validation_is_a_holdout(make_run: RunMaker, data_dir: Path) -> None:
    wild = made_faces([i % 7 for i in range(28)], ["train"] * 14 + ["public_test"] * 7 + ["private_test"] * 7, seed=5)
    faces.write(wild, data_dir, "fer2013", source={}, skipped=[])
    run = make_run(validation={"holdout": 0.2})
    assert _evaluated(run, data_dir, ["fer2013.both"])["fer2013.both"]["n"] == 14


def test_a_split_without_faces_is_refused(make_run: RunMaker, data_dir: Path) -> None:
    with pytest.raises(InputError, match=r"no faces in the split test; its splits: train, public_test, private_test"):
        _evaluated(make_run(), data_dir, ["folder.synthetic"])


def test_a_name_that_leaves_the_folder_is_refused(make_run: RunMaker, data_dir: Path) -> None:
    with pytest.raises(InputError, match="no name of a prepared set"):
        _evaluated(make_run(), data_dir, ["folder.../synthetic"])


def test_another_set_of_the_same_name_is_refused(make_run: RunMaker, data_dir: Path) -> None:
    run = make_run()
    shutil.rmtree(data_dir / "synthetic_lab")
    other = made_faces([0, 1, 2], ["test"] * 3, seed=9)
    faces.write(other, data_dir, "synthetic_lab", source={}, skipped=[])
    with pytest.raises(InputError, match="is not the one of run 'small-1'"):
        _evaluated(run, data_dir)


def test_a_finished_run_is_scored_on_a_set_that_its_study_does_not_name(make_run: RunMaker, data_dir: Path) -> None:
    """Opened and counted as any other; what was scored before stays; other faces under that name are refused later."""
    run = make_run()
    before = _evaluated(run, data_dir, ["synthetic.private"])
    mine = made_faces([k % 7 for k in range(21)], ["test"] * 21, seed=9)
    faces.write(mine, data_dir, "mine", source={}, skipped=[])
    scored = _evaluated(run, data_dir, ["folder.mine"])
    assert (scored["folder.mine"]["n"], scored["folder.mine"]["opened"]) == (21, 1)
    assert scored["folder.mine"]["sha256"] == faces.read_manifest(data_dir, "mine")["sha256"]
    assert scored["synthetic.private"] == before["synthetic.private"]
    document = json.loads((report(run, data_dir).parent / "report.json").read_bytes())
    assert list(document["evaluation"]) == ["synthetic.private", "folder.mine"]
    assert document["data"]["mine"]["n"] == 21
    shutil.rmtree(data_dir / "mine")
    assert "mine" not in manifests(run, data_dir)
    faces.write(made_faces([0, 1, 2], ["test"] * 3, seed=8), data_dir, "mine", source={}, skipped=[])
    assert "mine" not in manifests(run, data_dir), "other faces than were scored"
    with pytest.raises(InputError, match=r"data set 'mine' in .* is not the one of run 'small-1'"):
        _evaluated(run, data_dir, ["folder.mine"])


def test_nothing_to_evaluate_yet(make_run: RunMaker, data_dir: Path) -> None:
    with pytest.raises(InputError, match="run `facex-tune retrain small-1 --storage "):
        _evaluated(make_run(retrained=False), data_dir)


@pytest.mark.parametrize(("protocols", "data"), [(("folder.mine",), "data"), ((), "nowhere")])
def test_what_cannot_be_scored_leaves_no_trace(
    make_run: RunMaker, tmp_path: Path, protocols: tuple[str, ...], data: str
) -> None:
    """A finished run stays finished, and a resume has nothing to go on with."""
    run = make_run()
    before = list(run.events())
    options = Options(run.storage, tmp_path / data, device="cpu", protocols=protocols)
    with pytest.raises(InputError, match="is not prepared"):
        stages.execute(run, ["evaluate", "report"], options, [])
    assert list(run.events()) == before
