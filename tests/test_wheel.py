"""A wheel, built and installed in an environment of its own, has all that a report and the service's pages need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OLD_RUN = ROOT / "tests" / "runs" / "old_runs" / "54211a0.zip"
DATA_SUFFIXES = {".csv", ".gz", ".html", ".css", ".js", ".json", ".svg", ".typed", ".md", ".j2"}


def ran(*words: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "FACEX_STORAGE")}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree, so that nothing is left in it."""
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("the sources are not here")
    pytest.importorskip("setuptools", reason="builds the wheel")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / "facex_tune").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    ran(sys.executable, "-c", code, cwd=source)
    return next(out.glob("*.whl"))


def test_every_file_of_the_package_that_is_no_code_is_in_it(wheel: Path) -> None:
    there = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "facex_tune").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {Path(name).suffix for name in wanted} <= DATA_SUFFIXES | {".py"}, "a new kind of file: does it belong here?"
    assert wanted - there == set()
    assert not [name for name in there if name.startswith(("tests", "docs", "search_spaces", "cluster"))]


@pytest.mark.slow
def test_it_writes_a_report_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    ran(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    # What the package needs is taken from here: the path alone, so that an editable install of this tree has no part.
    site = Path(ran(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = Path(ran(python, "-c", "import facex_tune; print(facex_tune.__file__)", cwd=tmp_path).strip())
    assert where.is_relative_to(site)
    work = tmp_path / "work"
    zipfile.ZipFile(OLD_RUN).extractall(work)
    told = work / "runs" / "whole" / "report" / "report.json"
    told.unlink()
    ran(python.with_name("facex-tune"), "report", "whole", cwd=work)
    assert json.loads(told.read_text())["models"]
    assert (told.parent / "report.schema.json").is_file()
    assert "<html" in (told.parent / "index.html").read_text()
    assert "timm" in ran(python.with_name("facex-tune"), "parts", cwd=work)
    few = ["--set", "budget.trials=2", "--seeds", "1", "--json"]
    study = ROOT / "search_spaces" / "small_curves.yaml"
    simulated = ran(python.with_name("facex-tune"), "simulate", study, *few, cwd=work)
    assert json.loads(simulated)["arms"][0]["trials"] == 2, "on the curves of the package"
