"""How often the intervals hold that a report prints: nominal 95 % against what they cover, on simulated truths.

    python tests/benchmarks/coverage.py [simulations] [--worlds FEW]   # judges what the reports print
    python tests/benchmarks/coverage.py [simulations] --choose         # what its rules were chosen by

Over faces (bootstrap of clusters): each protocol's metrics, each emotion's precision, recall and F1 where printed,
two candidates' differences and the generalization gap by any objective, accuracy by annotators' agreement, the
cross-entropy to their votes, whole sequences, on test sets of several sizes, clustered ones too. Over seeds (t): final
models, differences of two candidates, selection bias, what `simulate` found. Over runs: effects of the factor study and
terms of its factorial. Over trials: the rank correlation of accuracy and worst recall, and parts' excess. What the
terminal, the browser's pages, tables, frames, model cards and mirrors print are these same ones. Has none: worst-class
recall, ECE over faces, the largest confusions, and what the dry run calls "nine of ten", which is a share of simulated
searches. Prints a table, in some ten minutes of one core with 400 simulations; exits 1 where one leaves 93 to 97 %
beyond what so many intervals scatter by (three standard errors).

What few clusters allow is a matter of rules (`intervals.MIN_CLUSTERS`, `intervals.rests_on`, `intervals.together`).
They were chosen on the worlds of CHOOSING, by --choose, which prints every rule's coverage and the one whose worst
line lies nearest to 95 %. They are judged on JUDGED alone: other seeds, other shares and closeness of the classes,
other sizes of clusters, and clusters in which several classes share their luck, as a subject's frames do.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from facex_tune import metrics
from facex_tune.data.faces import Faces
from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation import agreement, compare, intervals, scoring, sequences
from facex_tune.report import factor_effects, generalization_gap, insight
from facex_tune.report.insight import Answers
from facex_tune.runs.history import Trial
from facex_tune.search.factor_design import Cell
from facex_tune.space import FAMILIES
from facex_tune.study import protocols

FER2013 = (0.137, 0.02, 0.147, 0.245, 0.165, 0.116, 0.17)  # disgust a little more frequent
CK = (0.145, 0.19, 0.08, 0.225, 0.09, 0.27)  # six classes
EVEN = (1.0,) * 7
USUAL = (0.6, 0.5, 0.45, 0.88, 0.55, 0.8, 0.68)
CLOSE, APART = (0.62,) * 7, (0.35, 0.9, 0.5, 0.95, 0.4, 0.85, 0.7)
SURE, UNSURE = 0.8, 0.55  # what a right and a wrong answer's probability are
OWN_VOTES = 0.6  # of a face's annotators, who say what its label says
VOTED = protocols.find("ferplus.majority7")
OBJECTIVES = ("accuracy", "balanced_accuracy", "log_loss", "precision.fear", "recall.disgust", "f1.disgust")
LARGE = 1000  # clusters, from which on a world is simulated half as often, as it takes ten times as long
LOW, HIGH = 0.93, 0.97
Counts = dict[str, list[int]]


@dataclass(frozen=True)
class World:
    """Where test sets come from: clusters whose faces share their luck by `rho`.

    Attributes:
        size: faces of a cluster; two numbers: even between them.
        shares: of the classes, of those that there are.
        recalls: of the same classes.
        mixed: whether a cluster has faces of several classes, drawn one by one, or of one.
    """

    name: str
    clusters: int
    size: int | tuple[int, int]
    rho: float
    shares: tuple[float, ...] = FER2013
    recalls: tuple[float, ...] = USUAL
    mixed: bool = False

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """labels_N, answers_N, groups_N."""
        label_N, answers_MN, group_N = self.answered(rng, 1)
        return label_N, answers_MN[0], group_N

    def answered(self, rng: np.random.Generator, models: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """labels_N, answers_MN of models that are equally good and have their own luck, groups_N."""
        label_N, group_N = self.faces(rng)
        return label_N, self.answers(rng, label_N, group_N, models), group_N

    def faces(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """labels_N, groups_N."""
        low, high = (self.size, self.size) if isinstance(self.size, int) else self.size
        size_G = rng.integers(low, high + 1, self.clusters)
        share_C = np.array(self.shares) / sum(self.shares)
        group_N = np.repeat(np.arange(self.clusters), size_G)
        drawn_N = rng.choice(len(share_C), len(group_N) if self.mixed else self.clusters, p=share_C)
        return drawn_N if self.mixed else np.repeat(drawn_N, size_G), group_N

    def answers(self, rng: np.random.Generator, label_N: np.ndarray, group_N: np.ndarray, models: int) -> np.ndarray:
        """answers_MN."""
        answers_MN = []
        for _ in range(models):
            right_N = rng.random(len(label_N)) < self._rates(label_N, group_N, rng)
            wrong_N = (label_N + rng.integers(1, len(self.shares), len(label_N))) % len(self.shares)
            answers_MN.append(np.where(right_N, label_N, wrong_N))
        return np.stack(answers_MN)

    def _rates(self, label_N: np.ndarray, group_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """How likely each face is recognised: a beta variable around its class's recall, the same place of it for all
        faces of a cluster.
        """
        recall_C = np.array(self.recalls)
        if self.rho == 0:
            return recall_C[label_N]
        strength = 1 / self.rho - 1
        place_G = rng.random(self.clusters)
        rate_GC = special.betaincinv(recall_C * strength, (1 - recall_C) * strength, place_G[:, None])
        return rate_GC[group_N, label_N]

    def truth(self, labels_N: np.ndarray) -> dict[str, float]:
        """What an endless test set of the classes that these faces have would score."""
        n = len(self.shares)
        recall_C = np.array(self.recalls)
        row_CC = np.tile(((1 - recall_C) / (n - 1))[:, None], n)
        np.fill_diagonal(row_CC, recall_C)
        loss_C = -recall_C * np.log(SURE) - (1 - recall_C) * np.log((1 - UNSURE) / 6)
        return self.endless(labels_N, row_CC, loss_C)

    def endless(self, labels_N: np.ndarray, row_CC: np.ndarray, loss_C: np.ndarray) -> dict[str, float]:
        """Scores of an endless set of the classes that these faces have, by how each class is answered and its loss."""
        n = len(self.shares)
        share_C = np.array(self.shares) * np.isin(np.arange(n), labels_N)
        share_C = share_C / share_C.sum()
        confusion = np.zeros((7, 7))
        confusion[:n, :n] = share_C[:, None] * row_CC
        found = {name: float(value) for name, value in metrics.counted(confusion).items()}
        table = metrics.per_class(confusion)
        for kind in metrics.PER_EMOTION:
            found |= {f"{kind}.{EMOTIONS[k]}": float(table[kind][k]) for k in range(n)}
        return found | {"log_loss": float(share_C @ loss_C)}


CHOOSING = (
    World("106 subjects of 9 frames", 106, 9, 0.3),
    World("40 groups of 12, even", 40, 12, 0.3, EVEN, CLOSE),
    World("200 sequences of 3, apart", 200, 3, 0.6, FER2013, APART),
    World("60 groups of 2 to 20", 60, (2, 20), 0.2),
)
JUDGED = (
    World("3,589 faces", 3589, 1, 0.0),
    World("600 faces, classes close", 600, 1, 0.0, FER2013, CLOSE),
    World("309 sequences of 3 frames", 309, 3, 0.6),
    World("118 subjects, 6 classes, mixed", 118, (3, 18), 0.25, CK, APART[:6], mixed=True),
    World("80 subjects of 7 frames", 80, 7, 0.4, CK, USUAL[:6]),
    World("70 groups of 5, even, apart", 70, 5, 0.3, EVEN, APART),
    World("150 groups of 1 to 8, close", 150, (1, 8), 0.4, FER2013, CLOSE),
)


INSIGHTFUL = ("600 faces, classes close", "118 subjects, 6 classes, mixed", "150 groups of 1 to 8, close")
"""Worlds on which what is read beside scores is judged, too."""


def probabilities(answers_MN: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """M x N x 7, the answers' probabilities being higher where they are right."""
    sure_MN = np.where(answers_MN == labels_N, SURE, UNSURE)
    found_MNC = np.repeat(((1 - sure_MN) / 6)[..., None], 7, axis=2)
    np.put_along_axis(found_MNC, answers_MN[..., None], sure_MN[..., None], axis=2)
    return found_MNC


