"""What a run was made with: package versions, hardware, the commit. For its header, so that its numbers can be
judged later.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
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


ACCELERATORS = ("nvidia*", "kfd", "dxg")  # NVIDIA's, AMD's, Windows' own below Linux; torch takes no others by itself
FAST_BF16 = ("avx512_bf16", "amx_tile")  # what `training.devices.has_fast_bf16` asks torch of a CPU
_CGROUPS = Path("/sys/fs/cgroup")


def describe(device: str | None) -> dict[str, Any]:
    """Gives ``{packages, hardware, git_commit}`` of this process; `device` is the one that trials train on."""
    total_gb = memory.total_gb()
    hardware = {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "memory_gb": None if total_gb is None else round(total_gb, 1),
        **(_plain_cpu(device) or _as_torch_sees(device)),
    }
    return {"packages": _versions(), "hardware": hardware, "git_commit": _git_commit()}


def _as_torch_sees(device: str | None) -> dict[str, Any]:
    """The device that trials train on, how many GPUs there are, and whether it multiplies bf16 natively."""
    import torch

    from facex_tune.training.devices import has_fast_bf16, pick_device

    chosen = pick_device(device)
    return {
        "device": torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else chosen.type,
        "gpus": torch.cuda.device_count(),
        "fast_bf16": has_fast_bf16(chosen),
    }


def _plain_cpu(device: str | None, root: Path = Path("/")) -> dict[str, Any] | None:
    """The same of a Linux machine without any GPU, from what the system says of it: torch would take a quarter of a
    gigabyte of the driver's memory for as long as a search lasts. None where torch has to be asked.

    Args:
        root: where `dev` and `proc` are.
    """
    there = any(path for pattern in ACCELERATORS for path in (root / "dev").glob(pattern))
    if there or device not in (None, "auto", "cpu") or platform.machine() != "x86_64" or not (root / "dev").is_dir():
        return None
    try:
        lines = (root / "proc" / "cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), None)
    if flags is None:
        return None
    return {"device": "cpu", "gpus": 0, "fast_bf16": not flags.isdisjoint(FAST_BF16)}


def ray_cpus(cgroups: Path = _CGROUPS) -> int:
    """Counts the CPUs that a Ray started here is told of: those that this process may use by its binding (taskset) and
    its control groups' sets and quotas, rounded down. Ray's own count heeds neither the binding nor sets of the second
    version.

    Args:
        cgroups: where control groups are mounted.
    """
    cpus = os.cpu_count() or 1
    if os.environ.get("RAY_USE_MULTIPROCESSING_CPU_COUNT"):
        return cpus
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    try:
        limits = [limit for limit in (*_cpu_quotas(cgroups), *_cpu_sets(cgroups)) if limit is not None]
    except (OSError, ValueError, ZeroDivisionError):
        return cpus
    return int(min([cpus, *limits]))


def _groups(cgroups: Path) -> list[Path]:
    """The group that is mounted, and of the second version those below it that this process is in: each limits it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        own = Path(next(line for line in lines if line.startswith("0::/")).removeprefix("0::/"))
        if ".." not in own.parts:
            return [cgroups / each for each in (own, *own.parents)]
    return [cgroups]


def _cpu_quotas(cgroups: Path) -> Iterator[float | None]:
    """CPUs' worth of time that may be used; None: no limit."""
    first = cgroups / "cpu"
    if (first / "cpu.cfs_quota_us").exists():
        quota, period = ((first / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        yield _cpus_of(quota, period)
    for group in _groups(cgroups):
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
            yield _cpus_of(quota, period)


def _cpus_of(quota: str, period: str) -> float | None:
    return None if quota.strip() in ("max", "-1") else float(quota) / float(period)


def _cpu_sets(cgroups: Path) -> Iterator[int | None]:
    """How many CPUs a set holds, such as four of `0-2,5`; an empty one is no limit."""
    for path in (cgroups / "cpuset" / "cpuset.cpus", *(group / "cpuset.cpus.effective" for group in _groups(cgroups))):
        if path.exists() and (said := path.read_text().strip()):
            ranges = [each.partition("-") for each in said.split(",")]
            yield sum(int(last or first) - int(first) + 1 for first, _, last in ranges)


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
