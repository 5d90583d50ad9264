"""Tables of learning curves: read as they were written, refused in a line, and never asked beyond what they hold."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facex_tune import study
from facex_tune.errors import InputError
from facex_tune.runs.events import EpochDone, TrialFailed, TrialFinished, TrialStarted, TrialStopped
from facex_tune.runs.store import Run
from facex_tune.simulation import curves
from facex_tune.simulation.curves import Curves
from facex_tune.simulation.simulate import problems
from tests.simulation.conftest import EPOCHS, TOO_FAST, drawn_rows, drawn_study, write

Rows = list[dict[str, Any]]


def test_a_table_is_read_as_it_was_written(table: Curves, table_path: Path, tmp_path: Path) -> None:
    written = drawn_rows()
    first = table.trainings[0]
    assert first.config == {name: written[0][name] for name in first.config}
    assert (table.configurations, len(table.trainings), table.epochs) == (60, 75, EPOCHS)
    values_E = first.scores_EM[:, table.metrics.index("macro_f1")]
    assert values_E == pytest.approx([row["macro_f1"] for row in written[:EPOCHS]])
    too_fast = [each for each in table.trainings if float(each.config["train.lr"] or 0) > TOO_FAST]
    assert too_fast
    assert all((each.failure, len(each.seconds_E), each.lost_s) == ("diverged", 1, 5.0) for each in too_fast)
    zipped = tmp_path / "t.csv.gz"
    zipped.write_bytes(gzip.compress(table_path.read_bytes()))
    assert [each.config for each in curves.read(zipped).trainings] == [each.config for each in table.trainings]


def test_the_table_of_the_package_is_whole_and_its_study_keeps_to_it() -> None:
    packaged = curves.read(curves.PACKAGED)
    asked = study.load(Path(__file__).resolve().parents[2] / "search_spaces" / "small_curves.yaml")
    assert problems(asked, packaged, [1]) == []
    assert len(packaged.whole) >= curves.FEWEST
    assert curves.PACKAGED.stat().st_size < 2e6


def test_one_answer_for_every_face_is_a_failure_whose_curve_stays(tmp_path: Path) -> None:
    written = drawn_rows()
    for row in written[1:3]:
        row.update({"recall.happy": 1.0, "recall.sad": 0.0})
    first = curves.read(write(tmp_path / "t.csv", written)).trainings[0]
    assert (first.failure, len(first.seconds_E)) == ("collapsed", EPOCHS)


def _without(key: str) -> Callable[[Rows], object]:
    return lambda rows: [row.pop(key, None) for row in rows]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda rows: rows.pop(1), "numbered from 1"),
        (lambda rows: rows.pop(3), "3 epochs, where 4 are a whole training"),
        (lambda rows: rows[0].update({"train.lr": 7.0}), "train.lr: 7.0 is not in the recorded space"),
        (lambda rows: rows[0].update(augment="mixup"), "augment: 'mixup' is not in the recorded space"),
        (lambda rows: rows[0].update(macro_f1="much"), "much"),
        (lambda rows: rows[0].update(seconds=0), "above 0"),
        (lambda rows: rows[4:] and rows.__delitem__(slice(8, None)), "at least 10"),
        (lambda rows: rows.clear(), "has no column 'configuration' or no row"),
    ],
)
def test_a_table_that_is_none_is_refused_in_a_line(
    damage: Callable[[Rows], object], says: str, tmp_path: Path
) -> None:
    written = drawn_rows()
    damage(written)
    path = write(tmp_path / "t.csv", written)
    with pytest.raises(InputError) as refused:
        curves.read(path)
    assert says in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


NO_TABLES = [b"", b"a,b\n1,2\n", b"# []\n", b"# {}\n", b"\xff\xfe", b'# {"space": 3, "epochs": 1}\n']


@pytest.mark.parametrize("content", NO_TABLES)
def test_a_file_that_is_no_table_is_refused(content: bytes, tmp_path: Path) -> None:
    for name in ("t.csv", "t.csv.gz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="--curves"):
            curves.read(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        curves.read(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"model": ["patch_cnn", "vgg"]}, ["space.model: patch_cnn, vgg leaves", "model.patch_cnn.width", "dropout"]),
        ({"train": {"lr": {"low": 1e-4, "high": 0.1}}}, ["space.train.lr: 0.0001 to 0.1"]),
        ({"train": {"momentum": 0.95}}, ["space.train.momentum: 0.95 leaves what was recorded (0.9)"]),
        ({"train": {"lr": {"low": 0.01, "high": 0.1, "log": True}}}, []),
        ({"train": {"lr": [0.01, 0.1]}}, []),
    ],
)
def test_knobs_beyond_what_was_recorded_are_named(space: dict[str, Any], says: list[str], table: Curves) -> None:
    base = {"model": [{"patch_cnn": {"width": 32, "depth": 2, "patch": 3, "activation": "gelu", "dropout": 0.0}}]}
    train = {"lr": 0.05, "optimizer": "sgd", **space.get("train", {})}
    asked = drawn_study(space={**base, "augment": "none", "balance": "none", **space, "train": train}).space
    lines = curves.outside(asked, table)
    assert all(any(said in line for line in lines) for said in says)
    assert bool(lines) == bool(says)
    assert not any("model.vgg" in line for line in lines), "the part is named, not each of its knobs"


def test_of_a_run_what_rungs_stopped_is_left_out_and_told(tmp_path: Path) -> None:
    asked = drawn_study()
    run = Run.create(tmp_path, "r", asked, data={}, environment={})
    config = asked.space.defaults()
    with run.log() as log:
        for trial in range(13):
            log.append(TrialStarted(trial, {**config, "train.lr": 0.01 + trial / 100}, "sampler"))
            for epoch in range(1, EPOCHS + 1 if trial < 11 else 2):
                log.append(EpochDone(trial, epoch, {"macro_f1": 0.1 * epoch, "train_loss": 1.0}, 2.0))
            if trial < 11:
                log.append(TrialFinished(trial))
            elif trial == 11:
                log.append(TrialFailed(trial, "diverged", "", 3.0))
            else:
                log.append(TrialStopped(trial, 1, "rung"))
    found = curves.of_run(Run.open(tmp_path, "r"))
    assert (len(found.whole), len(found.failed), found.metrics) == (11, 1, ("macro_f1",))
    assert (found.failed[0].failure, found.failed[0].lost_s) == ("diverged", 3.0)
    assert "1 of 13 trials" in found.notes[0]
