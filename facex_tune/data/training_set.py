"""The faces that a study trains on and validates with, as arrays. None of them belongs to a sealed test set.

With `duplicates: drop`, the pixels and groups of sealed sets are read to find their copies among the training faces,
which are left out. Nothing is ever trained on or scored with them here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facex_tune.data import faces as faces_room
from facex_tune.data.faces import Faces
from facex_tune.data.groups import copies_between
from facex_tune.emotions import N_FER2013
from facex_tune.errors import InputError
from facex_tune.study import Holdout, Study, protocols


@dataclass(frozen=True)
class TrainingSet:
    """Train and validation; `targets_NC` are the annotators' vote shares of train, where a study trains towards
    them.
    """

    train: Faces
    validation: Faces
    targets_NC: NDArray[np.float32] | None

    @property
    def n_classes(self) -> int:
        return N_FER2013


def load(study: Study, data_dir: Path) -> TrainingSet:
    """The study's two splits, relabelled and without duplicates as it says.

    Raises:
        InputError: the set is not prepared, lacks votes that the study wants, or leaves a split without faces.
    """
    everything = _relabelled(faces_room.open_set(data_dir, study.data), study)
    train = everything.where("train")
    if len(train) == 0:
        raise _no_faces(study, everything, "to train on", "put class folders into train/ and prepare it again")
    if isinstance(study.validation, Holdout):
        train_mask_N, validation_mask_N = faces_room.holdout(train, study.validation.holdout, study.search.seed)
        train, validation = train.take(train_mask_N), train.take(validation_mask_N)
    else:
        validation = everything.where(study.validation)
    if len(validation) == 0:
        raise _no_faces(study, everything, "to validate with", "use `validation: {holdout: 0.1}`, or more faces")
    if study.duplicates == "drop":
        train = _without_copies(train, [(study.data, validation), *_sealed(study, data_dir)], study.data)
    if len(train) == 0:
        raise InputError(
            f"data set {study.data!r}: every face to train on has a copy in a held-out set: use `duplicates: keep`"
        )
    return TrainingSet(train, validation, _vote_shares(train) if study.labels == "ferplus_votes" else None)


def _no_faces(study: Study, everything: Faces, use: str, remedy: str) -> InputError:
    there = ", ".join(f"{split} {sum(each.values()):,}" for split, each in faces_room.counts(everything).items())
    return InputError(f"data set {study.data!r} has no faces {use} (it has {there or 'none at all'}): {remedy}")


def _relabelled(everything: Faces, study: Study) -> Faces:
    """Faces with the labels that the study names; those outside the seven classes, or without a majority, leave."""
    labels_N = everything.labels_N
    if study.labels != "fer2013":
        if everything.votes_NC is None:
            raise InputError(
                f"labels: {study.labels} needs annotators' votes, which data set {study.data!r} has not; "
                "use labels: fer2013"
            )
        labels_N = faces_room.majority_labels(everything.votes_NC)
    kept_N = (labels_N >= 0) & (labels_N < N_FER2013)
    return replace(everything.take(kept_N), labels_N=labels_N[kept_N])


def _vote_shares(train: Faces) -> NDArray[np.float32]:
    """Votes for the seven emotions as probabilities, targets_NC."""
    assert train.votes_NC is not None
    votes_NC = train.votes_NC[:, :N_FER2013].astype(np.float32)
    shares_NC: NDArray[np.float32] = votes_NC / votes_NC.sum(1, keepdims=True)
    return shares_NC


def _sealed(study: Study, data_dir: Path) -> list[tuple[str, Faces]]:
    """Every face that a protocol of the study will score, by set, each once.

    Only pixels and groups are used, to keep copies out of training.
    """
    wanted = [protocols.find(name) for name in study.evaluate.protocols]
    found: list[tuple[str, Faces]] = []
    for name, split in dict.fromkeys((each.data, split) for each in wanted for split in each.splits):
        if faces_room.is_prepared(data_dir, name):
            found.append((name, faces_room.open_set(data_dir, name).where(split)))
    return found


def _without_copies(train: Faces, held: list[tuple[str, Faces]], own: str) -> Faces:
    """Train without exact, mirrored and near copies of held-out faces (set, faces); `own` is train's set."""
    copied_N = np.zeros(len(train), np.bool_)
    for name, faces in held:
        copied_N |= copies_between(faces, train, one_set=name == own)[1]
    return train.take(~copied_N)
