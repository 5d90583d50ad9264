"""What an event is worth as one line of text, where no terminal draws the board. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from facex_tune.display.board import Board
from facex_tune.display.screen import ends
from facex_tune.display.text import metric
from facex_tune.runs.events import (
    BudgetRaised,
    CandidateChosen,
    FactorFailed,
    FactorFinished,
    FactorRecovered,
    LearnedFrom,
    ModelFailed,
    ModelFinished,
    ModelRecovered,
    Note,
    PriorsTaken,
    SealedSetOpened,
    SearchSettled,
    StageFinished,
    StageStarted,
    TrialFailed,
    TrialFinished,
    TrialRecovered,
    TrialStarted,
    TrialStopped,
)
from facex_tune.runs.history import FAILED, Raise, Settled
from facex_tune.runs.names import ALL, model_name, trial_label
from facex_tune.study.words import clock, value_text

DETAIL_SHOWN = 120  # characters of what went wrong; the log has it whole


def line(board: Board, event: Mapping[str, Any], stage_s: float = 0.0) -> str:
    """What an event (already folded into the board) is worth as one line of text; empty for most.

    Args:
        stage_s: seconds that the current stage has taken.
    """
    if event["type"] == StageFinished.TYPE:
        ended_by = f" (ended by its budget: {event['reason']})" if event.get("reason") else ""
        ended_by = " (it had settled)" if event.get("reason") == "settled" else ended_by
        if event["stage"] == "factors" and ended_by:
            ended_by += "; the same command goes on"
        how = f": {ends(board)}" if event["stage"] == "search" and board.ends else ""
        return f"{event['stage']}: done in {clock(stage_s)}{ended_by}{how}"
    writer = _LINES.get(event["type"])
    return writer(board, event) if writer is not None else ""


def _started_line(board: Board, event: Mapping[str, Any]) -> str:
    factors = board.factors
    if event["stage"] != "factors" or not factors.total:
        return f"{event['stage']}: started"
    size = f"{len(factors.cells)} configurations × {_times(factors.seeds, 'seed')} × {_times(factors.epochs, 'epoch')}"
    left = f"{factors.total - factors.ended} of {factors.total} runs left"
    within = f", within {clock(board.stage_budget_s)}" if board.stage_budget_s is not None else ""
    return f"factors: started: {size}, {left}{within}"


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _repeat_line(board: Board, event: Mapping[str, Any]) -> str:
    """Of a trial's start only that it is nothing new."""
    first = event.get("repeats")
    if first is None:
        return ""
    return f"{trial_label(event['trial'])} repeats the configuration of {trial_label(first)} with another seed"


def _trial_line(board: Board, event: Mapping[str, Any]) -> str:
    row = board.row(event["trial"])
    done = f"{board.ended}{f'/{board.plan.trials}' if board.plan.trials else ''} trials"
    at = f"epoch {row.epoch}/{board.plan.max_epochs}"
    if row.state == FAILED:
        return f"{row.label} failed ({_with_detail(row.reason, event.get('detail'))}) {at} | {done}"
    best = board.best(1)
    leader = f" (best {best[0].label} {metric(best[0].value)})" if best else ""
    return f"{row.label} {row.state} {at} {board.plan.objective} {metric(row.value)}{leader} | {done}"


def _with_detail(reason: str, detail: str | None) -> str:
    if not detail:
        return reason
    return f"{reason}: {detail if len(detail) <= DETAIL_SHOWN else detail[:DETAIL_SHOWN] + '...'}"


def _model_line(board: Board, event: Mapping[str, Any]) -> str:
    if event.get("on") == ALL:
        return f"{_model(event)} finished, which validation cannot judge | {_models(board)}"
    value = metric(board.objective(event["metrics"]))
    return f"{_model(event)} finished {board.plan.objective} {value} | {_models(board)}"


def _model_failed_line(board: Board, event: Mapping[str, Any]) -> str:
    return f"{_model(event)} failed ({_with_detail(event['reason'], event.get('detail'))}) | {_models(board)}"


