"""Insight, from answers whose faults were planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation import intervals
from facex_tune.report import comparison_findings, insight
from facex_tune.report.insight import Answers
from facex_tune.runs.history import Trial, before_rungs
from facex_tune.search.scheduler import Asha

SEED = np.random.SeedSequence([0])
FEAR, SAD = EMOTIONS.index("fear"), EMOTIONS.index("sad")


def answers(said_N: np.ndarray, labels_N: np.ndarray, agreed_N: np.ndarray | None = None, sure: float = 0.9) -> Answers:
    found_NC = np.full((len(said_N), 7), (1 - sure) / 6)
    found_NC[np.arange(len(said_N)), said_N] = sure
    sources = [f"face {i}" for i in range(len(said_N))]
    in_training_N = np.zeros(len(said_N), np.bool_)
    return Answers("set", labels_N, np.arange(len(said_N)), sources, found_NC[None], agreed_N, in_training_N)


def test_the_planted_confusion_comes_first() -> None:
    labels_N = np.arange(700) % 7
    said_N = labels_N.copy()
    said_N[np.flatnonzero(labels_N == FEAR)[:40]] = SAD
    said_N[np.flatnonzero(labels_N == 0)[:5]] = 3
    table = answers(said_N, labels_N)
    first, second, *rest = insight.confused(table)
    assert first == {"true": "fear", "answered": "sad", "n": 100, "share": 0.4, "clusters": 40}, "no interval"
    assert second == {"true": "angry", "answered": "happy", "n": 100, "share": 0.05, "clusters": 5}
    assert rest == []
    in_fours = replace(table, groups_N=labels_N * 25 + np.arange(700) // 28)
    assert [pair["clusters"] for pair in insight.confused(in_fours)] == [10, 2]


def test_a_confusion_is_said_without_an_interval_where_enough_clusters_show_it() -> None:
    """Of 42 shares the largest is partly so by chance: its interval held in .66 to .88 of simulated sets."""
    pairs = [
        {"true": "fear", "answered": "sad", "n": 100, "share": 0.4, "clusters": 40},
        {"true": "angry", "answered": "happy", "n": 100, "share": 0.05, "clusters": 5},
    ]
    report = {"insight": {"confused": {"set": pairs}, "disagreement": {}, "versatility": None}}
    first, second = comparison_findings.insight(report)
    assert first["text"] == (
        "Fear is taken for sad on 40 % of 100 faces of set: the largest of many such shares, "
        "and so probably somewhat too large."
    )
    assert second["text"] == "Angry is taken for happy on 5 % of 100 faces of set."
    pairs[1]["clusters"] = intervals.MIN_CLUSTERS - 1
    assert len(list(comparison_findings.insight(report))) == 1


def test_errors_where_annotators_disagree() -> None:
    rng = np.random.default_rng(0)
    agreed_N = np.repeat([0.5, 0.7, 1.0], 200)
    labels_N = np.zeros(600, np.int64)
    wrong_N = rng.random(600) < np.repeat([0.5, 0.3, 0.1], 200)
    found = insight.disagreement(answers(np.where(wrong_N, 1, 0), labels_N, agreed_N), SEED)
    assert found is not None
    assert [band["n"] for band in found["bands"]] == [200, 200, 200]
    assert found["interval"][0] > 0.2
    assert found["interval"][0] < found["difference"] < found["interval"][1]
    assert insight.disagreement(answers(labels_N, labels_N), SEED) is None


def test_few_clusters_of_a_band_have_no_interval() -> None:
    agreed_N = np.repeat([0.5, 0.7, 1.0], [24, 200, 200])
    labels_N = np.zeros(424, np.int64)
    table = answers(np.where(np.arange(424) % 4 == 0, 1, 0), labels_N, agreed_N)
    of_six = replace(table, groups_N=np.concatenate([np.arange(24) // 6, np.arange(24, 424)]))
    told = [insight.disagreement(each, SEED) for each in (table, of_six)]
    assert [[band["interval"] is None for band in found["bands"]] for found in told if found] == [
        [False, False, False],
        [True, False, False],
    ]
    assert [found["interval"] is None for found in told if found] == [False, True]


def test_bands_of_one_cluster_are_drawn_together() -> None:
    """Each subject has a sure and an unsure frame and is right on both or on neither: there is no difference to see."""
    right_G = np.random.default_rng(0).random(60) < 0.6
    labels_N, right_N, agreed_N = np.zeros(120, np.int64), np.repeat(right_G, 2), np.tile([0.5, 1.0], 60)
    right_N[:6] = [True, False] * 3  # but for three
    table = replace(answers(np.where(right_N, 0, 1), labels_N, agreed_N), groups_N=np.arange(120) // 2)
    found = insight.disagreement(table, SEED)
    assert found is not None
    assert found["difference"] == pytest.approx(-0.05)
    low, high = found["interval"]
    assert -0.12 < low < high < 0.03, "drawn apart: -.24 to .14"


def test_planted_label_errors_are_ranked_first() -> None:
    """A model right 95 times in 100 about the truth; 30 of 700 labels are wrong, and half of the suspects found are."""
    rng = np.random.default_rng(0)
    truth_N = np.arange(700) % 7
    labels_N = truth_N.copy()
    planted = rng.choice(700, 30, replace=False)
    labels_N[planted] = (truth_N[planted] + 2) % 7
    said_N = np.where(rng.random(700) < 0.05, (truth_N + 1) % 7, truth_N)
    table = answers(said_N, labels_N)
    table.probabilities_MNC[:] *= rng.uniform(0.9, 1.0, (1, 700, 1))  # how sure it is varies
    found = insight.suspects([table])
    named = {int(face["source"].split()[1]) for face in found["faces"]}
    assert found["n_faces"] == 700
    assert found["agreement"] == pytest.approx(np.mean(said_N == labels_N))
    assert len(named & set(planted.tolist())) >= 24
    assert all(face["suggested"] != face["label"] for face in found["faces"])
    margins = [face["margin"] for face in found["faces"]]
    assert margins == sorted(margins, reverse=True)


def test_a_face_with_a_copy_in_training_is_no_suspect() -> None:
    """The model learned that copy's label, so that its answer is no second opinion."""
    labels_N = np.arange(70) % 7
    said_N = labels_N.copy()
    said_N[[3, 17]] = (said_N[[3, 17]] + 1) % 7
    table = answers(said_N, labels_N)
    assert [face["source"] for face in insight.suspects([table])["faces"]] == ["face 3", "face 17"]
    assert table.in_training_N is not None
    table.in_training_N[3] = True
    found = insight.suspects([table])
    assert (found["n_faces"], [face["source"] for face in found["faces"]]) == (69, ["face 17"])
    assert found["agreement"] == pytest.approx(68 / 69)
    assert insight.suspects([])["agreement"] is None
    assert insight.suspects([replace(table, in_training_N=None)])["n_faces"] == 0, "copies unknown: nothing is claimed"


