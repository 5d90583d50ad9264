"""The live view: events in, text out, in a terminal and without one."""

from __future__ import annotations

import io
import math
import sys
import threading
import types
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from facex_tune import study
from facex_tune.display import screen as screens
from facex_tune.display import view as view_room
from facex_tune.display.board import Board, Rung
from facex_tune.display.outline import Plan
from facex_tune.display.pace import Past
from facex_tune.display.screen import screen
from facex_tune.display.text import ago, metric, sparkline
from facex_tune.display.view import HEARTBEAT_S, ONE_LINE_S, View
from facex_tune.runs.history import STOPPED, History, Trial
from facex_tune.search.scheduler import Asha
from facex_tune.study.words import clock

PLAN = Plan(objective="macro_f1", trials=4, max_epochs=4, rungs=(1, 2), reduction=2, models=2, model_epochs=8)


def started(trial: int) -> dict[str, Any]:
    return {"type": "trial_started", "trial": trial, "config": {}, "source": "sampler"}


def epoch(trial: int, number: int, value: float, **metrics: float) -> dict[str, Any]:
    metrics = {"macro_f1": value, **metrics}
    return {"type": "epoch", "trial": trial, "epoch": number, "metrics": metrics, "seconds": 1.0}


def ended(trial: int, state: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"trial_{state}", "trial": trial, **fields}


SEARCH = {"type": "stage_started", "stage": "search"}
RETRAIN = {"type": "stage_started", "stage": "retrain"}
STORY = [
    SEARCH,
    started(0),
    started(1),
    epoch(0, 1, 0.2),
    epoch(1, 1, 0.4),
    *(epoch(0, number, 0.2 + number / 10) for number in (2, 3, 4)),
    ended(0, "finished"),
    ended(1, "stopped", epoch=1),
    started(2),
    epoch(2, 1, 0.1),
    ended(2, "failed", reason="diverged", detail="loss is nan"),
    started(3),
]


def board_after(events: list[dict[str, Any]], plan: Plan = PLAN) -> Board:
    board = Board(plan)
    for event in events:
        board.see(event)
    return board


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def lines_of(events: list[dict[str, Any]], plan: Plan = PLAN, step_s: float = 1.0) -> list[str]:
    """What a view without a terminal writes, `step_s` seconds passing before each event."""
    stream, now = io.StringIO(), Clock()
    with View(Board(plan), stream=stream, now=now) as view:
        for event in events:
            now.now_s += step_s
            view(event)
    return stream.getvalue().splitlines()


