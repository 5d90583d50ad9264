"""What a shell completes: names of runs and of prepared sets, studies' files, states. Looks into local folders
alone, imports nothing that takes time, and says nothing where it cannot look.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import typer

MOST = 200  # names
DEEP = 2  # folders below the one that is asked for
STUDIES = (".yaml", ".yml")
DEVICES = ("auto", "cpu", "cuda", "mps")
TRIAL_STATES = ("finished", "stopped", "running", "failed")
RUN_STATES = ("running", "interrupted", "searched", "retrained", "evaluated", "finished", "not begun", "damaged")
FAMILIES = ("model", "augment", "balance")


def among(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Completes to one of these."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def run_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The runs of `--storage`, the newest first; none where that is a URL."""
    folder = _folder(ctx, "storage", "FACEX_STORAGE", "runs")
    return [] if folder is None else _names(folder, "run.json", incomplete)


def set_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The prepared sets of `--data`."""
    folder = _folder(ctx, "data", "FACEX_DATA", "data")
    return [] if folder is None else sorted(_names(folder, "manifest.json", incomplete))


def runs_and_sets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Both."""
    return [*run_names(ctx, incomplete), *set_names(ctx, incomplete)]


def study_files(incomplete: str) -> list[str]:
    """Studies below the folder that has been written so far, as they are written."""
    written, _, _ = incomplete.rpartition("/")
    folder = Path(written or ("/" if incomplete.startswith("/") else "."))
    before = f"{written}/" if "/" in incomplete else ""
    found = (f"{before}{path.relative_to(folder).as_posix()}" for path in _studies(folder, DEEP))
    return [name for name, _ in zip((name for name in found if name.startswith(incomplete)), range(MOST), strict=False)]


def _studies(folder: Path, deep: int) -> Iterator[Path]:
    """Its own first, in their order."""
    with suppress(OSError):
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        yield from (entry for entry in entries if entry.suffix in STUDIES and entry.is_file())
        for entry in entries:
            if deep and entry.is_dir() and not entry.is_symlink():
                yield from _studies(entry, deep - 1)


def _folder(ctx: typer.Context, option: str, variable: str, usual: str) -> Path | None:
    said = str(ctx.params.get(option) or os.environ.get(variable) or usual)
    return None if "://" in said else Path(said).expanduser()


def _names(folder: Path, mark: str, incomplete: str) -> list[str]:
    found: list[tuple[float, str]] = []
    with suppress(OSError):
        for entry in folder.iterdir():
            with suppress(OSError):
                if entry.name.startswith(incomplete):
                    found.append((-(entry / mark).stat().st_mtime, entry.name))
    return [name for _, name in sorted(found)[:MOST]]