def covered(world: World, simulations: int, seed: int = 0) -> dict[str, tuple[int, int]]:
    """Number -> (intervals that hold the truth, intervals), of a protocol's metrics and of its emotions together."""
    counts = Counts()
    for number in range(simulations):
        labels_N, answers_N, groups_N = world.draw(np.random.default_rng([5 + seed, number]))
        truth = world.truth(labels_N)
        probabilities_MNC = probabilities(answers_N[None], labels_N)
        scored = scoring.score(probabilities_MNC, labels_N, groups_N, np.random.SeedSequence([seed, number]))
        for name, each in scored["metrics"].items():
            if name in truth:
                _count(counts, name, each["interval"], truth[name])
        for emotion, row in scored["per_emotion"].items():
            for kind in metrics.PER_EMOTION:
                _count(counts, kind, row[f"{kind}_interval"], truth[f"{kind}.{emotion}"])
    return {name: (held, total) for name, (held, total) in counts.items()}


def differences(world: World, simulations: int) -> dict[str, tuple[int, int]]:
    """Two equally good candidates on the same faces, and validation less test of one model."""
    counts = Counts()
    for number in range(simulations):
        rng = np.random.default_rng([1, number])
        labels_N, answers_MN, groups_N = world.answered(rng, 2)
        found_MNC = probabilities(answers_MN, labels_N)
        seed = np.random.SeedSequence([1, number])
        compared = compare.difference(found_MNC[:1], found_MNC[1:], labels_N, groups_N, seed)
        for name, each in compared["metrics"].items():
            _count(counts, f"difference in {name}", each["interval"], 0.0)
        sides = [_table(*world.answered(rng, 1)) for _ in range(2)]
        study = {"objective": ["macro_f1"], "data": "fer2013", "labels": "fer2013"}
        document = {"study": study, "environment": {"seed": number}}
        for row in generalization_gap.of_run(document, sides[0], {"fer2013.private": sides[1]}):
            _count(counts, "generalization gap", row["interval"], 0.0)
    return {name: (held, total) for name, (held, total) in counts.items()}


