"""Where a model looked: by how much its answer's probability changes when a part of the face is hidden.

A grey square is moved over the face (occlusion sensitivity: Zeiler and Fergus, ECCV 2014, section 4.2). It asks the
model alone, whatever its architecture, and costs 50 answers a face. K faces, P places of the square along a side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARE, PLACES = 4, 7  # the square has a quarter of the side, as an eye with its brow, or a mouth: 12 of 48 pixels


def hidden(
    answer: Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]],
    images_KHW: NDArray[np.uint8],
    answers_K: NDArray[np.integer[Any]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The probability of each face's answer: whole_K with nothing hidden, hidden_KPP with the square at each place.

    The square has the mean grey, or colour, of its own face.

    Args:
        answer: uint8 faces N x H x W (x 3) -> probabilities N x C.
        answers_K: the class whose probability is watched.
    """
    places, patch = places_of(images_KHW.shape[1]), images_KHW.shape[1] // SHARE
    covered = [images_KHW]
    grey_K11 = np.round(images_KHW.mean(axis=(1, 2), keepdims=True)).astype(np.uint8)
    for top in places:
        for left in places:
            copy_KHW = images_KHW.copy()
            copy_KHW[:, top : top + patch, left : left + patch] = grey_K11
            covered.append(copy_KHW)
    found_SKC = np.asarray(answer(np.concatenate(covered))).reshape(len(covered), len(images_KHW), -1)
    watched_SK = found_SKC[:, np.arange(len(images_KHW)), answers_K].astype(np.float32)
    return watched_SK[0], watched_SK[1:].T.reshape(len(images_KHW), len(places), len(places))


def fall_KHW(
    whole_K: NDArray[np.floating[Any]], hidden_KPP: NDArray[np.floating[Any]], side: int
) -> NDArray[np.float64]:
    """By how much the answer's probability falls where a pixel is hidden: the mean over the squares that cover it.
    Negative where it rises.
    """
    total_KHW, times_HW = np.zeros((len(whole_K), side, side)), np.zeros((side, side))
    for row, top in enumerate(places_of(side)):
        for column, left in enumerate(places_of(side)):
            here = slice(top, top + side // SHARE), slice(left, left + side // SHARE)
            total_KHW[:, *here] += (whole_K - hidden_KPP[:, row, column])[:, None, None]
            times_HW[here] += 1
    return total_KHW / times_HW


def places_of(side: int) -> list[int]:
    """The first pixel of each place of the square along a side."""
    return [round(place) for place in np.linspace(0, side - side // SHARE, PLACES)]
