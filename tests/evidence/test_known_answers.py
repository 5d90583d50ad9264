"""Predictors whose scores are known exactly, under every protocol: on the real labels where they are at hand."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facex_tune.data.faces import Faces, majority_labels
from facex_tune.data.sources import ckplus, ferplus, synthetic
from facex_tune.emotions import EMOTIONS, canonical
from facex_tune.evidence import agreement, records, scoring, sequences
from facex_tune.evidence.records import Opened, Scored
from facex_tune.study import protocols

SEED = np.random.SeedSequence([0])
HAPPY, NEUTRAL = EMOTIONS.index("happy"), EMOTIONS.index("neutral")


def one_hot(answers_N: np.ndarray) -> np.ndarray:
    """A sure model of seven classes; what it cannot say it calls neutral. 1 x N x 7."""
    return np.eye(7)[np.where(answers_N < 7, answers_N, NEUTRAL)][None]


def under(protocol_id: str, faces: Faces, answers_N: np.ndarray) -> tuple[Scored, dict[str, Any]]:
    """The scores of a model that answers so."""
    rows_N = np.flatnonzero(np.isin(faces.split_N, protocols.find(protocol_id).splits))
    taken, n = faces.take(rows_N), len(rows_N)
    opened = Opened(taken, rows_N, one_hot(answers_N)[:, rows_N], np.zeros(n, bool))
    scored = records.Scored.under(protocols.find(protocol_id), opened)
    return scored, scoring.score(scored.probabilities_MNC, scored.labels_N, scored.faces.group_N, SEED)


def constant_scores(n_of_class: int, n: int, n_classes: int) -> dict[str, float]:
    """What one answer for every face scores where that class has support: by definition, not by code."""
    return {
        "accuracy": n_of_class / n,
        "balanced_accuracy": 1 / n_classes,
        "macro_f1": 2 * n_of_class / (n + n_of_class) / n_classes,
        "worst_class_recall": 0.0,
    }


def means(scores: dict[str, Any]) -> dict[str, float]:
    return {name: scores["metrics"][name]["mean"] for name in constant_scores(1, 1, 1)}


@pytest.fixture(scope="module")
def rated(realdata_dir: Path) -> Faces:
    """FER2013's real labels and FER+ votes; the pixels play no part here."""
    with np.load(realdata_dir / "fer2013_rows.npz", allow_pickle=False) as rows:
        labels_N, usage_N = rows["emotion"].astype(np.int64), rows["usage"]
    _, votes_NC, _ = ferplus._votes(realdata_dir)
    n = len(labels_N)
    return Faces(
        images_NHW=np.broadcast_to(np.zeros((1, 48, 48), np.uint8), (n, 48, 48)),
        labels_N=labels_N,
        split_N=np.array(["train", "public_test", "private_test"])[usage_N],
        group_N=np.arange(n),
        sequence_N=np.full(n, -1, np.int64),
        votes_NC=votes_NC,
        source_N=np.array([str(row) for row in range(n)]),
    )


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("protocol", "n", "right"),
    [
        ("fer2013.private", 3589, 3589),
        ("fer2013.both", 7178, 7178),
        ("ferplus.majority7", 3137, 3137),
        ("ferplus.majority8", 3153, 3137),  # a model of seven emotions misses the 16 of contempt
    ],
)
def test_an_oracle_on_fer2013(rated: Faces, protocol: str, n: int, right: int) -> None:
    votes = protocols.find(protocol).votes
    assert rated.votes_NC is not None
    truth_N = np.asarray(majority_labels(rated.votes_NC) if votes else rated.labels_N)
    scored, got = under(protocol, rated, np.where(truth_N < 0, 0, truth_N))
    assert (got["n"], round(got["metrics"]["accuracy"]["mean"] * n)) == (n, right)
    assert got["metrics"]["accuracy"]["mean"] == right / n
    assert scored.n_opened - len(scored.labels_N) == (0 if not votes else 3589 - n)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("protocol", "n", "happy", "classes"),
    [
        ("fer2013.private", 3589, 879, 7),
        ("fer2013.both", 7178, 879 + 895, 7),
        ("ferplus.majority7", 3137, 893, 7),
        ("ferplus.majority8", 3153, 893, 8),
    ],
)
def test_a_constant_answer_on_fer2013(rated: Faces, protocol: str, n: int, happy: int, classes: int) -> None:
    _, got = under(protocol, rated, np.full(len(rated), HAPPY))
    assert means(got) == pytest.approx(constant_scores(happy, n, classes))


def named(faces: Faces, archive: Path) -> np.ndarray:
    """What each file's folder is called in the zip, by the emotion table alone: nothing of the importer's labels."""
    with zipfile.ZipFile(archive) as members:
        folder_of = {Path(name).name: Path(name).parent.name for name in members.namelist() if name.endswith(".png")}
    return np.array([canonical(folder_of[Path(str(source)).name]) for source in faces.source_N])


@pytest.fixture(scope="module")
def ck(realdata_dir: Path) -> Faces:
    faces, _ = ckplus.load(realdata_dir / "ckplus.zip", lambda done, total: None)
    return faces


