"""The searcher: what it suggests depends on the log, and a replay of the log says it all."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from optuna.samplers import TPESampler

from facex_tune.runs.history import FAILED, FINISHED, STOPPED, Trial
from facex_tune.search import samplers
from facex_tune.search.searcher import Searcher
from facex_tune.space import Config
from facex_tune.study import Study
from tests.search.conftest import tiny_study

Event = dict[str, Any]
ENDS = {FINISHED: "trial_finished", STOPPED: "trial_stopped", FAILED: "trial_failed"}
STATES = (FINISHED, STOPPED, FAILED)
PLAIN = {  # no knob depends on another
    "model": [{"facex_cnn": {"width": 0.25}}],
    "augment": "none",
    "balance": "none",
    "train": {
        "lr": {"low": 0.01, "high": 0.1, "log": True},
        "batch_size": [32, 64],
        "momentum": {"low": 0.5, "high": 0.9},
    },
}
CONDITIONAL = {
    **PLAIN,
    "augment": ["none", "flip_shift"],
    "balance": ["none", "logit_adjust", {"focal": {"gamma": {"low": 0.5, "high": 3.0}}}],
}


def score(config: Config) -> float:
    """Best, 1, at lr 0.032."""
    return float(1 - abs(np.log10(float(config["train.lr"] or 0)) + 1.5))


def scores(config: Config) -> dict[str, float]:
    return {"macro_f1": score(config), "log_loss": float(config["train.momentum"] or 0), "worst_class_recall": 0.2}


def play(study: Study, log: list[Event], count: int, *, slots: int = 1, ahead: bool = False) -> list[Event]:
    """Goes on from `log` until `count` trials have started, `slots` at once; the log that this gives."""
    searcher, log = Searcher(study, ahead=ahead), list(log)
    started: dict[int, Config] = {}
    running: deque[int] = deque()
    for event in log:
        searcher.replay(event)
        if event["type"] == "trial_started":
            started[event["trial"]] = event["config"]
            running.append(event["trial"])
        elif event["type"] in ENDS.values():
            running.remove(event["trial"])
    while len(started) < count:
        if len(running) == slots:
            log += end(searcher, running.popleft(), started)
        number, config, source = searcher.ask()
        log.append({"type": "trial_started", "trial": number, "config": config, "source": source})
        started[number] = config
        running.append(number)
    return log


def end(searcher: Searcher, number: int, started: dict[int, Config]) -> list[Event]:
    trial = Trial(number, started[number], "sampler", state=STATES[number % 3])
    events: list[Event] = []
    for epoch in (1, 2, 3)[: {FINISHED: 3, STOPPED: 1, FAILED: 0}[trial.state]]:
        trial.epochs[epoch] = scores(trial.config)
        searcher.report(number, epoch, trial.epochs[epoch])
        events.append({"type": "epoch", "trial": number, "epoch": epoch, "metrics": trial.epochs[epoch]})
    searcher.tell(trial)
    return [*events, {"type": ENDS[trial.state], "trial": number}]


def configs(log: list[Event]) -> list[Config]:
    return [event["config"] for event in log if event["type"] == "trial_started"]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "nsga2"])
def test_a_searcher_fed_from_any_prefix_of_the_log_suggests_what_the_first_one_did(sampler: str, ahead: bool) -> None:
    study = tiny_study(search={"sampler": sampler, "seed": 5}, space=CONDITIONAL)
    count = {"gp": 12, "nsga2": 30}.get(sampler, 18)
    whole = play(study, [], count, slots=3, ahead=ahead)
    starts = [at for at, event in enumerate(whole) if event["type"] == "trial_started"]
    for cut in (starts[9] + 1, starts[-2]):
        assert play(study, whole[:cut], count, slots=3, ahead=ahead) == whole


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_several_objectives_are_searched_and_replayed(sampler: str) -> None:
    study = tiny_study(
        objective=["macro_f1", "log_loss"], search={"sampler": sampler}, space=PLAIN if sampler == "gp" else CONDITIONAL
    )
    whole = play(study, [], 12 if sampler == "gp" else 28)
    assert play(study, whole[: len(whole) // 2], len(configs(whole))) == whole


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "nsga2"])
def test_every_suggestion_lies_in_the_space_and_seeds_differ(sampler: str) -> None:
    found = []
    for seed in (0, 0, 1):
        study = tiny_study(search={"sampler": sampler, "seed": seed}, space=CONDITIONAL)
        found.append(configs(play(study, [], 12)))
        assert all(study.space.complete(config) == config for config in found[-1])
    assert found[0] == found[1] != found[2]


FEW = {  # two augmentations of eight configurations each
    "model": [{"facex_cnn": {"width": 0.25, "kernels": "3-5-3-3", "dropout": 0.2}}],
    "augment": ["none", {"flip_shift": {"pixels": 4}}],
    "balance": "none",
    "train": {"lr": [0.01, 0.1], "batch_size": [32, 64], "momentum": [0.5, 0.9]},
}


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "nsga2"])
def test_nothing_is_tried_twice_while_there_is_something_else(sampler: str) -> None:
    study = tiny_study(search={"sampler": sampler, "seed": 3}, space=FEW)
    whole = play(study, [], 24, slots=2)
    found = [tuple(sorted(config.items())) for config in configs(whole)]
    n = 16
    assert len(set(found[:n])) == n
    assert set(found[n:]) <= set(found[:n]), "then again what there is"
    cut = next(at for at, event in enumerate(whole) if event["type"] == "trial_started" and event["trial"] == n // 2)
    assert play(study, whole[: cut + 1], len(found), slots=2) == whole


def test_what_an_earlier_run_tried_may_be_tried_again() -> None:
    """Only what was trained in this run can be chosen in it."""
    study = tiny_study(space={**FEW, "augment": "none"})
    of_before = [
        {"config": config, "epochs": {3: scores(config)}, "state": FINISHED} for config in configs(play(study, [], 8))
    ]
    learned = {"type": "learned", "run": "before", "trials": of_before, "left_out": {}}
    assert len({tuple(sorted(config.items())) for config in configs(play(study, [learned], 8))}) == 8


def test_what_is_suggested_ahead_knows_no_more_than_a_replay_can() -> None:
    """The suggestion after trial n's start is the same whenever n's successors end: it was made before."""
    study = tiny_study(space=CONDITIONAL)
    whole = play(study, [], 20, slots=4, ahead=True)
    last = max(at for at, event in enumerate(whole) if event["type"] == "trial_started")
    before = max(at for at, event in enumerate(whole[:last]) if event["type"] == "trial_started")
    without_news = Searcher(study, ahead=True)
    for event in whole[: before + 1]:
        without_news.replay(event)
    assert without_news.ask()[1] == whole[last]["config"]


def test_what_a_study_starts_with_comes_first_and_once() -> None:
    start = {"augment": "flip_shift", "train.lr": 0.05}
    study = tiny_study(search={"start_with": [start]}, space=CONDITIONAL)
    for ahead in (False, True):
        log = play(study, [], 3, ahead=ahead)
        trials = [event for event in log if event["type"] == "trial_started"]
        assert [trial["source"] for trial in trials] == ["start_with", "sampler", "sampler"]
        assert trials[0]["config"]["train.lr"] == 0.05
        assert trials[0]["config"]["augment"] == "flip_shift"
        assert play(study, log[:1], 3, ahead=ahead) == log


def test_knobs_are_modelled_together_until_many_trials_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    joint: list[bool] = []

    class Spied(TPESampler):
        def __init__(self, *, multivariate: bool, **settings: Any) -> None:
            joint.append(multivariate)
            super().__init__(multivariate=multivariate, **settings)

    monkeypatch.setattr(samplers, "TPESampler", Spied)
    searcher = Searcher(tiny_study(space=CONDITIONAL))
    started = [searcher.ask() for _ in range(25)]
    assert joint == [True] * 24 + [False]
    for number, config, source in started[:10]:
        searcher.tell(Trial(number, config, source, state=FAILED))
    searcher.ask()
    assert joint[25:] == [True]


def test_many_at_once_are_searched_and_replayed() -> None:
    study = tiny_study(space=CONDITIONAL)
    whole = play(study, [], 60, slots=40, ahead=True)
    starts = [at for at, event in enumerate(whole) if event["type"] == "trial_started"]
    assert play(study, whole[: starts[50] + 1], 60, slots=40, ahead=True) == whole
    assert all(study.space.complete(config) == config for config in configs(whole))


def test_qmc_covers_every_choice_evenly() -> None:
    """Of 64 points, each of two choices has 32, and each half of a range 32: random draws would not."""
    found = configs(play(tiny_study(search={"sampler": "qmc"}, space=PLAIN), [], 64))
    assert sum(config["train.batch_size"] == 64 for config in found) == 32
    assert sum(float(config["train.lr"] or 0) < 10**-1.5 for config in found) == 32


def test_nsga2_makes_children_of_its_first_generation() -> None:
    study = tiny_study(search={"sampler": "nsga2"}, space=PLAIN)
    found = configs(play(study, [], 90))
    values = [score(config) for config in found]
    assert np.mean(values[-20:]) > np.mean(values[:20])
    parents = {config["train.lr"] for config in found[:60]}
    assert sum(config["train.lr"] in parents for config in found[60:]) > 5, "genes are inherited"


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_models_find_more_than_chance_does(sampler: str) -> None:
    """The last trials lie nearer to lr 0.032 than random ones, for most seeds."""
    count, seeds = (16, 2) if sampler == "gp" else (36, 4)

    def late(name: str, seed: int) -> float:
        log = play(tiny_study(search={"sampler": name, "seed": seed}, space=PLAIN), [], count)
        return float(np.mean([score(config) for config in configs(log)[-8:]]))

    wins = sum(late(sampler, seed) > late("random", seed) for seed in range(seeds))
    assert wins >= seeds - 1
