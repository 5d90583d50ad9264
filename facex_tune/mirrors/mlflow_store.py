"""A run as an MLflow experiment of the run's name, in a local SQLite file: a run of MLflow's for each trial, for each
final model and for each candidate's final scores.

Nothing leaves the machine: the file is named outright, so that no `MLFLOW_TRACKING_URI` counts, and MLflow's telemetry
is turned off.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import math
import os
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from facex_tune.errors import InputError
from facex_tune.mirrors import final_scores
from facex_tune.mirrors.final_scores import FinalScores, tag
from facex_tune.runs.frames import Times
from facex_tune.runs.history import FAILED, FINISHED, RUNNING, STOPPED, History, Trial
from facex_tune.runs.names import model_label
from facex_tune.runs.store import Run

MISSING = "mirror --mlflow needs the extra: pip install 'facex-tune[mlflow]'"
MOST = 1000  # metrics in one call; MLflow takes no more
# What a rung or a budget cut short is never taken for complete.
STATUSES = {RUNNING: "RUNNING", FINISHED: "FINISHED", STOPPED: "KILLED", FAILED: "FAILED"}
NAME, EPOCHS, CONTENT, RUN = (f"facex_tune.{each}" for each in ("name", "epochs", "content", "run"))
Curve = Mapping[int, tuple[int, Mapping[str, float]]]  # step -> when, in ms, and the values by MLflow's names


class MlflowStore:
    """One run as an experiment; `update` brings it up to date.

    Args:
        path: the SQLite file. What else it holds is left alone; of this run what is there already is gone on with.

    Raises:
        InputError: MLflow is not installed, or cannot use the file.
    """

    def __init__(self, run: Run, path: Path) -> None:
        self.run, self.path = run, path.absolute()
        self._mlflow = _imported()
        _check(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._told():
            uri = f"sqlite:///{self.path}"
            self._client = self._mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            self._experiment = self._found() or self._created()
            self._runs = {found.data.tags[NAME]: found for found in self._all() if NAME in found.data.tags}

    def update(self, history: History, times: Times) -> None:
        """Adds what is new: trials, epochs, ends, final models, final scores."""
        with self._told():
            for number in sorted(history.trials):
                self._trial(history.trials[number], times)
            for candidate, seed in sorted(history.models):
                self._model(history, candidate, seed)
            for scores in final_scores.read(self.run, history):
                self._evaluation(scores)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """MLflow's own complaint in one line, without those of the libraries below it about MLflow."""
        try:
            with warnings.catch_warnings():
                for category in (DeprecationWarning, FutureWarning):
                    warnings.simplefilter("ignore", category)
                yield
        except self._mlflow.exceptions.MlflowException as error:
            raise InputError(f"{self.path}: MLflow cannot write there: {str(error).splitlines()[0]}") from error

    def _found(self) -> str | None:
        found = self._client.get_experiment_by_name(self.run.name)
        if found is None:
            return None
        if found.tags.get(RUN) != self.run.header["created_utc"]:
            raise InputError(
                f"{self.path}: holds another experiment named {self.run.name}, which is not this run; name another file"
            )
        if found.lifecycle_stage != "active":
            raise InputError(f"{self.path}: experiment {self.run.name} was deleted in MLflow; restore it there")
        return str(found.experiment_id)

    def _created(self) -> str:
        study = self.run.study
        told = {RUN: self.run.header["created_utc"], "study": study.name, "objective": ", ".join(study.objective)}
        artifacts = self.path.with_name(f"{self.path.name}.artifacts").as_uri()
        return str(self._client.create_experiment(self.run.name, artifact_location=artifacts, tags=told))

    def _all(self) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_runs([self._experiment], max_results=MOST, page_token=token)
            yield from page
            if not (token := page.token):
                return

    def _trial(self, trial: Trial, times: Times) -> None:
        found = self._runs.get(trial.label)
        if found is None:
            found = self._begin(trial.label, _ms(times.started[trial.number]), trial.config)
        last, status = int(found.data.tags.get(EPOCHS, 0)), STATUSES[trial.state]
        if (last, found.info.status) == (trial.last_epoch, status):
            return
        new = {
            epoch: (_ms(times.epochs[trial.number, epoch]), _tagged(trial.epochs[epoch]))
            for epoch in sorted(trial.epochs)
            if epoch > last
        }
        self._log(found, new, {**_about(trial), EPOCHS: str(trial.last_epoch)})
        if status != "RUNNING":
            self._client.set_terminated(found.info.run_id, status, _ms(times.ended[trial.number]))
        self._runs[trial.label] = self._client.get_run(found.info.run_id)

    def _model(self, history: History, candidate: int, seed: int) -> None:
        curve, wall_s = final_scores.model_curve(self.run, candidate, seed)
        at_ms = round(1000 * wall_s)
        told = {epoch: (at_ms, _tagged(found)) for epoch, found in curve.items()}
        config = history.trials[candidate].config if candidate in history.trials else {}
        self._whole(f"final-{model_label(candidate, seed)}", told, config, {"seed": str(seed)}, {})

    def _evaluation(self, scores: FinalScores) -> None:
        told = {0: (round(1000 * scores.wall_s), scores.values)}
        artifacts = {"scores.md": scores.table.encode()}
        if (drawn := scores.confusion_png()) is not None:
            artifacts["confusion.png"] = drawn[0]
        about = {"protocol": scores.protocol, "candidate": scores.candidate}
        self._whole(f"evaluation-{scores.protocol}-{scores.candidate}", told, {}, about, artifacts)

    def _whole(
        self,
        name: str,
        curve: Curve,
        config: Mapping[str, Any],
        about: Mapping[str, str],
        artifacts: Mapping[str, bytes],
    ) -> None:
        """What is told at once. One that tells something else, or was not told to its end, is replaced: MLflow deletes
        no value of a run.
        """
        values = {step: dict(found) for step, (_, found) in curve.items()}
        content = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
        if (old := self._runs.get(name)) is not None:
            if old.data.tags.get(CONTENT) == content:
                return
            self._client.delete_run(old.info.run_id)
        at_ms = max((when for when, _ in curve.values()), default=0)
        run = self._begin(name, at_ms, config)
        self._log(run, curve, about)
        with tempfile.TemporaryDirectory() as folder:
            for file, held in artifacts.items():
                (path := Path(folder) / file).write_bytes(held)
                self._client.log_artifact(run.info.run_id, str(path))
        self._client.set_tag(run.info.run_id, CONTENT, content)
        self._client.set_terminated(run.info.run_id, "FINISHED", at_ms)
        self._runs[name] = self._client.get_run(run.info.run_id)

    def _begin(self, name: str, began_ms: int, config: Mapping[str, Any]) -> Any:
        run = self._client.create_run(self._experiment, start_time=began_ms, run_name=name, tags={NAME: name})
        param = self._mlflow.entities.Param
        params = [param(knob, str(value)) for knob, value in config.items() if value is not None]
        self._client.log_batch(run.info.run_id, params=params)
        return run

    def _log(self, run: Any, curve: Curve, about: Mapping[str, str]) -> None:
        """Values first, then the tags, one of which says how far they go: what is told twice after a kill is the same
        value of the same moment, which MLflow keeps once.
        """
        metric, run_tag = self._mlflow.entities.Metric, self._mlflow.entities.RunTag
        metrics = [
            metric(name, value, when, step)
            for step, (when, found) in curve.items()
            for name, value in found.items()
            if math.isfinite(value)
        ]
        for at in range(0, len(metrics), MOST):
            self._client.log_batch(run.info.run_id, metrics=metrics[at : at + MOST])
        self._client.log_batch(run.info.run_id, tags=[run_tag(name, value) for name, value in about.items()])


