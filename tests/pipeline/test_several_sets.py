"""A study of several sets before it runs: what its header, its dry run and its refusals say."""

from __future__ import annotations

from pathlib import Path

import pytest

from facex_tune.data import faces as face_sets
from facex_tune.errors import InputError
from facex_tune.pipeline import dry_run, preflight
from facex_tune.pipeline.begin import begin
from facex_tune.pipeline.options import Options
from facex_tune.runs import overview
from tests.data.test_joining import drawn, with_images
from tests.search.conftest import tiny_study


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """Two sets of 28 training faces, of which one stands in both; the second has no neutral face."""
    wild, lab = drawn(0), drawn(1)
    lab = lab.take(lab.labels_N != 6)
    for name, faces in (("wild", wild), ("lab", with_images(lab, {0: wild.images_NHW[3]}))):
        face_sets.write(faces, tmp_path / "data", name, source={}, skipped=[])
    return Options(tmp_path / "runs", tmp_path / "data", device="cpu")


def test_header_and_dry_run_tell_each_sets_faces(options: Options) -> None:
    study = tiny_study(data=["wild", "lab"], evaluate={})
    run = begin(study, "both", options)
    assert list(run.header["data"]) == ["wild", "lab"]
    assert run.header["data"]["lab"]["sha256"] == face_sets.read_manifest(options.data_dir, "lab")["sha256"]
    counted = run.header["faces"]
    assert (counted["train"], counted["validation"]) == (28 + 23, 14)
    assert (sum(counted["by_set"]["lab"]["train"].values()), counted["by_set"]["lab"]["copies"]) == (23, 1)
    document = overview.of_run(run)
    assert document["data"] == "wild + lab"
    assert document["faces_by_set"] == counted["by_set"]
    told = dry_run.told(study, options)
    assert any(line.startswith("wild: trained on 28 faces (angry 4, ") for line in told), told
    assert any(line.endswith("1 left out as copies of faces in the other sets") for line in told)
    assert "lab: no face of neutral in train: only the other sets of the study can teach it" in told
    assert sum(dry_run.train_faces(study, options).train_C) == 28 + 23


def test_a_set_that_is_not_there_is_named_with_choices(options: Options) -> None:
    study = tiny_study(data=["wild", "lap"], evaluate={"protocols": ["folder.wild"]})
    (line,) = [each for each in preflight.problems(study, options) if "'lap'" in each]
    assert "neither prepared in" in line
    assert "lab" in line
    with pytest.raises(InputError, match="'lap'"):
        begin(study, None, options)
