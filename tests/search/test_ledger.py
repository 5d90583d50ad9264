"""What a sampler is shown: values with their fidelity, on one scale."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.trial import TrialState

from facex_tune.runs.history import FAILED, FINISHED, STOPPED
from facex_tune.search.ledger import BEST_REMEMBERED, LATEST_REMEMBERED, Ledger, View


def ledger(*objectives: str, view: View | None = None, bounds: dict[str, dict[str, float]] | None = None) -> Ledger:
    return Ledger(objectives or ("macro_f1",), bounds or {}, 9, view or View())


def trained(book: Ledger, values: list[float], state: str | None, **others: float) -> int:
    entry = book.add({}, {})
    for epoch, value in enumerate(values, start=1):
        book.report(entry.number, epoch, {book.objectives[0]: value, **others})
    if state:
        book.end(entry.number, state)
    return entry.number


def probable(book: Ledger) -> list[float]:
    return [round(float(value), 6) for value in book.probable_NC()[:, 0]]


def test_a_stopped_trial_is_worth_its_value_and_what_others_gained_from_there() -> None:
    book = ledger()
    trained(book, [0.1, 0.2, 0.3], FINISHED)
    trained(book, [0.2, 0.3, 0.6], FINISHED)
    trained(book, [0.2], STOPPED)
    trained(book, [0.05, 0.25], STOPPED)
    # from epoch 2 to 3 the median gain is .2, from 1 to 2 it is .1 (.1, .1, .2)
    assert probable(book) == [0.3, 0.6, 0.5, 0.45]


def test_order_within_a_rung_stays() -> None:
    book = ledger("log_loss")
    trained(book, [2.0, 1.0], FINISHED)
    first, second = trained(book, [1.5], STOPPED), trained(book, [1.6], STOPPED)
    values = probable(book)
    assert values[first] == 0.5 < values[second] == 0.6


def test_before_anything_has_ended_nothing_is_told() -> None:
    book = ledger()
    trained(book, [0.1, 0.2], None)
    assert [trial.state for trial in book.shown()] == [TrialState.RUNNING]


def test_a_running_trial_is_told_once_it_has_come_as_far_as_a_rung() -> None:
    book = ledger()
    trained(book, [0.1, 0.3], STOPPED)
    trained(book, [0.2], None)
    trained(book, [0.2, 0.5, 0.6], None)
    assert np.isnan(book.probable_NC()[1, 0]), "epoch 1 is no rung"
    assert probable(book)[2] == 0.6
    hidden = ledger(view=View(running=False))
    trained(hidden, [0.1], STOPPED)
    trained(hidden, [0.2, 0.5], None)
    assert [trial.state.name for trial in hidden.shown()] == ["COMPLETE", "RUNNING"]


@pytest.mark.parametrize(("metric", "worst"), [("macro_f1", 0.0), ("log_loss", 20.0)])
def test_a_failed_trial_has_the_finite_worst_value(metric: str, worst: float) -> None:
    book = ledger(metric)
    trained(book, [0.9], FAILED)
    trained(book, [], FAILED)
    trained(book, [], STOPPED)  # by a budget, before its first epoch
    assert [trial.values for trial in book.shown()] == [[worst]] * 3


def test_a_sampler_that_models_values_sees_no_value_far_off() -> None:
    book = ledger("log_loss", view=View(models_values=True))
    trained(book, [1.2], FINISHED)
    trained(book, [1.6], FINISHED)
    trained(book, [], FAILED)
    assert probable(book) == [1.2, 1.6, 1.6]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_what_is_no_number_counts_as_the_worst(value: float | None) -> None:
    book = ledger()
    entry = book.add({}, {})
    book.report(entry.number, 1, {} if value is None else {"macro_f1": value})
    book.end(entry.number, STOPPED)
    assert probable(book) == [0.0]


def test_bounds_are_told_as_constraints_at_the_probable_fidelity() -> None:
    book = ledger(bounds={"worst_class_recall": {"min": 0.3}, "ece": {"max": 0.2}})
    for recall in (0.2, 0.4):  # gains .2 on its way
        entry = book.add({}, {})
        for epoch, at in ((1, recall - 0.2), (2, recall)):
            book.report(entry.number, epoch, {"macro_f1": 0.5, "worst_class_recall": at, "ece": 0.1})
        book.end(entry.number, FINISHED)
    trained(book, [0.5], STOPPED, worst_class_recall=0.15, ece=0.1)
    trained(book, [], FAILED)
    told = [trial.constraints for trial in book.shown()]
    assert [round(each["worst_class_recall.min"], 6) for each in told] == [0.1, -0.1, -0.05, 1.0]
    assert [round(each["ece.max"], 6) for each in told] == [-0.1, -0.1, -0.1, 1.0]


def test_several_objectives_are_told_together() -> None:
    book = ledger("macro_f1", "ece")
    trained(book, [0.5], FINISHED, ece=0.1)
    assert book.shown()[0].values == [0.5, 0.1]


def test_of_many_trials_the_best_and_the_latest_are_shown() -> None:
    book = ledger()
    count = 3 * (BEST_REMEMBERED + LATEST_REMEMBERED)
    for number in range(count):
        trained(book, [1 - number / count], FINISHED)
    running = trained(book, [], None)
    shown = [trial.number for trial in book.shown()]
    best, latest = range(BEST_REMEMBERED), range(count - LATEST_REMEMBERED, count)
    assert shown == [*best, *latest, running]
    everything = ledger(view=View(forgets=False))
    for _ in range(count):
        trained(everything, [0.5], FINISHED)
    assert len(everything.shown()) == count
