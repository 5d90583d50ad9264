"""Draw grey faces, 48 x 48 or larger, from numbers: who (identity), what they feel (actions), how they are seen (view).

Only +, -, *, /, abs, clip and rint touch the pixels and every random number comes from one stream of uniforms, so that
a seed gives the same bytes wherever numpy runs. Face coordinates: x to the right and y down, the head about 1.5 x 1.9.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 48
CHUNK = 32  # faces drawn at once: the canvases then stay in the processor's cache

Floats = NDArray[np.float32]

IDENTITY = (
    "width", "height", "skin", "hair", "hairline", "eye_distance", "eye_size", "eye_height", "brow_height",
    "brow_weight", "brow_slope", "nose", "mouth_width", "mouth_height", "mouth_curve", "lips", "beard", "glasses",
)  # fmt: skip
"""What makes a face somebody's, each -1..1."""

ACTIONS = ("brow_raise", "brow_drop", "eye_open", "curve", "mouth_open", "mouth_width", "wrinkle", "teeth", "smirk")
"""What a face does; 0 is rest, 1 a full expression (`brow_drop`: inner ends down, negative: up)."""

VIEW = ("shift_x", "shift_y", "turn", "tilt", "scale", "light_x", "light_y", "brightness", "contrast", "background",
        "blur", "noise", "cover", "cover_x", "cover_y", "cover_width", "cover_height", "cover_tone")  # fmt: skip
"""How a face is seen, each -1..1."""


def uniform(rng: np.random.Generator, *shape: int) -> Floats:
    """Uniform on -1..1."""
    return (2 * rng.random(shape) - 1).astype(np.float32)


def bell(rng: np.random.Generator, *shape: int) -> Floats:
    """Nearly normal, standard deviation 1: the sum of four uniforms (variance 1/3 each)."""
    sum_of_four: NDArray[np.float64] = uniform(rng, *shape, 4).astype(np.float64).sum(axis=-1)
    return (sum_of_four * 0.8660254).astype(np.float32)


def render(
    identity_NK: Floats, actions_NK: Floats, view_NK: Floats, rng: np.random.Generator, side: int = SIDE
) -> NDArray[np.uint8]:
    """N x side x side faces, columns as in `IDENTITY`, `ACTIONS` and `VIEW`; `rng` draws the pixel noise."""
    image_NHW = np.empty((len(identity_NK), side, side), np.uint8)
    for start in range(0, len(image_NHW), CHUNK):
        rows = slice(start, start + CHUNK)
        who, act, view = _Columns(IDENTITY, identity_NK[rows]), _Columns(ACTIONS, actions_NK[rows]), _Columns(
            VIEW, view_NK[rows])  # fmt: skip
        image_NHW[rows] = _photograph(_draw(who, act, view, side), view, rng)
    return image_NHW


class _Columns:
    """Columns of a table by name, shaped N x 1 x 1 to meet the canvas."""

    def __init__(self, names: tuple[str, ...], table_NK: Floats) -> None:
        self._columns = dict(zip(names, table_NK.T[:, :, None, None], strict=True))

    def __getattr__(self, name: str) -> Any:  # an array; Any keeps the drawing readable
        return self._columns[name]


def _soft(inside: Any) -> Any:
    """0..1 coverage from a signed distance (positive inside), the edge about two of 48 pixels wide."""
    return np.minimum(np.maximum(inside * 12 + 0.5, 0), 1)  # np.clip takes twice as long


def _paint(canvas: Any, tone: Any, mask: Any) -> None:
    canvas += mask * (tone - canvas)


def _grid(side: int) -> tuple[Floats, Floats]:
    steps = ((np.arange(side) + 0.5) * 2 / side - 1).astype(np.float32)
    return steps[None, None, :], steps[None, :, None]


