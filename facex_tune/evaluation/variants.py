"""What else the trained models give on a protocol (temperature, ensembles), and how candidates differ: each paired with
the winner's own answers, and each chosen on validation before the set was opened.

Axes: M models, N faces, C classes that a model knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from facex_tune.evaluation import compare, scoring
from facex_tune.evaluation.calibration import reliability, tempered
from facex_tune.evaluation.choices import Choices
from facex_tune.runs.history import History, baseline_of
from facex_tune.runs.names import model_label, trial_label

ModelKey = tuple[int, int]


class Judged(Protocol):
    """The faces of a protocol: what `records.Scored` has."""

    @property
    def labels_N(self) -> NDArray[np.int64]: ...

    @property
    def faces(self) -> Any: ...


def score(
    probabilities_MNC: NDArray[np.floating[Any]],
    scored: Judged,
    models: Sequence[ModelKey],
    choices: Choices,
    seed: np.random.SeedSequence,
) -> dict[str, Any]:
    """{"temperature" | "ensemble_seeds" | "ensemble_greedy": {members, metrics, difference, reliability}}.

    `difference` is the variant minus the winner as it stands. An ensemble of one model is left out.
    """
    labels_N, groups_N = scored.labels_N, scored.faces.group_N
    if not len(labels_N):
        return {}
    own_M = _models_of(models[0][0], models)
    winner_MNC = probabilities_MNC[own_M]
    found: dict[str, Any] = {}
    for name, (weights, variant_MNC) in _variants(probabilities_MNC, own_M, choices).items():
        found[name] = {
            "members": {model_label(*models[m]): weight for m, weight in weights.items()},
            "metrics": scoring.score(variant_MNC, labels_N, groups_N, seed)["metrics"],
            "difference": compare.difference(
                variant_MNC, winner_MNC, labels_N, groups_N, seed, same_models=name == "temperature"
            ),
            "reliability": reliability(variant_MNC[0], labels_N),
        }
    return found


def _variants(
    probabilities_MNC: NDArray[np.floating[Any]], own_M: list[int], choices: Choices
) -> dict[str, tuple[dict[int, float], NDArray[np.floating[Any]]]]:
    """Name -> (model -> its share or temperature, probabilities M x N x C)."""
    warm_MNC = np.stack([tempered(probabilities_MNC[m], choices.temperatures[m]) for m in own_M])
    found: dict[str, tuple[dict[int, float], NDArray[np.floating[Any]]]] = {}
    found["temperature"] = {m: choices.temperatures[m] for m in own_M}, warm_MNC
    if len(own_M) > 1:
        shares = dict.fromkeys(own_M, 1 / len(own_M))
        found["ensemble_seeds"] = shares, probabilities_MNC[own_M].mean(axis=0, keepdims=True)
    greedy = {m: weight for m, weight in enumerate(choices.weights) if weight}
    if len(greedy) > 1:
        mixed_NC = np.tensordot(np.array(choices.weights), probabilities_MNC, axes=1)
        found["ensemble_greedy"] = greedy, mixed_NC[None]
    return found


def comparisons(
    probabilities_MNC: NDArray[np.floating[Any]],
    scored: Judged,
    models: Sequence[ModelKey],
    history: History,
    seed: np.random.SeedSequence,
) -> list[dict[str, Any]]:
    """Paired tests of the winner with the runner-up and with the study's baseline, where those were retrained."""
    if not len(scored.labels_N):
        return []
    order = list(dict.fromkeys(candidate for candidate, _ in models))
    baseline = baseline_of(history)
    others: dict[int, str] = {}
    if baseline is not None and baseline.number in order[1:]:
        others[baseline.number] = "baseline"
    if len(order) > 1:
        others = {order[1]: "runner-up", **others} if order[1] not in others else others
    winner_M = _models_of(order[0], models)
    return [
        {
            "first": trial_label(order[0]),
            "second": trial_label(trial),
            "role": role,
            **compare.difference(
                probabilities_MNC[winner_M],
                probabilities_MNC[_models_of(trial, models)],
                scored.labels_N,
                scored.faces.group_N,
                seed,
            ),
        }
        for trial, role in others.items()
    ]


def _models_of(trial: int, models: Sequence[ModelKey]) -> list[int]:
    return [m for m, (candidate, _) in enumerate(models) if candidate == trial]
