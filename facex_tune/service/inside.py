"""Keeps the service inside its storage: whoever may write a run folder could else have it read, or write, any file of
the account that serves.
"""

from __future__ import annotations

from pathlib import Path

from facex_tune.storage import files, regular
from facex_tune.storage.files import DamagedRun, Place

_READ = ("run.json", "lease.json", "events", "evaluation", "report", "final", "factors", "validation")


def check(storage: Place, name: str) -> None:
    """Lets a run pass whose folder lies in the storage, and whose records are files of that folder.

    Raises:
        DamagedRun: a link leads out, or stands where a record should.
    """
    if not isinstance(storage, Path):
        return
    folder = storage / name
    if not folder.resolve().is_relative_to(storage.resolve()):
        raise DamagedRun(f"{folder}: a link out of the storage, which is not followed here; move the run itself there")
    records = [folder / each for each in _READ]
    for room in ("events", "evaluation"):
        records += [path for path in files.matching(folder / room, "*") if isinstance(path, Path)]
    for path in records:
        if regular.is_link_or_odd(path):
            raise regular.odd(path)
