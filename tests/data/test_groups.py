"""Copies get one group when a set is prepared, and `duplicates: drop` uses it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from facex_tune import study
from facex_tune.data import training_set
from facex_tune.data.faces import Faces, exact_groups, open_set, write
from facex_tune.data.groups import _connected, copies_between, with_copies_grouped
from facex_tune.data.prepare import prepare

Images = NDArray[np.uint8]


def with_copies(faces: Faces) -> Faces:
    """Face 7 also as 1 (exact), 8 as a mirrored JPEG of 2, 9 as 8 shifted: 2, 8 and 9 hang together."""
    images = faces.images_NHW.copy()
    images[7] = images[1]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(images[2][:, ::-1])).save(buffer, "JPEG", quality=80)
    images[8] = np.asarray(Image.open(buffer))
    images[9] = np.roll(images[8], (1, 2), (0, 1))
    return replace(faces, images_NHW=images, group_N=exact_groups(images))


def test_copies_and_copies_of_copies_share_a_group(faces: Faces) -> None:
    group_N = with_copies_grouped(with_copies(faces)).group_N
    assert group_N[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 1, 2, 2, 7, 8]
    assert len(set(group_N.tolist())) == len(faces) - 3


@pytest.mark.parametrize("n_pairs", [0, 3, 40, 90, 300])
def test_what_pairs_connect_is_what_scipy_connects(n_pairs: int) -> None:
    rng = np.random.default_rng(n_pairs)
    first_P, second_P = rng.integers(0, 100, (2, n_pairs))
    links = coo_array((np.ones(n_pairs), (first_P.astype(np.int32), second_P.astype(np.int32))), shape=(100, 100))
    part_N = connected_components(links, directed=False)[1]
    seen: dict[int, int] = {}
    wanted = [seen.setdefault(int(part), len(seen)) for part in part_N]
    assert _connected(100, first_P, second_P).tolist() == wanted


def test_a_long_chain_is_one() -> None:
    order_N = np.random.default_rng(0).permutation(20_000)
    assert not _connected(20_000, order_N[:-1], order_N[1:]).any()


def test_without_copies_nothing_changes(faces: Faces) -> None:
    assert with_copies_grouped(faces).group_N.tolist() == list(range(105))
    assert len(with_copies_grouped(faces.take(np.arange(0)))) == 0


def test_subjects_stay_groups(faces: Faces) -> None:
    lab = replace(with_copies(faces), sequence_N=np.arange(105) // 3, group_N=np.arange(105) // 9)
    assert with_copies_grouped(lab) is lab


def test_preparing_groups_near_copies(faces: Faces, tmp_path: Path) -> None:
    copied = with_copies(faces)
    for row in range(12):
        path = tmp_path / "mine" / "happy" / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(copied.images_NHW[row]).save(path)
    prepare("folder", tmp_path / "mine", tmp_path / "data", set_name="mine")
    group_N = open_set(tmp_path / "data", "mine").group_N
    assert group_N.tolist() == [0, 1, 2, 3, 4, 5, 6, 1, 2, 2, 7, 8]


def test_dropping_duplicates_drops_near_copies_of_validation_and_sealed_faces(faces: Faces, tmp_path: Path) -> None:
    copied = with_copies_grouped(with_copies(faces))
    split_N = np.array(["train"] * 105, dtype="<U12")
    split_N[80:90], split_N[90:] = "public_test", "private_test"
    order = np.arange(105)
    order[[9, 95]], order[[7, 85]] = order[[95, 9]], order[[85, 7]]  # a near copy is sealed, an exact one validation
    write(replace(copied.take(order), split_N=split_N), tmp_path, "synthetic", source={}, skipped=[])
    said: dict[str, Any] = {"version": 1, "name": "x", "data": "synthetic"}
    said |= {"evaluate": {"protocols": ["synthetic.private"]}}
    kept = training_set.load(study.parse(said), tmp_path).train
    left = training_set.load(study.parse(said | {"duplicates": "drop"}), tmp_path).train
    assert set(kept.source_N) - set(left.source_N) == {str(faces.source_N[row]) for row in (1, 2, 8)}


def jpeg(image_HW: Images) -> Images:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image_HW)).save(buffer, "JPEG", quality=80)
    return np.asarray(Image.open(buffer))


def held_and_train(faces: Faces) -> tuple[Faces, Faces]:
    """Held faces 0 to 5 stand in train: equal, mirrored, re-encoded, mirrored and shifted, blank, blank turned."""
    held, train = faces.take(np.arange(20)), faces.take(np.arange(20, 60))
    images = held.images_NHW.copy()
    images[0], images[1] = train.images_NHW[10], train.images_NHW[11][:, ::-1]
    images[2] = jpeg(train.images_NHW[12])
    images[3] = np.roll(train.images_NHW[13][:, ::-1], (-1, 2), (0, 1))
    in_train = train.images_NHW.copy()
    images[4] = in_train[14] = 0
    images[5], in_train[15] = 9, 9
    images[5, 0, 0] = in_train[15][0, 47] = 10
    return replace(held, images_NHW=images), replace(train, images_NHW=in_train)


def test_copies_between_sets_are_exact_mirrored_and_near(faces: Faces) -> None:
    held, train = held_and_train(faces)
    held_N, train_M = copies_between(held, train, one_set=False)
    assert np.flatnonzero(held_N).tolist() == [0, 1, 2, 3, 4, 5]
    assert np.flatnonzero(train_M).tolist() == [10, 11, 12, 13, 14, 15]


def test_copies_within_a_set_are_what_its_groups_say(faces: Faces) -> None:
    held, train = held_and_train(faces)
    held = replace(held, group_N=np.arange(20))
    group_M = np.arange(100, 140)
    group_M[30], group_M[31] = 7, 8
    train = replace(train, group_N=group_M)
    held_N, train_M = copies_between(held, train, one_set=True)
    assert np.flatnonzero(held_N).tolist() == [0, 1, 4, 5, 7, 8]
    assert np.flatnonzero(train_M).tolist() == [10, 11, 14, 15, 30, 31]
    subjects = replace(held, sequence_N=np.zeros(20, np.int64))
    assert np.flatnonzero(copies_between(subjects, train, one_set=True)[0]).tolist() == [0, 1, 4, 5]


def test_dropping_duplicates_drops_near_copies_of_another_sets_sealed_faces(faces: Faces, tmp_path: Path) -> None:
    lab, wild = held_and_train(faces)
    split_N = np.array(["train"] * 30 + ["public_test"] * 10)
    write(replace(wild, split_N=split_N), tmp_path, "synthetic", source={}, skipped=[])
    write(replace(lab, split_N=np.full(20, "test")), tmp_path, "synthetic_lab", source={}, skipped=[])
    said: dict[str, Any] = {"version": 1, "name": "x", "data": "synthetic"}
    said |= {"evaluate": {"protocols": ["synthetic.lab.6"]}, "duplicates": "drop"}
    left = training_set.load(study.parse(said), tmp_path).train
    assert set(wild.source_N[:30]) - set(left.source_N) == set(wild.source_N[10:16])
