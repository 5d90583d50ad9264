"""The emotion vocabulary: one canonical order, and one table of the other names that data sets use."""

from __future__ import annotations

from facex_tune.errors import InputError, nearest

EMOTIONS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
"""Canonical order. FER2013 has the first seven; CK+ and FER+ also have contempt."""

N_FER2013 = 7

SYNONYMS: dict[str, str] = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "suprise": "surprise",  # as a folder of a FER+ set on Kaggle is spelt
    "neutrality": "neutral",
    "contemptuous": "contempt",
}


def canonical(name: str) -> int:
    """The index into `EMOTIONS` of an emotion's name, in any case, or of a synonym.

    Raises:
        InputError: the name is unknown; the message ends with the nearest valid names.
    """
    word = name.strip().lower()
    word = SYNONYMS.get(word, word)
    if word not in EMOTIONS:
        raise InputError(f"unknown emotion {name!r}: {nearest(word, [*EMOTIONS, *SYNONYMS])}")
    return EMOTIONS.index(word)
