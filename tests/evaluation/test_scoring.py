"""Scores and intervals against cases worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from facex_tune.data.faces import VOTE_ANSWERS, Faces
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError
from facex_tune.evaluation import compare, intervals, scoring
from facex_tune.study import protocols

SEED = np.random.SeedSequence([0, 4])


def _faces(labels: list[int], split: str = "private_test", votes: list[list[int]] | None = None) -> Faces:
    n = len(labels)
    return Faces(
        images_NHW=np.random.default_rng(0).integers(0, 256, (n, 48, 48), np.uint8),
        labels_N=np.array(labels, np.int64),
        split_N=np.array([split] * n),
        group_N=np.arange(n, dtype=np.int64),
        sequence_N=np.full(n, -1, np.int64),
        votes_NC=None if votes is None else np.array(votes, np.int16),
        source_N=np.array([f"row {i}" for i in range(n)]),
    )


def _ballot(**answers: int) -> list[int]:
    return [answers.get(name, 0) for name in VOTE_ANSWERS]


def test_majority_protocols_take_labels_from_votes() -> None:
    votes = [_ballot(contempt=9), _ballot(happy=9), _ballot(happy=5, sad=5), _ballot(unknown=9), _ballot(sad=8, fear=1)]
    faces = _faces([0, 0, 0, 0, 0], votes=votes)
    seven, eight = protocols.find("ferplus.majority7"), protocols.find("ferplus.majority8")
    rows_N, labels_N = scoring.judged(seven, faces)
    assert (rows_N.tolist(), labels_N.tolist()) == ([1, 4], [3, 4])
    rows_N, labels_N = scoring.judged(eight, faces)
    assert (rows_N.tolist(), labels_N.tolist()) == ([0, 1, 4], [7, 3, 4])


def test_a_folder_is_scored_over_what_it_shares_with_the_model() -> None:
    for name in ("folder.mine", "folder.mine.masked"):
        found = [scoring.judged(protocols.find(name), _faces([0, 7, 6], split="test"), n)[1].tolist() for n in (7, 8)]
        assert found == [[0, 6], [0, 7, 6]]


def test_contempt_is_missed_by_a_model_that_does_not_know_it() -> None:
    """Four faces, one of contempt; the model is right about the other three."""
    got = scoring.score(np.eye(7)[[[3, 3, 4, 6]]], np.array([3, 3, 4, 7]), np.arange(4), SEED)
    assert got["metrics"]["accuracy"]["mean"] == 0.75
    assert got["per_emotion"]["contempt"]["recall"] == 0
    assert got["metrics"]["worst_class_recall"]["mean"] == 0
    assert got["confusion"]["classes"] == list(EMOTIONS)
    assert got["confusion"]["counts"][7] == [0, 0, 0, 0, 0, 0, 1, 0]


def test_only_the_protocols_splits_and_classes_are_judged() -> None:
    rows_N, labels_N = scoring.judged(protocols.find("ckplus.6"), _faces([0, 6, 7, 5], split="test"))
    assert (rows_N.tolist(), labels_N.tolist()) == ([0, 3], [0, 5])
    assert not len(scoring.judged(protocols.find("ckplus.6"), _faces([0, 5], split="train"))[0])


def test_votes_are_asked_for() -> None:
    with pytest.raises(InputError, match="votes"):
        scoring.judged(protocols.find("ferplus.majority7"), _faces([0]))


def test_masking_by_hand() -> None:
    probabilities_NC = np.array([[0.1, 0.3, 0.6], [0.0, 0.0, 1.0]])
    got = scoring.masked(probabilities_NC, (0, 1))
    assert got == pytest.approx(np.array([[0.25, 0.75, 0.0], [0.5, 0.5, 0.0]]))


def test_interval_over_seeds_by_hand() -> None:
    """t(2 degrees of freedom, .975) is 4.303; the standard error of .6 .7 .8 is .1 / sqrt 3."""
    assert intervals.over_seeds([0.6, 0.7]) is None
    low, high = intervals.over_seeds([0.6, 0.7, 0.8]) or (0, 0)
    assert (low, high) == pytest.approx((0.7 - 4.3027 * 0.1 / 3**0.5, 0.7 + 4.3027 * 0.1 / 3**0.5), abs=1e-4)


def _accuracy_interval(right_N: np.ndarray, groups_N: np.ndarray) -> tuple[float, float]:
    labels_N = np.zeros(len(right_N), np.int64)
    answers_N = np.where(right_N, 0, 1)
    got = scoring.score(np.eye(7)[answers_N][None], labels_N, groups_N, SEED)
    return got["metrics"]["accuracy"]["interval"]


def test_clusters_widen_the_interval_as_their_size_says() -> None:
    """100 subjects of 9 equal frames carry the information of 100 faces: the interval is 3 times as wide."""
    right_N = np.repeat(np.random.default_rng(3).random(100) < 0.7, 9)
    low, high = _accuracy_interval(right_N, np.repeat(np.arange(100), 9))
    low_alone, high_alone = _accuracy_interval(right_N, np.arange(900))
    assert (high - low) / (high_alone - low_alone) == pytest.approx(3, rel=0.1)  # 2,000 draws: about 2 % on each width
    p = right_N.mean()
    assert high_alone - low_alone == pytest.approx(2 * 1.96 * (p * (1 - p) / 900) ** 0.5, rel=0.1)
    assert low < p < high


def test_one_cluster_gives_no_interval() -> None:
    got = scoring.score(np.eye(7)[[[0, 1]]], np.array([0, 0]), np.array([5, 5]), SEED)
    assert got["metrics"]["accuracy"]["interval"] is None
    assert got["per_emotion"]["angry"]["recall_interval"] is None
    assert got["metrics"]["accuracy"]["mean"] == 0.5


def test_confusion_matrices_of_draws_are_those_of_their_faces() -> None:
    """Counted face by face, of single faces and of larger clusters, for two models, from the same draws."""
    rng = np.random.default_rng(3)
    n, draws = 60, 20
    labels_N, answers_MN = rng.integers(0, 3, n), rng.integers(0, 3, (2, n))
    groups_N = np.where(np.arange(n) < 40, np.arange(n), 100 + np.arange(n) // 4)
    found = intervals.resampled_confusion(answers_MN, labels_N, groups_N, 3, SEED, draws)
    assert found is not None
    clusters = np.unique(groups_N)
    members_DG = np.random.default_rng(SEED).integers(len(clusters), size=(draws, len(clusters)))
    for members_G, said_MKK in zip(members_DG, found, strict=True):
        rows = np.concatenate([np.flatnonzero(groups_N == clusters[g]) for g in members_G])
        counted_MKK = np.zeros((2, 3, 3))
        for m in range(2):
            np.add.at(counted_MKK[m], (labels_N[rows], answers_MN[m, rows]), 1)
        assert (said_MKK == counted_MKK).all()


def test_resampling_in_chunks_equals_resampling_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    answers_MN, labels_N, groups_N = rng.integers(0, 3, (2, 50)), rng.integers(0, 3, 50), rng.integers(0, 20, 50)
    at_once = intervals.resampled_confusion(answers_MN, labels_N, groups_N, 3, SEED, 30)
    monkeypatch.setattr(intervals, "_CHUNK_CELLS", 7 * 20)
    chunked = intervals.resampled_confusion(answers_MN, labels_N, groups_N, 3, SEED, 30)
    assert at_once is not None
    assert np.array_equal(at_once, chunked)


def test_a_draw_equals_counting_its_faces() -> None:
    """The draws' mean number of faces is N, and every draw's counts are whole clusters."""
    answers_MN, labels_N, groups_N = np.array([[0, 1, 1, 0]]), np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    draws = intervals.resampled_confusion(answers_MN, labels_N, groups_N, 2, SEED, 200)
    assert draws is not None
    seen = {tuple(matrix.ravel().astype(int)) for matrix in draws[:, 0]}
    assert seen == {(2, 2, 0, 0), (1, 1, 1, 1), (0, 0, 2, 2)}


def test_the_mean_over_models_has_the_interval_of_the_mean() -> None:
    """Models that err on opposite halves: one model's accuracy varies over draws, their mean hardly does."""
    labels_N = np.zeros(41, np.int64)
    answers_MN = np.array([[0] * 20 + [1] * 20 + [0], [1] * 20 + [0] * 20 + [0]])

    def width(models: np.ndarray) -> float:
        low, high = scoring.score(np.eye(7)[models], labels_N, np.arange(41), SEED)["metrics"]["accuracy"]["interval"]
        return high - low

    both = scoring.score(np.eye(7)[answers_MN], labels_N, np.arange(41), SEED)["metrics"]["accuracy"]
    assert both["per_model"] == [21 / 41, 21 / 41]
    assert both["seeds_interval"] is None
    assert width(answers_MN) < width(answers_MN[:1]) / 3


