"""Audit prepared sets: copies within and across splits and sets, labels that contradict each other, what is no face.

A part is one split of one set. Copies are exact (equal pixels), mirrored (equal when turned left to right) or near
(`near.near_pairs`: re-encoded, brightened, shifted). Frames of one subject's sequences resemble each other by nature:
near pairs among them are left out. What is no face is told by the votes of most annotators, and suspected of the images
that look least like the set's others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.facelike import least_like_faces
from facex_tune.data.faces import SPLITS, VOTE_ANSWERS, Faces, exact_groups, open_set, read_manifest
from facex_tune.data.near import Pairs, blank, near_pairs
from facex_tune.data.shapes import to_compare
from facex_tune.emotions import EMOTIONS, FaceShape
from facex_tune.errors import InputError

VERSION = 1
KINDS = ("exact", "mirrored", "near")
NOT_A_FACE = VOTE_ANSWERS.index("not-a-face")


@dataclass(frozen=True)
class Found:
    """What the search for copies found among all N faces of the audited sets, one after the other.

    Attributes:
        images_NHW: as they are prepared; of sets of several shapes as 48×48 grey, the form in which they are compared.
        set_N: index into `names`.
        part_N: index into `parts`, which are (set name, split).
        group_N: shared by equal images.
        first_G: the first face of each group, which stands for it in `pairs`.
        pairs: pairs of groups' first faces, as rows of N; mirrored copies among them.
        exact_P: which pairs are exact mirror images.
    """

    names: list[str]
    parts: list[tuple[str, str]]
    images_NHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    source_N: NDArray[np.str_]
    set_N: NDArray[np.int64]
    part_N: NDArray[np.int64]
    group_N: NDArray[np.int64]
    first_G: NDArray[np.int64]
    pairs: Pairs
    exact_P: NDArray[np.bool_]


def search(
    names: Sequence[str], data_dir: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> Found:
    """Every copy among the faces of prepared sets.

    Raises:
        InputError: a set is named twice, is not prepared, or is damaged.
    """
    if twice := [name for name in names if list(names).count(name) > 1]:
        raise InputError(f"data set {twice[0]!r} is named twice: name each once")
    sets = [open_set(data_dir, name) for name in names]
    set_N = np.repeat(np.arange(len(sets)), [len(each) for each in sets])
    split_N = np.concatenate([each.split_N for each in sets])
    one_shape = len({each.face for each in sets}) == 1
    images_NHW = np.concatenate([each.images_NHW if one_shape else to_compare(each.images_NHW) for each in sets])
    wanted = [(index, split) for index in range(len(sets)) for split in SPLITS]
    there = [(index, split) for index, split in wanted if (sets[index].split_N == split).any()]
    part_N = np.zeros(len(set_N), np.int64)
    for number, (index, split) in enumerate(there):
        part_N[(set_N == index) & (split_N == split)] = number
    group_N = exact_groups(images_NHW)
    first_G = np.unique(group_N, return_index=True)[1]
    pairs = _without_frames(_among(first_G, near_pairs(images_NHW[first_G], progress)), sets, set_N)
    return Found(
        names=list(names),
        parts=[(names[index], split) for index, split in there],
        images_NHW=images_NHW,
        labels_N=np.concatenate([each.labels_N for each in sets]),
        source_N=np.concatenate([each.source_N for each in sets]),
        set_N=set_N,
        part_N=part_N,
        group_N=group_N,
        first_G=first_G,
        pairs=pairs,
        exact_P=_exactly_mirrored(images_NHW, pairs),
    )


def _among(rows_G: NDArray[np.int64], pairs: Pairs) -> Pairs:
    return replace(pairs, first_P=rows_G[pairs.first_P], second_P=rows_G[pairs.second_P])


def _without_frames(pairs: Pairs, sets: Sequence[Faces], set_N: NDArray[np.int64]) -> Pairs:
    """Without pairs of one subject, in sets that have sequences."""
    sequence_N = np.concatenate([each.sequence_N for each in sets])
    subject_N = np.concatenate([each.group_N for each in sets])
    a, b = pairs.first_P, pairs.second_P
    frames_P = (set_N[a] == set_N[b]) & (subject_N[a] == subject_N[b]) & (sequence_N[a] >= 0) & (sequence_N[b] >= 0)
    return Pairs(a[~frames_P], b[~frames_P], pairs.mirrored_P[~frames_P], pairs.ncc_P[~frames_P])


def _exactly_mirrored(images_NHW: NDArray[np.uint8], pairs: Pairs) -> NDArray[np.bool_]:
    exact = [
        bool(mirrored) and np.array_equal(images_NHW[a][:, ::-1], images_NHW[b])
        for a, b, mirrored in zip(pairs.first_P, pairs.second_P, pairs.mirrored_P, strict=True)
    ]
    return np.array(exact, np.bool_)


def document(found: Found, names: Sequence[str], data_dir: Path) -> dict[str, Any]:
    """The audit as plain data; every count is of faces unless its name says otherwise."""
    copies = _copies(found)
    return {
        "version": VERSION,
        "sets": {
            name: _of_set(found, index, open_set(data_dir, name), _uncropped(data_dir, name))
            for index, name in enumerate(names)
        },
        "compared_as": str(FaceShape.of_array(found.images_NHW.shape)),
        "copies": _across(found, copies),
        "seen_in_training": _seen_in_training(found, copies),
        "exact_groups": _exact_groups(found),
        "pairs": _pairs(found),
    }


def _copies(found: Found) -> dict[str, NDArray[np.bool_]]:
    """kind -> copies_NS: whether face N has another face in part S that is its copy of that kind."""
    table_GS = np.zeros((len(found.first_G), len(found.parts)), np.int64)
    np.add.at(table_GS, (found.group_N, found.part_N), 1)
    others_NS = table_GS[found.group_N]
    others_NS[np.arange(len(others_NS)), found.part_N] -= 1  # itself
    copies = {"exact": others_NS > 0}
    first_P, second_P = found.group_N[found.pairs.first_P], found.group_N[found.pairs.second_P]
    for kind, of_kind_P in (("mirrored", found.exact_P), ("near", ~found.exact_P)):
        near_GS = np.zeros(table_GS.shape, np.bool_)
        for one_P, other_P in ((first_P, second_P), (second_P, first_P)):
            np.logical_or.at(near_GS, one_P[of_kind_P], table_GS[other_P[of_kind_P]] > 0)
        copies[kind] = near_GS[found.group_N]
    return copies


def _across(found: Found, copies: dict[str, NDArray[np.bool_]]) -> list[dict[str, Any]]:
    """For each part and each part that its faces' copies stand in: how many faces, by kind."""
    rows = []
    for one, (name, split) in enumerate(found.parts):
        for other, (other_name, other_split) in enumerate(found.parts):
            counts = {kind: int(copies[kind][found.part_N == one, other].sum()) for kind in KINDS}
            if any(counts.values()):
                rows.append({"set": name, "split": split, "in_set": other_name, "in_split": other_split, **counts})
    return rows


