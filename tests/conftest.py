"""Fixtures that several test files need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Three test processes share two cores: threads of theirs would wait for each other, and torch's do so at full load.
# Before torch and numpy are imported, which ask once.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")


@pytest.fixture(scope="session")
def realdata_dir() -> Path:
    """The folder with fer2013.zip, fer2013_rows.npz, fer2013new.csv and ckplus.zip; skips where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FACEX_DATA", beside))
    if not (folder / "fer2013.zip").exists():
        pytest.skip(f"no real data in {folder}: set FACEX_DATA to a folder with fer2013.zip and ckplus.zip")
    return folder
