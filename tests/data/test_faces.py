from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facex_tune.data.faces import Faces, exact_groups, fingerprint, holdout, majority_labels
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError


def blank(labels: list[int], groups: list[int]) -> Faces:
    n = len(labels)
    return Faces(
        images_NHW=np.zeros((n, 48, 48), np.uint8),
        labels_N=np.array(labels, np.int64),
        split_N=np.full(n, "train"),
        group_N=np.array(groups, np.int64),
        sequence_N=np.full(n, -1, np.int64),
        votes_NC=None,
        source_N=np.array([str(row) for row in range(n)], dtype=np.str_),
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("images_NHW", np.zeros((105, 48, 47), np.uint8)),
        ("images_NHW", np.zeros((105, 48, 48), np.float32)),
        ("labels_N", np.zeros(105, np.int32)),
        ("labels_N", np.full(105, 8)),
        ("labels_N", np.full(105, -1)),
        ("split_N", np.full(105, "validation")),
        ("group_N", np.zeros(104, np.int64)),
        ("votes_NC", np.zeros((105, 8), np.int16)),
        ("source_N", np.zeros(105, np.int64)),
    ],
)
def test_wrong_shape_kind_or_value_is_refused(faces: Faces, field: str, value: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match=field):
        replace(faces, **{field: value})


def test_take_by_index_and_by_mask(faces: Faces) -> None:
    rows = np.array([7, 3, 3])
    taken = faces.take(rows)
    assert len(taken) == 3
    assert taken.source_N.tolist() == faces.source_N[rows].tolist()
    assert taken.votes_NC is not None
    assert np.array_equal(taken.images_NHW[2], faces.images_NHW[3])
    assert len(faces.take(faces.labels_N == 2)) == 15


def test_where_gives_one_split_and_refuses_unknown_ones(faces: Faces) -> None:
    mixed = replace(faces, split_N=np.array(["train", "public_test", "test"] * 35))
    assert mixed.where("public_test").source_N.tolist() == faces.source_N[1::3].tolist()
    assert len(mixed.where("private_test")) == 0
    with pytest.raises(ValueError, match="unknown split 'validation'"):
        mixed.where("validation")


def test_exact_groups_join_equal_pixels_only(faces: Faces) -> None:
    images_NHW = faces.images_NHW[[0, 1, 0, 2, 1]].copy()
    assert exact_groups(images_NHW).tolist() == [0, 1, 0, 2, 1]
    images_NHW[2, 20, 20] ^= 1
    assert exact_groups(images_NHW).tolist() == [0, 1, 2, 3, 1]


@pytest.mark.parametrize("field", ["images_NHW", "labels_N", "split_N", "group_N", "sequence_N", "votes_NC"])
def test_fingerprint_sees_every_change(faces: Faces, field: str) -> None:
    changed = np.array(getattr(faces, field))
    changed[-1] = "test" if field == "split_N" else (changed[-1] + 1) % 7
    assert fingerprint(replace(faces, **{field: changed})) != fingerprint(faces)


def test_fingerprint_leaves_out_where_faces_came_from(faces: Faces) -> None:
    assert fingerprint(replace(faces, source_N=faces.source_N[::-1])) == fingerprint(faces)


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ([6, 0, 0, 0, 4, 0, 0, 0, 0, 0], 0),
        ([5, 1, 1, 1, 1, 1, 0, 0, 0, 0], 0),  # single votes are noise: 5 of 5
        ([5, 0, 0, 0, 5, 0, 0, 0, 0, 0], -1),  # exactly half is no majority
        ([4, 0, 0, 0, 3, 3, 0, 0, 0, 0], -1),
        ([0, 0, 0, 0, 0, 0, 0, 0, 10, 0], -1),  # unknown
        ([0, 0, 0, 0, 1, 0, 0, 0, 0, 9], -1),  # not a face
        ([0, 0, 0, 0, 0, 0, 2, 8, 0, 0], 7),
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], -1),
    ],
)
def test_majority_rule(votes: list[int], label: int) -> None:
    assert majority_labels(np.array([votes], np.int16)).tolist() == [label]


people = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 40)), min_size=1, max_size=200)


@given(people, st.floats(0.05, 0.5), st.integers(0, 5))
def test_holdout_is_a_partition_that_keeps_groups_together(
    rows: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    labels, groups = map(list, zip(*rows, strict=True))
    faces = blank(labels, groups)
    train_N, validation_N = holdout(faces, fraction, seed)
    assert (train_N ^ validation_N).all()
    assert not set(faces.group_N[train_N]) & set(faces.group_N[validation_N])
    again_N, _ = holdout(faces, fraction, seed)
    assert np.array_equal(train_N, again_N)


@given(st.integers(1, 9), st.integers(10, 30), st.integers(0, 5))
def test_holdout_never_takes_more_than_the_fraction(size: int, n_groups: int, seed: int) -> None:
    groups = np.repeat(np.arange(n_groups), size)
    _, validation_N = holdout(blank([3] * len(groups), groups.tolist()), 0.25, seed)
    room = round(0.25 * len(groups))
    assert room - size < validation_N.sum() <= room


@given(st.lists(st.integers(0, 200), min_size=7, max_size=7), st.floats(0.05, 0.5), st.integers(0, 5))
def test_holdout_is_stratified_to_the_nearest_face(per_emotion: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(7), per_emotion)
    faces = blank(labels.tolist(), list(range(len(labels))))
    _, validation_N = holdout(faces, fraction, seed)
    held_C = np.bincount(labels[validation_N], minlength=7)
    assert held_C.tolist() == [round(fraction * n) for n in per_emotion]


def test_holdout_with_another_seed_takes_other_faces() -> None:
    faces = blank([0] * 50 + [1] * 50, list(range(100)))
    assert not np.array_equal(holdout(faces, 0.2, 0)[1], holdout(faces, 0.2, 1)[1])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_holdout_fraction_out_of_range(faces: Faces, fraction: float) -> None:
    with pytest.raises(InputError, match="must lie between 0 and 1"):
        holdout(faces, fraction, 0)


def test_emotion_count_matches_vote_columns(faces: Faces) -> None:
    assert faces.votes_NC is not None
    assert faces.votes_NC.shape[1] == len(EMOTIONS) + 2


def test_a_split_of_what_nobody_can_write_to_is_not_copied() -> None:
    pixels_NHW = np.arange(4 * 48 * 48).reshape(4, 48, 48).astype(np.uint8)
    faces = replace(blank([0, 1, 2, 3], [0, 1, 2, 3]), images_NHW=pixels_NHW)
    whole = faces.images_NHW.copy()
    assert not np.shares_memory(faces.take(np.array([1, 2])).images_NHW, faces.images_NHW), "it may be changed"
    faces.images_NHW.flags.writeable = False
    for rows, shared in (
        (np.array([False, True, True, False]), True),
        (np.array([1, 2]), True),
        (np.array([True, False, True, False]), False),
        (np.array([2, 1]), False),
        (np.array([-2, -1]), False),
        (np.array([], np.int64), False),
    ):
        taken = faces.take(rows)
        assert np.array_equal(taken.images_NHW, whole[rows])
        assert np.array_equal(taken.labels_N, faces.labels_N[rows])
        assert np.shares_memory(taken.images_NHW, faces.images_NHW) == shared