def _seen_in_training(found: Found, copies: dict[str, NDArray[np.bool_]]) -> list[dict[str, Any]]:
    """For each part that is no training split: how many of its faces stand in any audited training split."""
    train_S = np.array([split == "train" for _, split in found.parts])
    rows = []
    for part, (name, split) in enumerate(found.parts):
        if train_S[part] or not train_S.any():
            continue
        here_N = found.part_N == part
        seen = {kind: copies[kind][here_N][:, train_S].any(axis=1) for kind in KINDS}
        any_N = np.logical_or.reduce(list(seen.values()))
        counts = {kind: int(of_kind_N.sum()) for kind, of_kind_N in seen.items()}
        n = int(here_N.sum())
        rows.append(
            {"set": name, "split": split, "n": n, **counts, "any": int(any_N.sum()), "share": int(any_N.sum()) / n}
        )
    return rows


def _uncropped(data_dir: Path, name: str) -> list[str]:
    """The pictures that looked like whole photographs when the set was prepared."""
    pictures = read_manifest(data_dir, name)["pictures"]
    return list(pictures["uncropped"]) if pictures else []


def _of_set(found: Found, index: int, faces: Faces, uncropped: list[str]) -> dict[str, Any]:
    blank_N = blank(faces.images_NHW)
    suspect_N = np.zeros(len(faces), np.bool_)
    if faces.votes_NC is not None:
        suspect_N = 2 * faces.votes_NC[:, NOT_A_FACE] > faces.votes_NC.sum(axis=1)
    here_N = found.set_N == index
    groups, near = _conflicts(found, here_N)
    return {
        "n": len(faces),
        "face": faces.face.to_data(),
        "exact_groups": int((np.bincount(found.group_N[here_N]) > 1).sum()),
        "faces_in_exact_groups": int(np.isin(found.group_N[here_N], _repeated(found.group_N[here_N])).sum()),
        "groups_with_conflicting_labels": groups,
        "pairs_with_conflicting_labels": near,
        "blank": faces.source_N[blank_N].tolist(),
        "has_votes": faces.votes_NC is not None,
        "not_a_face": faces.source_N[suspect_N].tolist(),
        "uncropped": uncropped,
        "unlike_faces": faces.source_N[least_like_faces(faces.images_NHW)].tolist(),
    }


def _repeated(group_N: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(np.bincount(group_N) > 1)


def _conflicts(found: Found, here_N: NDArray[np.bool_]) -> tuple[int, int]:
    """Groups of equal images with different labels, and mirrored or near pairs with different ones, in one set."""
    labels_of: dict[int, set[int]] = {}
    for group, label in zip(found.group_N[here_N].tolist(), found.labels_N[here_N].tolist(), strict=True):
        labels_of.setdefault(group, set()).add(label)
    a, b = found.pairs.first_P, found.pairs.second_P
    differ_P = here_N[a] & here_N[b] & (found.labels_N[a] != found.labels_N[b])
    return sum(len(labels) > 1 for labels in labels_of.values()), int(differ_P.sum())


def _exact_groups(found: Found) -> list[list[dict[str, Any]]]:
    order_N = np.argsort(found.group_N, kind="stable")
    starts = np.flatnonzero(np.diff(found.group_N[order_N], prepend=-1))
    members = np.split(order_N, starts[1:])
    return [[face(found, row) for row in rows] for rows in members if len(rows) > 1]


def _pairs(found: Found) -> list[dict[str, Any]]:
    """Mirrored and near pairs, the most alike first; of equal images the first stands for all."""
    return [
        {
            "kind": "mirrored" if found.exact_P[at] else "near",
            "mirrored": bool(found.pairs.mirrored_P[at]),
            "ncc": round(float(found.pairs.ncc_P[at]), 4),
            "faces": [face(found, row) for row in (found.pairs.first_P[at], found.pairs.second_P[at])],
        }
        for at in np.argsort(-found.pairs.ncc_P, kind="stable")
    ]


def face(found: Found, row: int | np.integer[Any]) -> dict[str, Any]:
    """Which face it is."""
    name, split = found.parts[found.part_N[row]]
    return {"set": name, "split": split, "source": str(found.source_N[row]), "label": EMOTIONS[found.labels_N[row]]}
