"""A run as TensorBoard logs: every metric by epoch, a run a trial, the knobs for its HParams table, and the final
evaluation with its confusion matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from tensorboardX.proto.api_pb2 import DataType, Experiment, HParamInfo, MetricInfo, MetricName, Status
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboardX.proto.plugin_text_pb2 import TextPluginData
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboardX.record_writer import RecordWriter

from facex_tune import metrics
from facex_tune.mirrors import final_scores
from facex_tune.mirrors.final_scores import FinalScores, Png, tag
from facex_tune.runs.frames import Times
from facex_tune.runs.history import FAILED, RUNNING, History, Trial
from facex_tune.runs.names import model_label
from facex_tune.runs.store import Run
from facex_tune.space import Choice, Knob, Value

FILE = "events.out.tfevents.facex_tune"  # TensorBoard looks for `tfevents`; one name, so that it is written anew


class TensorBoardLogs:
    """One run as a folder of logs: `t0007/` for a trial, `final-t0007-s0/` for a final model,
    `evaluation/PROTOCOL/t0007/` for its scores on a sealed set; `update` brings them up to date.

    Args:
        folder: written anew where it holds logs of this kind.
        faces: whether the faces that evaluations kept are told, too.
    """

    def __init__(self, run: Run, folder: Path, faces: bool = False) -> None:
        self.run, self.folder, self._faces = run, folder, faces
        self._knobs = dict(run.study.space.knobs())
        self._open: dict[int, RecordWriter] = {}
        self._told: dict[int, int] = {}  # trial -> the last epoch that was told
        self._ended: set[int] = set()
        self._models: set[tuple[int, int]] = set()
        self._scores: dict[str, FinalScores] = {}  # those that were told
        self._is_begun = False

    def update(self, history: History, times: Times) -> None:
        """Adds what is new: trials, epochs, ends, final models. The files grow at their end."""
        if not self._is_begun:
            self._describe()
            self._is_begun = True
        for number in sorted(history.trials.keys() - self._ended):
            self._trial(history.trials[number], times)
        for key in sorted(history.models.keys() - self._models):
            self._model(*key)
            self._models.add(key)
        for scores in final_scores.read(self.run, history):
            if self._scores.get(scores.name) != scores:
                self._evaluation(scores)
                self._scores[scores.name] = scores

    def close(self) -> None:
        """Ends the files of trials that still run."""
        for writer in self._open.values():
            writer.close()
        self._open.clear()

    def _describe(self) -> None:
        """The columns of the HParams table: every knob that varies, the objectives, the canonical scores."""
        infos = [HParamInfo(name=name, type=_data_type(knob)) for name, knob in self._knobs.items()]
        shown = dict.fromkeys([*self.run.study.objective, *metrics.SIX])
        found = [MetricInfo(name=MetricName(tag=tag(name))) for name in shown]
        experiment = HParamsPluginData(experiment=Experiment(hparam_infos=infos, metric_infos=found))
        writer = self._writer(".")
        writer.write(_hparams_event("_hparams_/experiment", experiment, _seconds(self.run.header["created_utc"])))
        writer.close()

    def _trial(self, trial: Trial, times: Times) -> None:
        if trial.number not in self._open:
            self._open[trial.number] = self._writer(trial.label)
            start = HParamsPluginData(session_start_info=_session_start(trial.config))
            started = _seconds(times.started[trial.number])
            self._open[trial.number].write(_hparams_event("_hparams_/session_start_info", start, started))
        writer = self._open[trial.number]
        for epoch in sorted(trial.epochs):
            if epoch > self._told.get(trial.number, 0):
                writer.write(_scalars(epoch, trial.epochs[epoch], _seconds(times.epochs[trial.number, epoch])))
                self._told[trial.number] = epoch
        if trial.state == RUNNING:
            writer.flush()
            return
        status = Status.STATUS_FAILURE if trial.state == FAILED else Status.STATUS_SUCCESS
        end = HParamsPluginData(session_end_info=SessionEndInfo(status=status))
        writer.write(_hparams_event("_hparams_/session_end_info", end, _seconds(times.ended[trial.number])))
        self._open.pop(trial.number).close()
        self._ended.add(trial.number)

    def _model(self, candidate: int, seed: int) -> None:
        """A final model's epochs, as its own history tells them."""
        curve, wall_s = final_scores.model_curve(self.run, candidate, seed)
        writer = self._writer(f"final-{model_label(candidate, seed)}")
        for epoch, found in curve.items():
            writer.write(_scalars(epoch, found, wall_s))
        writer.close()

    def _evaluation(self, scores: FinalScores) -> None:
        """One candidate's final scores; where it is scored again, its file is written anew."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scores.values.items()]
        values.append(_text("evaluation/table", scores.table))
        if (drawn := scores.confusion_png()) is not None:
            values.append(_image("evaluation/confusion", drawn))
        if self._faces and scores.is_winner:
            sheets = final_scores.face_sheets(self.run, scores.protocol)
            values += [_image(f"faces/{kind}", sheet) for kind, sheet in sheets.items()]
        writer = self._writer(f"evaluation/{scores.name}")
        writer.write(Event(wall_time=scores.wall_s, summary=Summary(value=values)).SerializeToString())
        writer.close()

    def _writer(self, name: str) -> RecordWriter:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        writer = RecordWriter(str(folder / FILE))
        began_s = _seconds(self.run.header["created_utc"])
        writer.write(Event(wall_time=began_s, file_version="brain.Event:2").SerializeToString())
        return writer


def _scalars(epoch: int, found: Mapping[str, float], wall_s: float) -> bytes:
    values = [Summary.Value(tag=tag(name), simple_value=value) for name, value in found.items() if math.isfinite(value)]
    event: bytes = Event(wall_time=wall_s, step=epoch, summary=Summary(value=values)).SerializeToString()
    return event


def _image(name: str, drawn: Png) -> Summary.Value:
    png, width, height = drawn
    image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
    return Summary.Value(tag=name, image=image)


def _text(name: str, markdown: str) -> Summary.Value:
    content = TextPluginData(version=0).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name="text", content=content)
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[markdown.encode()], tensor_shape=shape)
    return Summary.Value(tag=name, metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)


def _hparams_event(name: str, content: HParamsPluginData, wall_s: float) -> bytes:
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
    value = Summary.Value(tag=name, metadata=SummaryMetadata(plugin_data=plugin))
    event: bytes = Event(wall_time=wall_s, summary=Summary(value=[value])).SerializeToString()
    return event


def _session_start(config: Mapping[str, Value]) -> SessionStartInfo:
    start = SessionStartInfo()
    for name, value in config.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, int | float):
            start.hparams[name].number_value = value
        elif value is not None:
            start.hparams[name].string_value = value
    return start


def _data_type(knob: Knob) -> int:
    options: Iterable[Value] = knob.options if isinstance(knob, Choice) else [knob.default]
    if all(isinstance(option, bool) for option in options):
        return int(DataType.DATA_TYPE_BOOL)
    if all(isinstance(option, int | float) for option in options):
        return int(DataType.DATA_TYPE_FLOAT64)
    return int(DataType.DATA_TYPE_STRING)


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
