"""The project's own search on a simulated clock: its referee, searcher and scheduler as they are."""

from __future__ import annotations

from facex_tune.errors import InputError
from facex_tune.runs.history import FAILED, FINISHED, STOPPED, Trial
from facex_tune.runs.memory import MemoryLog, MemoryRun
from facex_tune.search import retrain
from facex_tune.search.referee import Referee
from facex_tune.search.searcher import AHEAD_FROM_SLOTS
from facex_tune.search.worker_report import Epoch, Failure
from facex_tune.simulation.clock import Clock, Started
from facex_tune.space import Config
from facex_tune.study import Study


class Ours:
    """See `clock.Searching`."""

    def __init__(self, study: Study, clock: Clock, workers: int) -> None:
        self._run = MemoryRun("simulated", study)
        log = MemoryLog(self._run, clock)
        self._referee = Referee(self._run, log, clock, ahead=workers >= AHEAD_FROM_SLOTS)
        self._best: Config | None = None
        self._any_finished = False
        self._is_stale = False  # a trial has ended that can change the choice

    @property
    def trials(self) -> dict[int, Trial]:
        """The trials so far, by number."""
        return self._referee.trials

    def start(self) -> Started | None:
        """See `Searching`."""
        trial = self._referee.next_trial()
        if self._referee.fatal is not None:
            raise self._referee.fatal
        if trial is None:
            return None
        self._referee.worker_began(trial.number)
        return Started(trial.number, trial.config, trial.last_epoch)

    def epoch(self, number: int, epoch: int, scores: dict[str, float], seconds: float) -> bool:
        """See `Searching`."""
        goes_on = self._referee.take(number, Epoch(epoch, scores, seconds, "simulated"))
        if not goes_on:
            self._note(number)
        return goes_on

    def fail(self, number: int, reason: str, seconds: float) -> None:
        """See `Searching`."""
        self._referee.take(number, Failure(reason, "simulated", seconds))

    def _note(self, number: int) -> None:
        """Whether the trial that has ended can change what would be chosen."""
        state, study = self._referee.trials[number].state, self._referee.study
        self._any_finished = self._any_finished or state == FINISHED
        is_behind = state == STOPPED and self._any_finished and not study.bounds
        self._is_stale = self._is_stale or not (state == FAILED or is_behind)

    def best(self) -> Config | None:
        """See `Searching`."""
        if self._is_stale:
            self._is_stale = False
            try:
                self._best = retrain.choose(self._run.history(), self._referee.study)[0].config
            except InputError:  # nothing has ended yet
                self._best = None
        return self._best