def _model(event: Mapping[str, Any]) -> str:
    return f"model {model_name(event['candidate'], event['seed'], event.get('on'))}"


def _models(board: Board) -> str:
    failed = f", {board.models_failed} failed" if board.models_failed else ""
    return f"{board.models_done}/{board.plan.models} models{failed}"


def _cell(event: Mapping[str, Any]) -> str:
    return f"{event['cell']} seed {event['seed']}"


def _factor_line(board: Board, event: Mapping[str, Any]) -> str:
    """What a run of the factor study came to, beside the reference with the same seed."""
    factors, objective = board.factors, board.plan.objective
    reference = factors.values("reference", objective).get(event["seed"])
    beside = "" if event["cell"] == "reference" or reference is None else f" (reference {metric(reference)})"
    value = metric(board.objective(event["metrics"]))
    return f"{_cell(event)} {objective} {value}{beside} | {factors.ended}/{factors.total} runs"


def _factor_failed_line(board: Board, event: Mapping[str, Any]) -> str:
    why = _with_detail(event["reason"], event.get("detail"))
    return f"{_cell(event)} failed ({why}) | {board.factors.ended}/{board.factors.total} runs"


def _chosen_line(board: Board, event: Mapping[str, Any]) -> str:
    at_search = f"rank {event['rank']}, {metric(event['value'])} at search time"
    return f"{trial_label(event['trial'])} chosen for retraining ({at_search})"


def _recovered_line(board: Board, event: Mapping[str, Any]) -> str:
    """What a guard did for a trial, a model or a run of the factor study that goes on."""
    if "trial" in event:
        who = trial_label(event["trial"])
    elif "cell" in event:
        who = _cell(event)
    else:
        who = _model(event)
    return f"{who} goes on after {_with_detail(event['reason'], event.get('detail'))}"


def _settled_line(board: Board, event: Mapping[str, Any]) -> str:
    settled = Settled(event["left"], event["noise"], event["ended"], event["finished"])
    return f"no further trial begins: {settled.told(board.plan.objective)}"


def _priors_line(board: Board, event: Mapping[str, Any]) -> str:
    said = [f"{name} {value_text(each['prior'])} ({each['confidence']})" for name, each in event["priors"].items()]
    found = ", ".join(said) or "none, for its best trials agree in no range of this study"
    return f"priors from {event['trials']} trials of run {event['run']}: {found}"


def _learned_line(board: Board, event: Mapping[str, Any]) -> str:
    left_out = ", ".join(f"{count} {why}" for why, count in event["left_out"].items())
    return (
        f"learned from {len(event['trials'])} trials of run {event['run']}{f' (left out: {left_out})' * bool(left_out)}"
    )


def _raised_line(board: Board, event: Mapping[str, Any]) -> str:
    raised = Raise(event["was"], event["budget"], event["opened"])
    after = f"; what is chosen from now on is chosen after {', '.join(raised.opened)} had been opened"
    return f"budget raised: {raised}{after * bool(raised.opened)}"


_LINES: dict[str, Callable[[Board, Mapping[str, Any]], str]] = {
    StageStarted.TYPE: _started_line,
    TrialStarted.TYPE: _repeat_line,
    TrialFinished.TYPE: _trial_line,
    TrialStopped.TYPE: _trial_line,
    TrialFailed.TYPE: _trial_line,
    TrialRecovered.TYPE: _recovered_line,
    ModelRecovered.TYPE: _recovered_line,
    FactorFinished.TYPE: _factor_line,
    FactorFailed.TYPE: _factor_failed_line,
    FactorRecovered.TYPE: _recovered_line,
    LearnedFrom.TYPE: _learned_line,
    PriorsTaken.TYPE: _priors_line,
    SearchSettled.TYPE: _settled_line,
    BudgetRaised.TYPE: _raised_line,
    CandidateChosen.TYPE: _chosen_line,
    ModelFinished.TYPE: _model_line,
    ModelFailed.TYPE: _model_failed_line,
    SealedSetOpened.TYPE: lambda board, event: f"test set opened: {event['protocol']}",
    Note.TYPE: lambda board, event: f"note: {event['text']}",
}
