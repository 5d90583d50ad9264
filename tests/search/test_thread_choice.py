"""How many threads a training has where the machine decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from facex_tune.pipeline import stages
from facex_tune.pipeline.begin import begin
from facex_tune.pipeline.options import Options
from facex_tune.runs.events import ThreadsChosen, TrialStarted
from facex_tune.runs.store import Run
from facex_tune.search import ray_session, retrain, search, thread_choice
from facex_tune.search.fleet import Order
from facex_tune.search.job import Job
from facex_tune.search.referee import Referee
from facex_tune.search.thread_choice import allotted
from tests.faults.conftest import only_full
from tests.search.conftest import tiny_study

CPUS = 2
SIDE_BY_SIDE = {1: 2, 2: 1}  # on two cores


@pytest.mark.parametrize(
    ("n", "speeds", "threads"),
    [
        (4, {1: 100, 2: 150}, [1, 1, 1, 1]),  # two rounds of 1/100, four of 1/150
        (4, {1: 100, 2: 210}, [2, 2, 2, 2]),
        (1, {1: 100, 2: 110}, [2]),  # the other core would have nothing to do
        (3, {1: 100, 2: 110}, [1, 1, 2]),
        (3, {1: 100, 2: 90}, [1, 1, 1]),  # its threads wait for each other
        (2, {1: 100}, [1, 1]),
    ],
)
def test_trainings_get_the_threads_with_which_all_are_done_soonest(
    n: int, speeds: dict[int, float], threads: list[int]
) -> None:
    assert allotted(n, speeds, SIDE_BY_SIDE) == threads


def test_a_study_that_trains_one_at_a_time_leaves_no_core_idle() -> None:
    assert allotted(9, {1: 100, 2: 110}, {1: 1, 2: 1}) == [2] * 9


def said_of(run: Run) -> list[dict[str, object]]:
    return [event for event in run.events() if event["type"] == "threads_chosen"]


@only_full
@pytest.mark.slow
def test_a_run_measures_logs_and_keeps_its_threads(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow: Ray is started."""
    monkeypatch.setattr(thread_choice, "SECONDS", 0.0)
    study = tiny_study(
        budget={"trials": 2},
        fidelity={"min_epochs": 1, "max_epochs": 1},
        search={"seed": 3, "scheduler": "none"},
        resources={"cpus": "auto"},
        retrain={"top": 1, "seeds": 3, "epochs": 1},
    )
    options = Options(tmp_path, tiny_data, "cpu")
    run = begin(study, "a", options)
    with ray_session.connected("local", CPUS), run.log() as log:
        context = stages._context(run, options, log.fence)
        search.search(run, log, context)
        (chosen,) = said_of(run)
        speeds = chosen["images_per_second"]["facex_cnn"]  # type: ignore[index]
        assert list(speeds) == ["1", "2"]
        assert min(speeds.values()) > 0
        number = chosen["threads"]["facex_cnn"]  # type: ignore[index]
        assert number == allotted(2, {int(t): speed for t, speed in speeds.items()}, SIDE_BY_SIDE)[0]
        assert [trial.threads for trial in run.history().trials.values()] == [number] * 2
        monkeypatch.setattr(thread_choice, "_speeds", lambda *_: {"facex_cnn": {1: 100.0, 2: 110.0}})
        retrain.retrain(run, log, context)
        assert thread_choice.of_search(run, log, context, 1) == {"facex_cnn": number}, "kept, whatever is measured now"
    assert [run.load_model_files(*key)[1]["threads"] for key in sorted(run.history().models)] == [1, 1, 2]
    assert len(said_of(run)) == 2


def test_what_was_chosen_is_kept_on_resume(tiny_data: Path, tmp_path: Path) -> None:
    """No Ray: nothing is measured where every training has its threads."""
    options = Options(tmp_path, tiny_data, "cpu")
    run = begin(tiny_study(resources={"cpus": "auto"}), "k", options)
    config = run.study.space.defaults()
    with run.log() as log:
        log.append(ThreadsChosen("search", {"facex_cnn": 2}, {}, CPUS))
        log.append(ThreadsChosen("retrain", {"a": 2, "b": 1}, {}, CPUS))
        log.append(TrialStarted(0, config, "sampler", threads=2))
        context = stages._context(run, options, log.fence)
        referee = Referee(run, log, threads=thread_choice.of_search(run, log, context, None))
        begun, new = referee.next_trial(), referee.next_trial()
        assert begun is not None
        assert new is not None
        assert (referee.job(begun).threads, referee.job(new).threads, referee.threads_held()) == (2, 2, 4)
        orders = [Order(0, seed, Job(config, 1, (seed,), "x"), name) for seed, name in enumerate("ab")]
        groups = thread_choice.of_orders(run, log, context, "retrain", orders)
    assert [[(order.name, order.job.threads) for order in group] for group in groups] == [[("b", 1)], [("a", 2)]]
