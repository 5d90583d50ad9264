"""How much better the winner is on validation than on a test set: the same models, seen alike, on faces that have no
copy in training on either side.

Axes: M models, N faces, D bootstrap draws.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune import metrics, seeds
from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation import intervals
from facex_tune.report.insight import Answers
from facex_tune.study import protocols, validated_sets

DRAWS_OF_GAPS = 10  # among the seeds of a protocol's draws


def of_run(
    document: Mapping[str, Any], validation: Answers | None, tests: Mapping[str, Answers]
) -> list[dict[str, Any]]:
    """Validation minus test by the study's first objective, or by accuracy where a set cannot measure that.

    Args:
        document: report.json so far.
        validation, tests: the winner's answers, with one test-time augmentation throughout.

    Returns:
        one row a protocol: protocol, metric, validation, test, gap, interval, seeds, n_validation, n, without_copies
        (false where a table does not tell copies) and same_data, which tells a generalization gap from a change of
        faces or of labels. None without validation, and none where a class is scored on one side alone (contempt of
        ferplus.majority8, which validation leaves out): other classes are another score.
    """
    if validation is None:
        return []
    study, seed = document["study"], int(document["environment"]["seed"] or 0)
    rows = []
    of_validation: dict[bool, _Side] = {}
    for name, test in tests.items():
        told = validation.in_training_N is not None and test.in_training_N is not None
        if told not in of_validation:
            of_validation[told] = _Side.of(validation, _seed(seed, "validation"), without_copies=told)
        sides = [of_validation[told], _Side.of(test, _seed(seed, name), without_copies=told)]
        if not all(len(side.labels_N) for side in sides) or sides[0].classes != sides[1].classes:
            continue
        rows.append(
            {
                "protocol": name,
                **_gap(sides, study["objective"][0]),
                "seeds": len(test.probabilities_MNC),
                "n_validation": len(sides[0].labels_N),
                "n": len(sides[1].labels_N),
                "without_copies": told,
                "same_data": _same_data(study, name),
            }
        )
    return rows


def _seed(seed: int, name: str) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, seeds.EVALUATE, zlib.crc32(name.encode()), DRAWS_OF_GAPS])


@dataclass(frozen=True)
class _Side:
    """Validation, which all protocols have in common, or one protocol; `_drawn` keeps what was drawn, by metric."""

    labels_N: NDArray[np.int64]
    groups_N: NDArray[np.int64]
    probabilities_MNC: NDArray[np.float64]
    seed: np.random.SeedSequence
    _drawn: dict[str, NDArray[np.float64] | None] = field(default_factory=dict)

    @classmethod
    def of(cls, table: Answers, seed: np.random.SeedSequence, *, without_copies: bool) -> _Side:
        kept_N = np.ones(len(table.labels_N), bool)
        if without_copies and table.in_training_N is not None:
            kept_N = ~table.in_training_N
        return cls(table.labels_N[kept_N], table.groups_N[kept_N], table.probabilities_MNC[:, kept_N], seed)

    @property
    def classes(self) -> set[int]:
        """Those that are scored."""
        return set(self.labels_N.tolist())

    def value(self, metric: str) -> float | None:
        """The mean over models; None where these faces cannot measure it."""
        found = [metrics.scores(found_NC, self.labels_N).get(metric) for found_NC in self.probabilities_MNC]
        known = [value for value in found if value is not None]
        return float(np.mean(known)) if known else None

    def drawn(self, metric: str) -> NDArray[np.float64] | None:
        """The mean over models in every draw; None where there is none, or where it rests on too few clusters."""
        if metric not in self._drawn:
            self._drawn[metric] = self._draw(metric)
        return self._drawn[metric]

    def rests_on(self, metric: str) -> float:
        """How many clusters the metric rests on, for `intervals.percentile`."""
        kind, _, emotion = metric.partition(".")
        if not emotion:
            return intervals.rests_on(metric, self.labels_N, self.groups_N)
        answers_MN = self.probabilities_MNC.argmax(axis=2)
        return intervals.rests_on_class(answers_MN, self.labels_N, self.groups_N, kind, EMOTIONS.index(emotion))

    def _draw(self, metric: str) -> NDArray[np.float64] | None:
        kind, _, emotion = metric.partition(".")
        if emotion and self.rests_on(f"recall.{emotion}") < intervals.MIN_CLUSTERS:
            return None
        if kind == "log_loss":
            losses_MN = np.stack([metrics.log_losses(each_NC, self.labels_N) for each_NC in self.probabilities_MNC])
            losses_DM = intervals.resampled_mean(losses_MN, self.groups_N, self.seed)
            return None if losses_DM is None else losses_DM.mean(axis=1)
        answers_MN = self.probabilities_MNC.argmax(axis=2)
        n_classes = max(self.probabilities_MNC.shape[2], int(self.labels_N.max()) + 1)
        draws_DMKK = intervals.resampled_confusion(answers_MN, self.labels_N, self.groups_N, n_classes, self.seed)
        if draws_DMKK is None:
            return None
        draws = intervals.without_few(intervals.scores_of_draws(draws_DMKK), self.labels_N, self.groups_N)
        if kind not in draws:
            return None
        values = draws[kind][..., EMOTIONS.index(emotion)] if emotion else draws[kind]
        mean_D: NDArray[np.float64] = values.mean(axis=1)
        return mean_D


def _gap(sides: list[_Side], objective: str) -> dict[str, Any]:
    metric = objective if all(side.value(objective) is not None for side in sides) else "accuracy"
    validation, test = (side.value(metric) or 0.0 for side in sides)
    draws = [side.drawn(metric) for side in sides]
    interval = None
    if draws[0] is not None and draws[1] is not None:
        each = [side.rests_on(metric) for side in sides]
        interval = intervals.percentile(draws[0] - draws[1], intervals.together([draws[0], draws[1]], each))
    return {"metric": metric, "validation": validation, "test": test, "gap": validation - test, "interval": interval}


def _same_data(study: Mapping[str, Any], name: str) -> bool:
    protocol = protocols.find(name)
    judged_by_votes = str(study["labels"]).startswith("ferplus")
    validation = study.get("validation")
    of = validation.get("of") if isinstance(validation, Mapping) else None
    return (protocol.data,) == validated_sets(study["data"], of) and bool(protocol.votes) == judged_by_votes
