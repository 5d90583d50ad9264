"""Oulu-CASIA (Zhao et al., Image and Vision Computing 2011): 80 people who pose six emotions.

`{NI,VL}/{Dark,Strong,Weak}/P001/Anger/000.jpeg`: a near infrared and a visible camera, three lights. A sequence begins
neutral and ends at its peak, so that the last three frames are read, as public code does (seen by search alone, without
the names of its repositories): 240 pictures of each emotion under one light and camera, by which those conditions that
are there are proven. There is no neutral class. Cameras and lights are conditions of the same people, not more people:
the person is the subject, and a sequence is one person's emotion in one condition. `oulu_casia.vl` scores visible
light, strong, which publications use. Split "test".
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress, held_to_totals
from facex_tune.data.sources._labelled import Marked, beside, named, read, refuse
from facex_tune.data.tree import open_tree
from facex_tune.emotions import EMOTIONS, canonical

DESCRIPTION = "Oulu-CASIA: peak frames of 80 people under 6 conditions, for testing; SOURCE has VL/Strong/P001/Anger/"
NEEDS_SOURCE = True
OPTIONS = ("incomplete", "labels", "uncropped", "size", "colour")
_FRAME = re.compile(r"(?:(NI|VL)(?:_\w+)?/)(Dark|Strong|Weak)/(P\d{3})/([A-Z]+)/(\d+)\.\w+", re.IGNORECASE)
_PEAK_FRAMES = 3
_OF_EACH = 80 * _PEAK_FRAMES
_SIX = EMOTIONS[:6]


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """The peak frames of all conditions, by person.

    Raises:
        InputError: no such folders, one of no emotion, or a table beside them that says otherwise.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        frames: dict[tuple[str, ...], dict[int, Marked]] = defaultdict(dict)
        for name, match in named(tree, _FRAME):
            camera, light, person, emotion, frame = (word.upper() for word in match.groups())
            sequence = f"{camera} {light} {emotion}"
            marked = Marked(name, canonical(emotion), subject=person, sequence=sequence, key=match[0])
            frames[camera, light, person, emotion].setdefault(int(frame), marked)
        if not frames:
            refuse(tree, "oulu_casia", "Oulu-CASIA", "folders like VL/Strong/P001/Anger with numbered frames")
        found = [of[frame] for of in frames.values() for frame in sorted(of)[-_PEAK_FRAMES:]]
        loaded = read(tree, found, [], progress, face=asked.face, notes=beside(tree, found, asked))
    conditions = {(camera, light) for camera, light, *_ in frames}  # a part of them alone is common
    wanted = {_counted_as(*each, emotion): _OF_EACH for each in conditions for emotion in _SIX}
    places = [_FRAME.search(source) for source in loaded.faces.source_N.tolist()]
    labels = [EMOTIONS[label] for label in loaded.faces.labels_N]
    there = Counter(_counted_as(at[1], at[2], label) for at, label in zip(places, labels, strict=True) if at)
    return held_to_totals("oulu_casia", loaded, there, wanted)


def _counted_as(camera: str, light: str, emotion: str) -> str:
    return f"{camera.upper()} {light.capitalize()} {emotion}"
