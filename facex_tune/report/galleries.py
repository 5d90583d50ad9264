"""Faces on the page: galleries by why they were kept, by pair of true emotion and answer, and where the model looked.

They are read from what `evaluate` kept; no sealed set is opened here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.members import read_arrays
from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation import occlusion
from facex_tune.report import figures
from facex_tune.storage import regular

if TYPE_CHECKING:
    from facex_tune.runs.store import Run

MAX_BYTES = 2**26  # of one array of the faces that an evaluation keeps
MOST_IN_PAIRS = 700  # faces of all sets' pairs together, two megabytes of the page
PAIRS_ON_PAPER = 3  # of each set, the largest confusions; on a screen a click opens any
LOOKED_RGB = (255, 140, 0)
Face = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """Faces of one true emotion with one answer.

    Attributes:
        n: how many such faces the set has; None where the evaluation did not count them.
        on_paper: whether it is among the largest confusions of its set.
    """

    true: str
    answered: str
    n: int | None
    faces: list[Face]
    on_paper: bool = False


@dataclass(frozen=True)
class Gallery:
    """What the page shows of one protocol: {kind: faces}, and faces by (true emotion, answer)."""

    kinds: dict[str, list[Face]] = field(default_factory=dict)
    pairs: dict[tuple[str, str], Pair] = field(default_factory=dict)


def of_sets(run: Run, protocols: Sequence[str]) -> dict[str, Gallery]:
    """The gallery of each protocol; pairs have fewer faces each where there are many sets."""
    kept = {name: _read(run, name) for name in protocols}
    cells = [_paired(arrays)[0] for arrays in kept.values() if arrays]
    most = next((n for n in range(8, 0, -1) if sum(_taken(each, n) for each in cells) <= MOST_IN_PAIRS), 1)
    return {name: of_arrays(arrays, most) for name, arrays in kept.items()}


def _taken(cells_N: NDArray[np.int64], most: int) -> int:
    return int(np.minimum(np.bincount(cells_N), most).sum()) if len(cells_N) else 0


def _read(run: Run, protocol: str) -> Mapping[str, NDArray[Any]]:
    path = run.evaluation_folder / f"{protocol}.faces.npz"
    return read_arrays(regular.content(path, rooms=1), MAX_BYTES) if path.is_file() else {}


def of_arrays(kept: Mapping[str, NDArray[Any]], most: int = 8) -> Gallery:
    """The gallery of what an evaluation kept; empty where it kept nothing.

    Args:
        most: faces of a pair.
    """
    if not kept:
        return Gallery()
    kind_N = kept.get("kind_N", np.full(len(kept["labels_N"]), "random"))
    kinds: dict[str, list[Face]] = {}
    for row, kind in enumerate(kind_N.tolist()):
        kinds.setdefault(kind, []).append(_face(kept, row))
    for face, looked in zip(kinds.get("confident", []), _looked(kept, kind_N), strict=False):
        face |= looked
    return Gallery(kinds, _pairs(kept, most))


def _face(kept: Mapping[str, NDArray[Any]], row: int, prefix: str = "") -> Face:
    true = int(kept[f"{prefix}labels_N"][row])
    probabilities_C = kept[f"{prefix}probabilities_NC"][row]
    return {
        "png": figures.face_png(kept[f"{prefix}images_NHW"][row]),
        "true": EMOTIONS[true],
        "predicted": EMOTIONS[int(probabilities_C.argmax())],
        "probability": float(probabilities_C.max()),
        "right": bool(probabilities_C.argmax() == true),
    }


def _paired(kept: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """The cell of each face that may be shown by pairs, its row, and which arrays hold it. Of a run that was evaluated
    before faces were kept by pairs, each face of the galleries once.
    """
    prefix = "pair_" if "pair_labels_N" in kept else ""
    rows = np.arange(len(kept[f"{prefix}labels_N"]))
    if not prefix and "rows_N" in kept:
        rows = np.sort(np.unique(kept["rows_N"], return_index=True)[1])
    answers_N = kept[f"{prefix}probabilities_NC"][rows].argmax(axis=1)
    cells_N = kept[f"{prefix}labels_N"][rows].astype(np.int64) * len(EMOTIONS) + answers_N
    return cells_N, rows, prefix


def _pairs(kept: Mapping[str, NDArray[Any]], most: int) -> dict[tuple[str, str], Pair]:
    cells_N, rows, prefix = _paired(kept)
    counts_CC = kept.get("pair_counts_CC")
    sizes = {int(cell): (cells_N == cell).sum() if counts_CC is None else counts_CC.flat[cell] for cell in cells_N}
    wrong = [cell for cell in sizes if cell // len(EMOTIONS) != cell % len(EMOTIONS)]
    largest = sorted(wrong, key=lambda cell: (-sizes[cell], cell))[:PAIRS_ON_PAPER]
    found = {}
    for cell, size in sorted(sizes.items()):
        true, answered = (EMOTIONS[k] for k in divmod(cell, len(EMOTIONS)))
        faces = [_face(kept, int(row), prefix) for row in rows[cells_N == cell][:most]]
        faces.sort(key=lambda face: -face["probability"])
        n = None if counts_CC is None else int(size)
        found[true, answered] = Pair(true, answered, n, faces, cell in largest)
    return found


def _looked(kept: Mapping[str, NDArray[Any]], kind_N: NDArray[Any]) -> list[Face]:
    """Of each face of the kind "confident": a picture of where hiding it lowers the answer's probability, and the
    lowest that it comes to; nothing where no place lowers it.
    """
    if "hidden_KPP" not in kept:
        return []
    images_KHW = kept["images_NHW"][kind_N == "confident"]
    falls_KHW = occlusion.fall_KHW(kept["whole_K"], kept["hidden_KPP"], images_KHW.shape[1])
    return [
        {"looked": _overlaid(image_HW, fall_HW), "plain": float(whole), "lowest": float(hidden_PP.min())}
        if hidden_PP.min() < whole
        else {}
        for image_HW, fall_HW, whole, hidden_PP in zip(
            images_KHW, falls_KHW, kept["whole_K"], kept["hidden_KPP"], strict=True
        )
    ]


def _overlaid(image_HW: NDArray[np.uint8], fall_HW: NDArray[np.float64]) -> str:
    """The face, orange where the probability falls, most where it falls most."""
    share_HW1 = 0.75 * (np.clip(fall_HW, 0, None) / max(float(fall_HW.max()), 1e-12))[:, :, None]
    image_HWC = image_HW if image_HW.ndim == 3 else image_HW[:, :, None]
    mixed_HW3 = image_HWC * 0.85 * (1 - share_HW1) + np.array(LOOKED_RGB) * share_HW1
    return figures.face_png(np.round(mixed_HW3).astype(np.uint8))


def matrix(scored: Mapping[str, Any], gallery: Gallery | None) -> dict[str, Any]:
    """The confusion matrix as a table: {columns, rows: [{true, n, cells: [{answered, count, share, pair}]}]}.

    Rows are the true emotions that have faces, columns those and whatever else was answered. `pair` holds the faces
    that a cell opens; None where none were kept.
    """
    classes: Sequence[str] = scored["confusion"]["classes"]
    counts_KK = np.array(scored["confusion"]["counts"])
    support_K, answered_K = counts_KK.sum(axis=1), counts_KK.sum(axis=0)
    columns = np.flatnonzero(support_K + answered_K).tolist()
    pairs = gallery.pairs if gallery else {}
    return {
        "columns": [classes[k] for k in columns],
        "rows": [
            {
                "true": classes[row],
                "n": int(support_K[row]),
                "cells": [
                    {
                        "answered": classes[k],
                        "count": int(counts_KK[row, k]),
                        "share": float(counts_KK[row, k] / support_K[row]),
                        "pair": pairs.get((classes[row], classes[k])),
                    }
                    for k in columns
                ],
            }
            for row in np.flatnonzero(support_K).tolist()
        ],
    }