def test_worst_class_recall_has_no_interval_over_faces() -> None:
    """Of seven classes with one recall each draw's least lies below it: an interval of draws held .5 in 11 of 150."""
    rng = np.random.default_rng(0)
    labels_N = np.arange(700) % 7
    answers_N = np.where(rng.random(700) < 0.5, labels_N, (labels_N + 1) % 7)
    scored = scoring.score(np.eye(7)[answers_N][None], labels_N, np.arange(700), SEED)["metrics"]
    assert scored["worst_class_recall"]["mean"] < 0.5
    assert [name for name, each in scored.items() if each["interval"] is None] == ["worst_class_recall", "ece"]
    other = np.eye(7)[rng.permutation(answers_N)][None]
    compared = compare.difference(np.eye(7)[answers_N][None], other, labels_N, np.arange(700), SEED)
    assert compared["metrics"]["worst_class_recall"]["interval"] is None
    assert compare.supported(compared, "worst_class_recall") == 0
    assert compare.supported(compared, "accuracy") == 1


def _rare(missed: bool) -> dict[str, Any]:
    """100 happy and 100 neutral faces, all answered rightly, and 3 of disgust."""
    labels_N = np.array([3] * 100 + [6] * 100 + [1] * 3)
    answers_N = np.where(missed & (labels_N == 1), 6, labels_N)
    return scoring.score(np.eye(7)[answers_N][None], labels_N, np.arange(203), SEED)


