"""How long a run has gone and will go on, from its board and from what happened before. Pure: no clock of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from facex_tune.display.board import Board
from facex_tune.display.outline import Plan
from facex_tune.runs.events import SESSION_EVENTS, StageStarted
from facex_tune.runs.history import History
from facex_tune.study import Study

TELLING = 0.05  # below this share of a stage its pace says little about the rest


@dataclass(frozen=True)
class Past:
    """What had happened before somebody began to watch.

    Attributes:
        searched_s: seconds of searching before the current stage began in this session.
        elapsed_s, stage_s: seconds that this session, and the current stage in it, have taken.
        share: how much of the current stage was done when it began in this session.
    """

    searched_s: float = 0.0
    elapsed_s: float = 0.0
    stage_s: float = 0.0
    share: float = 0.0


@dataclass
class Course:
    """A run's events folded into its board, and into when its session and its stage began.

    Attributes:
        session, stage: when they began; None before the first event says so.
        searched_s, share: as in `Past`.
    """

    board: Board
    history: History = field(default_factory=History)
    session: datetime | None = None
    stage: datetime | None = None
    searched_s: float = 0.0
    share: float = 0.0

    @classmethod
    def of(cls, study: Study) -> Course:
        """The course of a run that has not begun."""
        return cls(Board(Plan.of(study)))

    def see(self, event: Mapping[str, Any]) -> None:
        """Folds the next event in."""
        self.history.see(event)
        self.board.see(event)
        if event["type"] in SESSION_EVENTS:
            self.session = datetime.fromisoformat(event["time_utc"])
        elif event["type"] == StageStarted.TYPE:
            self.stage = datetime.fromisoformat(event["time_utc"])
            self.searched_s = self.history.search_seconds
            self.share = self.board.share_done(self.searched_s) or 0.0

    def past(self, now: datetime | None = None) -> Past:
        """What a view must know of the time before it.

        Args:
            now: when it begins to watch; of a run that nobody writes, when its last event came.
        """
        until = now or datetime.now(UTC)
        begun = (self.session, self.stage)
        elapsed_s, stage_s = (max(0.0, (until - (since or until)).total_seconds()) for since in begun)
        return Past(self.searched_s, elapsed_s, stage_s, self.share)


def remaining_s(board: Board, stage_s: float, searched_s: float, share_before: float) -> float | None:
    """Seconds to go in this stage at its pace so far in this session, and not less than its slowest model needs, or
    until its own budget ends it; None while that would be a guess.

    Args:
        stage_s: seconds that the stage has taken in this session.
        searched_s, share_before: as `Past.searched_s` and `Past.share`.
    """
    paced_s, budget_s = _paced_s(board, stage_s, searched_s, share_before), board.stage_budget_s
    if budget_s is None:
        return paced_s
    rest_s = max(0.0, budget_s - stage_s)
    return rest_s if paced_s is None else min(rest_s, paced_s)


def _paced_s(board: Board, stage_s: float, searched_s: float, share_before: float) -> float | None:
    share = board.share_done(searched_s + stage_s)
    if share is None or share >= 1 or share - share_before < TELLING:
        return None
    paced_s = stage_s * (1 - share) / (share - share_before)
    return max(paced_s, board.slowest_s()) if board.stage == "retrain" else paced_s
