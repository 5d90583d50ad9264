"""KDEF (Lundqvist et al., 1998): 4,900 posed faces of 70 people, 562 x 762, named `AF01ANS.JPG`.

Session A or B (the same people), sex F or M, number, emotion (AF is afraid), angle: FL and FR are full profiles, HL and
HR half ones, S is straight, which the protocol `kdef.front` takes. The subject is sex and number. Some pictures of the
release are black, and two names have lost their angle (`AF31V`, `AM31H`): they are skipped, and told. The codes of
emotions are those of hachreak/remokit `src/remokit/datasets/kdef.py` and TytanMikJas/AffectiveAI
`src/utils/constants.py`, which has the angles too (seen once). Counts by class are not published: 4,900 pictures, those
that are skipped for these faults among them, prove it. Split "test".
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from facex_tune.data.faces import Skipped
from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress, held_to_totals
from facex_tune.data.sources._labelled import BLANK, Marked, named, read, refuse
from facex_tune.data.sources.jaffe import CODES
from facex_tune.data.tree import open_tree
from facex_tune.emotions import canonical

DESCRIPTION = "KDEF: 4,900 posed faces of 70 people from five angles, for testing; SOURCE has AF01ANS.JPG and the like"
NEEDS_SOURCE = True
OPTIONS = ("incomplete", "uncropped", "size", "colour")
_CODES = {**CODES, "AF": "fear"}
_IMAGE = re.compile(r"([AB])([FM]\d\d)(AF|AN|DI|HA|NE|SA|SU)(FL|HL|S|HR|FR)\.\w+", re.IGNORECASE)
_NAMELESS = "its name tells neither emotion nor angle"
_MISSPELT = re.compile(r"[AB][FM]\d\d[A-Z]*\.\w+", re.IGNORECASE)


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """All faces, by subject.

    Raises:
        InputError: no picture is named so.
    """
    assert path is not None, "prepare asks for the source"
    with open_tree(path) as tree:
        found = [
            Marked(name, canonical(_CODES[match[3].upper()]), subject=match[2].upper(), key=match[0])
            for name, match in named(tree, _IMAGE)
        ]
        if not found:
            refuse(tree, "kdef", "KDEF", "picture that is named like AF01ANS.JPG")
        skipped = [
            Skipped(name, None, _NAMELESS)
            for name, _ in named(tree, _MISSPELT)
            if not _IMAGE.fullmatch(PurePosixPath(name).name)
        ]
        loaded = read(tree, found, skipped, progress, face=asked.face, without_blank=True)
        n_at_fault = sum(each.reason in (_NAMELESS, BLANK) for each in loaded.skipped)  # in the release as well
        return held_to_totals("kdef", loaded, {"pictures": len(loaded.faces) + n_at_fault}, {"pictures": 4900})