def test_a_class_that_falls_out_of_a_draw_makes_no_interval_wider_or_better() -> None:
    """One draw of twenty has none of three faces: what it says of them, or of a mean over all classes, is nothing."""
    missed = _rare(missed=True)["metrics"]
    assert missed["worst_class_recall"]["interval"] is None, "0 in every draw that can tell"
    assert max(missed["macro_f1"]["interval"]) < 0.67, "never above what two classes of three can give"
    assert max(missed["balanced_accuracy"]["interval"] or [0]) < 0.67
    assert missed["accuracy"]["interval"][1] <= 1
    right = _rare(missed=False)
    assert right["per_emotion"]["disgust"]["recall"] == 1
    assert [right["per_emotion"]["disgust"][f"{kind}_interval"] for kind in ("precision", "recall", "f1")] == [None] * 3
    assert right["metrics"]["macro_f1"]["interval"] is None


def test_draws_that_mostly_say_nothing_give_no_interval() -> None:
    values_D = np.array([np.nan] * 51 + list(np.linspace(0, 1, 49)))
    assert intervals.percentile(values_D) is None
    assert intervals.percentile(values_D[2:]) == pytest.approx((0.025, 0.975))


def test_log_loss_has_an_interval_over_faces_and_ece_has_none() -> None:
    """A face costs log 2 or log 4: a mean of 400 of them, half each, lies within two standard errors."""
    labels_N = np.zeros(400, np.int64)
    truth_N = np.where(np.arange(400) % 2, 0.5, 0.25)
    found_NC = np.column_stack([truth_N, 1 - truth_N, np.zeros((400, 5))])
    got = scoring.score(found_NC[None], labels_N, np.arange(400), SEED)["metrics"]
    error = np.log(2) / 2 / 400**0.5
    assert got["log_loss"]["interval"] == pytest.approx(
        (1.5 * np.log(2) - 1.96 * error, 1.5 * np.log(2) + 1.96 * error), abs=0.1 * error
    )  # 2,000 draws: 2 % on a width
    assert got["ece"]["interval"] is None


