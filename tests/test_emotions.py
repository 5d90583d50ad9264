from __future__ import annotations

import pytest

from facex_tune.emotions import EMOTIONS, N_FER2013, SYNONYMS, canonical
from facex_tune.errors import InputError


def test_canonical_order_is_fer2013s_then_contempt() -> None:
    assert EMOTIONS == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
    assert EMOTIONS[:N_FER2013][-1] == "neutral"


@pytest.mark.parametrize(
    ("name", "emotion"),
    [("anger", "angry"), ("Happiness", "happy"), ("SADNESS", "sad"), ("surprised", "surprise"), ("fearful", "fear"),
     ("disgusted", "disgust"), (" Neutral ", "neutral"), ("contempt", "contempt")],
)  # fmt: skip
def test_synonyms_in_any_case(name: str, emotion: str) -> None:
    assert EMOTIONS[canonical(name)] == emotion


def test_every_synonym_leads_to_an_emotion() -> None:
    assert {EMOTIONS[canonical(word.upper())] for word in SYNONYMS} == set(EMOTIONS)


def test_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown emotion 'hapy': did you mean happy"):
        canonical("hapy")
