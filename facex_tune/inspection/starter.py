"""A first study for a data set and a machine, with a comment beside each choice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from facex_tune import study as studies
from facex_tune.data import faces
from facex_tune.errors import InputError, nearest
from facex_tune.storage import files
from facex_tune.study import protocols

MACHINES = ("cpu", "gpu")
_HOLDOUT_FROM = 30  # validation faces below which a split of its own says too little
_SPACES = {
    "cpu": """\
  # Small networks: an epoch of FER2013 takes one of them a minute or two on a core.
  model:
    - facex_cnn
    - resnet: {depth: [10], width: [16, 32]}
  augment: [none, flip_shift, facex]
  balance: [none, class_weights, logit_adjust]
  train:
    optimizer: [sgd, adamw]
    lr: {low: 0.003, high: 0.3, log: true}      # log: evenly over orders of magnitude
    label_smoothing: [0.0, 0.1]
""",
    "gpu": """\
  # Networks that reach the top of the field from scratch.
  model:
    - resnet: {depth: [18, 34], width: [32, 64]}
    - vgg: {depth: [13, 16], width: [1.0]}
  augment: [flip_shift, facex, randaugment]
  balance: [none, class_weights, logit_adjust]
  train:
    optimizer: [sgd, adamw]
    lr: {low: 0.003, high: 0.3, log: true}      # log: evenly over orders of magnitude
    weight_decay: {low: 0.00005, high: 0.01, log: true}
    label_smoothing: {low: 0.0, high: 0.2}
    mixup: [0.0, 0.2]
""",
}
_EPOCHS = {"cpu": (2, 12), "gpu": (5, 60)}  # at the first rung, and of a trial


@dataclass(frozen=True)
class Asked:
    """What a first study is for.

    Attributes:
        name: the study's.
        data: a data set, prepared or one that can be.
        machine: "cpu" or "gpu".
        time: of the search, such as "2h".
    """

    name: str
    data: str
    machine: str
    time: str


def text(asked: Asked, data_dir: Path, where: str) -> str:
    """Writes the study, checked.

    Args:
        data_dir: the folder of prepared sets, where its splits are looked up.
        where: the file that it will stand in, for the command in its header.

    Raises:
        InputError: no such machine, or a name, data set or time that no study may have.
    """
    if asked.machine not in MACHINES:
        raise InputError(f"--machine {asked.machine}: no such machine; {nearest(asked.machine, MACHINES)}")
    if not re.match(files.NAME, asked.data):
        raise InputError(f"--for {asked.data!r}: a data set's name holds letters, digits, '_', '.' and '-' only")
    try:
        studies.seconds(asked.time)
    except ValueError as error:
        raise InputError(f"--time {error}") from error
    said = _text(asked, _counts(asked.data, data_dir), where)
    studies.parse(yaml.safe_load(said))
    return said


def _counts(data: str, data_dir: Path) -> Mapping[str, Any]:
    """Faces by split, of a set that is prepared; else nothing."""
    if not faces.is_prepared(data_dir, data):
        return {}
    counts: Mapping[str, Mapping[str, int]] = faces.read_manifest(data_dir, data)["counts"]
    return {split: sum(found.values()) for split, found in counts.items()}


def _text(asked: Asked, counts: Mapping[str, int], where: str) -> str:
    first, most = _EPOCHS[asked.machine]
    tests = protocols.defaults((asked.data,), 7)
    gpu = asked.machine == "gpu"
    known = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    return f"""\
# Facial expressions of {asked.data} on a {"GPU" if gpu else "CPU"}{f" ({known})" if known else ""}.
#   facex-tune run {where} --dry-run     # hours, memory, disk, and everything that is wrong
#   facex-tune run {where}
# Every part and knob, with its range: `facex-tune parts`. Every key: `facex-tune schema`, which editors read.
version: 1
name: {_scalar(asked.name)}
data: {_scalar(asked.data)}

# The faces that trials are compared on. They are never test faces.
validation: {_validation(asked.data, counts)}
# Copies of validation or test faces leave train; "keep" is what published figures do.
duplicates: drop
# Every emotion counts the same; accuracy would forgive a model that never says "disgust".
objective: macro_f1

# The first that is reached ends the search.
budget: {{trials: {40 if gpu else 24}, time: {asked.time}}}
# A trial has {most} epochs at most; from epoch {first} on, the better third goes on at each rung.
fidelity: {{min_epochs: {first}, max_epochs: {most}, reduction: 3}}
search: {{sampler: tpe, scheduler: asha, seed: 0}}
# What one trial holds; as many run at once as the machine has room for.
resources: {{cpus: 1{", gpus: 0.5" if gpu else ""}}}

# A list is searched over, a mapping narrows a part's own knobs; what is not named is searched over its whole range.
space:
{_SPACES[asked.machine]}
# The best candidate is trained again with new seeds: from three on, its mean has an interval.
retrain: {{top: 1, seeds: 3, epochs: {most}}}
# Sealed test sets, opened once, at the end.
evaluate: {{protocols: [{", ".join(tests)}]}}
"""


def _scalar(said: str) -> str:
    """Text as YAML reads it as text: a set may be called 2024."""
    written: str = yaml.safe_dump([said], default_flow_style=True)
    return written.strip()[1:-1]


def _validation(data: str, counts: Mapping[str, int]) -> str:
    own = counts.get("public_test", 0) >= _HOLDOUT_FROM if counts else data in ("fer2013", "ferplus", "synthetic")
    return "public_test" if own else "{holdout: 0.1}     # a tenth of train, groups kept together"
