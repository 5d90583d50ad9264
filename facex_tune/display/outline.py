"""What a run intends: enough of its study to say, while it goes on, how far it has come. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from facex_tune.metrics import MAXIMIZE
from facex_tune.search import scheduler
from facex_tune.space import is_fixed

if TYPE_CHECKING:
    from facex_tune.study import Study


@dataclass(frozen=True)
class Plan:
    """What the run intends: enough to say how far it has come.

    Attributes:
        objective, others: what is compared first, and what else is.
        trials, time_s, gpu_hours, target: the search's budget, None where the study sets no bound of that kind.
        gpus: what one trial holds.
        rungs, reduction: epochs at which one in `reduction` goes on; none where trials are not compared so.
        knobs: what may differ between trials.
        models, model_epochs: final models to train, and epochs of each.
    """

    objective: str = "macro_f1"
    others: tuple[str, ...] = ()
    constraints: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    trials: int | None = None
    time_s: float | None = None
    gpu_hours: float | None = None
    target: float | None = None
    gpus: float = 0.0
    max_epochs: int = 1
    rungs: tuple[int, ...] = ()
    reduction: int = 1
    knobs: tuple[str, ...] = ()
    models: int = 0
    model_epochs: int = 1

    @property
    def sign(self) -> float:
        """Times this, a smaller value of the objective is the better one."""
        return -1.0 if MAXIMIZE[self.objective] else 1.0

    @classmethod
    def of(cls, study: Study) -> Plan:
        """What a study intends."""
        plan = cls(
            objective=study.objective[0],
            others=study.objective[1:],
            constraints=study.bounds,
            gpus=study.resources.gpus,
            max_epochs=study.fidelity.max_epochs,
            rungs=tuple(getattr(scheduler.build(study), "rungs", ())),
            reduction=study.fidelity.reduction,
            knobs=tuple(name for name, knob in study.space.knobs() if not is_fixed(knob)),
            models=study.n_final_models,
            model_epochs=study.final_epochs,
        )
        return plan.with_budget(study.budget.model_dump())

    def with_budget(self, budget: Mapping[str, Any]) -> Plan:
        """The plan with another budget, as the study has it."""
        left = {name: budget[name] for name in ("trials", "gpu_hours", "target")}
        return replace(self, **left, time_s=budget["time"])
