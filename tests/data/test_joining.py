"""Several sets in one study: whose faces are trained on, whose copies are left out, and whose faces judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facex_tune import study
from facex_tune.data import faces as faces_room
from facex_tune.data import groups, joining, training_set
from facex_tune.data.faces import Faces
from facex_tune.data.training_set import TrainingSet
from facex_tune.errors import InputError
from tests.data.test_training_set import made

TRAIN, PUBLIC, TEST = 28, 14, 7


def drawn(seed: int) -> Faces:
    return made(["train"] * TRAIN + ["public_test"] * PUBLIC + ["test"] * TEST, seed=seed)


def with_images(faces: Faces, images: Mapping[int, np.ndarray]) -> Faces:
    """The faces with those rows' pixels replaced."""
    images_NHW = faces.images_NHW.copy()
    for row, image in images.items():
        images_NHW[row] = image
    return replace(faces, images_NHW=images_NHW)


def load(folder: Path, sets: Mapping[str, Faces], **said: Any) -> TrainingSet:
    for name, faces in sets.items():
        faces_room.write(faces, folder, name, source={}, skipped=[])
    least: dict[str, Any] = {"version": 1, "name": "x", "data": list(sets)}
    return training_set.load(study.parse(least | said), folder)


def named(faces: Faces) -> set[str]:
    return set(faces.source_N.tolist())


def face(name: str, rows: range) -> set[str]:
    return {f"{name}/face {row}" for row in rows}


def test_training_faces_of_all_and_validation_of_the_first(tmp_path: Path) -> None:
    wild, lab = drawn(0), drawn(1)
    found = load(tmp_path, {"wild": wild, "lab": lab})
    assert named(found.train) == face("wild", range(TRAIN)) | face("lab", range(TRAIN))
    assert named(found.validation) == face("wild", range(TRAIN, TRAIN + PUBLIC))
    assert np.array_equal(found.train.images_NHW, np.concatenate([wild.images_NHW[:TRAIN], lab.images_NHW[:TRAIN]]))
    assert not set(found.train.group_N[:TRAIN]) & set(found.train.group_N[TRAIN:]), "nobody is in two sets"
    assert not set(found.validation.group_N) & set(found.train.group_N[TRAIN:])
    of_lab = found.by_set()["lab"]
    assert of_lab["train"] == dict.fromkeys(study.protocols.EMOTIONS[:7], 4)
    assert (of_lab["validation"], of_lab["copies"]) == ({}, 0)


def test_a_holdout_is_of_the_first_set_or_of_the_one_that_is_named(tmp_path: Path) -> None:
    sets = {"wild": drawn(0), "lab": drawn(1)}
    for of, expected in (({}, {"wild"}), ({"of": "lab"}, {"lab"}), ({"of": "all"}, {"wild", "lab"})):
        found = load(tmp_path, sets, validation={"holdout": 0.25, **of})
        assert {source.partition("/")[0] for source in named(found.validation)} == expected
        assert len(found.train) + len(found.validation) == 2 * TRAIN
        assert not named(found.train) & named(found.validation)
        assert len(found.validation) == 7 * len(expected), "a quarter of each emotion"


