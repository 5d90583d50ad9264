"""When a search is over: which budget of the study is used up, or that it has settled."""

from __future__ import annotations

from facex_tune.runs.history import FINISHED, History, Trial, keeps
from facex_tune.study import Study

SETTLED = "settled"
NO_MORE = ("trials", SETTLED)  # that end the search with those trials that have begun; others end these, too


def used_up(
    study: Study, *, trials: int, seconds: float, gpu_hours: float, reached: bool, settled: bool = False
) -> str:
    """Names the budget that is used up: "target", "time", "gpu_hours" or "trials", or says "settled"; "" while the
    search may go on.

    Args:
        trials: begun so far.
        seconds: of the search, by the wall clock.
        gpu_hours: that trials have held.
        reached: whether a trial has come to the target.
        settled: whether `search.stop_when_settled` has ended the search.
    """
    budget = study.budget
    if reached:
        return "target"
    if budget.time is not None and seconds >= budget.time:
        return "time"
    if budget.gpu_hours is not None and gpu_hours >= budget.gpu_hours:
        return "gpu_hours"
    if budget.trials is not None and trials >= budget.trials:
        return "trials"
    return SETTLED if settled else ""


def used_up_by(study: Study, history: History) -> str:
    """Names the budget that a search, as the log tells it, has used up; "" where it may go on."""
    trials = history.trials.values()
    return used_up(
        study,
        trials=len(trials),
        seconds=history.search_seconds,
        gpu_hours=sum(trial.seconds for trial in trials) * study.resources.gpus / 3600,
        reached=any(reaches(study, trial) for trial in trials),
        settled=history.settled is not None,
    )


def reaches(study: Study, trial: Trial) -> bool:
    """Whether a trial is good enough to end the search: finished, within every constraint, at the target."""
    target = study.budget.target
    if target is None or trial.state != FINISHED or not keeps(study.bounds, trial.metrics):
        return False
    value = trial.metrics.get(study.objective[0])
    return value is not None and (value >= target if study.maximize else value <= target)
