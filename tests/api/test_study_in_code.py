"""A study built in code is the one that its file would be; its typed keys are those of the schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import yaml

import facex_tune
from facex_tune import space, study, train_knobs
from facex_tune.api import said
from facex_tune.study import schema

ROOT = Path(__file__).resolve().parents[2]


def built(**changes: Any) -> facex_tune.Study:
    keys: dict[str, Any] = {
        "model": ["facex_cnn", {"resnet": {"depth": [10, 18], "width": 16}}],
        "train": {"lr": facex_tune.Range(low=0.01, high=0.3, log=True)},
        "budget": facex_tune.Budget(trials=8, time="2h"),
        "sampling": facex_tune.Sampling(seed=7),
    }
    return facex_tune.Study("mine", "synthetic", **keys | changes)


def test_it_is_the_study_that_its_file_says() -> None:
    text = """
    {version: 1, name: mine, data: synthetic, budget: {trials: 8, time: 2h}, search: {seed: 7}, space: {
      model: [facex_cnn, {resnet: {depth: [10, 18], width: 16}}], train: {lr: {low: 0.01, high: 0.3, log: true}}}}
    """
    assert built().checked == study.parse(yaml.safe_load(text))


def test_it_is_read_again_from_what_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(built().to_yaml(), encoding="utf-8")
    assert facex_tune.Study.of(path).checked == built().checked
    assert facex_tune.Study.of(built(), ["budget.trials=3"]).checked.budget.trials == 3
    assert built().checked.budget.trials == 8


def test_every_study_of_the_project_is_one_in_code_too() -> None:
    for path in (ROOT / "search_spaces").glob("*.yaml"):
        assert facex_tune.Study.of(path).checked == study.load(path)


def test_every_problem_is_told_when_it_is_made() -> None:
    with pytest.raises(facex_tune.InputError) as caught:
        built(model="resnett", budget={"trails": 3})
    said = "\n".join(caught.value.problems)
    assert all(word in said for word in ("resnett", "trails"))


def test_what_the_caller_changes_later_changes_nothing() -> None:
    widths = [16, 32]
    made = built(model={"resnet": {"width": widths}})
    widths.append(9999)
    assert "9999" not in made.to_yaml()


def test_numbers_of_numpy_and_tuples_are_meant_as_pythons() -> None:
    made = built(model=({"resnet": {"width": tuple(np.array([16, 32]))}},), train={"lr": np.float32(0.25)})
    assert made.checked.space.train["lr"].default == 0.25
    assert yaml.safe_load(made.to_yaml())["space"]["model"] == [{"resnet": {"width": [16, 32]}}]


@pytest.mark.parametrize("said", [3, None, ["x.yaml"]])
def test_what_is_no_study_is_told(said: Any) -> None:
    with pytest.raises(facex_tune.InputError, match="no study"):
        facex_tune.Study.of(said)


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (said.Budget, set(schema.Budget.model_fields)),
        (said.Face, set(schema.Face.model_fields)),
        (said.Fidelity, set(schema.Fidelity.model_fields)),
        (said.Sampling, set(schema.Search.model_fields)),
        (said.Resources, set(schema.Resources.model_fields)),
        (said.Retrain, set(schema.Retrain.model_fields)),
        (said.Evaluate, set(schema.Evaluate.model_fields)),
        (said.Train, set(train_knobs.SPACE)),
        (said.Range, set(space._RANGE)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_an_editor_completes_are_the_studys_keys(typed: type, keys: set[str]) -> None:
    assert set(get_type_hints(typed)) == keys


def test_a_study_has_a_keyword_for_each_key_of_a_file() -> None:
    keywords = set(get_type_hints(facex_tune.Study.__init__)) - {"return"}
    body = set(schema.Body.model_fields) - {"version", "search"}
    assert keywords == body | {"model", "augment", "balance", "train", "sampling"}