def test_a_face_that_two_protocols_score_is_listed_once() -> None:
    """fer2013.both has the faces of fer2013.private too; votes and masks judge otherwise."""
    labels_N = np.arange(70) % 7
    said_N = labels_N.copy()
    said_N[[3, 17]] = (said_N[[3, 17]] + 1) % 7
    table = answers(said_N, labels_N)
    half = table.take(np.arange(35))
    tables = {"fer2013.private": half, "fer2013.both": table, "ckplus.6.masked": table, "ferplus.majority7": table}
    found = insight.suspects(insight._own_labels("fer2013", None, tables))
    assert (found["n_faces"], [face["source"] for face in found["faces"]]) == (70, ["face 3", "face 17"])
    assert insight.suspects(insight._own_labels("fer2013", half, {}))["n_faces"] == 35
    other_set = insight._own_labels("fer2013", half, {"synthetic.private": half})
    assert insight.suspects(other_set)["n_faces"] == 70, "another set's faces may bear the same names"


def trial(number: int, accuracy: float, worst: float, model: str = "resnet", seconds: float = 10.0) -> Trial:
    metrics = {"accuracy": accuracy, "worst_class_recall": worst, "macro_f1": accuracy}
    config = {"model": model, "augment": "none", "balance": "none"}
    return Trial(number, config, "sampler", "finished", {1: metrics}, seconds)


def test_versatility_tells_specialists_from_versatile_parts() -> None:
    rng = np.random.default_rng(0)
    trials = []
    for number in range(24):
        accuracy = float(rng.uniform(0.5, 0.7))
        is_vgg = number % 2 == 0
        trials.append(trial(number, accuracy, accuracy / 2 + (0.1 if is_vgg else 0), "vgg" if is_vgg else "resnet"))
    found = insight.versatility(trials)
    assert found is not None
    excess = {row["part"]: row for row in found["parts"] if row["family"] == "model"}
    assert excess["vgg"]["excess"] == pytest.approx(0.05, abs=0.02)
    assert excess["vgg"]["interval"][0] > 0 > excess["resnet"]["interval"][1]
    assert insight.versatility(trials[:5]) is None
    assert insight.versatility([trial(n, 0.5, 0.1) for n in range(9)]) is None
    assert [row["interval"] for row in found["parts"] if row["family"] != "model"] == [None, None], "nothing beside it"
    few = insight.versatility(trials[: insight.MIN_TRIALS - 1])
    assert few is not None
    assert {few["interval"], *(row["interval"] for row in few["parts"])} == {None}


def test_the_excess_of_one_of_two_parts_is_half_of_their_difference() -> None:
    """And so is its interval, of Welch's; that of its own trials alone, against 0, is 1.4 times as wide."""
    rng = np.random.default_rng(0)
    accuracy_T = np.repeat(rng.normal(size=40), 2)
    worst_T = rng.normal(size=80) * np.tile([1.0, 3.0], 40)
    trials = [
        trial(n, 0.5 + 0.01 * accuracy, 0.3 + 0.01 * worst, ("resnet", "vgg")[n % 2])
        for n, (accuracy, worst) in enumerate(zip(accuracy_T, worst_T, strict=True))
    ]
    found = insight.versatility(trials)
    assert found is not None
    slope = np.polyfit(accuracy_T, worst_T, 1)[0]
    left_T = 0.01 * (worst_T - slope * accuracy_T)
    ends = intervals.between_seeds(left_T[::2].tolist(), left_T[1::2].tolist())
    assert ends is not None
    row = found["parts"][0]
    assert (row["family"], row["part"], row["n"]) == ("model", "resnet", 40)
    assert row["excess"] == pytest.approx((left_T[::2].mean() - left_T[1::2].mean()) / 2)
    assert row["interval"] == pytest.approx([end / 2 for end in ends], rel=0.02)


