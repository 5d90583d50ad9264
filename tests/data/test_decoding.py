"""Pictures that are decoded by processes beside this one."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facex_tune.data import tree
from facex_tune.data.boxes import Box
from facex_tune.storage.helpers import Helpers

SIDES = (48, 30, 100, 700, 64)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """150 pictures of several sizes, one in ten damaged."""
    rng = np.random.default_rng(0)
    for number in range(150):
        path = tmp_path / f"{number:03d}.png"
        side = SIDES[number % 5]
        Image.fromarray(rng.integers(0, 256, (side, side), np.uint8)).save(path)
        if number % 10 == 9:
            path.write_bytes(path.read_bytes()[:60])
    return tmp_path


@pytest.mark.parametrize("boxed", [False, True])
def test_processes_give_what_this_one_does(pictures: Path, boxed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same order, the damaged told, and large ones, which no process beside this one decodes, as well."""
    monkeypatch.setattr(tree, "BESIDE_BYTES", 2 * 100 * 100)
    monkeypatch.setattr(tree, "_TASK", 16)
    told: list[tuple[int, int]] = []
    asked: list[Future[list[object]]] = []
    submit = Helpers.submit

    def noted(self: Helpers, *words: Any) -> Future[Any]:
        asked.append(submit(self, *words))
        return asked[-1]

    monkeypatch.setattr(Helpers, "submit", noted)
    found = []
    for helpers in (0, 2):
        monkeypatch.setattr(tree, "_helpers", lambda n, helpers=helpers: helpers)
        asked.clear()
        with tree.open_tree(pictures) as files:
            boxes = [Box(2, 3, 28, 29)] * 150 if boxed else None
            found.append(tree.read_images(files, files.names, lambda done, of: told.append((done, of)), boxes=boxes))
    one, other = found
    assert np.array_equal(one.images_KHW, other.images_KHW)
    assert (one.kept, one.skipped) == (other.kept, other.skipped)
    assert np.array_equal(one.pictures.width_N, other.pictures.width_N)
    assert [each.file for each in other.skipped] == [f"{number:03d}.png" for number in range(9, 150, 10)]
    assert told == [(150, 150)] * 2
    answers = [each for future in asked for each in future.result()]
    assert [number for number, each in enumerate(answers) if each is None] == list(range(3, 150, 5)), "700 x 700"


def test_few_pictures_are_decoded_here() -> None:
    assert tree._helpers(1999) == 0
    assert tree._helpers(2000) == (0 if tree.processors() == 1 else min(tree.processors(), 8))
