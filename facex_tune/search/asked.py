"""What a user asks of the factor study, and how far it has come. Apart from it, so that both are read without Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from facex_tune.errors import InputError
from facex_tune.search.factorial import Cell


@dataclass(frozen=True)
class Asked:
    """None takes the default, or what the run planned before.

    Attributes:
        seeds: replicates of each configuration.
        epochs: of each; fidelity.max_epochs by default.
        budget_s: wall clock of this session; what is not reached waits for the next.
    """

    seeds: int | None = None
    epochs: int | None = None
    budget_s: float | None = None

    @staticmethod
    def seconds(said: str | None) -> float | None:
        """``2h``, ``45m`` or plain seconds.

        Raises:
            InputError: no duration, or none that lasts.
        """
        from facex_tune import study

        try:
            budget_s = study.seconds(float(said) if said and said.replace(".", "", 1).isdecimal() else said)
        except ValueError as error:
            raise InputError(f"--time: {error}") from error
        if budget_s is not None and budget_s <= 0:
            raise InputError(f"--time {said}: a budget lasts longer than nothing, such as 30m or 2h")
        return None if budget_s is None else float(budget_s)


@dataclass
class Progress:
    """What the log says of the study: its plan, and what came of each (cell, seed)."""

    plan: dict[str, Any] | None = None
    finished: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    failed: dict[tuple[str, int], str] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[Mapping[str, Any]]) -> Progress:
        progress = cls()
        for event in events:
            if event["type"] == "factors_planned":
                progress.plan = dict(event)
            elif event["type"] == "factor_finished":
                progress.finished[event["cell"], event["seed"]] = dict(event["metrics"])
            elif event["type"] == "factor_failed":
                progress.failed[event["cell"], event["seed"]] = event["reason"]
        return progress

    @property
    def cells(self) -> list[Cell]:
        return [Cell.from_data(each) for each in self.plan["cells"]] if self.plan else []

    @property
    def left(self) -> list[tuple[int, Cell, int]]:
        """(number, cell, seed) still to be trained: cell after cell, so that a cut budget leaves whole comparisons."""
        assert self.plan is not None
        return [
            (number, cell, seed)
            for number, cell in enumerate(self.cells)
            for seed in range(self.plan["seeds"])
            if (cell.name, seed) not in self.finished and (cell.name, seed) not in self.failed
        ]
