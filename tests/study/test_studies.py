"""The studies that are shipped: each can be drawn from; two change one factor at a time; one is the notebook's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facex_tune import parts, study, train_knobs
from facex_tune.space import FAMILIES
from facex_tune.study import protocols

FOLDER = Path(__file__).resolve().parents[2] / "search_spaces"
STUDIES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
ONE_FACTOR = {"augment": ("augment", ("mixup", "cutmix", "erasing", "noise")), "balance": ("balance", ())}
"""Study -> the family that it varies, and the training knobs beside it."""


def load(name: str) -> study.Study:
    return study.load(FOLDER / f"{name}.yaml")


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_called_as_its_file_and_can_be_drawn_from(name: str) -> None:
    checked = load(name)
    assert checked.name == name
    rng = np.random.default_rng(0)
    for _ in range(50):
        config = checked.space.random(rng)
        assert checked.space.complete(config) == config
        for family in FAMILIES:
            assert set(parts.knobs(family, config)) == set(parts.find(family, str(config[family])).SPACE)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_opens_only_what_it_may(name: str) -> None:
    """Protocols that contain the validation faces are for studies with a holdout."""
    checked = load(name)
    assert checked.evaluate.protocols
    if checked.validation == "public_test":
        assert all("public_test" not in protocols.find(each).splits for each in checked.evaluate.protocols)


@pytest.mark.parametrize("name", STUDIES)
def test_no_study_asks_for_weights_that_are_not_shipped(name: str) -> None:
    knobs = dict(load(name).space.knobs())
    asked = [knob for knob in knobs if knob.endswith(".pretrained")]
    assert [knobs[knob].default for knob in asked] == [False] * len(asked)
    assert all(not hasattr(knobs[knob], "options") or knobs[knob].options == (False,) for knob in asked)


@pytest.mark.parametrize("name", ONE_FACTOR)
def test_a_one_factor_study_tries_every_part_once_and_changes_nothing_else(name: str) -> None:
    family, beside = ONE_FACTOR[name]
    checked = load(name)
    starts = checked.search.start_with
    assert checked.budget.trials == len(starts) == checked.retrain.top
    assert checked.retrain.seeds >= 3, "below three seeds there is no interval"
    assert checked.search.scheduler == "none"
    assert {start[family] for start in starts} == set(parts.names(family))
    assert len({tuple(sorted(start.items())) for start in starts}) == len(starts)
    may_differ = (family, *(f"train.{knob}" for knob in beside))
    fixed = [
        {key: value for key, value in start.items() if key not in may_differ and not key.startswith(f"{family}.")}
        for start in starts
    ]
    assert all(each == fixed[0] for each in fixed)
    usual = train_knobs.defaults()
    for start in starts:
        assert sum(start[f"train.{knob}"] != usual[knob] for knob in beside) <= 1


def test_the_notebooks_study_is_the_notebooks() -> None:
    checked = load("facex_1")
    assert checked.validation != "public_test"
    assert "fer2013.both" in checked.evaluate.protocols
    knobs = dict(checked.space.knobs())
    assert set(knobs["train.lr"].options) == {0.01, 0.001, 0.0005, 0.0001}
    assert set(knobs["train.optimizer"].options) == {"nadam", "adam", "sgd", "rmsprop"}
    for model in ("facex_cnn", "vgg", "efficientnet"):
        assert set(knobs[f"model.{model}.dropout"].options) == {0.2, 0.25, 0.3}
    assert [start["train.lr"] for start in checked.search.start_with] == [0.0001, 0.001, 0.001]