def _table(labels_N: np.ndarray, answers_MN: np.ndarray, groups_N: np.ndarray) -> Answers:
    names = [str(n) for n in range(len(labels_N))]
    found_MNC = probabilities(answers_MN, labels_N)
    return Answers("set", labels_N, groups_N, names, found_MNC, None, np.zeros(len(labels_N), bool))


def insights(world: World, simulations: int) -> dict[str, tuple[int, int]]:
    """What a report says of the winner's answers beside scores: confusions, annotators, gaps by each objective."""
    counts = Counts()
    n = len(world.shares)
    for number in range(simulations):
        rng = np.random.default_rng([3, number])
        labels_N, answers_MN, groups_N = world.answered(rng, 3)
        seed, truth = np.random.SeedSequence([3, number]), world.truth(labels_N)
        for pair in insight.confused(_table(labels_N, answers_MN, groups_N)):
            recall = world.recalls[EMOTIONS.index(pair["true"])]
            _count(counts, "largest confusions", pair.get("interval"), (1 - recall) / (n - 1))
        table = _table(labels_N, answers_MN[:1], groups_N)
        agreed_N, shares = _agreed(answers_MN[0] == labels_N, truth["accuracy"], rng)
        told = insight.disagreement(replace(table, agreed_N=agreed_N), seed)
        assert told is not None
        for band, share in zip(told["bands"], shares, strict=True):
            _count(counts, "accuracy by agreement", band["interval"], share)
        _count(counts, "difference by agreement", told["interval"], shares[-1] - shares[0])
        faces, votes = _voted(labels_N, groups_N, rng)
        scored = agreement.score(VOTED, faces, probabilities(answers_MN, labels_N), seed)
        assert scored is not None
        _count(counts, "cross-entropy to votes", scored["cross_entropy"]["interval"], votes(truth["accuracy"]))
        other = _table(*world.answered(rng, 1))
        for objective in OBJECTIVES[number % 2 :: 2]:
            study = {"objective": [objective], "data": "fer2013", "labels": "fer2013"}
            document = {"study": study, "environment": {"seed": number}}
            for row in generalization_gap.of_run(document, table, {"fer2013.private": other}):
                if row["metric"] == objective:
                    _count(counts, f"gap in {objective.partition('.')[0]}", row["interval"], 0.0)
    return {name: (held, total) for name, (held, total) in counts.items()}