def test_interval_between_unpaired_seeds_by_hand() -> None:
    """Welch: variances .01 and .04 of three each, so that the error is the root of .05 / 3."""
    df = (0.05 / 3) ** 2 / ((0.01 / 3) ** 2 / 2 + (0.04 / 3) ** 2 / 2)
    assert df == pytest.approx(2.941, abs=1e-3)
    low, high = intervals.between_seeds([0.6, 0.7, 0.8], [0.1, 0.3, 0.5]) or (0, 0)
    assert (low + high) / 2 == pytest.approx(0.4)
    assert (high - low) / 2 == pytest.approx(3.218 * (0.05 / 3) ** 0.5, rel=2e-3)  # t of 2.94 degrees of freedom
    assert intervals.between_seeds([0.6, 0.7, 0.8], [0.1, 0.3]) is None
    assert intervals.between_seeds([0.6] * 3, [0.1] * 3) is None


def test_draws_that_all_agree_give_no_interval() -> None:
    """A class that is never recognised has recall 0 in every draw: that is no proof of 0 to 0."""
    got = scoring.score(np.eye(7)[[[0, 0, 0, 1]]], np.array([1, 1, 1, 0]), np.arange(4), SEED)
    assert got["per_emotion"]["disgust"]["recall_interval"] is None
    assert got["per_emotion"]["disgust"]["recall"] == 0


def test_nothing_to_score_is_said() -> None:
    assert scoring.score(np.empty((2, 0, 7)), np.empty(0, np.int64), np.empty(0, np.int64), SEED)["n"] == 0


def test_draws_that_agree_but_for_a_few_are_no_certainty() -> None:
    """A class that was answered twelve times and always rightly, and in some draws never."""
    precision_D = np.ones(2000)
    precision_D[:10] = 0.0
    assert intervals.percentile(precision_D, 12) is None


@pytest.mark.parametrize(
    ("spreads", "clusters", "together"),
    [((1.0, 1.0), (11, 11), 21), ((1.0, 1.0), (11, 10**6), 41), ((1.0, 1e-6), (11, 50), 11), ((0.0, 0.0), (7, 9), 7)],
)
def test_a_difference_of_two_sets_rests_on_the_clusters_of_both(
    spreads: tuple[float, ...], clusters: tuple[float, ...], together: float
) -> None:
    """Welch's degrees of freedom and one: of equal variances twice as many as of one; of one that does not scatter the
    other's own; (1 + 1)² / (1 / 10) = 40 where the second is sure.
    """
    plain_D = np.array([-1.0, 1.0] * 500)
    found = intervals.together([plain_D * spread for spread in spreads], clusters)
    assert found == pytest.approx(together, rel=0.01)


def test_precision_rests_on_answers_too() -> None:
    """Three clusters have a happy face, a fourth was answered so by one of two models."""
    labels_N, groups_N = np.array([3, 3, 3, 0, 0]), np.array([0, 1, 2, 3, 4])
    answers_MN = np.array([[3, 3, 0, 0, 0], [3, 3, 3, 3, 0]])
    given = answers_MN, labels_N, groups_N
    assert intervals.rests_on_class(*given, "recall", 3) == 3
    assert intervals.rests_on_class(*given, "precision", 3) == 4
