"""No augmentation: the faces as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.space import Config, Knobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

SPACE: Knobs = {}


def build(knobs: Config) -> Callable[[Tensor, Generator], Tensor]:
    """The identity on faces_N1HW."""
    return lambda faces_N1HW, generator: faces_N1HW
