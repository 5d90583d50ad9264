"""What each balancing strategy is worth under a planted imbalance: synthetic faces, classes falling evenly to 1:50.

    python tests/benchmarks/imbalance.py [--seeds 3] [--steps 240] [--strategies none focal smote]

Everything is paired: within a seed all strategies start from the same weights, train on the same faces for equally many
steps (not epochs: some strategies' are shorter or longer), and are scored on the same faces, 200 of every class. Which
class is rare changes with the seed. Faces are halved to 24×24 pixels, with true labels. Beside each macro-F1 stands its
difference to `none` with a 95 % t interval over seeds, and the recall of the three rarest classes; then the same after
post-hoc adjustment, whose tau other faces, 100 of every class, have chosen.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from facex_tune import metrics, parts, train_knobs
from facex_tune.data.sources import synthetic
from facex_tune.evidence import intervals
from facex_tune.space import Config, Space, constant
from facex_tune.training import posthoc, train
from facex_tune.training.batches import Split
from facex_tune.training.classifier import probabilities_NC

N_CLASSES, MOST, RATIO = 7, 500, 50
FOR_TAU, FOR_TEST = 100, 200
BATCH = 64
CPU = torch.device("cpu")

STRATEGIES: dict[str, Config] = {
    "none": {},
    "undersample": {},
    "oversample": {},
    "sqrt_sample": {},
    "smote": {},
    "class_weights": {},
    "class_weights effective_number": {"kind": "effective_number"},
    "focal": {},
    "ldam_drw": {},
    "balanced_softmax": {},
    "logit_adjust": {},
}
"""Label -> what differs from the part's defaults; the part's name is the label's first word."""


@dataclass(frozen=True)
class Faces:
    """Pixels and labels of one use."""

    images_NHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """One model's macro-F1 and mean recall of the three rarest classes, plain and adjusted post hoc."""

    macro_f1: float
    rare_recall: float
    adjusted_macro_f1: float
    adjusted_rare_recall: float
    tau: float


