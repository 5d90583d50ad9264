"""Searching for those who train themselves: what is told is logged, and what cannot be meant is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import facex_tune
from facex_tune import InputError, Search, Suggestion

SAID: dict[str, Any] = {
    "version": 1,
    "name": "own",
    "data": "not_prepared",
    "validation": {"holdout": 0.1},
    "budget": {"trials": 4},
    "fidelity": {"min_epochs": 1, "max_epochs": 3, "reduction": 2},
    "search": {"seed": 3},
    "space": {"model": "resnet", "train": {"lr": {"low": 0.01, "high": 0.3}}},
    "evaluate": {"protocols": ["folder.not_prepared"]},
}


def searching(folder: Path, **changes: Any) -> Search:
    return Search({**SAID, **changes}, "own-1", storage=folder)


def value(trial: Suggestion, epoch: int) -> float:
    return 0.1 * epoch + float(trial.config["train.lr"] or 0)


def trained(search: Search) -> int:
    """Trains every trial to its end; returns how many there were."""
    count = 0
    while (trial := search.ask()) is not None:
        count += 1
        for epoch in range(trial.epochs_done + 1, trial.epochs + 1):
            if not search.tell(trial, value(trial, epoch), epoch=epoch):
                break
    return count


def test_a_search_goes_to_the_end_of_its_budget_and_is_a_run_like_others(tmp_path: Path) -> None:
    search = searching(tmp_path)
    assert trained(search) == 4
    assert search.ask() is None
    assert search.over == "trials"
    run = facex_tune.open_run(tmp_path / "own-1")
    assert run.state == "searched"
    assert set(run.trials.state) == {"finished", "stopped"}
    assert run.best is not None
    assert run.best.value == pytest.approx(run.trials[run.trials.state == "finished"]["macro_f1"].max())
    assert run.best.config == search.run.best.config if search.run.best else False
    with pytest.raises(InputError, match="its search has ended"):
        searching(tmp_path)


@pytest.mark.parametrize("how", [{"scheduler": "asha_promotion"}, {"order": "fixed", "concurrency": 2}])
@pytest.mark.parametrize("epochs", [(1, 2, 3), (2, 3)])
def test_a_trial_that_waits_is_asked_for_again_after_its_last_epoch(
    tmp_path: Path, how: dict[str, Any], epochs: tuple[int, ...]
) -> None:
    """Two at a time, in turn; an epoch may be left out."""
    search = searching(tmp_path, search={"seed": 3, **how}, budget={"trials": 6})
    live: list[Suggestion] = []
    begun: list[int] = []
    refused: list[str] = []
    while not search.over or live or search.run.state != "searched":
        try:
            while len(live) < 2 and (trial := search.ask()) is not None:
                live.append(trial)
                begun.append(trial.number)
        except InputError as error:
            refused.append(str(error))
        if not live:
            break
        trial = live.pop(0)
        left = [epoch for epoch in epochs if epoch > trial.epochs_done]
        for epoch in left:
            if not search.tell(trial, value(trial, epoch), epoch=epoch):
                break
    trials = search.run.trials
    assert sorted(set(begun)) == list(range(6))
    assert len(begun) > 6, "some were asked for again"
    assert all(said.startswith("ask: what comes next depends on t000") for said in refused)
    assert set(trials.state) == {"finished", "stopped"}


def test_a_paused_trial_takes_no_word_before_it_is_asked_for(tmp_path: Path) -> None:
    with searching(tmp_path, search={"seed": 3, "scheduler": "asha_promotion"}) as search:
        first, _ = search.ask(), search.ask()
        assert first is not None
        assert not search.tell(first, 0.5)
        with pytest.raises(InputError, match="t0000 waits after epoch 1; `ask` gives it again, or ends it"):
            search.tell(first, 0.6)


def test_a_process_that_ends_leaves_its_trials_to_the_next(tmp_path: Path) -> None:
    with searching(tmp_path) as search:
        first = search.ask()
        assert first is not None
        assert search.tell(first, 0.5)
        with pytest.raises(InputError, match="is being written by process"):
            searching(tmp_path)
    with pytest.raises(InputError, match="closed"):
        search.ask()
    with searching(tmp_path) as again:
        with pytest.raises(InputError, match="begun by an earlier process"):
            again.tell(first, 0.6)
        resumed = again.ask()
        assert resumed == Suggestion(first.number, first.config, first.seed, 3, epochs_done=1)
        assert again.run.trials.number.tolist() == [0]
        assert trained(again) == 3  # the budget counts the first, which is still under way
        assert again.tell(resumed, 0.7)
        assert not again.tell(resumed, 0.8)
    assert again.run.state == "searched"


def test_the_same_words_give_the_same_suggestions_as_after_a_restart(tmp_path: Path) -> None:
    def suggested(folder: Path, restarts: bool) -> list[Any]:
        found, search = [], searching(folder)
        for _ in range(4):
            trial = search.ask()
            assert trial is not None
            found.append((trial.config, trial.seed))
            search.tell(trial, value(trial, 3), epoch=3)
            if restarts and search.over == "":
                search.close()
                search = searching(folder)
        return found

    found = suggested(tmp_path / "one", False)
    assert found == suggested(tmp_path / "other", True)
    assert len({seed for _, seed in found}) == 4
    assert all(type(seed) is int and 0 <= seed < 2**32 for _, seed in found)


def test_what_cannot_be_meant_is_said_and_nothing_is_logged(tmp_path: Path) -> None:
    with searching(tmp_path, constraints={"accuracy": {"min": 0.2}}) as search:
        with pytest.raises(InputError, match="no such trial; it has none yet"):
            search.tell(0, 0.5)
        trial = search.ask()
        assert trial is not None
        good = {"macro_f1": 0.5, "accuracy": 0.5}
        search.tell(trial, good)
        log = [event["seq"] for event in search.run.stored.events()]
        for words, said in [
            ((7, good), "trial 7: this search has no such trial; it has t0000 to t0000"),
            ((True, good), "no such trial"),
            ((trial, 0.5), "accuracy missing"),
            ((trial, {"accuracy": 0.5}), "macro_f1 missing"),
            ((trial, good | {"accuracy": "high"}), "'high' is no number"),
            ((trial, good | {"mine": math.nan}), "mine is nan; leave it out"),
        ]:
            with pytest.raises(InputError, match=said):
                search.tell(*words)
        for epoch, said in [(1, "epoch 1 comes after epoch 1"), (0, "epoch 0 is none"), (4, "from 1 to 3"),
                            (1.5, "epoch 1.5 is none")]:
            with pytest.raises(InputError, match=said):
                search.tell(trial, good, epoch=epoch)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="no duration"):
            search.tell(trial, good, seconds=-1.0)
        assert [event["seq"] for event in search.run.stored.events()] == log


def test_a_trial_that_ended_takes_no_more(tmp_path: Path) -> None:
    with searching(tmp_path) as search:
        trial = search.ask()
        assert trial is not None
        assert not search.tell(trial, 0.5, epoch=3)
        with pytest.raises(InputError, match="t0000 has finished after epoch 3, and takes no more"):
            search.tell(trial, 0.5)
        with pytest.raises(InputError, match="t0000 has finished"):
            search.fail(trial, "too late")


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_an_objective_that_is_no_finite_number_fails_the_trial(tmp_path: Path, broken: float) -> None:
    with searching(tmp_path) as search:
        trial = search.ask()
        assert trial is not None
        assert not search.tell(trial, broken)
        row = search.run.trials.iloc[0]
        assert (row.state, row.reason, row.detail) == ("failed", "diverged", f"macro_f1 is {broken} in epoch 1")
        with pytest.raises(InputError, match=r"t0000 has failed \(diverged\)"):
            search.tell(trial, 0.5)
        other = search.ask()
        assert other is not None
        search.fail(other, "out of\nmemory")
        assert search.run.trials.iloc[1].detail == "out of memory"


def test_as_many_trials_at_once_as_the_study_allows(tmp_path: Path) -> None:
    with searching(tmp_path, search={"seed": 3, "concurrency": 2}) as search:
        first = search.ask()
        assert first is not None
        assert search.ask() is not None
        with pytest.raises(InputError, match="concurrency is 2, and t0000, t0001 not told of to the end"):
            search.ask()
        search.tell(first, 0.5, epoch=3)
        assert search.ask() is not None


def test_another_study_does_not_go_on_with_a_run(tmp_path: Path) -> None:
    searching(tmp_path).close()
    with pytest.raises(InputError, match="exists with another study"):
        searching(tmp_path, budget={"trials": 5})
