"""The factor study: the winner's variations, each trained alike with the same seeds, on Ray; resumable and budgeted.

Events of its own: ``factors_planned{reference, seeds, epochs, cells}`` once, then ``factor_finished{cell, seed,
metrics}`` or ``factor_failed{cell, seed, reason, detail}``; ``factor_recovered`` tells what befell one that went on. A
run that is resumed keeps the plan that it logged. Told and not logged: ``factor_started`` and ``factor_epoch``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

from facex_tune import seeds
from facex_tune.errors import InputError
from facex_tune.runs.history import History
from facex_tune.runs.store import Log, Run
from facex_tune.search.factor_design import Cell, design
from facex_tune.search.factor_progress import STAGE, Asked, Progress, winner_of
from facex_tune.search.fleet import Failed, Finished, Fleet, Order, Recovered, Started, Trained
from facex_tune.search.worker import Context, Job
from facex_tune.space import FAMILIES

SEEDS = 3


def factors(run: Run, log: Log, context: Context, asked: Asked) -> None:
    """Plans the study once, then trains what is left of it within the budget.

    Raises:
        InputError: no model was retrained yet, or the study was planned with other seeds or epochs.
    """
    started_s = time.monotonic()
    progress = Progress.of(run.events())
    if progress.plan is None:
        progress.plan = log.append("factors_planned", **_planned(run, asked))
    else:
        _same(progress.plan, asked)
    log.append("stage_started", stage=STAGE, **({} if asked.budget_s is None else {"budget_s": asked.budget_s}))
    left = by_cost(progress.left, run.history())
    orders = [_order(run, progress.plan, number, cell, seed) for number, cell, seed in left]
    cell_of = {(number, seed): cell.name for number, cell, seed in left}
    if orders:
        _train(run, log, context, orders, cell_of, None if asked.budget_s is None else started_s + asked.budget_s)
    undone = len(Progress.of(run.events()).left)
    log.append("stage_finished", stage=STAGE, **({"reason": f"time, {undone} runs left"} if undone else {}))


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
        speed = trial.epochs[min(trial.epochs)].get("images_per_second") if trial.epochs else None
        if speed is not None:
            told.setdefault(str(trial.config["model"]), []).append(speed)
    return {model: statistics.median(each) for model, each in told.items()}


def _planned(run: Run, asked: Asked) -> dict[str, Any]:
    history, study = run.history(), run.study
    winner = winner_of(history, run.name)
    cells = design(study, history, history.trials[winner].config)
    return {
        "reference": winner,
        "seeds": asked.seeds or SEEDS,
        "epochs": asked.epochs or study.fidelity.max_epochs,
        "cells": [cell.to_data() for cell in cells],
    }


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
            who = {"cell": cell_of[order.key], "seed": order.replicate}
            checkpoint = run.factor_checkpoint(f"{order.candidate:03d}", order.replicate)
            match happened:
                case Started():
                    log.tell("factor_started", **who)
                case Trained(_, done):
                    log.tell("factor_epoch", **who, epoch=done.epoch, metrics=done.metrics, seconds=done.seconds)
                case Finished(_, metrics):
                    log.append("factor_finished", **who, metrics=metrics)
                    checkpoint.unlink(missing_ok=True)
                case Failed(_, reason, detail):
                    log.append("factor_failed", **who, reason=reason, detail=detail)
                    checkpoint.unlink(missing_ok=True)
                case Recovered(_, reason, detail):
                    log.append("factor_recovered", **who, reason=reason, detail=detail)
            if ends_s is not None and time.monotonic() >= ends_s:
                fleet.stop()
