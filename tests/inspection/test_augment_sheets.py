"""`facex-tune parts augment --show`: what is drawn, from which faces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facex_tune import parts, train_knobs
from facex_tune.data import faces as face_sets
from facex_tune.data.sources import synthetic
from facex_tune.errors import InputError
from facex_tune.inspection import augment_sheets


def test_every_policy_and_every_mixing_knob_has_a_sheet() -> None:
    mixing = [name for name in ("mixup", "cutmix", "erasing", "noise") if name in train_knobs.SPACE]
    assert augment_sheets.shown() == [*parts.names("augment"), *mixing]
    for name in mixing:
        assert train_knobs.SPACE[name].holds(augment_sheets.MIXINGS[name])


@pytest.mark.parametrize("name", augment_sheets.shown())
def test_a_sheet_shows_the_defaults_and_the_strongest(name: str) -> None:
    variants = augment_sheets.variants(name)
    assert len(variants) == (1 if name == "none" else 2)
    given = torch.rand(16, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    first, last = (list(variants.values())[place](given, torch.Generator().manual_seed(0)) for place in (0, -1))
    assert torch.equal(last, given) is (name == "none")
    assert torch.equal(first, last) is (name == "none")


def test_a_sheet_is_a_picture_with_a_row_for_each_emotion(tmp_path: Path) -> None:
    written = augment_sheets.write(["noise", "none"], tmp_path, None, tmp_path / "out" / "sheets")
    assert written == {name: tmp_path / "out" / "sheets" / f"{name}.png" for name in ("noise", "none")}
    plain, noisy = (np.asarray(Image.open(written[name])) for name in ("none", "noise"))
    rows, columns = 2 * 7 * (48 + augment_sheets.GAP), 2 * (12 * (48 + augment_sheets.GAP) + augment_sheets.GAP)
    assert plain.shape == (augment_sheets.CAPTION + rows, augment_sheets.MARGIN + columns)
    assert noisy.shape == (2 * (augment_sheets.CAPTION + rows), augment_sheets.MARGIN + columns)
    first, again = (plain[augment_sheets.CAPTION :, augment_sheets.MARGIN + at :][:96, :96] for at in (0, 104))
    assert (first == again).all(), "no augmentation: every draw is the face itself"


def test_a_prepared_sets_training_faces_are_shown_and_no_others(tmp_path: Path) -> None:
    """Black in train and white elsewhere, so that a face of another split would be seen."""
    drawn = synthetic.generate(30, seed=1)
    split_N = np.array(["train", "public_test", "private_test"] * 10)
    shade_N = np.where(split_N == "train", 0, 200).astype(np.uint8)
    images_NHW = np.broadcast_to(shade_N[:, None, None], (30, 48, 48)).copy()
    face_sets.write(replace(drawn, images_NHW=images_NHW, split_N=split_N), tmp_path, "mine", source={}, skipped=[])
    path = augment_sheets.write(["none"], tmp_path, "mine", tmp_path)["none"]
    shown = np.asarray(Image.open(path))[augment_sheets.CAPTION :, augment_sheets.MARGIN :]
    assert not (shown == 200).any()
    assert (shown == 0).any()


def test_a_set_without_training_faces_has_no_sheet(tmp_path: Path) -> None:
    drawn = synthetic.generate(6, seed=1)
    face_sets.write(replace(drawn, split_N=np.full(6, "test")), tmp_path, "lab", source={}, skipped=[])
    with pytest.raises(InputError, match="no training faces"):
        augment_sheets.write([], tmp_path, "lab", tmp_path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--out"):
        augment_sheets.write(["none"], tmp_path, None, tmp_path / "file")
