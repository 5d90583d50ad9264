"""Where a model looked, with models whose eyes are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facex_tune.evaluation import occlusion

SIDE = 48


def looks_at_the_mouth(images_NHW: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The brighter its lower middle, the surer of class 1."""
    share_N = images_NHW[:, 34:44, 18:30].mean(axis=(1, 2)) / 255
    return np.stack([1 - share_N, share_N], axis=1)


def faces(n: int) -> NDArray[np.uint8]:
    """Dark, with a bright mouth."""
    images_NHW = np.full((n, SIDE, SIDE), 20, np.uint8)
    images_NHW[:, 34:44, 18:30] = 250
    return images_NHW


def test_it_falls_where_the_model_looks_and_nowhere_else() -> None:
    whole_K, hidden_KPP = occlusion.hidden(looks_at_the_mouth, faces(2), np.array([1, 1]))
    assert (len(whole_K), hidden_KPP.shape) == (2, (2, 7, 7))
    fall_HW = occlusion.fall_KHW(whole_K, hidden_KPP, SIDE)[0]
    top, left = np.unravel_index(fall_HW.argmax(), fall_HW.shape)
    assert 34 <= top < 44
    assert 18 <= left < 30
    assert fall_HW[:20].max() == 0


def test_the_answer_that_is_watched_is_the_face_s_own() -> None:
    """Of class 0 the probability rises where the mouth is hidden."""
    whole_K, hidden_KPP = occlusion.hidden(looks_at_the_mouth, faces(1), np.array([0]))
    assert hidden_KPP.max() > whole_K[0]
    assert occlusion.fall_KHW(whole_K, hidden_KPP, SIDE).min() < 0


def test_faces_in_colour_and_of_another_size_are_hidden_alike() -> None:
    colours_KHW3 = np.repeat(np.repeat(np.repeat(faces(1), 2, axis=1), 2, axis=2)[..., None], 3, axis=3)
    of_one = np.ones(1, np.int64)
    whole_K, hidden_KPP = occlusion.hidden(lambda all_: looks_at_the_mouth(all_[:, ::2, ::2, 0]), colours_KHW3, of_one)
    grey = occlusion.hidden(looks_at_the_mouth, faces(1), of_one)
    assert (whole_K[0], hidden_KPP.shape) == (grey[0][0], grey[1].shape)
    assert np.unravel_index(hidden_KPP.argmin(), hidden_KPP.shape) == np.unravel_index(grey[1].argmin(), grey[1].shape)


def test_every_pixel_is_hidden_by_some_square() -> None:
    covered = np.zeros((SIDE, SIDE), bool)
    for top in occlusion.places_of(SIDE):
        for left in occlusion.places_of(SIDE):
            covered[top : top + 12, left : left + 12] = True
    assert covered.all()