@pytest.mark.parametrize("kind", ["exact", "mirrored", "near"])
def test_a_copy_is_trained_on_once_with_the_label_of_the_set_named_first(tmp_path: Path, kind: str) -> None:
    smooth_HW = np.add.outer(np.arange(48), 2 * np.arange(48)).astype(np.uint8)  # nobody's mirror image
    copy_HW = {"exact": smooth_HW, "mirrored": smooth_HW[:, ::-1], "near": smooth_HW // 2 + 30}[kind]
    wild, lab = with_images(drawn(0), {3: smooth_HW}), with_images(drawn(1), {9: copy_HW})
    for duplicates in ("keep", "drop"):
        found = load(tmp_path, {"wild": wild, "lab": lab}, duplicates=duplicates)
        assert named(found.train) == face("wild", range(TRAIN)) | face("lab", range(TRAIN)) - {"lab/face 9"}
        assert found.copies == {"wild": 0, "lab": 1}
    other_way = load(tmp_path, {"lab": lab, "wild": wild})
    assert "lab/face 9" in named(other_way.train)
    assert "wild/face 3" not in named(other_way.train)


def test_a_copy_of_a_validation_face_is_not_trained_on_whichever_set_it_stands_in(tmp_path: Path) -> None:
    wild = drawn(0)
    lab = with_images(drawn(1), {5: wild.images_NHW[TRAIN]})
    found = load(tmp_path, {"wild": wild, "lab": lab})
    assert "lab/face 5" not in named(found.train)
    of_lab = load(tmp_path, {"wild": wild, "lab": with_images(drawn(1), {5: wild.images_NHW[2]})},
                  validation={"holdout": 0.49, "of": "lab"})  # fmt: skip
    assert ("lab/face 5" in named(of_lab.validation)) == ("wild/face 2" not in named(of_lab.train))


def test_sealed_faces_of_every_set_are_treated_as_duplicates_says(tmp_path: Path) -> None:
    wild, lab = drawn(0), drawn(1)
    lab = with_images(lab, {4: wild.images_NHW[-1], 6: lab.images_NHW[-1]})
    wild = with_images(wild, {8: lab.images_NHW[-2][:, ::-1]})
    sets = {"wild": wild, "lab": lab}
    kept = load(tmp_path, sets, evaluate={"protocols": ["folder.wild"]})
    dropped = load(tmp_path, sets, evaluate={"protocols": ["folder.wild"]}, duplicates="drop")
    assert named(kept.train) - named(dropped.train) == {"lab/face 4", "lab/face 6", "wild/face 8"}
    sealed = {f"{name}/face {row}" for name in sets for row in range(TRAIN + PUBLIC, TRAIN + PUBLIC + TEST)}
    assert not (named(kept.train) | named(kept.validation)) & sealed


def test_what_an_evaluation_sees_of_copies_is_told_set_by_set(tmp_path: Path) -> None:
    """Group numbers of two prepared sets are alike by chance; only those of the same set tell copies."""
    grouped = replace(drawn(0), group_N=np.arange(TRAIN + PUBLIC + TEST, dtype=np.int64) % (TRAIN + PUBLIC + 5))
    found = load(tmp_path, {"lab": drawn(1), "wild": grouped})
    held = grouped.where("test")
    known = found.joined_train
    assert known.standing(held, "wild").tolist() == [False] * 5 + [True] * 2, "rows 47 and 48 share groups 0 and 1"
    assert not known.standing(held, "third").any()
    assert known.copied_from(held, "wild", tmp_path)[TRAIN:].sum() == 2


def test_votes_are_joined_where_every_set_has_them(tmp_path: Path) -> None:
    wild, lab = drawn(0), drawn(1)
    found = load(tmp_path, {"wild": wild, "lab": lab}, labels="ferplus_votes")
    assert found.targets_NC is not None
    assert found.targets_NC.shape == (2 * TRAIN, 7)
    with pytest.raises(InputError, match="labels: ferplus_votes needs annotators' votes, which data set 'lab' has not"):
        load(tmp_path, {"wild": wild, "lab": replace(lab, votes_NC=None)}, labels="ferplus_votes")


def test_a_set_that_adds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every training face of 'again' is a copy of one in another set"):
        load(tmp_path, {"wild": drawn(0), "again": drawn(0)})


def test_a_first_set_without_validation_faces_names_the_way_out(tmp_path: Path) -> None:
    lab = made(["train"] * TRAIN, seed=1)
    with pytest.raises(InputError, match=r"'lab' has no faces to validate with .*: name a set that has some first"):
        load(tmp_path, {"lab": lab, "wild": drawn(0)})


def test_within_each_emotion_every_set_comes_as_often_as_any_other(tmp_path: Path) -> None:
    wild, lab = drawn(0), drawn(1)
    lab = replace(lab, labels_N=np.where(lab.labels_N == 2, 3, lab.labels_N))  # no fear, and happy twice
    found = load(tmp_path, {"wild": wild, "lab": lab}, set_balance="even")
    assert found.odds_N is not None
    set_N, labels_N = found.joined_train.set_N, found.train.labels_N
    odds_SC = np.zeros((2, 7))
    np.add.at(odds_SC, (set_N, labels_N), found.odds_N)
    assert odds_SC[:, 3] == pytest.approx([6, 6]), "of 4 and 8 faces"
    assert odds_SC[:, 2] == pytest.approx([4, 0])
    assert odds_SC.sum(0) == pytest.approx(np.bincount(labels_N)), "classes come as often as they did"
    assert load(tmp_path, {"wild": wild, "lab": lab}).odds_N is None


def test_what_took_long_to_find_is_kept_and_no_more_believed_than_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, train = drawn(0), drawn(1)
    train = with_images(train, {9: held.images_NHW[3]})
    expected = groups.copies_between(held, train, one_set=False)[1]
    monkeypatch.setattr(groups, "_LONG", 1)
    for _ in range(2):
        assert np.array_equal(groups.copied_across(held, train, tmp_path), expected)
    (kept,) = (tmp_path / groups.KEPT).iterdir()
    np.save(kept, np.zeros(3, np.bool_))
    assert np.array_equal(groups.copied_across(held, train, tmp_path), expected)
    np.save(kept, ~expected)
    assert np.array_equal(groups.copied_across(held, train, tmp_path), ~expected), "it is what is read"
    assert faces_room.prepared_names(tmp_path) == []


def test_a_share_in_words() -> None:
    share = {"train": {"happy": 1200, "sad": 3}, "validation": {"sad": 1}, "copies": 2}
    assert joining.told_of_share(share) == (
        "trained on 1,203 faces (happy 1,200, sad 3); validated with 1 face (sad 1); "
        "2 left out as copies of faces in the other sets"
    )
