"""Class-balancing strategies: what each says about sampling, loss and logits, in one plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[["Tensor", "Tensor"], "Tensor"]
Synthesis = Callable[["Tensor", "Tensor | None", int], "tuple[Tensor, Tensor, Tensor | None]"]


@dataclass(frozen=True)
class Plan:
    """What a strategy asks of training.

    Attributes:
        loss: (logits_NC, targets_NC) -> scalar; targets are probabilities (smoothed, mixed or voted labels), smoothed
            as the strategy was told.
        sample_weights_N: relative odds of each face to be drawn, with replacement; None draws each once an epoch.
        class_quota_C: faces of each class in an epoch, by its label, drawn anew every epoch: below the class's count
            none twice, above it each as often as any other, give or take one. None takes every face once.
        late_loss: the loss from `late_from` on; None keeps `loss`.
        late_from: share of the training, 0 to 1.
        synthesize: (images_NHW uint8, targets_NC or None, seed) -> (images_MHW, labels_M, targets_MC or None): further
            faces, made once from those of the training split, before training, and then drawn as these are. Equal
            seeds make equal faces. A plan with it has neither weights nor quotas.
        made_faces: how many `synthesize` makes.
    """

    loss: Loss
    sample_weights_N: Tensor | None = None
    class_quota_C: tuple[int, ...] | None = None
    late_loss: Loss | None = None
    late_from: float = 1.0
    synthesize: Synthesis | None = None
    made_faces: int = 0

    def faces_per_epoch(self, n_faces: int) -> int:
        """How many faces an epoch trains on, of a training split of `n_faces`."""
        return n_faces + self.made_faces if self.class_quota_C is None else sum(self.class_quota_C)

    def loss_at(self, progress: float) -> Loss:
        """The loss at that share of the training, 0 to 1."""
        return self.loss if self.late_loss is None or progress < self.late_from else self.late_loss


def class_counts(labels_N: Tensor, n_classes: int) -> Tensor:
    """Faces per class as floats, counts_C."""
    import torch

    return torch.bincount(labels_N, minlength=n_classes).float()


@dataclass(frozen=True)
class Targets:
    """What a training goes towards, as far as a loss must know it: how often each class is a target, and how much of
    every target is label smoothing.

    A loss that divides by a prior must divide by that of its own targets: smoothing puts as much on a rare class as on
    a frequent one, and annotators' votes name rare emotions more often than their majorities do. Mixing faces (mixup,
    cutmix) changes neither.

    Attributes:
        counts_C: faces of each class; where annotators' votes are trained towards, a face counts by its shares. Without
            smoothing.
        smoothing: the share of every target that is spread evenly over all classes, 0 to less than 1.
    """

    counts_C: Tensor
    smoothing: float = 0.0

    @classmethod
    def of(
        cls, labels_N: Tensor, n_classes: int, targets_NC: Tensor | None = None, smoothing: float = 0.0
    ) -> Targets:
        """Those of a training split: of its labels, or of the annotators' votes in their place."""
        import torch

        if targets_NC is None:
            return cls(class_counts(labels_N, n_classes), smoothing)
        return cls(targets_NC.sum(0, dtype=torch.float64).float(), smoothing)

    def shares_C(self) -> Tensor:
        """The mean smoothed target; 0 for an absent class, although smoothing gives it a little of every face."""
        import torch

        spread = self.smoothing / len(self.counts_C)
        shares_C = (1 - self.smoothing) * self.counts_C / self.counts_C.sum() + spread
        return torch.where(self.counts_C > 0, shares_C, 0.0)

    def log_shares_C(self) -> Tensor:
        """Logarithms of `shares_C`.

        An absent class has 0, more than any other: as part of a loss's logits that teaches a network to answer it
        least. A small share in its place would teach it nothing about the class, which it would then answer at random.
        """
        import torch

        shares_C = self.shares_C()
        return torch.where(shares_C > 0, shares_C, 1.0).log()

    def labelled(self, targets_NC: Tensor) -> Tensor:
        """The part of smoothed targets that labels or votes have put there; rows sum to 1 - smoothing."""
        return targets_NC - self.smoothing / len(self.counts_C)

    def weighted(self, targets_NC: Tensor, weight_C: Tensor) -> Tensor:
        """Smoothed targets of which the labelled part weighs by its class, and the smoothed part as its face does,
        whichever class it lies on: what drawing faces by the weights, and smoothing then, would come to.
        """
        labelled_NC = self.labelled(targets_NC) * weight_C
        face_N1 = labelled_NC.sum(1, keepdim=True) / (1 - self.smoothing)
        return labelled_NC + face_N1 * (self.smoothing / len(self.counts_C))


def weights_of_mean_one(weight_C: Tensor, counts_C: Tensor) -> Tensor:
    """weight_C scaled to mean 1 over the training faces, so that the learning rate keeps its meaning; absent classes
    weigh nothing.
    """
    import torch

    present_C = torch.where(counts_C > 0, weight_C, 0.0)
    return present_C * counts_C.sum() / (present_C * counts_C).sum()


def effective_number_weights(counts_C: Tensor, beta: float) -> Tensor:
    """(1 - beta) / (1 - beta ** n): Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR
    2019.
    """
    weight_C = (1 - beta) / (1 - beta ** counts_C.double().clamp(min=1))
    return weight_C.to(counts_C.dtype)


def quota_positions(labels_N: Tensor, class_quota_C: tuple[int, ...]) -> Tensor:
    """positions_K, in faces sorted by label, that fill every class's quota; fixed for a training set.

    In an order that is random within each class, those positions hold a fresh draw of each quota.
    """
    import torch

    counts = torch.bincount(labels_N, minlength=len(class_quota_C)).tolist()
    starts = [sum(counts[:label]) for label in range(len(counts))]
    positions = [
        start + torch.arange(quota) % n for start, n, quota in zip(starts, counts, class_quota_C, strict=True) if n
    ]
    return torch.cat(positions).to(labels_N.device)
