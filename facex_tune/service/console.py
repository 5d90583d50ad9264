"""What a run's process prints, kept within bounds while it goes: the end of it stays."""

from __future__ import annotations

import codecs
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


def end_of(path: Path, after: int | None, most_bytes: int) -> tuple[str, int, int]:
    """The end of a console as text, and from which byte to which that is; a letter of which a part has been written is
    left for the next time.

    Args:
        after: what lies before this byte is known already, unless the console has been shortened since.
    """
    try:
        with regular.opened(path.parent, path.name) as file:
            size = os.fstat(file.fileno()).st_size
            begin = max(0, size - most_bytes, after if after is not None and after <= size else 0)
            file.seek(begin)
            said = file.read(size - begin)
    except FileNotFoundError:
        return "", 0, 0
    except DamagedRun as error:
        return f"error: {error}\n", 0, 0
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(said)
    return text, begin, begin + len(said) - len(decoder.getstate()[0])
