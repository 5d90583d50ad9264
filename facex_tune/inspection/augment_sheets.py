"""A policy looked at: each face beside what the policy makes of it.

Sheets of a prepared set show its faces, and share its licence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from facex_tune import parts, train_knobs
from facex_tune.augment._mixing import Mixing
from facex_tune.data import faces as face_sets
from facex_tune.data.sources import synthetic
from facex_tune.emotions import EMOTIONS, N_FER2013
from facex_tune.errors import InputError, nearest
from facex_tune.space import Choice, Config, Float
from facex_tune.training.classifier import as_floats

GAP, WHITE, BLACK = 2, 255, 0
SCALE, CAPTION, MARGIN = 2, 16, 66  # pixels: of a face's pixel, of a line of text, of an emotion's name
MIXINGS = {"mixup": 0.2, "cutmix": 1.0, "erasing": 0.25, "noise": 0.05}
"""The training knobs that change faces after any policy, at values that recipes take."""

Policy = Callable[[Tensor, Generator], Tensor]


def shown() -> list[str]:
    """What has a sheet: every policy, then the mixing knobs."""
    return [*parts.names("augment"), *MIXINGS]


def write(names: Sequence[str], data_dir: Path, set_name: str | None, folder: Path) -> dict[str, Path]:
    """Writes `<name>.png` for each of `names` (none: of all), at its defaults and at its strongest; name -> path.

    Args:
        set_name: the prepared set whose training faces are shown, one of each emotion; None draws synthetic ones.

    Raises:
        InputError: an unknown name, a set that is not prepared or has no training faces, or a folder that cannot be
            written.
    """
    if strange := [name for name in names if name not in shown()]:
        raise InputError(f"parts augment --show: nothing named {strange[0]!r}; {nearest(strange[0], shown())}")
    images_NHW, emotions = _one_of_each(data_dir, set_name)
    written = {}
    for name in dict.fromkeys(names or shown()):
        path = folder / f"{name}.png"
        blocks = {caption: _drawn(policy, images_NHW, draws=11, seed=0) for caption, policy in variants(name).items()}
        _save(_captioned(blocks, emotions), path)
        written[name] = path
    return written


def variants(name: str) -> dict[str, Policy]:
    """Caption -> policy: at the defaults, and with every range at its upper end, where that is something else."""
    if name in MIXINGS:
        knob = train_knobs.SPACE[name]
        assert isinstance(knob, Float)
        return {f"train.{name} {value:g}": _mixed(name, value) for value in (MIXINGS[name], knob.high)}
    part = parts.augment(name)
    usual: Config = {knob: each.default for knob, each in part.SPACE.items()}
    most: Config = {knob: each.default if isinstance(each, Choice) else each.high for knob, each in part.SPACE.items()}
    return {_caption(name, knobs): part.build(knobs) for knobs in (usual, most)}


def sheet(
    name: str,
    knobs: Config | None = None,
    *,
    mixing: Mixing | None = None,
    images_NHW: NDArray[np.uint8] | None = None,
    rows: int = 8,
    draws: int = 11,
    seed: int = 0,
) -> NDArray[np.uint8]:
    """A picture: on the left `rows` faces as they are (drawn ones, unless given), beside each `draws` draws.

    Args:
        name, knobs: the policy, at its defaults where `knobs` is None.
        mixing: what comes after the policy; None is nothing.
    """
    part = parts.augment(name)
    policy = part.build({knob: each.default for knob, each in part.SPACE.items()} if knobs is None else knobs)
    given = synthetic.generate(rows, seed=seed).images_NHW if images_NHW is None else images_NHW

    def both(faces_N1HW: Tensor, generator: Generator) -> Tensor:
        made: Tensor = policy(faces_N1HW, generator)
        return made if mixing is None else mixing(made, torch.ones(len(made), 1), generator)[0]

    return _drawn(both, given[:rows], draws=draws, seed=seed)


def _drawn(policy: Policy, images_NHW: NDArray[np.uint8], *, draws: int, seed: int) -> NDArray[np.uint8]:
    faces_N1HW = as_floats(torch.from_numpy(np.array(images_NHW)))
    generator = torch.Generator().manual_seed(seed)
    columns = [faces_N1HW, *(policy(faces_N1HW, generator) for _ in range(draws))]
    return _tiled(torch.stack(columns, 1))


def _mixed(name: str, value: float) -> Policy:
    mixing = Mixing(**{name: value})
    return lambda faces_N1HW, generator: mixing(faces_N1HW, torch.ones(len(faces_N1HW), 1), generator)[0]


def _caption(name: str, knobs: Config) -> str:
    values = {knob: f"{value:g}" if isinstance(value, float) else str(value) for knob, value in knobs.items()}
    return ", ".join([name, *(f"{knob} {value}" for knob, value in values.items())])


def _one_of_each(data_dir: Path, set_name: str | None) -> tuple[NDArray[np.uint8], list[str]]:
    """A training face of each emotion that there is, the same ones every time, and the emotions."""
    if set_name is None:
        found = synthetic.generate(40 * N_FER2013, seed=0, imbalance=0.0, label_noise=0.0)
    else:
        found = face_sets.open_set(data_dir, set_name).where("train")
    if not len(found):
        raise InputError(f"parts augment --faces {set_name}: it has no training faces; a test set's are not shown")
    order_N = np.random.default_rng(0).permutation(len(found))
    labels, first = np.unique(found.labels_N[order_N], return_index=True)
    return found.images_NHW[order_N[first]], [EMOTIONS[label] for label in labels]


def _tiled(faces_RKCHW: Tensor) -> NDArray[np.uint8]:
    """Rows and columns of faces, grey or in colour, in one picture, a white line between them, and twice as wide
    beside the first.
    """
    pixels = (faces_RKCHW.clamp(0, 1) * 255).round().to(torch.uint8).movedim(2, -1).numpy()
    rows, columns, height, width, channels = pixels.shape
    picture = np.full((rows * (height + GAP), columns * (width + GAP) + GAP, channels), WHITE, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + GAP), column * (width + GAP) + (GAP if column else 0)
            picture[top : top + height, left : left + width] = pixels[row, column]
    return picture[..., 0] if channels == 1 else picture


def _captioned(blocks: dict[str, NDArray[np.uint8]], emotions: Sequence[str]) -> NDArray[np.uint8]:
    """The blocks, enlarged, one below the other, each under its caption, with the emotions at the left."""
    from PIL import Image, ImageDraw

    large = {caption: block.repeat(SCALE, 0).repeat(SCALE, 1) for caption, block in blocks.items()}
    height = sum(CAPTION + len(block) for block in large.values())
    mode = "L" if all(block.ndim == 2 for block in large.values()) else "RGB"
    paper, ink = (each if mode == "L" else (each,) * 3 for each in (WHITE, BLACK))
    picture = Image.new(mode, (MARGIN + max(block.shape[1] for block in large.values()), height), paper)
    pen, top = ImageDraw.Draw(picture), 0
    for caption, block in large.items():
        pen.text((MARGIN, top + 2), caption, fill=ink)
        top += CAPTION
        for row, emotion in enumerate(emotions):
            pen.text((4, top + (row + 0.4) * len(block) / len(emotions)), emotion, fill=ink)
        picture.paste(Image.fromarray(block), (MARGIN, top))
        top += len(block)
    return np.asarray(picture)


def _save(picture: NDArray[np.uint8], path: Path) -> None:
    from PIL import Image

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, "PNG", optimize=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder with --out") from error
