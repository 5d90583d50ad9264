"""Several prepared sets as one: faces of each, told apart by number, without the copies that stand in two of them.

A copy is kept in the set that the study names first, with its label there. Subjects and groups of copies of one set are
never those of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.faces import Faces
from facex_tune.data.groups import copied_across, copies_between
from facex_tune.emotions import EMOTIONS
from facex_tune.study.words import plural


@dataclass(frozen=True)
class Joined:
    """Faces of one set or of several.

    Attributes:
        faces: of several sets, `source_N` begins with the set's name and a slash.
        set_N: the number in `sets` of each face's set.
        sets: the sets' names.
        first_group_S: what was added to the group numbers of each set, so that no two sets share one.
    """

    faces: Faces
    set_N: NDArray[np.int64]
    sets: tuple[str, ...]
    first_group_S: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.faces)

    def take(self, mask_N: NDArray[np.bool_]) -> Joined:
        """The faces under a mask."""
        return replace(self, faces=self.faces.take(mask_N), set_N=self.set_N[mask_N])

    def followed_by(self, other: Joined) -> Joined:
        """These faces and others of the same sets."""
        faces, set_N = _concatenated([self.faces, other.faces]), np.concatenate([self.set_N, other.set_N])
        return replace(self, faces=faces, set_N=set_N)

    def of(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Which faces are of these sets, mask_N."""
        return np.isin(self.set_N, [self.sets.index(name) for name in names])

    def counts(self) -> dict[str, dict[str, int]]:
        """Faces by set, then by emotion; emotions without a face are left out, sets without one are not."""
        return {
            name: {
                emotion: int(n)
                for emotion, n in zip(EMOTIONS, np.bincount(labels_N, minlength=len(EMOTIONS)), strict=True)
                if n
            }
            for name, labels_N in ((name, self.faces.labels_N[self.of([name])]) for name in self.sets)
        }

    def parts(self) -> Iterator[tuple[str, NDArray[np.int64], Faces]]:
        """Each set's name, the rows here of its faces, and those faces, with group numbers as in the prepared set."""
        for number, (name, first) in enumerate(zip(self.sets, self.first_group_S, strict=True)):
            rows_K = np.flatnonzero(self.set_N == number)
            part = self.faces.take(rows_K)
            yield name, rows_K, replace(part, group_N=part.group_N - first)

    def standing(self, held: Faces, name: str) -> NDArray[np.bool_]:
        """held_M: which faces of the prepared set of that name stand among these as exact, mirrored or near copies."""
        held_M = np.zeros(len(held), np.bool_)
        for own, _, part in self.parts():
            held_M |= copies_between(held, part, one_set=own == name)[0]
        return held_M

    def copied_from(self, held: Faces, name: str, data_dir: Path) -> NDArray[np.bool_]:
        """known_N: which of these faces are such copies. What takes long is kept in the data folder."""
        known_N = np.zeros(len(self), np.bool_)
        for own, rows_K, part in self.parts():
            same = own == name
            known_N[rows_K] = (
                copies_between(held, part, one_set=True)[1] if same else copied_across(held, part, data_dir)
            )
        return known_N


def join(
    sets: Sequence[str], trains: Sequence[Faces], validations: Sequence[Faces], data_dir: Path
) -> tuple[Joined, Joined, dict[str, int]]:
    """(train, validation, left_out) of several sets: all their faces but the training faces that copy a validation face
    of another set, or a training face of a set named before; `left_out` is how many those are, by set.

    Args:
        data_dir: where to keep what took long to find.
    """
    kept: list[Faces] = []
    left_out = {}
    for number, (name, train) in enumerate(zip(sets, trains, strict=True)):
        others = [*kept, *(each for at, each in enumerate(validations) if at != number)]
        copied_N = np.zeros(len(train), np.bool_)
        for held in others:
            copied_N |= copied_across(held, train, data_dir)
        left_out[name] = int(copied_N.sum())
        kept.append(train.take(~copied_N))
    first_groups = _first_groups(trains, validations)
    return _joined(sets, kept, first_groups), _joined(sets, validations, first_groups), left_out


def _first_groups(trains: Sequence[Faces], validations: Sequence[Faces]) -> tuple[int, ...]:
    """What each set's group numbers are moved by, to lie above those of the sets before."""
    found, above = [], 0
    for train, validation in zip(trains, validations, strict=True):
        groups_N = np.concatenate([train.group_N, validation.group_N])
        low = int(groups_N.min(initial=0))
        found.append(above - low)
        above += int(groups_N.max(initial=0)) - low + 1
    return tuple(found)


def _joined(sets: Sequence[str], parts: Sequence[Faces], first_groups: tuple[int, ...]) -> Joined:
    if len(parts) == 1:  # as it is: a memory map stays one
        return Joined(parts[0], np.zeros(len(parts[0]), np.int64), tuple(sets), first_groups)
    moved = [
        replace(
            part,
            group_N=part.group_N + first,
            source_N=np.array([f"{name}/{source}" for source in part.source_N], np.str_),
        )
        for name, part, first in zip(sets, parts, first_groups, strict=True)
    ]
    set_N = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Joined(_concatenated(moved), set_N, tuple(sets), first_groups)


def _concatenated(parts: Sequence[Faces]) -> Faces:
    """The faces of all; a field that one lacks, all lack."""
    values = {each.name: [getattr(part, each.name) for part in parts] for each in fields(Faces)}
    whole: dict[str, Any] = {
        name: None if any(value is None for value in of_part) else np.concatenate(of_part)
        for name, of_part in values.items()
    }
    return Faces(**whole)


def even_odds(joined: Joined) -> NDArray[np.float32]:
    """odds_N of each face to be drawn, such that within each emotion every set that shows it comes as often as any
    other. Their mean over an emotion's faces is 1: an emotion comes as often as it did.
    """
    odds_N = np.ones(len(joined), np.float32)
    for label in np.unique(joined.faces.labels_N):
        of_label_N = joined.faces.labels_N == label
        n_S = np.bincount(joined.set_N[of_label_N], minlength=len(joined.sets))
        share = n_S.sum() / np.count_nonzero(n_S)
        odds_N[of_label_N] = share / n_S[joined.set_N[of_label_N]]
    return odds_N


def told_of_share(share: Mapping[str, Any]) -> str:
    """What a set gives to a study of several, in a sentence; `share` is one of `TrainingSet.by_set`."""
    told = []
    for use, split in (("trained on", "train"), ("validated with", "validation")):
        if n_C := share[split]:
            per_emotion = ", ".join(f"{name} {n:,}" for name, n in n_C.items())
            told.append(f"{use} {plural(sum(n_C.values()), 'face')} ({per_emotion})")
    left_out = f"{share['copies']:,} left out as copies of faces in the other sets" if share["copies"] else ""
    return "; ".join([*told, *([left_out] if left_out else [])]) or "gives no face"
