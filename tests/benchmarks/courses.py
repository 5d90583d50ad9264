"""What FER2013 models come to after equally many minutes of one core: a course of training for each recipe and seed.

    python tests/benchmarks/courses.py DATA OUT [--minutes 10] [--seeds 5] [--recipes resnet patch_cnn]

DATA holds FER2013, prepared. A recipe's epochs are what fits into the minutes, from a measured stretch of batches;
training and validation count, in seconds of the thread's own processor time, which other work on the machine moves
less than the wall clock. Recipes take turns seed by seed, and share augmentation (`facex` .5) and weights of the
classes. Training's faces are trained on, PublicTest's are scored once, after the last epoch, plain and as the mean of
a face and its mirror image; PrivateTest stays shut. OUT takes a line of JSON for each course as it ends; courses that
stand there are not run again. Told at the end: each recipe's mean and its paired difference to the first, with a 95 %
t interval over seeds. A course that diverges ends the benchmark with its error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from facex_tune import metrics, parts, train_knobs
from facex_tune.data import faces as faces_room
from facex_tune.evaluation import intervals
from facex_tune.space import Config
from facex_tune.training.batches import Split
from facex_tune.training.classifier import probabilities_NC
from facex_tune.training.train import Training

N_CLASSES, CPU = 7, torch.device("cpu")
WARM, MEASURED = 5, 40  # batches
SHARED: Config = {
    "augment": "facex",
    "augment.facex.strength": 0.5,
    "balance": "class_weights",
    "balance.class_weights.kind": "inverse",
    "balance.class_weights.power": 0.3,
    "balance.class_weights.beta": 0.999,
}
SGD: Config = {"train.optimizer": "sgd", "train.lr": 0.1, "train.weight_decay": 5e-4}
MUON: Config = {"train.optimizer": "muon", "train.lr": 0.005, "train.weight_decay": 0.05}
DEEP: Config = {"model": "patch_cnn", "model.patch_cnn.depth": 3}
RECIPES: dict[str, Config] = {
    "resnet": {"model": "resnet", "model.resnet.dropout": 0.0, **SGD},
    "resnet_muon": {"model": "resnet", "model.resnet.dropout": 0.0, **MUON},
    "patch_cnn": {"model": "patch_cnn", **MUON},
    "patch_cnn_sgd": {"model": "patch_cnn", **SGD},
    "patch_cnn_2": {"model": "patch_cnn", "model.patch_cnn.patch": 2, **MUON},
    "patch_cnn_deep": {**DEEP, **MUON},
    "patch_cnn_deep_256": {**DEEP, **MUON, "train.batch_size": 256, "train.lr": 0.007},
    "patch_cnn_deep_512": {**DEEP, **MUON, "train.batch_size": 512, "train.lr": 0.01},
    "patch_cnn_deep_512_fast": {**DEEP, **MUON, "train.batch_size": 512, "train.lr": 0.02},
    "patch_cnn_deep_progressive": {
        **DEEP, **MUON, "train.batch_size": 256, "train.lr": 0.007, "train.progressive": True
    },
    "patch_cnn_ema": {"model": "patch_cnn", "train.ema_decay": 0.998, **MUON},
    "patch_cnn_progressive": {"model": "patch_cnn", "train.progressive": True, **MUON},
}
"""The first is what studies for CPUs had until 2026-11-28."""


def main() -> None:
    """Runs what is missing and prints."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("data", type=Path)
    asked.add_argument("out", type=Path)
    asked.add_argument("--minutes", type=float, default=10.0)
    asked.add_argument("--seeds", type=int, default=5)
    asked.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=["resnet", "patch_cnn"])
    said = asked.parse_args()
    torch.set_num_threads(1)
    everything = faces_room.open_set(said.data, "fer2013")
    seen, scored = (split(everything.where(name)) for name in ("train", "public_test"))
    for seed in range(said.seeds):
        for recipe in said.recipes:
            if not any(same(line, recipe, seed, said.minutes) for line in lines(said.out)):
                epochs = known_epochs(said.out, recipe, said.minutes) or fitting(recipe, seen, scored, said.minutes)
                line = {"recipe": recipe, "minutes": said.minutes, "seed": seed} | course(
                    recipe, seen, scored, seed, epochs
                )
                with said.out.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(line) + "\n")
                print(line, flush=True)
    print(table(lines(said.out), said.recipes, said.seeds, said.minutes))


def split(faces: faces_room.Faces) -> Split:
    """Faces as training takes them."""
    return Split.of(faces.images_NHW, faces.labels_N, None, CPU)


def lines(out: Path) -> list[dict[str, Any]]:
    """The courses that are done."""
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.exists() else []


