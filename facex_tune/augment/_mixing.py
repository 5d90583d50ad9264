"""What combines with any policy: noise and erasing, which keep the label, and mixup and cutmix, which mix labels too.

All of it per face, on the batch's device; a knob at 0 draws nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Generator, Tensor

ERASED_SHARE = (0.02, 0.25)  # of a face's area; Zhong et al. go to .4, which can hide eyes and mouth together
ERASED_ASPECT = (0.3, 3.3)
BETA_DRAWS = 2**16


@dataclass(frozen=True)
class Mixing:
    """The knobs, each off at 0.

    Attributes:
        mixup: alpha of Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
        cutmix: alpha of Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers", ICCV 2019. Where
            both are on, each face is mixed by either, at even odds.
        erasing: probability of Zhong et al., "Random Erasing Data Augmentation", AAAI 2020; filled with random pixels.
            A box that leaves the face is cut off there; the paper draws another, so that here a little less is erased.
        noise: largest standard deviation of Gaussian noise, pixels being in [0, 1]; each face's is even below it.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    erasing: float = 0.0
    noise: float = 0.0
    _tables: dict[float, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, faces_N1HW: Tensor, targets_NC: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Faces and target probabilities, changed."""
        if self.noise > 0:
            faces_N1HW = add_noise(faces_N1HW, self.noise, generator)
        if self.erasing > 0:
            faces_N1HW = erase(faces_N1HW, self.erasing, generator)
        if self.mixup > 0 or self.cutmix > 0:
            faces_N1HW, targets_NC = self._mix(faces_N1HW, targets_NC, generator)
        return faces_N1HW, targets_NC

    def _mix(self, faces_N1HW: Tensor, targets_NC: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """A face keeps `kept` of each of its pixels, and takes the rest from another face of the batch, label too."""
        n, _, height, width = faces_N1HW.shape
        device = faces_N1HW.device
        partner_N = torch.randperm(n, generator=generator, device=device)
        kept_N1HW = torch.ones_like(faces_N1HW)
        if self.mixup > 0:
            kept_N1HW = kept_N1HW * self._beta(self.mixup, n, generator)[:, None, None, None]
        if self.cutmix > 0:
            cut_N = 1 - self._beta(self.cutmix, n, generator)
            kept_by_box = (~boxes(cut_N.sqrt() * height, cut_N.sqrt() * width, height, width, generator)).float()
            if self.mixup > 0:
                is_cut_N = torch.rand(n, generator=generator, device=device) < 0.5
                kept_N1HW = torch.where(is_cut_N[:, None, None, None], kept_by_box, kept_N1HW)
            else:
                kept_N1HW = kept_by_box
        mixed = torch.lerp(faces_N1HW[partner_N], faces_N1HW, kept_N1HW)
        return mixed, torch.lerp(targets_NC[partner_N], targets_NC, kept_N1HW.mean((1, 2, 3))[:, None])

    def _beta(self, alpha: float, n: int, generator: Generator) -> Tensor:
        """n draws from Beta(alpha, alpha).

        Torch has no such draw from a generator of the caller's on every device: these come from a table, which lives as
        long as this object does, and so as long as a graph that reads it.
        """
        if alpha not in self._tables:
            self._tables[alpha] = beta_table(alpha).to(generator.device)
        return self._tables[alpha][torch.randint(BETA_DRAWS, (n,), generator=generator, device=generator.device)]


def beta_table(alpha: float) -> Tensor:
    """65,536 draws from Beta(alpha, alpha), always the same."""
    return torch.from_numpy(np.random.default_rng(0).beta(alpha, alpha, BETA_DRAWS).astype(np.float32))


def boxes(heights_N: Tensor, widths_N: Tensor, height: int, width: int, generator: Generator) -> Tensor:
    """mask_N1HW, true in one box per face, whose centre is anywhere; what leaves the face is cut off."""
    n, device = len(heights_N), heights_N.device
    centre_2N = torch.rand(2, n, generator=generator, device=device)
    rows_NH = (torch.arange(height, device=device) + 0.5 - centre_2N[0, :, None] * height).abs()
    columns_NW = (torch.arange(width, device=device) + 0.5 - centre_2N[1, :, None] * width).abs()
    in_rows_NH, in_columns_NW = rows_NH < heights_N[:, None] / 2, columns_NW < widths_N[:, None] / 2
    return (in_rows_NH[:, :, None] & in_columns_NW[:, None, :])[:, None]


def erase(faces_N1HW: Tensor, probability: float, generator: Generator) -> Tensor:
    """A box of random pixels in every face that is drawn."""
    n, _, height, width = faces_N1HW.shape
    drawn_3N = torch.rand(3, n, generator=generator, device=faces_N1HW.device)
    area_N = (ERASED_SHARE[0] + drawn_3N[1] * (ERASED_SHARE[1] - ERASED_SHARE[0])) * height * width
    low, high = (math.log(aspect) for aspect in ERASED_ASPECT)
    aspect_N = (low + drawn_3N[2] * (high - low)).exp()
    box = boxes((area_N * aspect_N).sqrt(), (area_N / aspect_N).sqrt(), height, width, generator)
    pixels = torch.rand(faces_N1HW.shape, generator=generator, device=faces_N1HW.device, dtype=faces_N1HW.dtype)
    return torch.where(box & (drawn_3N[0] < probability)[:, None, None, None], pixels, faces_N1HW)


def add_noise(faces_N1HW: Tensor, most: float, generator: Generator) -> Tensor:
    """Gaussian noise, of its own strength for each face."""
    device = faces_N1HW.device
    strength_N = torch.rand(len(faces_N1HW), generator=generator, device=device) * most
    noise = torch.randn(faces_N1HW.shape, generator=generator, device=device, dtype=faces_N1HW.dtype)
    return (faces_N1HW + noise * strength_N[:, None, None, None]).clamp(0, 1)
