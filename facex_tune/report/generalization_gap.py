"""How much better the winner is on validation than on a test set: the same models, seen alike, on faces that have no
copy in training on either side.

Axes: M models, N faces, D bootstrap draws.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune import metrics, seeds
from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation import compare, intervals
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
    for name, test in tests.items():
        told = validation.in_training_N is not None and test.in_training_N is not None
        sides = [_Side.of(table, without_copies=told) for table in (validation, test)]
        if not all(len(side.labels_N) for side in sides) or sides[0].classes != sides[1].classes:
            continue
        entropy = np.random.SeedSequence([seed, seeds.EVALUATE, zlib.crc32(name.encode()), DRAWS_OF_GAPS])
        rows.append(
            {
                "protocol": name,
                **_gap(sides, study["objective"][0], entropy),
                "seeds": len(test.probabilities_MNC),
                "n_validation": len(sides[0].labels_N),
                "n": len(sides[1].labels_N),
                "without_copies": told,
                "same_data": _same_data(study, name),
            }
        )
    return rows


@dataclass(frozen=True)
class _Side:
    labels_N: NDArray[np.int64]
    groups_N: NDArray[np.int64]
    probabilities_MNC: NDArray[np.float64]

    @classmethod
    def of(cls, table: Answers, *, without_copies: bool) -> _Side:
        kept_N = np.ones(len(table.labels_N), bool)
        if without_copies and table.in_training_N is not None:
            kept_N = ~table.in_training_N
        return cls(table.labels_N[kept_N], table.groups_N[kept_N], table.probabilities_MNC[:, kept_N])

    @property
    def classes(self) -> set[int]:
        """Those that are scored."""
        return set(self.labels_N.tolist())

    def value(self, metric: str) -> float | None:
        """The mean over models; None where these faces cannot measure it."""
        found = [metrics.scores(found_NC, self.labels_N).get(metric) for found_NC in self.probabilities_MNC]
        known = [value for value in found if value is not None]
        return float(np.mean(known)) if known else None

    def drawn(self, metric: str, seed: np.random.SeedSequence) -> NDArray[np.float64] | None:
        """The mean over models in every draw; None where there is none."""
        draws = compare.drawn(list(self.probabilities_MNC), self.labels_N, self.groups_N, seed) or {}
        kind, _, emotion = metric.partition(".")
        if kind not in draws:
            return None
        values = draws[kind][..., EMOTIONS.index(emotion)] if emotion else draws[kind]
        mean_D: NDArray[np.float64] = values.mean(axis=1)
        return mean_D


def _gap(sides: list[_Side], objective: str, seed: np.random.SeedSequence) -> dict[str, Any]:
    metric = objective if all(side.value(objective) is not None for side in sides) else "accuracy"
    validation, test = (side.value(metric) or 0.0 for side in sides)
    draws = [side.drawn(metric, child) for side, child in zip(sides, seed.spawn(2), strict=True)]
    interval = None
    if draws[0] is not None and draws[1] is not None:
        clusters = min(intervals.rests_on(metric, side.labels_N, side.groups_N) for side in sides)
        interval = intervals.percentile(draws[0] - draws[1], clusters)
    return {"metric": metric, "validation": validation, "test": test, "gap": validation - test, "interval": interval}


def _same_data(study: Mapping[str, Any], name: str) -> bool:
    protocol = protocols.find(name)
    judged_by_votes = str(study["labels"]).startswith("ferplus")
    validation = study.get("validation")
    of = validation.get("of") if isinstance(validation, Mapping) else None
    return (protocol.data,) == validated_sets(study["data"], of) and bool(protocol.votes) == judged_by_votes
