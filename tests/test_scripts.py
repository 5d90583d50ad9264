"""Every script outside the package starts: each one's `--help` answers, from another folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    path
    for folder in (ROOT / "tests" / "benchmarks", ROOT / "cluster")
    for path in folder.glob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)


def test_the_scripts_are_found() -> None:
    names = {path.name for path in SCRIPTS}
    assert {"search_job.py", "aws_prepare.py", "throughput.py", "search.py", "coverage.py"} <= names


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.name for path in SCRIPTS])
def test_it_starts_with_help(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path), "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "usage" in done.stdout.lower(), done.stdout
    assert not list(tmp_path.iterdir()), "help writes nothing"
