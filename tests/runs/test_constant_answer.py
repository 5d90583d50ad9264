"""A winner that one answer for every face nearly equals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from facex_tune import metrics
from facex_tune.runs.overview import no_better_than_constant

SUPPORT = {"angry": 20, "happy": 50, "sad": 30}
CONSTANT = {"accuracy": 0.5, "macro_f1": 2 * 0.5 / 1.5 / 3}


def scored(accuracy: tuple[float, list[float] | None], macro_f1: tuple[float, list[float] | None]) -> dict[str, Any]:
    found = {"accuracy": accuracy, "macro_f1": macro_f1}
    return {
        "metrics": {name: {"mean": mean, "interval": interval} for name, (mean, interval) in found.items()},
        "per_emotion": {emotion: {"support": count} for emotion, count in SUPPORT.items()},
    }


def test_what_the_commonest_answer_comes_to() -> None:
    answer, found = metrics.constant_answer(SUPPORT)
    labels_N = np.repeat(list(SUPPORT), list(SUPPORT.values()))
    answers_N = np.full(len(labels_N), answer)
    assert answer == "happy"
    assert found["accuracy"] == pytest.approx(accuracy_score(labels_N, answers_N))
    assert found["macro_f1"] == pytest.approx(f1_score(labels_N, answers_N, average="macro", zero_division=0))


@pytest.mark.parametrize(
    ("accuracy", "macro_f1", "said"),
    [
        ((0.62, [0.55, 0.69]), (0.5, [0.4, 0.6]), ""),
        ((0.55, [0.49, 0.61]), (0.5, [0.4, 0.6]), "for every face: accuracy 0.550 to 0.500"),
        ((0.55, [0.51, 0.61]), (0.24, [0.2, 0.3]), "for every face: macro-F1 0.240 to 0.222"),
        ((0.51, None), (0.23, None), "for every face: accuracy 0.510 to 0.500, macro-F1 0.230 to 0.222"),
        ((0.53, None), (0.25, None), ""),
        ((0.40, [0.35, 0.45]), (0.2, [0.18, 0.23]), "for every face: accuracy 0.400 to 0.500, macro-F1 0.200 to 0.222"),
        ((0.40, [0.35, 0.45]), (0.25, [0.2, 0.3]), "accuracy 0.400 to 0.500; hardly better: macro-F1 0.250 to 0.222"),
        ((0.40, [0.35, 0.45]), (0.4, [0.35, 0.45]), "for every face: accuracy 0.400 to 0.500"),
    ],
)
def test_a_winner_is_held_against_the_commonest_answer(
    accuracy: tuple[float, list[float] | None], macro_f1: tuple[float, list[float] | None], said: str
) -> None:
    told = no_better_than_constant(scored(accuracy, macro_f1))
    assert told.endswith(said)
    assert bool(told) == bool(said)
    how = "hardly" if accuracy[0] > 0.5 else "no"
    assert f"{how} better than answering 'happy'" in told or not said