def _agreed(right_N: np.ndarray, accuracy: float, rng: np.random.Generator) -> tuple[np.ndarray, list[float]]:
    """agreed_N, which are higher where the answer is right, and the accuracy of an endless set in each band."""
    right_B, wrong_B = np.array((0.1, 0.3, 0.6)), np.array((0.35, 0.35, 0.3))
    drawn_NB = rng.random(len(right_N))[:, None] > np.where(right_N[:, None], right_B.cumsum(), wrong_B.cumsum())
    shares_B = accuracy * right_B / (accuracy * right_B + (1 - accuracy) * wrong_B)
    return np.array((0.5, 0.7, 0.9))[drawn_NB.sum(axis=1)], shares_B.tolist()


def _voted(
    labels_N: np.ndarray, groups_N: np.ndarray, rng: np.random.Generator
) -> tuple[Faces, Callable[[float], float]]:
    """Faces with ten votes each, of which OWN_VOTES go to the label and the rest evenly to the other six; and the
    cross-entropy of an endless set whose accuracy is given.
    """
    share_NC = np.full((len(labels_N), 7), (1 - OWN_VOTES) / 6)
    share_NC[np.arange(len(labels_N)), labels_N] = OWN_VOTES
    votes_NC = np.pad(rng.multinomial(10, share_NC), ((0, 0), (0, 3))).astype(np.int16)

    def truth(accuracy: float) -> float:
        right = -OWN_VOTES * np.log(SURE) - (1 - OWN_VOTES) * np.log((1 - SURE) / 6)
        other = (1 - OWN_VOTES) / 6
        wrong = -other * np.log(UNSURE) - (1 - other) * np.log((1 - UNSURE) / 6)
        return float(accuracy * right + (1 - accuracy) * wrong)

    return _faces(labels_N, groups_N, np.full(len(labels_N), -1), votes_NC), truth


def _faces(
    labels_N: np.ndarray, groups_N: np.ndarray, sequence_N: np.ndarray, votes_NC: np.ndarray | None = None
) -> Faces:
    n = len(labels_N)
    images_NHW = np.broadcast_to(np.zeros((1, 48, 48), np.uint8), (n, 48, 48))
    return Faces(images_NHW, labels_N, np.full(n, "test"), groups_N, sequence_N, votes_NC, np.full(n, ""))


def of_sequences(world: World, simulations: int) -> dict[str, tuple[int, int]]:
    """Scores of whole sequences of three frames; the world's faces are the sequences, and its truth is that of many."""
    counts = Counts()
    row_CC, loss_C = _sequences_truth(world)
    for number in range(simulations):
        rng = np.random.default_rng([4, number])
        faces, labels_N, found_NC = _sequences(world, rng)
        scored = sequences.score(faces, labels_N, found_NC[None], np.random.SeedSequence([4, number]))
        assert scored is not None
        truth = world.endless(labels_N, row_CC, loss_C)
        for name, each in scored["metrics"].items():
            if name in truth:
                _count(counts, f"{name} of sequences", each["interval"], truth[name])
    return {name: (held, total) for name, (held, total) in counts.items()}


def _sequences(world: World, rng: np.random.Generator) -> tuple[Faces, np.ndarray, np.ndarray]:
    """Faces, labels_N, probabilities_NC of frames."""
    labels_S, groups_S = world.faces(rng)
    labels_N, groups_N = np.repeat(labels_S, 3), np.repeat(groups_S, 3)
    answers_MN = world.answers(rng, labels_N, groups_N, 1)
    faces = _faces(labels_N, groups_N, np.repeat(np.arange(len(labels_S)), 3))
    return faces, labels_N, probabilities(answers_MN, labels_N)[0]


def _sequences_truth(world: World) -> tuple[np.ndarray, np.ndarray]:
    """How sequences of each class are answered, C x C, and their loss, C: counted on 50,000 clusters."""
    n = len(world.shares)
    _, labels_N, found_NC = _sequences(replace(world, clusters=50_000), np.random.default_rng(4))
    labels_S, found_SC = labels_N[::3], found_NC.reshape(-1, 3, 7).mean(axis=1)
    counts_CC = metrics.confusion(found_SC.argmax(axis=1), labels_S, n).astype(float)
    losses_S = metrics.log_losses(found_SC, labels_S)
    loss_C = np.array([losses_S[labels_S == k].mean() for k in range(n)])
    return counts_CC / counts_CC.sum(axis=1, keepdims=True), loss_C


