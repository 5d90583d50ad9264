"""Which plots a run's report shows, and what each is drawn from. `painting` draws them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation import plots
from facex_tune.evaluation.calibration import reliability
from facex_tune.metrics import MAXIMIZE
from facex_tune.report import figures, insight_plots
from facex_tune.report.insight import Answers
from facex_tune.report.painting import Drawing
from facex_tune.runs.history import FAILED, FINISHED, Trial, best_of_each
from facex_tune.runs.names import model_label, trial_label
from facex_tune.storage.files import Place

if TYPE_CHECKING:
    from facex_tune.runs.store import Run


def of_run(run: Run, document: Mapping[str, Any]) -> list[Drawing]:
    """Every figure that this run has the numbers for."""
    return [*_search(run, document), *_finals(run, document), *_classes(run, document), *_more(run, document)]


def _classes(run: Run, document: Mapping[str, Any]) -> Iterator[Drawing]:
    if counts := _class_counts(run, document):
        yield Drawing("classes", figures.class_histogram, (counts, EMOTIONS))
    for name, scored in document["evaluation"].items():
        if scored["n"]:
            matrix = scored["confusion"]
            yield Drawing(f"confusion-{name}", plots.confusion, (np.array(matrix["counts"]), matrix["classes"]))


def _class_counts(run: Run, document: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Faces by split and emotion; of several sets the training faces by set."""
    if len(run.study.sets) == 1:
        own = document["data"].get(run.study.sets[0])
        return own["counts"] if own else {}
    by_set = (run.header.get("faces") or {}).get("by_set", {})
    return {name: share["train"] for name, share in by_set.items() if share["train"]}


def _more(run: Run, document: Mapping[str, Any]) -> Iterator[Drawing]:
    """Reliability, factors and insight, where there are numbers for them."""
    found, objective = document["insight"], run.study.objective[0]
    for name, scored in document["evaluation"].items():
        warm = scored.get("variants", {}).get("temperature")
        if warm:
            answers = Answers.read(name, run.folder / "evaluation" / f"{name}.parquet", scored["models"][:1])
            if answers is not None:
                before = reliability(answers.probabilities_MNC[0], answers.labels_N)
                yield Drawing(f"reliability-{name}", insight_plots.reliability, (before, warm["reliability"]))
    measured = [effect for effect in document["factors"].get("effects", []) if objective in effect["metrics"]]
    if measured:
        yield Drawing("factors", insight_plots.effects, (measured, objective))
        emotions = [each for each in EMOTIONS if all(f"f1.{each}" in effect["metrics"] for effect in measured)]
        if emotions:
            yield Drawing("factor-emotions", insight_plots.emotion_effects, (measured, emotions, objective))
    if crossed := document["factors"].get("factorial"):
        yield Drawing("factorial", insight_plots.factorial, (crossed["corners"], crossed["levels"], objective))
    if found["generalization"]:
        yield Drawing("generalization", insight_plots.generalization, (found["generalization"],))
    if found["versatility"]:
        yield Drawing("versatility", insight_plots.versatility, (found["versatility"]["points"],))
    if len(found["cost"]) > 1:
        yield Drawing("cost", insight_plots.cost, (found["cost"], objective))
    for said in [each for each in found["disagreement"].values() if len(each["bands"]) > 1][:1]:
        yield Drawing("disagreement", insight_plots.disagreement, (said["bands"],))


def _search(run: Run, document: Mapping[str, Any]) -> list[Drawing]:
    history, objective = run.history(), run.study.objective[0]
    curves = {
        trial.label: {epoch: found[objective] for epoch, found in sorted(trial.epochs.items()) if objective in found}
        for trial in history.trials.values()
    }
    curves = {name: curve for name, curve in curves.items() if curve}
    if not curves:
        return []
    usable = [trial for trial in history.trials.values() if trial.state != FAILED and trial.label in curves]
    values = {trial.number: list(curves[trial.label].values())[-1] for trial in sorted(usable, key=lambda t: t.number)}
    best = best_so_far(usable, values, MAXIMIZE[objective])
    progress = [Drawing("search", figures.search_progress, (values, best, objective))] if values else []
    return [*progress, Drawing("learning", figures.learning_curves, (curves, winner_label(document), objective))]


def best_so_far(trials: Sequence[Trial], values: Mapping[int, float], maximize: bool) -> dict[int, float]:
    """Trial number -> the best value up to there, of the trials that finished: a value of a trial that was cut short
    does not compare with theirs. Of all trials where none finished.
    """
    finished = {trial.number for trial in trials if trial.state == FINISHED}
    compared = [number for number in values if number in finished or not finished]
    return dict(zip(compared, best_of_each([values[number] for number in compared], maximize), strict=True))


def winner_label(document: Mapping[str, Any]) -> str:
    """The trial that the report is about: the first candidate retrained, else the best of the search."""
    if document["models"]:
        return trial_label(document["models"][0]["candidate"])
    best = document["search"]["best"]
    return trial_label(best["trial"]) if best else ""


def _finals(run: Run, document: Mapping[str, Any]) -> list[Drawing]:
    objective = run.study.objective[0]
    curves = {
        model_label(model["candidate"], model["seed"]): curve
        for model in document["models"]
        if (curve := _history_csv(run.final_folder(model["candidate"], model["seed"]) / "history.csv", objective))
    }
    return [Drawing("finals", figures.final_curves, (curves, objective))] if curves else []


def _history_csv(path: Place, column: str) -> dict[int, float]:
    """A final model's value at each epoch; empty where its curve was not kept."""
    if not path.is_file():
        return {}
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return {int(row["epoch"]): float(row[column]) for row in rows if row.get(column)}
