"""A larger budget for a run that exists: what may rise, what is done again, and what is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from facex_tune import cli
from facex_tune.display.board import Board
from facex_tune.display.event_lines import line
from facex_tune.pipeline.raising import raised, stay_stopped
from facex_tune.pipeline.stages import unfinished
from facex_tune.report.findings import _raised
from facex_tune.report.summary import search as search_summary
from facex_tune.runs.events import (
    CandidateChosen,
    EpochDone,
    ModelFinished,
    RunStarted,
    SealedSetOpened,
    StageFinished,
    StageStarted,
    TrialFinished,
    TrialStarted,
)
from facex_tune.runs.history import RUNNING, STOPPED, History
from facex_tune.runs.store import Run
from facex_tune.search import retrain
from facex_tune.storage import files
from tests.records import record
from tests.search.conftest import tiny_study
from tests.search.test_referee import Clock, new_run, play, trials_of

STAGES = ("search", "retrain", "evaluate", "report")


def finished_run(folder: Path, **budget: Any) -> Run:
    """Two trials, the better one retrained with two seeds and scored on a sealed set."""
    run = new_run(folder, tiny_study(budget=budget or {"trials": 2}))
    with run.log() as log:
        log.append(RunStarted(stages=STAGES))
        log.append(StageStarted("search"))
        for trial, value in enumerate((0.4, 0.3)):
            log.append(TrialStarted(trial, {"model": "facex_cnn", "train.lr": value}, "sampler"))
            log.append(EpochDone(trial, 3, {"macro_f1": value}, 1.0))
            log.append(TrialFinished(trial))
        log.append(StageFinished("search", "trials"))
        log.append(StageStarted("retrain"))
        log.append(CandidateChosen(0, 0.4, 1))
        for seed in (0, 1):
            log.append(ModelFinished(0, seed, {"macro_f1": 0.38}))
        log.append(StageFinished("retrain"))
        log.append(StageStarted("evaluate"))
        log.append(SealedSetOpened("synthetic.private", ["t0000-s0"], 70))
        log.append(StageFinished("evaluate"))
        log.append(StageStarted("report"))
        log.append(StageFinished("report"))
    return run


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("budget.trials=1", "budget.trials: 1 is not allowed: a budget may only rise, above the 2 that run 'r' has"),
        ("budget.time=1h", "budget.time: 3600 is not allowed: a budget may only rise, and run 'r' has no such limit"),
        ("search.seed=2", "--set search.seed=2: run 'r' keeps the study that it began with, of which the budget alone"),
        ("name=x", "--set name=x: run 'r' keeps the study that it began with, of which the budget alone may rise (bud"),
        ("budget.trials=many", "budget.trials: 'many' is not allowed: input should be a valid integer"),
        ("budget.trails=4", "budget.trails: unknown key; did you mean trials?"),
        ("budget=4", "--set budget=4: name what rises, for example --set budget.trials=40"),
        ("budget.trials=null", "budget: name at least one of trials, time, gpu_hours, or the search never ends"),
        ("budget.trials", "--set budget.trials: write key=value"),
    ],
)
def test_only_a_budget_may_change_and_only_rise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, said: str
) -> None:
    run = finished_run(tmp_path)
    before = run.events()
    with pytest.raises(SystemExit) as ended:
        cli.main(["resume", "r", "--set", change, "--storage", str(tmp_path)])
    err = capsys.readouterr().err
    assert (ended.value.code, len(err.splitlines())) == (2, 1)
    assert said in err
    assert run.events() == before


def test_a_target_rises_by_becoming_harder(tmp_path: Path) -> None:
    run = finished_run(tmp_path, trials=2, target=0.6)
    assert raised(run, ["budget.trials=3", "budget.target=0.7"]) is not None
    assert raised(run, ["budget.trials=3", "budget.target=null"]) is not None
    with pytest.raises(Exception, match=r"budget\.target: 0\.5 is not allowed: a budget may only rise, above the 0\.6"):
        raised(run, ["budget.trials=3", "budget.target=0.5"])


def test_a_budget_beside_another_that_is_used_up_would_change_nothing(tmp_path: Path) -> None:
    run = finished_run(tmp_path, trials=2, time="1h")
    with pytest.raises(Exception, match=r"budget\.trials: 2 is used up \(2 trials were begun\), so that .* raise it"):
        raised(run, ["budget.time=2h"])
    assert raised(run, ["budget.time=2h", "budget.trials=4"]) is not None


def test_what_is_asked_for_again_changes_nothing(tmp_path: Path) -> None:
    """The same command after an interruption."""
    run = finished_run(tmp_path)
    event = raised(run, ["budget.trials=4"])
    assert event is not None
    with run.log() as log:
        log.append(event)
    assert run.study.budget.trials == 4
    assert run.study_begun.budget.trials == 2
    assert raised(run, ["budget.trials=4"]) is None
    assert unfinished(run.events())[0] == [*STAGES]


def test_candidates_are_chosen_anew_and_a_model_of_one_that_is_chosen_again_stays(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    event = raised(run, ["budget.trials=3"])
    assert event is not None
    with run.log() as log:
        history = run.history()
        log.append(event)
        assert (history.candidates, history.models, history.stages) == ([], {}, {})
        log.append(StageStarted("search"))
        log.append(TrialStarted(2, {"model": "facex_cnn", "train.lr": 0.6}, "sampler"))
        log.append(EpochDone(2, 3, {"macro_f1": 0.5}, 1.0))
        log.append(TrialFinished(2))
        log.append(StageFinished("search", "trials"))
        log.append(StageStarted("retrain"))
        chosen = retrain._candidates(log, history, run.study)
        assert [each.trial for each in chosen] == [2]
        assert history.models == {}, "of the one that is chosen no longer"
        log.append(CandidateChosen(0, 0.4, 2))
        assert set(history.models) == {(0, 0), (0, 1)}


def test_a_choice_that_was_cut_off_after_a_candidate_with_models_is_completed(tmp_path: Path) -> None:
    study = tiny_study(budget={"trials": 2}, retrain={"top": 2, "seeds": 2, "epochs": 2})
    run = new_run(tmp_path / "two", study)
    with run.log() as log:
        for event in finished_run(tmp_path).events():
            log.append(record(event))
        event = raised(run, ["budget.trials=3"])
        assert event is not None
        log.append(event)
        log.append(CandidateChosen(0, 0.4, 1))  # whose models are there, and then the driver was killed
        chosen = retrain._candidates(log, run.history(), run.study)
    assert [each.trial for each in chosen] == [0, 1]


def test_log_and_report_say_that_the_choice_came_after_a_sealed_set_was_opened(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    event = raised(run, ["budget.trials=3"])
    assert event is not None
    with run.log() as log:
        board = Board.of(run.study, History())
        lines: list[str] = []
        log.listeners += [board.see, lambda each: lines.append(line(board, each))]
        log.append(event)
    assert lines == [
        "budget raised: trials 2 → 3; what is chosen from now on is chosen after synthetic.private had been opened"
    ]
    assert board.plan.trials == 3
    assert run.events()[-1]["opened"] == {"synthetic.private": 1}
    (found,) = _raised({"search": search_summary(run, run.history())})
    assert "trials 2 → 3) after sealed sets had been opened: synthetic.private (once)" in found["text"]


def test_where_none_was_opened_nothing_is_held_against_the_choice(tmp_path: Path) -> None:
    assert list(_raised({"search": {"raised_budgets": [{"was": {}, "now": {}, "opened": {}}]}})) == []


# The search goes on


def test_a_search_of_four_that_is_raised_to_nine_is_one_of_nine(tmp_path: Path) -> None:
    whole = new_run(tmp_path / "whole", tiny_study(budget={"trials": 9}))
    run = new_run(tmp_path / "raised", tiny_study(budget={"trials": 4}))
    with whole.log() as log:
        play(whole, log)
    with run.log() as log:
        log.append(StageStarted("search"))
        play(run, log)
        log.append(StageFinished("search", "trials"))
    event = raised(run, ["budget.trials=9"])
    assert event is not None
    with run.log() as log:
        log.append(event)
        play(run, log)
    assert trials_of(run) == trials_of(whole)


def test_a_trial_that_the_budget_stopped_goes_on_where_its_checkpoint_is(tmp_path: Path) -> None:
    run = new_run(tmp_path, tiny_study(budget={"time": 4}))
    with run.log() as log:
        play(run, log, Clock())
    stopped = [trial.number for trial in trials_of(run).values() if trial.state == STOPPED]
    cut = [number for number in stopped if trials_of(run)[number].reason.startswith("budget")]
    assert len(cut) == 1
    event = raised(run, ["budget.time=60", "budget.trials=null"])
    assert event is not None
    assert event.trials == [], "its checkpoint is gone, and to train it again would count epochs twice"
    assert "1 of 1 trial that the earlier budget had stopped cannot go on" in stay_stopped(run, event)
    files.write_bytes(run.trial_checkpoint(cut[0]), b"")
    event = raised(run, ["budget.time=60"])
    assert event is not None
    assert event.trials == cut
    assert stay_stopped(run, event) == ""
    before = trials_of(run)[cut[0]].last_epoch
    with run.log() as log:
        log.append(event)
        assert run.history().trials[cut[0]].state == RUNNING
        play(run, log, Clock())
    assert trials_of(run)[cut[0]].last_epoch > before
    told = [(each["trial"], each["epoch"]) for each in run.events() if each["type"] == "epoch"]
    assert len(told) == len(set(told)), "an epoch is counted twice"