def _draw(who: _Columns, act: _Columns, view: _Columns, side: int) -> Any:
    grid_x, grid_y = _grid(side)
    half = 0.18 * view.tilt  # tangent of half the angle: a rotation without sine and cosine, +-20 degrees
    cosine, sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    scale = 1 + 0.15 * view.scale
    shifted_x, shifted_y = grid_x - 0.15 * view.shift_x, grid_y - 0.13 * view.shift_y
    x, y = (cosine * shifted_x + sine * shifted_y) / scale, (cosine * shifted_y - sine * shifted_x) / scale
    skin = 0.58 + 0.24 * who.skin
    canvas = np.broadcast_to(0.45 + 0.4 * view.background + 0.1 * grid_y * who.hair, (len(skin), side, side)).copy()
    _draw_head(canvas, x, y, skin, who)
    x = (x - 0.14 * view.turn) / (1 - 0.1 * abs(view.turn))  # the features follow a turned head
    _draw_eyes(canvas, abs(x), y, skin, who, act)
    _draw_nose(canvas, abs(x), y, skin, who, act)
    _draw_mouth(canvas, x, y, skin, who, act)
    return canvas


def _draw_head(canvas: Any, x: Any, y: Any, skin: Any, who: _Columns) -> None:
    across, down = x / (0.76 + 0.08 * who.width), y / (0.95 + 0.07 * who.height)
    radius2 = across * across + down * down
    _paint(canvas, skin * (1.05 - 0.22 * radius2), _soft((1 - radius2) * 0.5))
    _paint(canvas, skin * 0.65, _soft((1 - radius2) * 0.5) * _soft(y - 0.32) * np.clip(who.beard - 0.4, 0, 0.6))
    hair_edge = -0.62 + 0.14 * who.hairline + 0.35 * x * x
    _paint(canvas, 0.28 + 0.25 * who.hair, _soft(hair_edge - y) * _soft((1.3 - radius2) * 0.5))


def _draw_eyes(canvas: Any, side_x: Any, y: Any, skin: Any, who: _Columns, act: _Columns) -> None:
    """Both at once, by symmetry: `side_x` is the distance from the middle, `dx` grows outwards."""
    dx, dy = side_x - (0.34 + 0.04 * who.eye_distance), y + 0.16 + 0.05 * who.eye_height
    half_width = 0.165 + 0.03 * who.eye_size
    half_height = np.clip(0.075 + 0.02 * who.eye_size + 0.055 * act.eye_open, 0.008, 0.2)
    lid = half_height * (1 - dx * dx / (half_width * half_width))
    lens = _soft(lid - abs(dy))
    _paint(canvas, skin * 0.3 + 0.6, lens)
    _paint(canvas, 0.12, lens * _soft((0.007 - dx * dx - dy * dy) * 6))
    _paint(canvas, skin * 0.4, _soft(0.018 - abs(dy + lid)) * _soft(half_width - abs(dx)))
    _paint(canvas, 0.15, _soft(0.05 - abs(dx * dx + dy * dy - 0.05) * 5) * (who.glasses > 0.8))
    drop = act.brow_drop + 0.3 * who.brow_slope
    brow = -0.2 - 0.03 * who.brow_height - 0.085 * act.brow_raise - 0.42 * drop * dx + 0.06 * drop + 1.2 * dx * dx
    weight = 0.035 + 0.015 * who.brow_weight
    _paint(canvas, 0.16 + 0.2 * who.hair + 0.1 * skin, _soft(weight - abs(dy - brow)) * _soft(0.2 - abs(dx)))
    frown = np.clip(act.brow_drop, 0, 1)  # the upright fold between the brows
    _paint(canvas, skin * 0.55, frown * _soft(0.02 - abs(side_x - 0.06)) * _soft(0.09 - abs(dy + 0.16)))


