"""`learn_from`: what an earlier run teaches, what does not fit, and that it is settled when the search starts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facex_tune.display.board import Board
from facex_tune.display.event_lines import line
from facex_tune.errors import InputError
from facex_tune.runs.events import EpochDone, TrialFinished, TrialStarted
from facex_tune.runs.store import Run
from facex_tune.search import warm_start
from facex_tune.search.referee import Referee
from facex_tune.study import Study
from tests.search.conftest import tiny_study
from tests.search.test_referee import new_run, play

SPACE: dict[str, Any] = {
    "model": [{"facex_cnn": {"width": 0.25}}],
    "augment": ["none", "flip_shift"],
    "balance": ["none", "logit_adjust"],
    "train": {"lr": {"low": 0.01, "high": 0.1, "log": True}, "batch_size": 32},
}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search of twelve trials: finished, stopped, and one that failed."""
    folder = tmp_path_factory.mktemp("runs")
    run = Run.create(folder, "earlier", studied(budget={"trials": 12}), data={}, environment={})
    with run.log() as log:
        play(run, log)
    states = [trial.state for trial in run.history().trials.values()]
    assert states.count("finished") >= 3
    assert {"finished", "stopped", "failed"} == set(states)
    return run


def studied(**changes: Any) -> Study:
    return tiny_study(**{"space": SPACE, **changes})


def narrowed(**train: Any) -> dict[str, Any]:
    return {**SPACE, "train": {**SPACE["train"], **train}}


def run_of(folder: Path, study: Study, sha256: str | None = None) -> Run:
    data = {} if sha256 is None else {study.data: {"sha256": sha256}}
    return Run.create(folder, "later", study, data=data, environment={})


def finished(run: Run) -> list[int]:
    return [trial.number for trial in run.history().trials.values() if trial.state == "finished"]


