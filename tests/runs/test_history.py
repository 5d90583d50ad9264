"""What events add up to, from hand-written logs."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facex_tune import study
from facex_tune.runs import history
from facex_tune.runs.history import best_of_each, fold, keeps, violation

START = datetime(2026, 1, 1, tzinfo=UTC)
Event = dict[str, Any]


def event(type: str, at_s: float = 0.0, **fields: Any) -> Event:
    time_utc = (START + timedelta(seconds=at_s)).isoformat(timespec="milliseconds")
    return {"v": 1, "seq": 1, "time_utc": time_utc, "type": type, **fields}


def started(trial: int, at_s: float = 0.0) -> Event:
    return event("trial_started", at_s, trial=trial, config={"train.lr": trial / 10}, source="sampler")


def epoch(trial: int, number: int, value: float, *, at_s: float = 0.0, **more: float) -> Event:
    return event("epoch", at_s, trial=trial, epoch=number, metrics={"macro_f1": value, **more}, seconds=2.0)


def trained(trial: int, values: list[float], end: str | None, **more: float) -> list[Event]:
    events = [started(trial), *(epoch(trial, i, value, **more) for i, value in enumerate(values, start=1))]
    reason = {"reason": "diverged", "detail": "loss is nan"} if end == "trial_failed" else {}
    return events if end is None else [*events, event(end, trial=trial, epoch=len(values), **reason)]


def order(events: list[Event], **said: Any) -> list[int]:
    parsed = study.parse({"version": 1, "name": "x", "data": "synthetic", **said})
    return [trial.number for trial in fold(events).leaderboard(parsed)]


# Trials


def test_a_trials_story() -> None:
    trial = fold(trained(3, [0.1, 0.4, 0.3], "trial_finished")).trials[3]
    assert trial.label == "t0003"
    assert trial.state == history.FINISHED
    assert trial.config == {"train.lr": 0.3}
    assert trial.source == "sampler"
    assert trial.last_epoch == 3
    assert trial.metrics == {"macro_f1": 0.3}, "the last epoch's, not the best one's"
    assert trial.seconds == 6.0


@pytest.mark.parametrize(
    ("end", "state"),
    [(None, "running"), ("trial_finished", "finished"), ("trial_stopped", "stopped"), ("trial_failed", "failed")],
)
def test_states(end: str | None, state: str) -> None:
    trial = fold(trained(0, [0.1], end)).trials[0]
    assert trial.state == state
    assert (trial.reason, trial.detail) == (("diverged", "loss is nan") if state == "failed" else ("", ""))


def test_seconds_that_came_to_no_epoch_were_held_all_the_same() -> None:
    events = [*trained(0, [0.1], None), event("trial_recovered", trial=0, reason="worker_lost", detail="", seconds=7.0)]
    events += [event("trial_recovered", trial=0, reason="hung", detail="")]
    events += [event("trial_failed", trial=0, reason="error", detail="", seconds=4.0)] * 2
    trial = fold(events).trials[0]
    assert (trial.seconds, trial.lost_seconds) == (13.0, 11.0)


def test_a_trial_before_its_first_epoch_has_no_metrics() -> None:
    trial = fold([started(0)]).trials[0]
    assert trial.last_epoch == 0
    assert trial.metrics == {}


def test_an_epoch_counts_once() -> None:
    """A resumed trial may report again the epoch that was in flight; the first report stands."""
    events = [started(0), epoch(0, 1, 0.1), epoch(0, 2, 0.2), started(0), epoch(0, 2, 0.9), epoch(0, 3, 0.3)]
    trial = fold(events).trials[0]
    assert {number: found["macro_f1"] for number, found in trial.epochs.items()} == {1: 0.1, 2: 0.2, 3: 0.3}
    assert trial.seconds == 6.0


@given(st.lists(st.integers(0, 11), max_size=30))
def test_any_events_told_twice_change_nothing(repeated: list[int]) -> None:
    events = trained(0, [0.1, 0.2], "trial_finished") + trained(1, [0.3], "trial_stopped")
    events += [event("candidate_chosen", trial=0, value=0.2, rank=1)]
    events += [event("model_finished", candidate=0, seed=0, metrics={"macro_f1": 0.2})]
    once = fold(events)
    assert fold(events + [events[i % len(events)] for i in repeated]) == once


# The leaderboard


def test_finished_before_stopped_before_running_before_failed_whatever_their_value() -> None:
    events = trained(0, [0.9], "trial_failed") + trained(1, [0.8], None)
    events += trained(2, [0.7], "trial_stopped") + trained(3, [0.1], "trial_finished")
    assert order(events) == [3, 2, 1, 0]


def test_finished_trials_go_by_value() -> None:
    events = [e for i, value in enumerate([0.2, 0.9, 0.5]) for e in trained(i, [value], "trial_finished")]
    assert order(events) == [1, 2, 0]


def test_a_metric_that_is_better_when_small() -> None:
    events = [e for i, v in enumerate([0.2, 0.9, 0.5]) for e in trained(i, [0.0], "trial_finished", log_loss=v)]
    assert order(events, objective="log_loss") == [0, 2, 1]


def test_of_stopped_trials_the_longer_one_goes_before_the_better_one() -> None:
    """Values at different epochs do not compare."""
    events = trained(0, [0.6], "trial_stopped") + trained(1, [0.1, 0.2, 0.3], "trial_stopped")
    events += trained(2, [0.1, 0.2, 0.4], "trial_stopped")
    assert order(events) == [2, 1, 0]


def test_equal_values_go_by_number() -> None:
    events = [e for i in (2, 0, 1) for e in trained(i, [0.5], "trial_finished")]
    assert order(events) == [0, 1, 2]


def test_trials_that_keep_the_constraints_go_before_those_that_break_them() -> None:
    events = trained(0, [0.9], "trial_finished", worst_class_recall=0.1)
    events += trained(1, [0.5], "trial_finished", worst_class_recall=0.3)
    events += trained(2, [0.8], "trial_finished")  # not measured
    events += trained(3, [0.7], "trial_stopped", worst_class_recall=0.9)
    assert order(events, constraints={"worst_class_recall": {"min": 0.3}}) == [1, 3, 0, 2]


def test_a_stopped_trial_is_judged_where_it_is_compared() -> None:
    """The first kept the bound at epoch 2, where all four are compared, and just not at 3, where it alone came."""
    at = [[(0.3, 0.1), (0.40, 0.25), (0.42, 0.19)]] + [[(0.3, 0.1), (0.35 - n / 100, 0.21)] for n in range(3)]
    events = [
        told
        for number, values in enumerate(at)
        for told in (
            started(number),
            *(epoch(number, n, f1, worst_class_recall=recall) for n, (f1, recall) in enumerate(values, start=1)),
            event("trial_stopped", trial=number, epoch=len(values)),
        )
    ]
    said = {
        "constraints": {"worst_class_recall": {"min": 0.2}},
        "fidelity": {"min_epochs": 2, "max_epochs": 18, "reduction": 3},
    }
    parsed = study.parse({"version": 1, "name": "x", "data": "synthetic", **said})
    assert fold(events).compared_at(parsed) == 2
    assert order(events, **said) == [0, 1, 2, 3]
    assert fold(events).keepers(parsed) == {0, 1, 2, 3}


def test_how_far_constraints_are_broken() -> None:
    bounds = {"worst_class_recall": {"min": 0.3}, "ece": {"min": 0.01, "max": 0.1}}
    assert violation(bounds, {"worst_class_recall": 0.3, "ece": 0.1}) == 0
    assert violation(bounds, {"worst_class_recall": 0.1, "ece": 0.4}) == pytest.approx(0.5)
    assert violation(bounds, {"worst_class_recall": 0.9, "ece": 0.0}) == pytest.approx(0.01)
    assert violation(bounds, {"ece": 0.05}) == violation(bounds, {"worst_class_recall": math.nan, "ece": 0.05})
    assert violation(bounds, {"ece": 0.05}) == math.inf


def test_a_configuration_that_was_tried_with_several_seeds_is_ranked_once_by_its_mean() -> None:
    events = trained(0, [0.6], "trial_finished") + trained(1, [0.5], "trial_finished")
    for repeat, value in ((2, 0.1), (3, 0.8)):
        again = trained(repeat, [value], "trial_finished")
        again[0]["config"] = {"train.lr": 0.0}  # trial 0's
        events += again
    events += [{**started(4), "config": {"train.lr": 0.0}}, event("trial_failed", trial=4, reason="diverged")]
    parsed = study.parse({"version": 1, "name": "x", "data": "synthetic"})
    found = fold(events).standings(parsed)
    assert [(each.rank, each.trial.number, each.repeats) for each in found] == [
        *[(1, 0, None), (1, 2, "t0000"), (1, 3, "t0000"), (1, 4, "t0000")],
        (2, 1, None),
    ]
    assert (found[0].n, found[0].mean["macro_f1"]) == (3, pytest.approx(0.5)), "the failed one came to no value"
    assert (found[-1].n, found[-1].mean) == (1, {"macro_f1": 0.5})


def test_a_lucky_seed_does_not_put_a_configuration_before_a_better_one() -> None:
    events = trained(0, [0.9], "trial_finished") + trained(1, [0.7], "trial_finished")
    again = trained(2, [0.2], "trial_finished")
    again[0]["config"] = {"train.lr": 0.0}
    assert order(events + again) == [1, 0, 2]
    assert fold(events + again).pareto(study.parse({"version": 1, "name": "x", "data": "synthetic"})) == {1}


def test_a_repeat_that_came_further_stands_for_its_configuration() -> None:
    again = trained(2, [0.2], "trial_finished")
    again[0]["config"] = {"train.lr": 0.0}
    events = trained(0, [0.9], "trial_stopped") + trained(1, [0.1], "trial_finished") + again
    assert order(events) == [2, 0, 1]


def test_a_trial_without_a_value_goes_last_of_its_kind() -> None:
    events = [started(0), *trained(1, [0.1], None)]
    assert order(events) == [1, 0]


def test_what_was_measured_is_ranked_before_what_was_not() -> None:
    """A failed trial that came to an epoch comes before one that runs its first, whose rank nobody is shown."""
    failed = [*trained(1, [0.1], None), event("trial_failed", trial=1, reason="diverged")]
    early = [started(3), event("trial_failed", trial=3, reason="out_of_memory")]
    assert order([started(0), *failed, *early, *trained(2, [0.3], "trial_finished")]) == [2, 1, 0, 3]


@pytest.mark.parametrize(
    ("found", "is_kept"),
    [({"ece": 0.1}, True), ({"ece": 0.2}, True), ({"ece": 0.05}, True), ({"ece": 0.21}, False), ({}, False)],
)
def test_bounds_include_their_ends(found: dict[str, float], is_kept: bool) -> None:
    assert keeps({"ece": {"min": 0.05, "max": 0.2}}, found) is is_kept
    assert keeps({}, found)


# Several objectives


def test_the_pareto_front_comes_first() -> None:
    events = trained(0, [0.9], "trial_finished", ece=0.5) + trained(1, [0.5], "trial_finished", ece=0.1)
    events += trained(2, [0.7], "trial_finished", ece=0.3) + trained(3, [0.8], "trial_finished", ece=0.6)
    events += trained(4, [0.6], "trial_finished", ece=0.3) + trained(5, [0.99], "trial_stopped", ece=0.0)
    parsed = study.parse({"version": 1, "name": "x", "data": "synthetic", "objective": ["macro_f1", "ece"]})
    assert fold(events).pareto(parsed) == {0, 1, 2}, "3 is beaten by 0, 4 by 2, and 5 has not finished"
    assert order(events, objective=["macro_f1", "ece"]) == [0, 2, 1, 3, 4, 5]


def test_equal_trials_share_the_front_and_those_that_break_a_bound_are_not_on_it() -> None:
    events = [e for i in range(2) for e in trained(i, [0.5], "trial_finished", ece=0.1, worst_class_recall=0.3)]
    events += trained(2, [0.9], "trial_finished", ece=0.0, worst_class_recall=0.1)
    events += trained(3, [0.9], "trial_finished", worst_class_recall=0.4)  # ece was not measured
    said = {"objective": ["macro_f1", "ece"], "constraints": {"worst_class_recall": {"min": 0.3}}}
    parsed = study.parse({"version": 1, "name": "x", "data": "synthetic", **said})
    assert fold(events).pareto(parsed) == {0, 1}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=25))
def test_the_front_is_what_nobody_beats(points: list[tuple[int, int]]) -> None:
    events = [e for i, (f1, ece) in enumerate(points) for e in trained(i, [f1 / 4], "trial_finished", ece=ece / 4)]
    parsed = study.parse({"version": 1, "name": "x", "data": "synthetic", "objective": ["macro_f1", "ece"]})

    def beats(one: tuple[int, int], other: tuple[int, int]) -> bool:
        return one[0] >= other[0] and one[1] <= other[1] and one != other

    unbeaten = {i for i, point in enumerate(points) if not any(beats(other, point) for other in points)}
    assert fold(events).pareto(parsed) == unbeaten


def test_what_was_learned() -> None:
    events = [event("learned", run="earlier", trials=[{"trial": 0}], left_out={"stopped, not finished": 2})] * 2
    (learned,) = fold(events).learned
    assert (learned.run, learned.trials, learned.left_out) == ("earlier", 1, {"stopped, not finished": 2})


# After the search


def test_candidates_models_and_openings() -> None:
    events = trained(4, [0.5], "trial_finished")
    events += [event("candidate_chosen", trial=4, value=0.5, rank=1)] * 2
    events += [event("model_finished", candidate=4, seed=seed, metrics={"macro_f1": seed / 10}) for seed in (0, 1)]
    opened = ("ckplus.6", "ckplus.6", "fer2013.private")
    events += [event("test_opened", protocol=name, models=2, n=9) for name in opened]
    found = fold(events)
    assert [(each.trial, each.value, each.rank) for each in found.candidates] == [(4, 0.5, 1)]
    assert found.models == {(4, 0): {"macro_f1": 0.0}, (4, 1): {"macro_f1": 0.1}}
    assert found.opened == {"ckplus.6": 2, "fer2013.private": 1}, "each opening counts, again or not"


def test_models_that_failed() -> None:
    failed = event("model_failed", candidate=4, seed=0, reason="diverged", detail="loss is nan")
    finished = event("model_finished", candidate=4, seed=1, metrics={"macro_f1": 0.1})
    found = fold([failed, finished, failed])
    assert (found.failed_models, list(found.models)) == ({(4, 0): "diverged"}, [(4, 1)])
    later = event("model_finished", candidate=4, seed=0, metrics={"macro_f1": 0.2})
    assert fold([failed, later, failed]).failed_models == {}, "tried again, with success"
    begins, ends = (event(f"stage_{what}", stage="retrain") for what in ("started", "finished"))
    assert fold([begins, failed, event("run_resumed"), begins]).failed_models == {(4, 0): "diverged"}
    assert fold([begins, failed, ends, begins]).failed_models == {}, "the stage was asked for anew"


def test_a_model_that_validation_faces_were_trained_on_stands_apart() -> None:
    failed = event("model_failed", candidate=4, seed=2, reason="diverged", detail="loss is nan", on="all")
    own = event("model_finished", candidate=4, seed=0, metrics={"macro_f1": 0.1})
    whole = event("model_finished", candidate=4, seed=2, metrics={"train_loss": 0.1}, on="all")
    found = fold([own, failed])
    assert (list(found.models), found.failed_models, found.failed_on_all) == ([(4, 0)], {}, {(4, 2): "diverged"})
    found = fold([own, failed, whole])
    assert (found.finished_models, found.failed_on_all) == ([(4, 0)], {})
    assert found.models_on_all == {(4, 2): {"train_loss": 0.1}}


def test_stages() -> None:
    events = [event("stage_started", stage="search"), event("stage_finished", stage="search")]
    found = fold([*events, event("stage_started", stage="retrain")])
    assert found.stages == {"search": "finished", "retrain": "started"}


def test_events_of_a_later_version_are_passed_over() -> None:
    assert fold([event("weather", sky="grey")]).trials == {}


# The clock of the search


def test_the_searchs_seconds_run_from_start_to_end() -> None:
    events = [
        event("run_started", 0),
        event("stage_started", 5, stage="search"),
        started(0, 6),
        epoch(0, 1, 0.1, at_s=20),
        event("stage_finished", 25, stage="search"),
        event("stage_started", 26, stage="retrain"),
        event("stage_finished", 90, stage="retrain"),
    ]
    assert fold(events).search_seconds == 20.0
    assert fold(events).stage_seconds == {"search": 20.0, "retrain": 64.0}


def test_the_hours_between_a_kill_and_its_resume_do_not_count() -> None:
    events = [
        event("run_started", 0),
        event("stage_started", 0, stage="search"),
        epoch_event := epoch(0, 1, 0.1, at_s=10),  # then killed
        event("run_resumed", 5000),
        event("stage_started", 5003, stage="search"),
        event("run_interrupted", 5013, signal="SIGTERM"),
        event("run_resumed", 9000),
        event("stage_started", 9001, stage="search"),
        event("stage_finished", 9002, stage="search"),
    ]
    assert epoch_event["epoch"] == 1
    events.insert(0, started(0))
    assert fold(events).search_seconds == 10 + 10 + 1
    assert fold(events).killed_stages == ["search"], "what was done after its last event, nobody knows"
    assert fold(events[4:]).killed_stages == [], "an interruption has its event"


def test_a_search_that_still_runs_has_its_seconds_until_the_last_event() -> None:
    assert fold([event("stage_started", 3, stage="search"), started(0, 10)]).search_seconds == 7.0
    assert fold([]).search_seconds == 0.0


# Progress


@given(st.lists(st.floats(allow_nan=False), max_size=20), st.booleans())
def test_the_best_so_far(values: list[float], maximize: bool) -> None:
    best = max if maximize else min
    assert best_of_each(values, maximize) == [best(values[: i + 1]) for i in range(len(values))]
