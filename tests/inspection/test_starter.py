"""A first study is one that runs: for every machine, and for sets with and without a split to validate on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from facex_tune import study
from facex_tune.errors import InputError
from facex_tune.inspection import starter
from facex_tune.inspection.starter import Asked
from tests.search.conftest import tiny_data

__all__ = ["tiny_data"]  # a fixture


@pytest.mark.parametrize("machine", starter.MACHINES)
@pytest.mark.parametrize("data", ["synthetic", "fer2013", "mine", "2024"])
def test_it_is_a_study_with_a_comment_beside_each_choice(tmp_path: Path, machine: str, data: str) -> None:
    text = starter.text(Asked("first", data, machine, "90m"), tmp_path, "first.yaml")
    parsed = study.parse(yaml.safe_load(text))
    assert (parsed.name, parsed.data, parsed.budget.time) == ("first", data, 5400)
    assert (parsed.resources.gpus > 0) == (machine == "gpu")
    assert (parsed.validation == "public_test") == (data in ("synthetic", "fer2013"))
    assert "facex-tune run first.yaml --dry-run" in text
    assert text.count("#") >= 12


def test_a_prepared_set_tells_its_own_splits(tiny_data: Path) -> None:
    text = starter.text(Asked("first", "synthetic", "cpu", "2h"), tiny_data, "first.yaml")
    assert "280 train, 70 public_test, 70 private_test" in text
    assert study.parse(yaml.safe_load(text)).validation == "public_test"
    lab = starter.text(Asked("first", "synthetic_lab", "cpu", "2h"), tiny_data, "first.yaml")
    assert study.parse(yaml.safe_load(lab)).validation != "public_test"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked("first", "synthetic", "tpu", "2h"), "--machine tpu: no such machine; choices: cpu, gpu|did you mean"),
        (Asked("first", "syn: [", "cpu", "2h"), "--for 'syn: \\[': a data set's name"),
        (Asked("first", "synthetic", "cpu", "2h}"), "--time '2h}' is no duration"),
    ],
)
def test_what_no_study_may_have_is_told(tmp_path: Path, asked: Asked, said: str) -> None:
    with pytest.raises(InputError, match=said):
        starter.text(asked, tmp_path, "first.yaml")