def over_runs(simulations: int) -> dict[str, tuple[int, int]]:
    """Intervals over seeds, cells and trials: of normal values, whose truth is 0."""
    counts = Counts()
    for number in range(simulations):
        rng = np.random.default_rng([2, number])
        for seeds in (3, 5):
            first, second = rng.normal(size=seeds).tolist(), (2 * rng.normal(size=seeds)).tolist()
            _count(counts, f"mean of {seeds} seeds (selection bias)", intervals.over_seeds(first), 0.0)
            _count(counts, f"difference over {seeds} seeds", intervals.between_seeds(first, second), 0.0)
        for name, noisy in (("", 0), (", reference 3x as noisy", 3)):
            table = rng.normal(size=(15, 3))
            table[0] *= noisy or 1
            noise = factor_effects.noise_of(table)
            for row_S in table[1:]:
                effect = factor_effects.contrast(row_S - table[0], noise)
                _count(counts, f"effect of a change{name}", effect["interval"], 0.0)
        for name, noisy in (("", 0), (", reference 3x as noisy", 0), (", a corner 3x as noisy", 4)):
            for term in _factorial(rng, noisy if name else None):
                _count(counts, f"factorial{name}", term["interval"], 0.0)
        for trials in (20, 60):
            for shape, truth in RHOS.items():
                found = insight.versatility(_trials(DRAWN[shape](rng, trials)))
                assert found is not None
                _count(counts, f"rank correlation of {trials} trials, {shape}", found["interval"], truth)
            for name, noise_P in (("", (1, 1, 1)), (", one part 3x as noisy", (1, 1, 3))):
                for held in _excess(rng, trials, np.array(noise_P)):
                    _count(counts, f"excess of a part of {trials} trials{name}", *held)
    return {name: (held, total) for name, (held, total) in counts.items()}


def _factorial(rng: np.random.Generator, noisy: int | None) -> list[dict[str, Any]]:
    """Terms of 2 x 2 x 2 corners beside seven changed knobs, three seeds; a cell may be noisier than the rest."""
    cells = []
    for swapped in itertools.product((False, True), repeat=3):
        changed = {family: "b" for family, is_swapped in zip(FAMILIES, swapped, strict=True) if is_swapped}
        config = dict.fromkeys(FAMILIES, "a") | changed
        cells.append(Cell("+".join(changed) or "reference", config, changed, {}, factorial=True))
    cells += [Cell(f"train.lr={n}", cells[0].config, {"train.lr": n}, {}) for n in range(7)]
    table = rng.normal(size=(len(cells), 3))
    if noisy is not None:
        table[noisy] *= 3
    table += rng.normal(size=3)  # of each seed
    finished = {
        (cell.name, seed): {"macro_f1": float(value)}
        for cell, row_S in zip(cells, table, strict=True)
        for seed, value in enumerate(row_S)
    }
    terms: list[dict[str, Any]] = factor_effects.analyse(cells, finished, 3, "macro_f1", {})["factorial"]["terms"]
    return terms


def _independent(rng: np.random.Generator, trials: int) -> np.ndarray:
    return rng.normal(size=(2, trials))


def _alike(rng: np.random.Generator, trials: int) -> np.ndarray:
    first, second = rng.normal(size=(2, trials))
    return np.stack([first, 0.8 * first + 0.6 * second])


def _below(rng: np.random.Generator, trials: int) -> np.ndarray:
    """As the worst recall lies below the accuracy: anywhere."""
    first, second = rng.random((2, trials))
    return np.stack([first, first * second])


def _often_zero(rng: np.random.Generator, trials: int) -> np.ndarray:
    """As the worst recall is in short trainings."""
    first, second = rng.normal(size=(2, trials))
    return np.stack([first, np.maximum(0, 0.5 * first + 0.75**0.5 * second)])


DRAWN = {"independent": _independent, "alike": _alike, "below": _below, "often 0": _often_zero}
RHOS = {"independent": 0.0, "alike": 6 / np.pi * np.arcsin(0.4), "below": 2 / 3, "often 0": 0.4425}
"""Spearman's, of endlessly many: by integrals, the last counted on twenty million."""


def _trials(xy_2T: np.ndarray, parts_T: Sequence[str] | None = None) -> list[Trial]:
    found = []
    for number, (accuracy, worst) in enumerate((0.4 + 0.02 * xy_2T).T.tolist()):
        config = {"model": parts_T[number] if parts_T is not None else "resnet", "augment": "none", "balance": "none"}
        epochs = {1: {"accuracy": accuracy, "worst_class_recall": worst}}
        found.append(Trial(number, config, "sampler", "finished", epochs))
    return found