def test_a_part_of_few_trials_has_no_interval() -> None:
    rng = np.random.default_rng(0)
    for of_vgg, is_said in ((insight.MIN_OF_PART, True), (insight.MIN_OF_PART - 1, False)):
        trials = [trial(n, *rng.uniform(0.3, 0.6, 2), "vgg" if n < of_vgg else "resnet") for n in range(24)]
        found = insight.versatility(trials)
        assert found is not None
        said = {row["part"]: row["interval"] is not None for row in found["parts"] if row["family"] == "model"}
        assert said == {"resnet": True, "vgg": is_said}


def test_the_interval_of_a_rank_correlation_by_hand() -> None:
    """The jackknife's own definition, of Fisher's z. Of trials in perfect order there is none: it is not certainty."""
    rng = np.random.default_rng(0)
    x_T = rng.normal(size=30)
    y_T = x_T + rng.normal(size=30)
    found = insight.versatility([trial(n, 0.5 + 0.01 * x_T[n], 0.3 + 0.01 * y_T[n]) for n in range(30)])
    z, *without_T = np.arctanh(
        [stats.spearmanr(x_T, y_T).statistic]
        + [stats.spearmanr(np.delete(x_T, t), np.delete(y_T, t)).statistic for t in range(30)]
    )
    pseudo_T = 30 * z - 29 * np.array(without_T)
    reach = stats.t.ppf(0.975, 28) * np.std(pseudo_T, ddof=1) / 30**0.5
    assert found is not None
    assert found["rho"] == pytest.approx(np.tanh(z))
    assert found["interval"] == pytest.approx([np.tanh(z - reach), np.tanh(z + reach)])
    ordered = insight.versatility([trial(n, 0.5 + 0.01 * n, 0.3 + 0.005 * n) for n in range(30)])
    assert ordered is not None
    assert (ordered["rho"], ordered["interval"]) == (pytest.approx(1), None)


def halved(seed: int, asha: bool) -> list[Trial]:
    """120 trials whose accuracy and worst recall have nothing to do with each other; rungs compare their mean."""
    rng, rungs, trials = np.random.default_rng(seed), Asha(1, 9, 3, True), []
    for number in range(120):
        accuracy, worst = rng.normal(size=2)
        found = trial(number, 0.0, 0.0)
        found.epochs = {}
        for epoch in range(1, 10):
            found.epochs[epoch] = {
                "accuracy": 0.6 + 0.02 * accuracy - 0.05 / epoch,
                "worst_class_recall": 0.35 + 0.02 * worst - 0.05 / epoch,
                "macro_f1": 0.55 + 0.01 * (accuracy + worst) - 0.05 / epoch,
            }
            if asha and epoch < 9 and not rungs.goes_on(number, epoch, found.epochs[epoch]["macro_f1"]):
                found.state = "stopped"
                break
        trials.append(found)
    return trials


def test_scores_that_rungs_selected_on_do_not_seem_to_exclude_each_other() -> None:
    """Among the survivors of these runs they correlate at -.43 on average, and 12 of 40 intervals lie below 0."""
    found = [insight.versatility(halved(seed, asha=True)) for seed in range(20)]
    assert {(each["n"], each["at_epoch"]) for each in found if each} == {(120, 1)}
    assert abs(np.mean([each["rho"] for each in found if each])) < 4 / (20 * 120) ** 0.5
    assert sum(each["interval"][1] < 0 for each in found if each) <= 3  # of 20; one in 40 by chance
    without = insight.versatility(halved(0, asha=False))
    assert without is not None
    assert (without["n"], without["at_epoch"]) == (120, None)


def test_a_budget_selects_nobody() -> None:
    ended = halved(0, asha=False)
    for each in ended[:20]:
        each.state, each.reason = "stopped", "budget: time"
    assert before_rungs(ended) == (None, ended[20:])
    ended[30].state, ended[30].reason = "stopped", "rung"
    ended[30].epochs = {1: ended[30].epochs[1]}
    ended[31].state = "failed"
    assert before_rungs(ended) == (1, [each for each in ended if each.number != 31])


def test_cost_marks_what_none_beats_at_its_cost() -> None:
    trials = [trial(0, 0.5, 0.1, seconds=5), trial(1, 0.6, 0.1, seconds=10), trial(2, 0.55, 0.1, seconds=20)]
    assert [point["best_at_its_cost"] for point in insight.cost(trials, "macro_f1", True)] == [True, True, False]
    assert [point["best_at_its_cost"] for point in insight.cost(trials, "macro_f1", False)] == [True, False, False]
