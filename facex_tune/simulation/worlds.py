"""What would become of a configuration: looked up among recorded trainings, or told by a model of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from facex_tune import metrics
from facex_tune.simulation.curves import Curves, Floats, Recorded, scores_of
from facex_tune.simulation.encoding import Encoding
from facex_tune.simulation.forest import Forest
from facex_tune.space import Config


@dataclass(frozen=True)
class Course:
    """One training as it would go.

    Attributes:
        scores: of each epoch that it comes to.
        seconds: of each of these.
        failure: "" or why no further epoch comes; then `lost_s` are spent first.
    """

    scores: tuple[dict[str, float], ...]
    seconds: tuple[float, ...]
    failure: str = ""
    lost_s: float = 0.0


class World(Protocol):
    """Configurations and what they come to."""

    def course(self, config: Config, seed: Sequence[int]) -> Course:
        """A training of a configuration; the same one for the same seed."""

    def final(self, config: Config) -> float:
        """What the first metric of a training that comes to its end is expected to end at."""


class Lookup:
    """Answers with the recorded training that is nearest; of one with several seeds, with one of them.

    Args:
        curves: a table of trainings.
        asked: the metrics that are told, the first one deciding.
    """

    def __init__(self, curves: Curves, asked: Sequence[str]) -> None:
        self._curves, self._column = curves, curves.metrics.index(asked[0])
        self._encoding = Encoding(curves.space)
        self._features_NF = self._encoding.of([each.config for each in curves.trainings])
        self._whole_N = np.array([not each.failure for each in curves.trainings])

    def course(self, config: Config, seed: Sequence[int]) -> Course:
        """See `World`."""
        near = self._nearest(config, np.ones_like(self._whole_N))
        training = near[int(np.random.default_rng(list(seed)).integers(len(near)))]
        return told(self._curves, training)

    def final(self, config: Config) -> float:
        """See `World`; the mean over the seeds of the nearest one that came to its end."""
        near = self._nearest(config, self._whole_N)
        return float(np.mean([each.scores_EM[-1, self._column] for each in near]))

    def _nearest(self, config: Config, among_N: np.ndarray) -> list[Recorded]:
        distance_N = ((self._features_NF - self._encoding.of([config])) ** 2).sum(axis=1)
        distance_N[~among_N] = np.inf
        number = self._curves.trainings[int(distance_N.argmin())].configuration
        rows = np.flatnonzero(among_N)
        return [each for each in (self._curves.trainings[row] for row in rows) if each.configuration == number]


class Surrogate:
    """Answers with a model of the recorded trainings: forests of extremely randomized trees over the configuration,
    which tell the curve, the seconds of an epoch, and how probable it is that training fails.

    To the expected curve of a training that comes to its end the seeds' noise is added: half the difference of two
    recorded trainings of one configuration, as a whole curve, so that it hangs together from epoch to epoch as it does
    in training. One that fails is, epoch for epoch, the nearest recorded one that failed.

    Source: Eggensperger et al., "Efficient Benchmarking of Hyperparameter Optimizers via Surrogates", AAAI 2015; the
      trees: Geurts et al., "Extremely randomized trees", Machine Learning 63, 2006.

    Args:
        curves: a table of trainings.
        asked: the metrics that are told, the first one deciding.
    """

    def __init__(self, curves: Curves, asked: Sequence[str], seed: int = 0) -> None:
        self._curves, self._asked = curves, tuple(asked)
        self._columns = [curves.metrics.index(name) for name in asked]
        self._encoding = Encoding(curves.space)
        whole_NF = self._encoding.of([each.config for each in curves.whole])
        curves_NV = np.array([each.scores_EM[:, self._columns].ravel() for each in curves.whole])
        self._curve = Forest(whole_NF, curves_NV, seed)
        every = [each for each in curves.trainings if len(each.seconds_E) or each.lost_s > 0]
        every_NF = self._encoding.of([each.config for each in every])
        self._log_s = Forest(every_NF, np.log([[_epoch_s(each)] for each in every]), seed)
        fails_N1 = np.array([[float(bool(each.failure))] for each in curves.trainings])
        self._fails = Forest(self._encoding.of([each.config for each in curves.trainings]), fails_N1, seed)
        self._failed_NF = self._encoding.of([each.config for each in curves.failed])
        self._known: dict[str, tuple[Floats, float, float]] = {}

    def course(self, config: Config, seed: Sequence[int]) -> Course:
        """See `World`."""
        rng = np.random.default_rng(list(seed))
        curve_EM, epoch_s, failing = self._expected(config)
        if rng.random() < failing:
            return self._failing(config, epoch_s)
        noise_EM = self._noise[int(rng.integers(len(self._noise)))] * rng.choice([-1.0, 1.0])
        scores_EM = np.clip(curve_EM + noise_EM, 0, [metrics.greatest(name) for name in self._asked])
        scores = tuple(scores_of(self._asked, scores_M) for scores_M in scores_EM)
        return Course(scores, (epoch_s,) * len(scores))

    def final(self, config: Config) -> float:
        """See `World`."""
        return float(self._expected(config)[0][-1, 0])

    def failing(self, config: Config) -> float:
        """How probable it is that training fails."""
        return self._expected(config)[2]

    def _expected(self, config: Config) -> tuple[Floats, float, float]:
        """The curve, the seconds of an epoch, and how probable a failure is."""
        key = repr(sorted(config.items()))
        if key not in self._known:
            features_F = self._encoding.of([config])[0]
            curve_EM = self._curve.of(features_F).reshape(self._curves.epochs, len(self._asked))
            epoch_s = float(np.exp(self._log_s.of(features_F)[0]))
            self._known[key] = curve_EM, epoch_s, float(self._fails.of(features_F)[0])
        return self._known[key]

    def _failing(self, config: Config, epoch_s: float) -> Course:
        distance_N = ((self._failed_NF - self._encoding.of([config])) ** 2).sum(axis=1)
        like = told(self._curves, self._curves.failed[int(distance_N.argmin())])
        return Course(like.scores, (epoch_s,) * len(like.scores), like.failure, epoch_s if like.lost_s else 0.0)

    @cached_property
    def _noise(self) -> list[Floats]:
        """Curves of what one seed is from the mean of many."""
        found = [(first - second) / np.sqrt(2) for first, second in pairs(self._curves, self._columns)]
        return found or [wobble(each.scores_EM[:, self._columns]) for each in self._curves.whole]


def pairs(curves: Curves, columns: Sequence[int]) -> list[tuple[Floats, Floats]]:
    """The whole trainings of one configuration with two seeds, two by two."""
    by_number: dict[int, list[Floats]] = {}
    for each in curves.whole:
        by_number.setdefault(each.configuration, []).append(each.scores_EM[:, columns])
    return [(first, second) for first, second in (pair[:2] for pair in by_number.values() if len(pair) > 1)]


def wobble(scores_EM: Floats) -> Floats:
    """How far a curve's epochs are from the mean of their neighbours, as if they had nothing to do with each other:
    what is known of noise where no configuration has two seeds. Its ends are as far as their neighbours are.
    """
    inner_EM = (scores_EM[1:-1] - (scores_EM[:-2] + scores_EM[2:]) / 2) / np.sqrt(1.5)
    if not len(inner_EM):
        return np.zeros_like(scores_EM)
    return np.concatenate([inner_EM[:1], inner_EM, inner_EM[-1:]])


def told(curves: Curves, training: Recorded) -> Course:
    """A recorded training as it went."""
    scores = tuple(scores_of(curves.metrics, scores_M) for scores_M in training.scores_EM)
    return Course(scores, tuple(training.seconds_E.tolist()), training.failure, training.lost_s)


def _epoch_s(training: Recorded) -> float:
    return float(np.mean(training.seconds_E)) if len(training.seconds_E) else training.lost_s
