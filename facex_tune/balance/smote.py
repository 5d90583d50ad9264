"""SMOTE: faces of rare classes are made up between real ones, once, before training.

Source: Chawla et al., "SMOTE: Synthetic Minority Over-sampling Technique", 2002 (imbalanced-learn's). A made face lies
  at a random place between a face and one of its `k_neighbors` nearest of the same class, pixel by pixel; annotators'
  votes, where they are trained towards, lie between in the same place. Validation faces are never used.

Two faces blended are a double exposure rather than a third face: SMOTE was made for tables. As with oversampling an
epoch gets longer. Cost: a class is raised in steps of at most `STEP` faces, whose neighbours are looked for among as
many of the class, so that memory is bounded and the time grows with the number of faces made. FER2013's Training to a
share of .5: 3,609 faces, 1 s of a core, 100 MB; to 1.0: 21,796 faces, 8 s, 270 MB, their own 50 MB included.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from facex_tune.balance import Plan
from facex_tune.space import Config, Float, Int, Knobs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Made = tuple[Tensor, Tensor, Tensor | None]

SPACE: Knobs = {
    "k_neighbors": Int(1, 15, 5, doc="how many of a face's nearest of its class a made one may lie towards"),
    "ratio": Float(0.1, 1.0, 0.5, doc="faces of a class at least, made ones included, per face of the most frequent"),
}
STEP = 2048


def plan(labels_N: Tensor, n_classes: int, knobs: Config) -> Plan:
    """Plain cross-entropy over real and made faces; classes without a face stay without."""
    import torch
    from torch.nn.functional import cross_entropy

    counts = torch.bincount(labels_N, minlength=n_classes).tolist()
    least = round(max(counts) * float(knobs["ratio"] or 0))
    missing = {label: least - n for label, n in enumerate(counts) if 0 < n < least}
    k_neighbors = int(knobs["k_neighbors"] or 1)

    def synthesize(images_NHW: Tensor, targets_NC: Tensor | None, seed: int) -> Made:
        rng = np.random.default_rng(seed)
        images, labels, targets = [images_NHW[:0]], [labels_N[:0]], [None if targets_NC is None else targets_NC[:0]]
        for label, wanted in missing.items():
            of_class = labels_N == label
            given = None if targets_NC is None else targets_NC[of_class].cpu().numpy()
            made_MHW, made_MC = made(images_NHW[of_class].cpu().numpy(), given, wanted, k_neighbors, rng)
            images.append(torch.from_numpy(made_MHW).to(images_NHW.device))
            labels.append(labels_N.new_full((wanted,), label))
            targets.append(None if made_MC is None else torch.from_numpy(made_MC).to(images_NHW.device))
        known = [each for each in targets if each is not None]
        return torch.cat(images), torch.cat(labels), torch.cat(known) if known else None

    return Plan(loss=cross_entropy, synthesize=synthesize, made_faces=sum(missing.values()))


def made(
    images_NHW: NDArray[np.uint8],
    targets_NC: NDArray[np.float32] | None,
    wanted: int,
    k_neighbors: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """`wanted` faces between faces of one class, uint8 as they are, and their targets where these have any.

    A class of fewer faces than `k_neighbors` + 1 takes all of them as neighbours; a single face is repeated.
    """
    side = images_NHW.shape[1:]
    pixels = math.prod(side)
    columns: list[NDArray[Any]] = [images_NHW.reshape(len(images_NHW), pixels)]
    if targets_NC is not None:
        columns.append(targets_NC)
    steps = []
    for start in range(0, wanted, STEP):
        rows = np.sort(rng.permutation(len(images_NHW))[:STEP])
        # Targets are further columns: 1 at most beside pixels of 255, they do not say who is near.
        features_NF = np.concatenate([column[rows].astype(np.float32) for column in columns], axis=1)
        steps.append(_interpolated(features_NF, min(STEP, wanted - start), k_neighbors, int(rng.integers(2**31))))
    features_MF = np.concatenate(steps)
    images_MHW = np.clip(np.rint(features_MF[:, :pixels]), 0, 255).astype(np.uint8).reshape(-1, *side)
    return images_MHW, None if targets_NC is None else features_MF[:, pixels:]


def _interpolated(features_NF: NDArray[np.float32], wanted: int, k_neighbors: int, seed: int) -> NDArray[np.float32]:
    from imblearn.over_sampling import SMOTE

    n = len(features_NF)
    if n == 1:
        return np.repeat(features_NF, wanted, axis=0)
    # SMOTE asks for a second class, which it leaves alone: neighbours are looked for within the first.
    both_NF = np.concatenate([features_NF, np.zeros_like(features_NF[:1])])
    sampler = SMOTE(sampling_strategy={0: n + wanted}, k_neighbors=min(k_neighbors, n - 1), random_state=seed)
    raised_MF: NDArray[np.float32] = sampler.fit_resample(both_NF, np.arange(n + 1) // n)[0]
    return raised_MF[n + 1 :]
