"""The order of a search that repeats itself (`search: {order: fixed}`): results are taken in by turns and not as they
arrive.

Every epoch counts as one turn, whatever it takes. A trial holds one of `search.concurrency` places from its start to
its end; a turn is over once the next epoch of every trial that holds a place is known, and its epochs are then taken in
by the trials' numbers. So what a rung and the sampler know follows from the study alone, not from which worker is
quick. Trials train ahead of their turn; only where a trial is compared, and at its end, it waits for those that come
before it, without a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from facex_tune.runs.history import RUNNING, Trial


class Turns:
    """Which epoch of which trial is taken in next.

    Args:
        trials: as the log has them.
        places: trials that hold one at a time.
        start: begins the next trial and gives its number; None: there is none to begin now.
        is_compared: whether a trial must not go on from its last epoch before that was taken in.
        take: takes an epoch of a trial in; returns whether the trial goes on.
    """

    def __init__(
        self,
        trials: Mapping[int, Trial],
        places: int,
        start: Callable[[], int | None],
        is_compared: Callable[[Trial], bool],
        take: Callable[[Trial, int], bool],
    ) -> None:
        self._trials, self._places = trials, places
        self._start, self._is_compared, self._take = start, is_compared, take
        self._turn = 0
        self._since: dict[int, int] = {}  # trials that hold a place -> the turn before their first epoch

    def advance(self) -> None:
        """Takes in every turn that is over."""
        self._fill()
        while self._since and all(self._is_known(number, self._turn + 1) for number in self._since):
            self._turn += 1
            for number in sorted(self._since):
                if not self._take(self._trials[number], self._turn - self._since[number]):
                    del self._since[number]
            self._fill()

    def _fill(self) -> None:
        while len(self._since) < self._places and (number := self._start()) is not None:
            self._since[number] = self._turn

    def _is_known(self, number: int, turn: int) -> bool:
        """Whether a trial's epoch of a turn has been reported or left out, or the trial ended before it."""
        trial, epoch = self._trials[number], turn - self._since[number]
        return epoch <= trial.last_epoch or trial.state != RUNNING

    def has_come(self, number: int) -> bool:
        """Whether it is a trial's turn to go on from its last epoch, or to end there."""
        trial = self._trials[number]
        ahead = number in self._since and self._turn < self._since[number] + trial.last_epoch
        return not ahead or not self._is_compared(trial)

    def ready(self, live: Container[int]) -> list[int]:
        """Lists the trials that can go on and have no worker, the furthest behind first."""
        free = [number for number in self._since if number not in live and self._trials[number].state == RUNNING]
        at = {number: self._since[number] + self._trials[number].last_epoch for number in free if self.has_come(number)}
        return sorted(at, key=lambda number: (at[number], number))

    def __bool__(self) -> bool:
        """Whether a trial holds a place, so that there may be more to do later."""
        return bool(self._since)
