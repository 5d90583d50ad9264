"""How much memory this machine has, and how much of it is free."""

from __future__ import annotations

import os
from pathlib import Path


def total_gb() -> float | None:
    """The machine's memory in GB (10⁹ bytes); None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return None


def available_gb() -> float | None:
    """What a new process can have of it without swapping, in GB; None where the system does not tell in Linux's way."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    pairs = (line.split(":") for line in path.read_text(encoding="utf-8").splitlines())
    kibibytes = {name: int(rest.split()[0]) for name, rest in pairs}
    return kibibytes["MemAvailable"] * 1024 / 1e9
