"""The search stage on Ray: slots fill at once, and a budget that is used up leaves nobody waiting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from facex_tune import parts
from facex_tune.errors import InputError
from facex_tune.pipeline import stages
from facex_tune.pipeline.begin import begin
from facex_tune.pipeline.options import Options
from facex_tune.runs.events import StageStarted
from facex_tune.runs.history import FAILED, FINISHED, STOPPED
from facex_tune.runs.store import Run
from facex_tune.search import data_placement, ray_session, search
from facex_tune.search.job import Context
from facex_tune.search.referee import Referee
from facex_tune.search.trainable import FaceTrial
from facex_tune.search.worker_losses import WORKER_LOSSES
from tests.faults.conftest import only_full
from tests.search.conftest import tiny_study

SLOTS, WANTED = 4, 6
FAULTY = Path(__file__).parents[1] / "faults" / "parts"


@pytest.fixture
def four_slots(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in ray_session._SETTINGS.items():
        monkeypatch.setenv(name, value)
    ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("four_slots")
def test_slots_fill_at_once_and_a_budget_that_is_used_up_ends_who_still_waits(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six trials are wanted where four fit, as on a cluster that others use too; the time is up with the first epoch
    of any. Slow: Ray is started.
    """
    study = tiny_study(budget={"trials": 50, "time": "1h"}, search={"seed": 3, "scheduler": "none"})
    run = begin(study, "s", Options(tmp_path, tiny_data))
    with run.log() as log:
        context = stages._context(run, Options(tmp_path, tiny_data, "cpu"), log.fence)
        log.append(StageStarted(stage="search"))
        known: list[Referee] = []
        referee = Referee(run, log, lambda: 7200.0 * any(t.epochs for r in known for t in r.trials.values()))
        known.append(referee)
        shared = data_placement.share(context)
        search._fit(referee, context, shared, lambda: len(referee.live) < WANTED, str(tmp_path / "tune"))
    assert referee.fatal is None
    told = [event["type"] for event in run.events()]
    assert told[: told.index("epoch")].count("trial_started") == WANTED
    trials = list(run.history().trials.values())
    assert len(trials) == WANTED
    assert all((trial.state, trial.reason) == (STOPPED, "budget: time") for trial in trials)
    assert 1 <= sum(len(trial.epochs) for trial in trials) <= SLOTS
    assert "Trial" not in capsys.readouterr().out, "Tune's own words"


@pytest.mark.slow
@pytest.mark.usefixtures("four_slots")
@pytest.mark.parametrize("scheduler", ["none", "asha_promotion"])
def test_a_worker_that_is_lost_while_it_changes_to_another_trial_costs_no_trial(
    tiny_data: Path, tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune gives such a trial up without a word to the scheduler. Seen where a host died. Slow: Ray is started."""
    died = tmp_path / "died"

    class Dies(FaceTrial):
        def reset_config(self, new_config: dict[str, Any]) -> bool:
            if not died.exists():
                died.touch()
                os._exit(1)
            return super().reset_config(new_config)

    monkeypatch.setattr(search, "FaceTrial", Dies)
    study = tiny_study(budget={"trials": 3}, search={"seed": 3, "scheduler": scheduler, "concurrency": 1})
    run = begin(study, "r", Options(tmp_path, tiny_data))
    with run.log() as log:
        context = stages._context(run, Options(tmp_path, tiny_data, "cpu"), log.fence)
        log.append(StageStarted(stage="search"))
        referee = Referee(run, log)
        shared = data_placement.share(context)
        search._fit(referee, context, shared, lambda: not referee.live, str(tmp_path / "tune"))
    assert died.exists()
    trials = list(run.history().trials.values())
    assert len(trials) == 3
    assert {trial.state for trial in trials} <= {FINISHED, STOPPED}
    assert [event["reason"] for event in run.events() if event["type"] == "trial_recovered"] == ["worker_lost"]


def test_what_is_known_of_a_study_is_told_before_its_search(tmp_path: Path) -> None:
    """Final models that are trained less than trials; the search itself ends at once, at a run that there is not."""
    told: list[dict[str, Any]] = []
    for name, epochs in (("short", 2), ("full", 3)):
        study = tiny_study(retrain={"epochs": epochs}, search={"learn_from": "nobody"})
        run = Run.create(tmp_path, name, study, data={}, environment={})
        context = Context(str(tmp_path), name, run.study.to_data(), "", 1, "cpu", (), 0)
        with run.log() as log:
            log.listeners.append(told.append)
            with pytest.raises(InputError, match="nobody"):
                search.search(run, log, context)
    notes = [event["text"] for event in told if event["type"] == "note" and "final models" in event["text"]]
    assert len(notes) == 1
    assert notes[0].startswith("final models are trained for 2 epochs (retrain.epochs), ")


@only_full
@pytest.mark.slow
@pytest.mark.usefixtures("four_slots")
def test_a_search_that_could_train_nothing_says_so_and_what_it_held(tiny_data: Path, tmp_path: Path) -> None:
    """One trial diverges, the other loses every worker. Slow: Ray is started, and seven workers."""
    parts.use_folder(FAULTY)
    faults = ("nan", "dies")
    study = tiny_study(
        budget={"trials": 2},
        search={"seed": 3, "start_with": [{"model.faulty_net.fault": fault} for fault in faults]},
        space={"model": [{"faulty_net": {"fault": list(faults)}}], "augment": "none", "balance": "none"},
    )
    options = Options(tmp_path, tiny_data, "cpu")
    run = begin(study, "n", options)
    with run.log() as log, pytest.raises(InputError, match=r"^no trial could be trained: all 2 failed before"):
        search.search(run, log, stages._context(run, options, log.fence))
    parts._own_folders.clear()
    history = run.history()
    assert history.stages["search"] == "started"
    assert [trial.state for trial in history.trials.values()] == [FAILED] * 2
    lost = [event["seconds"] for event in run.events() if event["type"] in ("trial_recovered", "trial_failed")]
    assert len(lost) == 2 + WORKER_LOSSES
    assert all(seconds > 0 for seconds in lost)
    assert sum(trial.seconds for trial in history.trials.values()) == pytest.approx(sum(lost))


@pytest.mark.slow
@pytest.mark.usefixtures("four_slots")
def test_what_no_trial_would_escape_is_told_before_those_that_wait_begin(tiny_data: Path, tmp_path: Path) -> None:
    """Six trials are wanted where four fit, and no worker finds the faces. Slow: Ray is started."""
    began: list[int] = []

    class Counting(Referee):
        def worker_began(self, number: int) -> None:
            began.append(number)

    run = begin(tiny_study(budget={"trials": 50}), "f", Options(tmp_path, tiny_data))
    with run.log() as log:
        context = stages._context(run, Options(tmp_path, tiny_data, "cpu"), log.fence)
        lost = replace(context, data_dir=str(tmp_path / "nowhere"))
        referee = Counting(run, log)
        shared = data_placement.share(context)
        search._fit(referee, lost, shared, lambda: len(referee.live) < WANTED, str(tmp_path / "tune"))
    assert "is not prepared" in str(referee.fatal)
    assert len(run.history().trials) == WANTED
    assert len(began) <= SLOTS
