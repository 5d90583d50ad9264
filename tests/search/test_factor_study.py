"""The factor stage on Ray: a budget ends it, it goes on where it was, and a part that matters is seen to."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facex_tune import parts
from facex_tune.errors import InputError
from facex_tune.pipeline import stages
from facex_tune.pipeline.begin import begin
from facex_tune.pipeline.options import Options
from facex_tune.report import factor_effects as analysis
from facex_tune.runs.events import CandidateChosen, EpochDone, RunStarted, TrialFinished, TrialStarted
from facex_tune.runs.history import History, Trial
from facex_tune.runs.store import Run
from facex_tune.search import factor_study, ray_session
from facex_tune.search.factor_design import Cell
from facex_tune.search.factor_progress import Asked, Progress, winner_of

from .conftest import tiny_study

FIXED = {name: knob.default for name, knob in parts.model("facex_cnn").SPACE.items()} | {"width": 0.25}


def searched(storage: Path, data: Path, **said: Any) -> Run:
    """A run with a winner, as its log would tell; nothing was trained."""
    study = tiny_study(**said)
    run = begin(study, "f", Options(storage, data))
    config = study.space.random(np.random.default_rng(0)) | {"augment": "none", "balance": "none", "train.lr": 0.05}
    with run.log() as log:
        log.append(RunStarted())
        log.append(TrialStarted(trial=0, config=config, source="sampler"))
        log.append(EpochDone(trial=0, epoch=3, metrics={"macro_f1": 0.3, "accuracy": 0.4}, seconds=1.0))
        log.append(TrialFinished(trial=0))
        log.append(CandidateChosen(trial=0, value=0.3, rank=1))
    return run


def study_factors(run: Run, data: Path, asked: Asked) -> Progress:
    """One session of the stage, on a Ray that runs already."""
    with run.log() as log:
        context = stages._context(run, Options(run.storage, data, "cpu"), log.fence)
        factor_study.factors(run, log, context, asked)
    return Progress.of(run.events())


def at(second: int, **event: Any) -> dict[str, Any]:
    return {"time_utc": f"2026-01-01T10:{second // 60:02d}:{second % 60:02d}+00:00", **event}


BEGUN = at(0, type="stage_started", stage="factors", budget_s=600.0)
ENDED = at(500, type="stage_finished", stage="factors")
ONE_RUN = at(90, type="factor_finished", cell="reference", seed=0, metrics={})


def test_an_interrupted_session_goes_on_with_the_rest_of_its_budget() -> None:
    later = at(3000, type="run_resumed")  # for a report, hours after
    assert Asked.interrupted([BEGUN, ONE_RUN, at(95, type="run_interrupted"), later]) == Asked(budget_s=510.0)
    assert Asked.interrupted([{**BEGUN, "budget_s": 60.0}, ONE_RUN]) == Asked(budget_s=0.0)
    without_limit = {name: value for name, value in BEGUN.items() if name != "budget_s"}
    assert Asked.interrupted([without_limit, ONE_RUN]) == Asked()


def test_a_study_that_came_to_its_end_or_was_never_begun_is_not_gone_on_with() -> None:
    assert Asked.interrupted([BEGUN, ONE_RUN, ENDED]) is None
    assert Asked.interrupted([at(0, type="stage_started", stage="search")]) is None


def test_a_study_that_was_asked_for_and_cut_short_before_it_began_is_all_to_do() -> None:
    asked = Asked(seeds=2, epochs=4, budget_s=60.0)
    session = at(0, type="run_resumed", stages=["factors", "report"], options={"factors": asdict(asked)})
    for_a_report = at(50, type="run_resumed", stages=["report"], options={"factors": None})
    assert Asked.interrupted([session, for_a_report]) == asked
    assert Asked.interrupted([session, BEGUN, ENDED]) is None
    assert Asked.interrupted([BEGUN, ONE_RUN, session]) == asked
    assert Asked.interrupted([session, BEGUN, ONE_RUN]) == Asked(budget_s=510.0)


def test_a_resumed_run_leaves_what_is_finished_except_the_study_and_its_report() -> None:
    history = History(stages=dict.fromkeys(("search", "retrain", "evaluate", "report"), "finished"))
    asked = ["search", "retrain", "evaluate", "factors", "report"]
    assert stages.stages_left([stage for stage in asked if stage != "factors"], history) == []
    assert stages.stages_left(asked, history) == ["factors", "report"]
    assert stages.stages_left(["search"], history) == ["search"]
    assert stages.stages_left([], history) == []
    assert stages.stages_left(["evaluate", "report"], history) == ["evaluate", "report"]


def test_quick_comparisons_are_trained_first_and_knobs_after_parts() -> None:
    """The quick one's later epochs, of larger faces, do not count; one model was never trained in the search."""
    history = History()
    for number, (model, speed) in enumerate([("slow", 100.0), ("middle", 200.0), ("quick", 900.0)]):
        epochs = {1: {"train_images_per_second": speed}}
        history.trials[number] = Trial(number, {"model": model}, "sampler", epochs=epochs)
    history.trials[2].epochs[2] = {"train_images_per_second": 10.0}

    def cell(model: str, *changed: str) -> Cell:
        return Cell(f"{model} {changed}", {"model": model}, dict.fromkeys(changed, "other"), {})

    cells = [
        cell("middle"),
        cell("slow", "model"),
        cell("unseen", "model"),
        cell("middle", "augment"),
        cell("quick", "model", "augment"),
        cell("middle", "train.lr"),
    ]
    left = [(number, each, seed) for number, each in enumerate(cells) for seed in range(2)]
    trained = factor_study.by_cost(left, history)
    assert [number for number, _, seed in trained if seed == 0] == [0, 4, 3, 1, 2, 5]
    assert [seed for _, _, seed in trained] == [0, 1] * 6, "a configuration's seeds stay together"


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
    with ray_session.connected(None):
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


def test_a_run_of_the_study_is_named_after_what_it_changes(tiny_data: Path, tmp_path: Path) -> None:
    run = begin(tiny_study(), "named", Options(tmp_path, tiny_data))
    order = factor_study._order(run, {"epochs": 2}, 12, Cell("train.lr=0.1", {}, {"train.lr": 0.1}, {}), 1)
    assert order.name == "train.lr=0.1 seed 1"


def test_without_a_winner_there_is_nothing_to_vary(tiny_data: Path, tmp_path: Path) -> None:
    run = begin(tiny_study(), "none", Options(tmp_path, tiny_data))
    with pytest.raises(InputError, match="facex-tune retrain none"):
        winner_of(run.history(), run.words)
