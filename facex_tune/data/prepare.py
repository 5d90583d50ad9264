"""Bring a source into prepared form; the listing of `sources/` is the list of what can be prepared."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

from facex_tune.data import sources
from facex_tune.data.faces import Faces, Skipped, write
from facex_tune.data.groups import with_copies_grouped
from facex_tune.data.sources.folder import Classes
from facex_tune.errors import InputError, nearest

Progress = Callable[[int, int], None]


class Source(Protocol):
    """What a file in `sources/` offers.

    `ALSO`, where it has one, names further sources that are prepared with it. `NAMED_BY_USER`, where it is true, says
    that the user names the set, and that `load` also takes `folder.Classes`.
    """

    DESCRIPTION: str
    NEEDS_SOURCE: bool

    def load(self, path: Path | None, progress: Progress) -> tuple[Faces, list[Skipped]]:
        """All faces of the set, and what could not be read; faults of the whole are InputError."""


def names() -> list[str]:
    """The sources that can be prepared, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(sources.__path__) if not module.name.startswith("_"))


def find(name: str) -> Source:
    """The source of that name.

    Raises:
        InputError: unknown; the message names the nearest ones.
    """
    if name not in names():
        raise InputError(f"unknown data source {name!r}: {nearest(name, names())}")
    return cast(Source, importlib.import_module(f"{sources.__name__}.{name}"))


def _silent(done: int, total: int) -> None:
    """Nobody watches."""


def prepare(
    name: str,
    source: Path | None,
    data_dir: Path,
    progress: Progress = _silent,
    *,
    set_name: str | None = None,
    classes: Classes | None = None,
) -> dict[str, dict[str, Any]]:
    """Prepare a source in `data_dir`; returns each written set's manifest by its name.

    Exact, mirrored and near copies get one `group`. Preparing the same faces again leaves the files as they are.
    `progress` hears (done, total), first in faces or bytes, then in passes over the set.

    Args:
        set_name: what to name the set, for sources that leave it to the user (`folder`).
        classes: what to do with unknown class folders, for the same sources.

    Raises:
        InputError: unknown name, source missing, not wanted or faulty, options that the source does not take, or no
            space left.
    """
    part = find(name)
    if part.NEEDS_SOURCE and source is None:
        raise InputError(f"data source {name!r} is read from a download: run `facex-tune data prepare {name} SOURCE`")
    if source is not None and not part.NEEDS_SOURCE:
        raise InputError(f"data source {name!r} is drawn and takes no SOURCE, got {source}: leave it out")
    origin: dict[str, Any] = {"name": name, "path": None if source is None else str(source)}
    if getattr(part, "NAMED_BY_USER", False):
        return _prepare_named(part, source, data_dir, progress, origin, set_name, classes or Classes())
    if set_name is not None or classes is not None:
        raise InputError(f"--as, --map and --drop go with `data prepare folder` only: data source {name!r} takes none")
    faces, skipped = part.load(source, progress)
    if part.NEEDS_SOURCE:  # drawn faces are each somebody else's
        faces = with_copies_grouped(faces, progress)
    manifests = {name: write(faces, data_dir, name, source=origin, skipped=skipped)}
    for other in getattr(part, "ALSO", ()):
        manifests |= prepare(other, None, data_dir, progress)
    return manifests


def _prepare_named(
    part: Any,
    source: Path | None,
    data_dir: Path,
    progress: Progress,
    origin: dict[str, Any],
    set_name: str | None,
    classes: Classes,
) -> dict[str, dict[str, Any]]:
    if set_name is None:
        raise InputError("name the set, as in `facex-tune data prepare folder SOURCE --as my_faces`")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", set_name):
        raise InputError(f"--as {set_name!r}: a set's name holds letters, digits, '_' and '-' only, 64 at most")
    if set_name in names():
        raise InputError(f"--as {set_name!r} is the name of a data source: choose another, such as my_{set_name}")
    faces, skipped = part.load(source, progress, classes)
    faces = with_copies_grouped(faces, progress)
    origin |= {"map": dict(classes.rename), "drop": list(classes.drop)}
    return {set_name: write(faces, data_dir, set_name, source=origin, skipped=skipped)}
