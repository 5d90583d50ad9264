"""Find near duplicates: re-encoded, brightened, shifted by up to two pixels, mirrored.

Two steps, as in any copy detection at scale: a small descriptor proposes, the pixels decide. The descriptor is the
blurred face at 8 x 8, zero mean and unit norm, so that brightness and contrast fall out and the product of two is
their correlation. Each face asks with itself and with four diagonal shifts of one pixel, which leaves at most one pixel
in each direction to any shift of up to two. A pair stands if the normalised cross-correlation (NCC) of its pixels, over
all shifts of up to two pixels, reaches `SAME`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import thread_time
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.shapes import to_compare
from facex_tune.emotions import GREY_48
from facex_tune.storage import patience

SIDE = GREY_48.size  # to which faces of other sizes are reduced here, and colours to grey
Floats = NDArray[np.float32]
Images = NDArray[np.uint8]
_T = TypeVar("_T")
Progress = Callable[[int, int], None]

REACH = 2  # pixels of shift
SAME = 0.97  # NCC from which on two faces count as one picture; below it FER2013 has people who only look alike
_ALIKE = 0.91  # correlation of descriptors from which on the pixels are compared
_GRID = 8
_MARGIN = REACH + 1  # pixels: the asking shift of one comes on top
_BLUR = 2.0  # pixels
_ASKING_SHIFTS = ((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
_BLOCK = 2048  # faces whose spread is looked at at a time
_DESCRIBED = 256  # that are described at a time
_ASKING = 8192  # whose descriptors of every way of asking are held at once, 2.5 kB a face
_HEAD = 23  # of the 64 numbers of a descriptor, turned to their main axes, that are compared first
_CACHED = 512  # faces: a block of products takes 1 MB, which stays in a core's cache; more of them wait for Python
_THREADS = 2  # more would only wait for memory
_PAIRS_AT_ONCE = 128
_ROUNDING = 1e-4  # NCC this near to SAME is computed again in double precision: groups are alike on every machine
_ONCE = (
    "comparing the faces of its sets is what takes long, and is done once: run `facex-tune run STUDY --dry-run` where "
    "the data lies, then send the study again"
)
_FLAT = 1.0  # standard deviation: below it there is nothing to compare


@dataclass(frozen=True)
class Pairs:
    """P pairs of faces: rows of one set and of another (or first_P < second_P, of one set).

    ncc_P is their likeness, mirrored_P whether one is turned left to right.
    """

    first_P: NDArray[np.int64]
    second_P: NDArray[np.int64]
    mirrored_P: NDArray[np.bool_]
    ncc_P: Floats

    def __len__(self) -> int:
        return len(self.first_P)


def _silent(done: int, total: int) -> None:
    """Nobody watches."""


def blank(images_NHW: Images) -> NDArray[np.bool_]:
    """Which images show next to nothing: a standard deviation of pixels, of every colour, under 1."""
    spread_N = [np.std(images_NHW[rows], axis=(1, 2)) for rows in _blocks(len(images_NHW))]
    flat_N = [(each if each.ndim == 1 else each.max(axis=1)) < _FLAT for each in spread_N]
    return np.concatenate([np.zeros(0, np.bool_), *flat_N])


def near_pairs(images_NHW: Images, progress: Progress = _silent) -> Pairs:
    """Every pair of images that is one picture, plain or mirrored, except pairs with a blank image.

    Equal images are pairs too. About N^2 / 2 products of 24 numbers, ten times; memory some 100 MB beside the images.
    `progress` hears (done, total) in passes over the set.
    """
    return _search(images_NHW, images_NHW, progress, within=True)


def near_between(images_NHW: Images, other_NHW: Images, progress: Progress = _silent) -> Pairs:
    """As `near_pairs`, but the pairs of an image of one set with one of another: N times M products, ten times."""
    return _search(images_NHW, other_NHW, progress, within=False)


def _search(asking_NHW: Images, asked_NHW: Images, progress: Progress, *, within: bool) -> Pairs:
    asked_NHW = to_compare(asked_NHW)
    asking_NHW = asked_NHW if within else to_compare(asking_NHW)
    asked_rows_M = np.flatnonzero(~blank(asked_NHW))
    asking_rows_N = asked_rows_M if within else np.flatnonzero(~blank(asking_NHW))
    plain = _smoothing_ways([(False, (0, 0))])
    asked = _Asked.of(_descriptors(asked_NHW, asked_rows_M, plain)[0])
    asks = [(mirrored, shift) for mirrored in (False, True) for shift in _ASKING_SHIFTS]
    ways, found = _smoothing_ways(asks), []
    total = len(asks) * -(-len(asking_rows_N) // _ASKING) + 1
    done = 0
    for block in _blocks(len(asking_rows_N), _ASKING):
        for (mirrored, _), asking_BD in zip(asks, _descriptors(asking_NHW, asking_rows_N[block], ways), strict=True):
            first_P, second_P = _alike(asking_BD, asked, block.start if within else None)
            found.append(_codes(first_P + block.start, second_P, mirrored, len(asked_rows_M)))
            done += 1
            progress(done, total)
    codes_P = np.unique(np.concatenate([np.empty(0, np.int64), *found]))
    pairs = _verified(asking_NHW, asking_rows_N, asked_NHW, asked_rows_M, codes_P)
    progress(total, total)
    return pairs


def _blocks(n: int, step: int = _BLOCK) -> Iterator[slice]:
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _smoothing_ways(asks: list[tuple[bool, tuple[int, int]]]) -> list[tuple[Floats, Floats]]:
    """(rows_GH, columns_WG) that make the descriptor of an image from both sides, for each way of asking: mirrored or
    not, and then shifted."""
    return [
        (_smoothing(down), _smoothing(right).T[:: -1 if mirrored else 1].copy()) for mirrored, (down, right) in asks
    ]


def _descriptors(images_NHW: Images, rows_M: NDArray[np.int64], ways: list[tuple[Floats, Floats]]) -> list[Floats]:
    """descriptors_MD of the images at rows_M, for each way."""
    found = [np.empty((len(rows_M), _GRID * _GRID), np.float32) for _ in ways]
    for block in _blocks(len(rows_M), _DESCRIBED):
        images_BHW = images_NHW[rows_M[block]].astype(np.float32)
        for made_MD, (rows_GH, columns_WG) in zip(found, ways, strict=True):
            flat_BD = (rows_GH @ images_BHW @ columns_WG).reshape(len(images_BHW), -1)
            flat_BD -= flat_BD.mean(axis=1, keepdims=True)
            made_MD[block] = flat_BD / (np.linalg.norm(flat_BD, axis=1, keepdims=True) + 1e-6)
    return found


def _smoothing(shift: int) -> Floats:
    """weights_GH: a Gaussian around each of the grid's centres, moved by `shift` pixels; each row sums to one.

    The grid leaves the margin out, which a shifted copy filled with something else.
    """
    side = SIDE - 2 * _MARGIN
    centre_G = (np.arange(_GRID) + 0.5) * side / _GRID - 0.5 + _MARGIN + shift
    pixel_H = np.arange(SIDE)
    weight_GH = np.exp(-((pixel_H - centre_G[:, None]) ** 2) / (2 * _BLUR**2))
    weight_GH[:, (pixel_H < _MARGIN + shift) | (pixel_H >= _MARGIN + shift + side)] = 0
    weights_GH: Floats = (weight_GH / weight_GH.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights_GH


@dataclass(frozen=True)
class _Asked:
    """Descriptors that are asked, and what tells of most pairs without the whole product that they are unlike.

    Of two descriptors, turned to their main axes, the product is that of their heads and that of their tails, and the
    latter is at most the product of the tails' lengths. A head with its tail's length behind it therefore has a product
    that is never less than the whole, at two fifths of the multiplications.

    Attributes:
        whole_MD: the descriptors.
        axes_DK: the main axes, those of the largest moments of the descriptors that are asked.
        head_MK: heads with lengths of tails.
    """

    whole_MD: Floats
    axes_DK: Floats
    head_MK: Floats

    @classmethod
    def of(cls, whole_MD: Floats) -> _Asked:
        axes_DD = np.linalg.eigh(whole_MD.T.astype(np.float64) @ whole_MD)[1]
        axes_DK = np.ascontiguousarray(axes_DD[:, -_HEAD:], np.float32)
        return cls(whole_MD, axes_DK, _heads(whole_MD, axes_DK))


def _heads(whole_ND: Floats, axes_DK: Floats) -> Floats:
    head_NK = whole_ND @ axes_DK
    tail_N = np.sqrt(np.maximum(1 - np.square(head_NK).sum(axis=1), 0))  # no descriptor is longer than 1
    return np.column_stack([head_NK, tail_N])


def _alike(asking_ND: Floats, asked: _Asked, start: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs whose descriptors correlate, block by block.

    Blocks that stay in a core's cache, each on one thread of ours, and none of the library's, which would wait for each
    other at every block.

    Args:
        start: within one set, the row of it that asks first: only pairs with first_P < second_P then.
    """
    from threadpoolctl import threadpool_limits

    head_NK = _heads(asking_ND, asked.axes_DK)

    def in_rows(rows: slice) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        head_BK, found = head_NK[rows], []
        products = np.empty(len(head_BK) * _CACHED, np.float32)
        for columns in _blocks(len(asked.head_MK), _CACHED):
            if start is not None and columns.stop <= start + rows.start:
                continue
            asked_BK = asked.head_MK[columns]
            room_BB = products[: len(head_BK) * len(asked_BK)].reshape(len(head_BK), -1)
            product_BB = np.matmul(head_BK, asked_BK.T, out=room_BB)
            if product_BB.max() < _ALIKE - _ROUNDING:
                continue
            at_P = np.flatnonzero(product_BB.reshape(-1) >= _ALIKE - _ROUNDING)  # `nonzero` takes as long as the rest
            first_P, second_P = np.divmod(at_P, product_BB.shape[1])
            first_P, second_P = first_P + rows.start, second_P + columns.start
            is_kept_P = np.einsum("pd,pd->p", asking_ND[first_P], asked.whole_MD[second_P]) >= _ALIKE
            if start is not None:
                is_kept_P &= start + first_P < second_P
            found.append((first_P[is_kept_P], second_P[is_kept_P]))
        return found

    found = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    with threadpool_limits(1, "blas"):
        for several in _threaded(in_rows, _blocks(len(asking_ND), _CACHED)):
            found += several
    firsts, seconds = zip(*found, strict=True)
    return np.concatenate(firsts), np.concatenate(seconds)


