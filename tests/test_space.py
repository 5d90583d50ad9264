"""Knobs and configurations: what is drawn, narrowed, completed and written out."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facex_tune.errors import InputError
from facex_tune.space import Choice, Config, Float, Int, Knob, Space, constant, draw_one, is_active, knobs_of, narrow

RATE = Float(1e-4, 1.0, 0.1, log=True)
DEPTH = Int(2, 20, 10)
WIDTH = Choice((16, 32, 64), 32)
SPACE = Space(
    {
        "model": {"small": {"depth": DEPTH}, "wide": {"depth": DEPTH, "width": WIDTH}},
        "augment": {"none": {}},
    },
    {"lr": RATE, "optimizer": Choice(("sgd", "adamw"), "sgd"), "smoothing": constant(0.1)},
)


def refused(call: Any, *words: str) -> None:
    """The call ends in one line that has every word."""
    with pytest.raises(InputError) as told:
        call()
    assert len(told.value.problems) == 1
    assert "\n" not in str(told.value)
    for word in words:
        assert word in str(told.value)


@pytest.mark.parametrize(
    ("knob", "inside", "outside"),
    [
        (Float(0.0, 1.0, 0.5), [0, 1, 0.0, 1.0, 0.3], [-1e-9, 1.1, True, "0.5", None, math.nan, math.inf]),
        (Int(1, 3, 2), [1, 3], [0, 4, 2.0, True, "2", None]),
        (Choice((0, 1), 0), [0, 1], [True, False, 2, "0", None]),
        (Choice((False, True), True), [False, True], [0, 1, "true"]),
        (Choice((16, "a", None), 16), [16, "a", None], [17, "b", [16]]),
    ],
)
def test_a_knob_holds_its_range_and_nothing_else(knob: Knob, inside: list[Any], outside: list[Any]) -> None:
    assert all(knob.holds(value) for value in inside)
    assert not any(knob.holds(value) for value in outside)


# Narrowing


def test_a_value_or_a_list_leaves_only_that() -> None:
    assert narrow("d", DEPTH, 4) == Choice((4,), 4)
    assert narrow("d", DEPTH, [4, 10]) == Choice((4, 10), 10), "the knob's own default stays where it can"
    assert narrow("w", WIDTH, [64, 16]) == Choice((64, 16), 64)


def test_a_range_keeps_what_it_does_not_say() -> None:
    assert narrow("r", RATE, {"low": 0.2}) == Float(0.2, 1.0, 0.2, log=True)
    assert narrow("r", RATE, {"low": 0.01, "high": 0.05, "log": False}) == Float(0.01, 0.05, 0.05)
    assert narrow("d", DEPTH, {"high": 12}) == Int(2, 12, 10)


def test_a_number_that_yaml_reads_as_text_is_a_number() -> None:
    assert narrow("r", RATE, "1e-3") == Choice((0.001,), 0.001)
    assert narrow("r", RATE, {"low": "1e-3", "high": "1e-2"}) == Float(0.001, 0.01, 0.01, log=True)


@pytest.mark.parametrize(
    ("knob", "said", "words"),
    [
        (DEPTH, 21, ["21", "2 to 20"]),
        (DEPTH, [4, 21], ["21", "2 to 20"]),
        (DEPTH, 4.5, ["4.5"]),
        (DEPTH, [], ["empty list", "2 to 20"]),
        (DEPTH, {"low": 1}, ["1 to 20", "allowed: 2 to 20"]),
        (DEPTH, {"low": 9, "high": 4}, ["impossible range", "9", "4"]),
        (DEPTH, {"low": 4, "high": 4}, ["impossible range"]),
        (DEPTH, {"low": 4.5}, ["4.5"]),
        (DEPTH, {"lo": 4}, ["unknown key 'lo'", "did you mean low"]),
        (DEPTH, {"lo": 4, 7: 7}, ["unknown key"]),
        (DEPTH, {"log": "yes"}, ["`log` is true or false"]),
        (Float(0.0, 1.0, 0.5), {"log": True}, ["low above 0"]),
        (RATE, "fast", ["'fast'", "0.0001 to 1 (log)"]),
        (RATE, True, ["True"]),
        (RATE, None, ["None"]),
        (RATE, {"low": "slow"}, ["'slow'"]),
        (RATE, math.nan, ["nan"]),
        (WIDTH, {"low": 16, "high": 32}, ["one of a few values", "16, 32, 64"]),
        (WIDTH, 17, ["17", "16, 32, 64"]),
        (WIDTH, [[16]], ["[16]"]),
    ],
)
def test_a_wrong_range_is_one_line_that_names_knob_and_rule(knob: Knob, said: Any, words: list[str]) -> None:
    refused(lambda: narrow("model.wide.knob", knob, said), "model.wide.knob:", *words)


@given(low=st.integers(2, 20), high=st.integers(2, 20))
def test_a_narrowed_range_holds_its_default(low: int, high: int) -> None:
    if low < high:
        knob = narrow("d", DEPTH, {"low": low, "high": high})
        assert knob.holds(knob.default)
        assert DEPTH.holds(knob.default)


# Drawing


def test_defaults() -> None:
    assert SPACE.defaults() == {
        "model": "small",
        "model.small.depth": 10,
        "augment": "none",
        "train.lr": 0.1,
        "train.optimizer": "sgd",
        "train.smoothing": 0.1,
    }


def test_only_active_knobs_that_vary_are_asked_for_in_a_fixed_order() -> None:
    asked: list[str] = []

    def suggest(name: str, knob: Knob) -> Any:
        asked.append(name)
        return "wide" if name == "model" else knob.default

    config = SPACE.draw(suggest)
    assert asked == ["model", "model.wide.depth", "model.wide.width", "train.lr", "train.optimizer"]
    assert list(config) == ["model", *asked[1:3], "augment", "train.lr", "train.optimizer", "train.smoothing"]


@given(seed=st.integers(0, 2**32 - 1))
def test_a_random_configuration_is_complete_and_in_range(seed: int) -> None:
    config = SPACE.random(np.random.default_rng(seed))
    assert SPACE.complete(config) == config
    known = dict(SPACE.knobs())
    assert all(known[name].holds(value) for name, value in config.items())
    assert set(config) == {name for name in known if is_active(name, config)}


def test_random_draws_spread_over_the_range() -> None:
    rng = np.random.default_rng(0)
    rates = [draw_one(RATE, rng) for _ in range(4000)]
    below = sum(rate < 0.01 for rate in rates)  # half of the four orders of magnitude; 5 standard deviations are 158
    assert abs(below - 2000) < 158
    depths = [draw_one(DEPTH, rng) for _ in range(4000)]
    assert set(depths) == set(range(2, 21)), "both ends are drawn"
    assert {draw_one(Int(1, 3, 1, log=True), rng) for _ in range(200)} == {1, 2, 3}
    assert {draw_one(WIDTH, rng) for _ in range(200)} == {16, 32, 64}


def test_activity_follows_the_chosen_part() -> None:
    config: Config = {"model": "wide"}
    assert is_active("model.wide.width", config)
    assert not is_active("model.small.depth", config)
    assert is_active("train.lr", config)
    assert is_active("model", config)


def test_a_parts_own_knobs_without_their_prefix() -> None:
    config: Config = {"model": "wide", "model.wide.depth": 4, "train.lr": 0.1, "augment": "none"}
    assert knobs_of("model", config) == {"depth": 4}
    assert knobs_of("train", config) == {"lr": 0.1}
    assert knobs_of("augment", config) == {}


def test_a_part_whose_name_starts_like_another_keeps_its_own_knobs() -> None:
    config: Config = {"model": "net", "model.net.depth": 1, "model.net2.depth": 2}
    assert knobs_of("model", config) == {"depth": 1}
    assert not is_active("model.net2.depth", config)


# Completing


def test_what_is_not_said_keeps_its_default() -> None:
    config = SPACE.complete({"model": "wide", "train.lr": "1e-2"})
    assert config["model.wide.width"] == 32
    assert config["train.lr"] == 0.01
    assert "model.small.depth" not in config


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"train.lrr": 0.1}, ["train.lrr", "did you mean train.lr"]),
        ({"train.lr": 2}, ["train.lr", "2", "0.0001 to 1"]),
        ({"model": "tall"}, ["'tall'", "small, wide"]),
        ({"model.wide.width": 16}, ["model.wide.width", "does not choose"]),
        ({"train.smoothing": 0.2}, ["train.smoothing", "0.1"]),
        ({3: 4}, ["3"]),
    ],
)
def test_a_wrong_configuration_is_one_line(said: dict[str, Any], words: list[str]) -> None:
    refused(lambda: SPACE.complete(said), *words)


# Written out


def test_a_space_survives_json() -> None:
    again = Space.from_data(json.loads(json.dumps(SPACE.to_data())))
    assert again == SPACE
    assert list(dict(again.knobs())) == list(dict(SPACE.knobs())), "the order in which a searcher is asked"


bounds = st.tuples(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3)).filter(lambda pair: pair[0] < pair[1])
knobs = st.one_of(
    st.builds(lambda pair, log: Float(pair[0], pair[1], pair[0], log), bounds, st.booleans()),
    st.builds(lambda low, log: Int(low, low + 9, low + 1, log), st.integers(1, 99), st.booleans()),
    st.lists(st.one_of(st.integers(), st.text(), st.none()), min_size=1, max_size=4, unique=True).map(
        lambda options: Choice(tuple(options), options[0])
    ),
)


@given(st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), knobs, max_size=4))
def test_any_space_survives_json(own: dict[str, Knob]) -> None:
    space = Space({"model": {"net": own}}, own)
    assert Space.from_data(json.loads(json.dumps(space.to_data()))) == space
