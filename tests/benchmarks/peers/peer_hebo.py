"""HEBO by suggest and observe: of whole trainings alone, since it knows no fidelity.

It knows no conditional knobs: each has a value always, and the idle ones are ignored. Suggestions are made for as many
workers as there are, eight at most, and handed out one by one, as Ray Tune's `HEBOSearch` does it. A failed trial is
told as NaN, which `observe` leaves out; one that somebody else has stopped, with its last value. The winner is the
`best_x`.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from hebo.design_space.design_space import DesignSpace
from hebo.optimizers.hebo import HEBO

PACKAGES = ("HEBO", "pymoo", "gpytorch", "torch", "numpy")
TOGETHER = 8


class Peer:
    """See `serve`."""

    def __init__(self, task: dict[str, Any]) -> None:
        random.seed(task["seed"])
        np.random.seed(task["seed"])
        torch.manual_seed(task["seed"])
        torch.set_num_threads(1)
        self._hebo = HEBO(DesignSpace().parse([_parameter(knob) for knob in task["knobs"]]), scramble_seed=task["seed"])
        self._knobs, self._max_epochs = task["knobs"], task["max_epochs"]
        self._together = min(task["workers"], TOGETHER)
        self._waiting: list[Any] = []  # suggested, not handed out
        self._rows: list[Any] = []
        self._least: tuple[float, int] | None = None

    def ask(self) -> tuple[int, int, dict[str, Any]]:
        """See `serve`."""
        if not self._waiting:
            found = self._hebo.suggest(n_suggestions=self._together)
            self._waiting = [found.iloc[[place]] for place in range(len(found))]
        row = self._waiting.pop(0)
        self._rows.append(row)
        knobs = {knob["name"]: _plain(knob, row.iloc[0][knob["name"]]) for knob in self._knobs}
        return len(self._rows) - 1, self._max_epochs, knobs

    def tell(self, number: int, epoch: int, cost: float) -> bool:
        """See `serve`."""
        if epoch < self._max_epochs:
            return True
        self.stop(number, epoch, cost)
        return False

    def stop(self, number: int, epoch: int, cost: float) -> None:
        """See `serve`."""
        self._least = min(self._least or (cost, number), (cost, number))
        self._hebo.observe(self._rows[number], np.array([[cost]]))

    def fail(self, number: int) -> None:
        """See `serve`."""
        self._hebo.observe(self._rows[number], np.array([[np.nan]]))

    def best(self) -> int | None:
        """See `serve`."""
        return self._least[1] if self._least else None


def _parameter(knob: dict[str, Any]) -> dict[str, Any]:
    name = knob["name"]
    if knob["type"] == "choice":
        return {"name": name, "type": "cat", "categories": [str(option) for option in range(knob["options"])]}
    kinds = {("float", False): "num", ("float", True): "pow", ("int", False): "int", ("int", True): "pow_int"}
    return {"name": name, "type": kinds[knob["type"], knob["log"]], "lb": knob["low"], "ub": knob["high"]}


def _plain(knob: dict[str, Any], value: Any) -> float | int:
    return float(value) if knob["type"] == "float" else int(value)
