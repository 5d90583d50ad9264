"""A run's log as tables, without Ray and without torch: for pandas, and for `trials.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from facex_tune import metrics
from facex_tune.errors import InputError, nearest
from facex_tune.runs.events import EpochDone, TrialStarted
from facex_tune.runs.history import ENDS, RUNNING, History, Trial, keeps
from facex_tune.runs.store import Event, Run
from facex_tune.storage import files, regular

if TYPE_CHECKING:
    import pandas as pd

    from facex_tune.storage.files import Place

KINDS = ("trials", "epochs", "models", "evaluation")
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # = + - @ in full width too
Rows = tuple[list[str], list[list[Any]]]  # the columns' names, then a list of values for each row


@dataclass
class Times:
    """Collects when things happened, in ISO 8601, by trial and by (trial, epoch)."""

    started: dict[int, str] = field(default_factory=dict)
    ended: dict[int, str] = field(default_factory=dict)
    epochs: dict[tuple[int, int], str] = field(default_factory=dict)
    seconds: dict[tuple[int, int], float] = field(default_factory=dict)  # of training, not of waiting

    @classmethod
    def of(cls, events: Iterable[Event]) -> Times:
        times = cls()
        for event in events:
            times.see(event)
        return times

    def see(self, event: Event) -> None:
        """Takes in one event. Where something is told twice, the first time counts."""
        when: str = event["time_utc"]
        if event["type"] == TrialStarted.TYPE:
            self.started.setdefault(event["trial"], when)
        elif event["type"] in ENDS:
            self.ended.setdefault(event["trial"], when)
        elif event["type"] == EpochDone.TYPE:
            key = event["trial"], event["epoch"]
            self.epochs.setdefault(key, when)
            self.seconds.setdefault(key, event["seconds"])


def load_run(path: str | Place, kind: str = "trials") -> pd.DataFrame:
    """Loads a run as a pandas frame; needs neither Ray nor torch, changes nothing, and works while the run goes on.

    Args:
        path: the run's folder, for example ``runs/demo``, or its URL.
        kind: "trials" (a row each, in the order suggested: state, reason, epochs, seconds, the metrics of its last
            epoch, every knob), "epochs" (a row for each epoch of each trial), "models" (a row for each final model) or
            "evaluation" (a row for each metric of each protocol: n, mean over the final models, 95 % interval).

    Raises:
        InputError: there is no run, or no such kind.
    """
    import pandas as pd

    if kind not in KINDS:
        raise InputError(f"load_run: no kind named {kind!r}; {nearest(kind, KINDS)}")
    folder = files.place(path)
    run = Run.open(folder.parent, folder.name)
    history = run.history()
    if kind == "evaluation":
        columns, rows = evaluation_rows(run)
    elif kind == "models":
        columns, rows = model_rows(history)
    elif kind == "epochs":
        columns, rows = epoch_rows(history, Times.of(run.events()))
    else:
        columns, rows = trial_rows(run, history, Times.of(run.events()))
    return pd.DataFrame(rows, columns=columns)


def trial_rows(run: Run, history: History, times: Times) -> Rows:
    """Gives a row for each trial, in the order of their numbers; None where a trial has no such metric or knob."""
    study = run.study
    trials = [history.trials[number] for number in sorted(history.trials)]
    measured = _measured(trial.metrics for trial in trials)
    knobs = list(dict.fromkeys(knob for trial in trials for knob in trial.config))
    told = ["number", "state", "reason", "detail", "source", "epochs", "max_epochs", "seconds", "started_utc"]
    told += ["ended_utc", "keeps_constraints", "pareto", "value"]
    front = history.pareto(study)

    def row(trial: Trial) -> list[Any]:
        ended = None if trial.state == RUNNING else times.ended.get(trial.number)
        kept = keeps(study.bounds, trial.metrics) if trial.metrics else None
        about = [trial.number, trial.state, trial.reason, trial.detail, trial.source, trial.last_epoch]
        about += [study.fidelity.max_epochs, round(trial.seconds, 3), times.started.get(trial.number), ended, kept]
        about += [trial.number in front, trial.metrics.get(study.objective[0])]
        return [*about, *(trial.metrics.get(name) for name in measured), *map(trial.config.get, knobs)]

    return [*told, *measured, *knobs], [row(trial) for trial in trials]


def epoch_rows(history: History, times: Times) -> Rows:
    """Gives a row for each epoch, trial by trial."""
    keys = [(number, epoch) for number in sorted(history.trials) for epoch in sorted(history.trials[number].epochs)]
    measured = _measured(history.trials[number].epochs[epoch] for number, epoch in keys)

    def row(number: int, epoch: int) -> list[Any]:
        found = history.trials[number].epochs[epoch]
        when = times.seconds.get((number, epoch)), times.epochs.get((number, epoch))
        return [number, epoch, *when, *(found.get(name) for name in measured)]

    return ["number", "epoch", "seconds", "time_utc", *measured], [row(*key) for key in keys]


def model_rows(history: History) -> Rows:
    """Gives a row for each final model, with its validation metrics."""
    measured = _measured(history.models.values())
    ranks = {candidate.trial: candidate.rank for candidate in history.candidates}
    rows = [
        [trial, ranks.get(trial), seed, *(found.get(name) for name in measured)]
        for (trial, seed), found in sorted(history.models.items())
    ]
    return ["number", "rank", "seed", *measured], rows


def evaluation_rows(run: Run) -> Rows:
    """Gives a row for each metric of each protocol under which the run was scored; `clean` means are over the faces
    that have no copy in training.
    """
    columns = ["protocol", "metric", "n", "models", "mean", "low", "high", "clean_n", "clean_mean", "opened"]
    documents = files.matching(run.folder / "evaluation", "*.json")
    found = {path.stem: regular.read_json(path, rooms=1) for path in documents}
    rows: list[list[Any]] = []
    for protocol, scored in found.items():
        clean = scored.get("clean") or {"n": None, "metrics": {}}
        for metric, told in scored["metrics"].items():
            low, high = told["interval"] or (None, None)
            about = [protocol, metric, scored["n"], len(told["per_model"]), told["mean"], low, high]
            rows.append([*about, clean["n"], clean["metrics"].get(metric, {}).get("mean"), scored["opened"]])
    return columns, rows


def trials_csv(run: Run) -> str:
    """Writes `trial_rows` of a run as comma-separated values."""
    return csv_of(run, run.history(), Times.of(run.events()))


def csv_of(run: Run, history: History, times: Times) -> str:
    """Writes `trial_rows` as comma-separated values with a header. A missing value is an empty field."""
    columns, rows = trial_rows(run, history, times)
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(map(as_text, columns))
    writer.writerows(map(as_text, row) for row in rows)
    return sink.getvalue()


def as_text(value: Any) -> Any:
    """A cell of an exported table. A spreadsheet takes text that begins like a formula for one, and runs it: such text
    gets an apostrophe before it, which spreadsheets read as "this is text". Numbers stay as they are. Lines within text
    end with a newline, because Python 3.11 does not quote a carriage return, which then ends the row.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.startswith(_FORMULA) else text


def _measured(found: Iterable[Mapping[str, float]]) -> list[str]:
    """The metrics that were measured at all, in the order in which they are known, then the others."""
    names = dict.fromkeys(name for each in found for name in each)
    known = [name for name in metrics.names() if name in names]
    return [*known, *(name for name in names if name not in known)]
