"""Synthetic faces: nobody's, so they can be shipped, and with a truth that is known.

'wild' is unbalanced and mislabelled as FER2013 is, seen under every light; 'lab' is clean and frontal as CK+ is:
subjects with three-frame sequences, no neutral. Votes of ten simulated annotators around the true emotion give the
re-annotated variant, so that what label noise costs can be measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.faces import VOTE_ANSWERS, Faces, exact_groups
from facex_tune.data.importing import NOTHING, Asked, Loaded
from facex_tune.data.sources._render import ACTIONS, CHUNK, IDENTITY, VIEW, Floats, bell, render, uniform
from facex_tune.emotions import EMOTIONS, GREY_48

DESCRIPTION = "drawn faces, unbalanced and mislabelled like FER2013, with votes that tell the truth; needs no download"
NEEDS_SOURCE = False
OPTIONS = ("size",)
ALSO = ("synthetic_lab",)
N, SEED = 5600, 20130

WILD_FREQUENCY = (3995, 436, 4097, 7215, 4830, 3171, 4965, 0)  # FER2013's training faces
LAB_FREQUENCY = (135, 177, 75, 207, 84, 249, 0, 54)  # CK+
SEQUENCES_PER_SUBJECT = 3

_EXPRESSION = np.array([
    # brow_raise drop eye_open curve mouth_open width wrinkle teeth smirk
    [-0.5, 1.0, 0.1, -0.4, 0.25, 0.0, 0.25, 0.5, 0.0],  # angry
    [-0.5, 0.5, -0.6, -0.4, 0.15, -0.1, 1.0, 0.3, 0.0],  # disgust
    [0.7, -0.7, 0.9, -0.3, 0.4, 0.4, 0.0, 0.4, 0.0],  # fear
    [0.1, 0.0, -0.35, 1.0, 0.3, 0.8, 0.1, 0.9, 0.0],  # happy
    [0.0, -0.9, -0.4, -0.8, 0.0, -0.2, 0.0, 0.0, 0.0],  # sad
    [1.1, -0.1, 0.8, 0.0, 1.0, -0.5, 0.0, 0.0, 0.0],  # surprise
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # neutral
    [0.0, 0.1, -0.15, 0.1, 0.0, 0.0, 0.1, 0.0, 1.0],  # contempt
], np.float32)  # fmt: skip

_CONFUSION = np.array([
    # angry disgust fear happy sad surprise neutral contempt: how likely each is taken for another one
    [0, 1, 3, 1, 5, 1, 5, 0.5],
    [9, 0, 2, 1, 3, 0.5, 1, 0.5],
    [2, 0.3, 0, 1, 4, 7, 2, 0.1],
    [1, 0.1, 1, 0, 1, 2, 5, 1],
    [3, 0.5, 4, 1, 0, 0.5, 8, 0.5],
    [1, 0.1, 8, 2, 0.5, 0, 2, 0.1],
    [2, 0.2, 1, 3, 8, 1, 0, 1],
    [3, 1, 0.5, 2, 2, 0.2, 6, 0],
])  # fmt: skip


_CONFUSION /= _CONFUSION.sum(axis=1, keepdims=True)

Variant = Literal["wild", "lab"]
Progress = Callable[[int, int], None]


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """The wild set: train 4,000, public_test 800, private_test 800, alike in emotions; `path` is not used."""
    faces = generate(N, seed=SEED, progress=progress, size=asked.size)
    true_N = _truth(faces.votes_NC)
    place_N = np.argsort(np.argsort(true_N, kind="stable"), kind="stable") % 7  # five in seven train
    split_N = np.array(["train"] * 5 + ["public_test", "private_test"])[place_N]
    return Loaded(replace(faces, split_N=split_N), [])


def generate(
    n: int,
    *,
    seed: int,
    variant: Variant = "wild",
    imbalance: float = 1.0,
    label_noise: float | None = None,
    progress: Progress = lambda done, total: None,
    size: int = GREY_48.size,
) -> Faces:
    """Draw n faces, the same for the same arguments.

    Args:
        variant: "wild" (split "train", each face somebody else) or "lab" (split "test", sequences of three frames of
            rising intensity, about nine frames a subject, group = subject; no neutral, a few contempt).
        imbalance: emotions are drawn by FER2013's (wild) or CK+'s (lab) frequencies to this power; 0 is balanced.
        label_noise: fraction of faces labelled as an emotion that theirs is confused with; None: 0.1 wild, 0 lab.
        size: pixels of a side; faces of two sizes are the same people, not the same specks.

    The emotion with the most votes is always the true one.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    lab = variant == "lab"
    noise = (0.0 if lab else 0.1) if label_noise is None else label_noise
    frames = 3 if lab else 1
    sequence_N = np.arange(n) // frames
    true_S = _emotions(-(-n // frames), LAB_FREQUENCY if lab else WILD_FREQUENCY, imbalance, rng)
    subject_S = np.arange(len(true_S)) // SEQUENCES_PER_SUBJECT if lab else np.arange(len(true_S))
    identity_SK = uniform(rng, len(true_S), len(IDENTITY))[subject_S]
    style_SK = bell(rng, len(true_S), len(ACTIONS))
    strength_S = np.minimum(rng.random(len(true_S)), rng.random(len(true_S)) + 0.4).astype(np.float32)
    true_N = true_S[sequence_N]
    strength_N = 0.3 + 0.9 * strength_S[sequence_N]
    if lab:
        strength_N = np.array([0.6, 0.85, 1.1], np.float32)[np.arange(n) % 3] * (0.7 + 0.4 * strength_S[sequence_N])
    actions_NK = _EXPRESSION[true_N] * strength_N[:, None] + (0.17 if lab else 0.24) * style_SK[sequence_N]
    view_NK = (uniform(rng, n, len(VIEW)) + uniform(rng, n, len(VIEW))) * np.float32(0.1 if lab else 0.5)
    if lab:
        view_NK[:, VIEW.index("noise")] = -0.7
    votes_NC = _votes(true_N, strength_N, rng)
    labels_N = _mislabelled(true_N, noise, rng)
    images_NHW = _render_in_steps(identity_SK[sequence_N], actions_NK, view_NK, rng, progress, size)
    return Faces(
        images_NHW=images_NHW,
        labels_N=labels_N,
        split_N=np.full(n, "test" if lab else "train"),
        group_N=subject_S[sequence_N] if lab else exact_groups(images_NHW),
        sequence_N=sequence_N if lab else np.full(n, -1, np.int64),
        votes_NC=votes_NC,
        source_N=np.array([f"{variant}-{seed}-{row:06d}" for row in range(n)], dtype=np.str_),
    )


def _render_in_steps(
    identity_NK: Floats, actions_NK: Floats, view_NK: Floats, rng: np.random.Generator, progress: Progress, size: int
) -> NDArray[np.uint8]:
    n, step = len(identity_NK), 16 * CHUNK
    parts = [np.empty((0, size, size), np.uint8)]
    for start in range(0, n, step):
        rows = slice(start, start + step)
        parts.append(render(identity_NK[rows], actions_NK[rows], view_NK[rows], rng, size))
        progress(min(start + step, n), n)
    return np.concatenate(parts)


def _emotions(n: int, frequency: tuple[int, ...], imbalance: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """n emotions in random order, as near to the frequencies as whole numbers allow."""
    weight_C = np.array([float(f) ** imbalance if f else 0.0 for f in frequency])
    edges_C = np.rint(np.cumsum(weight_C) / weight_C.sum() * n).astype(np.int64)
    ordered_N: NDArray[np.int64] = np.repeat(np.arange(len(EMOTIONS)), np.diff(edges_C, prepend=0))
    return rng.permutation(ordered_N)


def _drawn(probability_NC: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """One column a row by its probabilities."""
    edges_NC = probability_NC.cumsum(axis=1)[:, :-1]
    column_N: NDArray[np.int64] = (edges_NC < rng.random((len(edges_NC), 1))).sum(axis=1)
    return column_N


def _mislabelled(true_N: NDArray[np.int64], noise: float, rng: np.random.Generator) -> NDArray[np.int64]:
    other_N = _drawn(_CONFUSION[true_N], rng)
    return np.where((rng.random(len(true_N)) < noise) & (true_N != 7) & (other_N != 7), other_N, true_N)


def _votes(true_N: NDArray[np.int64], strength_N: Floats, rng: np.random.Generator) -> NDArray[np.int16]:
    """Answers of ten annotators, surer of a strong expression; the truth has the most."""
    sure_N = np.clip(0.62 + 0.22 * strength_N.astype(np.float64), 0, 0.93)
    chance_NC = np.zeros((len(true_N), len(VOTE_ANSWERS)))
    chance_NC[:, : len(EMOTIONS)] = _CONFUSION[true_N] * (0.97 - sure_N)[:, None]
    chance_NC[np.arange(len(true_N)), true_N] = sure_N
    chance_NC[:, len(EMOTIONS) :] = (0.025, 0.005)
    answers = np.stack([_drawn(chance_NC, rng) for _ in range(10)], axis=1)
    votes_NC: NDArray[np.int16] = (answers[:, :, None] == np.arange(len(VOTE_ANSWERS))).sum(axis=1).astype(np.int16)
    rows, winner_N = np.arange(len(true_N)), votes_NC.argmax(axis=1)
    votes_NC[rows, winner_N], votes_NC[rows, true_N] = votes_NC[rows, true_N], votes_NC[rows, winner_N]
    tied_N = (votes_NC == votes_NC[rows, true_N][:, None]).sum(axis=1) > 1  # one answer of another column goes over
    other_NC = votes_NC.copy()
    other_NC[rows, true_N] = -1
    second_N = other_NC.argmax(axis=1)
    votes_NC[rows[tied_N], second_N[tied_N]] -= 1
    votes_NC[rows[tied_N], true_N[tied_N]] += 1
    return votes_NC


def _truth(votes_NC: NDArray[np.int16] | None) -> NDArray[np.int64]:
    assert votes_NC is not None, "generate gives votes"
    true_N: NDArray[np.int64] = votes_NC[:, : len(EMOTIONS)].argmax(axis=1)
    return true_N
