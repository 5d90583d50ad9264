"""What travels with a job: the package's own source, the study and the user's parts. No data, no runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import facex_tune
from facex_tune.errors import InputError

STUDY = "study.yaml"
PARTS = "parts"
LARGEST_BYTES = 20e6  # Ray takes 500 MB; parts are code
_SOURCES = ("*.py", "*.html", "*.css", "*.js", "*.json", "*.md")


@contextmanager
def packed(study: Path, own_parts: Sequence[Path]) -> Iterator[Path]:
    """A temporary working directory for one job, while the block lasts.

    The package travels with it, so that the cluster runs the code that checked the study; what it is built on must
    be installed there.

    Raises:
        InputError: a folder of parts is missing or too large to be one.
    """
    with TemporaryDirectory(prefix="facex-tune-job-") as temporary:
        folder = Path(temporary)
        _copy_sources(Path(facex_tune.__file__).parent, folder / "facex_tune", _SOURCES)
        shutil.copyfile(study, folder / STUDY)
        for number, parts in enumerate(own_parts):
            _copy_parts(parts, folder / PARTS / str(number))
        yield folder


def parts_arguments(own_parts: Sequence[Path]) -> list[str]:
    """How the packed parts are named on the command line of the job."""
    return [word for number in range(len(own_parts)) for word in ("--parts", f"{PARTS}/{number}")]


def _copy_parts(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise InputError(f"--parts {source}: no such folder")
    size = sum(path.stat().st_size for path in source.rglob("*.py"))
    if size > LARGEST_BYTES:
        raise InputError(f"--parts {source}: {size / 1e6:.0f} MB of Python; {LARGEST_BYTES / 1e6:.0f} MB at most")
    _copy_sources(source, target, ("*.py",))


def _copy_sources(source: Path, target: Path, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        for path in source.rglob(pattern):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
