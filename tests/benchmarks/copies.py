"""How many planted copies of real faces the search for copies finds, and a sheet of what it flags, to look at.

`make bench-copies DATA=/folder/with/fer2013_rows.npz OUT=/folder/outside/the/repository`: the sheet shows real faces.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facex_tune.data import near, sheets

Images = NDArray[np.uint8]
Change = Callable[[Images], Images]
SHEET = 150  # pairs


def jpeg(quality: int) -> Change:
    def change(image_HW: Images) -> Images:
        buffer = io.BytesIO()
        Image.fromarray(image_HW).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer))

    return change


def gain(factor: float) -> Change:
    return lambda image_HW: np.clip(np.rint(image_HW * factor), 0, 255).astype(np.uint8)


def offset(levels: int) -> Change:
    return lambda image_HW: np.clip(image_HW.astype(int) + levels, 0, 255).astype(np.uint8)


def shift(down: int, right: int, fill: str) -> Change:
    """Moved; what comes in is black, or the border repeated."""

    def change(image_HW: Images) -> Images:
        padded = np.pad(image_HW, 2, "edge") if fill == "edge" else np.pad(image_HW, 2)
        return padded[2 - down : 50 - down, 2 - right : 50 - right]

    return change


def changes() -> Iterator[tuple[str, Change]]:
    yield "exact", lambda image_HW: image_HW
    yield from ((f"JPEG quality {quality}", jpeg(quality)) for quality in (60, 70, 80, 90, 95))
    yield from ((f"brightness x {factor}", gain(factor)) for factor in (0.85, 0.925, 1.075, 1.15))
    yield from ((f"brightness {levels:+} levels", offset(levels)) for levels in (-38, 38))
    yield from (
        (f"shift {down:+} {right:+}, {fill}", shift(down, right, fill))
        for fill in ("black", "edge")
        for down, right in ((0, 1), (1, 1), (2, 0), (0, -2), (-1, 2), (2, 2), (-2, 2))
    )


def recall(originals_NHW: Images, change: Change, *, mirrored: bool) -> float:
    """Share of originals whose changed copy is paired with them. A pair is found or not whatever else is there."""
    turned = [image[:, ::-1] if mirrored else image for image in originals_NHW]
    planted_NHW = np.stack([change(np.ascontiguousarray(image)) for image in turned])
    pairs = near.near_between(planted_NHW, originals_NHW)
    found_P = (pairs.first_P == pairs.second_P) & (pairs.mirrored_P == mirrored)
    return float(found_P.sum() / len(originals_NHW))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--faces", type=int, default=2000)
    asked = parser.parse_args()
    with np.load(asked.data / "fer2013_rows.npz", allow_pickle=False) as rows:
        images_NHW = rows["pixels"]
    rng = np.random.default_rng(0)
    not_blank = np.flatnonzero(~near.blank(images_NHW))
    originals_NHW = images_NHW[rng.choice(not_blank, asked.faces, replace=False)]
    for name, change in changes():
        plain, turned = (recall(originals_NHW, change, mirrored=mirrored) for mirrored in (False, True))
        print(f"{name:28} plain {plain:7.2%}   mirrored {turned:7.2%}   (n = {asked.faces:,} each)", flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    pairs = near.near_pairs(images_NHW)
    flagged = np.flatnonzero(pairs.ncc_P < 1 - 1e-6)  # the others are exact copies
    faces = len(set(pairs.first_P[flagged].tolist()) | set(pairs.second_P[flagged].tolist()))
    print(f"{len(flagged):,} pairs are flagged that are no exact copies, of {faces:,} faces")
    lowest = flagged[np.argsort(pairs.ncc_P[flagged])]
    drawn = rng.permutation(flagged)
    shown = {
        f"{what}_{part}": of_kind[part * SHEET : (part + 1) * SHEET]
        for what, of_kind in (("lowest", lowest), ("drawn", drawn))
        for part in range(2)
    }
    for name, some in shown.items():
        figure = sheets.grid(*_shown(images_NHW, pairs, some), columns=10, width=1.5, height=1.0)
        (asked.out / f"{name}.png").write_bytes(sheets._png(figure))
    print(json.dumps({name: len(some) for name, some in shown.items()}), "pairs on sheets in", asked.out)


def _shown(images_NHW: Images, pairs: near.Pairs, some: NDArray[np.int64]) -> tuple[list[Images], list[str]]:
    """The pairs side by side, the first face turned where it is mirrored."""
    images, titles = [], []
    for at in some:
        one, other = images_NHW[pairs.first_P[at]], images_NHW[pairs.second_P[at]]
        images.append(np.hstack([one[:, ::-1] if pairs.mirrored_P[at] else one, other]))
        turned = "m" if pairs.mirrored_P[at] else ""
        titles.append(f"{pairs.first_P[at]} {pairs.second_P[at]} {pairs.ncc_P[at]:.3f}{turned}")
    return images, titles


if __name__ == "__main__":
    main()
