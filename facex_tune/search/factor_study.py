"""The factor study: the winner's variations, each trained alike with the same seeds, on Ray; resumable and budgeted.

The plan is logged once, and a run that is resumed keeps it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

from facex_tune import seeds
from facex_tune.errors import InputError
from facex_tune.runs.events import (
    FactorEpoch,
    FactorFailed,
    FactorFinished,
    FactorRecovered,
    FactorsPlanned,
    FactorStarted,
    StageFinished,
    StageStarted,
)
from facex_tune.runs.history import History
from facex_tune.runs.store import Log, Run
from facex_tune.search import thread_choice
from facex_tune.search.factor_design import Cell, design
from facex_tune.search.factor_progress import STAGE, Asked, Progress, winner_of
from facex_tune.search.fleet import Failed, Finished, Fleet, Order, Recovered, Started, Trained
from facex_tune.search.job import Context, Job
from facex_tune.space import FAMILIES

SEEDS = 3


def factors(run: Run, log: Log, context: Context, asked: Asked) -> None:
    """Plans the study once, then trains what is left of it within the budget.

    Raises:
        InputError: no model was retrained yet, or the study was planned with other seeds or epochs.
    """
    started_s = time.monotonic()
    progress = Progress.of(run.events())
    log.listeners.append(progress.see)
    if progress.plan is None:
        progress.plan = log.append(_planned(run, asked))
    else:
        _same(progress.plan, asked)
    log.append(StageStarted(STAGE, asked.budget_s))
    left = by_cost(progress.left, run.history())
    orders = [_order(run, progress.plan, number, cell, seed) for number, cell, seed in left]
    cell_of = {(number, seed): cell.name for number, cell, seed in left}
    ends_s = None if asked.budget_s is None else started_s + asked.budget_s
    groups = [group for group in thread_choice.of_orders(run, log, context, STAGE, orders) if group]
    for place, group in enumerate(groups):
        if place == 0 or ends_s is None or time.monotonic() < ends_s:  # a session, however short, begins something
            _train(run, log, context, group, cell_of, ends_s)
    undone = len(progress.left)
    log.append(StageFinished(STAGE, f"time, {undone} runs left" if undone else None))


def by_cost(left: list[tuple[int, Cell, int]], history: History) -> list[tuple[int, Cell, int]]:
    """Sorts (number, cell, seed) into the order of training: first the reference, then parts, then knobs, and among
    each the quick models first, because a budget that ends then leaves the most whole comparisons. A model that the
    search never trained comes last.
    """
    pace = images_per_second(history)

    def key(run: tuple[int, Cell, int]) -> tuple[int, float]:
        cell = run[1]
        return _place(cell), -pace.get(str(cell.config["model"]), 0.0)

    return sorted(left, key=key)  # stable: a cell's seeds stay together


def _place(cell: Cell) -> int:
    if not cell.changed:
        return 0
    return 1 if set(cell.changed) <= set(FAMILIES) else 2


def images_per_second(history: History) -> dict[str, float]:
    """Measures how fast each model trained in the search: the median over its trials' first epochs. Every trial has a
    first epoch, and progressive faces are equally small in it.
    """
    told: dict[str, list[float]] = {}
    for trial in history.trials.values():
        speed = trial.epochs[min(trial.epochs)].get("train_images_per_second") if trial.epochs else None
        if speed is not None:
            told.setdefault(str(trial.config["model"]), []).append(speed)
    return {model: statistics.median(each) for model, each in told.items()}


def _planned(run: Run, asked: Asked) -> FactorsPlanned:
    history, study = run.history(), run.study
    winner = winner_of(history, run.words)
    cells = design(study, history, history.trials[winner].config)
    return FactorsPlanned(
        reference=winner,
        seeds=asked.seeds or SEEDS,
        epochs=asked.epochs or study.fidelity.max_epochs,
        cells=[cell.to_data() for cell in cells],
    )


def _same(plan: Mapping[str, Any], asked: Asked) -> None:
    for name in ("seeds", "epochs"):
        now = getattr(asked, name)
        if now is not None and now != plan[name]:
            raise InputError(
                f"--{name} {now}: this run's factor study was planned with {plan[name]} {name}; leave --{name} out"
            )


def _order(run: Run, plan: Mapping[str, Any], number: int, cell: Cell, seed: int) -> Order:
    checkpoint = str(run.factor_checkpoint(f"{number:03d}", seed))
    job = Job(cell.config, plan["epochs"], seeds.of_factor(run.study.search.seed, seed), checkpoint, logs_epochs=False)
    return Order(number, seed, job, f"{cell.name} seed {seed}", keeps_model=False)


def _train(
    run: Run,
    log: Log,
    context: Context,
    orders: list[Order],
    cell_of: Mapping[tuple[int, int], str],
    ends_s: float | None,
) -> None:
    """
    Args:
        ends_s: when the budget ends, on the monotonic clock.
    """
    with Fleet(orders, context, run.study.resources) as fleet:
        for happened in fleet:
            order = happened.order
            who: tuple[str, int] = cell_of[order.key], order.replicate
            checkpoint = run.factor_checkpoint(f"{order.candidate:03d}", order.replicate)
            match happened:
                case Started():
                    log.tell(FactorStarted(*who))
                case Trained(_, done):
                    log.tell(FactorEpoch(*who, done.epoch, done.metrics, done.seconds))
                case Finished(_, metrics):
                    log.append(FactorFinished(*who, metrics))
                    checkpoint.unlink(missing_ok=True)
                case Failed(_, reason, detail):
                    log.append(FactorFailed(*who, reason, detail))
                    checkpoint.unlink(missing_ok=True)
                case Recovered(_, reason, detail):
                    log.append(FactorRecovered(*who, reason, detail))
            if ends_s is not None and time.monotonic() >= ends_s:
                fleet.stop()
