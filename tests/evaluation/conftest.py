"""A real run folder over small synthetic sets: logged by the store, with models that were really built and saved."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facex_tune import study
from facex_tune.data import faces, training_set
from facex_tune.data.faces import VOTE_ANSWERS, Faces
from facex_tune.runs.events import (
    CandidateChosen,
    EpochDone,
    ModelFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
)
from facex_tune.runs.store import Log, Run
from facex_tune.study import protocols
from facex_tune.training import classifier

SAID: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "data": "synthetic",
    "budget": {"trials": 4},
    "fidelity": {"min_epochs": 1, "max_epochs": 3},
    "space": {
        "model": [{"resnet": {"depth": 10, "width": [16]}}, {"facex_cnn": {"width": 0.25}}],
        "augment": ["none", "flip_shift"],
        "balance": ["none"],
        "train": {"lr": {"low": 0.01, "high": 0.3, "log": True}, "batch_size": 32},
    },
    "retrain": {"top": 2, "seeds": 2, "epochs": 3},
    "evaluate": {
        "protocols": ["synthetic.private", "synthetic.majority7", "synthetic.lab.6", "synthetic.lab.6.masked"],
    },
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def made_faces(labels: list[int], splits: list[str], *, seed: int, group_size: int = 1, votes: bool = False) -> Faces:
    """Noise whose brightness tells the emotion; votes agree with the label."""
    rng = np.random.default_rng(seed)
    n = len(labels)
    noise = rng.integers(0, 100, (n, 48, 48))
    votes_NC = np.zeros((n, len(VOTE_ANSWERS)), np.int16)
    votes_NC[np.arange(n), labels] = 10
    return Faces(
        images_NHW=(noise + 20 * np.array(labels)[:, None, None]).astype(np.uint8),
        labels_N=np.array(labels, np.int64),
        split_N=np.array(splits),
        group_N=np.arange(n, dtype=np.int64) // group_size,
        sequence_N=np.full(n, -1, np.int64),
        votes_NC=votes_NC if votes else None,
        source_N=np.array([f"face {i}" for i in range(n)]),
    )


def planted(images_NHW: np.ndarray) -> np.ndarray:
    """Private test faces 0 and 1 become a copy and a mirrored copy of training faces."""
    images_NHW[112] = images_NHW[0]
    images_NHW[113] = images_NHW[1][:, ::-1]
    return images_NHW


def write_data(folder: Path) -> Path:
    """`synthetic` (70 train, 42 public, 42 private, two of them copies) and `synthetic_lab` (42 of 14 subjects)."""
    splits = ["train"] * 70 + ["public_test"] * 42 + ["private_test"] * 42
    wild = made_faces([i % 7 for i in range(154)], splits, seed=0, votes=True)
    planted(wild.images_NHW)
    lab = made_faces([i % 7 for i in range(42)], ["test"] * 42, seed=1, group_size=3)
    faces.write(wild, folder, "synthetic", source={}, skipped=[])
    faces.write(lab, folder, "synthetic_lab", source={}, skipped=[])
    return folder


def new_run(
    storage: Path, data_dir: Path, name: str = "small-1", *, retrained: bool = True, seeds: int = 2, **said: Any
) -> Run:
    """A run that was searched, and retrained where asked; `said` changes the study."""
    parsed = study.parse(SAID | said)
    sets = sorted({*parsed.sets, *(protocols.find(each).data for each in parsed.evaluate.protocols)})
    manifests = {each: faces.read_manifest(data_dir, each) for each in sets if faces.is_prepared(data_dir, each)}
    environment: dict[str, Any] = {"packages": {"torch": "2"}, "git_commit": None, "hardware": {"cpus": 2}}
    if len(parsed.sets) > 1:
        environment["faces"] = {"by_set": training_set.load(parsed, data_dir).by_set()}
    run = Run.create(storage, name, parsed, data=manifests, environment=environment)
    with run.log() as log:
        log_search(run, log)
        if retrained:
            log_models(run, log, seeds)
    return run


RunMaker = Callable[..., Run]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def make_run(tmp_path: Path, data_dir: Path) -> RunMaker:
    """`new_run` in this test's own folders."""
    return partial(new_run, tmp_path / "runs", data_dir)


def log_search(run: Run, log: Log) -> None:
    """Four trials: two finish, one is stopped at a rung, one diverges."""
    rng = np.random.default_rng(0)
    log.append(RunStarted())
    log.append(StageStarted(stage="search"))
    for trial, epochs in enumerate((3, 3, 1, 2)):
        log.append(TrialStarted(trial=trial, config=run.study.space.random(rng), source="sampler"))
        for epoch in range(1, epochs + 1):
            value = 0.2 + 0.1 * epoch + 0.02 * trial
            found = {"accuracy": value + 0.1, "macro_f1": value, "train_loss": 2 - value}
            log.append(EpochDone(trial=trial, epoch=epoch, metrics=found, seconds=2.0))
        if trial == 3:
            log.append(TrialFailed(trial=3, reason="diverged", detail="training loss is nan in epoch 3"))
        elif epochs == 3:
            log.append(TrialFinished(trial=trial))
        else:
            log.append(TrialStopped(trial=trial, epoch=epochs))
    log.append(StageFinished(stage="search"))


def log_models(run: Run, log: Log, seeds: int) -> None:
    """Both candidates, untrained but real."""
    board = run.history().leaderboard(run.study)[: run.study.retrain.top]
    for rank, trial in enumerate(board, start=1):
        log.append(CandidateChosen(trial=trial.number, value=trial.metrics["macro_f1"], rank=rank))
        for seed in range(seeds):
            torch.manual_seed(100 * trial.number + seed)
            model = classifier.build_model(trial.config, run.study.classes, (0.4, 0.2))
            found = {"accuracy": 0.4 + 0.01 * seed, "macro_f1": 0.35 + 0.02 * seed, "train_loss": 1.0}
            info = {"trial": trial.number, "seed": seed, "config": trial.config, "metrics": found}
            info["n_classes"] = run.study.classes
            run.save_model(trial.number, seed, dict(model.state_dict()), info)
            rows = "".join(f"{epoch},{0.1 * epoch + 0.01 * seed}\n" for epoch in (1, 2, 3))
            (run.final_folder(trial.number, seed) / "history.csv").write_text("epoch,macro_f1\n" + rows)
            log.append(ModelFinished(candidate=trial.number, seed=seed, metrics=found))
