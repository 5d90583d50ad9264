"""An opponent for tests of the protocol: it draws, trains each trial for one epoch, and every second one to the end.

Its `variant` says what else it does: "raises" at its third question, "ends" there, or "repeats" a question for ever.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

PACKAGES = ("pytest",)


class Peer:
    """See `tests/benchmarks/peers/serve.py`."""

    def __init__(self, task: dict[str, Any]) -> None:
        print("a library's greeting")  # is no answer
        self._task, self._random = task, random.Random(task["seed"])
        self._knobs: list[dict[str, Any]] = []
        self._told: dict[int, int] = {}  # epochs, by trial
        self._until: dict[int, int] = {}
        self._costs: dict[int, float] = {}
        self._waiting: list[int] = []
        self._asked = 0
        Path(os.environ["TMPDIR"], "kept.txt").write_text("kept", encoding="utf-8")

    def ask(self) -> tuple[int, int, dict[str, Any]] | None:
        self._asked += 1
        if self._asked > 2 and self._task["variant"] == "raises":
            raise ValueError("this opponent gives up")
        if self._asked > 2 and self._task["variant"] == "ends":
            os._exit(3)
        if self._task["variant"] == "repeats" and self._knobs:
            return 0, 1, self._knobs[0]
        if self._waiting:
            number, until = self._waiting.pop(0), self._task["max_epochs"]
        else:
            number, until = len(self._knobs), 1
            self._knobs.append({knob["name"]: self._drawn(knob) for knob in self._task["knobs"]})
        self._until[number] = until
        return number, until, self._knobs[number]

    def _drawn(self, knob: dict[str, Any]) -> float | int:
        if knob["type"] == "choice":
            return self._random.randrange(knob["options"])
        value = self._random.uniform(knob["low"], knob["high"])
        return value if knob["type"] == "float" else round(value)

    def tell(self, number: int, epoch: int, cost: float) -> bool:
        if self._task["variant"] != "repeats":
            assert epoch == self._told.get(number, 0) + 1, "an epoch was trained twice, or left out"
        assert 0 <= cost <= self._task["crash_cost"]
        self._told[number], self._costs[number] = epoch, cost
        if epoch < self._until[number]:
            return True
        if epoch == 1 and number % 2:
            self._waiting.append(number)
        return False

    def stop(self, number: int, epoch: int, cost: float) -> None:
        assert self._told[number] == epoch
        assert self._costs[number] == cost

    def fail(self, number: int) -> None:
        self._costs[number] = self._task["crash_cost"]

    def best(self) -> int | None:
        return min(self._costs, key=lambda number: (self._costs[number], number)) if self._costs else None
