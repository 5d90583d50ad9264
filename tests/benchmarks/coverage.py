"""How often the intervals hold that a report prints: nominal 95 % against what they cover, on simulated truths.

    python tests/benchmarks/coverage.py [simulations]

Over faces (bootstrap of clusters): each protocol's metrics, each emotion's precision, recall and F1 where printed,
two candidates' differences and the generalization gap, on test sets of several sizes, clustered ones too. Over seeds
(t): final models, differences of two candidates, selection bias. Over runs: effects of the factor study. Over trials:
the rank correlation of accuracy and worst recall. Prints a table; exits 1 where one leaves 93 to 97 % beyond what so
many simulations scatter by (three standard errors).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from facex_tune import metrics
from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation import compare, intervals, scoring
from facex_tune.report import factor_effects, generalization_gap, insight
from facex_tune.report.insight import Answers
from facex_tune.runs.history import Trial

FREQUENCY = np.array([0.137, 0.02, 0.147, 0.245, 0.165, 0.116, 0.17])  # FER2013's, disgust a little more frequent
RECALL = np.array([0.6, 0.5, 0.45, 0.88, 0.55, 0.8, 0.68])
SURE, UNSURE = 0.8, 0.55  # what a right and a wrong answer's probability are
LOW, HIGH = 0.93, 0.97
Counts = dict[str, list[int]]


@dataclass(frozen=True)
class World:
    """Where test sets come from: clusters of one class, whose faces share their luck by `rho`."""

    name: str
    clusters: int
    size: int
    rho: float

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """labels_N, answers_N, groups_N."""
        label_N, answers_MN, group_N = self.answered(rng, 1)
        return label_N, answers_MN[0], group_N

    def answered(self, rng: np.random.Generator, models: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """labels_N, answers_MN of models that are equally good and have their own luck, groups_N."""
        label_G = rng.choice(7, self.clusters, p=FREQUENCY / FREQUENCY.sum())
        label_N, group_N = np.repeat(label_G, self.size), np.repeat(np.arange(self.clusters), self.size)
        answers_MN = []
        for _ in range(models):
            right_N = rng.random(len(label_N)) < np.repeat(self._rates(label_G, rng), self.size)
            wrong_N = (label_N + rng.integers(1, 7, len(label_N))) % 7
            answers_MN.append(np.where(right_N, label_N, wrong_N))
        return label_N, np.stack(answers_MN), group_N

    def _rates(self, label_G: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.rho == 0:
            return RECALL[label_G]
        strength = 1 / self.rho - 1
        return rng.beta(RECALL[label_G] * strength, (1 - RECALL[label_G]) * strength)

    def truth(self, labels_N: np.ndarray) -> dict[str, float]:
        """What an endless test set of the classes that these faces have would score."""
        share = FREQUENCY * np.isin(np.arange(7), labels_N)
        share = share / share.sum()
        confusion = np.zeros((7, 7))
        for k in range(7):
            confusion[k] = share[k] * (1 - RECALL[k]) / 6
            confusion[k, k] = share[k] * RECALL[k]
        found = {name: float(value) for name, value in metrics.counted(confusion).items()}
        table = metrics.per_class(confusion)
        for kind in metrics.PER_EMOTION:
            found |= {f"{kind}.{EMOTIONS[k]}": float(table[kind][k]) for k in range(7)}
        right = found["accuracy"]
        found["log_loss"] = -right * np.log(SURE) - (1 - right) * np.log((1 - UNSURE) / 6)
        return found


WORLDS = (
    World("3,589 faces", 3589, 1, 0.0),
    World("600 faces", 600, 1, 0.0),
    World("309 sequences of 3 frames", 309, 3, 0.6),
    World("106 subjects of 9 frames", 106, 9, 0.3),
)


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
        labels_N, answers_N, groups_N = world.draw(np.random.default_rng([seed, number]))
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
        sides = [_table(*world.draw(rng)) for _ in range(2)]
        study = {"objective": ["macro_f1"], "data": "fer2013", "labels": "fer2013"}
        document = {"study": study, "environment": {"seed": number}}
        for row in generalization_gap.of_run(document, sides[0], {"fer2013.private": sides[1]}):
            _count(counts, "generalization gap", row["interval"], 0.0)
    return {name: (held, total) for name, (held, total) in counts.items()}


def _table(labels_N: np.ndarray, answers_N: np.ndarray, groups_N: np.ndarray) -> Answers:
    names = [str(n) for n in range(len(labels_N))]
    found_MNC = probabilities(answers_N[None], labels_N)
    return Answers("set", labels_N, groups_N, names, found_MNC, None, np.zeros(len(labels_N), bool))


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
        versatile = insight.versatility(_trials(rng), np.random.SeedSequence(number))
        if versatile is not None:
            _count(counts, "rank correlation of 60 trials", versatile["interval"], 0.0)
    return {name: (held, total) for name, (held, total) in counts.items()}


def _trials(rng: np.random.Generator) -> list[Trial]:
    config = {"model": "resnet", "augment": "none", "balance": "none"}
    found = []
    for number in range(60):
        accuracy, worst = rng.normal(size=2)
        epochs = {1: {"accuracy": 0.6 + 0.02 * accuracy, "worst_class_recall": 0.3 + 0.02 * worst}}
        found.append(Trial(number, config, "sampler", "finished", epochs))
    return found


def _count(counts: Counts, name: str, ends: tuple[float, float] | None, truth: float) -> None:
    own = counts.setdefault(name, [0, 0])
    if ends is not None:
        own[0] += ends[0] <= truth <= ends[1]
        own[1] += 1


def rows(simulations: int) -> Iterator[tuple[str, str, int, int]]:
    """(world, what, intervals that hold, intervals)."""
    for world in WORLDS:
        for found in (covered(world, simulations), differences(world, simulations)):
            yield from ((world.name, name, held, total) for name, (held, total) in found.items())
    yield from (("", name, held, total) for name, (held, total) in over_runs(simulations).items())


def main(simulations: int) -> int:
    """Prints every row as soon as it is counted; 1 where one is outside."""
    failed = False
    for world, name, held, total in rows(simulations):
        if not total:
            print(f"{world:26} {name:44} none is printed", flush=True)
            continue
        scatter = 3 * (0.95 * 0.05 / simulations) ** 0.5
        bad = not LOW - scatter <= held / total <= HIGH + scatter
        failed |= bad
        print(f"{world:26} {name:44} {held / total:.3f} of {total:,}{'  OUTSIDE' if bad else ''}", flush=True)
    return int(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("simulations", nargs="?", type=int, default=1000, help="simulated sets a row (default 1000)")
    sys.exit(main(parser.parse_args().simulations))
