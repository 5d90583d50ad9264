"""What a run is told to be made with, and the CPUs that Ray will count."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ray._private.utils import _get_docker_cpus, get_num_cpus

from facex_tune.pipeline import environment

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves cpu.max open
FILES = {
    "quota": "cpu/cpu.cfs_quota_us",
    "period": "cpu/cpu.cfs_period_us",
    "set": "cpuset/cpuset.cpus",
    "max": "cpu.max",
    "effective": "cpuset.cpus.effective",
}


def test_this_machine_has_as_many_cpus_as_ray_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rays = get_num_cpus(override_docker_cpu_warning=True)
    assert environment.ray_cpus() == min(rays, len(os.sched_getaffinity(0)))
    monkeypatch.setenv("RAY_USE_MULTIPROCESSING_CPU_COUNT", "1")
    assert environment.ray_cpus() == get_num_cpus() == os.cpu_count()


@pytest.mark.parametrize(
    ("limits", "cpus"),
    [
        ({}, None),
        ({"max": "max 100000\n"}, None),
        ({"max": "350000 100000\n"}, 3),
        ({"max": "50000 100000\n"}, 0),
        ({"quota": "-1\n", "period": "100000\n"}, None),
        ({"quota": "600000\n", "period": "100000\n"}, 6),
        ({"set": "0-2,5\n"}, 4),
        ({"quota": "600000\n", "period": "100000\n", "set": "7\n"}, 1),
        ({"max": "what is this\n"}, None),
        ({"max": "3200000 100000\n"}, None),  # more than there are
        ({"effective": "0-2,5\n"}, 4),
        ({"effective": "\n"}, None),
        ({"effective": "0-5\n", "max": "350000 100000\n"}, 3),
    ],
)
def test_a_containers_limits_are_rays(
    limits: dict[str, str], cpus: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(16))
    for name, content in limits.items():
        path = tmp_path / FILES[name]
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    assert environment.ray_cpus(tmp_path) == (16 if cpus is None else cpus)
    theirs = _get_docker_cpus(*(str(tmp_path / FILES[name]) for name in ("quota", "period", "set", "max")))
    assert cpus is None or theirs is None or "effective" in limits or int(theirs) == cpus


def test_limits_of_every_group_that_this_process_is_in_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of `systemd-run --user --scope -p CPUQuota=300%`, on a host whose own groups are mounted whole."""
    read_text = Path.read_text

    def read(path: Path, *arguments: str, **options: str) -> str:
        return "1:x:/\n0::/user/own\n" if path == Path("/proc/self/cgroup") else read_text(path, *arguments, **options)

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(16))
    monkeypatch.setattr(Path, "read_text", read)
    (tmp_path / "user" / "own").mkdir(parents=True)
    (tmp_path / "user" / "own" / "cpu.max").write_text("max 100000\n")
    assert environment.ray_cpus(tmp_path) == 16
    (tmp_path / "user" / "cpu.max").write_text("300000 100000\n")
    assert environment.ray_cpus(tmp_path) == 3
    (tmp_path / "user" / "own" / "cpuset.cpus.effective").write_text("4,7\n")
    assert environment.ray_cpus(tmp_path) == 2


def test_cpus_that_the_process_is_not_bound_to_do_not_count() -> None:
    """As by taskset: in the dry run's `at_once`, and for the Ray that is started."""
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from facex_tune.pipeline.environment import ray_cpus
from facex_tune import study
from facex_tune.pipeline import estimating
import torch
said = {"version": 1, "name": "x", "data": "synthetic", "space": {"model": ["facex_cnn"]}}
print(ray_cpus(), estimating._at_once(study.parse(said), torch.device("cpu")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 1\n"


def test_a_cpu_is_described_without_torch_as_torch_describes_it() -> None:
    found = environment._plain_cpu(None)
    if found is not None:  # a machine without a GPU
        assert found == environment._as_torch_sees(None)


@pytest.mark.parametrize(
    ("flags", "devices", "device", "said"),
    [
        ("fpu sse2 avx512_bf16", [], None, {"device": "cpu", "gpus": 0, "fast_bf16": True}),
        ("fpu amx_tile", ["null"], "cpu", {"device": "cpu", "gpus": 0, "fast_bf16": True}),
        ("fpu avx512f", [], "auto", {"device": "cpu", "gpus": 0, "fast_bf16": False}),
        ("fpu avx512_bf16", ["nvidiactl"], None, None),
        ("fpu avx512_bf16", ["nvidia0"], "cpu", None),
        ("fpu avx512_bf16", ["kfd"], None, None),
        ("fpu avx512_bf16", [], "cuda", None),
        (None, [], None, None),
    ],
)
def test_torch_is_asked_wherever_there_may_be_a_gpu(
    flags: str | None, devices: list[str], device: str | None, said: object, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "dev").mkdir()
    (tmp_path / "proc").mkdir()
    for name in devices:
        (tmp_path / "dev" / name).touch()
    lines = "processor\t: 0\n" + (f"flags\t\t: {flags}\n" if flags else "")
    (tmp_path / "proc" / "cpuinfo").write_text(lines)
    assert environment._plain_cpu(device, tmp_path) == said