def _threaded(work: Callable[[slice], _T], blocks: Iterator[slice]) -> Iterator[_T]:
    """What some threads make of blocks, in their order: numpy leaves the interpreter to others while it works.

    Raises:
        InputError: whoever asked has no patience for it.
    """

    def timed(block: slice) -> tuple[_T, float]:
        began_s = thread_time()
        return work(block), thread_time() - began_s

    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for made, seconds in pool.map(timed, blocks):
                patience.go_on("data", _ONCE, seconds)
                yield made
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _codes(first_P: NDArray[np.int64], second_P: NDArray[np.int64], mirrored: bool, m: int) -> NDArray[np.int64]:
    """One number for a pair and its kind, so that what several passes found is compared once."""
    return (first_P * m + second_P) * 2 + mirrored


def _verified(
    asking_NHW: Images,
    asking_rows_N: NDArray[np.int64],
    asked_NHW: Images,
    asked_rows_M: NDArray[np.int64],
    codes_P: NDArray[np.int64],
) -> Pairs:
    """The proposed pairs whose pixels agree."""

    def agree(block: slice) -> tuple[NDArray[Any], ...]:
        pair_B, mirrored_B = codes_P[block] // 2, (codes_P[block] % 2).astype(np.bool_)
        first_B, second_B = asking_rows_N[pair_B // len(asked_rows_M)], asked_rows_M[pair_B % len(asked_rows_M)]
        moving_BHW, still_BHW = asking_NHW[first_B], asked_NHW[second_B]
        moving_BHW[mirrored_B] = moving_BHW[mirrored_B][:, :, ::-1]
        ncc_B = _best_ncc(moving_BHW, still_BHW)
        close_B = np.abs(ncc_B - SAME) < _ROUNDING
        ncc_B[close_B] = _best_ncc(moving_BHW[close_B], still_BHW[close_B], np.float64)
        same_B = ncc_B >= SAME
        return first_B[same_B], second_B[same_B], mirrored_B[same_B], ncc_B[same_B]

    kept = list(_threaded(agree, _blocks(len(codes_P), _PAIRS_AT_ONCE)))
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_), np.empty(0, np.float32))
    first_P, second_P, mirrored_P, ncc_P = (np.concatenate(parts) for parts in zip(empty, *kept, strict=True))
    return Pairs(first_P, second_P, mirrored_P, ncc_P)


