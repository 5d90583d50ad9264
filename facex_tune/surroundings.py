"""What a run was made with: package versions, hardware, the commit. For its header, so that its numbers can be
judged later.
"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "facex-tune",
    "torch",
    "torchvision",
    "timm",
    "ray",
    "optuna",
    "numpy",
    "scikit-learn",
    "pandas",
    "matplotlib",
)


def describe(device: str | None) -> dict[str, Any]:
    """``{packages, hardware, git_commit}`` of this process."""
    import torch

    from facex_tune.devices import has_fast_bf16, pick_device

    chosen = pick_device(device)
    hardware = {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "device": torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else chosen.type,
        "gpus": torch.cuda.device_count(),
        "fast_bf16": has_fast_bf16(chosen),
    }
    return {"packages": _versions(), "hardware": hardware, "git_commit": _git_commit()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _git_commit() -> str | None:
    """The commit of this package's own checkout; None where it was installed from elsewhere."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        told = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None
