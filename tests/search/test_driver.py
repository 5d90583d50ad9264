"""What the process of a search takes for itself."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
from ray._private import node, services

from facex_tune.search import ray_lean

LOADED = """
import sys
from facex_tune.pipeline import begin, environment, stages
from facex_tune.search import factor_study, ray_session, retrain, search, telemetry
if environment._plain_cpu(None) is not None:
    environment.describe(None)
print("torch" in sys.modules)
"""


def test_the_driver_of_a_search_has_no_torch() -> None:
    """A quarter of a gigabyte, which its workers have."""
    told = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


class FakeNode:
    _webui_url = None

    def start_monitor(self) -> None:
        raise AssertionError("started")

    start_log_monitor = start_monitor

    def start_api_server(self, *, include_dashboard: bool, raise_on_failure: bool) -> None:
        raise AssertionError("started")


def test_processes_that_nothing_asks_are_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "Node", FakeNode)
    before = {name: getattr(FakeNode, name) for name in ray_lean.UNASKED}
    started: Any = FakeNode()
    with ray_lean.without_unasked():
        started.start_monitor()
        started.start_log_monitor()
        started.start_api_server(include_dashboard=False, raise_on_failure=False)
    assert started._webui_url == ""
    assert {name: getattr(FakeNode, name) for name in ray_lean.UNASKED} == before

    def break_off() -> None:
        with ray_lean.without_unasked():
            raise OSError("broke off")

    with pytest.raises(OSError, match="broke off"):
        break_off()
    assert {name: getattr(FakeNode, name) for name in ray_lean.UNASKED} == before


def test_a_ray_of_another_build_starts_all_that_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def start_monitor(self) -> str:
            return "started"

    monkeypatch.setattr(node, "Node", Other)
    with ray_lean.without_unasked():
        assert Other().start_monitor() == "started"


def test_as_many_workers_begin_as_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(command: list[str], kind: str) -> tuple[list[str], str]:
        return command, kind

    monkeypatch.setattr(services, "start_ray_process", start)
    command = ["raylet", "--num_prestart_python_workers=16", "--head"]
    with ray_lean.without_unasked(3):
        assert services.start_ray_process(command, "raylet") == (
            ["raylet", "--num_prestart_python_workers=3", "--head"],
            "raylet",
        )
    assert services.start_ray_process is start
    with ray_lean.without_unasked():
        assert services.start_ray_process is start


def test_ray_has_what_is_left_out_of_it() -> None:
    """Else a newer Ray starts what it always did, and nobody has noticed."""
    assert all(callable(getattr(node.Node, name, None)) for name in ray_lean.UNASKED)
    assert ray_lean.WORKERS in inspect.getsource(services.start_raylet)
    assert f"{ray_lean.START}(" in inspect.getsource(services.start_raylet)
