"""Faces as a caller has them (arrays, PIL images, files) as the pixels that a model reads: uint8, in the
shape of the faces that it was trained on.

What an array's numbers mean is told from their type and range. What fits no scale is refused: a wrong one would be
answered too, and silently wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.errors import InputError
from facex_tune.inference.predict import read_faces

if TYPE_CHECKING:
    from PIL.Image import Image

SMALLEST = 8  # pixels a side of an array that may be a face
DARKEST = 16  # where no pixel above 1 is as bright as this of 255, the scale is another
_ALLOWED = "give grey faces N x H x W or H x W, or colours N x H x W x 3 or H x W x 3"


def batches(
    images: Any, size: int, face: FaceShape = GREY_48, *, uncropped: bool = False
) -> Iterator[NDArray[np.uint8]]:
    """Gives faces in batches of at most `size`, each read when it is asked for.

    Args:
        face: the shape of the faces that the model takes.
        images: an array (see `of_array`), a PIL image, a path, or an iterable of such single images.
        uncropped: take whole photographs too, of which the middle is read, whatever is there.

    Raises:
        InputError: an image is none, or its pixels fit no scale; those of a batch are told together.
    """
    if _is_array(images):
        faces = of_array(images, face, uncropped=uncropped)
        yield from (faces[start : start + size] for start in range(0, len(faces), size))
        return
    singles = iter([images] if _is_single(images) else _iterable(images))
    before = 0
    while batch := list(islice(singles, size)):
        yield _read(batch, before, face, uncropped)
        before += len(batch)


def of_array(array: Any, face: FaceShape = GREY_48, *, uncropped: bool = False) -> NDArray[np.uint8]:
    """Faces of an array: grey N x H x W or H x W, colours N x H x W x 3, H x W x 3 or, as torch has them, N x 1 or
    3 x H x W. Whole numbers are 0 to 255; floats are 0 to 1 where none is above 1, and else 0 to 255.

    Raises:
        InputError: another shape or type; NaN, infinity, or numbers that fit neither scale.
    """
    values = np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)
    if values.dtype.kind not in "uif":
        raise InputError(f"images: an array of {values.dtype} holds no pixels; give uint8, or floats from 0 to 1")
    values = _as_NHWC(values)
    pixels = _eight_bits(values)
    plain = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    if plain.shape == face.images(len(plain)):
        return plain
    from PIL import Image

    found = [_of_image(Image.fromarray(each), face, uncropped) for each in plain]
    return np.stack(found) if found else np.empty(face.images(0), np.uint8)


def _as_NHWC(values: NDArray[Any]) -> NDArray[Any]:
    shape = values.shape
    if values.ndim == 2:
        values = values[None, ..., None]
    elif values.ndim == 3:
        values = values[None] if shape[-1] in (3, 4) else values[..., None]
    elif values.ndim == 4 and shape[-1] not in (1, 3, 4) and shape[1] in (1, 3):
        values = np.moveaxis(values, 1, -1)
    if values.ndim != 4 or values.shape[-1] not in (1, 3, 4):
        raise InputError(f"images: an array of shape {_by(shape)} is none of faces; {_ALLOWED}")
    if len(values) and min(values.shape[1:3]) < SMALLEST:
        raise InputError(
            f"images: an array of shape {_by(shape)} holds images of {_by(values.shape[1:3])} pixels, too small for a "
            f"face; {_ALLOWED}"
        )
    return values


def _by(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8 or not values.size:
        return values.astype(np.uint8)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        broken = (~np.isfinite(values)).reshape(len(values), -1).any(axis=1)
        raise InputError(f"images: NaN or infinity among the pixels of {int(broken.sum())} of {len(values)} images")
    low, high = float(values.min()), float(values.max())
    is_share = values.dtype.kind == "f" and high <= 1
    if low < 0 or high > 255 or (not is_share and values.dtype.kind == "f" and high < DARKEST):
        raise InputError(
            f"images: pixels from {low:.6g} to {high:.6g} are neither 0 to 1 nor 0 to 255; undo what scaled them"
        )
    scaled: NDArray[np.uint8] = np.rint(values * (255 if is_share else 1)).astype(np.uint8)
    return scaled


def _read(batch: Sequence[Any], before: int, face: FaceShape, uncropped: bool) -> NDArray[np.uint8]:
    """A batch of single images; every problem is told, with its place in what was given."""
    faces: list[NDArray[np.uint8]] = []
    problems: list[str] = []
    for place, image in enumerate(batch, start=before):
        try:
            faces.append(_one(image, face, uncropped))
        except InputError as error:
            problems += [line if line.startswith("IMAGE") else f"image {place}: {line}" for line in error.problems]
    if problems:
        raise InputError(problems)
    return np.stack(faces)


def _one(image: Any, face: FaceShape, uncropped: bool) -> NDArray[np.uint8]:
    if isinstance(image, str | Path):
        (read_HW,) = read_faces([Path(image)], face=face, uncropped=uncropped)
        return np.asarray(read_HW, np.uint8)
    if _is_image(image):
        return _of_image(image, face, uncropped)
    if not _is_array(image):
        raise InputError(f"{type(image).__name__} is no image; give an array, a PIL image or a path")
    found = of_array(image, face, uncropped=uncropped)
    if len(found) != 1:
        raise InputError(f"an array of shape {_by(np.shape(image))} holds {len(found)} images, where one is meant")
    return np.asarray(found[0], np.uint8)


def _of_image(image: Image, face: FaceShape, uncropped: bool) -> NDArray[np.uint8]:
    from facex_tune.data.pictures import fitted, looks_uncropped

    if looks_uncropped(image.width, image.height) and not uncropped:
        raise InputError(
            f"{image.width} x {image.height} pixels look like a whole photograph, and no face is looked for: cut the "
            "face out, or take the middle with uncropped=True"
        )
    try:
        return fitted(image, face)
    except ValueError as error:
        raise InputError(str(error)) from error


def _is_array(said: Any) -> bool:
    """Arrays of numpy, tensors of torch, and what else turns into one; a PIL image does, but knows more."""
    return hasattr(said, "__array__") and not _is_image(said)


def _is_image(said: Any) -> bool:
    return hasattr(said, "getexif") and hasattr(said, "convert")


def _is_single(said: Any) -> bool:
    return isinstance(said, str | Path) or _is_image(said)


def _iterable(said: Any) -> Iterable[Any]:
    if not isinstance(said, Iterable) or isinstance(said, bytes):
        raise InputError(f"images: {type(said).__name__} holds no images; give arrays, PIL images or paths")
    return said
