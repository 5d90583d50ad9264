"""One random operation per face at a random strength: nothing to tune, and hard to beat.

Source: Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV 2021, with
  operations and ranges adapted to small grey faces (`augment/_operations.py` says which), after a mirror.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.space import Choice, Config, Float, Knobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

SPACE: Knobs = {
    "strength": Float(0.25, 1.25, 1.0, doc="scales every operation's range"),
    "flip": Choice((True, False), True, "mirror every second face"),
}
BINS = 31


def build(knobs: Config) -> Callable[[Tensor, Generator], Tensor]:
    """An operation and one of 31 even strengths, with a random sign, for each face of faces_N1HW."""
    import torch

    from facex_tune.augment import _operations

    strength, flip = float(knobs["strength"] or 0), bool(knobs["flip"])

    def trivialaugment(faces_N1HW: Tensor, generator: Generator) -> Tensor:
        n, device = len(faces_N1HW), faces_N1HW.device
        operation_N = _operations.draw(n, generator, device)
        bin_N = torch.randint(BINS, (n,), generator=generator, device=device) / (BINS - 1)
        magnitude_N = bin_N * _operations.signs(n, generator, device) * strength
        given = _operations.mirror(faces_N1HW, generator) if flip else faces_N1HW
        return _operations.apply(given, operation_N, magnitude_N)

    return trivialaugment
