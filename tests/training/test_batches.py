"""Faces on the training device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from facex_tune.training.batches import Split

CPU = torch.device("cpu")


def test_processes_of_a_host_share_the_pages_of_a_memory_map(tmp_path: Path) -> None:
    images_NHW = np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images_NHW)
    mapped_NHW = np.load(tmp_path / "images.npy", mmap_mode="r")
    labels_N = np.arange(6)
    split = Split.of(np.asarray(mapped_NHW[1:5]), labels_N[1:5], None, CPU)
    assert split.images_NHW.data_ptr() == mapped_NHW[1:5].ctypes.data
    assert np.array_equal(split.images_NHW.numpy(), images_NHW[1:5])


def test_what_may_be_changed_later_is_copied() -> None:
    images_NHW, labels_N = np.zeros((2, 48, 48), np.uint8), np.zeros(2, np.int64)
    split = Split.of(images_NHW, labels_N, None, CPU)
    images_NHW[0] = 9
    assert not split.images_NHW.any()
