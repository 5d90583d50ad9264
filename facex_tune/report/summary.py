"""report.json, version 1: everything that a run has shown, as plain data. Reads the run folder and nothing else."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from facex_tune.evaluation import choices, intervals
from facex_tune.metrics import MAXIMIZE
from facex_tune.report import factor_effects, generalization, generalization_gap, importance, insight
from facex_tune.report.findings import findings
from facex_tune.runs.events import StageFinished, TrialStarted
from facex_tune.runs.history import ENDS, History, Standing
from facex_tune.runs.names import ALL, model_label
from facex_tune.storage import files, regular
from facex_tune.storage.files import finite
from facex_tune.training import posthoc

if TYPE_CHECKING:
    from facex_tune.runs.store import Run

VERSION = 1
# What an evaluation does not say that was made before these were measured.
UNSAID: dict[str, Any] = {"left_out": 0, "per_sequence": None, "agreement": None, "variants": {}, "comparisons": []}
ENVIRONMENT = ("created_utc", "seed", "packages", "git_commit", "hardware")


def document(run: Run, manifests: Mapping[str, Any]) -> dict[str, Any]:
    """Gathers the report as data: the keys of docs/contracts.md. `evaluation` and `models` are empty where those stages
    have not run.

    Args:
        manifests: data set -> manifest, as found or as recorded in the run.
    """
    history = run.history()
    body: dict[str, Any] = {
        "version": VERSION,
        "run": run.name,
        "study": run.study.to_data(),
        "environment": {
            **{key: run.header.get(key) for key in ENVIRONMENT},
            "stage_seconds": history.stage_seconds,
            "killed_stages": history.killed_stages,
        },
        "data": dict(manifests),
        "search": search(run, history),
        "leaderboard": leaderboard(run, history),
        "models": models(run, history),
        **_on_all(run, history),
        "evaluation": evaluation(run, history),
        "factors": factor_effects.of_run(run),
        "importance": importance.of_search(run.study, history),
        "choices": choices.read(run),
    }
    validation, answers = insight.answers_of(run, body)
    found = insight.of_run(run, body, validation, answers)
    body["insight"] = found | {
        "gaps": generalization_gap.of_run(body, validation, answers),
        "generalization": generalization.of_evaluation(body["evaluation"], run.study.sets),
    }
    body["findings"] = findings(body, run.words)
    return body


def search(run: Run, history: History) -> dict[str, Any]:
    """How the search went: trials by state, wall-clock seconds, its best trial, its selection bias, and which final
    models could not be trained.
    """
    board = history.standings(run.study)
    gpus = float(run.study.resources.gpus)
    return {
        "trials": dict(Counter(each.trial.state for each in board)),
        "seconds": history.search_seconds,
        "gpu_hours": sum(each.trial.seconds for each in board) * gpus / 3600,
        "best": _best(run, board),
        "selection_bias": selection_bias(run, history),
        "order": order(run),
        "settled": None if history.settled is None else asdict(history.settled),
        "raised_budgets": [{"was": each.was, "now": each.budget, "opened": each.opened} for each in history.raises],
        "failed_models": [
            {"candidate": candidate, "seed": seed, "reason": reason}
            for (candidate, seed), reason in sorted(history.failed_models.items())
        ]
        + [
            {"candidate": candidate, "seed": seed, "reason": reason, "on": ALL}
            for (candidate, seed), reason in sorted(history.failed_on_all.items())
        ],
    }


def order(run: Run) -> dict[str, Any]:
    """In which order results were taken in, how many trials were on their way at once at most, and which budget ended
    the search; None while none has.
    """
    running: set[int] = set()
    at_once, ended_by = 0, None
    for event in run.events():
        if event["type"] == TrialStarted.TYPE:
            running.add(event["trial"])
            at_once = max(at_once, len(running))
        elif event["type"] in ENDS:
            running.discard(event["trial"])
        elif event["type"] == StageFinished.TYPE and event["stage"] == "search":
            ended_by = event.get("reason")
    return {"taken_in": run.study.search.order, "at_once": at_once, "ended_by": ended_by}


def _best(run: Run, board: list[Standing]) -> dict[str, Any] | None:
    """The first of the leaderboard, unless it failed or has not reported yet; `value` is its own, `mean` that of the
    `n` trials of its configuration that came as far.
    """
    if not board or board[0].trial.state == "failed" or not board[0].trial.metrics:
        return None
    best, objective = board[0].trial, run.study.objective[0]
    return {
        "trial": best.number,
        "state": best.state,
        "epochs": best.last_epoch,
        "objective": objective,
        "value": finite(best.metrics.get(objective)),
        "n": board[0].n,
        "mean": finite(board[0].mean.get(objective)),
        "config": best.config,
    }


def selection_bias(run: Run, history: History) -> dict[str, Any] | None:
    """The winner's value at search time minus its mean when retrained with new seeds, on the same validation faces."""
    ranked = sorted(history.candidates, key=lambda candidate: candidate.rank)
    objective = run.study.objective[0]
    for candidate in ranked:
        retrained = {
            seed: metrics[objective]
            for (trial, seed), metrics in sorted(history.models.items())
            if trial == candidate.trial and finite(metrics.get(objective)) is not None
        }
        if retrained:
            values = list(retrained.values())
            return {
                "trial": candidate.trial,
                "objective": objective,
                "at_search": candidate.value,
                "epochs_at_search": history.trials[candidate.trial].last_epoch,
                "retrained": {"mean": float(np.mean(values)), "per_model": values, "seeds": list(retrained)},
                "retrained_interval": intervals.over_seeds(values),
                "epochs_retrained": run.study.final_epochs,
                "bias": candidate.value - float(np.mean(values)),
                "trials_compared": len(history.trials),
            }
    return None


