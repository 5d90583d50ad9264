"""Copies of a set's faces in the other sets that are prepared beside it: a set under another name is no second set."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.faces import Faces, open_set, prepared_names, read_manifest
from facex_tune.data.near import blank, near_between
from facex_tune.errors import InputError
from facex_tune.storage import files
from facex_tune.study.words import plural

LONGEST_S = 60.0
"""For near copies, all sets together; exact and mirrored ones are always looked for."""
_SAMPLE = 1024  # faces of each set, by which the time is estimated
_MOSTLY = 0.5  # of a set's faces


@dataclass(frozen=True)
class Across:
    """Faces of a set that stand in another one; blank faces are nobody's copies and are not counted.

    Attributes:
        in_set: the other set's name.
        n, n_other: faces of each.
        exact, mirrored, near: faces of this set with such a copy there, each counted once; near is None where it was
            not looked for, because it would have taken `near_s` seconds.
        sampled: faces with a near copy among those of both sets by which that time was estimated.
        of_other: faces of the other set that have a copy here.
    """

    in_set: str
    n: int
    n_other: int
    exact: int
    mirrored: int
    near: int | None
    of_other: int
    near_s: float
    sampled: int

    @property
    def copies(self) -> int:
        return self.exact + self.mirrored + (self.near or 0)

    def to_data(self) -> dict[str, Any]:
        return asdict(self)


def across(
    data_dir: Path,
    name: str,
    longest_s: float = LONGEST_S,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Across]:
    """What of a prepared set stands in each other one, the smallest first; drawn sets are left out.

    `progress` hears (done, total) in sets.
    """
    if _is_drawn(data_dir, name):
        return []
    mine, found, left_s = open_set(data_dir, name), [], longest_s
    others = _others(data_dir, name)
    for number, (other, theirs) in enumerate(others):
        row = _compared(mine, other, theirs, left_s)
        left_s -= row.near_s if row.near is not None else 0
        found.append(row)
        progress(number + 1, len(others))
    return found


def told(found: Sequence[Across], name: str, data_dir: Path) -> list[str]:
    """What to tell of it, a sentence each: sets that share faces, then what was not looked for, and the command."""
    said = [_told(row, name) for row in found if row.copies]
    said += [_told_sample(row) for row in found if row.near is None and row.sampled]
    if not_yet := [row.in_set for row in found if row.near is None]:
        where = "" if data_dir == files.absolute("data") else f" --data {shlex.quote(str(data_dir))}"
        seconds = sum(row.near_s for row in found if row.near is None)
        said.append(
            f"near copies in {', '.join(not_yet)} were not looked for (about {max(1, round(seconds / 60))} min): run "
            f"`facex-tune data audit {' '.join([name, *not_yet])}{where}`"
        )
    return said


def _told(row: Across, name: str) -> str:
    kinds = [f"{row.exact:,} exact", f"{row.mirrored:,} mirrored"]
    kinds += [] if row.near is None else [f"{row.near:,} near"]
    said = (
        f"{plural(row.copies, 'face')} of {row.n:,} are copies of faces of {row.in_set} ({', '.join(kinds)}), "
        f"{row.of_other:,} of whose {row.n_other:,} stand here"
    )
    if row.copies > _MOSTLY * row.n:
        return f"{said}: most of {name} is faces of {row.in_set}, and no second set beside it"
    return f"{said}; a study that trains on one and is scored on the other needs duplicates: drop"


def _told_sample(row: Across) -> str:
    return (
        f"in a sample, {row.sampled:,} of {min(row.n, _SAMPLE):,} faces are near copies of one of "
        f"{min(row.n_other, _SAMPLE):,} of {row.in_set}: among all there are more"
    )


def _others(data_dir: Path, name: str) -> list[tuple[str, Faces]]:
    """The other sets that can be read and are not drawn, smallest first."""
    sets = []
    for other in prepared_names(data_dir):
        with suppress(InputError):  # a damaged set is told of where it is asked for
            if other != name and not _is_drawn(data_dir, other):
                sets.append((other, open_set(data_dir, other)))
    return sorted(sets, key=lambda each: len(each[1]))


def _is_drawn(data_dir: Path, name: str) -> bool:
    """Whether a set's faces were drawn by this program, and so are nobody's copies."""
    source = read_manifest(data_dir, name)["source"]
    return str(source.get("name", "")).startswith("synthetic") and source.get("path") is None


def _compared(mine: Faces, other: str, theirs: Faces, left_s: float) -> Across:
    digest_N, turned_N = _digests(mine), _digests(mine, mirrored=True)
    digest_M, turned_M = _digests(theirs), _digests(theirs, mirrored=True)
    seen_N, seen_M = ~blank(mine.images_NHW), ~blank(theirs.images_NHW)
    exact_N = np.isin(digest_N, digest_M) & seen_N
    mirrored_N = np.isin(turned_N, digest_M) & seen_N & ~exact_N
    of_other_M = (np.isin(digest_M, digest_N) | np.isin(turned_M, digest_N)) & seen_M
    rows_N = np.flatnonzero(seen_N & ~exact_N & ~mirrored_N)
    near, (near_s, sampled) = None, _sampled(mine.images_NHW, rows_N, theirs.images_NHW)
    if near_s <= left_s:
        pairs = near_between(mine.images_NHW[rows_N], theirs.images_NHW)
        near = len(np.unique(pairs.first_P))
        of_other_M[pairs.second_P] = True
    counts = (int(exact_N.sum()), int(mirrored_N.sum()), near, int(of_other_M.sum()))
    return Across(other, len(mine), len(theirs), *counts, round(near_s, 1), sampled)


def _digests(faces: Faces, *, mirrored: bool = False) -> NDArray[np.bytes_]:
    step = -1 if mirrored else 1
    found = [hashlib.blake2b(image[:, ::step].tobytes(), digest_size=16).hexdigest() for image in faces.images_NHW]
    return np.array(found, np.bytes_)


def _sampled(
    mine_NHW: NDArray[np.uint8], rows_N: NDArray[np.int64], theirs_NHW: NDArray[np.uint8]
) -> tuple[float, int]:
    """How many seconds near copies would take to find, and how many there are, in a sample of both sets: the time grows
    with the product of their sizes.
    """
    if not len(rows_N) or not len(theirs_NHW):
        return 0.0, 0
    some, others = (rows[:: -(-len(rows) // _SAMPLE)] for rows in (rows_N, np.arange(len(theirs_NHW))))
    began = time.perf_counter()
    pairs = near_between(mine_NHW[some], theirs_NHW[others])
    share = (len(rows_N) * len(theirs_NHW)) / (len(some) * len(others))
    return (time.perf_counter() - began) * share, len(np.unique(pairs.first_P))
