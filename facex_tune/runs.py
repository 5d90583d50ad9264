"""Runs as plain data: what `runs` and `show` print, in a terminal or as one JSON document.

Reads and changes nothing.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from facex_tune import files
from facex_tune.errors import InputError, nearest
from facex_tune.history import FAILED, FINISHED, RUNNING, STOPPED, History, Standing, fold

if TYPE_CHECKING:
    from facex_tune.files import Place
    from facex_tune.store import Event, Run
    from facex_tune.study import Study

VERSION = 1
TRIAL_STATES = (FINISHED, STOPPED, RUNNING, FAILED)
# What a run is: somebody writes it; its last stage broke off; its last stage was that one; all is done; or nothing is.
RUN_STATES = ("running", "interrupted", "searched", "retrained", "evaluated", "finished", "not begun", "damaged")
_AFTER = {"search": "searched", "retrain": "retrained", "evaluate": "evaluated", "report": "finished"}


def of_run(run: Run, *, states: Sequence[str] = (), top: int | None = None) -> dict[str, Any]:
    """Everything that `show` tells of a run.

    Args:
        states: the leaderboard keeps trials of these alone; empty: all.
        top: it keeps so many, with the rank that they have among all.

    Raises:
        InputError: no such state.
    """
    _known("--state", states, TRIAL_STATES)
    events = list(run.events())
    history = fold(events)
    front = history.pareto(run.study)
    shown = [each for each in history.standings(run.study) if not states or each.trial.state in states]
    return {
        "version": VERSION,
        **_heading(run, history, events),
        "objective": run.study.objective[0],
        "objectives": list(run.study.objective),
        "matching": len(shown),
        "leaderboard": [
            {**_trial(standing, run.study), "pareto": standing.trial.number in front} for standing in shown[:top]
        ],
        "models": [
            {"candidate": candidate, "seed": seed, "validation": _finite(metrics)}
            for (candidate, seed), metrics in sorted(history.models.items())
        ],
        "failed_models": [
            {"candidate": candidate, "seed": seed, "reason": reason}
            for (candidate, seed), reason in sorted(history.failed_models.items())
        ],
        "evaluation": _evaluation(run.folder / "evaluation"),
    }


def of_trial(run: Run, label: str) -> dict[str, Any]:
    """One trial with its every epoch.

    Args:
        label: "t0007" or "7".

    Raises:
        InputError: the run has no such trial.
    """
    history = run.history()
    known = {trial.number: trial for trial in history.trials.values()}
    digits = label.removeprefix("t")
    if not digits.isdecimal() or int(digits) not in known:
        last = f"t0000 to t{max(known):04d}" if known else "none yet"
        raise InputError(f"--trial: run {run.name!r} has no trial {label!r}; it has {last}")
    trial = known[int(digits)]
    standing = next(each for each in history.standings(run.study) if each.trial is trial)
    return {
        "version": VERSION,
        "run": run.name,
        "objective": run.study.objective[0],
        "objectives": list(run.study.objective),
        "max_epochs": run.study.fidelity.max_epochs,
        **_trial(standing, run.study),
        "curve": [{"epoch": epoch, **_finite(trial.epochs[epoch])} for epoch in sorted(trial.epochs)],
    }


def of_runs(storage: Place, states: Sequence[str] = ()) -> dict[str, Any]:
    """Every run of a storage folder, newest first; a folder that cannot be read is told as such, with its reason.

    Args:
        states: keeps runs of these alone; empty: all.

    Raises:
        InputError: no such state.
    """
    from facex_tune.store import Run

    _known("--state", states, RUN_STATES)
    runs = [_one_of_runs(storage, name) for name in Run.names(storage)]
    kept = [run for run in runs if not states or run["state"] in states]
    return {"version": VERSION, "runs": sorted(kept, key=lambda run: str(run.get("created_utc", "")), reverse=True)}


def _known(option: str, said: Sequence[str], choices: Sequence[str]) -> None:
    for each in said:
        if each not in choices:
            raise InputError(f"{option}: no state named {each!r}; {nearest(each, choices)}")


def _heading(run: Run, history: History, events: Sequence[Event]) -> dict[str, Any]:
    header, study = run.header, run.study
    counts = Counter(trial.state for trial in history.trials.values())
    created = header["created_utc"]
    updated = events[-1]["time_utc"] if events else created
    return {
        "run": run.name,
        "folder": str(run.folder),
        "study": study.name,
        "data": study.data,
        "created_utc": created,
        "updated_utc": updated,
        "age_s": _seconds_since(created),
        "idle_s": _seconds_since(updated),
        **_standing(run, history, events),
        "stages": dict(history.stages),
        "trials": {state: counts[state] for state in TRIAL_STATES if counts[state]},
        "failures": dict(Counter(trial.reason for trial in history.trials.values() if trial.state == FAILED)),
        "max_epochs": study.fidelity.max_epochs,
        "budget": study.budget.model_dump(),
        "search_seconds": history.search_seconds,
        "stage_seconds": history.stage_seconds,
        "killed_stages": history.killed_stages,
        "gpu_hours": sum(trial.seconds for trial in history.trials.values()) * study.resources.gpus / 3600,
        "validation_faces": header.get("faces", {}).get("validation"),
        "best": _best(history, study),
    }


def _standing(run: Run, history: History, events: Sequence[Event]) -> dict[str, Any]:
    """The run's state, the stage that it is in or came to, who writes it, and the signal that ended it."""
    from facex_tune import lease

    writer = lease.holder(run.folder)
    broken_off = [stage for stage, state in history.stages.items() if state == "started"]
    stage = next(reversed(broken_off or history.stages), None)
    last = events[-1] if events else {}
    if writer is not None:
        state = "running"
    elif stage is None:
        state = "interrupted" if events else "not begun"
    elif broken_off:
        state = "interrupted"
    else:  # the factor study, which may follow any of these, leaves a run as finished as it was
        state = next((said for done, said in reversed(_AFTER.items()) if done in history.stages), "not begun")
    return {
        "state": state,
        "stage": stage,
        "writer": None if writer is None else {"pid": writer["pid"], "host": writer["host"]},
        "signal": last.get("signal") if last.get("type") == "run_interrupted" else None,
    }


