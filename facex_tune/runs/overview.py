"""Runs as plain data: what `runs` and `show` print, in a terminal or as one JSON document.

Reads and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from facex_tune import metrics
from facex_tune.errors import InputError, nearest
from facex_tune.runs.events import RunInterrupted
from facex_tune.runs.history import FAILED, FINISHED, RUNNING, STOPPED, History, Standing
from facex_tune.runs.names import ALL, model_label, trial_label
from facex_tune.storage import files, regular
from facex_tune.storage.files import finite

if TYPE_CHECKING:
    from facex_tune.runs.store import Run
    from facex_tune.storage.files import Place
    from facex_tune.study import Study

VERSION = 1
MARGIN = 0.02  # within which a score without an interval equals another
TRIAL_STATES = (FINISHED, STOPPED, RUNNING, FAILED)
# What a run is: somebody writes it; its last stage broke off; its last stage was that one; all is done; or nothing is.
RUN_STATES = ("running", "interrupted", "searched", "retrained", "evaluated", "finished", "not begun", "damaged")
_AFTER = {"search": "searched", "retrain": "retrained", "evaluate": "evaluated", "report": "finished"}


def of_run(run: Run, *, states: Sequence[str] = (), top: int | None = None) -> dict[str, Any]:
    """Gathers everything that `show` tells of a run.

    Args:
        states: the leaderboard keeps trials of these alone; empty: all.
        top: it keeps so many, with the rank that they have among all.

    Raises:
        InputError: no such state.
    """
    _known("--state", states, TRIAL_STATES)
    history = run.history()
    front = history.pareto(run.study)
    shown = [each for each in history.standings(run.study) if not states or each.trial.state in states]
    return {
        "version": VERSION,
        **_heading(run, history),
        "objective": run.study.objective[0],
        "objectives": list(run.study.objective),
        "constraints": run.study.bounds,
        "matching": len(shown),
        "leaderboard": [
            {**of_standing(standing, run.study), "pareto": standing.trial.number in front} for standing in shown[:top]
        ],
        "models": [
            {"candidate": candidate, "seed": seed, "validation": _finite(metrics)}
            for (candidate, seed), metrics in sorted(history.models.items())
        ],
        "models_on_all": [
            {"name": model_label(trial, seed, ALL), "candidate": trial, "seed": seed}
            for trial, seed in sorted(history.models_on_all)
        ],
        "settled": None if history.settled is None else asdict(history.settled),
        "failed_models": [
            {"candidate": candidate, "seed": seed, "reason": reason}
            for (candidate, seed), reason in sorted(history.failed_models.items())
        ]
        + [
            {"candidate": candidate, "seed": seed, "reason": reason, "on": ALL}
            for (candidate, seed), reason in sorted(history.failed_on_all.items())
        ],
        "evaluation": _evaluation(run.folder / "evaluation"),
    }


def of_trial(run: Run, label: str) -> dict[str, Any]:
    """Gathers what `show` tells of one trial, with each of its epochs.

    Args:
        label: "t0007" or "7".

    Raises:
        InputError: the run has no such trial.
    """
    history = run.history()
    known = {trial.number: trial for trial in history.trials.values()}
    digits = label.removeprefix("t")
    if not digits.isdecimal() or int(digits) not in known:
        last = f"{trial_label(0)} to {trial_label(max(known))}" if known else "none yet"
        raise InputError(f"--trial: run {run.name!r} has no trial {label!r}; it has {last}")
    trial = known[int(digits)]
    standing = next(each for each in history.standings(run.study) if each.trial is trial)
    return {
        "version": VERSION,
        "run": run.name,
        "objective": run.study.objective[0],
        "objectives": list(run.study.objective),
        "constraints": run.study.bounds,
        "max_epochs": run.study.fidelity.max_epochs,
        **of_standing(standing, run.study),
        "curve": [{"epoch": epoch, **_finite(trial.epochs[epoch])} for epoch in sorted(trial.epochs)],
    }


def of_runs(storage: Place, states: Sequence[str] = ()) -> dict[str, Any]:
    """Lists every run of a storage folder, the newest first. A folder that cannot be read is listed with the reason.

    Args:
        states: keeps runs of these alone; empty: all.

    Raises:
        InputError: no such state.
    """
    from facex_tune.runs.store import Run

    _known("--state", states, RUN_STATES)
    runs = [one_of_runs(storage, name) for name in Run.names(storage)]
    kept = [run for run in runs if not states or run["state"] in states]
    return {"version": VERSION, "runs": sorted(kept, key=lambda run: str(run.get("created_utc", "")), reverse=True)}


def _known(option: str, said: Sequence[str], choices: Sequence[str]) -> None:
    for each in said:
        if each not in choices:
            raise InputError(f"{option}: no state named {each!r}; {nearest(each, choices)}")


def _heading(run: Run, history: History) -> dict[str, Any]:
    header, study = run.header, run.study
    counts = Counter(trial.state for trial in history.trials.values())
    created = header["created_utc"]
    updated = history.last["time_utc"] if history.last else created
    return {
        "run": run.name,
        "words": run.words,
        "folder": str(run.folder),
        "study": study.name,
        "data": study.data_text,
        "created_utc": created,
        "updated_utc": updated,
        "age_s": seconds_since(created),
        "idle_s": seconds_since(updated),
        **_standing(run, history),
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
        **({"faces_by_set": by_set} if (by_set := header.get("faces", {}).get("by_set")) else {}),
    }


def _standing(run: Run, history: History) -> dict[str, Any]:
    """The run's state, the stage that it is in or came to, who writes it, and the signal that ended it."""
    from facex_tune.runs import lease

    writer = lease.holder(run.folder)
    broken_off = [stage for stage, state in history.stages.items() if state == "started"]
    stage = next(reversed(broken_off or history.stages), None)
    last = history.last or {}
    if writer is not None:
        state = "running"
    elif stage is None:
        state = "interrupted" if last else "not begun"
    elif broken_off:
        state = "interrupted"
    else:  # the factor study, which may follow any of these, leaves a run as finished as it was
        state = next((said for done, said in reversed(_AFTER.items()) if done in history.stages), "not begun")
    return {
        "state": state,
        "stage": stage,
        "writer": None if writer is None else {"pid": writer["pid"], "host": writer["host"]},
        "signal": last.get("signal") if last.get("type") == RunInterrupted.TYPE else None,
    }


