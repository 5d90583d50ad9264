"""ASHA, by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facex_tune.search.scheduler import Asha, Median, NoScheduler, build
from tests.search.conftest import tiny_study


def test_rungs_are_powers_of_the_reduction_below_the_end() -> None:
    assert list(Asha(1, 27, 3, True).rungs) == [1, 3, 9]
    assert list(Asha(2, 40, 3, True).rungs) == [2, 6, 18]
    assert list(Asha(5, 5, 3, True).rungs) == []


def test_a_trial_goes_on_if_it_is_in_the_best_third_of_those_before_it() -> None:
    asha = Asha(1, 9, 3, True)
    arrivals = [0.5, 0.4, 0.6, 0.55, 0.55, 0.3]
    # best ceil(k / 3) of k: one place for the first three arrivals, two from the fourth on
    assert [asha.goes_on(trial, 1, value) for trial, value in enumerate(arrivals)] == [
        True,
        False,
        True,
        False,  # the second of four, but two have gone on, which is half
        True,
        False,
    ]


def test_where_many_have_passed_a_rung_only_a_new_best_does() -> None:
    """Ever better trials, as a sampler brings them: each is the best third of those before it."""
    asha = Asha(1, 9, 3, True)
    rising = [asha.goes_on(trial, 1, 0.5 + 0.01 * trial) for trial in range(5)]
    assert rising == [True] * 5, "each is the best so far"
    assert not asha.goes_on(5, 1, 0.535), "the second best of six has a place, but five have gone on, and three may"
    assert [asha.goes_on(trial, 1, 0.1) for trial in range(6, 9)] == [False] * 3
    assert not asha.goes_on(9, 1, 0.535), "half of ten are five, which have gone on"
    assert asha.goes_on(10, 1, 0.535), "half of eleven are six"


def test_losses_are_better_when_smaller() -> None:
    asha = Asha(1, 9, 3, False)
    assert asha.goes_on(0, 1, 2.0)
    assert not asha.goes_on(1, 1, 3.0)
    assert asha.goes_on(2, 1, 1.0)


def test_between_rungs_nothing_is_compared() -> None:
    asha = Asha(1, 9, 3, True)
    asha.goes_on(0, 1, 0.9)
    assert asha.goes_on(1, 2, 0.1)
    assert asha.rungs == {1: {0: 0.9}, 3: {}}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_stops_anywhere(value: float) -> None:
    asha = Asha(1, 9, 3, True)
    assert not asha.goes_on(0, 2, value)
    assert not asha.goes_on(0, 1, value)
    assert asha.rungs[1] == {}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.floats(0, 1)), max_size=40))
def test_asked_again_it_answers_the_same(asked: list[tuple[int, int, float]]) -> None:
    asha = Asha(1, 9, 3, True)
    first: dict[tuple[int, int], bool] = {}
    for trial, epoch, value in asked:
        first.setdefault((trial, epoch), asha.goes_on(trial, epoch, value))
    assert {key: asha.goes_on(*key, 0.0) for key in first} == first


def test_who_breaks_a_constraint_comes_behind_all_that_keep_it() -> None:
    asha = Asha(1, 9, 3, True)
    assert asha.goes_on(0, 1, 0.6, 0.2), "nobody else is there"
    assert asha.goes_on(1, 1, 0.2), "the worse value, which keeps the bound"
    assert not asha.goes_on(2, 1, 0.9, 0.01), "one place of three, and one before it keeps the bound"
    assert asha.goes_on(3, 1, 0.1), "two places of four, and only one other keeps the bound"
    assert asha.rungs == {1: {0: 0.6, 1: 0.2, 2: 0.9, 3: 0.1}, 3: {}}


def test_who_breaks_a_constraint_by_less_comes_before_who_does_by_more() -> None:
    asha = Asha(1, 9, 3, False)
    assert asha.goes_on(0, 1, 1.0, 0.3)
    assert asha.goes_on(1, 1, 2.0, 0.1)
    assert not asha.goes_on(2, 1, 0.1, 0.2)


def test_trials_that_break_a_constraint_leave_their_places_to_one_that_keeps_it() -> None:
    """Six of six have gone on, each better than all before; the rung is full for their like alone."""
    asha = Asha(1, 9, 3, True)
    assert all(asha.goes_on(trial, 1, 0.1 * trial, 0.1) for trial in range(6))
    assert asha.goes_on(6, 1, 0.2)
    assert asha.goes_on(7, 1, 0.1), "the second best of eight, and only one that keeps the bound has gone on"


def test_the_median_rule_looks_at_constraints_first() -> None:
    median = Median(1, True)
    for trial in range(3):
        assert median.goes_on(trial, 1, 0.2 + 0.1 * trial)
    assert not median.goes_on(3, 1, 0.9, 0.05)
    assert median.goes_on(4, 1, 0.31)


def test_the_median_rule_compares_the_best_with_the_others_averages() -> None:
    median = Median(2, True)
    for trial, values in enumerate([(0.1, 0.5), (0.2, 0.6), (0.3, 0.7)]):  # averages .3, .4, .5
        assert all(median.goes_on(trial, epoch, value) for epoch, value in enumerate(values, start=1))
    assert median.goes_on(3, 1, 0.0), "before min_epochs nothing is stopped"
    assert not median.goes_on(3, 2, 0.39)
    assert median.goes_on(4, 1, 0.45)
    assert median.goes_on(4, 2, 0.0), "its best stays .45, above the median"


def test_the_median_of_few_says_nothing() -> None:
    median = Median(1, False)
    assert all(median.goes_on(trial, 1, 1.0 + trial) for trial in range(3))
    assert not median.goes_on(3, 1, 9.0)
    assert median.goes_on(4, 1, 0.5)


def test_the_study_names_its_scheduler() -> None:
    assert isinstance(build(tiny_study(search={"scheduler": "median"})), Median)
    assert isinstance(build(tiny_study()), Asha)
    none = build(tiny_study(search={"scheduler": "none"}))
    assert isinstance(none, NoScheduler)
    assert none.goes_on(0, 1, 0.0)
