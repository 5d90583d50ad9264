"""Syne Tune's ASHA with a model of its own on what the rungs know (conformal quantile regression, or BORE), by its
scheduler's methods in the order in which its `Tuner` calls them.

It knows no conditional knobs: each has a value always, and the idle ones are ignored. A failed trial is told by
`on_trial_error`. ASHA stops trials and never takes them up again. The winner is the trial with the best value that was
ever told, as the `Tuner` finds it.
"""

from __future__ import annotations

import datetime
import random
from typing import Any

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.baselines import ASHABORE, ASHACQR
from syne_tune.optimizer.scheduler import SchedulerDecision

PACKAGES = ("syne-tune", "scikit-learn", "xgboost", "numpy")
SCHEDULERS = {"cqr": ASHACQR, "bore": ASHABORE}


class Peer:
    """See `serve`."""

    def __init__(self, task: dict[str, Any]) -> None:
        random.seed(task["seed"])
        np.random.seed(task["seed"])  # brackets are drawn from it
        self._space = {knob["name"]: _domain(knob) for knob in task["knobs"]}
        self._scheduler = SCHEDULERS[task["variant"]](
            config_space=self._space,
            metric="cost",
            time_attr="epoch",
            max_t=task["max_epochs"],
            grace_period=task["min_epochs"],
            reduction_factor=task["reduction"],
            do_minimize=True,
            random_seed=task["seed"],
        )
        self._max_epochs = task["max_epochs"]
        self._trials: dict[int, Trial] = {}
        self._least: tuple[float, int] | None = None

    def ask(self) -> tuple[int, int, dict[str, Any]] | None:
        """See `serve`."""
        found = self._scheduler.suggest()
        if found is None:
            return None
        number = len(self._trials)
        trial = Trial(trial_id=number, config=found.config, creation_time=datetime.datetime.now())
        self._trials[number] = trial
        self._scheduler.on_trial_add(trial)
        knobs = {name: value.item() if hasattr(value, "item") else value for name, value in found.config.items()}
        return number, self._max_epochs, knobs

    def tell(self, number: int, epoch: int, cost: float) -> bool:
        """See `serve`."""
        trial = self._trials[number]
        self._least = min(self._least or (cost, number), (cost, number))
        says = self._scheduler.on_trial_result(trial, {"cost": cost, "epoch": epoch})
        if says == SchedulerDecision.STOP:
            self._scheduler.on_trial_remove(trial)
            return False
        return True

    def fail(self, number: int) -> None:
        """See `serve`."""
        self._scheduler.on_trial_error(self._trials[number])

    def best(self) -> int | None:
        """See `serve`."""
        return self._least[1] if self._least else None


def _domain(knob: dict[str, Any]) -> Any:
    if knob["type"] == "choice":
        return choice(list(range(knob["options"])))
    kinds = {"int": (randint, lograndint), "float": (uniform, loguniform)}
    return kinds[knob["type"]][knob["log"]](knob["low"], knob["high"])