def _excess(
    rng: np.random.Generator, trials: int, noise_P: np.ndarray
) -> Iterator[tuple[tuple[float, float] | None, float]]:
    """(interval, what the same trials would show without noise) of each of three parts, of which one is rare."""
    part_T = rng.choice(3, trials, p=(0.5, 0.3, 0.2))
    x_T = rng.normal(size=trials) + 0.5 * part_T
    expected_T = 0.6 * x_T + np.array((0, 0.5, -0.5))[part_T]
    y_T = expected_T + noise_P[part_T] * rng.normal(size=trials)
    found = insight.versatility(_trials(np.stack([x_T, y_T]), [str(p) for p in part_T]))
    assert found is not None
    left_T = expected_T - np.polyval(np.polyfit(x_T, expected_T, 1), x_T)
    for row in found["parts"]:
        if row["family"] == "model":
            yield row["interval"], 0.02 * float(left_T[part_T == int(row["part"])].mean())


def _count(counts: Counts, name: str, ends: tuple[float, float] | None, truth: float) -> None:
    own = counts.setdefault(name, [0, 0])
    if ends is not None:
        own[0] += ends[0] <= truth <= ends[1]
        own[1] += 1


def rows(simulations: int, worlds: Sequence[World]) -> Iterator[tuple[str, str, int, int]]:
    """(world, what, intervals that hold, intervals)."""
    for world in worlds:
        few = simulations // 2 if world.clusters > LARGE else simulations
        for found in (covered(world, few), differences(world, few)):
            yield from ((world.name, name, held, total) for name, (held, total) in found.items())
        if world.name in INSIGHTFUL:
            found = insights(world, simulations) | of_sequences(world, simulations)
            yield from ((world.name, name, held, total) for name, (held, total) in found.items())
    yield from (("", name, held, total) for name, (held, total) in over_runs(simulations).items())


def judge(simulations: int, worlds: Sequence[World]) -> int:
    """Prints every row as soon as it is counted; 1 where one is outside."""
    failed = False
    for world, name, held, total in rows(simulations, worlds):
        if not total:
            print(f"{world:31} {name:40} none is printed", flush=True)
            continue
        scatter = 3 * (0.95 * 0.05 / total) ** 0.5
        bad = not LOW - scatter <= held / total <= HIGH + scatter
        failed |= bad
        print(f"{world:31} {name:40} {held / total:.3f} of {total:,}{'  OUTSIDE' if bad else ''}", flush=True)
    return int(failed)


def harmonic(counts_K: np.ndarray) -> float:
    """The harmonic mean of the classes' numbers of clusters: the rule until 2026-11-29."""
    return max(2.0, len(counts_K) / float((1 / counts_K).sum()))


def satterthwaite(counts_K: np.ndarray) -> float:
    """One more than the degrees of freedom of a mean of classes whose variances go with one over their clusters."""
    return float((1 / counts_K).sum()) ** 2 / float((1 / counts_K**2 / (counts_K - 1)).sum()) + 1


RULES: dict[str, Callable[[np.ndarray, int], float]] = {
    "all clusters": lambda _, clusters: clusters,
    "harmonic mean": lambda counts_K, _: harmonic(counts_K),
    "Satterthwaite": lambda counts_K, _: satterthwaite(counts_K),
}
LEAST = (3, 4, 5, 6, 8, 10)  # clusters of the rarest class


def choose(simulations: int) -> int:
    """Prints how often each rule's intervals of the means over classes hold, on the worlds that are chosen on, by the
    clusters of the rarest class; then the same of two sides' gap.
    """
    held: dict[tuple[str, str, int], list[bool]] = {}
    gaps: dict[tuple[str, str], list[bool]] = {}
    classes: dict[tuple[str, str], list[bool]] = {}
    for world in CHOOSING:
        for number in range(simulations):
            rng = np.random.default_rng([7, number])
            sides = [_drawn(world, rng, [7, number, side]) for side in range(2)]
            for drawn, counts_K, clusters, truth in sides[:1]:
                for metric in intervals.MEANS_OVER_CLASSES:
                    for rule, rests_on in RULES.items():
                        if counts_K.min() < 2:
                            continue
                        if ends := intervals.percentile(drawn[metric], rests_on(counts_K, clusters)):
                            key = metric, rule, max((n for n in LEAST if n <= counts_K.min()), default=2)
                            held.setdefault(key, []).append(ends[0] <= truth[metric] <= ends[1])
            for metric in intervals.MEANS_OVER_CLASSES:
                _gaps(gaps, metric, sides)
            _of_classes(classes, world, number)
    for (metric, rule, least), each in sorted(held.items()):
        print(f"{metric:20} {rule:15} rarest class {least:2} clusters: {np.mean(each):.3f} of {len(each):,}")
    for (metric, rule), each in sorted(gaps.items()):
        print(f"gap in {metric:20} {rule:20} {np.mean(each):.3f} of {len(each):,}")
    for (kind, rule), each in sorted(classes.items()):
        print(f"{kind} of a class, {rule:30} {np.mean(each):.3f} of {len(each):,}")
    return 0


