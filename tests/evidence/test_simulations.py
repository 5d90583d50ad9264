"""Intervals and corrections against simulated truths; `make bench-coverage` is the long form."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facex_tune.evidence import factors, intervals, summary
from facex_tune.runs.history import Candidate, History, Trial

from .conftest import RunMaker

SIMULATIONS = 60


def _benchmark() -> Any:
    path = Path(__file__).parents[1] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("facex_coverage", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("clusters", "size", "rho"), [(400, 1, 0.0), (106, 9, 0.3)])
def test_intervals_hold_over_a_few_simulations(clusters: int, size: int, rho: float) -> None:
    """Of 60 intervals at 95 %, 51 or fewer hold once in a thousand times; drawing frames one by one holds some 60 %."""
    bench = _benchmark()
    found = bench.covered(bench.World("", clusters, size, rho), SIMULATIONS)
    for name in ("accuracy", "macro_f1"):
        held, total = found[name]
        assert total == SIMULATIONS
        assert held >= 52
    held, total = found["recall"]
    assert held / total >= 0.9


def test_the_expanded_percentiles_are_those_of_t() -> None:
    """Ten clusters: sqrt(10 / 9) times t(9, .975) = 2.3845 normal standard deviations."""
    tail = intervals._expanded_tail(10)
    assert tail == pytest.approx(0.00855, abs=1e-4)
    assert intervals._expanded_tail(100_000) == pytest.approx(0.025, abs=1e-4)
    values_D = np.random.default_rng(0).normal(size=2000)
    few, many = intervals.percentile(values_D, 10), intervals.percentile(values_D)
    assert few is not None
    assert many is not None
    assert few[0] < many[0] < many[1] < few[1]
    assert intervals.percentile(values_D, 1) is None


@pytest.mark.parametrize(("times_as_noisy", "most"), [(1, 0.05), (3, 0.15), (10, 0.09)])
def test_a_noisy_change_without_effect_is_seldom_called_real(times_as_noisy: float, most: float) -> None:
    """Of 19 changes with three seeds one is noisier: called real in .04, .12 and .07 of cases, by the pooled degrees of
    freedom alone in .04, .14 and .18. The bounds lie three standard errors or more above.
    """
    rng = np.random.default_rng(0)
    called = []
    for _ in range(1500):
        table = rng.normal(size=(20, 3))
        table[1] *= times_as_noisy
        noise = factors.noise_of(table)
        p_value = factors.contrast(table[1] - table[0], noise)["p_value"]
        called.append(p_value < 0.05)
    assert np.mean(called) < most


def test_the_best_of_equal_configurations_is_corrected_by_retraining(make_run: RunMaker) -> None:
    """200 searches of 20 equally good configurations: the winner's value is 1.9 standard deviations too high, its mean
    over three new seeds within 0.2 of the truth.
    """
    run, rng = make_run(retrained=False), np.random.default_rng(0)
    truth, sd = 0.6, 0.02
    found, corrected = [], []
    for _ in range(200):
        values = rng.normal(truth, sd, 20)
        best = int(values.argmax())
        history = History(candidates=[Candidate(best, float(values[best]), 1)])
        history.trials = {n: Trial(n, {}, "sampler", "finished", {3: {"macro_f1": v}}) for n, v in enumerate(values)}
        history.models = {(best, seed): {"macro_f1": float(rng.normal(truth, sd))} for seed in range(3)}
        bias = summary.selection_bias(run, history)
        assert bias is not None
        found.append(bias["at_search"])
        corrected.append(bias["at_search"] - bias["bias"])
    assert (np.mean(found) - truth) / sd > 1.5
    assert abs(np.mean(corrected) - truth) / sd < 0.2
