"""Keeps the service inside its storage: whoever may write a run folder could else have it read, or write, any file of
the account that serves.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from facex_tune.storage import regular
from facex_tune.storage.files import DamagedRun, Place

MOST_ENTRIES = 200_000  # of a run's folder: a search of 10,000 trials leaves some 30,000
_MANY = 2_000  # entries, from which on a look takes milliseconds, and holds for a while
_WHILE = 20  # times what it took: a twentieth of a core
_looked: dict[Path, float] = {}  # until when a large folder need not be looked at again


def check(storage: Place, name: str) -> None:
    """Lets a run pass whose folder lies in the storage, and in which there are folders and regular files only.

    This is a look at what lies there now; what is read is opened without following links, too (`storage.regular`).

    Raises:
        DamagedRun: a link leads out, or stands in the folder; or there is more in it than can be looked at.
    """
    if not isinstance(storage, Path):
        return
    folder = storage / name
    led_to, outer = os.path.realpath(folder), os.path.realpath(storage)
    if os.path.commonpath((led_to, outer)) != outer:
        raise DamagedRun(f"{folder}: a link out of the storage, which is not followed here; move the run itself there")
    if time.monotonic() < _looked.get(folder, 0.0):
        return
    began_s = time.thread_time()
    if _entries(folder) > _MANY:
        _looked[folder] = time.monotonic() + _WHILE * (time.thread_time() - began_s)


def _entries(folder: Path) -> int:
    """How many entries lie below a folder, none of which is a link or something odd."""
    n, left = 0, [os.fspath(folder)]
    while left:
        try:
            with os.scandir(left.pop()) as found:
                entries = list(found)
        except FileNotFoundError:
            continue  # it has gone since
        n += len(entries)
        if n > MOST_ENTRIES:
            raise DamagedRun(f"{folder}: more than {MOST_ENTRIES:,} files and folders; take away what is none of a run")
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                left.append(entry.path)
            elif not entry.is_file(follow_symlinks=False) and regular.is_link_or_odd(Path(entry.path)):
                raise regular.odd(Path(entry.path))
    return n
