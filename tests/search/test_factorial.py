"""What the factor study tries: values within the study's range, each in a cell of its own name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facex_tune import study as studies
from facex_tune.runs.history import History
from facex_tune.search import factorial
from facex_tune.search.factorial import Cell
from facex_tune.space import Float


def swaps(**train: Any) -> list[Cell]:
    """The cells of a study that varies these knobs of training alone, around their defaults."""
    said = {"model": [{"facex_cnn": {"width": 0.25}}], "augment": ["none"], "balance": ["none"], "train": train}
    weights = "ema" if "ema_decay" in train else "last"
    study = studies.parse(
        {"version": 1, "name": "x", "data": "synthetic", "space": said, "retrain": {"weights": weights}}
    )
    found = factorial.design(study, History(), study.space.complete({}))
    return [cell for cell in found if any(name.removeprefix("train.") in train for name in cell.changed)]


@pytest.mark.parametrize("value", [0.9992, 0.9995, 0.9998])
def test_rounding_stays_in_a_narrow_range_near_its_ends(value: float) -> None:
    tried = factorial.alternatives(Float(0.999, 0.9999, 0.9995), value)
    assert set(tried) <= {0.99909, 0.99981}
    assert tried


@given(st.floats(1e-6, 1e3), st.floats(1e-9, 1.0), st.floats(0, 1), st.booleans())
def test_what_is_tried_lies_in_the_range_and_is_no_end_of_it(low: float, wide: float, at: float, log: bool) -> None:
    knob = Float(low, low * (1 + wide), low, log=log)
    for value in factorial.alternatives(knob, min(knob.high, low + at * (knob.high - low))):
        assert knob.holds(value)
        assert isinstance(value, float)
        assert 0.05 < factorial._place(knob, value) < 0.95


def test_ordinary_values_keep_their_three_digits_and_their_names() -> None:
    found = swaps(lr={"low": 0.001, "high": 0.3, "log": True}, label_smoothing=[0.0, 0.1], batch_size=[64, 128])
    assert [cell.name for cell in found] == [
        "train.lr=0.00177",
        "train.lr=0.17",
        "train.label_smoothing=0",
        "train.batch_size=64",
    ]


def test_two_values_never_share_a_name() -> None:
    found = swaps(ema_decay=[0.998, 0.9995, 0.9999, 0.9995])
    assert [cell.name for cell in found] == ["train.ema_decay=0.9995", "train.ema_decay=0.9999"]
    assert [cell.config["train.ema_decay"] for cell in found] == [0.9995, 0.9999]
