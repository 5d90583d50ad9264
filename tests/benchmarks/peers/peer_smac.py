"""SMAC3's multi-fidelity facade (Hyperband over a random forest's suggestions) by ask and tell.

A budget is a number of epochs, rounded up as SMAC's own example does it. Conditional knobs are conditions of its
ConfigSpace. A failed trial is told with the state CRASHED at a finite `crash_cost`, without which the facade cannot go
on. SMAC asks for a configuration anew at each budget; it goes on from where it was, as a user's checkpoints would let
it. The winner is its incumbent.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer
from smac import MultiFidelityFacade, Scenario
from smac.intensifier.hyperband_utils import get_n_trials_for_hyperband_multifidelity
from smac.runhistory.dataclasses import TrialInfo, TrialValue
from smac.runhistory.enumerations import StatusType

PACKAGES = ("smac", "ConfigSpace", "scikit-learn", "numpy")


class Peer:
    """See `serve`."""

    def __init__(self, task: dict[str, Any]) -> None:
        shape = {"min_budget": task["min_epochs"], "max_budget": task["max_epochs"]}
        # its initial design is a share of the trials that it may have
        trials = get_n_trials_for_hyperband_multifidelity(
            total_budget=task["whole_trainings"] * task["max_epochs"], eta=task["reduction"], **shape
        )
        scenario = Scenario(
            _space(task),
            output_directory=Path(tempfile.gettempdir()),  # of this process alone
            crash_cost=task["crash_cost"],
            n_trials=max(1, int(trials)),
            seed=task["seed"],
            **shape,
        )
        intensifier = MultiFidelityFacade.get_intensifier(scenario, eta=task["reduction"])
        self._smac = MultiFidelityFacade(scenario, intensifier=intensifier, logging_level=False, overwrite=True)
        self._crash_cost = task["crash_cost"]
        self._running: dict[int, TrialInfo] = {}

    def ask(self) -> tuple[int, int, dict[str, Any]] | None:
        """See `serve`."""
        try:
            info = self._smac.ask()
        except StopIteration:  # no configuration is left that it has not seen
            return None
        number = self._smac.runhistory.get_config_id(info.config)
        self._running[number] = info
        knobs = {name: int(value) if isinstance(value, str) else value for name, value in dict(info.config).items()}
        return number, math.ceil(info.budget), knobs

    def tell(self, number: int, epoch: int, cost: float) -> bool:
        """See `serve`."""
        info = self._running[number]
        if epoch < math.ceil(info.budget):
            return True
        self._end(number, TrialValue(cost=cost))
        return False

    def fail(self, number: int) -> None:
        """See `serve`."""
        self._end(number, TrialValue(cost=self._crash_cost, status=StatusType.CRASHED))

    def _end(self, number: int, value: TrialValue) -> None:
        self._smac.tell(self._running.pop(number), value, save=False)

    def best(self) -> int | None:
        """See `serve`."""
        found = self._smac.intensifier.get_incumbents()
        return self._smac.runhistory.get_config_id(found[0]) if found else None


def _space(task: dict[str, Any]) -> ConfigurationSpace:
    space, conditions = ConfigurationSpace(seed=task["seed"]), []
    for knob in task["knobs"]:
        name, default = knob["name"], knob["default"]
        if knob["type"] == "choice":
            space.add(Categorical(name, [str(option) for option in range(knob["options"])], default=str(default)))
        else:
            kind = Integer if knob["type"] == "int" else Float
            space.add(kind(name, (knob["low"], knob["high"]), log=knob["log"], default=default))
        if knob["parent"] is not None:
            conditions.append((name, knob["parent"], str(knob["parent_is"])))
    # where nothing else applies
    for name, parent, value in conditions:
        space.add(EqualsCondition(space[name], space[parent], value))
    return space
