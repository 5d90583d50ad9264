"""Scores a run's final models on sealed sets. No other place scores on them, and each opening is logged first. (With
`duplicates: drop`, `data.training_set` reads their pixels too, only to leave copies of them out of training.)

A protocol's evaluation is two files: ``evaluation/<protocol>.json`` (the scores) and ``evaluation/<protocol>.parquet``
(one row a face: its row in the prepared set, source, label, group, and every model's probabilities), so that any metric
can be computed again without the models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.data import faces as face_sets
from facex_tune.data import training_set
from facex_tune.data.shapes import reshaped, told_conversion
from facex_tune.emotions import FaceShape
from facex_tune.errors import InputError
from facex_tune.evaluation import choices, records
from facex_tune.runs.events import Note, SealedSetOpened
from facex_tune.runs.names import model_label
from facex_tune.study import protocols
from facex_tune.study.protocols import Protocol
from facex_tune.study.words import plural
from facex_tune.training import posthoc
from facex_tune.training.posthoc import Adjustment

if TYPE_CHECKING:
    from torch import nn

    from facex_tune.runs.store import Log, Run


def evaluate(
    run: Run, log: Log, data_dir: Path, device: str | None, protocols_asked: Sequence[str] = ()
) -> None:
    """Scores every finished model of `run` under each protocol and writes the run's evaluation folder.

    Args:
        device: "cuda", "cpu", ...; None picks the best there is.
        protocols_asked: protocol ids; none means those of the study.

    Raises:
        InputError: no model was retrained yet, a protocol that this run may not use, or a set that is not prepared.
    """
    chosen = [protocols.find(name) for name in (protocols_asked or run.study.evaluate.protocols)]
    models = finished_models(run)
    check(run, chosen, data_dir)
    loaded = _load(run, models, device)
    names = [model_label(*key) for key in models]
    log.tell(Note(f"evaluate: {plural(len(models), 'model')} on the validation faces, to choose what tests must not"))
    choice = choices.choose(run, data_dir, device, names, [model for model, _ in loaded])
    opener = _Opener(run, log, data_dir, device, dict(zip(models, loaded, strict=True)), choice.tta)
    first = _answers_plainly(*loaded[0], device)
    looked = set()  # one protocol of each set shows where the first model looked: the report shows no other's faces
    for protocol in chosen:
        scored = records.Scored.under(protocol, opener.open(protocol))
        sha256, key = face_sets.read_manifest(data_dir, protocol.data)["sha256"], (protocol.data, protocol.splits)
        records.write(run, protocol, scored, models, choice, sha256, None if key in looked else first)
        looked.add(key)
        log.tell(Note(f"{protocol.id}: scored {plural(len(models), 'model')}, in {run.evaluation_folder}"))


def _answers_plainly(model: nn.Module, info: Mapping[str, Any], device_name: str | None) -> records.Answer:
    """A model's probabilities, of faces of any shape, without test-time augmentation: a mirror image would show a place
    twice.
    """
    from facex_tune.training import classifier, devices

    device = devices.pick_device(device_name)

    def answer(images_NHW: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        return classifier.probabilities_NC(model, reshaped(images_NHW, FaceShape.of(info)), device)

    return answer


def _load(run: Run, models: Sequence[records.ModelKey], device: str | None) -> list[tuple[nn.Module, dict[str, Any]]]:
    """Each model, and what its config.json says."""
    from facex_tune.training import classifier, devices

    loaded = []
    for key in models:
        tensors, info = run.load_model_files(*key)
        on, face = devices.pick_device(device), FaceShape.of(info)
        model = classifier.load_model(info["config"], tensors, info["n_classes"], on, face)
        loaded.append((model, info))
    return loaded


def finished_models(run: Run) -> list[records.ModelKey]:
    """(candidate, seed) of every retrained model, best candidate first.

    Raises:
        InputError: there is none yet.
    """
    models = run.history().finished_models
    if not models:
        raise InputError(f"run {run.name!r} has no retrained model to evaluate: run `facex-tune retrain {run.words}`")
    return models


def check(run: Run, chosen: Sequence[Protocol], data_dir: Path) -> None:
    """Everything that forbids these protocols, found before any sealed set is opened.

    Raises:
        InputError: with every problem at once.
    """
    problems = [
        f"evaluate.protocols: {protocol.id!r} is no name of a prepared set; choices are what `facex-tune data` prepared"
        for protocol in chosen
        if Path(protocol.id).name != protocol.id
    ]
    for protocol in chosen:
        if uses_validation(protocol) and run.study.validation == "public_test":
            problems.append(
                f"evaluate.protocols: {protocol.id} scores PublicTest, on which this run chose its models; "
                f"use fer2013.private, or a study with `validation: {{holdout: 0.1}}`"
            )
    manifests = {}
    for name in dict.fromkeys([*run.study.sets, *(protocol.data for protocol in chosen)]):
        try:
            manifests[name] = face_sets.read_manifest(data_dir, name)
            _same_as_searched(run, name, manifests[name], data_dir)
        except InputError as error:
            problems += error.problems
    problems += [
        f"evaluate.protocols: {protocol.id} has nothing to score: {protocol.data!r} has no faces in the split "
        f"{' or '.join(protocol.splits)}; its splits: {', '.join(manifests[protocol.data]['counts']) or 'none'}"
        for protocol in chosen
        if protocol.data in manifests and not _faces_read(protocol, manifests[protocol.data])
    ]
    if problems:
        raise InputError(problems)


def _faces_read(protocol: Protocol, manifest: Mapping[str, Any]) -> int:
    """Faces of the protocol's splits, whatever their class."""
    return sum(sum(manifest["counts"].get(split, {}).values()) for split in protocol.splits)


