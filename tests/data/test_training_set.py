"""What a study trains on and validates with, and what it never looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facex_tune import study
from facex_tune.data import faces as faces_room
from facex_tune.data import training_set
from facex_tune.data.faces import VOTE_ANSWERS, Faces
from facex_tune.data.training_set import TrainingSet
from facex_tune.errors import InputError
from facex_tune.study import Study

N_TRAIN, N_PUBLIC, N_PRIVATE, N_LAB = 140, 35, 35, 21
SEVEN = 7


def made(splits: list[str], *, seed: int, group_size: int = 1) -> Faces:
    """Faces of noise; labels go round the seven emotions, votes agree with the label after the next."""
    rng, n = np.random.default_rng(seed), len(splits)
    votes_NC = np.zeros((n, len(VOTE_ANSWERS)), np.int16)
    votes_NC[np.arange(n), (np.arange(n) + 2) % SEVEN] = 8
    votes_NC[np.arange(n), (np.arange(n) + 3) % SEVEN] = 2
    return Faces(
        images_NHW=rng.integers(0, 256, (n, 48, 48), dtype=np.uint8),
        labels_N=np.arange(n, dtype=np.int64) % SEVEN,
        split_N=np.array(splits),
        group_N=np.arange(n, dtype=np.int64) // group_size,
        sequence_N=np.full(n, -1, np.int64),
        votes_NC=votes_NC,
        source_N=np.array([f"face {i}" for i in range(n)]),
    )


@pytest.fixture
def wild() -> Faces:
    return made(["train"] * N_TRAIN + ["public_test"] * N_PUBLIC + ["private_test"] * N_PRIVATE, seed=0)


@pytest.fixture
def lab() -> Faces:
    return made(["test"] * N_LAB, seed=1, group_size=3)


def parsed(**said: Any) -> Study:
    least: dict[str, Any] = {"version": 1, "name": "x", "data": "synthetic"}
    return study.parse(least | {"evaluate": {"protocols": ["synthetic.private", "synthetic.lab.6"]}} | said)


Load = Callable[..., TrainingSet]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Prepares the sets in a fresh folder and loads what the study says."""

    def prepare_and_load(wild: Faces, lab: Faces | None = None, **said: Any) -> TrainingSet:
        faces_room.write(wild, tmp_path, "synthetic", source={}, skipped=[])
        if lab is not None:
            faces_room.write(lab, tmp_path, "synthetic_lab", source={}, skipped=[])
        return training_set.load(parsed(**said), tmp_path)

    return prepare_and_load


def sources(faces: Faces) -> set[str]:
    return set(faces.source_N.tolist())


def rows(first: int, n: int) -> set[str]:
    return {f"face {i}" for i in range(first, first + n)}


# Splits


def test_train_and_public_test(load: Load, wild: Faces) -> None:
    found = load(wild)
    assert sources(found.train) == rows(0, N_TRAIN)
    assert sources(found.validation) == rows(N_TRAIN, N_PUBLIC)
    assert found.targets_NC is None
    assert found.n_classes == SEVEN
    assert np.array_equal(found.train.images_NHW, wild.images_NHW[:N_TRAIN])


def test_no_sealed_face_is_ever_given(load: Load, wild: Faces, lab: Faces) -> None:
    for said in ({}, {"validation": {"holdout": 0.2}}, {"duplicates": "drop"}, {"labels": "ferplus_majority"}):
        found = load(wild, lab, **said)
        assert (sources(found.train) | sources(found.validation)) & rows(N_TRAIN + N_PUBLIC, N_PRIVATE) == set()


@pytest.mark.parametrize("labels", ["fer2013", "ferplus_votes"])
def test_a_holdout_is_cut_from_train_with_no_group_on_both_sides(load: Load, wild: Faces, labels: str) -> None:
    grouped = replace(wild, group_N=np.random.default_rng(2).integers(0, 60, len(wild)))
    found = load(grouped, validation={"holdout": 0.2}, labels=labels)
    assert sources(found.train) | sources(found.validation) == rows(0, N_TRAIN)
    assert sources(found.train) & sources(found.validation) == set()
    assert set(found.train.group_N.tolist()) & set(found.validation.group_N.tolist()) == set()
    assert 0 < len(found.validation) <= 0.2 * N_TRAIN + SEVEN / 2, "each emotion's share is rounded"


