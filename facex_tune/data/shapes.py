"""Faces of one shape as faces of another: smaller or larger, grey or in colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facex_tune.emotions import GREY_48, FaceShape

_ALL_BUT_GREY = 4  # of 255: by how much the channels of a grey picture differ after a JPEG
_AT_ONCE = 1024


def reshaped(images_NHW: NDArray[np.uint8], face: FaceShape) -> NDArray[np.uint8]:
    """Images N x H x W (x 3) in another shape: colours as luminance (ITU-R 601), grey in three equal channels, resized
    antialiased, as `pictures.decode` resizes. Those of that shape are given back as they are.
    """
    own = FaceShape.of_array(images_NHW.shape)
    if own == face:
        return images_NHW
    from PIL import Image

    made = np.empty(face.images(len(images_NHW)), np.uint8)
    mode, size = "RGB" if face.is_colour else "L", (face.size, face.size)
    for row, image in enumerate(images_NHW):
        picture = Image.fromarray(np.ascontiguousarray(image)).convert(mode)
        made[row] = np.asarray(picture if own.size == face.size else picture.resize(size, Image.Resampling.LANCZOS))
    return made


def to_compare(images_NHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """48×48 grey faces, in which copies and likenesses are looked for whatever the shape."""
    return reshaped(images_NHW, GREY_48)


def coloured(images_NHW: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """coloured_N: which images have colours, rather than three channels that are (nearly) equal."""
    if images_NHW.ndim == 3:
        return np.zeros(len(images_NHW), np.bool_)
    blocks = [images_NHW[start : start + _AT_ONCE] for start in range(0, len(images_NHW), _AT_ONCE)]
    found = [(block.max(axis=3) - block.min(axis=3)).max(axis=(1, 2)) > _ALL_BUT_GREY for block in blocks]
    return np.concatenate([np.zeros(0, np.bool_), *found])


def told_conversion(of: FaceShape, to: FaceShape) -> str:
    """What becomes of faces of one shape that a model of another answers; "" where they are alike."""
    told = []
    if of.size != to.size:
        told.append(f"{'enlarged' if of.size < to.size else 'reduced'} from {of.size}×{of.size} to {to.size}×{to.size}")
    if of.channels != to.channels:
        told.append("their grey in three channels" if to.is_colour else "their colours as grey")
    return ", ".join(told)
