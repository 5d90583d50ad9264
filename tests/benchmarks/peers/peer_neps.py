"""NePS's PriorBand by its `AskAndTell`.

A flat space: each knob has a value always, and the idle ones are ignored. Conditions can be said as operations of a
pipeline, but then NePS runs another PriorBand, which has a fixed ratio where this one compares densities. Where a study
believes in no prior, PriorBand draws evenly and around the best so far. A failed trial is told with an exception. A
promoted trial names the one before it, and goes on from there. The winner is the trial with the best value told at any
fidelity, as its status names it.
"""

from __future__ import annotations

import random
from typing import Any

import neps
import numpy as np
import torch

PACKAGES = ("neural-pipeline-search", "torch", "numpy")
FIDELITY = "epochs"


class Diverged(Exception):
    """A training that failed."""


class Peer:
    """See `serve`."""

    def __init__(self, task: dict[str, Any]) -> None:
        random.seed(task["seed"])
        np.random.seed(task["seed"])
        torch.manual_seed(task["seed"])
        torch.set_num_threads(1)
        # names of a class's attributes: knobs have dots
        self._names = {f"knob_{place}": knob["name"] for place, knob in enumerate(task["knobs"])}
        knobs = {f"knob_{place}": _parameter(knob) for place, knob in enumerate(task["knobs"])}
        fidelity = neps.IntegerFidelity(task["min_epochs"], task["max_epochs"])
        space = type("Space", (neps.PipelineSpace,), {FIDELITY: fidelity, **knobs})()
        self._neps = neps.AskAndTell(neps.algorithms.priorband(space, eta=task["reduction"]))
        self._running: dict[int, Any] = {}
        self._least: tuple[float, int] | None = None

    def ask(self) -> tuple[int, int, dict[str, Any]]:
        """See `serve`."""
        trial = self._neps.ask()
        number = int(trial.id.partition("_rung_")[0])
        self._running[number] = trial
        return number, int(trial.config[FIDELITY]), {self._names[key]: _plain(trial.config[key]) for key in self._names}

    def tell(self, number: int, epoch: int, cost: float) -> bool:
        """See `serve`."""
        trial = self._running[number]
        if epoch < trial.config[FIDELITY]:
            return True
        self._neps.tell(self._running.pop(number), cost)
        self._least = min(self._least or (cost, number), (cost, number))
        return False

    def fail(self, number: int) -> None:
        """See `serve`."""
        self._neps.tell(self._running.pop(number), Diverged("training diverged"))

    def best(self) -> int | None:
        """See `serve`."""
        return self._least[1] if self._least else None


def _parameter(knob: dict[str, Any]) -> Any:
    believed = {} if knob["prior"] is None else {"prior": knob["prior"], "prior_confidence": knob["confidence"]}
    if knob["type"] == "choice":
        return neps.Categorical(tuple(str(option) for option in range(knob["options"])))
    kind = neps.Integer if knob["type"] == "int" else neps.Float
    return kind(knob["low"], knob["high"], log=knob["log"], **believed)


def _plain(value: Any) -> Any:
    """A choice is the text of its number."""
    if isinstance(value, str):
        return int(value)
    return value.item() if hasattr(value, "item") else value
