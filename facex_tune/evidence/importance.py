"""Which knobs the search's better trials differ in: observational, and labelled so.

A sampler chose the trials, so that knobs are confounded with each other; effects are what the factor study measures.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from facex_tune.runs.history import FINISHED
from facex_tune.space import Choice, Int, Knob

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from facex_tune.runs.history import History
    from facex_tune.study import Study

TOP_SHARE = 0.1
MIN_FINISHED = 50  # five in the top tenth, which PED-ANOVA wants


def of_search(study: Study, history: History) -> dict[str, Any]:
    """PED-ANOVA (Watanabe et al., IJCAI 2023) over the finished trials: {kind, trials, needed, importances or None}.

    Importances sum to 1; they are None where there are fewer than 50 finished trials.
    """
    finished = [trial for trial in history.trials.values() if trial.state == FINISHED]
    said: dict[str, Any] = {"kind": "observational", "trials": len(finished), "needed": MIN_FINISHED}
    values = [trial.metrics[study.objective[0]] for trial in finished]
    if len(finished) < MIN_FINISHED or len(set(values)) == 1:
        return said | {"importances": None}
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    asked = optuna.create_study(direction="maximize" if study.maximize else "minimize")
    knobs = {name: knob for name, knob in study.space.knobs() if not _is_fixed(knob)}
    for trial, value in zip(finished, values, strict=True):
        varied = {name: trial.config[name] for name in knobs if name in trial.config}
        spread = {name: _distribution(knobs[name]) for name in varied}
        asked.add_trial(optuna.trial.create_trial(params=varied, distributions=spread, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = PedAnovaImportanceEvaluator(target_quantile=TOP_SHARE)
        found = get_param_importances(asked, evaluator=evaluator)
    return said | {"importances": {name: float(value) for name, value in found.items()}}


def _is_fixed(knob: Knob) -> bool:
    return isinstance(knob, Choice) and len(knob.options) == 1


def _distribution(knob: Knob) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(knob, Choice):
        return CategoricalDistribution(knob.options)
    if isinstance(knob, Int):
        return IntDistribution(knob.low, knob.high, log=knob.log)
    return FloatDistribution(knob.low, knob.high, log=knob.log)
