"""Whether choosing on validation faces that have a copy in training generalizes worse than choosing without them.

    python tests/benchmarks/validation_copies.py DATA OUT [--configurations 24] [--epochs 6] [--held-out 4000]
        [--faces 6000]

DATA holds FER2013, prepared; OUT is a folder that takes one file a configuration as it ends (those that stand there
are not trained again). Configurations are drawn from a space of small residual networks with and without augmentation,
dropout and smoothing, at 24×24 pixels. They train on Training less a third part: faces of it that have no copy
anywhere, held out here. Validation is PublicTest, whole and without the faces that have a copy among those trained on;
with --faces so many are trained on, all copies of validation faces among them. PrivateTest stays shut: whatever is
chosen here is judged on the third part.

Told, each with a 95 % interval over drawn configurations (bootstrap, 2,000 draws; a draw's ties and repeats count
once): by how much the winner of a search of eight, chosen without copies, is better on the third part than the one
chosen with all; the same of the best post-hoc tau (macro-F1) and of the temperature (log loss) of each configuration
(t interval). Positive: choosing without copies generalizes better. The rank correlation of validation with the third
part is told for both.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from facex_tune import metrics, parts, train_knobs
from facex_tune.data import faces as faces_room
from facex_tune.data.faces import Faces
from facex_tune.data.groups import copies_between
from facex_tune.evaluation import intervals
from facex_tune.evaluation.calibration import best_temperature, tempered
from facex_tune.space import Config, Float, Space, constant
from facex_tune.training import posthoc
from facex_tune.training.batches import Split
from facex_tune.training.classifier import probabilities_NC
from facex_tune.training.train import Diverged, Training

N_CLASSES, CPU = 7, torch.device("cpu")
TRIALS, DRAWS = 8, 2000
OBJECTIVES = ("macro_f1", "accuracy", "log_loss")


def main() -> None:
    """Trains what is missing and prints."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("data", type=Path)
    asked.add_argument("out", type=Path)
    asked.add_argument("--configurations", type=int, default=24)
    asked.add_argument("--epochs", type=int, default=6)
    asked.add_argument("--held-out", type=int, default=4000)
    asked.add_argument("--faces", type=int, help="to train on; none: all that are left")
    said = asked.parse_args()
    torch.set_num_threads(1)
    said.out.mkdir(parents=True, exist_ok=True)
    seen, validation, third, copied_N = parted(faces_room.open_set(said.data, "fer2013"), said.held_out, said.faces)
    copied = f"{len(validation):,} validate ({int(copied_N.sum())} with a copy)"
    print(f"{len(seen):,} to train on, {copied}, third {len(third):,}", flush=True)
    rng = np.random.default_rng(9)
    configs = [space().random(rng) for _ in range(said.configurations)]
    for number, config in enumerate(configs):
        path = said.out / f"{number:03}-{said.epochs}.npz"
        if not path.exists():
            start = time.thread_time()
            answers = trained(config, seen, (validation, third), said.epochs, number)
            if answers is not None:
                np.savez(path, validation=answers[0], third=answers[1], shares=answers[2])
            took = f"{time.thread_time() - start:.0f} s of processor"
            print(f"{number}: {took}, load {os.getloadavg()[0]:.1f}", flush=True)
    found = [np.load(path) for path in sorted(said.out.glob(f"*-{said.epochs}.npz"))]
    print(table(found, np.asarray(validation.labels_N), np.asarray(third.labels_N), copied_N))


def parted(everything: Faces, held_out: int, most: int | None) -> tuple[Faces, Faces, Faces, NDArray[np.bool_]]:
    """To train on, to validate with, the third part; which validation faces have a copy among those trained on."""
    training, validation = everything.where("train"), everything.where("public_test")
    sizes = np.bincount(everything.group_N)
    alone_N = np.flatnonzero(sizes[training.group_N] == 1)
    held_N = np.zeros(len(training), np.bool_)
    held_N[np.random.default_rng(0).permutation(alone_N)[:held_out]] = True
    seen, third = training.take(~held_N), training.take(held_N)
    copied_N, copies_N = copies_between(validation, seen, one_set=True)
    order_N = np.argsort(~copies_N + np.random.default_rng(1).random(len(seen)) / 2)  # copies come first
    return seen.take(np.sort(order_N[: most or len(seen)])), validation, third, copied_N


def space() -> Space:
    """Networks that know copies by heart and networks that do not."""
    resnet = {name: constant(knob.default) for name, knob in parts.model("resnet").SPACE.items()}
    return Space(
        {
            "model": {"resnet": {**resnet, "width": constant(16), "dropout": Float(0.0, 0.4, 0.0)}},
            "augment": {"none": {}, "flip_shift": {"pixels": constant(2)}, "facex": {"strength": constant(0.4)}},
            "balance": {"none": {}},
        },
        {
            **{name: constant(knob.default) for name, knob in train_knobs.SPACE.items()},
            "lr": Float(0.02, 0.2, 0.05, log=True),
            "weight_decay": Float(5e-5, 5e-3, 5e-4, log=True),
            "label_smoothing": Float(0.0, 0.15, 0.1),
        },
    )


