"""The factor study: the winner's variations, each trained alike with the same seeds, on Ray; resumable and budgeted.

Events of its own: ``factors_planned{reference, seeds, epochs, cells}`` once, then ``factor_finished{cell, seed,
metrics}`` or ``factor_failed{cell, seed, reason, detail}``; ``factor_recovered`` tells what befell one that went on. A
run that is resumed keeps the plan that it logged.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from facex_tune import seeds
from facex_tune.errors import InputError
from facex_tune.history import History
from facex_tune.search import fleet
from facex_tune.search.asked import Asked, Progress
from facex_tune.search.factorial import Cell, design
from facex_tune.search.fleet import Order
from facex_tune.search.worker import Context, Job, Report
from facex_tune.store import Log, Run

STAGE = "factors"
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
    log.append("stage_started", stage=STAGE)
    left = progress.left
    orders = [_order(run, progress.plan, number, cell, seed) for number, cell, seed in left]
    cell_of = {(number, seed): cell.name for number, cell, seed in left}
    if orders:
        _train(run, log, context, orders, cell_of, started_s, asked.budget_s)
    undone = len(Progress.of(run.events()).left)
    log.append("stage_finished", stage=STAGE, **({"reason": f"time, {undone} runs left"} if undone else {}))


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


def winner_of(history: History, name: str) -> int:
    """The first candidate's trial.

    Raises:
        InputError: none was chosen yet.
    """
    if not history.candidates:
        raise InputError(f"run {name!r} has no winner to vary: run `facex-tune retrain {name}` first")
    return min(history.candidates, key=lambda candidate: candidate.rank).trial


def _same(plan: Mapping[str, Any], asked: Asked) -> None:
    for name in ("seeds", "epochs"):
        now = getattr(asked, name)
        if now is not None and now != plan[name]:
            raise InputError(
                f"--{name} {now}: this run's factor study was planned with {plan[name]} {name}; leave --{name} out"
            )


def _order(run: Run, plan: Mapping[str, Any], number: int, cell: Cell, seed: int) -> Order:
    checkpoint = str(run.factor_checkpoint(f"{number:03d}", seed))
    job = Job(cell.config, plan["epochs"], seeds.of_factor(run.study.search.seed, seed), checkpoint)
    return Order(number, seed, job, keeps_model=False)


def _train(
    run: Run,
    log: Log,
    context: Context,
    orders: list[Order],
    cell_of: Mapping[tuple[int, int], str],
    started_s: float,
    budget_s: float | None,
) -> None:
    total, objective = len(orders), run.study.objective[0]
    ended: list[Order] = []

    def told(order: Order, said: str) -> None:
        ended.append(order)
        run.factor_checkpoint(f"{order.candidate:03d}", order.replicate).unlink(missing_ok=True)
        name = cell_of[order.candidate, order.replicate]
        log.tell("note", text=f"factors: {name} seed {order.replicate} {said} | {len(ended)}/{total} runs")

    def on_epoch(order: Order, report: Report) -> None:
        log.tell("factor_epoch", cell=cell_of[order.candidate, order.replicate], seed=order.replicate, **report)

    def on_model(order: Order, metrics: dict[str, float]) -> None:
        cell = cell_of[order.candidate, order.replicate]
        log.append("factor_finished", cell=cell, seed=order.replicate, metrics=metrics)
        told(order, f"{objective} {metrics[objective]:.3f}")

    def on_failed(order: Order, report: Report) -> None:
        cell = cell_of[order.candidate, order.replicate]
        reason, detail = report["failed"], report.get("detail", "")
        log.append("factor_failed", cell=cell, seed=order.replicate, reason=reason, detail=detail)
        told(order, f"failed ({reason})")

    def on_note(order: Order, reason: str, detail: str) -> None:
        cell = cell_of[order.candidate, order.replicate]
        log.append("factor_recovered", cell=cell, seed=order.replicate, reason=reason, detail=detail)

    def go_on() -> bool:
        return budget_s is None or time.monotonic() - started_s < budget_s

    resources = run.study.resources
    fleet.train(orders, context, resources, on_epoch, on_model, on_note, on_failed=on_failed, go_on=go_on)
