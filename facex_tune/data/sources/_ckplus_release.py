"""CK+ as its makers release it: sequences of whole frames, the labels and the landmarks in folders of their own.

`cohn-kanade-images/S005/001/S005_001_00000011.png`, `Emotion/S005/001/S005_001_00000011_emotion.txt` with one float,
`Landmarks/S005/001/S005_001_00000011_landmarks.txt` with 68 lines `x y`. A sequence begins neutral and ends at its
peak, the frame that the label's file is named after. Of each labelled sequence the last three frames are read, as in
CK+48, and of every sequence the first frame as neutral, as in `ckextended.csv`; no file, no label. Codes as in
hcmlab/hcai-datasets and Nadi-989/fer-enhanced-gradcam.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import PurePosixPath

from facex_tune.data.boxes import Box
from facex_tune.data.faces import Skipped
from facex_tune.data.importing import Asked, Loaded, Progress
from facex_tune.data.known import meaning
from facex_tune.data.sources._labelled import Marked, named, number, read, rows, text_of
from facex_tune.data.tree import Tree
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError

_FRAME = re.compile(r"S(\d{3})_(\d{3})_(\d{8})\.\w+", re.IGNORECASE)
_LABEL = re.compile(r"S(\d{3})_(\d{3})_(\d{8})_emotion\.txt", re.IGNORECASE)
_LANDMARKS = re.compile(r"(S\d{3}_\d{3}_\d{8})_landmarks\.txt", re.IGNORECASE)
_NEUTRAL = EMOTIONS.index("neutral")
_PEAK_FRAMES = 3
_MARGIN = 0.1  # of the landmarks' width and height on each side: they end at eyebrows and chin

Sequence = tuple[str, str]


def is_release(tree: Tree) -> bool:
    """Whether the tree has sequences of frames in folders by number, not by class."""
    places = map(PurePosixPath, tree.names)
    return any(_FRAME.fullmatch(place.name) and re.fullmatch(r"\d{3}", place.parent.name) for place in places)


def load(tree: Tree, progress: Progress, asked: Asked) -> Loaded:
    """Peak and neutral frames, cut out by their landmarks, or with `--uncropped` their middle.

    Raises:
        InputError: no labels, a label that is no code, or no landmarks and not `--uncropped`.
    """
    landmarks = {} if asked.uncropped else _landmarks(tree)
    if not (landmarks or asked.uncropped):
        raise InputError(
            f"{tree.path} has CK+'s whole frames without Landmarks/, which tell where the face is: put that folder "
            "there, or take the middle of each frame with --uncropped"
        )
    found, skipped = [], []
    for each, lost in _faces(tree):
        stem = PurePosixPath(each.name).stem.lower()
        if lost:
            skipped.append(Skipped(each.name, None, lost))
        elif asked.uncropped:
            found.append(each)
        elif stem in landmarks:
            found.append(_cropped(each, tree, landmarks[stem]))
        else:
            skipped.append(Skipped(each.name, None, f"it has no {stem.upper()}_landmarks.txt"))
    notes = ["whole frames, of which the middle was read (--uncropped)"] if asked.uncropped else []
    return read(tree, found, skipped, progress, face=asked.face, notes=notes)


def _faces(tree: Tree) -> list[tuple[Marked, str]]:
    """The frames that show an emotion, and why one does not count; "" where it does."""
    frames: dict[Sequence, dict[int, str]] = defaultdict(dict)
    for name, match in named(tree, _FRAME):
        frames[match[1], match[2]].setdefault(int(match[3]), name)
    labels = _labels(tree)
    found = []
    for (subject, sequence), of_frame in sorted(frames.items()):
        order = sorted(of_frame)
        names = [of_frame[frame] for frame in order]
        every = [
            Marked(name, _NEUTRAL, subject=subject, sequence=sequence, key=PurePosixPath(name).name) for name in names
        ]
        label, peak = labels.get((subject, sequence), (_NEUTRAL, order[0]))
        until = [each for frame, each in zip(order, every, strict=True) if frame <= peak]
        lost = "" if peak in of_frame else f"the labelled frame {peak} of its sequence is not there"
        shown = until[1:][-_PEAK_FRAMES:] if (subject, sequence) in labels else []
        found += [(each.labelled(label), lost) for each in shown]
        found += [(each, "") for each in every[:1]]
    return found


def _labels(tree: Tree) -> dict[Sequence, tuple[int, int]]:
    """(emotion, labelled frame) by sequence."""
    found = {}
    for name in tree.names:
        if match := _LABEL.fullmatch(PurePosixPath(name).name):
            found[match[1], match[2]] = (_code(text_of(tree, name), name), int(match[3]))
    if not found:
        raise InputError(
            f"{tree.path} has CK+'s frames without Emotion/, whose files S005_001_00000011_emotion.txt tell what they "
            "show: put that folder there"
        )
    return found


def _code(text: str, where: str) -> int:
    """An emotion's code, which is written as a float."""
    try:
        code = float(text)
    except ValueError:
        raise InputError(f"{where} holds {text.strip()[:20]!r} where one number is wanted") from None
    return number(f"{code:.0f}" if code == round(code) else str(code), meaning("ckplus"), where)


def _landmarks(tree: Tree) -> dict[str, str]:
    """The file by the frame's name without suffix."""
    matches = ((name, _LANDMARKS.fullmatch(PurePosixPath(name).name)) for name in tree.names)
    return {match[1].lower(): name for name, match in matches if match}


def _cropped(each: Marked, tree: Tree, where: str) -> Marked:
    try:
        points = [(float(across), float(down)) for across, down, *_ in rows(tree, where, 2)]
        acrosses, downs = zip(*points, strict=True)
    except ValueError:
        raise InputError(f"{where} is damaged (lines `x y` are wanted): get it again") from None
    box = Box(min(acrosses), min(downs), max(acrosses), max(downs)).widened(_MARGIN)
    return replace(each, box=box)
