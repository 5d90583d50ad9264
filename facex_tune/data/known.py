"""Sets that are known: by how many faces of each class they have, and by how their files are named.

The counts and names were read off public loaders and list files. A wrong source is named by them, and a set whose
classes are bare numbers is proven.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError

NUMBERINGS: dict[str, tuple[int, tuple[str, ...]]] = {
    "fer2013": (0, ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")),
    "alphabetical": (0, ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")),
    "rafdb": (1, ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")),
    "affectnet": (0, ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")),
    "affectnet_yolo": (0, ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")),
    "ferplus": (0, ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")),
    "ckplus": (0, ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")),
    "ckplus_folders": (0, ("angry", "disgust", "fear", "happy", "sad", "surprise", "contempt")),
    "ravdess": (1, ("neutral", "neutral", "happy", "sad", "angry", "fear", "disgust", "surprise")),
}
"""Name -> (the first number, the emotions from there on). They contradict each other: bare numbers prove nothing."""


def meaning(numbering: str) -> dict[int, str]:
    """Number -> emotion."""
    first, emotions = NUMBERINGS[numbering]
    return dict(enumerate(emotions, first))


def emotion(numbering: str, number: int) -> int | None:
    """The index into EMOTIONS of a number; None where the numbering lacks it."""
    there = meaning(numbering)
    return EMOTIONS.index(there[number]) if number in there else None


def require_numbers(numbering: str, words: Iterable[str], names: Sequence[str] = ()) -> None:
    """InputError where a numbering lacks numbers among the words, one a face, with how many faces have them.

    Args:
        names: of the faces, three of which are told.
    """
    there, listed = meaning(numbering), list(words)
    lacking = [at for at, word in enumerate(listed) if word.isdecimal() and int(word) not in there]
    if not lacking:
        return
    times = Counter(int(listed[at]) for at in lacking)
    told_times = ", ".join(f"{number} ({n:,} faces)" for number, n in sorted(times.items()))
    such_as = f", such as {', '.join(names[at] for at in lacking[:3])}" if names else ""
    raise InputError(f"--numbers {numbering} has no {told_times}{such_as}; it has {told(numbering)}")


def told(numbering: str) -> str:
    """A numbering in one line, such as `0 angry 1 disgust ...`."""
    return " ".join(f"{number} {emotion}" for number, emotion in meaning(numbering).items())


@dataclass(frozen=True)
class Known:
    """A set that can be recognised.

    Attributes:
        name: as people call it.
        source: the importer that reads it, there or to come.
        counts: faces by class, one tuple for each form or part that is known.
        file: what its files are named like, without folders.
        place: what stands in the path of one of its files.
    """

    name: str
    source: str
    counts: tuple[tuple[int, ...], ...] = ()
    file: str = ""
    place: str = ""


_FER2013 = (4953, 547, 5121, 8989, 6077, 4002, 6198)
_EXPW = (3671, 3995, 1088, 30537, 10559, 7060, 34883)
KNOWN = (
    Known(
        "FER2013",
        "fer2013",
        (_FER2013, (3995, 436, 4097, 7215, 4830, 3171, 4965), (491, 55, 528, 879, 594, 416, 626)),
        r"(Training|PublicTest|PrivateTest)_\d+\.\w+",
    ),
    Known("CK+ (ckextended.csv)", "ckplus", ((45, 59, 25, 69, 28, 83, 593, 18),)),
    Known("CK+", "ckplus", ((135, 177, 75, 207, 84, 249, 54),), r"S\d{3}_\d{3}_\d{8}\.\w+", "cohn-kanade"),
    Known(
        "RAF-DB",
        "rafdb",
        ((1619, 355, 877, 5957, 2460, 867, 3204),),
        r"(train|test)_\d{4,5}_aligned\.\w+",
        "EmoLabel",
    ),
    Known("ExpW", "expw", (_EXPW,), place="label.lst"),
    Known("MMAFEDB (a copy of ExpW and FER2013)", "folder", (tuple(map(sum, zip(_EXPW, _FER2013, strict=True))),)),
    Known("FER+", "ferplus", (), r"fer\d{7}(_\w+)?\.\w+"),
    Known("AffectNet", "affectnet", (), place="Manually_Annotated"),
    Known("JAFFE", "jaffe", (), r"[A-Z]{2}\.(NE|HA|SA|SU|AN|DI|FE)\d\.\d+\.\w+"),
    Known("KDEF", "kdef", (), r"[AB][FM]\d\d(AF|AN|DI|HA|NE|SA|SU)(FL|HL|S|HR|FR)\.\w+"),
    Known("RAVDESS", "ravdess", (), r"\d\d(-\d\d){6}\D.*"),
    Known("FERG", "ferg", (), place="FERG_DB"),
    Known("Oulu-CASIA", "oulu_casia", (), place="Oulu_CASIA"),
)
_SHARE = 0.5  # of a set's pictures that must be named so


def by_counts(numbers: Iterable[int]) -> Known | None:
    """The set that has just so many faces of its classes, in whatever order they are numbered."""
    found = sorted(number for number in numbers if number)
    return next((known for known in KNOWN for counts in known.counts if sorted(counts) == found), None)


def by_names(names: Iterable[str]) -> Known | None:
    """The set whose pictures are named as most of these are."""
    listed = list(names)
    files = [name.rpartition("/")[2] for name in listed]
    for known in KNOWN:
        is_named_so = re.compile(known.file, re.IGNORECASE).fullmatch
        hits = sum(is_named_so(file) is not None for file in files) if known.file else 0
        if hits > _SHARE * len(files) or (known.place and any(known.place in name for name in listed)):
            return known
    return None


def advice(known: Known | None, own: str) -> str:
    """What to say of a set that was recognised in the source `own`: "" where there is nothing to say."""
    if known is None or known.source == own:
        return ""
    is_source = (Path(__file__).parent / "sources" / f"{known.source}.py").is_file() and known.source != "folder"
    if not is_source and own == "folder":
        return f"; it looks like {known.name}"
    how = f"{known.source} SOURCE" if is_source else "folder SOURCE --as NAME"
    return f"; it looks like {known.name}: run `facex-tune data prepare {how}`"