def uses_validation(protocol: Protocol) -> bool:
    """Whether the protocol's faces include PublicTest, which is most runs' validation."""
    return "public_test" in protocol.splits


def _same_as_searched(run: Run, name: str, manifest: Mapping[str, Any], data_dir: Path) -> None:
    """A set prepared again from other files is another set: its scores would not belong to this run."""
    recorded = run.header["data"].get(name, {}).get("sha256") or records.scored_sets(run).get(name)
    if recorded is not None and recorded != manifest["sha256"]:
        raise InputError(
            f"data set {name!r} in {data_dir} is not the one of run {run.name!r} (SHA-256 {manifest['sha256'][:12]}, "
            f"recorded {recorded[:12]}): give the folder that the run used with --data"
        )


class _Opener:
    """Opens sealed sets, logged; splits that two protocols share are predicted once."""

    def __init__(
        self,
        run: Run,
        log: Log,
        data_dir: Path,
        device_name: str | None,
        models: Mapping[records.ModelKey, tuple[nn.Module, dict[str, Any]]],
        tta: str,
    ) -> None:
        self.run, self.log, self.data_dir, self.device_name, self.models = run, log, data_dir, device_name, models
        self.tta = tta
        self._known = training_set.load(run.study, data_dir)
        self._opened: dict[tuple[str, tuple[str, ...]], records.Opened] = {}

    def open(self, protocol: Protocol) -> records.Opened:
        """The faces of the protocol's splits, as every model sees them."""
        self._record(protocol)
        key = protocol.data, protocol.splits
        if key not in self._opened:
            whole = face_sets.open_set(self.data_dir, protocol.data)
            rows_N = np.flatnonzero(np.isin(whole.split_N, protocol.splits)).astype(np.int64)
            faces = whole.take(rows_N)
            known = self._known.joined_train, self._known.joined_validation
            seen_N, chosen_N = (each.standing(faces, protocol.data) for each in known)
            own = FaceShape.of(next(iter(self.models.values()))[1])  # a run's models are all of one shape
            if change := told_conversion(faces.face, own):
                self.log.tell(Note(f"evaluate: {faces.face} faces of {protocol.data} are shown as {own} ({change})"))
            shown_NHW = reshaped(faces.images_NHW, own)
            probabilities_MNC, adjustments_M = self._predicted(shown_NHW)
            self._opened[key] = records.Opened(
                faces, rows_N, probabilities_MNC, seen_N, adjustments_M, chosen_N, converted=change
            )
        return self._opened[key]

    def _record(self, protocol: Protocol) -> None:
        """The log knows of an opening before it happens. `n` counts the faces of the splits that are read."""
        n = _faces_read(protocol, face_sets.read_manifest(self.data_dir, protocol.data))
        self.log.append(SealedSetOpened(protocol.id, [model_label(*key) for key in self.models], n))

    def _predicted(self, images_NHW: NDArray[np.uint8]) -> tuple[NDArray[np.float32], tuple[Adjustment | None, ...]]:
        """Probabilities, M x N x C, and each model's post-hoc adjustment."""
        from facex_tune.training import classifier, devices

        device = devices.pick_device(self.device_name)
        per_model: list[NDArray[np.float32]] = []
        adjustments: list[Adjustment | None] = []
        for (candidate, seed), (model, info) in self.models.items():
            self.log.tell(Note(f"evaluate: {model_label(candidate, seed)} on {len(images_NHW):,} faces"))
            per_model.append(classifier.probabilities_NC(model, images_NHW, device, tta=self.tta))
            adjustments.append(posthoc.of_model(info))
        return np.stack(per_model), tuple(adjustments)