def leaderboard(run: Run, history: History) -> list[dict[str, Any]]:
    """Every trial, best first; repeats of a configuration share its rank, and `repeats` names the one they repeat."""
    study = run.study
    objective, front, keepers = study.objective[0], history.pareto(study), history.keepers(study)
    return [
        {
            "rank": standing.rank,
            "trial": trial.number,
            "repeats": None if standing.of is trial else standing.of.number,
            "n": standing.n,
            "mean": finite(standing.mean.get(objective)),
            "config": trial.config,
            "state": trial.state,
            "epochs": trial.last_epoch,
            "value": finite(trial.metrics.get(objective)),
            "metrics": {name: finite(value) for name, value in trial.metrics.items()},
            "pareto": trial.number in front,
            **({"keeps": trial.number in keepers} if study.bounds else {}),
        }
        for standing in history.standings(study)
        for trial in (standing.trial,)
    ]


def models(run: Run, history: History) -> list[dict[str, Any]]:
    """Every retrained model with its last epoch's validation metrics, best candidate first."""
    return [
        {
            "candidate": candidate,
            "seed": seed,
            "path": files.below(run.final_folder(candidate, seed), run.folder),
            "validation": {
                name: finite(value)
                for name, value in history.models[candidate, seed].items()
                if name in MAXIMIZE or name in (*posthoc.SCORES, posthoc.TAU)
            },
        }
        for candidate, seed in history.finished_models
    ]


def models_on_all(run: Run, history: History) -> list[dict[str, Any]]:
    """The models that were trained on the validation faces too, without any score: none on these would be honest, and
    sealed sets are kept for the others. `temperature` is the geometric mean of those that validation chose for the
    models of the same trial, `adjust_tau` the median of theirs; None where there are none.
    """
    chosen = (choices.read(run) or {}).get("temperature", {})
    found = []
    for candidate, seed in sorted(history.models_on_all):
        honest = [key for key in history.finished_models if key[0] == candidate]
        temperatures = [chosen[model_label(*key)] for key in honest if model_label(*key) in chosen]
        taus = [history.models[key][posthoc.TAU] for key in honest if posthoc.TAU in history.models[key]]
        found.append(
            {
                "name": model_label(candidate, seed, ALL),
                "candidate": candidate,
                "seed": seed,
                "path": files.below(run.final_folder(candidate, seed, ALL), run.folder),
                "temperature": statistics.geometric_mean(temperatures) if temperatures else None,
                "adjust_tau": statistics.median(taus) if taus else None,
                "chosen_by": [model_label(*key) for key in honest],
            }
        )
    return found


def _on_all(run: Run, history: History) -> dict[str, Any]:
    found = models_on_all(run, history)
    return {"models_on_all": found} if found else {}


def evaluation(run: Run, history: History) -> dict[str, Any]:
    """Every protocol scored so far, in the study's order; `opened` as the log counts it now."""
    found = {}
    for path in files.matching(run.evaluation_folder, "*.json"):
        scored = regular.read_json(path, rooms=1)
        found[scored["protocol"]] = UNSAID | scored | {"opened": history.opened.get(scored["protocol"], 0)}
    order = [name for name in run.study.evaluate.protocols if name in found]
    return {name: found[name] for name in [*order, *(name for name in found if name not in order)]}

