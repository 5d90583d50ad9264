"""What the doctor finds, on this machine and on ones that are made ill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from facex_tune.data import prepare
from facex_tune.inspection import doctor
from facex_tune.inspection.doctor import OK, PROBLEM, Finding


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_this_machine_is_well(tmp_path: Path) -> None:
    found = by_name(doctor.examine(tmp_path / "data", tmp_path / "runs"))
    assert {name: found[name].level for name in ("python", "torch", "torchvision", "device", "ray")} == dict.fromkeys(
        ("python", "torch", "torchvision", "device", "ray"), OK
    )
    assert doctor.exit_code(list(found.values())) == 0
    assert list(tmp_path.iterdir()) == []  # nothing was made


def test_a_prepared_set_is_counted_and_a_missing_one_has_its_command(tmp_path: Path) -> None:
    prepare.prepare("synthetic_lab", None, tmp_path)
    found = by_name(doctor.examine(tmp_path, tmp_path))
    assert found["data synthetic_lab"].text == "600 faces (test 600)"
    assert "facex-tune data prepare fer2013 SOURCE" in found["data fer2013"].advice


def test_a_damaged_set_is_a_problem_that_says_what_to_do(tmp_path: Path) -> None:
    prepare.prepare("synthetic_lab", None, tmp_path)
    (tmp_path / "synthetic_lab" / "images.npy").write_bytes(b"not an array")
    findings = doctor.examine(tmp_path, tmp_path)
    assert by_name(findings)["data synthetic_lab"].level == PROBLEM
    assert "prepare it again" in by_name(findings)["data synthetic_lab"].text
    assert doctor.exit_code(findings) == 1


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    found = by_name(doctor.examine(file / "data", tmp_path))
    assert found["data"].level == PROBLEM
    assert "--data" in found["data"].advice


def test_a_torchvision_of_another_release_is_told(tmp_path: Path) -> None:
    ill = tmp_path / "torchvision"
    ill.mkdir()
    (ill / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    examine = "print(*doctor.examine(Path('d'), Path('r')), sep='\\n')"
    code = f"from pathlib import Path; from facex_tune.inspection import doctor; {examine}"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    line = next(line for line in done.stdout.splitlines() if "name='torchvision'" in line)
    assert "level='problem'" in line
    assert "nms does not exist" in line
    assert "pip install --upgrade torch torchvision" in line


@pytest.mark.slow
def test_ray_starts_and_stops_when_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a cluster is up, which Ray would otherwise join: nobody answers at this one's address."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    ray = by_name(doctor.examine(tmp_path, tmp_path, full=True))["ray"]
    assert ray.level == OK
    assert "starts and stops in" in ray.text
