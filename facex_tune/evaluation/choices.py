"""What may be chosen after training, chosen on the validation faces and never on a test set: test-time augmentation, a
temperature for each model, the members of an ensemble.

Axes: M models, N validation faces, C classes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune import metrics, seeds
from facex_tune.data import training_set
from facex_tune.data.faces import Faces
from facex_tune.data.groups import copies_between
from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation import compare
from facex_tune.evaluation.calibration import best_temperature, tempered
from facex_tune.storage import files
from facex_tune.study import data_text

if TYPE_CHECKING:
    from torch import nn

    from facex_tune.runs.store import Run

SCHEMA = 1
GREEDY_STEPS = 20
FILE = "choices.json"
TABLE = "validation.parquet"
VALIDATION = 0  # among the seeds of evaluation, where a protocol has its name's


@dataclass(frozen=True)
class Choices:
    """What was chosen.

    Attributes:
        tta: "none", "flip" or "ten_crop".
        temperatures: one for each model.
        weights: each model's share in the greedily selected ensemble; they sum to 1.
    """

    tta: str = "none"
    temperatures: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    said: dict[str, Any] = field(default_factory=dict, compare=False)


def choose(
    run: Run, data_dir: Path, device_name: str | None, names: Sequence[str], models: Sequence[nn.Module]
) -> Choices:
    """Chooses on the run's validation faces, and writes choices.json and validation.parquet.

    Args:
        names: labels of the models, the winner's first.
    """
    from facex_tune.training import classifier, devices

    loaded = training_set.load(run.study, data_dir)
    faces = loaded.validation
    objective, asked = run.study.objective[0], run.study.evaluate.tta
    device = devices.pick_device(device_name)
    found = {
        tta: np.stack([classifier.probabilities_NC(model, faces.images_NHW, device, tta=tta) for model in models])
        for tta in (classifier.TTA if asked == "auto" else (asked,))
    }
    winners = [m for m, name in enumerate(names) if candidate_of(name) == candidate_of(names[0])]
    values = {tta: _mean_score(each_MNC[winners], faces.labels_N, objective) for tta, each_MNC in found.items()}
    tta = best_of(values, objective)
    choices = choose_from(found[tta], faces.labels_N, objective, names, tta)
    choices.said["tta"] = {"asked": asked, "chosen": tta, "values": values}
    choices.said["data"] = data_text(run.study.validated_on)
    seed = np.random.SeedSequence([run.header["seed"], seeds.EVALUATE, VALIDATION])
    choices.said["retrained"] = against_winner(found[tta], faces.labels_N, faces.group_N, names, seed)
    in_training_N = copies_between(faces, loaded.train, one_set=True)[0]
    files.write_bytes(run.validation_folder / TABLE, _parquet(faces, in_training_N, names, found[tta]))
    files.write_json(run.validation_folder / FILE, choices.said)
    return choices


def against_winner(
    probabilities_MNC: NDArray[np.floating[Any]],
    labels_N: NDArray[np.int64],
    groups_N: NDArray[np.int64],
    names: Sequence[str],
    seed: np.random.SeedSequence,
) -> list[dict[str, Any]]:
    """Paired tests of the winner with every other candidate, now that all are retrained: {first, second} and what
    `compare.difference` tells. The search ranked them by shorter training and one seed.
    """
    owners_M = [candidate_of(name) for name in names]
    winner, *others = dict.fromkeys(owners_M)
    own = {owner: [m for m, each in enumerate(owners_M) if each == owner] for owner in (winner, *others)}
    first_MNC = probabilities_MNC[own[winner]]
    return [
        {
            "first": winner,
            "second": other,
            **compare.difference(first_MNC, probabilities_MNC[own[other]], labels_N, groups_N, seed),
        }
        for other in others
    ]


def candidate_of(name: str) -> str:
    """t0007 of t0007-s1."""
    return name.rpartition("-")[0]


def best_of(values: Mapping[str, float], objective: str) -> str:
    """The name with the best value; of equal ones the first, which is the simplest."""
    sign = 1 if metrics.MAXIMIZE[objective] else -1
    return max(values, key=lambda name: sign * values[name])


def choose_from(
    probabilities_MNC: NDArray[np.floating[Any]],
    labels_N: NDArray[np.int64],
    objective: str,
    names: Sequence[str],
    tta: str,
) -> Choices:
    """Temperatures and ensemble weights by these faces."""
    temperatures = tuple(best_temperature(found_NC, labels_N) for found_NC in probabilities_MNC)
    members = greedy(probabilities_MNC, labels_N, objective)
    weights = tuple(members.count(m) / len(members) for m in range(len(probabilities_MNC)))
    mixed_NC = np.tensordot(np.array(weights), probabilities_MNC, axes=1)
    singles = [metrics.scores(found_NC, labels_N)[objective] for found_NC in probabilities_MNC]
    said = {
        "schema": SCHEMA,
        "n": len(labels_N),
        "objective": objective,
        "temperature": dict(zip(names, temperatures, strict=True)),
        "calibration": {
            name: {
                "before": _calibration(found_NC, labels_N),
                "after": _calibration(tempered(found_NC, temperature), labels_N),
            }
            for name, found_NC, temperature in zip(names, probabilities_MNC, temperatures, strict=True)
        },
        "ensemble": {
            "weights": {name: weight for name, weight in zip(names, weights, strict=True) if weight},
            "value": metrics.scores(mixed_NC, labels_N)[objective],
            "singles": dict(zip(names, singles, strict=True)),
        },
    }
    return Choices(tta, temperatures, weights, said)


def greedy(probabilities_MNC: NDArray[np.floating[Any]], labels_N: NDArray[np.int64], objective: str) -> list[int]:
    """Members of an ensemble in the order taken, with repetition: each step takes the model that helps the average most
    (Caruana et al., ICML 2004); the best of all lengths is kept.
    """
    sign = 1 if metrics.MAXIMIZE[objective] else -1
    members: list[int] = []
    sum_NC = np.zeros(probabilities_MNC.shape[1:])
    best, best_length = -np.inf, 0
    for length in range(1, GREEDY_STEPS + 1):
        tried = [metrics.scores((sum_NC + each) / length, labels_N)[objective] for each in probabilities_MNC]
        taken = int(np.argmax(sign * np.array(tried)))
        members.append(taken)
        sum_NC = sum_NC + probabilities_MNC[taken]
        if sign * tried[taken] > best + 1e-12:
            best, best_length = sign * tried[taken], length
    return members[:best_length]


def read(run: Run) -> dict[str, Any] | None:
    """choices.json; None where no model was evaluated yet."""
    path = run.folder / "validation" / FILE
    return dict(files.read_json(path)) if path.is_file() else None


def _mean_score(probabilities_MNC: NDArray[np.floating[Any]], labels_N: NDArray[np.int64], objective: str) -> float:
    return float(np.mean([metrics.scores(found_NC, labels_N)[objective] for found_NC in probabilities_MNC]))


def _calibration(probabilities_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.int64]) -> dict[str, float]:
    return {
        "log_loss": metrics.log_loss(probabilities_NC, labels_N),
        "ece": metrics.expected_calibration_error(probabilities_NC, labels_N),
    }


def _parquet(
    faces: Faces, in_training_N: NDArray[np.bool_], names: Sequence[str], probabilities_MNC: NDArray[np.floating[Any]]
) -> bytes:
    """One row a validation face."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "source": faces.source_N.tolist(),
        "label": faces.labels_N,
        "emotion": [EMOTIONS[k] for k in faces.labels_N],
        "group": faces.group_N,
        "in_training": in_training_N,
    }
    for name, found_NC in zip(names, probabilities_MNC, strict=True):
        for c in range(found_NC.shape[1]):
            columns[f"{name}.{EMOTIONS[c]}"] = found_NC[:, c].astype(np.float32)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()
