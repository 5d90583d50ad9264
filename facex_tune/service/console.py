"""What a run's process prints, kept within bounds while it goes: the end of it stays."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from facex_tune.storage import regular
from facex_tune.storage.files import DamagedRun

FILE = "console.log"
MOST_BYTES = 16 * 2**20
KEPT_BYTES = 4 * 2**20
LOOKED_EVERY_S = 2.0
_logger = logging.getLogger(__name__)


def shorten(path: Path) -> None:
    """Leaves the end of a console that has grown too large. Its writers add at its end, wherever that is; what they say
    in between may be lost.
    """
    try:
        if path.lstat().st_size <= MOST_BYTES:
            return
        with regular.changed(path.parent, path.name) as file:
            size = file.seek(-KEPT_BYTES, os.SEEK_END) + KEPT_BYTES
            _, _, kept = file.read(KEPT_BYTES).partition(b"\n")
            file.seek(0)
            file.truncate()
            file.write(f"[{size - len(kept):,} bytes were left out]\n".encode() + kept)
    except FileNotFoundError:
        return
    except (OSError, DamagedRun) as error:
        _logger.warning("%s is not kept within %s bytes: %s", path, f"{MOST_BYTES:,}", error)
