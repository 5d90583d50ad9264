"""What a study's keys may hold, typed so that an editor completes it. Each is a plain dictionary, as in YAML.

`tests/api/test_study_in_code.py` holds these to the study's own schema and to the training knobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from facex_tune.space import Value


class Range(TypedDict, total=False):
    """A part of a knob's range: ``Range(low=0.01, high=0.3, log=True)``; what is left out is the knob's own. `prior` is
    where the best value is believed to lie.
    """

    low: float
    high: float
    log: bool
    prior: float
    confidence: Literal["low", "medium", "high"]


Said = Value | Sequence[Value] | Range
"""What a study says of a knob: a value, values to search over, or a range."""

Parts = str | Mapping[str, Mapping[str, Said]] | Sequence[str | Mapping[str, Mapping[str, Said]]]
"""A part's name, or a mapping that narrows its knobs; or several of them, which are searched over:
``["facex_cnn", {"resnet": {"depth": [10, 18]}}]``. `facex-tune parts` lists them.
"""


class Face(TypedDict, total=False):
    """The shape that a study's faces must have been prepared with."""

    size: int
    """Pixels of a side."""
    channels: Literal[1, 3]
    """1: grey, 3: red, green and blue."""


class Budget(TypedDict, total=False):
    """What ends the search; the first reached does."""

    trials: int
    time: float | str
    """Wall clock in seconds, or as "45m", "2h"."""
    gpu_hours: float
    target: float
    """A finished trial's value that is good enough."""


class Fidelity(TypedDict, total=False):
    """Epochs of a trial, and how sharply ASHA cuts: one in `reduction` goes on from each rung."""

    min_epochs: int
    max_epochs: int
    reduction: int


class Sampling(TypedDict, total=False):
    """How configurations are suggested and cut short (the study's key `search`)."""

    sampler: str
    scheduler: str
    order: Literal["arrival", "fixed"]
    seed: int
    start_with: Sequence[Mapping[str, Any]]
    learn_from: str | Sequence[str]
    priors_from: str | Sequence[str]
    stop_when_settled: Literal["never", "noise"] | float
    concurrency: int
    hung_after: float | str


class Resources(TypedDict, total=False):
    """What one trial holds."""

    cpus: int | Literal["auto"]
    gpus: float


class Retrain(TypedDict, total=False):
    """The best `top` candidates, each trained again with `seeds` new seeds."""

    top: int
    seeds: int
    epochs: int
    weights: Literal["last", "ema"]
    on: Literal["train", "all"]
    also: Literal["none", "baseline"]


class Evaluate(TypedDict, total=False):
    """Which sealed sets are opened, once, at the end."""

    protocols: Sequence[str]
    tta: Literal["none", "flip", "ten_crop", "auto"]


class Train(TypedDict, total=False):
    """The training knobs; `facex-tune parts` says what each is and how far it goes."""

    optimizer: Said
    lr: Said
    momentum: Said
    weight_decay: Said
    schedule: Said
    warmup: Said
    plateau_patience: Said
    plateau_factor: Said
    clip_norm: Said
    label_smoothing: Said
    batch_size: Said
    ema_decay: Said
    mixup: Said
    cutmix: Said
    erasing: Said
    noise: Said
    progressive: Said
    precision: Said
