"""What goes wrong on purpose. `make faults` runs the full forms; without FACEX_FAULTS=full each case is small, and
those that need Ray are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from facex_tune import parts
from tests.search.conftest import tiny_data

__all__ = ["tiny_data"]

FULL = os.environ.get("FACEX_FAULTS") == "full"
PARTS = Path(__file__).parent / "parts"
only_full = pytest.mark.skipif(not FULL, reason="starts Ray many times, minutes: `make faults`")


@pytest.fixture(autouse=True)
def faulty_parts() -> Iterator[Path]:
    """The folder with the network that goes wrong, in use."""
    parts.use_folder(PARTS)
    yield PARTS
    parts._own_folders.clear()
