"""The search stage on Ray: slots fill at once, and a budget that is used up leaves nobody waiting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from facex_tune import pipeline
from facex_tune.history import STOPPED
from facex_tune.pipeline import Options
from facex_tune.search import cluster, node, search
from facex_tune.search.referee import Referee
from tests.search.conftest import tiny_study

SLOTS, WANTED = 4, 6


@pytest.fixture
def four_slots(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in cluster._SETTINGS.items():
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
    run = pipeline.begin(study, "s", Options(tmp_path, tiny_data))
    with run.log() as log:
        context = pipeline._context(run, Options(tmp_path, tiny_data, "cpu"), log.fence)
        log.append("stage_started", stage="search")
        known: list[Referee] = []
        referee = Referee(run, log, lambda: 7200.0 * any(t.epochs for r in known for t in r.trials.values()))
        known.append(referee)
        search._fit(referee, context, node.share(context), lambda: len(referee.live) < WANTED, str(tmp_path / "tune"))
    assert referee.fatal is None
    told = [event["type"] for event in run.events()]
    assert told[: told.index("epoch")].count("trial_started") == WANTED
    trials = list(run.history().trials.values())
    assert len(trials) == WANTED
    assert all((trial.state, trial.reason) == (STOPPED, "budget: time") for trial in trials)
    assert 1 <= sum(len(trial.epochs) for trial in trials) <= SLOTS
    assert "Trial" not in capsys.readouterr().out, "Tune's own words"
