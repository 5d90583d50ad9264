"""A few random operations per face in a row, all at one strength.

Source: Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", NeurIPS 2020,
  with operations and ranges adapted to small grey faces (`augment/_operations.py` says which), after a mirror. No
  operation comes twice on a face: two shifts one way take the mouth away, two blends leave a face white or black; and
  three at full strength leave too little of some.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.space import Choice, Config, Float, Int, Knobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

SPACE: Knobs = {
    "operations": Int(1, 2, 2, doc="how many in a row"),
    "magnitude": Float(0.1, 0.8, 0.5, doc="share of every operation's range; its sign is random"),
    "flip": Choice((True, False), True, "mirror every second face"),
}


def build(knobs: Config) -> Callable[[Tensor, Generator], Tensor]:
    """Operations drawn without replacement for each face of faces_N1HW."""
    from facex_tune.augment import _operations

    count, magnitude, flip = int(knobs["operations"] or 0), float(knobs["magnitude"] or 0), bool(knobs["flip"])

    def randaugment(faces_N1HW: Tensor, generator: Generator) -> Tensor:
        n, device = len(faces_N1HW), faces_N1HW.device
        made = _operations.mirror(faces_N1HW, generator) if flip else faces_N1HW
        for operation_N in _operations.draw_different(n, count, generator, device):
            made = _operations.apply(made, operation_N, magnitude * _operations.signs(n, generator, device))
        return made

    return randaugment
