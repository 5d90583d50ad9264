"""A larger budget for a run that exists: what may rise, and what the log is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from facex_tune.errors import InputError, nearest
from facex_tune.runs.events import BudgetRaised
from facex_tune.runs.history import History, is_cut_by_budget
from facex_tune.runs.store import Run
from facex_tune.search import budgets
from facex_tune.study import Study, with_budget, yaml_file
from facex_tune.study.words import plural


def raised(run: Run, sets: Sequence[str]) -> BudgetRaised | None:
    """What ``--set budget.trials=40`` means for a run; None where its budget is that already.

    Raises:
        InputError: something else than the budget is to change, a budget is to fall, or what is raised does not
            suffice for the search to go on.
    """
    before = run.study
    study = with_budget(before, _said(run, before, sets))
    was, now = before.budget.model_dump(), study.budget.model_dump()
    if problems := [line for name in now if (line := _fallen(name, was[name], now[name], before, run.name))]:
        raise InputError(problems)
    if was == now:
        return None
    history = run.history()
    if history.stages.get("search") == "finished" and (used := budgets.used_up_by(study, history)):
        raise InputError(_not_enough(used, study, history))
    return BudgetRaised(was, now, dict(history.opened), _that_go_on(run, history))


def _said(run: Run, study: Study, sets: Sequence[str]) -> dict[str, Any]:
    """The budget as the changes leave it."""
    said: dict[str, Any] = {"budget": study.budget.model_dump()}
    for change in sets:
        key = change.partition("=")[0].strip()
        if key != "budget" and not key.startswith("budget."):
            raise InputError(
                f"--set {change}: run {run.name!r} keeps the study that it began with, of which the budget alone may "
                f"rise ({', '.join(f'budget.{name}' for name in said['budget'])}); for another study start a new run: "
                "facex-tune run STUDY --run NAME"
            )
        yaml_file.apply(said, change)
    if not isinstance(said["budget"], dict):
        raise InputError(f"--set budget={said['budget']!r}: name what rises, for example --set budget.trials=40")
    if strange := [name for name in said["budget"] if name not in type(study.budget).model_fields]:
        known = list(type(study.budget).model_fields)
        raise InputError(f"budget.{strange[0]}: unknown key; {nearest(str(strange[0]), known)}")
    return said["budget"]


def _fallen(name: str, was: float | None, now: float | None, study: Study, run: str) -> str:
    """What is wrong with one key's change; "" where the search has more to do by it, or as much.

    A target is raised by making it harder to reach: upwards where the objective is maximized, else downwards.
    """
    if now == was or now is None:
        return ""
    downwards = name == "target" and not study.maximize
    if was is not None and (now < was if downwards else now > was):
        return ""
    way = "below" if downwards else "above"
    least = f"the {was:g} that run {run!r} has" if was is not None else f"run {run!r} has no such limit"
    rule = f"a budget may only rise, {way} {least}" if was is not None else f"a budget may only rise, and {least}"
    return f"budget.{name}: {now:g} is not allowed: {rule}; or start a new run with facex-tune run STUDY --run NAME"


def _not_enough(used: str, study: Study, history: History) -> str:
    """That another budget than the one that was raised ends the search as well, or that it had settled."""
    if used == budgets.SETTLED:
        assert history.settled is not None
        return (
            f"search.stop_when_settled: {history.settled.told(study.objective[0])}; a larger budget does not open it "
            "again; start a new run, with --set search.stop_when_settled=never"
        )
    spent = {
        "trials": f"{len(history.trials)} trials were begun",
        "time": f"the search has taken {history.search_seconds:.0f} seconds",
        "gpu_hours": "its trials have held GPUs for as long",
        "target": "a trial has reached it",
    }[used]
    value = getattr(study.budget, used)
    return (
        f"budget.{used}: {value:g} is used up ({spent}), so that the search would end before another trial; "
        f"raise it too, with --set budget.{used}=..."
    )


def stay_stopped(run: Run, raised: BudgetRaised) -> str:
    """What to tell of trials that the earlier budget had stopped and that do not go on; "" where all do."""
    stopped = [trial for trial in run.history().trials.values() if is_cut_by_budget(trial)]
    if not (gone := len(stopped) - len(raised.trials)):
        return ""
    are = "it stays" if gone == 1 else "they stay"
    return (
        f"{gone} of {plural(len(stopped), 'trial')} that the earlier budget had stopped cannot go on, since "
        f"{'its checkpoint is' if gone == 1 else 'their checkpoints are'} gone (gc, or a loss of files): {are} as far "
        "as trained, and the raised budget goes to new trials"
    )


def _that_go_on(run: Run, history: History) -> list[int]:
    """The trials that the end of a budget stopped and that need not be trained again: their checkpoint is there, or
    they had not begun.
    """
    return [
        trial.number
        for trial in history.trials.values()
        if is_cut_by_budget(trial) and (not trial.epochs or run.trial_checkpoint(trial.number).is_file())
    ]
