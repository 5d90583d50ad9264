"""What of this machine works, what does not, and what to do about it.

Every check looks at one thing and answers with one `Finding`; none of them changes anything but a temporary file.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facex_tune.data import faces, prepare
from facex_tune.errors import InputError
from facex_tune.inspection import memory
from facex_tune.storage import remote_path
from facex_tune.storage.files import Place

OK, WARNING, PROBLEM = "ok", "warning", "problem"
MEMORY_GB_WANTED = 4.0  # Ray's own processes and one training process with faces in memory
DISK_GB_WANTED = 2.0
RAY_START_LIMIT_S = 120


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's: what was looked at, how it is, and what to do if that is not well."""

    name: str
    level: str
    text: str
    advice: str = ""


def examine(data_dir: Path, storage: Place, *, full: bool = False) -> list[Finding]:
    """Every check, in the order in which things are needed; `full` also starts and stops Ray."""
    return [
        _python(),
        *_torch(),
        _ray(full),
        _memory(),
        _folder("data", data_dir, "--data or FACEX_DATA"),
        _storage(storage),
        *_data_sets(data_dir),
    ]


def exit_code(findings: list[Finding]) -> int:
    """0, or 1 where something would stop a run."""
    return int(any(finding.level == PROBLEM for finding in findings))


def to_data(findings: list[Finding]) -> dict[str, Any]:
    """One JSON document."""
    return {"version": 1, "healthy": exit_code(findings) == 0, "findings": [asdict(finding) for finding in findings]}


def _python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores"
    return Finding("python", OK, text)


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("torch", PROBLEM, f"does not import: {_line(error)}", "pip install torch torchvision")
        return
    yield Finding("torch", OK, str(torch.__version__))
    yield _torchvision(str(torch.__version__))
    yield _device(torch)


def _torchvision(torch_version: str) -> Finding:
    try:
        import torchvision
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: built for another torch
        advice = "install both of one release from the same place: pip install --upgrade torch torchvision"
        return Finding("torchvision", PROBLEM, f"does not import beside torch {torch_version}: {_line(error)}", advice)
    return Finding("torchvision", OK, f"{torchvision.__version__}, imports beside torch {torch_version}")


def _device(torch: Any) -> Finding:
    from facex_tune.training.devices import has_fast_bf16

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        return Finding("device", OK, f"cuda: {', '.join(names)} ({bf16})")
    if torch.backends.mps.is_available():
        return Finding("device", OK, "mps: Apple GPU")
    bf16 = "bf16 in hardware" if has_fast_bf16(torch.device("cpu")) else "no bf16, so fp32 is used"
    text = f"cpu: {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, {bf16}"
    if shutil.which("nvidia-smi"):
        advice = "this torch does not see the NVIDIA driver: install a torch built for its CUDA version"
        return Finding("device", WARNING, text, advice)
    return Finding("device", OK, text)


def _ray(full: bool) -> Finding:
    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return Finding("ray", PROBLEM, "not installed", "pip install 'ray[default,tune]'")
    if not full:
        return Finding("ray", OK, f"{version} (not started; --full starts it)")
    return _start_ray(version)


def _start_ray(version: str) -> Finding:
    """In a process of its own, so that a Ray that hangs or crashes takes nothing with it; a cluster that is up on this
    machine is not joined.
    """
    code = "from facex_tune.search import ray_session\nwith ray_session.connected('local', cpus=1): pass"
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=RAY_START_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        advice = f"look into {tempfile.gettempdir()}/ray/session_latest/logs"
        return Finding("ray", PROBLEM, f"{version} did not start within {RAY_START_LIMIT_S} s", advice)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding("ray", PROBLEM, f"{version} does not start: {last}", "see its message; is another Ray running?")
    return Finding("ray", OK, f"{version}, starts and stops in {time.monotonic() - began:.0f} s")


def _memory() -> Finding:
    free_gb, total_gb = memory.available_gb(), memory.total_gb()
    if free_gb is None or total_gb is None:
        return Finding("memory", OK, "unknown on this system")
    text = f"{free_gb:.1f} GB free of {total_gb:.1f} GB"
    if free_gb < MEMORY_GB_WANTED:
        return Finding("memory", WARNING, text, f"below {MEMORY_GB_WANTED:.0f} GB: run fewer trials at once")
    return Finding("memory", OK, text)


def _storage(storage: Place) -> Finding:
    if isinstance(storage, Path):
        return _folder("storage", storage, "--storage or FACEX_STORAGE")
    found = remote_path.problem(storage)
    return Finding("storage", PROBLEM if found else OK, found or f"{storage.url}: can be written")


def _folder(name: str, folder: Path, option: str) -> Finding:
    """Whether a folder, or the nearest one above it that exists, can be written and has room."""
    place = folder
    while not place.exists():
        place = place.parent
    advice = f"choose another folder with {option}"
    try:
        if not place.is_dir():
            raise NotADirectoryError(f"{place} is not a folder")
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding(name, PROBLEM, f"{folder}: cannot be written: {error.strerror or error}", advice)
    free_gb = shutil.disk_usage(place).free / 1e9
    text = f"{folder}: {free_gb:.1f} GB free" + ("" if folder.exists() else ", made when needed")
    if free_gb < DISK_GB_WANTED:
        return Finding(name, WARNING, text, f"below {DISK_GB_WANTED:.0f} GB: {advice}")
    return Finding(name, OK, text)


def _data_sets(data_dir: Path) -> Iterator[Finding]:
    """One line a prepared set; then the sets that could be prepared."""
    prepared = faces.prepared_names(data_dir)
    for name in prepared:
        yield _data_set(data_dir, name)
    for name in sorted(set(prepare.names()) - set(prepared)):
        source = " SOURCE" if prepare.find(name).NEEDS_SOURCE else ""
        source += " --as NAME" * (name == "folder")
        yield Finding(f"data {name}", OK, "not prepared", f"when wanted: facex-tune data prepare {name}{source}")


def _data_set(data_dir: Path, name: str) -> Finding:
    try:
        opened = faces.open_set(data_dir, name)
        manifest = faces.read_manifest(data_dir, name)
    except InputError as error:
        return Finding(f"data {name}", PROBLEM, error.problems[0])
    splits = ", ".join(f"{split} {sum(emotions.values()):,}" for split, emotions in manifest["counts"].items())
    skipped = f"; {len(manifest['skipped'])} skipped" if manifest["skipped"] else ""
    return Finding(f"data {name}", OK, f"{len(opened):,} faces ({splits}){skipped}")


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
