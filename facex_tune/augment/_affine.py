"""Random affine maps, one per face, resampled once: what several policies are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Ranges:
    """How far a random affine map may go, each drawn evenly in ± its value.

    Attributes:
        degrees: rotation.
        zoom: relative change of scale.
        shift: share of the width and of the height.
        shear: tangent of the horizontal shear.
        flip: mirror every second face, at random.
    """

    degrees: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    flip: bool = True


def resample(faces_N1HW: Tensor, ranges: Ranges, generator: Generator) -> Tensor:
    """Every face by its own random map; bilinear, the nearest pixel beyond the edge. The generator lives on the
    faces' device.
    """
    theta_N23 = random_maps(len(faces_N1HW), ranges, generator, faces_N1HW.device).to(faces_N1HW.dtype)
    grid_NHW2 = torch.nn.functional.affine_grid(theta_N23, list(faces_N1HW.shape), align_corners=False)
    return torch.nn.functional.grid_sample(faces_N1HW, grid_NHW2, padding_mode="border", align_corners=False)


def random_maps(n: int, ranges: Ranges, generator: Generator, device: torch.device) -> Tensor:
    """theta_N23 from output to input coordinates in [-1, 1]: rotation · shear · scale (and mirror), then the shift."""
    uniform_5N = torch.rand(5, n, generator=generator, device=device) * 2 - 1
    angle_N = uniform_5N[0] * math.radians(ranges.degrees)
    scale_N = 1 + uniform_5N[1] * ranges.zoom
    shift_N2 = uniform_5N[2:4].T * (2 * ranges.shift)
    shear_N = uniform_5N[4] * ranges.shear
    mirror_N = torch.ones(n, device=device)
    if ranges.flip:
        mirror_N = torch.where(torch.rand(n, generator=generator, device=device) < 0.5, -1.0, 1.0)
    cos_N, sin_N = angle_N.cos(), angle_N.sin()
    column_x_N2 = torch.stack((cos_N, sin_N), 1) * (scale_N * mirror_N)[:, None]
    column_y_N2 = torch.stack((shear_N * cos_N - sin_N, shear_N * sin_N + cos_N), 1) * scale_N[:, None]
    return torch.stack((column_x_N2, column_y_N2, shift_N2), 2)
