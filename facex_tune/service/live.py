"""A run as somebody watching it over the network sees it: where it stands, its leaderboard, its curves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from facex_tune.display import pace, screen
from facex_tune.display.board import Board
from facex_tune.runs import overview
from facex_tune.runs.history import RUNNING, Trial
from facex_tune.runs.store import Run
from facex_tune.service.held import Held, Looked
from facex_tune.service.manager import Manager
from facex_tune.storage import files
from facex_tune.storage.files import finite
from facex_tune.study import Study

ROWS = 30  # of the leaderboard: enough to watch by
CURVES = 10
WRITTEN = ("going", "elsewhere")  # places of a run that somebody writes


def document(held: Held, name: str) -> dict[str, Any]:
    """Everything that the page shows of one run."""
    with held.run(name) as looked:
        run, manager = looked.run, held.manager
        marked, place = stamp(manager, run), manager.place(name)
        history, study = run.history(), run.study
        told = overview.of_run(run, top=ROWS)
        board = history.leaderboard(study)
        return {
            **told,
            "place": place,
            "progress": _progress(looked, is_written=place in WRITTEN),
            "budget": {key: value for key, value in told["budget"].items() if value is not None},
            "curves": _curves(board, study),
            "has_report": (run.folder / "report" / "index.html").is_file(),
            "stamp": marked,
        }


def _progress(looked: Looked, *, is_written: bool) -> dict[str, Any]:
    """What `show --follow` tells: stage, how long it has gone and will, how fast, rungs, and how trials ended.

    `elapsed_s` and `stage_s` are this session's; of a run that nobody writes they end with its last event.
    """
    course = looked.course()
    board, last = course.board, course.history.last
    past = course.past(None if is_written or last is None else _time(last))
    searched_s = past.searched_s + (past.stage_s if board.stage == "search" else 0.0)
    share = board.share_done(searched_s)
    left_s = pace.remaining_s(board, past.stage_s, past.searched_s, past.share) if is_written else None
    return {
        "stage": board.stage,
        "elapsed_s": round(past.elapsed_s, 1),
        "stage_s": round(past.stage_s, 1),
        "remaining_s": None if left_s is None else round(left_s, 1),
        "share": None if share is None else round(share, 4),
        "images_per_second": round(board.images_per_second, 1) if is_written else 0.0,
        "models": {"done": board.models_done, "failed": board.models_failed, "of": board.plan.models},
        "used": screen.budget(board, searched_s),
        "rungs": [{"epoch": rung.epoch, "seen": rung.seen, "cut": finite(rung.cut)} for rung in board.rungs],
        "ended": screen.ends(board),
        "went_on": dict(board.recovered),
        "under_way": screen.under_way(board) if is_written else [],
        "epochs_now": _epochs_now(board) if is_written else [],
        "opened": list(board.opened),
        "notes": list(board.notes),
    }


def _epochs_now(board: Board) -> list[dict[str, Any]]:
    """What runs, as `screen.under_way`, and figures by which the page goes on counting between two events: seconds
    since its epoch began, and those of its last epoch; None and 0 where there is none.
    """
    now = datetime.now(UTC)
    return [
        {
            "name": each.name,
            "epoch": each.epoch,
            "epochs": each.epochs,
            "passed_s": None if (passed_s := each.passed_s(now)) is None else round(passed_s, 1),
            "epoch_s": round(each.epoch_s, 1),
        }
        for each in board.under_way
    ]


def _time(event: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time_utc"])


def _curves(board: list[Trial], study: Study) -> list[dict[str, Any]]:
    """The objective by epoch, of the best trials and of those that are running."""
    objective = study.objective[0]
    shown = [*board[:CURVES], *(trial for trial in board[CURVES:] if trial.state == RUNNING)]
    return [
        {
            "trial": trial.label,
            "state": trial.state,
            "epochs": sorted(trial.epochs),
            "values": [trial.epochs[epoch].get(objective) for epoch in sorted(trial.epochs)],
        }
        for trial in shown
        if trial.epochs
    ]


def stamp(manager: Manager, run: Run) -> str:
    """Changes whenever `document` may have: cheap enough to ask each second."""
    sizes = [f"{segment.name}:{n_bytes}" for segment, n_bytes in files.sizes(run.folder / "events").items()]
    return " ".join([manager.place(run.name), *sizes])