@pytest.mark.realdata
@pytest.mark.parametrize("protocol", ["ckplus.6", "ckplus.6.masked"])
def test_a_predictor_that_reads_the_file_name_is_right_on_ckplus(
    ck: Faces, realdata_dir: Path, protocol: str
) -> None:
    """Proves the order of the labels: 927 frames, 309 sequences, 106 subjects, each right."""
    scored, got = under(protocol, ck, named(ck, realdata_dir / "ckplus.zip"))
    assert (got["n"], got["n_clusters"], got["metrics"]["accuracy"]["mean"]) == (927, 106, 1.0)
    whole = sequences.score(scored.faces, scored.labels_N, scored.probabilities_MNC, SEED)
    assert whole is not None
    assert (whole["n"], whole["n_clusters"], whole["metrics"]["accuracy"]["mean"]) == (309, 106, 1.0)
    assert scored.n_opened - len(scored.labels_N) == 54  # contempt


@pytest.mark.realdata
def test_a_constant_answer_on_ckplus(ck: Faces) -> None:
    _, happy = under("ckplus.6", ck, np.full(len(ck), HAPPY))
    assert means(happy) == pytest.approx(constant_scores(207, 927, 6))
    _, neutral = under("ckplus.6", ck, np.full(len(ck), NEUTRAL))
    assert means(neutral) == pytest.approx(dict.fromkeys(means(neutral), 0.0))
    _, undecided = under("ckplus.6.masked", ck, np.full(len(ck), NEUTRAL))
    assert means(undecided) == pytest.approx(constant_scores(135, 927, 6))  # even over six: the first, angry


@pytest.fixture(scope="module")
def drawn() -> Faces:
    """140 synthetic faces of a test set, with votes."""
    faces = synthetic.generate(140, seed=3, variant="lab")
    assert faces.votes_NC is not None
    return faces


@pytest.mark.parametrize("protocol", ["synthetic.lab.6", "synthetic.lab.6.masked", "folder.mine", "folder.mine.masked"])
def test_an_oracle_and_a_constant_without_real_data(drawn: Faces, protocol: str) -> None:
    scored, got = under(protocol, drawn, drawn.labels_N)
    assert got["metrics"]["accuracy"]["mean"] == 1.0
    n, happy = len(scored.labels_N), int((scored.labels_N == HAPPY).sum())
    assert n == int((drawn.labels_N < 6).sum())
    _, constant = under(protocol, drawn, np.full(len(drawn), HAPPY))
    assert means(constant) == pytest.approx(constant_scores(happy, n, 6))


def test_a_masked_folder_cannot_answer_what_it_does_not_have(drawn: Faces) -> None:
    few = drawn.take(np.isin(drawn.labels_N, (0, 3)))
    free, _ = under("folder.mine", few, np.full(len(few), NEUTRAL))
    masked, _ = under("folder.mine.masked", few, np.full(len(few), NEUTRAL))
    assert free.probabilities_MNC[..., NEUTRAL].min() == 1
    assert np.flatnonzero(masked.probabilities_MNC[0].max(axis=0)).tolist() == [0, 3]


def test_a_sequence_is_answered_by_the_mean_of_its_frames(drawn: Faces) -> None:
    """Two sequences: in one, two sure frames outvote a third; in the other a sure frame outweighs two doubtful ones."""
    faces = drawn.take(np.arange(6))
    labels_N = np.array([3, 3, 3, 0, 0, 0])
    found_NC = np.full((6, 7), 0.01)
    found_NC[[0, 1], 3], found_NC[2, 0] = 0.94, 0.94
    found_NC[3, 0], found_NC[3, 3], found_NC[[4, 5], 0], found_NC[[4, 5], 3] = 0.93, 0.02, 0.45, 0.5
    got = sequences.score(faces, labels_N, found_NC[None], SEED)
    assert got is not None
    assert (got["n"], got["metrics"]["accuracy"]["mean"]) == (2, 1.0)
    alone = faces.take(np.array([0, 3]))
    assert sequences.score(alone, labels_N[[0, 3]], found_NC[None, [0, 3]], SEED) is None


def test_agreement_with_the_votes_by_hand(drawn: Faces) -> None:
    """Votes 8 happy, 2 neutral; the model says .8 and .2, or is even over seven: entropy, and log 7."""
    votes_NC = np.zeros((2, 10), np.int16)
    votes_NC[:, HAPPY], votes_NC[:, NEUTRAL], votes_NC[:, 9] = 8, 2, 3  # what is no emotion does not count
    faces = Faces(**{**vars(drawn.take(np.arange(2))), "votes_NC": votes_NC, "group_N": np.arange(2)})
    said_NC = np.zeros((2, 7))
    said_NC[:, HAPPY], said_NC[:, NEUTRAL] = 0.8, 0.2
    both_MNC = np.stack([said_NC, np.full((2, 7), 1 / 7)])
    got = agreement.score(protocols.find("ferplus.majority8"), faces, both_MNC, SEED)
    assert got is not None
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    assert got["annotators_entropy"] == pytest.approx(entropy)
    assert got["cross_entropy"]["per_model"] == pytest.approx([entropy, np.log(7)])
    votes_NC[:, EMOTIONS.index("contempt")] = 10
    got = agreement.score(protocols.find("ferplus.majority8"), faces, both_MNC, SEED)
    assert got is not None
    assert got["cross_entropy"]["per_model"][0] > 0.5 * 20  # half of the votes name what the model cannot say
    assert agreement.score(protocols.find("fer2013.private"), faces, both_MNC, SEED) is None
