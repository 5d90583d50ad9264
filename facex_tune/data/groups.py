"""Groups of copies: faces that are one picture must stay together in holdouts and in the draws of an interval, and a
test face whose copy was trained on is no test.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.faces import Faces, exact_groups
from facex_tune.data.near import SAME, near_between, near_pairs
from facex_tune.storage import files

KEPT = ".copies"  # in the data folder
_LONG = 10**7  # comparisons from which on their outcome is kept: a second's work


def with_copies_grouped(faces: Faces, progress: Callable[[int, int], None] = lambda done, total: None) -> Faces:
    """The faces with `group_N` shared by exact, mirrored and near copies, by copies of copies, and by those that shared
    one before (faces of one photograph).

    Sets with sequences keep theirs: a subject is more than a picture.
    """
    if len(faces) == 0 or (faces.sequence_N >= 0).any():
        return faces
    exact_N = exact_groups(faces.images_NHW)
    first_G = np.unique(exact_N, return_index=True)[1]
    # where no two are equal, no copy of all of them is made
    distinct = faces.images_NHW if len(first_G) == len(faces) else faces.images_NHW[first_G]
    pairs = near_pairs(distinct, progress)
    order_N = np.argsort(faces.group_N, kind="stable")
    same_P = np.flatnonzero(np.diff(faces.group_N[order_N]) == 0)
    first_P = np.concatenate([pairs.first_P, exact_N[order_N[same_P]]])
    second_P = np.concatenate([pairs.second_P, exact_N[order_N[same_P + 1]]])
    return replace(faces, group_N=_connected(len(first_G), first_P, second_P)[exact_N])


def copies_between(held: Faces, train: Faces, *, one_set: bool) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(held_N, train_M): which held-out faces stand in train as exact, mirrored or near copies, and those copies.

    Args:
        one_set: both are of one prepared set. Its groups then tell near copies, and copies of copies; a subject's
            group, where there are sequences, is no copy. Across sets the pixels are compared.
    """
    held_N, train_M = _equal_or_mirrored(held, train), _equal_or_mirrored(train, held)
    if one_set:
        held_groups, train_groups = held.group_N[held.sequence_N < 0], train.group_N[train.sequence_N < 0]
        held_N |= np.isin(held.group_N, train_groups) & (held.sequence_N < 0)
        train_M |= np.isin(train.group_N, held_groups) & (train.sequence_N < 0)
    else:
        pairs = near_between(held.images_NHW, train.images_NHW)
        held_N[pairs.first_P] = True
        train_M[pairs.second_P] = True
    return held_N, train_M


def copied_across(held: Faces, train: Faces, data_dir: Path) -> NDArray[np.bool_]:
    """train_M: which faces of one set are exact, mirrored or near copies of another set's.

    What took long is kept in the data folder, where it can be written to, by the pixels of both: every process of a run
    asks the same.
    """
    if len(held) * len(train) < _LONG:
        return copies_between(held, train, one_set=False)[1]
    path = data_dir / KEPT / f"{_pixels_of(held, train)}.npy"
    with suppress(OSError, ValueError):
        known_M = np.load(path, allow_pickle=False)
        if known_M.shape == (len(train),) and known_M.dtype == np.bool_:
            return np.asarray(known_M)
    found_M = copies_between(held, train, one_set=False)[1]
    written = io.BytesIO()
    np.save(written, found_M, allow_pickle=False)
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        files.write_bytes(path, written.getvalue())
    return found_M


def _pixels_of(held: Faces, train: Faces) -> str:
    """A name for two arrays of images and for what makes copies of them."""
    digest = hashlib.blake2b(f"copies 1 {SAME} {len(held)}\n".encode(), digest_size=16)
    for faces in (held, train):
        digest.update(np.ascontiguousarray(faces.images_NHW).data)
    return digest.hexdigest()


def _equal_or_mirrored(faces: Faces, others: Faces) -> NDArray[np.bool_]:
    """Which faces stand among others, pixel for pixel or mirrored; blank ones too."""
    seen = {image.tobytes() for image in others.images_NHW}
    hits = (image.tobytes() in seen or image[:, ::-1].tobytes() in seen for image in faces.images_NHW)
    return np.fromiter(hits, np.bool_, len(faces))


def _connected(n: int, first_P: NDArray[np.int64], second_P: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of n things, shared by those that pairs connect; from 0 in order of first appearance.

    Here rather than by scipy.sparse.csgraph, which takes longer to import than a set of 20,000 faces to be grouped.
    """
    least_N = np.arange(n)  # of what each is known to be connected with
    while True:
        before_N = least_N.copy()
        one_P, other_P = before_N[first_P], before_N[second_P]
        np.minimum.at(least_N, one_P, other_P)
        np.minimum.at(least_N, other_P, one_P)
        least_N = least_N[least_N]  # twice as far along a chain in each turn
        if np.array_equal(least_N, before_N):
            return np.unique(least_N, return_inverse=True)[1].astype(np.int64)