def _best_ncc(
    moving_images_BHW: Images, still_images_BHW: Images, dtype: type[np.float32] | type[np.float64] = np.float32
) -> NDArray[Any]:
    """The highest NCC of the middle of `still` with any window of `moving` within `REACH` pixels, lightly smoothed."""
    moving_BHW: Any = _smoothed(moving_images_BHW).astype(dtype)
    still_BHW: Any = _smoothed(still_images_BHW).astype(dtype)
    side = SIDE - 2 * REACH - 2  # smoothing took one pixel from each side
    middle_BHW: Any = _standardised(still_BHW[:, REACH:-REACH, REACH:-REACH]).reshape(-1, side, side)
    moving_BHW -= moving_BHW.mean(axis=(1, 2), keepdims=True)  # or the squares would lose what they differ by
    norm_BSS = _norms(moving_BHW, side)
    best_B = np.full(len(still_BHW), -1, dtype)
    for down in range(2 * REACH + 1):
        for right in range(2 * REACH + 1):
            window_BHW = moving_BHW[:, down : down + side, right : right + side]
            # the middle has zero mean, so that the window's own falls out of the product
            product_B = np.einsum("bhw,bhw->b", middle_BHW, window_BHW) / norm_BSS[:, down, right]
            np.maximum(best_B, product_B.astype(dtype), out=best_B)
    return best_B


