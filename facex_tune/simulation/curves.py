"""Recorded learning curves: what trainings of a space's configurations came to, epoch by epoch.

A table is a CSV file, which may be gzipped. Its first line is `# ` and a JSON object: `space` as `Space.to_data` writes
it, `epochs` of a whole training, and in `what` a sentence about the faces. Then an epoch is a row: `configuration` and
`seed` (numbers that tell trainings apart), `epoch`, `seconds`, `state`, a column for each metric and for each knob; a
knob that does not apply is empty. A training that failed ends with a row whose `state` says how, with the seconds that
were lost.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune import metrics
from facex_tune.errors import InputError
from facex_tune.runs.events import EpochDone
from facex_tune.runs.history import FAILED, FINISHED, Trial
from facex_tune.runs.store import Run
from facex_tune.search.referee import collapsed
from facex_tune.space import Choice, Config, Float, Int, Knob, Space, Value, is_active

Floats = NDArray[np.float64]
PACKAGED = Path(__file__).parent / "fer2013_small.csv.gz"
FEWEST = 10  # whole trainings: fewer say nothing of the configurations between them
_FIXED = ("configuration", "seed", "epoch", "seconds", "state")


@dataclass(frozen=True)
class Recorded:
    """One training.

    Attributes:
        configuration: equal numbers are one configuration with several seeds.
        scores_EM: an epoch a row, a metric a column; NaN where it was not measured.
        seconds_E: of each epoch.
        failure: "" or why it did not come to its end: "diverged", "collapsed", …
        lost_s: spent after the last epoch, on the one that failed.
    """

    configuration: int
    config: Config
    scores_EM: Floats
    seconds_E: Floats
    failure: str = ""
    lost_s: float = 0.0


@dataclass(frozen=True)
class Curves:
    """A table of recorded trainings.

    Attributes:
        what: a sentence about the faces and where the numbers are from.
        epochs: of a whole training.
        metrics: the columns of `Recorded.scores_EM`.
        notes: what somebody who simulates with it should know.
    """

    what: str
    space: Space
    epochs: int
    metrics: tuple[str, ...]
    trainings: tuple[Recorded, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def whole(self) -> tuple[Recorded, ...]:
        """The trainings that came to their end."""
        return tuple(each for each in self.trainings if not each.failure)

    @cached_property
    def failed(self) -> tuple[Recorded, ...]:
        """The others."""
        return tuple(each for each in self.trainings if each.failure)

    @property
    def configurations(self) -> int:
        """How many there are."""
        return len({each.configuration for each in self.trainings})

    def only(self, configurations: Iterable[int]) -> Curves:
        """The same table with these configurations alone."""
        kept = set(configurations)
        return replace(self, trainings=tuple(each for each in self.trainings if each.configuration in kept))


def read(path: Path) -> Curves:
    """Reads a table.

    Raises:
        InputError: it cannot be read, or is no such table.
    """
    try:
        with _opened(path) as file:
            first = next(file, "")
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, EOFError, csv.Error) as error:
        raise InputError(f"--curves {path}: cannot be read ({error}); name a table of curves or a run") from error
    try:
        about = json.loads(first.removeprefix("# "))
        space, epochs = Space.from_data(about["space"]), int(about["epochs"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"--curves {path}: no table of learning curves: its first line must be '# ' and a JSON object with space "
            "and epochs (docs/simulate.md)"
        ) from error
    columns = tuple(rows[0]) if rows else ()
    if missing := [name for name in (*_FIXED, *(name for name, _ in space.knobs())) if name not in columns]:
        raise InputError(f"--curves {path}: has no column {missing[0]!r} or no row; see docs/simulate.md")
    measured = tuple(name for name in columns if name in metrics.MAXIMIZE)
    trainings = _trainings(path, rows, space, epochs, measured)
    return _enough(Curves(str(about.get("what", path.name)), space, epochs, measured, trainings), str(path))


def _opened(path: Path) -> Any:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _trainings(
    path: Path, rows: Sequence[Mapping[str, str]], space: Space, epochs: int, measured: Sequence[str]
) -> tuple[Recorded, ...]:
    groups: dict[tuple[str, str], list[tuple[int, Mapping[str, str]]]] = {}
    for line, row in enumerate(rows, start=3):
        groups.setdefault((row["configuration"], row["seed"]), []).append((line, row))
    found = []
    for numbered in groups.values():
        try:
            found.append(_training([row for _, row in numbered], space, epochs, measured))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"--curves {path}: lines {numbered[0][0]} to {numbered[-1][0]}: {error}") from error
    return tuple(found)


def _training(rows: Sequence[Mapping[str, str]], space: Space, epochs: int, measured: Sequence[str]) -> Recorded:
    """One training of its rows.

    Raises:
        ValueError: an epoch is missing or too many, or a value is none.
    """
    trained = [row for row in rows if not row["state"]]
    if [int(row["epoch"]) for row in rows] != list(range(1, len(rows) + 1)) or len(trained) < len(rows) - 1:
        raise ValueError("the epochs of a training must be numbered from 1, each once, and end where it failed")
    failure = rows[-1]["state"]
    if len(trained) > epochs or (len(trained) < epochs and not failure):
        raise ValueError(f"{len(trained)} epochs, where {epochs} are a whole training and no row tells of a failure")
    scores_EM = np.array([[float(row[name] or "nan") for name in measured] for row in trained], dtype=np.float64)
    seconds_E = np.array([float(row["seconds"]) for row in trained], dtype=np.float64)
    if not (np.isfinite(seconds_E).all() and (seconds_E > 0).all()):
        raise ValueError("seconds must be numbers above 0")
    scores_EM, number = scores_EM.reshape(-1, len(measured)), int(rows[0]["configuration"])
    lost_s = float(rows[-1]["seconds"]) if failure else 0.0
    return _judged(Recorded(number, _config(rows[0], space), scores_EM, seconds_E, failure, lost_s), measured)


def _judged(training: Recorded, measured: Sequence[str]) -> Recorded:
    """A training that gives every face one answer has failed, as in a search; its curve stays whole."""
    trial = Trial(0, training.config, "")
    for epoch, scores_M in enumerate(training.scores_EM, start=1):
        trial.epochs[epoch] = scores_of(measured, scores_M)
        if collapsed(trial):
            return replace(training, failure=training.failure or "collapsed")
    return training


def scores_of(measured: Sequence[str], scores_M: Floats) -> dict[str, float]:
    """The metrics of one epoch by name, without those that were not measured."""
    return {name: float(value) for name, value in zip(measured, scores_M, strict=True) if math.isfinite(value)}


def _config(row: Mapping[str, str], space: Space) -> Config:
    config: Config = {}
    for name, knob in space.knobs():
        if is_active(name, config):
            config[name] = _value(name, knob, row[name])
    return config


def _value(name: str, knob: Knob, text: str) -> Value:
    if isinstance(knob, Choice):
        by_text = {str(option): option for option in knob.options}
        if text not in by_text:
            raise ValueError(f"{name}: {text!r} is not in the recorded space")
        return by_text[text]
    value = int(text) if isinstance(knob, Int) else float(text)
    if not knob.holds(value):
        raise ValueError(f"{name}: {text} is not in the recorded space")
    return value


def of_run(run: Run) -> Curves:
    """The trainings of a run's search that came to their end or failed. One that a rung stopped says nothing of what it
    would have come to.

    Raises:
        InputError: they are too few.
    """
    study, trials = run.study, list(run.history().trials.values())
    kept = [trial for trial in trials if trial.state in (FINISHED, FAILED)]
    measured = tuple(dict.fromkeys(name for trial in kept for scores in trial.epochs.values() for name in scores))
    measured = tuple(name for name in measured if name in metrics.MAXIMIZE)
    told = [event for event in run.events() if event["type"] == EpochDone.TYPE]
    seconds = {(event["trial"], event["epoch"]): event["seconds"] for event in told}
    numbers: dict[str, int] = {}
    trainings = [
        _of_trial(trial, numbers.setdefault(repr(sorted(trial.config.items())), len(numbers)), measured, seconds)
        for trial in kept
    ]
    notes = []
    if left_out := sum(trial.state not in (FINISHED, FAILED) for trial in trials):
        notes.append(
            f"{left_out} of {len(trials)} trials of run {run.name} were stopped and are left out: what is known of its "
            "space is known of the configurations that its rungs let through"
        )
    what = f"the search of run {run.name} on {run.study.data_text}"
    curves = Curves(what, study.space, study.fidelity.max_epochs, measured, tuple(trainings), tuple(notes))
    return _enough(curves, run.name)


def _of_trial(
    trial: Trial, configuration: int, measured: Sequence[str], seconds: Mapping[tuple[int, int], float]
) -> Recorded:
    epochs = sorted(trial.epochs)
    scores = [[trial.epochs[epoch].get(name, math.nan) for name in measured] for epoch in epochs]
    scores_EM = np.array(scores, dtype=np.float64).reshape(-1, len(measured))
    seconds_E = np.array([max(seconds.get((trial.number, epoch), 0.0), 1e-3) for epoch in epochs], dtype=np.float64)
    failure = trial.reason if trial.state == FAILED else ""
    return Recorded(configuration, trial.config, scores_EM, seconds_E, failure, trial.lost_seconds)


def _enough(curves: Curves, name: str) -> Curves:
    if len(curves.whole) < FEWEST:
        raise InputError(
            f"--curves {name}: {len(curves.whole)} trainings in it came to their end; at least {FEWEST} are needed to "
            "say anything of the configurations between them"
        )
    return curves


def outside(space: Space, curves: Curves) -> list[str]:
    """Each knob of a space that leaves what was recorded, a line each."""
    recorded = dict(curves.space.knobs())
    return [
        f"space.{name}: {knob} leaves what was recorded ({recorded.get(name, 'nothing of it')})"
        for name, knob in space.knobs()
        if not _covers(recorded.get(name), knob) and _owner_is_recorded(name, curves.space)
    ]


def _owner_is_recorded(name: str, recorded: Space) -> bool:
    """Whether a part is known at all: of one that is not, its name is told, and not each of its knobs."""
    family, _, rest = name.partition(".")
    return family not in recorded.parts or not rest or rest.partition(".")[0] in recorded.parts[family]


def _covers(recorded: Knob | None, asked: Knob) -> bool:
    if recorded is None:
        return False
    if isinstance(asked, Choice):
        return all(recorded.holds(option) for option in asked.options)
    is_range = isinstance(recorded, Float | Int)
    return is_range and recorded.holds(asked.low) and recorded.holds(asked.high)
