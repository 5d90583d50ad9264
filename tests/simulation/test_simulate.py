"""The command: a document and a picture; everything that it cannot know is exit code 2."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from facex_tune.cli import main
from facex_tune.simulation.curves import Curves
from facex_tune.simulation.simulate import Arm, problems, simulate
from tests.simulation.conftest import EPOCHS, SAID, drawn_study


@pytest.fixture
def study_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "drawn.yaml"
    path.write_text(yaml.safe_dump(SAID), encoding="utf-8")
    return path


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(str(ended.value.code or 0))


def test_the_command_tells_every_arm_and_draws_them(
    study_path: Path, table_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ["--sampler", "tpe", "--sampler", "random", "--workers", 1, "--workers", 1000]
    assert call("simulate", study_path, "--curves", table_path, "--seeds", 1, *arms) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert [line.split()[:4] for line in lines[1:5]] == [
        [sampler, "asha", "1/2", workers] for sampler in ("tpe", "random") for workers in ("1", "1,000")
    ]
    assert "75 trainings of 60 configurations" in out
    assert "has not seen is told with a mean error of" in out
    picture = study_path.with_name("drawn-simulated.png")
    assert lines[-1] == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_one_document_that_repeats_itself(
    study_path: Path, table_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = []
    for _ in range(2):
        assert call("simulate", study_path, "--curves", table_path, "--seeds", 3, "--json", "--by", "lookup") == 0
        documents.append(json.loads(capsys.readouterr().out))
    one, same = documents
    assert one == same
    arm = one["arms"][0]
    assert arm["interval"][0] < arm["found"] < arm["interval"][1]
    assert arm["trials"] == 12
    assert arm["worker_seconds"] == pytest.approx(arm["seconds"]), "one worker"
    assert arm["course"][-1][1] == pytest.approx(arm["found"])
    assert not study_path.with_name("drawn-simulated.png").exists(), "who reads JSON asks for a picture by --out"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--sampler", "tqe"], "no sampler named 'tqe'"),
        (["--scheduler", "halving"], "no scheduler named 'halving'"),
        (["--workers", "1001"], "--workers 1001: a simulation has 1 to 1,000 workers"),
        (["--workers", "0"], "--workers 0"),
        (["--by", "guess"], "--by: no way to know a configuration named 'guess'"),
        (["--out", "picture.bmp"], "--out"),
        (["--curves", "nowhere.csv"], "cannot be read"),
        (["--curves", "no_run"], "no run named 'no_run'"),
        (["--set", "space.train.lr=2e-4"], "space.train.lr: 0.0002 leaves what was recorded (0.001 to 1 (log))"),
        (["--set", "space.model=[vgg]"], "space.model: vgg leaves what was recorded (patch_cnn)"),
        (["--set", "fidelity.max_epochs=8"], "--set fidelity.max_epochs=4"),
        (["--set", "objective=ece"], "ece was not recorded; recorded: macro_f1, accuracy"),
        (["--reduction", "1"], "fidelity.reduction"),
    ],
)
def test_what_it_cannot_know_is_told_with_exit_code_2(
    words: list[str], says: str, study_path: Path, table_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curves = [] if "--curves" in words else ["--curves", table_path]
    assert call("simulate", study_path, *curves, *words) == 2
    assert says in capsys.readouterr().err
    assert not list(study_path.parent.glob("*.png"))


def test_fewer_trials_at_once_than_workers_are_told(table: Curves) -> None:
    study = drawn_study(search={"sampler": "random", "concurrency": 2}, budget={"trials": 8})
    held, free = (simulate([Arm(each, 8)], table, seeds=1) for each in (study, drawn_study(budget={"trials": 8})))
    assert held["arms"][0]["seconds"] > 2 * free["arms"][0]["seconds"]
    assert "search.concurrency 2" in held["notes"][0]
    assert not free["notes"]


def test_curves_that_do_not_tell_configurations_apart_are_told(table: Curves) -> None:
    swapped = [each.scores_EM for each in table.whole]
    np.random.default_rng(0).shuffle(swapped)  # type: ignore[arg-type]
    shuffled = tuple(
        replace(each, scores_EM=scores_EM, configuration=number)
        for number, (each, scores_EM) in enumerate(zip(table.whole, swapped, strict=True))
    )
    arm = Arm(drawn_study(budget={"trials": 3}), 1)
    blind, telling = (simulate([arm], each, seeds=1) for each in (replace(table, trainings=shuffled), table))
    assert "read nothing into" in blind["notes"][0]
    assert abs(blind["unseen"]["rank_correlation"]) < 0.5
    assert not telling["notes"]


def test_a_study_that_learns_from_runs_is_refused(table: Curves) -> None:
    said: dict[str, Any] = {"sampler": "random", "learn_from": ["earlier"]}
    assert "search.learn_from" in problems(drawn_study(search=said), table, [1])[0]
    assert problems(drawn_study(), table, [1, 1000]) == []
    assert table.epochs == EPOCHS