def test_a_holdout_follows_the_studys_seed(load: Load, wild: Faces) -> None:
    seeds = [load(wild, validation={"holdout": 0.2}, search={"seed": seed}).validation for seed in (1, 1, 2)]
    assert sources(seeds[0]) == sources(seeds[1]) != sources(seeds[2])


def test_a_holdout_keeps_every_emotion(load: Load, wild: Faces) -> None:
    found = load(wild, validation={"holdout": 0.2})
    assert np.bincount(found.validation.labels_N, minlength=SEVEN).tolist() == [4] * SEVEN


# Labels


def test_the_sets_own_labels(load: Load, wild: Faces) -> None:
    assert np.array_equal(load(wild).train.labels_N, wild.labels_N[:N_TRAIN])


def test_the_annotators_majority_replaces_labels_in_train_and_validation(load: Load, wild: Faces) -> None:
    found = load(wild, labels="ferplus_majority")
    assert np.array_equal(found.train.labels_N, (wild.labels_N[:N_TRAIN] + 2) % SEVEN)
    assert np.array_equal(found.validation.labels_N, (wild.labels_N[N_TRAIN : N_TRAIN + N_PUBLIC] + 2) % SEVEN)
    assert found.targets_NC is None


def votes(**answers: int) -> np.ndarray:
    row = np.zeros(len(VOTE_ANSWERS), np.int16)
    for answer, n in answers.items():
        row[VOTE_ANSWERS.index(answer.replace("not_a_face", "not-a-face"))] = n
    return row


def test_faces_without_a_majority_among_the_seven_leave(load: Load, wild: Faces) -> None:
    assert wild.votes_NC is not None
    told = wild.votes_NC.copy()
    told[0] = votes(happy=5, sad=5)
    told[1] = votes(unknown=9, sad=1)
    told[2] = votes(not_a_face=10)
    told[3] = votes(contempt=8, sad=2)
    told[4] = votes(happy=6, contempt=4)
    told[N_TRAIN] = votes(contempt=10)
    for labels in ("ferplus_majority", "ferplus_votes"):
        found = load(replace(wild, votes_NC=told), labels=labels)
        assert sources(found.train) == rows(4, N_TRAIN - 4)
        assert sources(found.validation) == rows(N_TRAIN + 1, N_PUBLIC - 1)


def test_votes_are_shares_over_the_seven_for_train_alone(load: Load, wild: Faces) -> None:
    assert wild.votes_NC is not None
    told = wild.votes_NC.copy()
    told[0] = votes(happy=6, sad=1, contempt=2, unknown=1)
    found = load(replace(wild, votes_NC=told), labels="ferplus_votes")
    assert found.targets_NC is not None
    assert found.targets_NC.shape == (N_TRAIN, SEVEN)
    assert found.targets_NC.dtype == np.float32
    assert found.targets_NC[0].tolist() == pytest.approx([0, 0, 0, 6 / 7, 1 / 7, 0, 0]), "of what is known of the seven"
    assert found.targets_NC[1].tolist() == pytest.approx([0, 0, 0, 0.8, 0.2, 0, 0])
    assert np.allclose(found.targets_NC.sum(axis=1), 1)
    assert found.targets_NC.argmax(axis=1).tolist() == found.train.labels_N.tolist()


def test_of_eight_classes_contempt_stays(load: Load, wild: Faces) -> None:
    assert wild.votes_NC is not None
    told = wild.votes_NC.copy()
    told[3] = votes(contempt=8, sad=2)
    told[N_TRAIN] = votes(contempt=10)
    found = load(replace(wild, votes_NC=told), labels="ferplus_votes", classes=8)
    assert (sources(found.train), found.n_classes) == (rows(0, N_TRAIN), 8)
    assert (found.train.labels_N[3], found.validation.labels_N[0]) == (7, 7)
    assert found.targets_NC is not None
    assert found.targets_NC[3].tolist() == pytest.approx([0, 0, 0, 0, 0.2, 0, 0, 0.8])
    own = replace(wild, labels_N=np.where(np.arange(len(wild)) % 10 == 0, 7, wild.labels_N))
    found = load(own, classes=8)
    assert (found.train.labels_N == 7).sum() == N_TRAIN // 10
    assert 7 not in load(own).train.labels_N