def same(line: dict[str, Any], recipe: str, seed: int, minutes: float) -> bool:
    """Whether the line is this course's."""
    return (line["recipe"], line["seed"], line["minutes"]) == (recipe, seed, minutes)


def known_epochs(out: Path, recipe: str, minutes: float) -> int | None:
    """What the recipe's other seeds had: all have the same."""
    return next(
        (int(each["epochs"]) for each in lines(out) if each["recipe"] == recipe and each["minutes"] == minutes), None
    )


def configuration(recipe: str) -> Config:
    """Every knob of the recipe."""
    said = RECIPES[recipe]
    model = str(said["model"])
    knobs: Config = {f"model.{model}.{name}": each.default for name, each in parts.model(model).SPACE.items()}
    training: Config = {f"train.{name}": value for name, value in train_knobs.defaults().items()}
    return {**knobs, **training, **SHARED, **said}


def started(recipe: str, seen: Split, scored: Split, seed: int, epochs: int) -> Training:
    """The course before its first epoch."""
    config = configuration(recipe)
    weights = "ema" if config["train.ema_decay"] else "last"
    return Training(
        config, seen, scored, n_classes=N_CLASSES, epochs=epochs, seed=[seed], device=CPU, weights=weights
    )


def fitting(recipe: str, seen: Split, scored: Split, minutes: float) -> int:
    """How many epochs, validation included, fit into the minutes."""
    training = started(recipe, seen, scored, 0, 1000)
    stamps_s: list[float] = []

    class Enough(Exception):
        pass

    def stamp() -> None:
        stamps_s.append(time.thread_time())
        if len(stamps_s) > WARM + MEASURED:
            raise Enough

    training.on_batch = stamp
    with contextlib.suppress(Enough):
        training.epoch()
    batch_s = (stamps_s[-1] - stamps_s[WARM]) / MEASURED
    start = time.thread_time()
    probabilities_NC(training.kept, scored.images_NHW.numpy(), CPU)
    epoch_s = batch_s * len(training.batches) + time.thread_time() - start
    share = 2 / 3 if training.config["train.progressive"] else 1.0  # small faces first: a third cheaper
    return max(1, int(minutes * 60 / (epoch_s * share)))


def course(recipe: str, seen: Split, scored: Split, seed: int, epochs: int) -> dict[str, Any]:
    """Trains it to its end and scores it."""
    training = started(recipe, seen, scored, seed, epochs)
    start = time.thread_time()
    while training.done < epochs:
        told = training.epoch()
    cpu_s = time.thread_time() - start
    probabilities = probabilities_NC(training.kept, scored.images_NHW.numpy(), CPU, tta="flip")
    mirrored = metrics.scores(probabilities, scored.labels_N.numpy())
    return {
        "epochs": epochs,
        "cpu_s": round(cpu_s, 1),
        "macro_f1": told.metrics["macro_f1"],
        "accuracy": told.metrics["accuracy"],
        "macro_f1_flip": mirrored["macro_f1"],
        "accuracy_flip": mirrored["accuracy"],
        "train_loss": told.metrics["train_loss"],
    }


def table(done: list[dict[str, Any]], recipes: Sequence[str], seeds: int, minutes: float) -> str:
    """Markdown: a row a recipe, means over seeds and paired differences to the first."""
    head = ("recipe", "epochs", "CPU min", "macro-F1", "difference", "accuracy", "difference", "mirrored", "accuracy")
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]

    def values(recipe: str, name: str) -> list[float]:
        return [float(each[name]) for seed in range(seeds) for each in done if same(each, recipe, seed, minutes)]

    for recipe in recipes:
        cells = [recipe, f"{values(recipe, 'epochs')[0]:.0f}", f"{statistics.mean(values(recipe, 'cpu_s')) / 60:.1f}"]
        for name in ("macro_f1", "accuracy"):
            cells += [f"{statistics.mean(values(recipe, name)):.3f}"]
            cells += [difference(values(recipe, name), values(recipes[0], name)) if recipe != recipes[0] else ""]
        cells += [f"{statistics.mean(values(recipe, name)):.3f}" for name in ("macro_f1_flip", "accuracy_flip")]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def difference(values: Sequence[float], base: Sequence[float]) -> str:
    """The mean paired difference with its interval over seeds."""
    paired = [value - other for value, other in zip(values, base, strict=True)]
    ends = intervals.over_seeds(paired)
    return f"{statistics.mean(paired):+.3f}" + ("" if ends is None else f" [{ends[0]:+.3f}, {ends[1]:+.3f}]")


if __name__ == "__main__":
    main()
