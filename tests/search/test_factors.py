"""The factor stage on Ray: a budget ends it, it goes on where it was, and a part that matters is seen to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facex_tune import parts, pipeline
from facex_tune.errors import InputError
from facex_tune.evidence import factors as analysis
from facex_tune.pipeline import Options
from facex_tune.search import cluster, factors
from facex_tune.search.asked import Asked, Progress
from facex_tune.store import Run

from .conftest import tiny_study

FIXED = {name: knob.default for name, knob in parts.model("facex_cnn").SPACE.items()} | {"width": 0.25}


def searched(storage: Path, data: Path, **said: Any) -> Run:
    """A run with a winner, as its log would tell; nothing was trained."""
    study = tiny_study(**said)
    run = pipeline.begin(study, "f", Options(storage, data))
    config = study.space.random(np.random.default_rng(0)) | {"augment": "none", "balance": "none", "train.lr": 0.05}
    with run.log() as log:
        log.append("run_started")
        log.append("trial_started", trial=0, config=config, source="sampler")
        log.append("epoch", trial=0, epoch=3, metrics={"macro_f1": 0.3, "accuracy": 0.4}, seconds=1.0)
        log.append("trial_finished", trial=0)
        log.append("candidate_chosen", trial=0, value=0.3, rank=1)
    return run


def study_factors(run: Run, data: Path, asked: Asked) -> Progress:
    """One session of the stage, on a Ray that runs already."""
    with run.log() as log:
        context = pipeline._context(run, Options(run.storage, data, "cpu"), log.fence)
        factors.factors(run, log, context, asked)
    return Progress.of(run.events())


@pytest.mark.slow
def test_a_study_cut_by_its_budget_goes_on_to_the_same_end(tiny_data: Path, tmp_path: Path) -> None:
    """One session too short for anything but what is begun, then one without a limit. Slow: Ray is started."""
    space = {
        "model": [{"facex_cnn": FIXED}],
        "augment": ["none"],
        "balance": ["none", {"logit_adjust": {"tau": 1.0}}],
        "train": {"lr": 0.05, "batch_size": 32},
    }
    run = searched(tmp_path, tiny_data, space=space)
    with cluster.connected(None):
        first = study_factors(run, tiny_data, Asked(seeds=2, epochs=2, budget_s=0.001))
        assert first.plan is not None
        assert len(first.left) == 4  # two cells of two seeds, none of which could end in one epoch
        assert list((run.folder / "factors").rglob("last.safetensors"))
        second = study_factors(run, tiny_data, Asked())
        with pytest.raises(InputError, match="planned with 2 seeds"):
            study_factors(run, tiny_data, Asked(seeds=5))
    assert second.left == []
    assert second.plan == first.plan
    assert not list((run.folder / "factors").rglob("last.safetensors"))
    assert not (run.folder / "final").exists()  # a factor study keeps no models
    effects = analysis.of_run(run)["effects"]
    assert [effect["cell"] for effect in effects] == ["balance=logit_adjust"]
    assert effects[0]["metrics"]["macro_f1"]["interval"] is not None


def test_without_a_winner_there_is_nothing_to_vary(tiny_data: Path, tmp_path: Path) -> None:
    run = pipeline.begin(tiny_study(), "none", Options(tmp_path, tiny_data))
    with pytest.raises(InputError, match="facex-tune retrain none"):
        factors.winner_of(run.history(), run.name)
