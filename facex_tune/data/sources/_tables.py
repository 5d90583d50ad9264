"""What importers of tables share: words that become emotions, and pictures that lie in other files than their own."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from facex_tune.data import known, naming
from facex_tune.data.importing import Asked, key
from facex_tune.data.sources._labelled import Marked
from facex_tune.data.tree import Tree, is_zip, printable
from facex_tune.emotions import EMOTIONS, canonical
from facex_tune.errors import InputError

_LABELS = ("emotion", "label", "expression", "class")
_SHOWN = 10


def emotions(found: Sequence[tuple[str, Marked]], path: Path, asked: Asked) -> dict[str, int | None]:
    """Emotion by word, as `--map`, `--drop` and `--numbers` say, else by its name; None of those that are dropped.

    Args:
        found: each face with its word.

    Raises:
        InputError: words that are no emotion, all named with how many faces have each; bare numbers; all are dropped.
    """
    times = Counter(word for word, _ in found)
    labels: dict[str, int | None] = {}
    unknown = []
    for word in times:
        if key(word) in asked.classes.drop:
            labels[word] = None
        elif (label := _emotion(word, asked)) is not None:
            labels[word] = label
        else:
            unknown.append(word)
    if unknown and asked.numbers:
        lacking = [(word, each.name) for word, each in found if word in unknown]
        known.require_numbers(asked.numbers, [word.strip() for word, _ in lacking], [name for _, name in lacking])
    if unknown:
        raise InputError(_told_unknown(path, {word: times[word] for word in sorted(unknown)}))
    if not any(label is not None for label in labels.values()):
        raise InputError(f"{path}: every class is dropped; keep at least one")
    return labels


def _emotion(word: str, asked: Asked) -> int | None:
    if emotion := asked.classes.rename.get(key(word)):
        return canonical(emotion)
    if word.strip().isdecimal():
        return known.emotion(asked.numbers, int(word)) if asked.numbers else None
    return naming.emotion_of(word)


def _told_unknown(path: Path, times: Mapping[str, int]) -> str:
    listed = ", ".join(f"{printable(word[:40]) or '(empty)'} ({n:,})" for word, n in list(times.items())[:_SHOWN])
    more = f" and {len(times) - _SHOWN:,} more" if len(times) > _SHOWN else ""
    if all(word.strip().isdecimal() for word in times):
        numbers = {int(word) for word in times}
        fitting = [name for name in known.NUMBERINGS if numbers <= set(known.meaning(name))] or list(known.NUMBERINGS)
        orders = "; ".join(f"{name} ({known.told(name)})" for name in fitting)
        return (
            f"{path} has bare numbers as labels, {listed}{more}, which mean another emotion in each set: say whose "
            f"with --numbers NAME: {orders}"
        )
    return (
        f"{path} has labels that are no emotion: {listed}{more}; give each with --map NAME=EMOTION or leave it out "
        f"with --drop NAME; emotions: {', '.join(EMOTIONS)}"
    )


def label_column(columns: Iterable[str], path: Path) -> str:
    """The column that is called as labels are.

    Raises:
        InputError: none is, or several are.
    """
    there = list(columns)
    found = [column for word in _LABELS for column in there if key(column).removesuffix("s") == word.removesuffix("s")]
    if len(found) != 1:
        shown = ", ".join(printable(column[:40]) for column in there) or "none"
        what = "has several columns of labels" if found else "has no column of labels"
        raise InputError(f"{path} {what} ({' or '.join(_LABELS)} is wanted): found {shown}")
    return found[0]


def split_of(word: str, asked: Asked) -> str | None:
    """The split that a word says, as `--split` has it or by its name; None where it says none."""
    return asked.splits.get(key(word)) or naming.split_of(word)


def require_split(word: str, path: Path, asked: Asked) -> str:
    """The split that a word says.

    Raises:
        InputError: it says none.
    """
    if (split := split_of(word, asked)) is None:
        raise InputError(
            f"{path}: {printable(word[:60])!r} is the name of no split; say which with --split NAME="
            f"{'|'.join(naming.SPLIT_WORDS)}"
        )
    return split


def require_unpacked(path: Path) -> None:
    """InputError where tables or shards, which are read in any order, lie in a zip."""
    if is_zip(path):
        raise InputError(f"{path} is a zip: unpack it and name the folder that was in it")


def tree_of(path: Path, sizes_bytes: Mapping[str, int], read: Callable[[str], bytes]) -> Tree:
    """Pictures that are no files of their own, as a tree, one of which is read at a time."""
    return Tree(path, list(sizes_bytes), [], sizes_bytes.__getitem__, lambda name: io.BytesIO(read(name)))
