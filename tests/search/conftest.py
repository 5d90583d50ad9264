"""A data set small enough that a whole search takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facex_tune import study as studies
from facex_tune.data import faces as faces_room
from facex_tune.data.sources import synthetic
from facex_tune.study import Study

SPLITS = (("train", 280), ("public_test", 70), ("private_test", 70))


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared set named `synthetic` of 420 faces, and `synthetic_lab` of 90."""
    return write_tiny_data(tmp_path_factory.mktemp("data"))


def write_tiny_data(folder: Path) -> Path:
    """Writes what `tiny_data` has, for who is no test."""
    drawn = synthetic.generate(sum(count for _, count in SPLITS), seed=1, imbalance=0.3)
    split_N = np.repeat([name for name, _ in SPLITS], [count for _, count in SPLITS])
    wild = faces_room.Faces(**{**vars(drawn), "split_N": split_N})
    faces_room.write(wild, folder, "synthetic", source={"name": "synthetic"}, skipped=[])
    lab = synthetic.generate(90, seed=2, variant="lab")
    faces_room.write(lab, folder, "synthetic_lab", source={"name": "synthetic_lab"}, skipped=[])
    return folder


def tiny_study(**changes: object) -> Study:
    """Four trials of at most three epochs of the smallest network, one at a time; `changes` replace whole keys."""
    return studies.parse(tiny_study_data(**changes))


def tiny_study_data(**changes: object) -> dict[str, object]:
    """The same as it is written in a file."""
    said: dict[str, object] = {
        "version": 1,
        "name": "tiny",
        "data": "synthetic",
        "budget": {"trials": 4},
        "fidelity": {"min_epochs": 1, "max_epochs": 3, "reduction": 2},
        "search": {"seed": 3, "concurrency": 1},
        "space": {
            "model": [{"facex_cnn": {"width": 0.25}}],
            "augment": ["none", "flip_shift"],
            "balance": ["none", "logit_adjust"],
            "train": {"lr": {"low": 0.01, "high": 0.1, "log": True}, "batch_size": 32},
        },
        "retrain": {"top": 1, "seeds": 2, "epochs": 2},
        "evaluate": {"protocols": ["synthetic.private", "synthetic.lab.6"]},
    }
    return {**said, **changes}
