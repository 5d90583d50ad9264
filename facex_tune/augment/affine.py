"""One random affine map per face with every range a knob: rotation, zoom, shift, shear and mirror.

Source: Simard et al., "Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis", ICDAR
  2003 (affine distortions). What `facex` scales together is apart here. With all four at their most, eyes and mouth
  stay in the picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.space import Choice, Config, Float, Knobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

SPACE: Knobs = {
    "degrees": Float(0.0, 25.0, 14.0, doc="rotation, evenly in ± this"),
    "zoom": Float(0.0, 0.2, 0.15, doc="relative change of size, evenly in ± this"),
    "shift": Float(0.0, 0.15, 0.1, doc="share of the side in each axis, evenly in ± this"),
    "shear": Float(0.0, 0.2, 0.1, doc="tangent of the horizontal shear, evenly in ± this"),
    "flip": Choice((True, False), True, "mirror every second face"),
}


def build(knobs: Config) -> Callable[[Tensor, Generator], Tensor]:
    """One random affine map per face of faces_N1HW; beyond the edge stands the nearest pixel."""
    from facex_tune.augment._affine import Ranges, resample

    degrees, zoom, shift, shear = (float(knobs[name] or 0) for name in ("degrees", "zoom", "shift", "shear"))
    ranges = Ranges(degrees=degrees, zoom=zoom, shift=shift, shear=shear, flip=bool(knobs["flip"]))
    return lambda faces_N1HW, generator: resample(faces_N1HW, ranges, generator)