def test_finished_trials_of_the_same_space_are_taken_whole(earlier: Run, tmp_path: Path) -> None:
    taken, left_out = warm_start.fitting(earlier, run_of(tmp_path, studied()))
    assert [told["trial"] for told in taken] == finished(earlier)
    trials = earlier.history().trials
    for told in taken:
        trial = trials[told["trial"]]
        assert told["config"] == trial.config
        assert {int(epoch): scores["macro_f1"] for epoch, scores in told["epochs"].items()} == {
            epoch: scores["macro_f1"] for epoch, scores in trial.epochs.items()
        }
    assert sum(left_out.values()) == 12 - len(taken)
    assert set(left_out) == {"stopped, not finished", "failed, not finished"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"space": narrowed(lr={"low": 0.0999, "high": 0.1})}, "train.lr lies outside its range here"),
        ({"space": narrowed(batch_size=64)}, "train.batch_size is fixed here"),
        ({"space": {**SPACE, "augment": ["facex"]}}, "augment is fixed here"),
        ({"space": {**SPACE, "model": ["resnet"]}}, "model is fixed here"),
        ({"validation": {"holdout": 0.1}}, "validation public_test there, {'holdout': 0.1} here"),
        ({"data": "mine"}, "data synthetic there, mine here"),
        ({"data": ["synthetic", "mine"]}, "data synthetic there, synthetic + mine here"),
        ({"classes": 8}, "classes 7 there, 8 here"),
        ({"validation_copies": "keep"}, "validation_copies drop there, keep here"),
        ({"fidelity": {"min_epochs": 1, "max_epochs": 2}}, "3 epochs there, 2 here"),
        ({"fidelity": {"min_epochs": 1, "max_epochs": 9}}, "3 epochs there, 9 here"),
        (
            {"space": narrowed(ema_decay=0.99), "retrain": {"weights": "ema"}},
            "retrain.weights last there, ema here",
        ),
        ({"objective": "accuracy"}, "accuracy was not measured"),
        ({"constraints": {"ece": {"max": 0.2}}}, "ece was not measured"),
    ],
)
def test_what_does_not_mean_the_same_is_left_out_with_its_reason(
    earlier: Run, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    taken, left_out = warm_start.fitting(earlier, run_of(tmp_path, studied(**changes)))
    assert len(taken) < len(finished(earlier))
    assert reason in left_out
    assert len(taken) + sum(left_out.values()) == 12


@pytest.mark.parametrize(("validated", "differs"), [(100, False), (90, True)])
def test_a_set_without_copies_is_validated_alike(tmp_path: Path, validated: int, differs: bool) -> None:
    runs = []
    for number, (said, n) in enumerate((("keep", 100), ("drop", validated))):
        study = studied(validation_copies=said)
        runs.append(Run.create(tmp_path, f"r{number}", study, data={}, environment={"faces": {"validation": n}}))
    said_so = ["validation_copies keep there, drop here"]
    assert warm_start._differences(runs[0], runs[1]) == (said_so if differs else [])


@pytest.mark.parametrize("duplicates", ["drop", "keep"])
def test_other_protocols_drop_other_faces(earlier: Run, tmp_path: Path, duplicates: str) -> None:
    """Under `duplicates: drop` training is without copies of what the protocols will score, which are other faces."""
    there, here = (
        Run.create(
            tmp_path / name,
            name,
            studied(duplicates=duplicates, evaluate={"protocols": protocols}),
            data={},
            environment={},
        )
        for name, protocols in (("there", ["synthetic.private"]), ("here", ["synthetic.lab.6"]))
    )
    said = (
        "duplicates: drop kept copies of synthetic/private_test out of training there, of synthetic_lab/test here"
    )
    assert warm_start._differences(there, here) == ([said] if duplicates == "drop" else [])
    assert warm_start._differences(here, here) == []


@pytest.mark.parametrize(
    ("validation", "seed", "there", "here", "reason"),
    [
        ("public_test", 4, None, None, ""),
        ({"holdout": 0.1}, 3, None, None, ""),
        ({"holdout": 0.1}, 4, None, None, "search.seed 3 there, 4 here, which cuts the holdout"),
        ("public_test", 4, "aa", "aa", ""),
        ("public_test", 4, "aa", None, ""),
        ("public_test", 4, "aa", "bb", "data synthetic was prepared with other faces there"),
    ],
)
def test_values_compare_on_the_same_validation_faces_alone(
    tmp_path: Path, validation: Any, seed: int, there: str | None, here: str | None, reason: str
) -> None:
    before = run_of(tmp_path / "before", studied(validation=validation), there)
    with before.log() as log:
        play(before, log)
    after = run_of(tmp_path / "after", studied(validation=validation, search={"seed": seed}), here)
    taken, left_out = warm_start.fitting(before, after)
    if reason:
        assert (taken, left_out) == ([], {reason: 4})
    else:
        assert [told["trial"] for told in taken] == finished(before)


def test_learning_is_settled_at_the_start_and_replayed(tmp_path: Path, earlier: Run) -> None:
    storage = tmp_path / "runs"
    shutil.copytree(earlier.folder, storage / "earlier")
    study = studied(search={"seed": 3, "learn_from": "earlier"})
    run = Run.create(storage, "later", study, data={}, environment={})
    with run.log() as log:
        told: list[dict[str, Any]] = []
        log.listeners.append(told.append)
        warm_start.learn(run, log)
        first = Referee(run, log).next_trial()
    (note,) = [event["text"] for event in told if event["type"] == "note"]
    assert note.startswith(f"learned from {len(finished(earlier))} trials of run earlier; left out: ")
    shutil.rmtree(storage / "earlier")
    with run.log() as log:
        warm_start.learn(run, log)
        referee = Referee(run, log)
        again = referee.next_trial()
    assert first == again
    assert len(referee.searcher.ledger) == len(finished(earlier)) + 1
    (learned,) = run.history().learned
    assert (learned.run, learned.trials) == ("earlier", len(finished(earlier)))
    assert sum(learned.left_out.values()) == 12 - learned.trials


def test_a_search_that_has_learned_starts_where_values_were_good(tmp_path: Path) -> None:
    """The value rises with the learning rate; after twenty finished trials the first suggestion is no random draw."""
    many = studied(budget={"trials": 20}, search={"scheduler": "none", "sampler": "random", "seed": 1})
    run = new_run(tmp_path, many)
    with run.log() as log:
        play(run, log)
    rates = []
    for seed in range(6):
        study = studied(search={"seed": seed, "learn_from": [str(run.folder)]})
        later = Run.create(tmp_path, f"later{seed}", study, data={}, environment={})
        with later.log() as log:
            warm_start.learn(later, log)
            trial = Referee(later, log).next_trial()
        assert trial is not None
        rates.append(float(trial.config["train.lr"] or 0))
    assert sorted(rates)[2] > 0.05, "most lie in the upper third of the range's orders of magnitude"


def test_a_run_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^search.learn_from: no run named 'none'") as told:
        warm_start.find(tmp_path, "none")
    assert len(told.value.problems) == 1


# `priors_from`


def of_rates(folder: Path, rates: list[float], name: str = "before", **changes: Any) -> Run:
    """A run on other data whose trials had these learning rates; the best value is at .03."""
    study = studied(data="synthetic_lab", validation={"holdout": 0.2}, evaluate={"protocols": []}, **changes)
    run = Run.create(folder, name, study, data={}, environment={})
    rng = np.random.default_rng(0)
    with run.log() as log:
        for number, rate in enumerate(rates):
            config = study.space.random(rng) | {"train.lr": rate}
            log.append(TrialStarted(number, config, "sampler"))
            value = 0.6 - abs(np.log10(rate / 0.03))
            log.append(EpochDone(number, 3, {"macro_f1": value}, 1.0, "here"))
            log.append(TrialFinished(number))
    return run


EVENLY = [float(rate) for rate in np.geomspace(0.01, 0.1, 24)]


def test_where_the_best_trials_on_other_data_agree_is_a_prior(tmp_path: Path) -> None:
    run = of_rates(tmp_path, EVENLY)
    count, found = warm_start.beliefs(run, studied())
    assert count == 24
    assert set(found) <= {"train.lr", "augment.flip_shift.pixels", "balance.logit_adjust.tau"}
    assert found["train.lr"]["prior"] == pytest.approx(0.03, rel=0.15)
    assert found["train.lr"]["confidence"] in ("low", "medium")


def test_too_few_trials_a_prior_of_ones_own_and_other_ranges_give_none(tmp_path: Path) -> None:
    run = of_rates(tmp_path, EVENLY)
    own = {"low": 0.01, "high": 0.1, "log": True, "prior": 0.09}
    for space in (narrowed(lr=own), narrowed(lr=[0.01, 0.03]), narrowed(lr={"low": 0.05, "high": 0.1})):
        assert "train.lr" not in warm_start.beliefs(run, studied(space=space))[1]
    assert warm_start.beliefs(of_rates(tmp_path, EVENLY[::3], "few"), studied()) == (8, {})


def test_priors_are_settled_at_the_start_and_replayed(tmp_path: Path) -> None:
    before = of_rates(tmp_path, EVENLY)
    rates = []
    for seed in range(8):
        study = studied(search={"seed": seed, "priors_from": [str(before.folder)], "sampler": "random"})
        run = Run.create(tmp_path, f"later{seed}", study, data={}, environment={})
        with run.log() as log:
            warm_start.learn(run, log)
            trial = Referee(run, log).next_trial()
        assert trial is not None
        rates.append(float(trial.config["train.lr"] or 0))
    shutil.rmtree(before.folder)
    with run.log() as log:
        warm_start.learn(run, log)
        assert Referee(run, log).next_trial() == trial
    (event,) = [each for each in run.events() if each["type"] == "priors_taken"]
    assert (event["run"], event["trials"]) == (str(before.folder), 24)
    assert f"train.lr {event['priors']['train.lr']['prior']:.3g}"[:12] in line(Board.of(study, run.history()), event)
    without = []
    for seed in range(8):
        study = studied(search={"seed": seed, "sampler": "random"})
        run = Run.create(tmp_path, f"without{seed}", study, data={}, environment={})
        with run.log() as log:
            first = Referee(run, log).next_trial()
        assert first is not None
        without.append(float(first.config["train.lr"] or 0))
    near, far = (np.median([abs(np.log10(rate / 0.03)) for rate in each]) for each in (rates, without))
    assert near < far - 0.05, "the first trials are drawn around the prior; .22 and .32 with these seeds"


def test_a_run_to_take_priors_from_that_is_not_there_is_told_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^search.priors_from: no run named 'none'"):
        warm_start.find(tmp_path, "none", "search.priors_from")
