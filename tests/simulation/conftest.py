"""A drawn table of learning curves: small, its truth known, its trees few."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from facex_tune import study
from facex_tune.simulation import curves, forest
from facex_tune.simulation.curves import Curves
from facex_tune.study import Study

EPOCHS = 4
SAID: dict[str, Any] = {
    "version": 1,
    "name": "drawn",
    "data": "synthetic",
    "validation": {"holdout": 0.2},
    "budget": {"trials": 12},
    "fidelity": {"min_epochs": 1, "max_epochs": EPOCHS, "reduction": 2},
    "search": {"sampler": "random"},
    "space": {
        "model": [{"patch_cnn": {"width": [32, 48], "depth": 2, "patch": 3, "activation": "gelu", "dropout": 0.0}}],
        "augment": ["none", {"flip_shift": {"pixels": {"low": 1, "high": 6}}}],
        "balance": "none",
        "train": {"lr": {"low": 0.001, "high": 1.0, "log": True}, "optimizer": ["sgd", "adamw"]},
    },
}
TOO_FAST = 0.2  # a learning rate from which training diverges in epoch 2


def drawn_study(**changes: Any) -> Study:
    return study.parse({**SAID, **changes})


def final(config: dict[str, Any]) -> float:
    """What the drawn trainings end at: best at a rate of .03, with augmentation."""
    return 0.3 - 0.1 * abs(math.log10(config["train.lr"] / 0.03)) + 0.05 * (config["augment"] != "none")


def rows(number: int, seed: int, config: dict[str, Any]) -> list[dict[str, Any]]:
    told = {"configuration": number, "seed": seed, **config}
    found = []
    for epoch in range(1, EPOCHS + 1):
        if config["train.lr"] > TOO_FAST and epoch == 2:
            return [*found, {**told, "epoch": 2, "seconds": 5.0, "state": "diverged"}]
        value = final(config) * epoch / EPOCHS + 0.004 * (-1) ** (seed + epoch)
        scores = {"macro_f1": value, "accuracy": value + 0.1, "recall.happy": 0.5, "recall.sad": 0.5}
        found.append({**told, "epoch": epoch, "seconds": 10.0, "state": "", **scores})
    return found


def write(path: Path, table: list[dict[str, Any]], about: dict[str, Any] | None = None) -> Path:
    space = drawn_study().space
    said = {"what": "drawn curves", "epochs": EPOCHS, "space": space.to_data(), **(about or {})}
    metrics = ["macro_f1", "accuracy", "recall.happy", "recall.sad"]
    columns = ["configuration", "seed", "epoch", "seconds", "state", *metrics, *(name for name, _ in space.knobs())]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# {json.dumps(said)}\n")
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(table)
    return path


def drawn_rows(count: int = 60) -> list[dict[str, Any]]:
    import numpy as np

    space, found = drawn_study().space, []
    for number in range(count):
        config = space.random(np.random.default_rng(number))
        for seed in range(1 + (number % 4 == 0)):
            found += rows(number, seed, config)
    return found


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forest, "TREES", 10)


@pytest.fixture(scope="session")
def table_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("curves") / "drawn.csv", drawn_rows())


@pytest.fixture(scope="session")
def table(table_path: Path) -> Curves:
    return curves.read(table_path)
