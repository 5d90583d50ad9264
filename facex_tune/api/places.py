"""Where runs and prepared data lie, and on what a run is executed, as the Python interface is told of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facex_tune import parts as known_parts
from facex_tune.storage import files

if TYPE_CHECKING:
    from facex_tune.pipeline.options import Options
    from facex_tune.storage.files import Place


def storage_place(storage: Place | str | None) -> Place:
    """Gives the folder of runs: the one that is said, else that of FACEX_STORAGE, else ``runs``."""
    return files.place(storage if storage is not None else os.environ.get("FACEX_STORAGE") or "runs")


def data_folder(data: Path | str | None) -> Path:
    """Gives the folder of prepared data sets: the one that is said, else that of FACEX_DATA, else ``data``."""
    return files.absolute(data if data is not None else os.environ.get("FACEX_DATA") or "data")


def options(
    storage: Place | str | None,
    data: Path | str | None,
    device: str | None,
    parts: Sequence[Path | str],
    address: str | None,
) -> Options:
    """Makes the pipeline's options. The user's own parts are known from here on."""
    from facex_tune.pipeline.options import Options

    use_parts(parts)
    folders = tuple(files.absolute(folder) for folder in parts)
    return Options(storage_place(storage), data_folder(data), device, folders, address)


def use_parts(folders: Sequence[Path | str]) -> None:
    """Makes the parts of these folders known."""
    for folder in folders:
        known_parts.use_folder(folder)
