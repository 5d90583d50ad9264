"""How many workers a job may lose before it is given up: the one count for trials, final models and factor runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

WORKER_LOSSES = 5  # in one epoch; a sixth worker would be lost to it too


@dataclass(frozen=True)
class Loss:
    """What the loss of a worker means for its job.

    Attributes:
        left: how many more the job may lose in this epoch; below 0 it is given up.
        reason: "worker_lost" where the job goes on, else "out_of_memory" or "error".
        detail: one line for a person.
    """

    left: int
    reason: str
    detail: str

    @property
    def gives_up(self) -> bool:
        return self.left < 0


class WorkerLosses:
    """Counts the workers that each job has lost since its last epoch."""

    def __init__(self) -> None:
        self._lost: Counter[Hashable] = Counter()

    def trained(self, job: Hashable) -> None:
        """Takes in that a job came to the end of an epoch: its count begins again."""
        self._lost[job] = 0

    def lose(self, job: Hashable, cause: str, epoch: str) -> Loss:
        """Takes in that a job's worker was lost.

        Args:
            cause: what Ray says of it.
            epoch: when it was, as a person knows it: "epoch 3", "one epoch".
        """
        self._lost[job] += 1
        times = self._lost[job]
        left = WORKER_LOSSES - times
        if left < 0:
            reason = "out_of_memory" if "memory" in cause else "error"
            return Loss(left, reason, f"its worker was lost {times} times in {epoch}: {cause}")
        return Loss(left, "worker_lost", f"{times} of {WORKER_LOSSES} times in {epoch}: {cause}")
