"""The report's first words, from figures of known meaning."""

from __future__ import annotations

from typing import Any

import pytest

from facex_tune.report.verdict import constant, verdict


def row(support: int, recall: float) -> dict[str, Any]:
    return {"support": support, "recall": recall, "recall_interval": [max(0.0, recall - 0.02), recall + 0.02]}


def report(
    accuracy: float = 0.67, low: float = 0.65, seeds: int = 3, fear: float = 0.5, macro_f1: float = 0.6
) -> dict[str, Any]:
    """A run scored on 1,000 faces: 500 happy, 300 sad, 200 of fear, which is taken for sad."""
    counts = [[100, 20, 80], [10, 450, 40], [20, 30, 250]]
    scored = {
        "n": 1000,
        "metrics": {
            "accuracy": {"mean": accuracy, "interval": [low, 0.69]},
            "macro_f1": {"mean": macro_f1, "interval": [macro_f1 - 0.02, macro_f1 + 0.02]},
        },
        "per_emotion": {"fear": row(200, fear), "happy": row(500, 0.9), "sad": row(300, 0.83)},
        "confusion": {"classes": ["fear", "happy", "sad"], "counts": counts},
    }
    models = [{"candidate": 1, "seed": seed} for seed in range(seeds)]
    search = {"trials": {"finished": 4}, "best": {"trial": 1}}
    return {"run": "demo", "evaluation": {"fer2013.private": scored}, "models": models, "search": search}


def test_it_says_how_good_where_it_fails_and_what_next() -> None:
    assert verdict(report()) == [
        "Of 1,000 sealed faces (fer2013.private) the winner names the emotion of 67 % right (95 % interval 65 to 69 "
        "%); guessing names 33 %, and always answering happy 50 %.",
        "It fails most on fear (50 % of 200 faces); fear is most often taken for sad.",
        "Next: score it on faces of another source, as `facex-tune evaluate RUN --protocol folder.NAME` does.",
    ]


def test_a_winner_that_one_answer_nearly_equals_is_told() -> None:
    good, _, after = verdict(report(accuracy=0.52, low=0.49))
    assert good.endswith("always answering happy 50 %: it is not shown to be better than one answer for every face.")
    assert after.startswith("Next: search longer")


def test_a_winner_that_one_answer_nearly_equals_by_macro_f1_alone_is_told() -> None:
    """One answer, happy, comes to 2 · .5 / 1.5 / 3 = .222, which the interval of .23 reaches down to."""
    good, _, after = verdict(report(macro_f1=0.23))
    said = "by macro-F1 (0.230, one answer 0.222) it is not shown to be better than one answer for every face."
    assert good.endswith(f"always answering happy 50 %: {said}")
    assert after.startswith("Next: search longer")
    assert "one answer" not in verdict(report(macro_f1=0.25))[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"seeds": 1}, "3 seeds or more"), ({"fear": 0.1}, "look at the faces that it confuses")],
)
def test_what_comes_next_is_what_the_figures_lack(changes: dict[str, Any], said: str) -> None:
    assert said in verdict(report(**changes))[2]


def test_before_a_test_set_was_opened_it_says_so() -> None:
    unscored = report() | {"evaluation": {}}
    assert verdict(unscored) == [
        "How good the winner is on new faces is not known yet (4 trials searched, 3 models retrained): no sealed test "
        "set was opened.",
        "Next: `facex-tune evaluate demo`.",
    ]
    assert verdict(unscored | {"models": []})[1] == "Next: `facex-tune retrain demo`."
    elsewhere = verdict(unscored | {"models": []}, "demo --storage /elsewhere")
    assert elsewhere[1] == "Next: `facex-tune retrain demo --storage /elsewhere`."


def test_the_constant_answer_is_the_commonest_emotion() -> None:
    assert constant({"fear": row(1, 0), "happy": row(3, 0)}) == ("happy", 0.75)
