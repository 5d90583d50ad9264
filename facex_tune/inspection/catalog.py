"""Parts and data sets as plain data: what `parts` and `data` print, in a terminal or as one JSON document.

Reads and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from facex_tune import parts
from facex_tune.data import faces, prepare
from facex_tune.errors import InputError, nearest
from facex_tune.space import FAMILIES, Choice, Knob, Open

VERSION = 1


def of_parts(families: Iterable[str], wanted: Sequence[str] = ()) -> dict[str, Any]:
    """Every part by family, or those wanted: summary, where it comes from, knobs with their ranges.

    Raises:
        InputError: a part that is wanted is in none of the families.
    """
    listed = {family: parts.names(family) for family in families}
    known = [name for names in listed.values() for name in names]
    if strange := [name for name in wanted if name not in known]:
        raise InputError(f"parts: no part named {strange[0]!r} among {', '.join(listed)}; {nearest(strange[0], known)}")
    return {
        "version": VERSION,
        "families": {
            family: {name: _part(family, name) for name in names if not wanted or name in wanted}
            for family, names in listed.items()
        },
    }


def of_data(data_dir: Path) -> dict[str, Any]:
    """Prepared data sets with their counts, and the sources from which more can be prepared."""
    prepared = {name: _manifest(data_dir, name) for name in faces.prepared_names(data_dir)}
    sources = {name: prepare.find(name) for name in prepare.names()}
    return {
        "version": VERSION,
        "folder": str(data_dir),
        "prepared": prepared,
        "sources": {
            name: {
                "description": source.DESCRIPTION,
                "needs_source": source.NEEDS_SOURCE,
                "named_by_user": getattr(source, "NAMED_BY_USER", False),
            }
            for name, source in sources.items()
        },
    }


def of_set(data_dir: Path, name: str) -> dict[str, Any]:
    """One prepared set: its manifest, how many groups and sequences, and what the annotators' majority says.

    Raises:
        InputError: the set is not prepared or is damaged.
    """
    found = faces.open_set(data_dir, name)
    manifest = faces.read_manifest(data_dir, name)
    document = {"version": VERSION, "folder": str(data_dir / name)} | manifest
    document["groups"] = {split: len(set(found.where(split).group_N.tolist())) for split in manifest["counts"]}
    document["sequences"] = len(set(found.sequence_N[found.sequence_N >= 0].tolist()))
    document["majority_counts"] = None
    if found.votes_NC is not None:
        labels_N = faces.majority_labels(found.votes_NC)
        won = replace(found.take(labels_N >= 0), labels_N=labels_N[labels_N >= 0])
        document["majority_counts"] = faces.counts(won)
    return document


def _manifest(data_dir: Path, name: str) -> dict[str, Any]:
    try:
        return faces.read_manifest(data_dir, name)
    except InputError as error:  # one damaged set must not hide the others
        return {"name": name, "problem": error.problems[0]}


def family(name: str) -> str:
    """A family, by its name or its folder's (`model` or `models`).

    Raises:
        InputError: no such family.
    """
    by_folder = {folder: family for family, folder in parts.FOLDERS.items()}
    found = by_folder.get(name, name)
    if found not in FAMILIES:
        raise InputError(f"parts: no family named {name!r}; {nearest(name, FAMILIES)}")
    return found


def _part(family: str, name: str) -> dict[str, Any]:
    module: Any = parts.find(family, name)
    own = Path(module.__file__).parent.parent != Path(parts.__file__).parent
    return {
        "summary": parts.summary(family, name),
        "file": str(module.__file__) if own else f"{parts.FOLDERS[family]}/{name}.py",
        "knobs": {knob_name: _knob(knob) for knob_name, knob in module.SPACE.items()},
    }


def _knob(knob: Knob) -> dict[str, Any]:
    if isinstance(knob, Choice):
        also = {"also": knob.also} if isinstance(knob, Open) and knob.also else {}
        return {"type": "choice", "choices": list(knob.options), "default": knob.default, "doc": knob.doc, **also}
    kind = type(knob).__name__.lower()
    return {"type": kind, **{name: getattr(knob, name) for name in ("low", "high", "log", "default", "doc")}}