def _norms(images_BHW: NDArray[Any], side: int) -> NDArray[np.float64]:
    """norm_BSS of each window of side x side less its own mean, by where it begins."""
    sums_BSS, squares_BSS = (_window_sums(each, side) for each in (images_BHW, np.square(images_BHW)))
    spread_BSS = squares_BSS - np.square(sums_BSS) / side**2
    norms_BSS: NDArray[np.float64] = np.sqrt(np.maximum(spread_BSS, 0)) + 1e-6
    return norms_BSS


def _window_sums(images_BHW: NDArray[Any], side: int) -> NDArray[np.float64]:
    """Sums over each window, by where it begins: down its columns first, then across them."""
    steps = images_BHW.shape[1] - side + 1
    columns_BSW = np.stack([images_BHW[:, at : at + side].sum(axis=1, dtype=np.float64) for at in range(steps)], axis=1)
    rows = [columns_BSW[:, :, at : at + side].sum(axis=2) for at in range(steps)]
    return np.stack(rows, axis=2)


def _smoothed(images_BHW: Images) -> Floats:
    """Without the grain that JPEG changes: each inner pixel with its eight neighbours, weighted 1 2 1 both ways."""
    pixels_BHW = images_BHW.astype(np.float32)
    rows_BHW = pixels_BHW[:, :-2] + 2 * pixels_BHW[:, 1:-1] + pixels_BHW[:, 2:]
    smooth_BHW: Floats = rows_BHW[:, :, :-2] + 2 * rows_BHW[:, :, 1:-1] + rows_BHW[:, :, 2:]
    return smooth_BHW


def _standardised(images_BHW: NDArray[Any]) -> NDArray[Any]:
    """Pixels as rows of zero mean and unit norm."""
    flat_BP: NDArray[Any] = images_BHW.reshape(len(images_BHW), images_BHW.shape[1] * images_BHW.shape[2]).copy()
    flat_BP -= flat_BP.mean(axis=1, keepdims=True)
    flat_BP /= np.sqrt(np.einsum("bp,bp->b", flat_BP, flat_BP))[:, None] + 1e-6
    return flat_BP
