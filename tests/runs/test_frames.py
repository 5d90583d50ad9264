"""A run's log as tables: complete, without Ray and without torch, also while the run goes on."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import facex_tune
from facex_tune import study
from facex_tune.errors import InputError
from facex_tune.report.table_files import as_csv
from facex_tune.runs import frames
from facex_tune.runs.events import (
    CandidateChosen,
    EpochDone,
    ModelFinished,
    RunStarted,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
)
from facex_tune.runs.store import Run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def demo(tmp_path: Path) -> Run:
    """A finished trial, one stopped at a rung, one that failed before its first epoch, one that runs; two models."""
    constraints = ["constraints={worst_class_recall: {min: 0.3}}"]
    parsed = study.load(ROOT / "search_spaces" / "quick.yaml", constraints)
    run = Run.create(tmp_path / "runs", "demo", parsed, data={}, environment={})
    with run.log() as log:
        log.append(RunStarted())
        for trial, model in enumerate(("resnet", "facex_cnn", "resnet", "resnet")):
            config = {"model": model, "train.lr": 0.1, f"model.{model}.dropout": 0.2}
            log.append(TrialStarted(trial=trial, config=config, source="sampler"))
        for trial, epochs in ((0, 2), (1, 1), (3, 1)):
            for epoch in range(1, epochs + 1):
                found = {"macro_f1": trial + epoch / 10, "worst_class_recall": 0.2 * epoch, "train_loss": 1.0}
                log.append(EpochDone(trial=trial, epoch=epoch, metrics=found, seconds=1.5))
        log.append(TrialFinished(trial=0))
        log.append(TrialStopped(trial=1, epoch=1, reason="rung"))
        log.append(TrialFailed(trial=2, reason="error", detail='a "quoted", detail'))
        log.append(CandidateChosen(trial=0, value=0.2, rank=1))
        for seed in (0, 1):
            log.append(ModelFinished(candidate=0, seed=seed, metrics={"macro_f1": 0.3 + seed}))
    return run


def test_a_run_is_a_frame_with_a_row_a_trial(demo: Run) -> None:
    frame = facex_tune.load_run(demo.folder).set_index("number")
    assert frame["state"].tolist() == ["finished", "stopped", "failed", "running"]
    assert frame["reason"].tolist() == ["", "rung", "error", ""]
    assert frame["epochs"].tolist() == [2, 1, 0, 1]
    assert frame["seconds"].tolist() == [3.0, 1.5, 0.0, 1.5]
    assert frame["value"].tolist()[:2] == [0.2, 1.1]
    assert pd.isna(frame["value"][2])
    assert frame["keeps_constraints"].tolist() == [True, False, None, False]
    assert frame["model.resnet.dropout"].notna().tolist() == [True, False, True, True]
    assert frame["ended_utc"].notna().tolist() == [True, True, True, False]
    assert (pd.to_datetime(frame["ended_utc"]) >= pd.to_datetime(frame["started_utc"]))[:3].all()


def test_a_run_is_a_frame_with_a_row_an_epoch(demo: Run) -> None:
    frame = facex_tune.load_run(str(demo.folder), "epochs")
    assert frame[["number", "epoch"]].to_numpy().tolist() == [[0, 1], [0, 2], [1, 1], [3, 1]]
    assert frame["macro_f1"].tolist() == [0.1, 0.2, 1.1, 3.1]
    assert frame["seconds"].tolist() == [1.5] * 4
    assert pd.to_datetime(frame["time_utc"]).is_monotonic_increasing


def test_a_run_is_a_frame_with_a_row_a_model(demo: Run) -> None:
    frame = facex_tune.load_run(demo.folder, kind="models")
    assert frame.to_numpy().tolist() == [[0, 1, 0, 0.3], [0, 1, 1, 1.3]]
    assert list(frame) == ["number", "rank", "seed", "macro_f1"]


def test_trials_csv_reads_back_as_the_frame(demo: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(frames.trials_csv(demo))))
    assert [row["number"] for row in rows] == ["0", "1", "2", "3"]
    assert rows[2]["detail"] == 'a "quoted", detail'
    assert rows[2]["macro_f1"] == ""
    assert list(rows[0]) == list(facex_tune.load_run(demo.folder))


@pytest.mark.parametrize(("name", "kind"), [("nothing", "trials"), ("demo", "trails")])
def test_what_is_not_there_is_told(demo: Run, name: str, kind: str) -> None:
    with pytest.raises(InputError, match=r"no run named 'nothing'|did you mean trials"):
        facex_tune.load_run(demo.storage / name, kind)


def test_loading_a_run_loads_neither_ray_nor_torch(demo: Run) -> None:
    code = f"""
import json, sys
import facex_tune
frame = facex_tune.load_run({str(demo.folder)!r})
heavy = {{"ray", "torch", "optuna", "matplotlib", "typer", "rich"}}
print(json.dumps([len(frame), sorted(heavy & set(sys.modules))]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [4, []]


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_no_cell_is_a_formula_to_a_spreadsheet(demo: Run, begins: str) -> None:
    text = f"{begins}cmd|' /C calc'!A0"
    with demo.log() as log:
        log.append(TrialStarted(9, {"model": text, "train.lr": -0.5}, "sampler"))
        log.append(TrialFailed(9, "error", text))
    rows = list(csv.DictReader(io.StringIO(frames.trials_csv(demo), newline="")))
    [row] = [row for row in rows if row["number"] == "9"]
    shown = text.replace("\r", "\n")  # a carriage return that is not quoted would end the row
    assert (row["model"], row["detail"]) == (f"'{shown}", f"'{shown}")
    assert row["train.lr"] == "-0.5", "a number is one"
    table = as_csv([{text: text, "mean": -0.25, "ends": None}])
    header, cells = csv.reader(io.StringIO(table, newline=""))
    assert (header, cells) == ([f"'{shown}", "mean", "ends"], [f"'{shown}", "-0.25", ""])
