"""What the names of folders and files say: splits, emotions, subjects, sequences; and what they only look like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from facex_tune.emotions import EMOTIONS, canonical
from facex_tune.errors import InputError

SPLIT_WORDS = {"train": "train", "validation": "public_test", "test": "test"}
"""What `--split NAME=...` may say, and the split it means."""

_SPLITS = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(
        ("val", "valid", "validation", "dev", "publictest", "valset", "validset", "validationset", "devset"),
        "public_test",
    ),
    **dict.fromkeys(("privatetest",), "private_test"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}
_FILLERS = frozenset((
    "set", "sets", "data", "dataset", "images", "image", "imgs", "img", "pics", "pictures", "face", "faces", "facial",
    "aligned", "cropped", "crop", "crops", "split", "folder", "new", "fer", "ferplus", "raf", "rafdb", "db",
    "affectnet", "sfew", "afew", "expw", "mmafedb", "mma",
))  # fmt: skip
_CONTAINERS = _FILLERS | {
    "raw", "original", "origin", "archive", "content", "files", "all", "frames", "photos", "basic", "main", "part",
}  # fmt: skip
_SUBJECT = re.compile(r"(s|p|f|m|sub|subj|subject|person|actor|participant|user|id)[ _-]?\d+", re.IGNORECASE)


@cache  # folders are few, and images many
def split_of(folder: str) -> str | None:
    """The split that a folder's name says, such as `Train_Aligned_Faces` or `FER2013Valid`; None where it says none."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_]+", folder)]
    return _SPLITS.get("".join(word for word in words if word not in _FILLERS))


@cache
def emotion_of(folder: str) -> int | None:
    """The emotion that a folder's name says, also with a number before it or `faces` after it; None: it says none.

    Raises:
        InputError: the name may mean two emotions.
    """
    words = [word for word in re.split(r"[\s_.-]+", folder.strip()) if word]
    plain = " ".join(words[words[0].isdigit() if len(words) > 1 else 0 :])
    for word in (folder, plain, " ".join(each for each in plain.split() if each.lower() not in _FILLERS)):
        try:
            return canonical(word)
        except InputError as error:
            if "ambiguous" in str(error):
                raise
    return None


def looks_like(folders: Sequence[str]) -> str:
    """What folders that are no emotions look like, in words that begin with a semicolon; "" where nobody knows."""
    numbers = [folder for folder in folders if folder.strip().isdigit()]
    classes = [folder for folder in numbers if is_class_number(folder)]
    subjects = [folder for folder in folders if _SUBJECT.fullmatch(folder.strip())]
    words_of = {folder: set(re.findall(r"[a-z]+", folder.lower())) for folder in folders}
    containers = [folder for folder, words in words_of.items() if words and words <= _CONTAINERS]
    said = ""
    if numbers and len(classes) < len(numbers):
        said += f"; {_some(numbers)} look like sequences (--sequence REGEX) or parts of a set, not like classes"
    elif numbers:
        said += f"; {_some(numbers)} are numbers, which mean another emotion in each set"
    if subjects:
        said += f"; {_some(subjects)} look like people (--subject REGEX)"
    if containers:
        said += f"; {_some(containers)} look like mere containers: name a folder below, or the label file with --labels"
    return said


def is_class_number(folder: str) -> bool:
    """Whether a folder's name is a number as sets number their classes: small, with one zero before it at most."""
    word = folder.strip()
    return word.isdigit() and len(word) <= 2 and int(word) <= len(EMOTIONS) + 2


def _some(names: Sequence[str], n: int = 3) -> str:
    return ", ".join(names[:n]) + (", ..." if len(names) > n else "")


@dataclass(frozen=True)
class Habit:
    """How a set (or, without a name, many) writes who is seen into its paths: groups `subject` and `sequence`."""

    name: str
    pattern: re.Pattern[str]


HABITS = (
    Habit("CK+", re.compile(r"(?:^|/)(?P<subject>S\d{3})_(?P<sequence>\d{3})_\d{8}[^/]*$")),
    Habit("RAVDESS", re.compile(r"(?:^|/)(?P<sequence>(?:\d\d-){6}(?P<subject>\d\d))(?!\d)[^/]*$")),
    Habit("KDEF", re.compile(r"(?:^|/)[AB](?P<subject>[FM]\d\d)(?:AF|AN|DI|HA|NE|SA|SU)(?:FL|HL|S|HR|FR)\.[^/]*$")),
    Habit("JAFFE", re.compile(r"(?:^|/)(?P<subject>[A-Z]{2})\.(?:NE|HA|SA|SU|AN|DI|FE)\d\.\d+[^/]*$")),
    Habit("", re.compile(
        r"(?:^|[/_. -])(?P<subject>(?:sub|subj|subject|person|actor|participant)[ _-]?\d+)(?!\d)", re.IGNORECASE)),
    Habit("", re.compile(r"(?:^|/)(?P<subject>[SPsp]\d{2,4})/")),
)  # fmt: skip
_SHARE = 0.95  # of the pictures that must follow a habit


def habit_of(names: Sequence[str]) -> Habit | None:
    """The habit that nearly all names follow, and by which people come again; None where there is none."""
    for habit in HABITS:
        found = [match["subject"] for name in names if (match := habit.pattern.search(name))]
        if len(found) >= _SHARE * len(names) and 2 <= len(set(found)) <= len(found) / 2:
            return habit
    return None
