"""The search as TensorBoard logs: the files read record by record."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.record_writer import masked_crc32c

from facex_tune.mirrors.mirror import Targets, mirror
from facex_tune.mirrors.tensorboard_logs import TensorBoardLogs, tag
from facex_tune.runs.events import ModelFinished
from facex_tune.runs.frames import Times
from facex_tune.runs.store import Run
from tests.mirrors.conftest import SearchMaker
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
        if not value.HasField("metadata")
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
    assert found["training/images_per_second", 3] == 100.0
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


@pytest.mark.parametrize(
    ("metric", "shown"),
    [("macro_f1", "validation/macro_f1"), ("f1.sad", "f1/sad"), ("train_loss", "training/train_loss")],
)
def test_metrics_stand_in_groups(metric: str, shown: str) -> None:
    assert tag(metric) == shown
