"""The search as TensorBoard logs: the files read record by record."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.record_writer import masked_crc32c

from facex_tune.mirrors.final_scores import tag
from facex_tune.mirrors.mirror import Targets, mirror
from facex_tune.mirrors.tensorboard_logs import TensorBoardLogs
from facex_tune.runs.events import ModelFinished
from facex_tune.runs.frames import Times
from facex_tune.runs.store import Run
from tests.mirrors.conftest import SearchMaker, score
from tests.records import record


def records(path: Path) -> Iterator[Any]:
    """Every event of a log, its checksums held."""
    content = path.read_bytes()
    at = 0
    while at < len(content):
        header = content[at : at + 8]
        (length,) = struct.unpack("Q", header)
        data = content[at + 12 : at + 12 + length]
        crcs = [struct.unpack("I", content[place : place + 4])[0] for place in (at + 8, at + 12 + length)]
        assert crcs == [masked_crc32c(header), masked_crc32c(data)]
        yield Event.FromString(data)
        at += 16 + length


def events_in(folder: Path) -> list[Any]:
    (path,) = folder.glob("*tfevents*")
    return list(records(path))


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    return {
        (value.tag, event.step): value.simple_value
        for event in events_in(folder)
        for value in event.summary.value
        if value.HasField("simple_value")
    }


def hparams(folder: Path) -> dict[str, HParamsPluginData]:
    return {
        value.tag: HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for event in events_in(folder)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    }


def mirrored(run: Run, folder: Path) -> Path:
    mirror(run, Targets(tensorboard=folder))
    return folder


def test_every_metric_is_a_scalar_by_epoch(make_search: SearchMaker, tmp_path: Path) -> None:
    folder = mirrored(make_search(), tmp_path / "logs")
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["t0000", "t0001", "t0002", "t0003"]
    found = scalars(folder / "t0000")
    curve = [found["validation/macro_f1", epoch] for epoch in (1, 2, 3)]
    assert curve == pytest.approx([0.2, 0.4, 0.6])
    assert found["recall/happy", 3] == pytest.approx(0.6)
    assert found["training/train_images_per_second", 3] == 100.0
    assert {step for _, step in scalars(folder / "t0003")} == {1}
    assert scalars(folder / "t0002") == {}


def test_scalars_have_the_time_of_their_epoch(make_search: SearchMaker, tmp_path: Path) -> None:
    run = make_search()
    folder = mirrored(run, tmp_path / "logs")
    times = Times.of(run.events())
    walls = {event.step: event.wall_time for event in events_in(folder / "t0000") if event.step}
    expected = {epoch: datetime.fromisoformat(times.epochs[0, epoch]).timestamp() for epoch in (1, 2, 3)}
    assert walls == pytest.approx(expected, abs=1e-3)


def test_the_hparams_table_has_every_knob_and_how_each_trial_ended(make_search: SearchMaker, tmp_path: Path) -> None:
    folder = mirrored(make_search(), tmp_path / "logs")
    experiment = hparams(folder)["_hparams_/experiment"].experiment
    types = {info.name: info.type for info in experiment.hparam_infos}
    assert types["model"] == 1  # a string
    assert types["train.lr"] == types["model.resnet.dropout"] == 3  # a number
    assert "validation/macro_f1" in [info.name.tag for info in experiment.metric_infos]
    session = hparams(folder / "t0000")
    values = session["_hparams_/session_start_info"].session_start_info.hparams
    assert values["model"].string_value == "resnet"
    assert values["train.lr"].number_value == 0.05
    ends = [hparams(folder / f"t{trial:04d}").get("_hparams_/session_end_info") for trial in range(4)]
    statuses = [end and end.session_end_info.status for end in ends]
    assert statuses == [1, 1, 2, None]  # success, success, failure, still running


def test_logs_grow_and_a_second_mirror_writes_them_anew(
    make_search: SearchMaker, events_of_search: list[dict[str, Any]], tmp_path: Path
) -> None:
    run = make_search(events=[])
    logs = TensorBoardLogs(run, tmp_path / "logs")
    with run.log() as log:
        for event in events_of_search:
            log.append(record(event))
            logs.update(run.history(), Times.of(run.events()))
        assert scalars(tmp_path / "logs" / "t0003")["validation/macro_f1", 1] == 0.5  # told while it runs
    logs.close()
    grown = {path.name: scalars(path) for path in (tmp_path / "logs").iterdir() if path.is_dir()}
    mirrored(run, tmp_path / "logs")
    assert {path.name: scalars(path) for path in (tmp_path / "logs").iterdir() if path.is_dir()} == grown


def test_final_models_are_runs_of_their_own(make_search: SearchMaker, tmp_path: Path) -> None:
    run = make_search()
    folder = run.final_folder(0, 1)
    folder.mkdir(parents=True)
    (folder / "history.csv").write_text("epoch,macro_f1,recall.happy\n1,0.5,\n2,0.625,0.25\n")
    with run.log() as log:
        log.append(ModelFinished(candidate=0, seed=1, metrics={"macro_f1": 0.625}))
    found = scalars(mirrored(run, tmp_path / "logs") / "final-t0000-s1")
    assert found == {("validation/macro_f1", 1): 0.5, ("validation/macro_f1", 2): 0.625, ("recall/happy", 2): 0.25}


def test_the_final_evaluation_has_its_interval_n_and_confusion_matrix_and_no_face(
    make_search: SearchMaker, tmp_path: Path
) -> None:
    run = make_search()
    score(run, "synthetic.private", accuracy=0.25)
    folder = mirrored(run, tmp_path / "logs") / "evaluation" / "synthetic.private" / "t0000"
    found = {name: value for (name, _), value in scalars(folder).items()}
    told = [found[f"evaluation/accuracy{end}"] for end in ("", ".low", ".high")]
    assert told == pytest.approx([0.25, 0.15, 0.35])
    assert (found["evaluation/n"], found["evaluation/seeds"]) == (80, 2)
    assert found["evaluation_emotions/recall.happy"] == 0.75
    assert found["evaluation_clean/accuracy"] == 0.125
    assert "evaluation/ece.low" not in found  # it has no interval
    values = [value for event in events_in(folder) for value in event.summary.value]
    (image,) = [value for value in values if value.HasField("image")]
    picture = Image.open(io.BytesIO(image.image.encoded_image_string))
    assert (image.tag, picture.size) == ("evaluation/confusion", (image.image.width, image.image.height))
    (text,) = [value.tensor.string_val[0].decode() for value in values if value.tag == "evaluation/table"]
    assert "| evaluation | accuracy | 0.2500 | 0.1500 to 0.3500 |" in text
    assert "t0000 on synthetic.private: 80 faces, means over seeds: 2" in text


def test_faces_are_told_where_they_are_asked_for_and_gone_with_the_next_mirror(
    make_search: SearchMaker, tmp_path: Path
) -> None:
    run, logs = make_search(), tmp_path / "logs"
    score(run, "synthetic.private")
    drawn = np.random.default_rng(0).integers(0, 256, (7, 48, 48), np.uint8)
    kept = {"images_NHW": drawn, "labels_N": np.arange(7), "probabilities_NC": np.eye(7, dtype=np.float32)}
    kinds = np.array(["random"] * 6 + ["confident"])
    np.savez_compressed(run.folder / "evaluation" / "synthetic.private.faces.npz", kind_N=kinds, **kept)
    told = []
    for faces in (True, False):
        mirror(run, Targets(tensorboard=logs), faces=faces)
        events = events_in(logs / "evaluation" / "synthetic.private" / "t0000")
        told.append({value.tag: value.image for event in events for value in event.summary.value})
    assert told[0].keys() - told[1].keys() == {"faces/random", "faces/confident"}
    sheet = told[0]["faces/random"]
    picture = Image.open(io.BytesIO(sheet.encoded_image_string))
    assert picture.size == (sheet.width, sheet.height)


def test_scores_that_are_written_again_replace_what_was_told(make_search: SearchMaker, tmp_path: Path) -> None:
    run = make_search()
    logs = TensorBoardLogs(run, tmp_path / "logs")
    for accuracy in (0.25, 0.5):
        score(run, "synthetic.private", accuracy=accuracy)
        for _ in range(2):
            logs.update(run.history(), Times.of(run.events()))
    logs.close()
    values = [
        value.simple_value
        for event in events_in(tmp_path / "logs" / "evaluation" / "synthetic.private" / "t0000")
        for value in event.summary.value
        if value.tag == "evaluation/accuracy"
    ]
    assert values == [0.5]


def test_a_set_without_faces_to_judge_is_told_without_scores(make_search: SearchMaker, tmp_path: Path) -> None:
    run = make_search()
    score(run, "synthetic.private", n=0)
    folder = mirrored(run, tmp_path / "logs") / "evaluation" / "synthetic.private" / "t0000"
    assert scalars(folder) == {("evaluation/n", 0): 0, ("evaluation/seeds", 0): 2}


@pytest.mark.parametrize(
    ("metric", "shown"),
    [("macro_f1", "validation/macro_f1"), ("f1.sad", "f1/sad"), ("train_loss", "training/train_loss")],
)
def test_metrics_stand_in_groups(metric: str, shown: str) -> None:
    assert tag(metric) == shown
