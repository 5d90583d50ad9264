"""What a run is told to be made with, and the CPUs that Ray will count."""

from __future__ import annotations

import os
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
}


def test_this_machine_has_as_many_cpus_as_ray_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.ray_cpus() == get_num_cpus(override_docker_cpu_warning=True)
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
    ],
)
def test_a_containers_limits_are_rays(limits: dict[str, str], cpus: int | None, tmp_path: Path) -> None:
    for name, content in limits.items():
        path = tmp_path / FILES[name]
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    assert environment.ray_cpus(tmp_path) == (os.cpu_count() if cpus is None else cpus)
    theirs = _get_docker_cpus(*(str(tmp_path / FILES[name]) for name in ("quota", "period", "set", "max")))
    assert cpus is None or theirs is None or int(theirs) == cpus