def test_eight_classes_of_a_set_without_contempt_are_refused(load: Load, wild: Faces) -> None:
    with pytest.raises(InputError, match=r"none with labels: own; use labels: ferplus_majority, .* or classes: 7"):
        load(wild, classes=8)
    with pytest.raises(InputError, match="none with labels: ferplus_majority; use classes: 7"):
        load(wild, classes=8, labels="ferplus_majority")


def test_shares_stay_beside_their_faces_when_others_leave(load: Load, wild: Faces) -> None:
    images_NHW = wild.images_NHW.copy()
    images_NHW[5] = images_NHW[N_TRAIN]
    found = load(replace(wild, images_NHW=images_NHW), labels="ferplus_votes", duplicates="drop")
    assert found.targets_NC is not None
    assert len(found.targets_NC) == len(found.train) == N_TRAIN - 1
    assert found.targets_NC.argmax(axis=1).tolist() == found.train.labels_N.tolist()


def test_faces_of_an_eighth_emotion_leave(load: Load, wild: Faces) -> None:
    labels_N = wild.labels_N.copy()
    labels_N[[0, N_TRAIN]] = 7
    found = load(replace(wild, labels_N=labels_N))
    assert sources(found.train) == rows(1, N_TRAIN - 1)
    assert sources(found.validation) == rows(N_TRAIN + 1, N_PUBLIC - 1)


# Duplicates


def with_copies(wild: Faces, lab: Faces) -> Faces:
    """Train faces 0 to 5 are copies of validation, of the sealed split and of the sealed lab set; odd ones mirrored."""
    images_NHW = wild.images_NHW.copy()
    for place, other in ((0, wild.images_NHW[N_TRAIN]), (2, wild.images_NHW[-1]), (4, lab.images_NHW[7])):
        images_NHW[place], images_NHW[place + 1] = other, other[:, ::-1]
    images_NHW[6] = images_NHW[N_TRAIN][::-1]  # upside down: another face
    images_NHW[8] = images_NHW[7]  # twice in train
    return replace(wild, images_NHW=images_NHW)


def test_copies_and_mirror_images_of_validation_and_sealed_faces_leave_train(
    load: Load, wild: Faces, lab: Faces
) -> None:
    found = load(with_copies(wild, lab), lab, duplicates="drop")
    assert sources(found.train) == rows(6, N_TRAIN - 6)
    assert sources(found.validation) == rows(N_TRAIN, N_PUBLIC), "validation stays whole"


def test_copies_stay_where_the_study_keeps_them(load: Load, wild: Faces, lab: Faces) -> None:
    assert len(load(with_copies(wild, lab), lab, duplicates="keep").train) == N_TRAIN


def test_validation_faces_with_a_copy_in_training_judge_nothing_where_the_study_says_so(
    load: Load, wild: Faces, lab: Faces
) -> None:
    copied = with_copies(wild, lab)
    assert sources(load(copied, lab, validation_copies="keep").validation) == rows(N_TRAIN, N_PUBLIC)
    found = load(copied, lab)
    assert sources(found.validation) == rows(N_TRAIN + 1, N_PUBLIC - 1), "the first has a copy, and one mirrored"
    assert sources(found.train) == rows(0, N_TRAIN), "the copies are trained on"
    without = load(copied, lab, validation_copies="drop", duplicates="drop")
    assert sources(without.validation) == rows(N_TRAIN, N_PUBLIC), "nobody trains on a copy of them"


def test_validation_faces_that_are_copies_alone_are_told(load: Load, wild: Faces) -> None:
    images_NHW = wild.images_NHW.copy()
    images_NHW[wild.split_N == "public_test"] = images_NHW[0]
    with pytest.raises(InputError, match=r"every validation face has a copy .*validation_copies: keep"):
        load(replace(wild, images_NHW=images_NHW), validation_copies="drop")


def test_only_sets_that_the_study_scores_are_looked_at(load: Load, wild: Faces, lab: Faces) -> None:
    found = load(with_copies(wild, lab), lab, duplicates="drop", evaluate={"protocols": ["synthetic.private"]})
    assert sources(found.train) == rows(4, N_TRAIN - 4)


def test_copies_of_held_out_faces_leave_train(load: Load, wild: Faces) -> None:
    """A holdout keeps groups together, but a mirror image has a group of its own."""
    images_NHW = wild.images_NHW.copy()
    images_NHW[70:N_TRAIN] = images_NHW[:70, :, ::-1]
    found = load(replace(wild, images_NHW=images_NHW), validation={"holdout": 0.2}, duplicates="drop")
    held = {image.tobytes() for image in found.validation.images_NHW}
    held |= {np.ascontiguousarray(image[:, ::-1]).tobytes() for image in found.validation.images_NHW}
    assert not held & {image.tobytes() for image in found.train.images_NHW}
    assert len(found.train) < N_TRAIN - len(found.validation)