def seconds_since(iso: str) -> float:
    """Says how long ago a time was, not less than 0."""
    return max(0.0, round((datetime.now(UTC) - datetime.fromisoformat(iso)).total_seconds(), 1))


def _best(history: History, study: Study) -> dict[str, Any] | None:
    board = history.standings(study)
    return of_standing(board[0], study) if board and board[0].trial.metrics else None


def of_standing(standing: Standing, study: Study) -> dict[str, Any]:
    """Tells what is a trial's own, and of its configuration `rank`, `repeats` (the trial that stands for it, None for
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
    return {name: finite(value) for name, value in metrics.items()}


def no_better_than_constant(scored: Mapping[str, Any]) -> str:
    """Says that a winner is hardly better, or no better, than one answer for every face, in accuracy or macro-F1: its
    interval over faces, or where there is none a margin, reaches down to what the commonest emotion comes to. "" where
    it is better.

    Args:
        scored: `metrics` and `per_emotion` of a protocol, as `evaluation/<protocol>.json` has them.
    """
    told: dict[str, list[str]] = {"no": [], "hardly": []}
    compared = near_constant(scored)
    for name, constant in compared.items():
        mean = scored["metrics"][name]["mean"]
        words = name.replace("macro_f1", "macro-F1")
        told["hardly" if mean > constant else "no"].append(f"{words} {mean:.3f} to {constant:.3f}")
    kinds = [how for how in told if told[how]]
    if not kinds:
        return ""
    answer, _ = metrics.constant_answer(_support(scored))
    first, *others = kinds
    said = f"{first} better than answering {answer!r} for every face: {', '.join(told[first])}"
    return "; ".join([said, *(f"{how} better: {', '.join(told[how])}" for how in others)])


def near_constant(scored: Mapping[str, Any]) -> dict[str, float]:
    """Of accuracy and macro-F1 those in which a winner is not shown to be better than one answer for every face, and
    what that answer comes to: see `no_better_than_constant`.
    """
    support = _support(scored)
    if not support:
        return {}
    _, constant = metrics.constant_answer(support)
    lows = {name: _low(scored["metrics"][name]) for name in ("accuracy", "macro_f1")}
    return {name: constant[name] for name, low in lows.items() if low <= constant[name]}


def _support(scored: Mapping[str, Any]) -> dict[str, int]:
    return {emotion: row["support"] for emotion, row in scored["per_emotion"].items()}


def _low(score: Mapping[str, Any]) -> float:
    interval = score["interval"]
    return float(interval[0] if interval else score["mean"] - MARGIN)


def _evaluation(folder: Place) -> dict[str, Any]:
    """Protocol -> what its file says, without the per-emotion detail that the report shows."""
    wanted = ["n", "n_clusters", "winner", "models", "seeds", "metrics", "clean", "adjusted", "opened", "about"]
    wanted.append("clusters")
    documents = {path.stem: regular.read_json(path, rooms=1) for path in files.matching(folder, "*.json")}
    return {
        name: {
            **{key: document[key] for key in wanted if key in document},
            "constant": no_better_than_constant(document) if "per_emotion" in document else "",
        }
        for name, document in documents.items()
    }


def one_of_runs(storage: Place, name: str) -> dict[str, Any]:
    """Tells of one run what `of_runs` tells of each; of one that cannot be read, its `problem`."""
    from facex_tune.runs.store import Run
    from facex_tune.storage.files import DamagedRun

    try:
        run = Run.open(storage, name)
        return _heading(run, run.history())
    except (InputError, DamagedRun) as error:  # one damaged run must not hide the others
        return {"run": name, "state": "damaged", "problem": str(error)}
    except OSError as error:
        if error.filename is None:
            raise
        return {"run": name, "state": "damaged", "problem": f"{error.filename}: {error.strerror}"}
