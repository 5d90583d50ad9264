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

from facex_tune.inspection import memory

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


_CGROUPS = Path("/sys/fs/cgroup")


def describe(device: str | None) -> dict[str, Any]:
    """Gives ``{packages, hardware, git_commit}`` of this process; `device` is the one that trials train on."""
    import torch

    from facex_tune.training.devices import has_fast_bf16, pick_device

    chosen = pick_device(device)
    total_gb = memory.total_gb()
    hardware = {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "memory_gb": None if total_gb is None else round(total_gb, 1),
        "device": torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else chosen.type,
        "gpus": torch.cuda.device_count(),
        "fast_bf16": has_fast_bf16(chosen),
    }
    return {"packages": _versions(), "hardware": hardware, "git_commit": _git_commit()}


def ray_cpus(cgroups: Path = _CGROUPS) -> int:
    """Counts the CPUs that a Ray started on this machine counts: the machine's, or those that its container may use,
    rounded down.

    Ray's own rule, without importing Ray: quotas of control groups of both versions, CPU sets of the first. CPUs that
    this process alone is bound to (taskset) do not count.

    Args:
        cgroups: where control groups are mounted.
    """
    cpus = os.cpu_count() or 1
    if os.environ.get("RAY_USE_MULTIPROCESSING_CPU_COUNT"):
        return cpus
    try:
        limits = [limit for limit in (_cpu_quota(cgroups), _cpu_set(cgroups)) if limit]
    except (OSError, ValueError, ZeroDivisionError):
        return cpus
    return int(min(limits)) if limits else cpus


def _cpu_quota(cgroups: Path) -> float | None:
    """CPUs' worth of time that the container may use; None: no limit."""
    first, second = cgroups / "cpu", cgroups / "cpu.max"
    if (first / "cpu.cfs_quota_us").exists():
        quota, period = ((first / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    elif second.exists():
        quota, period = second.read_text().split()
    else:
        return None
    return None if quota.strip() in ("max", "-1") else float(quota) / float(period)


def _cpu_set(cgroups: Path) -> int | None:
    """How many CPUs the container is bound to, such as four of `0-2,5`; None: unknown."""
    path = cgroups / "cpuset" / "cpuset.cpus"
    if not path.exists():
        return None
    ranges = [each.partition("-") for each in path.read_text().strip().split(",")]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)


def torch_gpus() -> int:
    """Counts the GPUs that torch can use here, CUDA_VISIBLE_DEVICES obeyed. Where it can use any, Ray counts the same.
    """
    import torch

    return torch.cuda.device_count()


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


def _git_commit() -> str | None:
    """The commit of this package's own checkout; None where it was installed from elsewhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        told = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None