def main() -> None:
    """Measures and prints."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--steps", type=int, default=240)
    asked.add_argument("--strategies", nargs="*", default=list(STRATEGIES))
    said = asked.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    labels = list(dict.fromkeys(["none", *said.strategies]))
    print(f"{said.seeds} seeds, {said.steps} steps of {BATCH} faces, classes of {list(counts())} faces", flush=True)
    measured = measure(labels, range(said.seeds), said.steps)
    print(table(measured))
    print(f"{time.perf_counter() - start:.0f} s on one thread")


def counts() -> tuple[int, ...]:
    """Training faces, from the most frequent class to the rarest: an even fall, as in Cui et al., CVPR 2019."""
    return tuple(round(MOST * RATIO ** (-place / (N_CLASSES - 1))) for place in range(N_CLASSES))


def measure(labels: Sequence[str], seeds: Sequence[int], steps: int) -> dict[str, list[Score]]:
    """Strategy -> a score a seed; each strategy is told as soon as it is measured."""
    pool, measured = drawn_faces(), {}
    for label in labels:
        start = time.perf_counter()
        measured[label] = [score(label, pool, seed, steps) for seed in seeds]
        values = " ".join(f"{each.macro_f1:.3f}>{each.adjusted_macro_f1:.3f}" for each in measured[label])
        print(f"{label}: {values} ({time.perf_counter() - start:.0f} s)", file=sys.stderr, flush=True)
    return measured


def drawn_faces() -> Faces:
    """Enough of every class for all three uses, with true labels, at half the size."""
    wanted = N_CLASSES * (MOST + FOR_TAU + FOR_TEST)
    faces = synthetic.generate(wanted, seed=50, imbalance=0.0, label_noise=0.0)
    halved = faces.images_NHW.reshape(wanted, 24, 2, 24, 2).mean(axis=(2, 4))
    return Faces(np.rint(halved).astype(np.uint8), faces.labels_N)


def split(pool: Faces, seed: int) -> tuple[Faces, Faces, Faces]:
    """Train, for tau and for the test; the last two are the same faces for every seed."""
    rng = np.random.default_rng(seed)
    uses: tuple[list[NDArray[np.int64]], ...] = ([], [], [])
    for place, n in enumerate(counts()):
        rows = np.flatnonzero(pool.labels_N == (place + seed) % N_CLASSES)
        for_tau, for_test, rest = np.split(rows, [FOR_TAU, FOR_TAU + FOR_TEST])
        for use, chosen in zip(uses, (rng.permutation(rest)[:n], for_tau, for_test), strict=True):
            use.append(chosen)
    train_faces, for_tau, for_test = (np.concatenate(use) for use in uses)
    return tuple(Faces(pool.images_NHW[rows], pool.labels_N[rows]) for rows in (train_faces, for_tau, for_test))  # type: ignore[return-value]


def score(label: str, pool: Faces, seed: int, steps: int) -> Score:
    """Trains with one strategy and scores."""
    seen, for_tau, for_test = split(pool, seed)
    faces = Split.of(seen.images_NHW, seen.labels_N, None, CPU)
    few = Split(faces.images_NHW[:N_CLASSES], faces.labels_N[:N_CLASSES])  # nothing here reads epochs' scores

    def training(epochs: int) -> train.Training:
        return train.Training(config(label), faces, few, n_classes=N_CLASSES, epochs=epochs, seed=[seed], device=CPU)

    run = training(max(1, round(steps / len(training(1).batches))))
    while run.done < run.epochs:
        run.epoch()
    tau_NC, test_NC = (probabilities_NC(run.kept, each.images_NHW, CPU) for each in (for_tau, for_test))
    tau = posthoc.choose(tau_NC, for_tau.labels_N, run.class_counts)
    adjusted_NC = posthoc.Adjustment(tau, tuple(run.class_counts.tolist()))(test_NC)
    rare = np.argsort(run.class_counts)[:3]
    plain, after = (_scored(each, for_test.labels_N, rare) for each in (test_NC, adjusted_NC))
    return Score(*plain, *after, tau)


def config(label: str) -> Config:
    """A small residual network and a plain recipe, whatever the strategy."""
    name = label.split()[0]
    space = Space(
        {
            "model": {"resnet": {knob: constant(each.default) for knob, each in parts.model("resnet").SPACE.items()}},
            "augment": {"flip_shift": {"pixels": constant(2)}},
            "balance": {name: {knob: constant(each.default) for knob, each in parts.balance(name).SPACE.items()}},
        },
        {name: constant(knob.default) for name, knob in train_knobs.SPACE.items()},
    )
    own: Config = {f"balance.{name}.{knob}": value for knob, value in STRATEGIES[label].items()}
    return {**space.defaults(), **own, "model.resnet.width": 16, "train.batch_size": BATCH}


def _scored(
    probabilities_NC: NDArray[np.floating], labels_N: NDArray[np.int64], rare: NDArray[np.int64]
) -> list[float]:
    confusion_KK = metrics.confusion(probabilities_NC, labels_N, N_CLASSES)
    recall_K = metrics.per_class(confusion_KK)["recall"]
    return [float(metrics.counted(confusion_KK)["macro_f1"]), float(recall_K[rare].mean())]


def table(measured: Mapping[str, Sequence[Score]]) -> str:
    """Markdown: a row a strategy."""
    base = [each.macro_f1 for each in measured["none"]]
    rows = [
        "| strategy | macro-F1 | difference to none | rare recall | adjusted post hoc | difference to none | tau |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, scores in measured.items():
        plain, adjusted = ([each.macro_f1 for each in scores], [each.adjusted_macro_f1 for each in scores])
        rare, taus = np.mean([each.rare_recall for each in scores]), [f"{each.tau:g}" for each in scores]
        cells = [label, f"{np.mean(plain):.3f}", difference(plain, base), f"{rare:.2f}"]
        cells += [f"{np.mean(adjusted):.3f}", difference(adjusted, base), " ".join(taus)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def difference(values: Sequence[float], base: Sequence[float]) -> str:
    """The mean paired difference with its interval over seeds."""
    paired = [value - other for value, other in zip(values, base, strict=True)]
    ends = intervals.over_seeds(paired)
    return f"{np.mean(paired):+.3f}" + ("" if ends is None else f" [{ends[0]:+.3f}, {ends[1]:+.3f}]")


if __name__ == "__main__":
    main()
