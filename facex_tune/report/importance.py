"""Which knobs the search's better trials differ in: observational, and labelled so.

A sampler chose the trials, so that knobs are confounded with each other; effects are what the factor study measures.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from facex_tune.runs.history import before_rungs
from facex_tune.space import Choice, Int, Knob

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from facex_tune.runs.history import History, Trial
    from facex_tune.study import Study

TOP_SHARE = 0.1
MIN_TRIALS = 50  # five in the top tenth, which PED-ANOVA wants


def of_search(study: Study, history: History) -> dict[str, Any]:
    """PED-ANOVA (Watanabe et al., IJCAI 2023) over the trials among which no rung has chosen, at the epoch of the first
    that did: {kind, trials, at_epoch, needed, importances or None}.

    Importances sum to 1; they are None where there are fewer than 50 such trials. `at_epoch` is None where none was
    stopped at a rung: then it is the finished trials, at their end.
    """
    objective = study.objective[0]
    at_epoch, trials = before_rungs(history.trials.values())
    measured = [(trial, _at(trial, at_epoch)[objective]) for trial in trials if objective in _at(trial, at_epoch)]
    values = [value for _, value in measured]
    said: dict[str, Any] = {"kind": "observational", "trials": len(measured), "at_epoch": at_epoch}
    said["needed"] = MIN_TRIALS
    if len(measured) < MIN_TRIALS or len(set(values)) == 1:
        return said | {"importances": None}
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    asked = optuna.create_study(direction="maximize" if study.maximize else "minimize")
    knobs = {name: knob for name, knob in study.space.knobs() if not _is_fixed(knob)}
    for trial, value in measured:
        varied = {name: trial.config[name] for name in knobs if name in trial.config}
        spread = {name: _distribution(knobs[name]) for name in varied}
        asked.add_trial(optuna.trial.create_trial(params=varied, distributions=spread, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = PedAnovaImportanceEvaluator(target_quantile=TOP_SHARE)
        found = get_param_importances(asked, evaluator=evaluator)
    return said | {"importances": {name: float(value) for name, value in found.items()}}


def _at(trial: Trial, epoch: int | None) -> Mapping[str, float]:
    return trial.metrics if epoch is None else trial.epochs[epoch]


def _is_fixed(knob: Knob) -> bool:
    return isinstance(knob, Choice) and len(knob.options) == 1


def _distribution(knob: Knob) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(knob, Choice):
        return CategoricalDistribution(knob.options)
    if isinstance(knob, Int):
        return IntDistribution(knob.low, knob.high, log=knob.log)
    return FloatDistribution(knob.low, knob.high, log=knob.log)
