"""Fixtures that several test files need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def realdata_dir() -> Path:
    """The folder with fer2013.zip, fer2013_rows.npz, fer2013new.csv and ckplus.zip; skips where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FACEX_DATA", beside))
    if not (folder / "fer2013.zip").exists():
        pytest.skip(f"no real data in {folder}: set FACEX_DATA to a folder with fer2013.zip and ckplus.zip")
    return folder
