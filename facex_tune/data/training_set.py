"""The faces that a study trains on and validates with, as arrays. None of them belongs to a sealed test set.

With `duplicates: drop`, the pixels and groups of sealed sets are read to find their copies among the training faces,
which are left out. Nothing is ever trained on or scored with them here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.data import faces as faces_room
from facex_tune.data.faces import Faces
from facex_tune.data.groups import copies_between
from facex_tune.data.joining import Joined, even_odds, join
from facex_tune.emotions import GREY_48, N_FER2013, FaceShape
from facex_tune.errors import InputError
from facex_tune.study import Holdout, Study, data_text, protocols

SAMPLE = 512  # of the faces trained on, where none validates


@dataclass(frozen=True)
class TrainingSet:
    """Train and validation, of all the sets of a study.

    Attributes:
        targets_NC: the annotators' vote shares of train, where a study trains towards them.
        n_classes: how many of `EMOTIONS` a model answers with.
        odds_N: relative odds of each training face to be drawn, where a study balances its sets.
        joined_train, joined_validation: the same faces with the set of each.
        copies: training faces by set that were left out as copies of another set of the study.
    """

    joined_train: Joined
    joined_validation: Joined
    targets_NC: NDArray[np.float32] | None
    n_classes: int = N_FER2013
    odds_N: NDArray[np.float32] | None = None
    copies: Mapping[str, int] = field(default_factory=dict)

    @property
    def train(self) -> Faces:
        """The faces to train on."""
        return self.joined_train.faces

    @property
    def validation(self) -> Faces:
        """The faces to validate with."""
        return self.joined_validation.faces

    def by_set(self) -> dict[str, dict[str, Any]]:
        """{train, validation: {emotion: n}, copies: n left out} of each set."""
        train, validation = self.joined_train.counts(), self.joined_validation.counts()
        return {
            name: {"train": train[name], "validation": validation[name], "copies": self.copies.get(name, 0)}
            for name in train
        }


def face_of(study: Study, data_dir: Path) -> FaceShape:
    """The shape of the faces that a study trains on: that of its prepared sets; as long as none is prepared the one
    that it asks for, else 48×48 grey.

    Raises:
        InputError: the sets have several shapes, or another one than the study asks for; with what to do.
    """
    prepared = [name for name in study.sets if faces_room.is_prepared(data_dir, name)]
    found = {name: FaceShape.of(faces_room.read_manifest(data_dir, name)) for name in prepared}
    shapes = list(dict.fromkeys(found.values()))
    if len(shapes) > 1:
        told = ", ".join(f"{name} {face}" for name, face in found.items())
        raise InputError(
            f"data: the sets have faces of several shapes ({told}), which are not mixed: prepare them alike, each with "
            "the same --size and --colour, into a folder of their own with --data"
        )
    wanted = study.face_shape
    if shapes and wanted not in (None, shapes[0]):
        assert wanted is not None
        name = next(iter(found))
        options = wanted.options or "neither --size nor --colour"
        raise InputError(
            f"face: the study is for {wanted} faces, and data set {name!r} in {data_dir} has {shapes[0]}: name "
            f"another folder with --data, or prepare it again with {options}"
        )
    return shapes[0] if shapes else wanted or GREY_48


def load(study: Study, data_dir: Path) -> TrainingSet:
    """The study's two splits, relabelled and without duplicates as it says. Several sets are joined, each copy once.
    With `validation_copies: drop` the validation faces that have a copy among those trained on leave.

    Raises:
        InputError: a set is not prepared, lacks votes that the study wants, or leaves a split without faces.
    """
    train, validation, copies = _both(study, data_dir)
    if study.duplicates == "drop":
        copied_N = copies_between(validation.faces, train.faces, one_set=True)[1]  # across sets there are none any more
        train = _without_copies(train.take(~copied_N), _sealed(study, data_dir), data_dir)
    if study.validation_copies == "drop":
        validation = validation.take(~copies_between(validation.faces, train.faces, one_set=True)[0])
    if len(train) == 0:
        raise InputError(
            f"data set {study.data_text!r}: every face to train on has a copy in a held-out set: use `duplicates: keep`"
        )
    if len(validation) == 0:
        raise InputError(
            f"data set {study.data_text!r}: every validation face has a copy among the faces to train on: use "
            "`validation_copies: keep`, or `duplicates: drop`, which leaves the copies out of training instead"
        )
    return _training_set(train, validation, study, copies)


def load_all(study: Study, data_dir: Path) -> TrainingSet:
    """Training and validation faces to train on together, for `retrain: {on: all}`. `validation` is a sample of the
    same faces: it tells whether a training has lost its way, and nothing of how good a model is.

    With `duplicates: drop`, copies of sealed faces are left out of both splits. Validation faces that copy a training
    face are trained on too, whatever `validation_copies` says.

    Raises:
        InputError: as `load`; or no validation face is left.
    """
    train, validation, copies = _both(study, data_dir)
    if study.duplicates == "drop":
        sealed = _sealed(study, data_dir)
        train, validation = (_without_copies(each, sealed, data_dir) for each in (train, validation))
    if len(validation) == 0:
        raise InputError(
            "retrain.on: all would add nothing to train on: every validation face of "
            f"{data_text(study.validated_on)!r} has a copy in a sealed set, and duplicates: drop leaves those out; "
            "write on: train"
        )
    whole = train.followed_by(validation)
    sample_N = np.zeros(len(whole), np.bool_)
    sample_N[np.linspace(0, len(whole) - 1, min(len(whole), SAMPLE)).astype(np.int64)] = True
    return _training_set(whole, whole.take(sample_N), study, copies)


def _both(study: Study, data_dir: Path) -> tuple[Joined, Joined, dict[str, int]]:
    """Train and validation of all sets, relabelled, with every copy but those that stand in another of the sets; how
    many of those each set had.
    """
    face_of(study, data_dir)
    splits = [_splits(name, study, data_dir) for name in study.sets]
    _require_contempt(study, [train for train, _ in splits])
    train, validation, copies = join(study.sets, [train for train, _ in splits], [held for _, held in splits], data_dir)
    if len(validation) == 0:
        raise _none_to_validate(study, data_dir)
    _require_own(study.sets, train, copies)
    return train, validation, copies


def _training_set(train: Joined, validation: Joined, study: Study, copies: Mapping[str, int]) -> TrainingSet:
    targets_NC = _vote_shares(train.faces, study.classes) if study.labels == "ferplus_votes" else None
    odds_N = even_odds(train) if study.set_balance == "even" else None
    return TrainingSet(train, validation, targets_NC, study.classes, odds_N, copies)


def _splits(name: str, study: Study, data_dir: Path) -> tuple[Faces, Faces]:
    """The faces of one set to train on and to validate with; of sets that are not validated on none of the latter."""
    everything = _relabelled(faces_room.open_set(data_dir, name), name, study)
    train = everything.where("train")
    if len(train) == 0:
        raise _no_faces(name, everything, "to train on", "put class folders into train/ and prepare it again")
    if name not in study.validated_on:
        return train, train.take(np.zeros(len(train), np.bool_))
    if isinstance(study.validation, Holdout):
        train_mask_N, validation_mask_N = faces_room.holdout(train, study.validation.holdout, study.search.seed)
        return train.take(train_mask_N), train.take(validation_mask_N)
    return train, everything.where(study.validation)


def _require_own(sets: Sequence[str], train: Joined, copies: Mapping[str, int]) -> None:
    """InputError where a set adds nothing to those before it."""
    for name in sets[1:]:
        if copies[name] and not train.of([name]).any():
            raise InputError(
                f"data: every training face of {name!r} is a copy of one in another set of the study: it adds nothing; "
                f"leave {name} out, or name it first to train on its labels"
            )


def _require_contempt(study: Study, trains: Sequence[Faces]) -> None:
    """InputError where an eighth class is asked for that no face would teach."""
    if study.classes == N_FER2013 or any((train.labels_N >= N_FER2013).any() for train in trains):
        return
    by_votes = study.labels == "own" and all(train.votes_NC is not None for train in trains)
    other = "labels: ferplus_majority, by which it may have some, or " if by_votes else ""
    raise InputError(
        f"classes: {study.classes} needs faces of contempt to train on, and data set {study.data_text!r} has none with "
        f"labels: {study.labels}; use {other}classes: {N_FER2013}"
    )


def _no_faces(name: str, everything: Faces, use: str, remedy: str) -> InputError:
    there = ", ".join(f"{split} {sum(each.values()):,}" for split, each in faces_room.counts(everything).items())
    return InputError(f"data set {name!r} has no faces {use} (it has {there or 'none at all'}): {remedy}")


def _none_to_validate(study: Study, data_dir: Path) -> InputError:
    name = study.validated_on[0]
    there = _relabelled(faces_room.open_set(data_dir, name), name, study)
    first = "name a set that has some first, " if len(study.sets) > 1 else ""
    return _no_faces(name, there, "to validate with", f"{first}use `validation: {{holdout: 0.1}}`, or more faces")


def _relabelled(everything: Faces, name: str, study: Study) -> Faces:
    """Faces with the labels that the study names; those outside its classes, or without a majority, leave."""
    labels_N = everything.labels_N
    if study.labels != "own":
        if everything.votes_NC is None:
            raise InputError(
                f"labels: {study.labels} needs annotators' votes, which data set {name!r} has not; "
                "use labels: own"
            )
        labels_N = faces_room.majority_labels(everything.votes_NC)
    kept_N = (labels_N >= 0) & (labels_N < study.classes)
    return replace(everything.take(kept_N), labels_N=labels_N[kept_N])


def _vote_shares(train: Faces, n_classes: int) -> NDArray[np.float32]:
    """Votes for the emotions that are trained as probabilities, targets_NC."""
    assert train.votes_NC is not None
    votes_NC = train.votes_NC[:, :n_classes].astype(np.float32)
    shares_NC: NDArray[np.float32] = votes_NC / votes_NC.sum(1, keepdims=True)
    return shares_NC


def _sealed(study: Study, data_dir: Path) -> list[tuple[str, Faces]]:
    """Every face that a protocol of the study will score, by set, each once; of several sets that are trained on their
    test splits too, since a test face of one may be a training face of another.

    Only pixels and groups are used, to keep copies out of training.
    """
    wanted = [(each.data, split) for each in map(protocols.find, study.evaluate.protocols) for split in each.splits]
    if len(study.sets) > 1:
        wanted += [(name, split) for name in study.sets for split in ("private_test", "test")]
    found: list[tuple[str, Faces]] = []
    for name, split in dict.fromkeys(wanted):
        if faces_room.is_prepared(data_dir, name):
            found.append((name, faces_room.open_set(data_dir, name).where(split)))
    return found


def _without_copies(faces: Joined, held: list[tuple[str, Faces]], data_dir: Path) -> Joined:
    """The faces without exact, mirrored and near copies of held-out faces (set, faces)."""
    copied_N = np.zeros(len(faces), np.bool_)
    for name, each in held:
        copied_N |= faces.copied_from(each, name, data_dir)
    return faces.take(~copied_N)
