"""Decode several pictures: what processes beside an importer do, which therefore load nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from facex_tune.data.boxes import Box, cut
from facex_tune.data.pictures import MAX_DECODED_BYTES, Larger, Picture, decode, decode_whole
from facex_tune.emotions import FaceShape

Asked = tuple["bytes | str", "Box | None"]
"""A picture's file, or why there is none; and where its face is (None: it is cut to a square)."""
Decoded = Picture | str
"""A picture, or why it cannot be read."""


def decode_several(
    asked: Sequence[Asked], face: FaceShape, side: int | None, at_most_bytes: int = MAX_DECODED_BYTES
) -> list[Decoded | None]:
    """Decodes pictures to faces of one shape; None for one whose decoding takes more than `at_most_bytes`.

    Args:
        side: how wide and high each must be, in pixels; None: any size is cut to a square and resized.
    """
    return [data if isinstance(data, str) else _decoded(data, box, face, side, at_most_bytes) for data, box in asked]


def _decoded(
    data: bytes, box: Box | None, face: FaceShape, side: int | None, at_most_bytes: int
) -> Decoded | None:
    try:
        if box is None:
            picture = decode(data, face, at_most_bytes)
        else:
            picture = cut(decode_whole(data, colour=face.is_colour, at_most_bytes=at_most_bytes), box, face.size)
        if side is not None and (picture.width, picture.height) != (side, side):
            raise ValueError(f"{picture.width} x {picture.height} pixels where {side} x {side} are wanted")
    except Larger:
        return None
    except Exception as error:  # a decoder fed damaged bytes raises whatever it likes, SyntaxError included
        return one_line(error)
    return picture


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    if type(error).__name__ == "UnidentifiedImageError":  # its message shows only a memory address
        return "no image of a known format"
    return " ".join(str(error).split()) or type(error).__name__
