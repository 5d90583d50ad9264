"""Synthetic faces of the 'lab' variant: a clean, frontal test set from another domain, as CK+ is to FER2013."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from facex_tune.data.importing import NOTHING, Asked, Loaded
from facex_tune.data.sources.synthetic import generate

DESCRIPTION = "drawn faces, clean and frontal, subjects with three-frame sequences like CK+; needs no download"
NEEDS_SOURCE = False
OPTIONS = ("size",)
N, SEED = 600, 20100


def load(path: Path | None, progress: Callable[[int, int], None], asked: Asked = NOTHING) -> Loaded:
    """The lab set, all of it split "test"; `path` is not used, since the faces are drawn."""
    return Loaded(generate(N, seed=SEED, variant="lab", progress=progress, size=asked.size), [])
