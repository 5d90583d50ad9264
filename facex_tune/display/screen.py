"""The board drawn for a terminal, and its figures as words. Pure: neither terminal nor clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from facex_tune.display.board import Board, Row, UnderWay
from facex_tune.display.table import plain
from facex_tune.display.text import compact, metric, sparkline
from facex_tune.runs.history import FAILED, FINISHED, STOPPED
from facex_tune.runs.names import model_name
from facex_tune.study.words import clock, plural

TALL = 40  # rows of a terminal that has room for more trials
TOP, RUNNING_SHOWN = {False: 5, True: 10}, {False: 6, True: 16}
TOP_CELLS = {False: 8, True: 20}
_TOLD = {"rung": "at a rung", "time": "by time", "gpu_hours": "by GPU-hours", "target": "by the target"}


def headline(board: Board, elapsed_s: float, remaining_s: float | None) -> str:
    """One line: the stage, how much of it is done, how long this session has taken, what the stage will, how fast."""
    parts = [board.stage or "starting"]
    if board.stage == "search":
        parts.append(f"{board.ended}{f'/{board.plan.trials}' if board.plan.trials else ''} trials ended")
    if board.stage == "retrain":
        failed = f", {board.models_failed} failed" if board.models_failed else ""
        parts.append(f"{board.models_done}/{board.plan.models} models{failed}")
    if board.stage == "factors" and board.factors.total:
        parts.append(f"{board.factors.ended}/{board.factors.total} runs")
    parts.append(f"elapsed {clock(elapsed_s)}")
    if remaining_s is not None:
        parts.append(f"about {clock(remaining_s)} left")
    if board.images_per_second:
        parts.append(f"{board.images_per_second:,.0f} images/s")
    return " | ".join(parts)


def under_way(board: Board, now: datetime | None = None) -> list[str]:
    """What runs now in this stage and how far it has come: ``t0003 epoch 4/9 (next: about 40 %)``, of a first epoch
    ``t0004 epoch 0/9 (next: 25s so far)``; empty where nobody has told. Without `now`, finished epochs alone.
    """
    return [
        f"{each.name} epoch {each.epoch}/{each.epochs}{f' (next: {told})' if told else ''}"
        for each in board.under_way
        for told in [_within(each, now, "about {} %", "{} so far")]
    ]


def _within(each: UnderWay, now: datetime | None, share: str, passed: str) -> str:
    """How far into its epoch it is: the share, or before there is an epoch to go by the time; "" where nobody knows."""
    passed_s = None if now is None else each.passed_s(now)
    if now is None or passed_s is None:
        return ""
    percent = each.percent(now)
    return passed.format(clock(passed_s)) if percent is None else share.format(percent)


def _epochs_now(board: Board, now: datetime | None) -> dict[str, str]:
    """For the column of epochs, by name: ``4/9 +40 %``, of a first epoch ``0/9 +25s``."""
    return {
        each.name: f"{each.epoch}/{each.epochs} {_within(each, now, '+{} %', '+{}')}".rstrip()
        for each in board.under_way
    }


def budget(board: Board, searched_s: float) -> str:
    """What is used of each bound that the study sets: ``trials begun 5/24 | time 12m03s/2h00m``."""
    plan = board.plan
    parts = [f"trials begun {len(board.rows)}/{plan.trials}"] if plan.trials else []
    if plan.time_s:
        parts.append(f"time {clock(searched_s)}/{clock(plan.time_s)}")
    if plan.gpu_hours:
        parts.append(f"GPU-hours {board.gpu_hours:.2f}/{plan.gpu_hours:g}")
    if plan.target is not None:
        parts.append(f"target {plan.target:g}, best finished {metric(board.best_finished)}")
    return " | ".join(parts)


def rungs(board: Board) -> str:
    """How many trials came to each rung, and what goes on from there: ``epoch 2: 14 trials, cut 0.312``; all do where
    few have come.
    """
    cuts = {rung.epoch: "" if rung.cut is None else f", cut {metric(rung.cut)}" for rung in board.rungs}
    return " | ".join(f"epoch {rung.epoch}: {plural(rung.seen, 'trial')}{cuts[rung.epoch]}" for rung in board.rungs)


def ends(board: Board) -> str:
    """How trials ended: ``2 finished | 7 stopped at a rung | 2 failed (1 collapsed, 1 diverged)``."""
    counts = board.ends.most_common()
    parts = [f"{count} finished" for (state, _), count in counts if state == FINISHED]
    parts += [f"{count} stopped {_TOLD.get(why, why)}" for (state, why), count in counts if state == STOPPED]
    failed = [(why, count) for (state, why), count in counts if state == FAILED]
    if failed:
        reasons = ", ".join(f"{count} {why}" for why, count in failed)
        parts.append(f"{sum(count for _, count in failed)} failed ({reasons})")
    return " | ".join(parts)


def screen(
    board: Board,
    headline: str,
    searched_s: float = 0.0,
    *,
    ascii_only: bool = False,
    height: int = 25,
    now: datetime | None = None,
) -> RenderableType:
    """The board: headline, budget, rungs, trials or final models, the last notes.

    Args:
        searched_s: what the search has taken, over all its resumes.
        height: the terminal's, in rows.
        now: for how far into its epoch each that runs is; None leaves it out.
    """
    parts: list[RenderableType] = [Text(headline, "bold", no_wrap=True, overflow="ellipsis")]
    if board.stage in ("search", "retrain", "factors"):
        parts += _figures(board, searched_s)
    if board.stage == "search" and board.rows:
        parts.append(_trials_table(board, ascii_only, tall=height >= TALL, now=now))
    elif board.stage == "factors" and board.factors.total:
        parts.append(_cells_table(board, tall=height >= TALL, now=now))
    elif board.models:
        parts.append(_models_table(board, ascii_only, now))
    if board.opened and board.stage == "evaluate":
        parts.append(Text(f"test sets opened: {', '.join(board.opened)}"))
    parts += [Text(note, "dim", no_wrap=True, overflow="ellipsis") for note in board.notes]
    return Group(*parts)


def _figures(board: Board, searched_s: float) -> list[RenderableType]:
    """What is left of the budget, the rungs, how trials ended, what went on after a mishap; empty ones are left out."""
    of_search = {"budget": budget(board, searched_s), "rungs": rungs(board), "ended": ends(board)}
    recovered = ", ".join(f"{count} {why}" for why, count in board.recovered.most_common())
    told = (of_search if board.stage == "search" else {}) | {"went on": recovered}
    table = plain("", "~", stacks=False)
    table.show_header = False
    for name, text in told.items():
        if text:
            table.add_row(Text(name, "dim"), text)
    return [table] if table.row_count else []


def _trials_table(board: Board, ascii_only: bool, *, tall: bool, now: datetime | None) -> Table:
    """The leading trials with their rank, then others that run, each with its curve and its configuration."""
    plan = board.plan
    several = ["front"] if plan.others else []
    objectives = (f">{name}" for name in (plan.objective, *plan.others))
    table = plain("", "trial", "state", *several, ">epoch", *objectives, "", stacks=False)
    table.expand = True  # what the others leave of the width is the configuration's
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    best, front = board.best(TOP[tall]), board.front
    others = [row for row in board.running if row not in best and not row.paused]
    shown = [*best, *others[: RUNNING_SHOWN[tall]]]
    scale, going = _scale([value for row in shown for value in row.values]), _epochs_now(board, now)

    def add(rank: str, row: Row, style: str) -> None:
        values = [metric(row.value), *(metric(row.metrics.get(name)) for name in plan.others)]
        line = sparkline(row.values, *scale, ascii_only=ascii_only)
        config = compact(row.config, plan.knobs)
        on_front = ["*" if row.label in front else ""] if plan.others else []
        epoch = going.get(row.label, f"{row.epoch}/{plan.max_epochs}")
        table.add_row(rank, row.label, row.state, *on_front, epoch, *values, line, config, style=style)

    for rank, row in enumerate(shown, 1):
        if rank > len(best):
            add("", row, "dim")
        else:
            add(str(rank), row, "green" if rank == 1 else "")
    if len(others) > RUNNING_SHOWN[tall]:
        table.add_row("", "...", f"{len(others) - RUNNING_SHOWN[tall]} more running", style="dim")
    return table


def _models_table(board: Board, ascii_only: bool, now: datetime | None) -> Table:
    table = plain("model", ">epoch", f">{board.plan.objective}", "", stacks=False)
    scale = _scale([value for row in board.models.values() for value in row.values])
    going = _epochs_now(board, now)
    for (candidate, seed), row in sorted(board.models.items()):
        name = model_name(candidate, seed, row.on)
        counted = f"{row.epoch}/{board.plan.model_epochs}"
        epoch = row.failed or ("done" if row.done else going.get(name, counted))
        line = sparkline(row.values, *scale, ascii_only=ascii_only)
        table.add_row(name, epoch, metric(row.value), line, style="green" if row.done else "")
    return table


def _cells_table(board: Board, *, tall: bool, now: datetime | None) -> Table:
    """The reference, the configurations measured last, and those in training, each beside the reference."""
    factors, objective = board.factors, board.plan.objective
    table = plain("changed", ">seeds", ">epoch", f">{objective}", ">against reference", stacks=False)
    ended = list(dict.fromkeys(cell for cell, _ in factors.finished))
    training = list(dict.fromkeys(cell for cell, _ in factors.running))
    shown = [cell for cell in ended if cell != "reference" and cell not in training][-TOP_CELLS[tall] :]
    going = _epochs_now(board, now)
    for cell in dict.fromkeys(["reference", *shown, *training]):
        values = factors.values(cell, objective).values()
        mean = sum(values) / len(values) if values else math.nan
        gain = factors.gain(cell, objective)
        epochs = [going[f"{name} seed {seed}"] for name, seed in factors.running if name == cell]
        against = "" if cell == "reference" or math.isnan(gain) else f"{gain:+.3f}"
        seeds = f"{len(values)}/{factors.seeds}"
        table.add_row(cell, seeds, ", ".join(epochs), metric(mean), against, style="dim" if epochs else "")
    return table


def _scale(values: Sequence[float]) -> tuple[float, float]:
    """What sparklines that stand together share: the lowest and the highest value."""
    finite = [value for value in values if math.isfinite(value)]
    return min(finite, default=0.0), max(finite, default=1.0)
