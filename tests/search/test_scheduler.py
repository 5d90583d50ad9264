"""ASHA, by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facex_tune.search.scheduler import (
    FEWEST_COMPARED,
    Asha,
    DominanceRung,
    Median,
    NoScheduler,
    build,
    dominates,
    standing,
)
from tests.search.conftest import tiny_study


def test_rungs_are_powers_of_the_reduction_below_the_end() -> None:
    assert list(Asha(1, 27, 3, True).rungs) == [1, 3, 9]
    assert list(Asha(2, 40, 3, True).rungs) == [2, 6, 18]
    assert list(Asha(5, 5, 3, True).rungs) == []


def test_a_trial_goes_on_if_it_is_in_the_best_third_of_those_before_it() -> None:
    asha = Asha(1, 9, 3, True, fewest=1)
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


def test_nobody_is_cut_by_a_comparison_with_few() -> None:
    """Whoever comes second of two is no worse for that; from FEWEST_COMPARED on, the best go on."""
    asha = Asha(1, 9, 3, True)
    falling = [asha.goes_on(trial, 1, 0.5 - 0.1 * trial) for trial in range(FEWEST_COMPARED + 1)]
    assert falling == [True] * (FEWEST_COMPARED - 1) + [False] * 2
    assert asha.goes_on(8, 1, 0.6)
    assert [asha.goes_on(trial, 3, 0.5 - 0.1 * trial) for trial in (0, 8)] == [True, True], "each rung by itself"


def test_the_order_in_which_few_arrive_cuts_nobody() -> None:
    """The two trials of a rung of two, in either order: what one of them shows later decides."""
    for order in ([(0, 0.4), (1, 0.2)], [(1, 0.2), (0, 0.4)]):
        asha = Asha(1, 9, 3, True)
        assert all(asha.goes_on(trial, 1, value) for trial, value in order)


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
    asha = Asha(1, 9, 3, False, fewest=1)
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
    asha = Asha(1, 9, 3, True, fewest=1)
    assert asha.goes_on(0, 1, 0.6, 0.2), "nobody else is there"
    assert asha.goes_on(1, 1, 0.2), "the worse value, which keeps the bound"
    assert not asha.goes_on(2, 1, 0.9, 0.01), "one place of three, and one before it keeps the bound"
    assert asha.goes_on(3, 1, 0.1), "two places of four, and only one other keeps the bound"
    assert asha.rungs == {1: {0: 0.6, 1: 0.2, 2: 0.9, 3: 0.1}, 3: {}}


def test_who_breaks_a_constraint_by_less_comes_before_who_does_by_more() -> None:
    asha = Asha(1, 9, 3, False, fewest=1)
    assert asha.goes_on(0, 1, 1.0, 0.3)
    assert asha.goes_on(1, 1, 2.0, 0.1)
    assert not asha.goes_on(2, 1, 0.1, 0.2)


def test_trials_that_break_a_constraint_leave_their_places_to_one_that_keeps_it() -> None:
    """Six of six have gone on, each better than all before; the rung is full for their like alone."""
    asha = Asha(1, 9, 3, True)
    assert all(asha.goes_on(trial, 1, 0.1 * trial, 0.1) for trial in range(6))
    assert asha.goes_on(6, 1, 0.2)
    assert asha.goes_on(7, 1, 0.1), "the second best of eight, and only one that keeps the bound has gone on"


# Several objectives


def rungs_of_two(places: int) -> Callable[[float, float], bool]:
    """A rung of a study that wants much of one objective and little of another, where one in `places` goes on."""
    asha, numbers = Asha(1, 2, places, True, objectives=2, fewest=1), count()
    return lambda value, cost, by=0.0: asha.goes_on(next(numbers), 1, value, by, (cost,))


def test_a_trial_that_another_beats_in_everything_stops_and_one_that_none_beats_goes_on() -> None:
    goes_on = rungs_of_two(2)
    assert goes_on(0.5, 5.0)
    assert not goes_on(0.4, 6.0), "worse and dearer"
    assert goes_on(0.3, 1.0), "worse, but the cheapest; by its value alone it would be the last of three"
    assert not goes_on(0.2, 5.5), "worse and dearer than the first"


def test_of_a_front_that_has_more_trials_than_places_the_ends_go_on() -> None:
    """Nobody is dominated; two places of four."""
    goes_on = rungs_of_two(2)
    assert [goes_on(value, cost) for value, cost in [(0.6, 6.0), (0.5, 5.0), (0.1, 1.0), (0.4, 4.0)]] == [
        True,
        False,  # one place of two: the best by the first objective
        True,
        False,  # between the two ends
    ]


def test_where_many_have_gone_on_only_one_that_reaches_their_front_does() -> None:
    goes_on = rungs_of_two(3)
    assert all(goes_on(0.1 * step, 10.0 - step) for step in range(1, 5)), "each dominates all before it"
    assert not goes_on(0.05, 0.1), "nobody dominates it, and it dominates none of those that went on"
    assert goes_on(0.4, 5.5), "cheaper than the best, and as good"


def test_who_breaks_a_constraint_dominates_nobody_who_keeps_it() -> None:
    assert dominates(standing(0.0, 0.1, (9.0,)), standing(0.1, 0.9, (1.0,)))
    assert dominates(standing(0.1, 0.1, (9.0,)), standing(0.2, 0.9, (1.0,)))
    assert dominates(standing(0.1, 0.2, (1.0,)), standing(0.1, 0.1, (1.0,)))
    assert not dominates(standing(0.0, 0.1, (1.0,)), standing(0.0, 0.1, (1.0,)))


@pytest.mark.parametrize("missing", [math.inf, math.nan])
def test_an_objective_that_was_not_measured_is_the_worst(missing: float) -> None:
    assert dominates(standing(0.0, 0.5, (1e9,)), standing(0.0, 0.5, (missing,)))


def test_ranks_are_counted_as_they_are_by_definition() -> None:
    rng, rung = np.random.default_rng(0), DominanceRung(3)
    drawn = zip(rng.choice([0, 0, 0.1], 60).tolist(), *rng.integers(0, 6, (2, 60)).tolist(), strict=True)
    points = [standing(by, value, (cost,)) for by, value, cost in drawn]
    for each in points:
        rung.take(each)
    assert rung._dominators_N.tolist() == [sum(dominates(other, each) for other in points) for each in points]
    assert 10 <= len(rung.passed) <= 30, "about a third, and at most half"


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
