"""What is chosen on validation: temperature, ensembles, test-time augmentation; and paired tests."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from facex_tune import metrics
from facex_tune.evidence import calibration, choices, compare, insights_said, records
from facex_tune.training import classifier

from .conftest import RunMaker
from .test_evaluate import _evaluated

SEED = np.random.SeedSequence([0])


def drawn(n: int, seed: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from known probabilities, and those probabilities made surer by `sharpness`."""
    rng = np.random.default_rng(seed)
    true_NC = rng.dirichlet(np.full(7, 0.4), n)
    labels_N = (true_NC.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return calibration.tempered(true_NC, 1 / sharpness), labels_N


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
def test_temperature_undoes_too_much_and_too_little_confidence(sharpness: float) -> None:
    found_NC, labels_N = drawn(6000, 0, sharpness)
    temperature = calibration.best_temperature(found_NC, labels_N)
    assert temperature == pytest.approx(sharpness, rel=0.08)  # of 6,000 faces; the estimate's own spread is about 2 %
    warm_NC = calibration.tempered(found_NC, temperature)
    assert metrics.log_loss(warm_NC, labels_N) <= metrics.log_loss(found_NC, labels_N)
    assert np.array_equal(warm_NC.argmax(axis=1), found_NC.argmax(axis=1))
    assert warm_NC.sum(axis=1) == pytest.approx(1)


def test_a_masked_class_stays_masked_at_any_temperature() -> None:
    warm = calibration.tempered(np.array([[0.5, 0.5, 0.0]]), 10.0)
    assert warm.tolist() == [[0.5, 0.5, 0.0]]


def test_reliability_of_a_calibrated_model_lies_on_the_diagonal() -> None:
    found_NC, labels_N = drawn(6000, 1)
    points = calibration.reliability(found_NC, labels_N)
    assert sum(point["n"] for point in points) == 6000
    for point in points:  # 400 faces a bin: a standard error of at most .025
        assert abs(point["accuracy"] - point["confidence"]) < 0.1


def test_greedy_selection_takes_models_that_complement_each_other() -> None:
    """Two models are right on one half each and unsure on the other; a third is a poor copy of the first."""
    labels_N = np.arange(70) % 7
    right_NC = np.eye(7)[labels_N]
    unsure_NC = np.full((70, 7), 1 / 7)
    half_N1 = (np.arange(70) < 35)[:, None]
    first, second = np.where(half_N1, right_NC, unsure_NC), np.where(half_N1, unsure_NC, right_NC)
    poor = np.where(half_N1, unsure_NC, np.eye(7)[(labels_N + 1) % 7])
    members = choices.greedy(np.stack([first, second, poor]), labels_N, "accuracy")
    assert sorted(members) == [0, 1]
    assert choices.greedy(np.stack([right_NC, poor]), labels_N, "accuracy") == [0]
    assert sorted(choices.greedy(np.stack([first, second, poor]), labels_N, "log_loss"))[:2] != [2, 2]


def test_equal_values_choose_the_simplest() -> None:
    assert choices.best_of({"none": 0.5, "flip": 0.5, "ten_crop": 0.4}, "macro_f1") == "none"
    assert choices.best_of({"none": 0.5, "flip": 0.4}, "log_loss") == "flip"


@pytest.mark.parametrize(("tta", "n"), [("none", 1), ("flip", 2), ("ten_crop", 10)])
def test_views_of_a_face(tta: str, n: int) -> None:
    faces_N1HW = torch.rand(3, 1, 48, 48)
    seen = list(classifier.views(faces_N1HW, tta))
    assert len(seen) == n
    assert all(view.shape == faces_N1HW.shape for view in seen)
    assert len({view.sum().item() for view in seen[:: 2 if n > 1 else 1]}) == (n + 1) // 2
    if n > 1:
        assert torch.equal(seen[1], seen[0].flip(3))
    with pytest.raises(ValueError, match="ten_crop"):
        list(classifier.views(faces_N1HW, "tencrop"))


def test_the_augmentation_is_chosen_on_validation_before_a_test_set_is_opened(
    make_run: RunMaker, data_dir: object
) -> None:
    run = make_run(evaluate={"protocols": ["synthetic.private"], "tta": "auto"})
    scored = _evaluated(run, data_dir)["synthetic.private"]  # type: ignore[arg-type]
    said = json.loads((run.validation_folder / "choices.json").read_bytes())
    assert list(said["tta"]["values"]) == ["none", "flip", "ten_crop"]
    assert scored["tta"] == said["tta"]["chosen"] == choices.best_of(said["tta"]["values"], "macro_f1")
    assert said["n"] == 42
    assert [(each["first"], each["second"], each["n"]) for each in said["retrained"]] == [("t0001", "t0000", 42)]
    assert set(scored["variants"]) >= {"temperature", "ensemble_seeds"}
    assert scored["variants"]["temperature"]["difference"]["metrics"]["accuracy"]["mean"] == 0
    assert [each["role"] for each in scored["comparisons"]] == ["baseline"]  # trial 0, the first that was tried
    gap = scored["comparisons"][0]["metrics"]["macro_f1"]["mean"]
    both = [scored["candidates"][name]["metrics"]["macro_f1"]["mean"] for name in ("t0001", "t0000")]
    assert gap == pytest.approx(both[0] - both[1])


def answers(right_N: np.ndarray) -> np.ndarray:
    """1 x N x 7: class 0 where right, else class 1; the truth is 0."""
    return np.eye(7)[np.where(right_N, 0, 1)][None]


def test_a_paired_test_sees_what_two_intervals_do_not() -> None:
    """One is right wherever the other is, and on 20 of 400 faces more: McNemar's situation."""
    rng = np.random.default_rng(0)
    right_N = rng.random(400) < 0.6
    more_N = right_N.copy()
    more_N[np.flatnonzero(~right_N)[:20]] = True
    labels_N, groups_N = np.zeros(400, np.int64), np.arange(400)
    found = compare.difference(answers(more_N), answers(right_N), labels_N, groups_N, SEED)
    assert found["metrics"]["accuracy"]["mean"] == pytest.approx(0.05)
    assert found["p_value"] < 0.001
    assert compare.supported(found, "accuracy") == 1
    assert (
        compare.supported(compare.difference(answers(right_N), answers(more_N), labels_N, groups_N, SEED), "accuracy")
        == -1
    )
    clustered = compare.difference(answers(more_N), answers(right_N), labels_N, groups_N // 200, SEED)
    assert compare.supported(clustered, "accuracy") == 0  # two clusters prove nothing


def test_equal_models_differ_in_one_test_of_twenty() -> None:
    """40 pairs of equally good models: two are told apart on average, and more than seven once in a thousand times."""
    rng = np.random.default_rng(1)
    labels_N, groups_N = np.zeros(150, np.int64), np.arange(150)
    small, said = 0, 0
    for _ in range(40):
        one, other = (answers(rng.random(150) < 0.7) for _ in range(2))
        found = compare.difference(one, other, labels_N, groups_N, SEED)
        small += found["p_value"] is not None and found["p_value"] < 0.05
        said += compare.supported(found, "accuracy") != 0
    assert small <= 7
    assert said <= 7


def test_seeds_that_disagree_support_nothing() -> None:
    interval = {"mean": 0.1, "interval": (0.05, 0.15), "seeds_interval": (-0.1, 0.3)}
    assert compare.supported({"metrics": {"accuracy": interval}}, "accuracy") == 0
    assert compare.supported({"metrics": {"log_loss": {**interval, "seeds_interval": None}}}, "log_loss") == -1


def test_galleries_hold_what_their_name_says() -> None:
    found_NC, labels_N = drawn(200, 2)
    kinds = records.gallery_rows(found_NC, labels_N, np.random.default_rng(0))
    right_N = found_NC.argmax(axis=1) == labels_N
    assert right_N[kinds["right"]].all()
    assert not right_N[kinds["wrong"]].any()
    surest = found_NC.max(axis=1)[kinds["confident"]]
    assert (np.diff(surest) <= 0).all()
    assert surest[0] == found_NC.max(axis=1)[~right_N].max()
    assert [len(rows) for rows in kinds.values()] == [20, 10, 10, 10]


def test_a_candidate_that_overtakes_the_winner_once_retrained_is_told() -> None:
    """Of two seeds each: t0007 answers 60 % rightly, t0002 80 %, t0004 as many as the winner."""
    rng = np.random.default_rng(2)
    shares = {"t0007-s0": 0.6, "t0007-s1": 0.6, "t0002-s0": 0.8, "t0002-s1": 0.8, "t0004-s0": 0.6, "t0004-s1": 0.6}
    probabilities_MNC = np.concatenate([answers(rng.random(600) < share) for share in shares.values()])
    labels_N, groups_N = np.zeros(600, np.int64), np.arange(600)
    found = choices.against_winner(probabilities_MNC, labels_N, groups_N, list(shares), SEED)
    assert [(each["first"], each["second"]) for each in found] == [("t0007", "t0002"), ("t0007", "t0004")]
    report = {"study": {"objective": ["accuracy"]}, "choices": {"retrained": found}}
    (said,) = insights_said.retrained(report)
    assert said["text"].startswith("Retrained, t0002 is better on validation (n = 600) than the winner t0007")
    assert "With 2 and 2 training runs this tells these models apart, not their configurations." in said["text"]
    assert said["evidence"] == "choices.retrained.0.metrics.accuracy"
    assert not list(insights_said.retrained({**report, "choices": None})), "nothing was evaluated yet"
    assert not list(insights_said.retrained({**report, "choices": {}})), "of a run that was evaluated before this was"


def compared(**sides: tuple[float, tuple[float, float]]) -> dict[str, Any]:
    """A comparison of one model each, by metric: (mean, interval)."""
    told = {name: {"mean": mean, "interval": ends, "seeds_interval": None} for name, (mean, ends) in sides.items()}
    names = {"first": "t0005", "second": "t0000", "role": "baseline"}
    return {**names, "n": 3589, "models": [1, 1], "metrics": told, "p_value": 0.01}


def test_a_trade_off_is_told_whole_and_the_objective_first() -> None:
    found = compared(macro_f1=(0.02, (0.005, 0.035)), accuracy=(-0.03, (-0.045, -0.015)), log_loss=(0.04, (0.02, 0.06)))
    report = {"study": {"objective": ["accuracy"]}, "evaluation": {"fer2013.private": {"comparisons": [found]}}}
    (said,) = insights_said.comparisons(report)
    assert said["text"] == (
        "On fer2013.private (n = 3,589) the winner t0005 is better in macro-F1 (+0.020 [0.005, 0.035]) but worse in "
        "accuracy (-0.030 [-0.045, -0.015]) and log loss (+0.040 [0.020, 0.060]) than the baseline t0000, on the same "
        "faces. With one training run of each this tells these models apart, not their configurations."
    )
    several = {**found, "models": [3, 3], "metrics": {"accuracy": {**found["metrics"]["accuracy"]}}}
    several["metrics"]["accuracy"]["seeds_interval"] = (-0.05, -0.01)
    report["evaluation"]["fer2013.private"]["comparisons"] = [several]
    (said,) = insights_said.comparisons(report)
    assert said["text"].endswith("on the same faces.")
    report["evaluation"]["fer2013.private"]["comparisons"] = [compared(accuracy=(0.01, (-0.01, 0.03)))]
    assert not list(insights_said.comparisons(report))


def test_a_difference_of_seeds_is_paired_only_for_the_same_models() -> None:
    """Models right on .5, .6 and .7, and each on a tenth more: sure where paired, within the noise where not."""
    labels_N, groups_N = np.zeros(1000, np.int64), np.arange(1000)
    place_N = np.arange(1000) / 1000
    first_MNC = np.concatenate([answers(place_N < share + 0.1) for share in (0.5, 0.6, 0.71)])
    second_MNC = np.concatenate([answers(place_N < share) for share in (0.5, 0.6, 0.7)])
    paired, apart = (
        compare.difference(first_MNC, second_MNC, labels_N, groups_N, SEED, same_models=same)["metrics"]["accuracy"]
        for same in (True, False)
    )
    assert paired["seeds_interval"][0] > 0.05
    assert apart["seeds_interval"][0] < 0 < apart["seeds_interval"][1]
