"""Faces on the training device, and the batches that an epoch draws from them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facex_tune.balance import Plan, quota_positions


@dataclass(frozen=True)
class Split:
    """Faces to train on or to validate with, resident on the training device.

    Attributes:
        images_NHW: uint8 N x size x size, in colour N x size x size x 3.
        labels_N: int64, the label that counts in scores.
        targets_NC: probabilities to train towards, where annotators' votes replace the label; else None.
        odds_N: how much more often than others of its class each face is drawn, with a mean of 1 over each class; None
            draws all of a class alike.
    """

    images_NHW: Tensor
    labels_N: Tensor
    targets_NC: Tensor | None = None
    odds_N: Tensor | None = None

    @classmethod
    def of(
        cls,
        images_NHW: NDArray[np.uint8],
        labels_N: NDArray[np.int64],
        targets_NC: NDArray[np.float32] | None,
        device: torch.device,
        odds_N: NDArray[np.float32] | None = None,
    ) -> Split:
        """Copies arrays to the device, once. On a CPU images that nobody can write to stay where they are: the
        processes of a host then share the pages of one memory map.
        """
        return cls(
            _resident(images_NHW, device),
            torch.from_numpy(np.array(labels_N)).to(device),
            None if targets_NC is None else torch.from_numpy(np.array(targets_NC, dtype=np.float32)).to(device),
            None if odds_N is None else torch.from_numpy(np.array(odds_N)).to(device),
        )

    def joined(self, images_MHW: Tensor, labels_M: Tensor, targets_MC: Tensor | None) -> Split:
        """These faces and further ones, which have targets where these do, and are drawn as any of their class."""
        targets_NC = None
        if self.targets_NC is not None and targets_MC is not None:
            targets_NC = torch.cat([self.targets_NC, targets_MC])
        images_NHW, labels_N = torch.cat([self.images_NHW, images_MHW]), torch.cat([self.labels_N, labels_M])
        odds_N = None if self.odds_N is None else torch.cat([self.odds_N, self.odds_N.new_ones(len(labels_M))])
        return Split(images_NHW, labels_N, targets_NC, odds_N)

    def __len__(self) -> int:
        return len(self.labels_N)


def _resident(images_NHW: NDArray[np.uint8], device: torch.device) -> Tensor:
    if device.type != "cpu" or images_NHW.flags.writeable or not images_NHW.flags.c_contiguous:
        return torch.from_numpy(np.array(images_NHW)).to(device)
    with warnings.catch_warnings():  # torch says that writing there would be a mistake; nothing here does
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(images_NHW)


class Batches:
    """The batches of an epoch, as indices drawn on the device, and the targets of each.

    Args:
        split: the faces to draw from.
        plan: what the balancing strategy asks for.
        largest: faces in a batch; fewer where an epoch has fewer.
        smoothing: share of every target that is spread over all classes.
    """

    def __init__(self, split: Split, plan: Plan, *, largest: int, n_classes: int, smoothing: float) -> None:
        self.split, self.sample_weights_N = split, _odds(plan, split)
        self.n_classes, self.smoothing = n_classes, smoothing
        quota_C = plan.class_quota_C
        self.quota_positions_K = None if quota_C is None else quota_positions(split.labels_N, quota_C)
        self._quotas = [] if quota_C is None or split.odds_N is None else _by_class(split, quota_C)
        self.size = min(largest, self.faces_per_epoch)
        device = split.labels_N.device
        self._one_hot_CC = torch.eye(n_classes, device=device)  # nn.functional.one_hot reads its input back to check it

    @property
    def faces_per_epoch(self) -> int:
        """Faces that an epoch draws; a strategy that samples takes more or fewer than there are."""
        return len(self.split) if self.quota_positions_K is None else len(self.quota_positions_K)

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.faces_per_epoch // self.size

    def draw(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Indices of whole batches, index_B; the few faces of a broken last batch wait for another epoch."""
        order_K = self._order(generator)
        for step in range(len(self)):
            yield order_K[step * self.size : (step + 1) * self.size]

    def targets(self, index_B: Tensor) -> Tensor:
        """Target probabilities, targets_BC, smoothed."""
        if self.split.targets_NC is None:
            targets_BC = self._one_hot_CC[self.split.labels_N[index_B]]
        else:
            targets_BC = self.split.targets_NC[index_B]
        return targets_BC * (1 - self.smoothing) + self.smoothing / self.n_classes

    def _order(self, generator: torch.Generator) -> Tensor:
        """The faces of an epoch in the order in which they come, as the balancing strategy wants them."""
        count, device = len(self.split), self.split.labels_N.device
        if self._quotas:
            drawn = [
                rows_M[torch.multinomial(odds_M, quota, replacement=True, generator=generator)]
                for rows_M, odds_M, quota in self._quotas
            ]
            chosen_K = torch.cat(drawn)
            return chosen_K[torch.randperm(len(chosen_K), generator=generator, device=device)]
        if self.sample_weights_N is not None:
            return torch.multinomial(self.sample_weights_N, count, replacement=True, generator=generator)
        order_N = torch.randperm(count, generator=generator, device=device)
        if self.quota_positions_K is None:
            return order_N
        by_class_N = order_N[self.split.labels_N[order_N].argsort(stable=True)]
        chosen_K = by_class_N[self.quota_positions_K]
        return chosen_K[torch.randperm(len(chosen_K), generator=generator, device=device)]


def _odds(plan: Plan, split: Split) -> Tensor | None:
    """Each face's odds to be drawn, by its class as the strategy wants and within its class as the split does."""
    if plan.sample_weights_N is None or split.odds_N is None:
        return split.odds_N if plan.sample_weights_N is None and plan.class_quota_C is None else plan.sample_weights_N
    return plan.sample_weights_N * split.odds_N


def _by_class(split: Split, class_quota_C: tuple[int, ...]) -> list[tuple[Tensor, Tensor, int]]:
    """(rows_M, odds_M, quota) of each class that has faces and a quota: with odds no face is sure of its turn."""
    assert split.odds_N is not None
    rows = [(split.labels_N == label).nonzero().flatten() for label in range(len(class_quota_C))]
    found = zip(rows, class_quota_C, strict=True)
    return [(rows_M, split.odds_N[rows_M], quota) for rows_M, quota in found if len(rows_M) and quota]