def _imported() -> ModuleType:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"  # read when it is imported
    try:
        import alembic  # noqa: F401  MLflow comes without what writes SQLite
        import sqlalchemy  # noqa: F401

        mlflow = importlib.import_module("mlflow")  # an extra, whose package is called otherwise
    except ImportError as error:
        raise InputError(MISSING) from error
    for chatty in ("alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return mlflow


def _check(path: Path) -> None:
    """MLflow would lay its tables into any SQLite file.

    Raises:
        InputError: it is none of MLflow's.
    """
    if odd := sorted(set("?#%") & set(str(path))):
        raise InputError(f"--mlflow {path}: MLflow takes a path for a URL; name one without {' '.join(odd)}")
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError:
        tables = {"unknown"}
    if tables and not {"experiments", "runs", "alembic_version"} <= tables:
        raise InputError(f"{path}: is there already and is no file of MLflow's; name another file, or remove it")


def _tagged(found: Mapping[str, float]) -> dict[str, float]:
    return {tag(name): value for name, value in found.items()}


def _about(trial: Trial) -> dict[str, str]:
    said = {"source": trial.source, "reason": trial.reason, "detail": trial.detail}
    return {name: value for name, value in said.items() if value}


def _ms(iso: str) -> int:
    return round(1000 * datetime.fromisoformat(iso).timestamp())
