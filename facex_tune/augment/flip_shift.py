"""Mirror every second face and shift it by a few whole pixels: the least that small images want.

Source: the CIFAR recipe (pad and crop, flip) of He et al., 2016, here with the nearest pixel as the padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune.emotions import GREY_48
from facex_tune.space import Config, Int, Knobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

SPACE: Knobs = {"pixels": Int(1, 8, 4, doc="largest shift either way, of 48 a side; of larger faces as large a share")}


def build(knobs: Config) -> Callable[[Tensor, Generator], Tensor]:
    """Random shift and mirror per face of faces_NCHW, by index, so that no pixel is interpolated."""
    import torch

    most = int(knobs["pixels"] or 0)

    def flip_shift(faces_NCHW: Tensor, generator: Generator) -> Tensor:
        n, channels, height, width = faces_NCHW.shape
        device, pixels = faces_NCHW.device, max(most, round(most * height / GREY_48.size))
        offset_2N = torch.randint(-pixels, pixels + 1, (2, n), generator=generator, device=device)
        mirrored_N = torch.randint(0, 2, (n,), generator=generator, device=device, dtype=torch.bool)
        rows_NH = (torch.arange(height, device=device) + offset_2N[0, :, None]).clamp(0, height - 1)
        columns_NW = (torch.arange(width, device=device) + offset_2N[1, :, None]).clamp(0, width - 1)
        columns_NW = torch.where(mirrored_N[:, None], columns_NW.flip(1), columns_NW)
        index_N = torch.arange(n, device=device)[:, None, None]
        picked = [faces_NCHW[:, each][index_N, rows_NH[:, :, None], columns_NW[:, None, :]] for each in range(channels)]
        return torch.stack(picked, 1)

    return flip_shift