def text_of(board: Board, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(screen(board, "headline"))
    return console.export_text()


def test_the_board_follows_the_trials() -> None:
    board = board_after(STORY)
    assert board.ended == 3
    assert [row.label for row in board.running] == ["t0003"]
    assert board.rows[0].values == pytest.approx([0.2, 0.4, 0.5, 0.6])


def test_the_best_have_run_longest_then_scored_best_and_never_failed() -> None:
    board = board_after([*STORY, epoch(3, 1, 0.45)])
    assert [row.label for row in board.best(5)] == ["t0000", "t0003", "t0001"]


def test_a_metric_that_is_better_when_smaller_is_ranked_so() -> None:
    plan = Plan(objective="log_loss", trials=2)
    events = [started(0), started(1), epoch(0, 1, 0, log_loss=1.5), epoch(1, 1, 0, log_loss=1.2)]
    assert [row.label for row in board_after(events, plan).best(2)] == ["t0001", "t0000"]


def test_a_trial_that_breaks_a_constraint_ranks_below_those_that_keep_it() -> None:
    plan = Plan(constraints={"worst_class_recall": {"min": 0.3}})
    events = [
        epoch(0, 1, 0.9, worst_class_recall=0.1),
        epoch(1, 1, 0.5, worst_class_recall=0.4),
        ended(0, "finished"),
        ended(1, "finished"),
    ]
    assert [row.label for row in board_after(events, plan).best(2)] == ["t0001", "t0000"]


def test_an_epoch_told_twice_counts_once() -> None:
    board = board_after([started(0), epoch(0, 1, 0.2), epoch(0, 1, 0.2), epoch(0, 2, 0.3)])
    assert board.rows[0].values == [0.2, 0.3]


def test_a_view_that_came_late_or_to_a_newer_log_goes_on() -> None:
    events = [epoch(7, 3, 0.4), ended(8, "failed"), {"type": "brewed_tea"}, ended(7, "finished"), epoch(9, 1, math.nan)]
    lines = lines_of(events)
    assert any(line.startswith("t0007 finished") for line in lines)


def test_the_share_done_counts_epochs_begun() -> None:
    board = board_after([SEARCH, started(0), epoch(0, 1, 0.1), epoch(0, 2, 0.1)])
    assert board.share_done(0.0) == pytest.approx(0.5 / 4)


def test_the_share_done_follows_whichever_budget_ends_first() -> None:
    plan = Plan(trials=4, time_s=100.0)
    assert board_after([SEARCH, started(0), ended(0, "finished")], plan).share_done(80.0) == pytest.approx(0.8)
    assert board_after([SEARCH, started(0), ended(0, "finished")], plan).share_done(10.0) == pytest.approx(0.25)


def test_without_a_terminal_every_end_is_one_line() -> None:
    lines = lines_of(STORY)
    assert lines == [
        "search: started",
        "t0000 finished epoch 4/4 macro_f1 0.600 (best t0000 0.600) | 1/4 trials",
        "t0001 stopped epoch 1/4 macro_f1 0.400 (best t0000 0.600) | 2/4 trials",
        "t0002 failed (diverged: loss is nan) epoch 1/4 | 3/4 trials",
    ]


def test_without_a_terminal_a_long_silence_ends_with_what_runs() -> None:
    events = [SEARCH, started(0), started(1), epoch(0, 1, 0.2), epoch(1, 1, 0.3), epoch(0, 2, 0.3)]
    lines = lines_of(events, step_s=HEARTBEAT_S / 2)
    assert len(lines) == 3  # the stage, and a heartbeat for every second event
    assert lines[1] == "search | 0/4 trials ended | elapsed 45s | running: t0000 epoch 0/4, t0001 epoch 0/4"
    assert lines[2].startswith("search | 0/4 trials ended | elapsed 1m15s | about ")
    assert lines[2].endswith(" | running: t0000 epoch 1/4, t0001 epoch 1/4")


class Heard(io.StringIO):
    """A stream that tells when somebody has written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str, /) -> int:
        written = super().write(text)
        self.written.set()
        return written


def heard_without_an_event(monkeypatch: pytest.MonkeyPatch, silence_s: float) -> str:
    """What a view writes of itself, a trial running, `silence_s` after the last event."""
    monkeypatch.setattr(view_room, "PULSE_S", 0.01)
    stream, now = Heard(), Clock()
    with View(board_after([SEARCH, started(0)]), stream=stream, now=now):
        now.now_s += silence_s
        assert stream.written.wait(60.0), "nothing was written"
    return stream.getvalue()


def test_without_a_terminal_a_silence_ends_although_no_event_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    said = heard_without_an_event(monkeypatch, HEARTBEAT_S)
    assert said == "search | 0/4 trials ended | elapsed 30s | running: t0000 epoch 0/4\n"


def test_a_notebook_s_line_is_renewed_although_no_event_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    assert heard_without_an_event(monkeypatch, ONE_LINE_S) == "\rsearch | 0/4 trials ended | elapsed 2s\n"


def test_the_time_left_is_at_the_pace_of_this_stage() -> None:
    # 10 s an event; 2 of 4 trials are done 50 s after the stage began
    events = [SEARCH, started(0), ended(0, "finished"), started(1), ended(1, "finished"), started(2)]
    stream, now = io.StringIO(), Clock()
    view = View(Board(PLAN), stream=stream, now=now)
    for event in events:
        view(event)
        now.now_s += 10.0
    now.now_s += HEARTBEAT_S
    view(epoch(2, 1, 0.1))  # a quarter of the third trial: share 2.25 / 4 after 90 s
    assert "about 1m10s left" in stream.getvalue()


def test_the_time_left_is_not_less_than_the_slowest_model_needs() -> None:
    """Of two models at once one is done early; the pace of both together would promise the other's end too soon."""
    stream, now = io.StringIO(), Clock()
    view = View(Board(PLAN), stream=stream, now=now)
    view({"type": "stage_started", "stage": "retrain"})
    scores = {"macro_f1": 0.5}
    for number in range(1, 9):
        view({"type": "model_epoch", "candidate": 0, "seed": 0, "epoch": number, "metrics": scores, "seconds": 5.0})
        now.now_s += 5.0
    view({"type": "model_finished", "candidate": 0, "seed": 0, "metrics": scores})
    now.now_s += HEARTBEAT_S
    view({"type": "model_epoch", "candidate": 1, "seed": 0, "epoch": 2, "metrics": scores, "seconds": 35.0})
    assert "about 3m30s left" in stream.getvalue(), "6 epochs of 35 s"


def test_a_resumed_stage_does_not_take_old_work_for_its_pace() -> None:
    stream, now = io.StringIO(), Clock()
    board = board_after([started(0), ended(0, "finished"), started(1), ended(1, "finished")])
    view = View(board, stream=stream, now=now)
    view(SEARCH)
    now.now_s += 60.0
    view(ended(2, "finished"))  # one trial in a minute, one to go
    now.now_s += HEARTBEAT_S
    view(started(3))
    assert "about 1m30s left" in stream.getvalue()


def test_a_resumed_stage_that_has_done_nothing_yet_guesses_no_time() -> None:
    stream, now = io.StringIO(), Clock()
    view = View(board_after([started(0), ended(0, "finished")]), stream=stream, now=now)
    view(SEARCH)
    now.now_s += HEARTBEAT_S
    view(started(1))
    assert "1/4 trials ended" in stream.getvalue()
    assert "about" not in stream.getvalue()


def test_final_models_and_sealed_sets_are_told() -> None:
    events = [
        RETRAIN,
        {"type": "candidate_chosen", "trial": 0, "value": 0.6, "rank": 1},
        {"type": "model_epoch", "candidate": 0, "seed": 0, "epoch": 3, "epochs": 8, "metrics": {"macro_f1": 0.4}},
        {"type": "model_finished", "candidate": 0, "seed": 0, "metrics": {"macro_f1": 0.61}},
        {"type": "model_epoch", "candidate": 0, "seed": 1, "epoch": 3, "epochs": 8, "metrics": {}, "on": "all"},
        {"type": "model_finished", "candidate": 0, "seed": 1, "metrics": {"train_loss": 0.1}, "on": "all"},
        {"type": "stage_finished", "stage": "retrain", "reason": ""},
        {"type": "test_opened", "protocol": "fer2013.private", "models": ["t0000-s0"], "n": 3589},
        {"type": "note", "text": "a remark"},
    ]
    assert lines_of(events) == [
        "retrain: started",
        "t0000 chosen for retraining (rank 1, 0.600 at search time)",
        "model t0000 seed 0 finished macro_f1 0.610 | 1/2 models",
        "model t0000 on all faces finished, which validation cannot judge | 2/2 models",
        "retrain: done in 6s",
        "test set opened: fer2013.private",
        "note: a remark",
    ]


def test_a_final_model_that_failed_is_told_and_is_not_waited_for() -> None:
    failed = {"type": "model_failed", "candidate": 0, "seed": 0, "reason": "diverged", "detail": "loss is nan"}
    epochs = [
        {"type": "model_epoch", "candidate": 0, "seed": seed, "epoch": 4, "metrics": {"macro_f1": 0.4}, "seconds": 9.0}
        for seed in range(2)
    ]
    events = [RETRAIN, *epochs, failed]
    told = "model t0000 seed 0 failed (diverged: loss is nan) | 0/2 models, 1 failed"
    assert lines_of(events) == ["retrain: started", told]
    board = board_after(events)
    assert "retrain | 0/2 models, 1 failed | " in screens.headline(board, 1.0, None)
    assert screens.under_way(board) == ["t0000 seed 1 epoch 4/8"]
    assert [line.split()[3] for line in text_of(board).splitlines() if "seed" in line] == ["diverged", "4/8"]
    assert board.share_done(0.0) == pytest.approx(12 / 16), "nothing more is to come of it"
    assert board.slowest_s() == 4 * 9.0
    some_study = study.parse({"version": 1, "name": "x", "data": "synthetic"})
    resumed = Board.of(some_study, History(failed_models={(0, 0): "diverged"}))
    assert resumed.models[0, 0].failed == "diverged"
    board.see({"type": "model_started", "candidate": 0, "seed": 0})
    assert board.models_failed == 0, "it is tried again"


def test_the_screen_shows_leaders_running_trials_and_notes() -> None:
    text = text_of(board_after([*STORY, epoch(3, 1, 0.3), {"type": "note", "text": "a remark"}]))
    rows = {line.split()[1]: line for line in text.splitlines() if " t000" in line}
    assert [line.split()[:4] for line in rows.values()] == [
        ["1", "t0000", "finished", "4/4"],
        ["2", "t0001", "stopped", "1/4"],
        ["3", "t0003", "running", "1/4"],
    ]
    assert rows["t0000"].split()[5] == "▁▄▆█"
    assert "a remark" in text
    assert "t0002" not in rows


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_tells_budget_rungs_and_ends_within_its_width(width: int) -> None:
    plan = replace(PLAN, time_s=3600.0, gpu_hours=2.0, target=0.7, gpus=0.5, knobs=("model", "train.lr"))
    board = board_after([*STORY, *(epoch(3, number, 0.5, train_images_per_second=1234.0) for number in (1, 2))], plan)
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(screen(board, "headline", 600.0))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    told = " ".join(" ".join(lines).split())
    assert "trials begun 4/4 | time 10m00s/1h00m | GPU-hours 0.00/2 | target 0.7, best finished 0.600" in told
    assert "epoch 1: 4 trials, cut 0.400 | epoch 2: 2 trials" in told
    assert told.count(", cut") == 1, "two are too few to cut one of"
    assert "1 finished | 1 stopped at a rung | 1 failed (1 diverged)" in told


def test_a_rung_tells_what_a_trial_must_reach_there() -> None:
    values = [0.1, 0.5, 0.3, 0.4, 0.2]
    board = board_after([SEARCH, *(epoch(trial, 1, value) for trial, value in enumerate(values))])
    assert board.rungs == [Rung(epoch=1, seen=5, cut=pytest.approx(0.3))]  # three of five go on


def test_the_cut_is_the_one_that_the_scheduler_makes() -> None:
    """Each trial's own value, when it came, against the cut that the board told at that moment."""
    rng = np.random.default_rng(0)
    asha = Asha(min_epochs=1, max_epochs=9, reduction=3, maximize=False)
    board = Board(Plan(objective="log_loss", rungs=tuple(asha.rungs), reduction=3, max_epochs=9))
    told = 0
    for trial in range(40):
        for number in range(1, 9):
            value = float(rng.uniform(1, 2))
            board.see(epoch(trial, number, 0.0, log_loss=value))
            goes_on = asha.goes_on(trial, number, value)
            cuts = {rung.epoch: rung.cut for rung in board.rungs}
            cut = cuts.get(number)
            assert goes_on == (cut is None or value <= cut)
            told += cut is not None
            if not goes_on:
                break
    assert told > 40


def test_nobody_is_compared_with_a_collapsed_trial() -> None:
    """As the scheduler has it: an epoch of one answer for every face after another such."""
    one_answer = {"recall.happy": 1.0, "recall.sad": 0.0}
    board = Board(Plan(objective="macro_f1", rungs=(2,), reduction=3, max_epochs=9))
    for trial, metrics in enumerate(({}, one_answer)):
        for number in (1, 2):
            board.see(epoch(trial, number, 0.1, **metrics))
    assert [rung.seen for rung in board.rungs] == [1]


def test_a_resumed_board_counts_who_went_on_from_a_rung() -> None:
    """Ten trials came to the first rung and five of them went on, the later ones by number."""
    fidelity = {"min_epochs": 1, "max_epochs": 9}
    parsed = study.parse({"version": 1, "name": "x", "data": "synthetic", "fidelity": fidelity})
    history = History()
    for number in range(10):
        lasted = 2 if number >= 5 else 1
        epochs = {each: {"macro_f1": 0.1 + 0.01 * number} for each in range(1, lasted + 1)}
        history.trials[number] = Trial(number, {}, "sampler", state=STOPPED, epochs=epochs)
    board = Board.of(parsed, history)
    board.see(epoch(10, 1, 0.185))  # eleven came: six may go on
    assert board.rungs[0] == Rung(epoch=1, seen=11, cut=pytest.approx(0.17)), "four places"
    board.see(epoch(11, 1, 0.185))
    assert board.rungs[0].cut == pytest.approx(0.19), "six of six went on: the best alone"


def test_the_plan_of_a_study_knows_its_rungs_and_bounds() -> None:
    said = {"budget": {"trials": 5, "time": "1h", "target": 0.7}, "fidelity": {"min_epochs": 2, "max_epochs": 20}}
    parsed = study.parse({"version": 1, "name": "x", "data": "synthetic", **said})
    plan = Plan.of(parsed)
    assert (plan.trials, plan.time_s, plan.target, plan.rungs) == (5, 3600.0, 0.7, (2, 6, 18))
    assert "model.resnet.depth" in plan.knobs
    assert (
        Plan.of(parsed.model_copy(update={"search": parsed.search.model_copy(update={"scheduler": "none"})})).rungs
        == ()
    )


def test_images_per_second_are_those_of_what_runs_now() -> None:
    begun = [epoch(trial, 1, 0.1, train_images_per_second=100.0) for trial in range(3)]
    events = [SEARCH, *begun, ended(0, "finished")]
    assert board_after(events).images_per_second == 200.0
    model = {"type": "model_epoch", "candidate": 1, "seed": 0, "epoch": 1, "metrics": {"train_images_per_second": 50.0}}
    board = board_after([*events, RETRAIN, model])
    assert board.images_per_second == 50.0
    assert "50 images/s" in screens.headline(board, 1.0, None)


def test_ends_are_told_by_reason() -> None:
    events = [SEARCH, *(epoch(trial, 1, 0.1) for trial in range(6))]
    events += [ended(0, "stopped", reason="rung"), ended(1, "stopped", reason="budget: time"), ended(2, "finished")]
    events += [ended(3, "failed", reason="hung"), ended(4, "failed", reason="hung"), ended(5, "failed", reason="error")]
    told = screens.ends(board_after(events))
    assert told == "1 finished | 1 stopped at a rung | 1 stopped by time | 3 failed (2 hung, 1 error)"


def test_what_went_on_after_a_mishap_is_told_and_counted() -> None:
    lost = {"type": "trial_recovered", "trial": 3, "reason": "worker_lost", "detail": "1 of 5 times in epoch 2: gone"}
    halved = {"type": "model_recovered", "candidate": 1, "seed": 0, "reason": "out_of_memory", "detail": "batch 64"}
    events = [SEARCH, started(3), lost, lost, halved]
    assert lines_of(events)[1::2] == [
        "t0003 goes on after worker_lost: 1 of 5 times in epoch 2: gone",
        "model t0001 seed 0 goes on after out_of_memory: batch 64",
    ]
    assert "2 worker_lost, 1 out_of_memory" in text_of(board_after(events))


def test_what_was_learned_from_an_earlier_run_is_told() -> None:
    event = {"type": "learned", "run": "before", "trials": [{}, {}], "left_out": {"of another space": 3}}
    assert lines_of([event]) == ["learned from 2 trials of run before (left out: 3 of another space)"]


def test_the_search_ends_with_how_its_trials_ended() -> None:
    lines = lines_of([*STORY, {"type": "stage_finished", "stage": "search", "reason": "trials"}])
    assert lines[-1] == (
        "search: done in 14s (ended by its budget: trials): 1 finished | 1 stopped at a rung | 1 failed (1 diverged)"
    )


def test_gpu_hours_count_towards_the_share_done() -> None:
    board = board_after([SEARCH, epoch(0, 1, 0.1), epoch(0, 2, 0.1)], Plan(gpu_hours=2 / 3600, gpus=0.5))
    assert board.gpu_hours == pytest.approx(1 / 3600)  # two epochs of a second, half a GPU
    assert board.share_done(0.0) == pytest.approx(0.5)


def test_several_objectives_have_a_column_each_and_their_front_leads() -> None:
    plan = replace(PLAN, others=("accuracy",))
    scores = [(0.5, 0.5), (0.6, 0.4), (0.4, 0.7), (0.55, 0.3)]  # the last one is beaten by the second
    events = [SEARCH, *(epoch(trial, 1, f1, accuracy=accuracy) for trial, (f1, accuracy) in enumerate(scores))]
    board = board_after([*events, *(ended(trial, "finished") for trial in range(4))], plan)
    assert board.front == {"t0000", "t0001", "t0002"}
    rows = [line.split() for line in text_of(board).splitlines() if " t000" in line]
    assert [row[1] for row in rows] == ["t0001", "t0000", "t0002", "t0003"]
    assert rows[0][2:7] == ["finished", "*", "1/4", "0.600", "0.400"]
    assert rows[3][2:6] == ["finished", "1/4", "0.550", "0.300"]


def test_the_screen_counts_the_running_trials_that_it_does_not_show() -> None:
    text = text_of(board_after([SEARCH, *(started(number) for number in range(20))]))
    assert "14 more running" in text


def test_the_screen_shows_final_models_in_training() -> None:
    event = {"type": "model_epoch", "candidate": 3, "seed": 1, "epoch": 5, "epochs": 8, "metrics": {"macro_f1": 0.5}}
    last = text_of(board_after([RETRAIN, event])).splitlines()[-1]
    assert last.split()[:5] == ["t0003", "seed", "1", "5/8", "0.500"]


def test_final_models_run_before_their_first_epoch_ends() -> None:
    events = [RETRAIN, {"type": "model_started", "candidate": 3, "seed": 1}]
    assert screens.under_way(board_after(events)) == ["t0003 seed 1 epoch 0/8"]


# Within an epoch


BEGUN = datetime(2026, 11, 30, 12, tzinfo=UTC)


def at(seconds: float, event: dict[str, Any]) -> dict[str, Any]:
    """The event as it was told so many seconds after BEGUN."""
    return event | {"time_utc": (BEGUN + timedelta(seconds=seconds)).isoformat()}


def after(seconds: float) -> datetime:
    return BEGUN + timedelta(seconds=seconds)


def slow(trial: int, number: int, seconds: float) -> dict[str, Any]:
    return epoch(trial, number, 0.2) | {"seconds": seconds}


def test_a_running_trial_moves_within_its_epoch() -> None:
    """By the seconds of its last epoch, in the first one by the time alone; no event comes between."""
    board = board_after([SEARCH, at(0, started(0)), at(5, started(1)), at(100, slow(0, 1, 100.0))])
    told = [screens.under_way(board, after(seconds)) for seconds in (100, 140, 199, 500)]
    assert [first for first, _ in told] == [
        "t0000 epoch 1/4 (next: about 0 %)",
        "t0000 epoch 1/4 (next: about 40 %)",
        "t0000 epoch 1/4 (next: about 99 %)",
        "t0000 epoch 1/4 (next: about 99 %)",  # nobody knows that it is done before it says so
    ]
    assert [second for _, second in told][:2] == [
        "t0001 epoch 0/4 (next: 1m35s so far)",
        "t0001 epoch 0/4 (next: 2m15s so far)",
    ]


def test_a_clock_that_is_behind_the_log_s_moves_nothing_backwards() -> None:
    board = board_after([SEARCH, at(100, slow(0, 1, 100.0)), at(100, started(1))])
    assert screens.under_way(board, after(40)) == [
        "t0000 epoch 1/4 (next: about 0 %)",
        "t0001 epoch 0/4 (next: 0s so far)",
    ]


def test_who_waits_or_has_no_known_beginning_does_not_move() -> None:
    events = [SEARCH, *(at(10, slow(trial, 1, 10.0)) for trial in range(3)), at(10, slow(3, 4, 10.0))]
    paused = {"type": "trial_paused", "trial": 0, "epoch": 1}
    board = board_after([*events, at(10, paused), slow(2, 2, 10.0)])
    told = ["t0001 epoch 1/4 (next: about 50 %)", "t0002 epoch 2/4", "t0003 epoch 4/4"]
    assert screens.under_way(board, after(15)) == told
    board.see(at(30, paused | {"type": "trial_promoted"}))
    assert screens.under_way(board, after(35))[0] == "t0000 epoch 1/4 (next: about 50 %)"
    board.see(at(40, {"type": "trial_recovered", "trial": 1, "reason": "worker_lost", "detail": "gone"}))
    assert screens.under_way(board, after(43))[1] == "t0001 epoch 1/4 (next: about 30 %)", "it begins its epoch again"
    board.see(at(50, SEARCH))
    assert screens.under_way(board, after(60))[1] == "t0001 epoch 1/4", "another session: it may wait for its worker"


def test_final_models_and_factors_move_within_their_epoch_too() -> None:
    begun = {"type": "model_started", "candidate": 0, "seed": 0}
    board = board_after([RETRAIN, at(0, begun)])
    assert screens.under_way(board, after(61)) == ["t0000 seed 0 epoch 0/8 (next: 1m01s so far)"]
    board.see(at(80, {"type": "model_epoch", "candidate": 0, "seed": 0, "epoch": 1, "metrics": {}, "seconds": 80.0}))
    assert screens.under_way(board, after(100)) == ["t0000 seed 0 epoch 1/8 (next: about 25 %)"]
    begun, later = cell("started", "reference", 0), cell("started", "train.lr=0.1", 1)
    factors = board_after([planned(), FACTORS, at(0, begun), at(1, later)])
    factors.see(at(10, factor_epoch("reference", 0, 1) | {"seconds": 10.0}))
    assert screens.under_way(factors, after(17)) == [
        "reference seed 0 epoch 1/4 (next: about 70 %)",
        "train.lr=0.1 seed 1 epoch 0/4 (next: 16s so far)",
    ]


def test_the_screen_moves_within_an_epoch() -> None:
    def drawn(board: Board, seconds: float) -> str:
        console = Console(file=io.StringIO(), width=100, record=True)
        console.print(screen(board, "headline", now=after(seconds)))
        return console.export_text()

    board = board_after([SEARCH, at(0, started(0)), at(0, started(1)), at(100, slow(0, 1, 100.0))])
    assert "1/4 +40 %" in drawn(board, 140)
    assert "1/4 +60 %" in drawn(board, 160)
    assert "0/4 +2m40s" in drawn(board, 160)
    model = {"type": "model_epoch", "candidate": 0, "seed": 0, "epoch": 1, "metrics": {}, "seconds": 80.0}
    assert "1/8 +25 %" in drawn(board_after([RETRAIN, at(80, model)]), 100)
    factors = board_after([planned(), FACTORS, at(10, factor_epoch("reference", 0, 1) | {"seconds": 10.0})])
    assert "1/4 +70 %" in drawn(factors, 17)


def test_a_view_moves_with_the_clock_that_dates_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal's board, in a notebook's, and in the line that ends a silence."""
    story = [SEARCH, at(0, started(0)), at(100, slow(0, 1, 100.0))]
    stream, now, shown = io.StringIO(), Clock(), list[str]()
    board = board_after(story)
    with View(board, stream=io.StringIO(), now=now, show=shown.append, utc=lambda: after(140)):
        pass
    assert "1/4 +40 %" in shown[0]
    view = View(board, stream=stream, now=now, utc=lambda: after(140))
    view.tell()
    assert stream.getvalue().endswith(" | running: t0000 epoch 1/4 (next: about 40 %)\n")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with View(board, stream=terminal, utc=lambda: after(140)):
        pass
    assert "1/4 +40 %" in terminal.getvalue()


# The factor study


def planned(cells: int = 3, seeds: int = 2, epochs: int = 4) -> dict[str, Any]:
    names = ["reference", *(f"train.lr=0.{number}" for number in range(1, cells))]
    said = [{"name": name, "config": {}, "changed": {}, "knobs_from": {}, "factorial": False} for name in names]
    return {"type": "factors_planned", "reference": 0, "seeds": seeds, "epochs": epochs, "cells": said}


def cell(kind: str, name: str, seed: int, **fields: Any) -> dict[str, Any]:
    return {"type": f"factor_{kind}", "cell": name, "seed": seed, **fields}


def measured(name: str, seed: int, value: float) -> dict[str, Any]:
    return cell("finished", name, seed, metrics={"macro_f1": value})


def factor_epoch(name: str, seed: int, number: int) -> dict[str, Any]:
    metrics = {"macro_f1": 0.1, "train_images_per_second": 100.0}
    return cell("epoch", name, seed, epoch=number, metrics=metrics, seconds=1.0)


FACTORS = {"type": "stage_started", "stage": "factors", "budget_s": 7200.0}
FACTOR_STORY = [
    planned(),
    FACTORS,
    *(cell("started", "reference", seed) for seed in range(2)),
    measured("reference", 0, 0.5),
    measured("reference", 1, 0.4),
    cell("started", "train.lr=0.1", 0),
    cell("recovered", "train.lr=0.1", 0, reason="worker_lost", detail="gone"),
    measured("train.lr=0.1", 0, 0.55),
    cell("started", "train.lr=0.1", 1),
    cell("failed", "train.lr=0.1", 1, reason="diverged", detail="loss is nan"),
    cell("started", "train.lr=0.2", 0),
    factor_epoch("train.lr=0.2", 0, 1),
    {"type": "stage_finished", "stage": "factors", "reason": "time, 2 runs left"},
]


def test_each_run_of_a_factor_study_is_told_beside_the_reference() -> None:
    assert lines_of(FACTOR_STORY) == [
        "factors: started: 3 configurations × 2 seeds × 4 epochs, 6 of 6 runs left, within 2h00m",
        "reference seed 0 macro_f1 0.500 | 1/6 runs",
        "reference seed 1 macro_f1 0.400 | 2/6 runs",
        "train.lr=0.1 seed 0 goes on after worker_lost: gone",
        "train.lr=0.1 seed 0 macro_f1 0.550 (reference 0.500) | 3/6 runs",
        "train.lr=0.1 seed 1 failed (diverged: loss is nan) | 4/6 runs",
        "factors: done in 12s (ended by its budget: time, 2 runs left); the same command goes on",
    ]


def test_a_factor_study_s_silence_ends_with_what_runs_and_what_is_left() -> None:
    lines = lines_of(FACTOR_STORY[:4], step_s=HEARTBEAT_S)
    assert lines[-1] == (
        "factors | 0/6 runs | elapsed 2m00s | about 1h59m left | "
        "running: reference seed 0 epoch 0/4, reference seed 1 epoch 0/4"
    )


def test_a_factor_study_s_time_left_is_its_budget_s_or_at_its_pace_whichever_is_less() -> None:
    stream, now = io.StringIO(), Clock()
    board = board_after([planned(), measured("reference", 0, 0.5)])  # before this session: it tells nothing of its pace
    view = View(board, stream=stream, now=now)
    view(FACTORS)
    now.now_s += 60.0
    view(measured("reference", 1, 0.5))
    view(factor_epoch("train.lr=0.1", 0, 2))  # 1.5 runs in a minute, 2.5 + 1 to go
    now.now_s += HEARTBEAT_S
    view(cell("started", "train.lr=0.1", 1))
    last = stream.getvalue().splitlines()[-1]
    assert last.startswith("factors | 2/6 runs | elapsed 1m30s | about 3m30s left | 100 images/s | ")


def test_the_screen_shows_each_configuration_against_the_reference_with_the_same_seeds() -> None:
    text = text_of(board_after(FACTOR_STORY[:-1]))
    rows = [line.split() for line in text.splitlines()]
    assert rows[-4:] == [
        ["changed", "seeds", "epoch", "macro_f1", "against", "reference"],
        ["reference", "2/2", "0.450"],
        ["train.lr=0.1", "1/2", "0.550", "+0.050"],
        ["train.lr=0.2", "0/2", "1/4", "-"],
    ]
    assert "1 worker_lost" in text


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_in_a_terminal_the_board_is_drawn_and_failures_stay_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with View(Board(PLAN), stream=stream) as view:
        for event in STORY:
            view(event)
    text = stream.getvalue()
    assert "t0002 failed (diverged: loss is nan) epoch 1/4" in text
    assert "3/4 trials" in text
    assert "t0000 finished epoch" not in text  # on the board, not as a line of its own


def notebook_lines(stream: Terminal | io.StringIO, events: list[dict[str, Any]], step_s: float = 1.0) -> list[str]:
    """What the line said, from its first text to its last."""
    now = Clock()
    with View(Board(PLAN), stream=stream, now=now) as view:
        for event in events:
            now.now_s += step_s
            view(event)
    return stream.getvalue().split("\r")[1:]


def test_a_command_in_a_notebook_renews_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    monkeypatch.setenv("TERM", "xterm-color")  # as a notebook says of its cells' commands
    said = notebook_lines(Terminal(), STORY, step_s=ONE_LINE_S)
    assert len(said) == len(STORY)
    assert "\x1b" not in "".join(said)
    assert [line.count("\n") for line in said] == [0] * (len(said) - 1) + [1]  # the last one stays
    assert said[-1].startswith("search | 3/4 trials")
    assert said[-1].rstrip().endswith("best t0000 0.600")
    assert all(
        len(line.rstrip("\n")) >= len(before.rstrip()) for before, line in pairwise(said)
    )  # nothing is left over


def test_a_notebook_kernel_renews_its_line_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    assert len(notebook_lines(io.StringIO(), STORY, step_s=ONE_LINE_S / 4)) == len(STORY) // 4


def test_a_command_whose_output_a_notebook_reads_writes_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    assert lines_of(STORY)[0] == "search: started"


def test_silences_grow_with_the_time_that_has_passed() -> None:
    def beats(elapsed_s: float) -> int:
        stream, now = io.StringIO(), Clock()
        view = View(Board(PLAN), Past(elapsed_s=elapsed_s), stream, now)
        for number in range(500):
            now.now_s += 1.0
            view(epoch(0, number, 0.1))
        return len(stream.getvalue().splitlines())

    assert [beats(0.0), beats(3600.0), beats(36000.0)] == [16, 2, 0]


class Gone(io.StringIO):
    """A pipe whose reader has left."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError


def test_an_output_that_went_away_does_not_stop_the_run() -> None:
    with View(Board(PLAN), stream=Gone()) as view:
        for event in STORY:
            view(event)


def test_a_sparkline_keeps_to_its_width_and_leaves_gaps_for_what_is_no_number() -> None:
    assert sparkline([0.0, math.nan, 1.0], 0.0, 1.0) == "▁ █"
    assert sparkline([0.0, 0.5, 1.0], 0.0, 1.0, ascii_only=True).isascii()
    assert len(sparkline([0.1] * 99, 0.1, 0.1)) == 16


def test_durations_and_metrics_read_well() -> None:
    assert [clock(seconds) for seconds in (0, 42.4, 187, 7500)] == ["0s", "42s", "3m07s", "2h05m"]
    assert [ago(seconds) for seconds in (12.3, 200, 7500, 200_000)] == ["12s", "3m", "2h", "2d"]
    assert [metric(value) for value in (None, math.nan, 0.12345)] == ["-", "-", "0.123"]
