"""Which images of a set look least like its faces: suspects, to be looked at, where no annotator said what is no face.

Distance from face space (Turk and Pentland, Journal of Cognitive Neuroscience 1991): what the set's first principal
components leave of an image; and how little it resembles the set's mean face. On FER2013, where annotators call 176
images no face, 13 of them blank, 19 of the 50 most suspicious others are among those, 84 times as many as by chance;
most of the rest are faces turned away, covered or cut off.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.near import SIDE, blank
from facex_tune.data.shapes import to_compare

SHARE = 1 / 700  # of a set's images
LEAST = 200  # images: fewer make no face space
_GRID = 16  # pixels of a reduced image's side
_COMPONENTS = 10  # with more, a strange image of a small set gets one of its own
_AT_ONCE = 4096


def least_like_faces(images_NHW: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Rows of the images that look least like the others, the strangest first; blank ones are not among them.

    One image in 700; none of a set of fewer than 200.
    """
    rows_M = np.flatnonzero(~blank(images_NHW))
    if len(rows_M) < LEAST:
        return np.empty(0, np.int64)
    blocks = np.split(rows_M, range(_AT_ONCE, len(rows_M), _AT_ONCE))
    small_MD = np.concatenate([_reduced(to_compare(images_NHW[rows])) for rows in blocks])
    mean_D = small_MD.mean(axis=0)
    centred_MD = small_MD - mean_D
    face_space_DK = np.linalg.eigh(centred_MD.T @ centred_MD)[1][:, -_COMPONENTS:]
    left_MD = centred_MD - centred_MD @ face_space_DK @ face_space_DK.T
    strange_M = _standard((left_MD**2).sum(axis=1)) + _standard(-(small_MD @ mean_D))
    order = np.argsort(-strange_M, kind="stable")
    return np.asarray(rows_M[order[: int(np.ceil(SHARE * len(rows_M)))]], np.int64)


def _reduced(images_BHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """small_BD: means over squares of pixels, of zero mean and unit norm."""
    step = SIDE // _GRID
    flat_BD = images_BHW.reshape(-1, _GRID, step, _GRID, step).mean(axis=(2, 4), dtype=np.float32).reshape(-1, _GRID**2)
    flat_BD -= flat_BD.mean(axis=1, keepdims=True)
    flat_BD /= np.linalg.norm(flat_BD, axis=1, keepdims=True) + 1e-6
    small_BD: NDArray[np.float32] = flat_BD
    return small_BD


def _standard(values_M: NDArray[np.float32]) -> NDArray[np.float32]:
    standard_M: NDArray[np.float32] = (values_M - values_M.mean()) / (values_M.std() + 1e-12)
    return standard_M
