"""How often the intervals hold: nominal 95 % against what they cover, over simulated test sets, clustered ones too.

    python tests/benchmarks/coverage.py [simulations]

Prints a table; exits 1 where accuracy or a recall of at least 50 faces leaves 93 to 97 %, or macro-F1 falls under 91 %.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from facex_tune import metrics
from facex_tune.evaluation import scoring

FREQUENCY = np.array([0.137, 0.02, 0.147, 0.245, 0.165, 0.116, 0.17])  # FER2013's, disgust a little more frequent
RECALL = np.array([0.6, 0.5, 0.45, 0.88, 0.55, 0.8, 0.68])


@dataclass(frozen=True)
class World:
    """Where test sets come from: clusters of one class, whose faces share their luck by `rho`."""

    name: str
    clusters: int
    size: int
    rho: float

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """labels_N, answers_N, groups_N."""
        label_G = rng.choice(7, self.clusters, p=FREQUENCY / FREQUENCY.sum())
        label_N, group_N = np.repeat(label_G, self.size), np.repeat(np.arange(self.clusters), self.size)
        rate_N = np.repeat(self._rates(label_G, rng), self.size)
        right_N = rng.random(len(label_N)) < rate_N
        wrong_N = (label_N + rng.integers(1, 7, len(label_N))) % 7
        return label_N, np.where(right_N, label_N, wrong_N), group_N

    def _rates(self, label_G: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.rho == 0:
            return RECALL[label_G]
        strength = 1 / self.rho - 1
        return rng.beta(RECALL[label_G] * strength, (1 - RECALL[label_G]) * strength)

    def truth(self) -> dict[str, float]:
        """What an endless test set would score."""
        share = FREQUENCY / FREQUENCY.sum()
        confusion = np.zeros((7, 7))
        for k in range(7):
            confusion[k] = share[k] * (1 - RECALL[k]) / 6
            confusion[k, k] = share[k] * RECALL[k]
        found = metrics.counted(confusion)
        return {name: float(found[name]) for name in ("accuracy", "macro_f1")}


WORLDS = (
    World("3,589 faces", 3589, 1, 0.0),
    World("600 faces", 600, 1, 0.0),
    World("309 sequences of 3 frames", 309, 3, 0.6),
    World("106 subjects of 9 frames", 106, 9, 0.3),
)


def covered(world: World, simulations: int, seed: int = 0) -> dict[str, tuple[int, int]]:
    """metric -> (intervals that hold the truth, intervals); recalls count where their class has 50 faces or more."""
    truth, counts = world.truth(), {name: [0, 0] for name in ("accuracy", "macro_f1", "recall")}
    for number in range(simulations):
        labels_N, answers_N, groups_N = world.draw(np.random.default_rng([seed, number]))
        scored = scoring.score(np.eye(7)[answers_N][None], labels_N, groups_N, np.random.SeedSequence([seed, number]))
        for name, value in truth.items():
            _count(counts[name], scored["metrics"][name]["interval"], value)
        for k, emotion in enumerate(metrics.EMOTIONS[:7]):
            row = scored["per_emotion"].get(emotion)
            if row and row["support"] >= 50 and row["recall_interval"] is not None:
                _count(counts["recall"], row["recall_interval"], RECALL[k])
    return {name: (held, total) for name, (held, total) in counts.items()}


def _count(counts: list[int], ends: tuple[float, float] | None, truth: float) -> None:
    if ends is not None:
        counts[0] += ends[0] <= truth <= ends[1]
        counts[1] += 1


def main(simulations: int) -> int:
    bounds = {"accuracy": (0.93, 0.97), "recall": (0.93, 0.97), "macro_f1": (0.91, 1.0)}
    failed = False
    for world in WORLDS:
        for name, (held, total) in covered(world, simulations).items():
            if total:
                low, high = bounds[name]
                bad = not low <= held / total <= high
                failed |= bad
                print(
                    f"{world.name:28} {name:9} {held / total:.3f} of {total:,}{'  OUTSIDE' if bad else ''}", flush=True
                )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
