"""Faces cut out of whole photographs by the boxes that a set publishes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from facex_tune.data.pictures import Picture

_LEAST_INSIDE = 0.5  # of a box's area: what lies further outside is a box of another picture, or of another size


class Box(NamedTuple):
    """A rectangle in pixels of the picture as it is seen; right and bottom are the first beyond it."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def widened(self, share: float) -> Box:
        """With a margin of that share of its width and height on each side."""
        across, down = share * (self.right - self.left), share * (self.bottom - self.top)
        return Box(self.left - across, self.top - down, self.right + across, self.bottom + down)


def cut(picture: Picture, box: Box, size: int) -> Picture:
    """The face in a box, size x size, its width and height those of the part that was cut out.

    The box's shorter side is made as long as the longer one, as far as the picture goes, so that nothing of the face is
    lost; what is still no square is cut to its middle one.

    Args:
        picture: as large as its file.

    Raises:
        ValueError: the box is empty, or more than half of it lies outside the picture.
    """
    from PIL import Image, ImageOps

    inside = Box(max(0, box.left), max(0, box.top), min(picture.width, box.right), min(picture.height, box.bottom))
    if not box.area or inside.area < _LEAST_INSIDE * box.area:
        corners = ", ".join(f"{corner:g}" for corner in box)
        raise ValueError(f"box ({corners}) does not lie in the picture of {picture.width} x {picture.height} pixels")
    left, right = _stretched(inside.left, inside.right, inside.bottom - inside.top, picture.width)
    top, bottom = _stretched(inside.top, inside.bottom, inside.right - inside.left, picture.height)
    face = Image.fromarray(picture.image_HW[top:bottom, left:right])
    width, height = face.size
    if face.size != (size, size):
        face = ImageOps.fit(face, (size, size), Image.Resampling.LANCZOS)
    return Picture(np.asarray(face), width, height, picture.animated)


def _stretched(start: float, end: float, length: float, limit: int) -> tuple[int, int]:
    """Whole pixels from start to end, made at least as long as `length` around their middle, within 0 and `limit`."""
    more = max(0.0, length - (end - start)) / 2
    start, end = start - more, end + more
    shift = max(0.0, -start) - max(0.0, end - limit) if end - start <= limit else 0.0
    first = max(0, round(start + shift))
    return first, max(first + 1, min(limit, round(end + shift)))