def _of_classes(classes: dict[tuple[str, str], list[bool]], world: World, number: int) -> None:
    """Precision and F1 of a class by the clusters that have it, that have an answer of it, and that have either."""
    rng = np.random.default_rng([7, number])
    labels_N, answers_N, groups_N = world.draw(rng)
    seed = np.random.SeedSequence([7, number])
    draws_DMKK = intervals.resampled_confusion(answers_N[None], labels_N, groups_N, 7, seed)
    assert draws_DMKK is not None
    drawn, truth = intervals.scores_of_draws(draws_DMKK), world.truth(labels_N)
    for k in np.unique(labels_N):
        has_N, said_N = labels_N == k, answers_N == k
        own = len(np.unique(groups_N[has_N]))
        ways = {"that have it": own, "an answer of it": len(np.unique(groups_N[said_N])),
                "either": len(np.unique(groups_N[has_N | said_N])), "all": len(np.unique(groups_N))}  # fmt: skip
        for kind in ("precision", "f1"):
            for rule, clusters in ways.items():
                ends = intervals.percentile(drawn[kind][:, 0, k], clusters) if own >= intervals.MIN_CLUSTERS else None
                if ends is not None:
                    classes.setdefault((kind, f"clusters {rule}"), []).append(
                        ends[0] <= truth[f"{kind}.{EMOTIONS[k]}"] <= ends[1]
                    )


Side = tuple[dict[str, np.ndarray], np.ndarray, int, dict[str, float]]
"""Draws by metric, clusters of each class, clusters, truth."""


def _drawn(world: World, rng: np.random.Generator, seed: list[int]) -> Side:
    labels_N, answers_N, groups_N = world.draw(rng)
    draws_DMKK = intervals.resampled_confusion(answers_N[None], labels_N, groups_N, 7, np.random.SeedSequence(seed))
    assert draws_DMKK is not None
    scores = intervals.scores_of_draws(draws_DMKK)
    counts_K = np.array(list(intervals.clusters_of_each(labels_N, groups_N).values()), float)
    means = {metric: scores[metric][:, 0] for metric in intervals.MEANS_OVER_CLASSES}
    return means, counts_K, len(np.unique(groups_N)), world.truth(labels_N)


def _gaps(gaps: dict[tuple[str, str], list[bool]], metric: str, sides: Sequence[Side]) -> None:
    """Of two sets of the same world and the same classes, whose gap is 0: by the lesser side's number of clusters, and
    by both together.
    """
    (one, counts, _, truth), (other, others, _, other_truth) = sides
    if truth[metric] != other_truth[metric] or min(counts.min(), others.min()) < intervals.MIN_CLUSTERS:
        return
    for name, rule in RULES.items():
        each = [rule(counts, sides[0][2]), rule(others, sides[1][2])]
        both = {"the lesser": min(each), "together": intervals.together([one[metric], other[metric]], each)}
        for way, clusters in both.items():
            if (ends := intervals.percentile(one[metric] - other[metric], clusters)) is not None:
                gaps.setdefault((metric, f"{name}, {way}"), []).append(ends[0] <= 0 <= ends[1])


def main() -> int:
    """Judges, or helps to choose."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("simulations", nargs="?", type=int, default=1000, help="simulated sets a row (default 1000)")
    asked.add_argument("--choose", action="store_true")
    asked.add_argument("--worlds", nargs="*", default=[""], help="only those whose name has one of these words")
    said = asked.parse_args()
    if said.choose:
        return choose(said.simulations)
    return judge(said.simulations, [world for world in JUDGED if any(word in world.name for word in said.worlds)])


if __name__ == "__main__":
    sys.exit(main())
