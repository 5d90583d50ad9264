"""The operations of AutoAugment's family on a batch of small faces, each face by its own operation.

Every face passes through one affine map and one chain of pixel operations whose parameters say which of them it
feels, so that no operation needs the faces that drew it gathered, and the device never waits. Faces in colour feel the
same operations as grey ones: each channel alike, contrast away from the mean luminance, autocontrast channel by
channel, as Pillow does; hue and saturation stay as they are. Solarize, invert and cutting are left out since they make
faces unreadable, and equalize since autocontrast and contrast stand for it.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

OPERATIONS = (
    *("identity", "rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
    *("brightness", "contrast", "sharpness", "posterize", "autocontrast"),
)
# At magnitude 1. Cubuk et al. turn by 30°, shear by .3, blend by .9 and take 4 bits off; TrivialAugment turns by 135°,
# at which a face is none. Pale and dark faces lose eyes or mouth to blends and bits beyond these, as sheets of them
# show; a fifth of a side stays within the picture.
MOST = {"rotate": math.radians(30), "shear": 0.3, "translate": 0.2, "brightness": 0.4, "blend": 0.5, "bits": 3.0}


def apply(faces_N1HW: Tensor, operation_N: Tensor, magnitude_N: Tensor) -> Tensor:
    """Each face by its operation (an index into `OPERATIONS`) at its magnitude in [-1.25, 1.25]; pixels stay in [0, 1].

    Posterize takes the magnitude without its sign, autocontrast and identity take none.
    """
    moved = _move(faces_N1HW, operation_N, magnitude_N)
    return _tone(moved, operation_N, magnitude_N).clamp(0, 1)


def draw(n: int, generator: Generator, device: torch.device) -> Tensor:
    """operation_N, evenly over `OPERATIONS`."""
    return torch.randint(len(OPERATIONS), (n,), generator=generator, device=device)


def draw_different(n: int, count: int, generator: Generator, device: torch.device) -> Tensor:
    """operation_KN, `count` different ones for each face, evenly over `OPERATIONS`."""
    return torch.rand(len(OPERATIONS), n, generator=generator, device=device).argsort(0)[:count]


def signs(n: int, generator: Generator, device: torch.device) -> Tensor:
    """-1 or 1 for each face, evenly."""
    return torch.randint(0, 2, (n,), generator=generator, device=device) * 2.0 - 1


def mirror(faces_N1HW: Tensor, generator: Generator) -> Tensor:
    """Every second face mirrored, at random."""
    mirrored_N = torch.rand(len(faces_N1HW), generator=generator, device=faces_N1HW.device) < 0.5
    return torch.where(_per_face(mirrored_N), faces_N1HW.flip(3), faces_N1HW)


def _is(operation_N: Tensor, name: str) -> Tensor:
    return operation_N == OPERATIONS.index(name)


def _per_face(values_N: Tensor) -> Tensor:
    return values_N[:, None, None, None]


def _move(faces_N1HW: Tensor, operation_N: Tensor, magnitude_N: Tensor) -> Tensor:
    """Rotation, shears and shifts, in one resampling; the others' faces pass untouched."""

    def felt(name: str) -> Tensor:
        return torch.where(_is(operation_N, name), magnitude_N, 0.0) * MOST[name.partition("_")[0]]

    angle_N = felt("rotate")
    cos_N, sin_N = angle_N.cos(), angle_N.sin()
    row_x_N3 = torch.stack((cos_N, felt("shear_x") - sin_N, 2 * felt("translate_x")), 1)
    row_y_N3 = torch.stack((felt("shear_y") + sin_N, cos_N, 2 * felt("translate_y")), 1)
    theta_N23 = torch.stack((row_x_N3, row_y_N3), 1).to(faces_N1HW.dtype)
    grid_NHW2 = functional.affine_grid(theta_N23, list(faces_N1HW.shape), align_corners=False)
    moved = functional.grid_sample(faces_N1HW, grid_NHW2, padding_mode="border", align_corners=False)
    first, last = OPERATIONS.index("rotate"), OPERATIONS.index("translate_y")
    return torch.where(_per_face((operation_N >= first) & (operation_N <= last)), moved, faces_N1HW)


def _tone(faces_N1HW: Tensor, operation_N: Tensor, magnitude_N: Tensor) -> Tensor:
    """Brightness, contrast and sharpness as blends away from black, from the mean and from a blurred face; posterize;
    autocontrast.
    """
    is_contrast, is_sharpness = _per_face(_is(operation_N, "contrast")), _per_face(_is(operation_N, "sharpness"))
    away = torch.where(is_contrast, _luminance(faces_N1HW).mean((2, 3), keepdim=True), torch.zeros_like(faces_N1HW))
    away = torch.where(is_sharpness, _blurred(faces_N1HW), away)
    is_brightness = _per_face(_is(operation_N, "brightness"))
    most = torch.where(is_brightness, MOST["brightness"], MOST["blend"])
    blended = away + (faces_N1HW - away) * (1 + _per_face(magnitude_N) * most)
    toned = torch.where(is_contrast | is_sharpness | is_brightness, blended, faces_N1HW)
    toned = torch.where(_per_face(_is(operation_N, "posterize")), _posterized(faces_N1HW, magnitude_N), toned)
    return torch.where(_per_face(_is(operation_N, "autocontrast")), _stretched(faces_N1HW), toned)


def _blurred(faces_N1HW: Tensor) -> Tensor:
    """By the 3×3 kernel that libraries sharpen with: 1 around, 5 in the middle."""
    channels = faces_N1HW.shape[1]
    kernel = torch.ones(channels, 1, 3, 3, device=faces_N1HW.device, dtype=faces_N1HW.dtype)
    kernel[:, :, 1, 1] = 5
    padded = functional.pad(faces_N1HW, (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(padded, kernel / 13, groups=channels)


def _luminance(faces_N1HW: Tensor) -> Tensor:
    """luminance_N1HW (ITU-R 601) of faces in colour; grey ones as they are."""
    if faces_N1HW.shape[1] == 1:
        return faces_N1HW
    red, green, blue = faces_N1HW.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]


def _posterized(faces_N1HW: Tensor, magnitude_N: Tensor) -> Tensor:
    step_N111 = _per_face(2 ** (magnitude_N.abs() * MOST["bits"]).round())
    levels = (faces_N1HW * 255).round()  # 7/255 · 255 may be a little below 7
    return (levels / step_N111).floor() * step_N111 / 255


def _stretched(faces_N1HW: Tensor) -> Tensor:
    """From black to white; a face of one grey stays."""
    low, high = faces_N1HW.amin((2, 3), keepdim=True), faces_N1HW.amax((2, 3), keepdim=True)
    return torch.where(high > low, (faces_N1HW - low) / (high - low).clamp(min=1e-6), faces_N1HW)
