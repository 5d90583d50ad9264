"""What lookup and surrogate say of configurations: as recorded where recorded, as the seeds scatter, failing where such
failed; and how far they are from what they have not seen.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest

from facex_tune.simulation import accuracy
from facex_tune.simulation.curves import Curves
from facex_tune.simulation.worlds import Lookup, Surrogate, wobble
from facex_tune.space import Config
from tests.simulation.conftest import EPOCHS, final

METRICS = ("macro_f1", "accuracy")


@pytest.fixture(scope="module")
def surrogate(table: Curves) -> Surrogate:
    return Surrogate(table, METRICS)


def config(table: Curves, **changes: Any) -> Config:
    return {**table.space.defaults(), **{name.replace("__", "."): value for name, value in changes.items()}}


def test_a_lookup_answers_with_a_recorded_training_of_the_nearest_configuration(table: Curves) -> None:
    lookup = Lookup(table, METRICS)
    recorded = table.whole[0]
    twins = [each for each in table.trainings if each.configuration == recorded.configuration]
    courses = [lookup.course(recorded.config, [seed]) for seed in range(20)]
    allowed = [each.scores_EM[-1, 0] for each in twins]
    assert len(twins) == 2
    assert {course.scores[-1]["macro_f1"] for course in courses} == set(allowed)
    assert lookup.final(recorded.config) == pytest.approx(statistics.fmean(allowed))
    failed = table.failed[0]
    assert lookup.course(failed.config, [0]).failure == "diverged"
    assert lookup.final(failed.config) > 0, "the nearest that came to its end"


def test_a_surrogate_knows_good_from_bad_and_repeats_itself(table: Curves, surrogate: Surrogate) -> None:
    good, bad = config(table, train__lr=0.03), config(table, train__lr=0.0012)
    assert surrogate.final(good) == pytest.approx(final(good), abs=0.05)
    assert surrogate.final(good) > surrogate.final(bad) + 0.02
    one, same, other = (surrogate.course(good, [seed]) for seed in (1, 1, 2))
    assert one == same != other
    assert len(one.scores) == len(one.seconds) == EPOCHS
    assert one.seconds[0] == pytest.approx(10.0, rel=0.01)
    courses = [surrogate.course(good, [seed]) for seed in range(40)]
    finals = [course.scores[-1]["macro_f1"] for course in courses if not course.failure]
    assert 0.002 < statistics.stdev(finals) < 0.01, "two seeds are .008 apart in the table"


def test_where_trainings_failed_they_fail_as_the_nearest_did(table: Curves, surrogate: Surrogate) -> None:
    fast = config(table, train__lr=0.9)
    course = surrogate.course(fast, [0])
    assert surrogate.failing(fast) > 0.8
    assert (course.failure, len(course.scores)) == ("diverged", 1)
    assert course.lost_s > 0


def test_noise_of_a_table_without_second_seeds_is_that_of_neighbouring_epochs() -> None:
    rng = np.random.default_rng(0)
    curve_EM = np.linspace(0, 1, 2000)[:, None] + rng.normal(0, 0.1, (2000, 1))
    assert wobble(curve_EM).std() == pytest.approx(0.1, rel=0.1)
    assert wobble(curve_EM[:2]).tolist() == [[0.0], [0.0]]


def test_how_far_it_is_from_what_it_has_not_seen(table: Curves) -> None:
    found = {how: accuracy.of(table, "macro_f1", how) for how in ("surrogate", "lookup")}
    for each in found.values():
        assert each.n == len({whole.configuration for whole in table.whole})
        assert each.mean_error < 0.9 * each.constant_error
        assert each.rank_correlation > 0.5
        assert each.seed_error == pytest.approx(0.008 / 2**0.5)
    brier = found["surrogate"].brier
    assert brier is not None
    assert brier < 0.7 * found["surrogate"].constant_brier
    assert found["lookup"].brier is None
