"""A run as somebody watching it over the network sees it: where it stands, its leaderboard, its curves."""

from __future__ import annotations

from typing import Any

from facex_tune.runs import overview
from facex_tune.runs.history import RUNNING, Trial
from facex_tune.runs.store import Run
from facex_tune.service.manager import Manager
from facex_tune.storage import files
from facex_tune.study import Study

ROWS = 30  # of the leaderboard: enough to watch by
CURVES = 10


def document(manager: Manager, name: str) -> dict[str, Any]:
    """Everything that the page shows of one run."""
    run = manager.open(name)
    history, study = run.history(), run.study
    told = overview.of_run(run, top=ROWS)
    board = history.leaderboard(study)
    return {
        **told,
        "place": manager.place(name),
        "budget": {key: value for key, value in told["budget"].items() if value is not None},
        "curves": _curves(board, study),
        "has_report": (run.folder / "report" / "index.html").is_file(),
        "stamp": stamp(manager, run),
    }


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