@pytest.mark.parametrize("labels", ["own", "ferplus_majority", "ferplus_votes"])
def test_sealed_labels_and_votes_change_nothing(load: Load, wild: Faces, lab: Faces, labels: str) -> None:
    """Only the pixels of a sealed face are looked at, to keep its copies out of training."""
    copied = with_copies(wild, lab)
    before = load(copied, lab, labels=labels, duplicates="drop")
    assert copied.votes_NC is not None
    other_labels_N, other_votes_NC = copied.labels_N.copy(), copied.votes_NC.copy()
    sealed_N = copied.split_N == "private_test"
    other_labels_N[sealed_N] = 7
    other_votes_NC[sealed_N] = votes(not_a_face=10)
    relabelled = replace(copied, labels_N=other_labels_N, votes_NC=other_votes_NC)
    after = load(relabelled, replace(lab, labels_N=(lab.labels_N + 1) % SEVEN), labels=labels, duplicates="drop")
    assert sources(after.train) == sources(before.train) == rows(6, N_TRAIN - 6)
    assert np.array_equal(after.train.labels_N, before.train.labels_N)
    assert sources(after.validation) == sources(before.validation)


# What a user mends


def test_a_set_that_is_not_prepared_is_told_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="facex-tune data prepare synthetic"):
        training_set.load(parsed(), tmp_path)


def test_votes_that_a_set_has_not_are_told(load: Load, wild: Faces) -> None:
    for labels in ("ferplus_votes", "ferplus_majority"):
        with pytest.raises(InputError, match=f"labels: {labels} needs annotators' votes.*use labels: own"):
            load(replace(wild, votes_NC=None), labels=labels)


@pytest.mark.parametrize(
    ("gone", "said"),
    [("train", r"to train on \(it has public_test 35, private_test 35\)"), ("public_test", "to validate with")],
)
def test_an_empty_split_is_told_with_those_there_are(load: Load, wild: Faces, gone: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(wild.take(wild.split_N != gone))


def test_a_train_split_of_copies_alone_is_told(load: Load, wild: Faces) -> None:
    images_NHW = wild.images_NHW.copy()
    images_NHW[:N_TRAIN] = images_NHW[N_TRAIN]
    with pytest.raises(InputError, match=r"every face to train on has a copy.*duplicates: keep"):
        load(replace(wild, images_NHW=images_NHW), duplicates="drop")


# All faces, for the last model of `retrain: {on: all}`


def test_a_model_on_all_faces_trains_on_validation_faces_and_on_no_sealed_one(
    load: Load, wild: Faces, lab: Faces, tmp_path: Path
) -> None:
    load(wild, lab)
    found = training_set.load_all(parsed(labels="ferplus_votes"), tmp_path)
    assert sources(found.train) == rows(0, N_TRAIN + N_PUBLIC)
    assert found.targets_NC is not None
    assert len(found.targets_NC) == N_TRAIN + N_PUBLIC
    holdout = training_set.load_all(parsed(validation={"holdout": 0.2}), tmp_path)
    assert sources(holdout.train) == rows(0, N_TRAIN), "what the holdout cut off, and nothing that is sealed"
    assert sources(found.validation) <= sources(found.train), "what watches the training says nothing of the model"


def test_a_model_on_all_faces_keeps_copies_of_validation_and_not_of_sealed_faces(
    load: Load, wild: Faces, lab: Faces, tmp_path: Path
) -> None:
    copies = with_copies(wild, lab)
    load(copies, lab)
    found = training_set.load_all(parsed(duplicates="drop"), tmp_path)
    assert sources(found.train) == rows(0, 2) | rows(6, N_TRAIN + N_PUBLIC - 6)
    images_NHW = copies.images_NHW.copy()
    images_NHW[N_TRAIN : N_TRAIN + N_PUBLIC] = images_NHW[-1]
    load(replace(copies, images_NHW=images_NHW), validation_copies="keep")
    with pytest.raises(InputError, match=r"retrain.on: all would add nothing"):
        training_set.load_all(parsed(duplicates="drop"), tmp_path)
