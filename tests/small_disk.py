"""A disk that is full, for real: a small tmpfs in a mount namespace of its own."""

from __future__ import annotations

import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path


@cache
def is_allowed() -> bool:
    """Whether this process may mount a tmpfs where nobody else sees it."""
    try:
        tried = subprocess.run(
            ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"], capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return tried.returncode == 0


WHY_NOT = "mounting a tmpfs in a mount namespace (`unshare -m`) is not allowed here"


def on_small_disk(folder: Path, size: str, *script: str) -> subprocess.CompletedProcess[str]:
    """Runs shell lines in a namespace in which `folder` is a tmpfs of `size`; $PYTHON is this interpreter, and
    `larger SIZE` gives the disk more room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = shlex.quote(str(folder))
    lines = [
        "set -u",
        f"PYTHON={shlex.quote(sys.executable)}",
        f"larger() {{ mount -o remount,size=$1 {place}; }}",
        f"mount -t tmpfs -o size={size} tmpfs {place} || exit 99",
        *script,
    ]
    return subprocess.run(["unshare", "-m", "sh", "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