def _draw_nose(canvas: Any, side_x: Any, y: Any, skin: Any, who: _Columns, act: _Columns) -> None:
    length = 0.22 + 0.05 * who.nose
    _paint(canvas, skin * 0.78, 0.7 * _soft(0.02 - abs(side_x - 0.075)) * _soft(0.2 - abs(y - length + 0.2)))
    nostril = (side_x - 0.085) * (side_x - 0.085) + (y - length) * (y - length)
    _paint(canvas, skin * 0.35, _soft((0.0018 - nostril) * 10))
    wrinkle = np.clip(act.wrinkle, 0, 1.2)
    ripple = abs((y + 0.3) * 9 % 2 - 1)  # two folds across the bridge
    _paint(canvas, skin * 0.5, wrinkle * ripple * _soft(0.15 - side_x) * _soft(0.13 - abs(y + 0.03)))
    fold = side_x - 0.2 - 0.55 * (y - 0.25)  # from the nostril to the corner of the mouth
    depth = np.clip(0.75 * wrinkle + 0.55 * np.clip(act.curve, 0, 1), 0, 1)
    _paint(canvas, skin * 0.55, depth * _soft(0.02 - abs(fold)) * _soft(0.17 - abs(y - 0.33)))


def _draw_mouth(canvas: Any, x: Any, y: Any, skin: Any, who: _Columns, act: _Columns) -> None:
    half_width = 0.29 + 0.04 * who.mouth_width + 0.095 * act.mouth_width
    along = x / half_width
    bend = act.curve + 0.3 * who.mouth_curve
    corner = np.clip(along, 0, 1.2)
    middle = 0.5 + 0.04 * who.mouth_height - 0.04 * act.wrinkle + 0.05 * np.clip(act.mouth_open, 0, 1)
    dy = y - middle - bend * (0.06 - 0.15 * along * along) + 0.17 * act.smirk * corner * corner
    arch = np.clip(1 - along * along, 0, 1)
    gap = np.clip(act.mouth_open, 0, 1.4) * 0.17 * arch
    lips = (0.05 + 0.015 * who.lips) * (0.4 + 0.6 * arch)
    ends = _soft((1 - abs(along)) * half_width)
    _paint(canvas, skin * 0.62, _soft(lips + gap - abs(dy)) * ends)
    _paint(canvas, skin * 0.25, _soft(gap + 0.012 - abs(dy)) * ends)
    _paint(canvas, 0.9, np.clip(act.teeth, 0, 1) * _soft(gap - abs(dy)) * _soft(0.2 * gap - dy) * ends * (gap > 0.02))


def _photograph(canvas: Any, view: _Columns, rng: np.random.Generator) -> Any:
    grid_x, grid_y = _grid(canvas.shape[1])
    outside = np.maximum(
        abs(grid_x - view.cover_x) - 0.25 - 0.15 * view.cover_width,
        abs(grid_y - view.cover_y) - 0.25 - 0.15 * view.cover_height,
    )
    _paint(canvas, 0.5 + 0.4 * view.cover_tone, _soft(-outside) * (view.cover > 0.5))  # a hand, a cup, a caption
    canvas *= 1 + 0.4 * view.light_x * grid_x + 0.3 * view.light_y * grid_y
    canvas = 0.5 + (canvas - 0.5) * (0.8 + 0.35 * view.contrast) + 0.14 * view.brightness
    _blur(canvas, np.clip(0.35 + 0.65 * view.blur, 0, 1))
    speck = rng.random(canvas.shape, np.float32) + rng.random(canvas.shape, np.float32) - 1
    canvas += 0.06 * (1 + view.noise) * speck
    return np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)


def _blur(canvas: Any, amount: Any) -> None:
    """Mix each inner pixel with its neighbours, across and then down (1-2-1 where the amount is 1)."""
    for before, here, after in (
        (np.s_[:, :, :-2], np.s_[:, :, 1:-1], np.s_[:, :, 2:]),
        (np.s_[:, :-2], np.s_[:, 1:-1], np.s_[:, 2:]),
    ):
        canvas[here] += amount * (0.25 * (canvas[before] + canvas[after]) - 0.5 * canvas[here])
