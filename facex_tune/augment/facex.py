"""The facex_1 notebook's policy: rotation, zoom, shift, shear and mirror, in one resampling per face.

Source: the student notebook that this project grew from (±20°, zoom .15, shift .2 in both axes, shear .15, horizontal
  flip, nearest fill). `strength` scales all of it; 1.0 is the notebook's, beyond which mouths leave the picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.space import Config, Float, Knobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

SPACE: Knobs = {"strength": Float(0.1, 1.0, 0.7, doc="scales every range; 1.0 is the notebook's")}


def build(knobs: Config) -> Callable[[Tensor, Generator], Tensor]:
    """One random affine map per face of faces_N1HW."""
    from facex_tune.augment._affine import Ranges, resample

    strength = float(knobs["strength"] or 0)
    ranges = Ranges(degrees=20 * strength, zoom=0.15 * strength, shift=0.2 * strength, shear=0.15 * strength)
    return lambda faces_N1HW, generator: resample(faces_N1HW, ranges, generator)
