"""Priors: drawn around, ever more seldom, and outweighed where they are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facex_tune.errors import InputError
from facex_tune.search.priors import WIDTH, around, weight
from facex_tune.search.samplers import at_share, share_of
from facex_tune.search.searcher import Searcher
from facex_tune.space import CONFIDENCE, Float, Int, Space
from tests.search.conftest import tiny_study

LOG = Float(1e-4, 1.0, 0.1, log=True, prior=0.1)


@given(st.floats(0, 0.999))
def test_the_share_of_a_value_is_where_it_was_drawn_from(share: float) -> None:
    for knob in (LOG, Float(-2.0, 3.0, 0.0)):
        assert share_of(knob, float(at_share(knob, share) or 0)) == pytest.approx(share, abs=1e-9)
    whole = Int(1, 64, 8, log=True)
    assert at_share(whole, share_of(whole, int(at_share(whole, share) or 0))) == at_share(whole, share)


@pytest.mark.parametrize("confidence", CONFIDENCE)
def test_draws_lie_around_the_prior_as_firmly_as_it_is_believed_and_inside_the_range(confidence: str) -> None:
    rng = np.random.default_rng(0)
    knob = Float(0.0, 1.0, 0.5, prior=0.5, confidence=confidence)
    drawn = np.array([around(knob, rng) for _ in range(4000)], dtype=float)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert np.mean(abs(drawn - 0.5) < WIDTH[confidence]) > 0.66
    at_end = [around(Float(0.0, 1.0, 1.0, prior=1.0, confidence=confidence), rng) for _ in range(50)]
    assert all(0 <= float(value or 0) <= 1 for value in at_end)


def test_the_weight_of_a_prior_falls_with_the_trials_and_grows_with_the_confidence() -> None:
    by_trial = {each: [weight(Float(0, 1, 0, prior=0, confidence=each), n) for n in range(50)] for each in CONFIDENCE}
    assert all(found[0] == 1.0 and sorted(found, reverse=True) == found for found in by_trial.values())
    assert by_trial["low"][9] < by_trial["medium"][9] < by_trial["high"][9] < 0.6
    assert by_trial["medium"][49] < 0.1


def with_lr(sampler: str, **lr: Any) -> Any:
    """A study of two knobs that vary."""
    parts = {"model": [{"facex_cnn": {"width": 0.25, "kernels": "3-3-3-3"}}], "augment": ["none"], "balance": ["none"]}
    train = {"lr": {"low": 0.001, "high": 1.0, "log": True, **lr}, "batch_size": 32}
    return tiny_study(space={**parts, "train": train}, search={"sampler": sampler, "seed": 1})


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "nsga2"])
def test_every_sampler_starts_where_the_best_is_believed(sampler: str) -> None:
    def first(**lr: Any) -> list[float]:
        searcher = Searcher(with_lr(sampler, **lr))
        return [float(searcher.ask()[1]["train.lr"] or 0) for _ in range(12)]

    def apart(found: list[float]) -> float:
        return float(np.abs(np.log10(found) + 2.0).mean())

    believed = first(prior=0.01, confidence="high")
    assert believed == first(prior=0.01, confidence="high"), "it repeats itself"
    assert apart(believed) < 0.75 * apart(first())
    assert len(set(believed)) == 12


def test_a_wrong_prior_is_outweighed() -> None:
    """The best learning rate is .5; the prior says .002."""
    searcher = Searcher(with_lr("tpe", prior=0.002, confidence="high"))
    tried = []
    for _ in range(60):
        number, config, _ = searcher.ask()
        lr = float(config["train.lr"] or 0)
        searcher.report(number, 3, {"macro_f1": 1 - abs(np.log10(lr / 0.5)) / 3})
        searcher._end(number, "finished")
        tried.append(lr)
    assert np.median(tried[:10]) < 0.02
    assert np.median(tried[-20:]) > 0.2


def test_a_prior_is_the_default_and_survives_the_header() -> None:
    study = with_lr("tpe", prior=0.1, confidence="low")
    lr = study.space.train["lr"]
    assert (lr.prior, lr.confidence, lr.default) == (0.1, "low", 0.1)
    assert Space.from_data(study.space.to_data()) == study.space
    assert "prior" not in with_lr("tpe").to_data()["space"]["train"]["lr"], "headers of before stay as they are"


@pytest.mark.parametrize(
    ("lr", "said"),
    [
        ({"prior": 2.0}, "space.train.lr: the prior 2.0 lies outside its range, 0.001 to 1 (log)"),
        ({"prior": "high"}, "space.train.lr: the prior 'high' lies outside its range"),
        ({"prior": True}, "space.train.lr: the prior True lies outside its range"),
        ({"confidence": "high"}, "space.train.lr: confidence 'high' in nothing; add prior"),
        ({"prior": 0.1, "confidence": "hihg"}, "space.train.lr: no confidence 'hihg'; did you mean high?"),
        ({"prior": 0.1, "confidence": 0.9}, "space.train.lr: no confidence 0.9; "),
        ({"priro": 0.1}, "space.train.lr: unknown key 'priro' in a range; did you mean prior?"),
    ],
)
def test_a_prior_that_says_nothing_is_refused(lr: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        with_lr("tpe", **lr)
    assert len(refused.value.problems) == 1
    assert said in refused.value.problems[0]
