"""A search in a run folder, logged as a real one is, without any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from facex_tune import study
from facex_tune.runs.events import SealedSetOpened
from facex_tune.runs.store import Run
from facex_tune.storage import files
from tests.records import record

SearchMaker = Callable[..., Run]
SAID: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "data": "synthetic",
    "budget": {"trials": 4},
    "fidelity": {"min_epochs": 1, "max_epochs": 3},
    "space": {
        "model": [{"resnet": {"depth": 10, "width": 16, "dropout": [0.0, 0.2]}}, {"facex_cnn": {"width": 0.25}}],
        "augment": ["none", "flip_shift"],
        "balance": ["none"],
        "train": {"lr": {"low": 0.01, "high": 0.3, "log": True}, "batch_size": [32, 64]},
    },
}
MODELS = ("resnet", "facex_cnn", "resnet", "facex_cnn")
CHOICES = {"model.resnet.dropout": 0.2, "train.lr": 0.05, "train.batch_size": 64}


def _config(space: Any, model: str) -> dict[str, Any]:
    own = {name: value for name, value in CHOICES.items() if name.split(".")[1] in (model, "lr", "batch_size")}
    return dict(space.complete({"model": model, **own}))


def _scores(value: float) -> dict[str, float]:
    return {
        "macro_f1": value,
        "accuracy": value + 0.1,
        "log_loss": 2 - value,
        "recall.happy": value,
        "train_loss": 1.0,
        "train_images_per_second": 100.0,
    }


def _events(space: Any) -> list[dict[str, Any]]:
    """Four trials side by side: one finishes, one is stopped at a rung, one fails before its first epoch, one runs."""
    told: list[dict[str, Any]] = [{"type": "run_started"}, {"type": "stage_started", "stage": "search"}]
    for trial, model in enumerate(MODELS):
        told.append({"type": "trial_started", "trial": trial, "config": _config(space, model), "source": "sampler"})

    def epoch(trial: int, number: int, value: float) -> None:
        metrics = _scores(value)
        told.append({"type": "epoch", "trial": trial, "epoch": number, "metrics": metrics, "seconds": 1.5})

    epoch(0, 1, 0.2)
    epoch(1, 1, 0.3)
    told.append({"type": "trial_stopped", "trial": 1, "epoch": 1, "reason": "rung"})
    epoch(0, 2, 0.4)
    detail = "training loss is nan in epoch 1"
    told.append({"type": "trial_failed", "trial": 2, "reason": "diverged", "detail": detail})
    epoch(0, 3, 0.6)
    told.append({"type": "trial_finished", "trial": 0})
    epoch(3, 1, 0.5)
    epoch(3, 1, 0.5)  # told again after a resume
    return told


@pytest.fixture
def events_of_search() -> list[dict[str, Any]]:
    return _events(study.parse(SAID).space)


@pytest.fixture
def make_search(tmp_path: Path, events_of_search: list[dict[str, Any]]) -> SearchMaker:
    """A run of that search, or of other events; `said` changes the study."""

    def make(events: Sequence[dict[str, Any]] | None = None, **said: Any) -> Run:
        run = Run.create(tmp_path / "runs", "demo", study.parse(SAID | said), data={}, environment={})
        with run.log() as log:
            for event in events_of_search if events is None else events:
                log.append(record(event))
        return run

    return make


def score(run: Run, protocol: str, accuracy: float = 0.25, n: int = 80) -> None:
    """What `evaluate` leaves of one candidate with two final models."""
    low_high = [accuracy - 0.1, accuracy + 0.1]
    metrics = {
        "accuracy": {"mean": accuracy, "interval": low_high, "per_model": [accuracy, accuracy]},
        "ece": {"mean": 0.05, "interval": None, "per_model": [0.05, 0.05], "floor": 0.04},
    }
    happy: dict[str, Any] = {"support": 8, "precision": 0.5, "recall": 0.75, "f1": 0.6}
    happy |= {f"{name}_interval": None for name in ("precision", "recall", "f1")}
    clean = {"n": 40, "metrics": {"accuracy": {"mean": accuracy / 2, "interval": None, "per_model": []}}}
    found: dict[str, Any] = {
        "models": ["t0000-s0", "t0000-s1"],
        "seeds": [0, 1],
        "n": n,
        "metrics": metrics if n else {},
        "per_emotion": {"happy": happy} if n else {},
        "confusion": {"classes": ["happy", "sad"], "counts": [[30, 10], [20, 20]]},
        "clean": clean if n else None,
        "adjusted": None,
    }
    document = {"schema": 1, "protocol": protocol, "winner": "t0000", **found, "candidates": {"t0000": found}}
    files.write_json(run.evaluation_folder / f"{protocol}.json", document)
    with run.log() as log:
        log.append(SealedSetOpened(protocol=protocol, models=found["models"], n=n))
