"""Bring a source into prepared form; the listing of `sources/` is the list of what can be prepared."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, cast

from facex_tune.data import sources
from facex_tune.data.faces import counts, is_prepared, read_manifest, write
from facex_tune.data.groups import with_copies_grouped
from facex_tune.data.importing import FLAGS, NOTHING, Asked, Loaded, Progress, Published, notes, proof, sizes
from facex_tune.data.shapes import coloured
from facex_tune.emotions import GREY_48
from facex_tune.errors import InputError, nearest


class Source(Protocol):
    """What a file in `sources/` offers; `sources/__init__.py` says how one is written."""

    DESCRIPTION: str
    NEEDS_SOURCE: bool

    def load(self, path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
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
    asked: Asked = NOTHING,
) -> dict[str, dict[str, Any]]:
    """Prepare a source in `data_dir`; returns each written set's manifest by its name.

    Exact, mirrored and near copies get one `group`. Preparing the same faces again leaves the files as they are.
    `progress` hears (done, total), first in faces or bytes, then in passes over the set.

    Args:
        set_name: what to name the set, for sources that leave it to the user (`folder`).
        asked: what else the user asked for; each source says what it takes (`OPTIONS`).

    Raises:
        InputError: unknown name, source missing, not wanted or faulty, not proven to be what its name says, options
            that the source does not take, or no space left.
    """
    part = _checked(name, source, set_name, asked)
    if getattr(part, "NAMED_BY_USER", False):
        own = _own_name(name, set_name)
        return {own: _prepared(name, part, source, data_dir, progress, asked, own)}
    manifests = {name: _prepared(name, part, source, data_dir, progress, asked, name)}
    for other in getattr(part, "ALSO", ()):
        manifests |= prepare(other, None, data_dir, progress, asked=asked)
    return manifests


def preview(
    name: str, source: Path | None, folder: Path, progress: Progress, set_name: str | None, asked: Asked
) -> tuple[dict[str, Any], list[Path]]:
    """Read a source and write pictures of what it would become, without preparing it.

    Returns:
        {n, counts, notes, skipped} and the paths written.

    Raises:
        InputError: as `prepare`, or the folder cannot be written.
    """
    from facex_tune.data import sheets

    part = _checked(name, source, set_name, asked)
    loaded = _loaded(part, source, progress, asked)
    document = {
        "n": len(loaded.faces),
        "counts": counts(loaded.faces),
        "notes": [*loaded.notes, *notes(loaded)],
        "skipped": [asdict(skip) for skip in loaded.skipped],
    }
    return document, sheets.write_show(loaded.faces, document, folder)


def _checked(name: str, source: Path | None, set_name: str | None, asked: Asked) -> Source:
    """The source, where what was asked goes with it."""
    part = find(name)
    if part.NEEDS_SOURCE and source is None:
        raise InputError(f"data source {name!r} is read from a download: run `facex-tune data prepare {name} SOURCE`")
    if source is not None and not part.NEEDS_SOURCE:
        raise InputError(f"data source {name!r} is drawn and takes no SOURCE, got {source}: leave it out")
    _refuse_options(name, part, set_name, asked)
    return part


def _refuse_options(name: str, part: Source, set_name: str | None, asked: Asked) -> None:
    """InputError that names the options that the source does not take."""
    taken = getattr(part, "OPTIONS", ())
    strange = [flag for option in asked.given() if option not in taken for flag in FLAGS[option]]
    if set_name is not None and not getattr(part, "NAMED_BY_USER", False):
        strange = ["--as", *strange]
    if strange:
        where = f"do not go with `data prepare {name}`: "
        shape = f"; its faces are {GREY_48}" if {"--size", "--colour"} & set(strange) else ""
        raise InputError(f"{', '.join(strange)} {where}data source {name!r} takes {_taken(taken)}{shape}")


def _taken(options: Sequence[str]) -> str:
    return ", ".join(flag for option in options for flag in FLAGS[option]) or "none"


def _own_name(name: str, set_name: str | None) -> str:
    if set_name is None:
        raise InputError(f"name the set, as in `facex-tune data prepare {name} SOURCE --as my_faces`")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", set_name):
        raise InputError(f"--as {set_name!r}: a set's name holds letters, digits, '_' and '-' only, 64 at most")
    if set_name in names():
        raise InputError(f"--as {set_name!r} is the name of a data source: choose another, such as my_{set_name}")
    return set_name


def _prepared(
    name: str, part: Source, source: Path | None, data_dir: Path, progress: Progress, asked: Asked, set_name: str
) -> dict[str, Any]:
    """The manifest of a set that was loaded, proven, grouped and written."""
    loaded = _loaded(part, source, progress, asked)
    published: Sequence[Published] = getattr(part, "PUBLISHED", ())
    proven, short = proof(name, loaded, published, asked)
    if proven is False:
        _keep_the_proven(data_dir, set_name, published)
    pictures = sizes(loaded, asked, source)
    faces = loaded.faces
    if part.NEEDS_SOURCE:  # drawn faces are each somebody else's
        faces = with_copies_grouped(faces, progress)
    about = {
        "proven": proven,
        "incomplete": short,
        "notes": [*loaded.notes, *notes(loaded)],
        "pictures": pictures,
    }
    origin = {"name": name, "path": None if source is None else str(source)} | asked.recorded()
    return write(faces, data_dir, set_name, source=origin, skipped=loaded.skipped, about=about)


def _loaded(part: Source, source: Path | None, progress: Progress, asked: Asked) -> Loaded:
    """What the source reads, in the shape that was asked for.

    Raises:
        InputError: colours were asked for, and there are none.
    """
    loaded = part.load(source, progress, asked)
    if loaded.faces.face != asked.face:  # an importer of a user's own that says it heeds `--size` and does not
        raise InputError(f"{source}: {asked.face} was asked for and {loaded.faces.face} was read: leave that out")
    if asked.colour and not coloured(loaded.faces.images_NHW).any():
        raise InputError(f"--colour: not one of the {len(loaded.faces):,} faces of {source} has colours: leave it out")
    return loaded


def _keep_the_proven(data_dir: Path, set_name: str, published: Sequence[Published]) -> None:
    """InputError where a set that is not proven would replace one that is."""
    if _is_proven(data_dir, set_name, published):
        raise InputError(
            f"{data_dir / set_name} is proven to be {set_name} and stays: prepare the incomplete one into another "
            "folder with --data, or delete that one first"
        )


def _is_proven(data_dir: Path, set_name: str, published: Sequence[Published]) -> bool:
    """Whether a prepared set is proven; one of an older version, which does not say, by its counts."""
    if not is_prepared(data_dir, set_name):
        return False
    try:
        there = read_manifest(data_dir, set_name)
    except InputError:  # damaged: to be replaced
        return False
    if there["proven"] is None:
        return any(each.is_met(there["counts"]) for each in published)
    return bool(there["proven"])