def split(faces: Faces) -> Split:
    """At 24×24 pixels."""
    images_NHW = np.asarray(faces.images_NHW).reshape(len(faces), 24, 2, 24, 2).mean(axis=(2, 4))
    return Split.of(np.rint(images_NHW).astype(np.uint8), faces.labels_N, None, CPU)


def trained(
    config: Config, seen: Faces, scored: tuple[Faces, ...], epochs: int, seed: int
) -> tuple[NDArray[np.float32], ...] | None:
    """Probabilities for each part that is scored, and the shares of the classes; None where training diverged."""
    splits = [split(each) for each in scored]
    few = Split(splits[0].images_NHW[:512], splits[0].labels_N[:512])
    training = Training(config, split(seen), few, n_classes=N_CLASSES, epochs=epochs, seed=[seed], device=CPU)
    try:
        while training.done < epochs:
            training.epoch()
    except Diverged as error:
        print(error)
        return None
    answers = (probabilities_NC(training.kept, each.images_NHW.numpy(), CPU) for each in splits)
    return (*answers, training.target_shares)


def table(
    found: list[NDArray[np.float32]],
    labels_V: NDArray[np.int64],
    labels_T: NDArray[np.int64],
    copied_V: NDArray[np.bool_],
) -> str:
    """Lines of what is told."""
    lines, ways = [], {"all": np.ones(len(labels_V), np.bool_), "without copies": ~copied_V}
    for objective in OBJECTIVES:
        sign = 1 if metrics.MAXIMIZE[objective] else -1
        third = np.array([sign * metrics.scores(each["third"], labels_T)[objective] for each in found])
        by = {
            way: np.array([sign * _score(each, labels_V, kept, objective) for each in found])
            for way, kept in ways.items()
        }
        gain = chosen_gain(by["all"], by["without copies"], third)
        ranks = ", ".join(f"{way} {rank_correlation(values, third):.3f}" for way, values in by.items())
        best = [f"{way} {third[np.argmax(values)] * sign:.4f}" for way, values in by.items()]
        lines.append(f"winner by {objective}: {gain}")
        lines.append(f"  rank correlation with the third part: {ranks}; there the best of all: {', '.join(best)}")
    pairs: dict[str, Callable[[NDArray[np.bool_], NDArray[np.float32]], float]] = {
        "tau, macro-F1 adjusted": lambda kept, each: _adjusted(each, labels_V, labels_T, kept),
        "temperature, log loss": lambda kept, each: -metrics.log_loss(
            tempered(each["third"], best_temperature(each["validation"][kept], labels_V[kept])), labels_T
        ),
    }
    for name, value in pairs.items():
        gains = [value(ways["without copies"], each) - value(ways["all"], each) for each in found]
        low, high = intervals.over_seeds(gains) or (np.nan, np.nan)
        lines.append(f"{name}: {np.mean(gains):+.5f} [{low:+.5f}, {high:+.5f}] better without copies, n = {len(found)}")
    return "\n".join(lines)


def _score(
    each: NDArray[np.float32], labels_V: NDArray[np.int64], kept: NDArray[np.bool_], objective: str
) -> float:
    return metrics.scores(each["validation"][kept], labels_V[kept])[objective]


def _adjusted(
    each: NDArray[np.float32], labels_V: NDArray[np.int64], labels_T: NDArray[np.int64], kept: NDArray[np.bool_]
) -> float:
    tau = posthoc.choose(each["validation"][kept], labels_V[kept], each["shares"])
    adjusted = posthoc.Adjustment(tau, tuple(each["shares"].tolist()))(each["third"])
    return metrics.scores(adjusted, labels_T)["macro_f1"]


def chosen_gain(all_C: NDArray[np.float64], clean_C: NDArray[np.float64], third_C: NDArray[np.float64]) -> str:
    """The mean gain of searches of eight of the configurations, and its interval over configurations."""
    rng = np.random.default_rng(1)

    def gain(pool: NDArray[np.int64], searches: int) -> float:
        gains = []
        for _ in range(searches):
            tried = rng.permutation(pool)[:TRIALS]
            gains.append(third_C[tried[np.argmax(clean_C[tried])]] - third_C[tried[np.argmax(all_C[tried])]])
        return float(np.mean(gains))

    everyone = np.arange(len(third_C))
    drawn = [gain(np.unique(rng.choice(everyone, len(everyone))), 20) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{gain(everyone, DRAWS):+.5f} [{low:+.5f}, {high:+.5f}] better without copies, n = {len(third_C)}"


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's."""
    ranks = [np.argsort(np.argsort(each)) for each in (first, second)]
    return float(np.corrcoef(ranks)[0, 1])


if __name__ == "__main__":
    main()