def _seconds_since(iso: str) -> float:
    return max(0.0, round((datetime.now(UTC) - datetime.fromisoformat(iso)).total_seconds(), 1))


def _best(history: History, study: Study) -> dict[str, Any] | None:
    board = history.standings(study)
    return _trial(board[0], study) if board and board[0].trial.metrics else None


def _trial(standing: Standing, study: Study) -> dict[str, Any]:
    """
    Returns:
        What is the trial's own, and of its configuration: `rank`, `repeats` (the trial that stands for it, None for
        that one itself), `n` trials that came as far, and `mean` of their values, which it is ranked by.
    """
    trial = standing.trial
    metrics = _finite(trial.metrics)
    return {
        "rank": standing.rank,
        "trial": trial.label,
        "repeats": standing.repeats,
        "n": standing.n,
        "mean": _finite(standing.mean).get(study.objective[0]),
        "state": trial.state,
        "reason": trial.reason,
        "detail": trial.detail,
        "source": trial.source,
        "epochs": trial.last_epoch,
        "value": metrics.get(study.objective[0]),
        "metrics": metrics,
        "seconds": trial.seconds,
        "config": trial.config,
    }


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """JSON knows no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _evaluation(folder: Place) -> dict[str, Any]:
    """Protocol -> what its file says, without the per-emotion detail that the report shows."""
    wanted = ["n", "n_clusters", "winner", "models", "seeds", "metrics", "clean", "adjusted", "opened", "about"]
    wanted.append("clusters")
    documents = {path.stem: json.loads(path.read_bytes()) for path in files.matching(folder, "*.json")}
    return {name: {key: document[key] for key in wanted if key in document} for name, document in documents.items()}


def _one_of_runs(storage: Place, name: str) -> dict[str, Any]:
    from facex_tune.files import DamagedRun
    from facex_tune.store import Run

    try:
        run = Run.open(storage, name)
        events = list(run.events())
        return _heading(run, fold(events), events)
    except (InputError, DamagedRun) as error:  # one damaged run must not hide the others
        return {"run": name, "state": "damaged", "problem": str(error)}
    except OSError as error:
        if error.filename is None:
            raise
        return {"run": name, "state": "damaged", "problem": f"{error.filename}: {error.strerror}"}
