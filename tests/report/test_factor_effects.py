"""The factor study's analysis: planted effects in tables of runs whose truth is known; its design; its importances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from facex_tune import study as studies
from facex_tune.errors import InputError
from facex_tune.evaluation import intervals
from facex_tune.report import comparison_findings, factor_effects, importance
from facex_tune.runs.history import Candidate, History, Trial
from facex_tune.search import factor_design
from facex_tune.search.factor_design import Cell
from facex_tune.search.factor_progress import Asked, Progress
from facex_tune.search.scheduler import Asha
from facex_tune.space import Float, Int

SAID: dict[str, Any] = {
    "version": 1,
    "name": "planted",
    "data": "synthetic",
    "fidelity": {"max_epochs": 3},
    "space": {
        "model": [{"facex_cnn": {"width": [0.25, 0.5]}}, {"resnet": {"depth": 10, "width": [16]}}],
        "augment": ["none", "flip_shift", "facex"],
        "balance": ["none", "logit_adjust"],
        "train": {"lr": {"low": 0.01, "high": 1.0, "log": True}, "batch_size": [32, 64]},
    },
}
STUDY = studies.parse(SAID)


def history(n: int = 4) -> History:
    """Finished trials at random; trial 1 is the winner."""
    rng = np.random.default_rng(0)
    found = History(candidates=[Candidate(1, 0.6, 1)])
    for number in range(n):
        config = STUDY.space.random(rng)
        value = {"macro_f1": 0.5 + 0.01 * number, "accuracy": 0.6}
        found.trials[number] = Trial(number, config, "sampler", "finished", {3: value})
    return found


def cells() -> list[Cell]:
    told = history()
    return factor_design.design(STUDY, told, told.trials[1].config)


def test_the_design_changes_one_thing_at_a_time() -> None:
    found = cells()
    winner = found[0].config
    singles = [cell for cell in found[1:] if len(cell.changed) == 1]
    for cell in singles:
        ((knob, value),) = cell.changed.items()
        assert cell.config[knob] == value != winner[knob]
        others = {name for name in cell.config.keys() & winner.keys() if cell.config[name] != winner[name]}
        assert {name for name in others if not name.startswith(f"{knob}.")} == {knob}
        assert STUDY.space.complete(cell.config) == cell.config
    swapped = {knob for cell in singles for knob in cell.changed}
    assert {"model", "augment", "balance", "train.lr", "train.batch_size"} <= swapped
    assert len({cell.name for cell in found}) == len(found)


def test_the_factorial_has_every_corner_once() -> None:
    corners = [cell for cell in cells() if cell.factorial]
    chosen = [tuple(cell.config[family] for family in ("model", "augment", "balance")) for cell in corners]
    assert len(set(chosen)) == len(corners) == 8
    assert all(len(set(level)) == 2 for level in zip(*chosen, strict=True))


def test_a_family_with_one_part_is_no_factor() -> None:
    one = studies.parse({**SAID, "space": {**SAID["space"], "model": ["facex_cnn"], "balance": ["none"]}})
    told = History(trials={0: Trial(0, one.space.defaults(), "sampler", "finished", {3: {"macro_f1": 0.5}})})
    found = factor_design.design(one, told, one.space.defaults())
    assert not any(cell.factorial for cell in found)
    assert not any("model" in cell.changed or "balance" in cell.changed for cell in found)


def test_a_swapped_part_brings_the_knobs_of_its_best_trial_or_its_defaults() -> None:
    told = history()
    sources = {cell.name: cell.knobs_from for cell in factor_design.design(STUDY, told, told.trials[1].config)}
    for name, source in sources.items():
        for family, label in source.items():
            if label != "defaults":
                assert told.trials[int(label[1:])].config[family] in name


@pytest.mark.parametrize(
    ("knob", "value", "expected"),
    [
        (Float(0.01, 1.0, 0.1, log=True), 0.1, [0.0158, 0.631]),
        (Float(0.0, 1.0, 0.1), 0.12, [0.9]),
        (Int(1, 11, 3), 10, [2]),
    ],
)
def test_numeric_knobs_are_tried_near_the_ends_of_their_range(knob: Any, value: float, expected: list[float]) -> None:
    assert factor_design.alternatives(knob, value) == pytest.approx(expected)


def planted(
    found: list[Cell], effect: dict[str, dict[str, float]], sd: float, seed: int, n_seeds: int = 3
) -> dict[tuple[str, int], dict[str, float]]:
    """Runs whose metrics are .6, what `effect` plants for the parts that a cell has, a seed's own luck, and noise."""
    rng = np.random.default_rng(seed)
    names = ["macro_f1", "f1.angry", "f1.disgust", "f1.happy"]
    luck = rng.normal(0, 0.05, (n_seeds, len(names)))
    runs = {}
    for cell in found:
        for replicate in range(n_seeds):
            values = {name: 0.6 + luck[replicate, i] + rng.normal(0, sd) for i, name in enumerate(names)}
            for knob in cell.changed:
                for name, shift in effect.get(f"{knob}={cell.changed[knob]}", {}).items():
                    values[name] += shift
            runs[cell.name, replicate] = values
    return runs


def analysed(runs: dict[tuple[str, int], dict[str, float]], found: list[Cell]) -> dict[str, Any]:
    return factor_effects.analyse(found, runs, 3, "macro_f1", {})


def test_a_noisier_change_is_judged_by_its_own_spread() -> None:
    """Two degrees of freedom and t = 4.30 where the spread is beyond chance, else the pooled 44 and t = 2.02."""
    noise = factor_effects.Noise(0.01, 44)
    usual = factor_effects.contrast(np.array([0.02, 0.03, 0.04]), noise)
    assert usual["interval"][1] - usual["effect"] == pytest.approx(2.0154 * 0.01 * (2 / 3) ** 0.5, rel=1e-3)
    noisy = factor_effects.contrast(np.array([0.0, 0.03, 0.06]), noise)
    assert noisy["interval"][1] - noisy["effect"] == pytest.approx(4.3027 * 0.03 / 3**0.5, rel=1e-3)
    assert noisy["p_value"] > 0.2 > 0.001 > usual["p_value"]
    little = factor_effects.contrast(np.array([0.015, 0.03, 0.045]), noise)
    assert little["interval"][1] - little["effect"] == pytest.approx(2.0154 * 0.015 / 3**0.5, rel=1e-3), "by chance"


def test_a_planted_truth_is_recovered() -> None:
    """A part that matters, many that do not, and one that matters for disgust only."""
    found = cells()
    matters = next(cell.name for cell in found if "balance" in cell.changed)
    disgust = next(cell.name for cell in found if "augment" in cell.changed)
    effect = {matters: {"macro_f1": -0.08}, disgust: {"f1.disgust": -0.3}}
    got = {each["cell"]: each["metrics"] for each in analysed(planted(found, effect, 0.01, 0), found)["effects"]}
    low, high = got[matters]["macro_f1"]["interval"]
    assert low < -0.08 < high < 0
    assert [cell for cell, said in got.items() if said["macro_f1"]["supported"]] == [matters]
    emotions = [
        (cell, name) for cell, said in got.items() for name in said if name != "macro_f1" and said[name]["supported"]
    ]
    assert emotions == [(disgust, "f1.disgust")]
    verdict, *effects = (each["text"] for each in _findings(analysed(planted(found, effect, 0.01, 0), found)))
    singles = len(got)
    assert f"of {singles} changes measured, none improves macro-F1 and 1 worsens it beyond the noise" in verdict
    assert f"; {singles - 1} cannot be told from it" in verdict
    assert len(effects) == 2
    changed, value = matters.split("=")
    instead = f"{value} in place of {found[0].config[changed]}"
    assert effects[0].startswith(f"With {changed} = {instead}, macro-F1 changes by -0.")
    assert "the F1 of disgust changes by -0." in effects[1]


def test_of_many_effects_the_largest_gains_are_told_and_each_family_s_largest_loss() -> None:
    """Knobs of training gain and lose; of two worse augmentations the worse one is told."""
    found = cells()
    knobs = [f"{knob}={value}" for cell in found if len(cell.changed) == 1 for knob, value in cell.changed.items()]
    of = {family: [name for name in knobs if name.startswith(f"{family}=")] for family in ("augment", "balance")}
    others = [name for name in knobs if name.startswith(("train.", "model."))]
    gains = dict(zip(others, (0.1, 0.2, 0.3, 0.4), strict=False))
    losses = {of["augment"][0]: -0.2, of["augment"][1]: -0.3, of["balance"][0]: -0.1}
    effect = {name: {"macro_f1": size} for name, size in (gains | losses).items()}
    verdict, *told = (each["text"] for each in _findings(analysed(planted(found, effect, 0.001, 0), found)))
    assert "4 improve macro-F1 and 3 worsen it" in verdict
    by = [float(text.partition("macro-F1 changes by ")[2].split()[0]) for text in told[:5]]
    assert [round(each, 1) for each in by] == [0.4, 0.3, 0.2, -0.3, -0.1]
    assert ["probably somewhat too good" in text for text in told] == [True] + [False] * (len(told) - 1)


def test_an_objective_that_is_better_when_smaller_improves_downwards() -> None:
    found = cells()
    name = next(cell.name for cell in found if "balance" in cell.changed)
    runs = {run: {"log_loss": scores["macro_f1"]} for run, scores in planted(found, {}, 0.01, 0).items()}
    for seed in range(3):
        runs[name, seed]["log_loss"] -= 0.2
    analysis = factor_effects.analyse(found, runs, 3, "log_loss", {})
    assert "1 improves log loss and none worsens it" in _findings(analysis, "log_loss")[0]["text"]


def _findings(analysis: dict[str, Any], objective: str = "macro_f1") -> list[dict[str, Any]]:
    study = {**analysis, "reference": "t0001", "seeds": 3, "epochs": 3, "runs_left": 0}
    return list(comparison_findings.factors({"factors": study, "study": {"objective": [objective]}}))


def test_nothing_is_found_where_nothing_is() -> None:
    """60 studies without any effect: each interval covers 0 in 93 to 97 %, and any finding at all in some 10 %."""
    found = cells()
    covered, studied, told = 0, 0, 0  # the verdict alone is always told
    for seed in range(60):
        analysis = analysed(planted(found, {}, 0.02, seed), found)
        intervals = [each["metrics"]["macro_f1"]["interval"] for each in analysis["effects"]]
        covered += sum(low <= 0 <= high for low, high in intervals)
        studied += len(intervals)
        told += len(_findings(analysis)) > 1
    assert 0.93 <= covered / studied <= 0.985  # a noisy cell's interval is wider than needed
    assert told / 60 <= 0.25  # two families at 5 % each, and the interactions


def test_an_interaction_is_found_and_its_size_is_right() -> None:
    """Swapping model and augmentation together costs .1 that neither costs alone."""
    found = cells()
    runs = planted(found, {}, 0.005, 0)
    for cell in found:
        if {"model", "augment"} <= set(cell.changed):
            for seed in range(3):
                runs[cell.name, seed]["macro_f1"] -= 0.1
    factorial_found = analysed(runs, found)["factorial"]
    terms = {term["term"]: term for term in factorial_found["terms"]}
    low, high = terms["model × augment"]["interval"]
    assert low < -0.1 < high < 0
    assert terms["model × augment"]["supported"]
    assert not terms["model × balance"]["supported"]
    assert any("Model × augment depend" in each["text"] for each in _findings(analysed(runs, found)))


def test_the_noise_of_the_factorial_is_that_of_its_corners() -> None:
    """All weigh alike in it, however they differ in noise; what knobs' runs scatter by is not theirs."""
    found = cells()
    runs = planted(found, {}, 0.01, 0)
    before = analysed(runs, found)["factorial"]["terms"]
    for cell in found:
        for seed in range(3):
            if not cell.factorial:
                noisier = {name: 0.5 + 30 * (value - 0.5) for name, value in runs[cell.name, seed].items()}
                runs[cell.name, seed] = noisier
    assert analysed(runs, found)["factorial"]["terms"] == before
    corners_CS = np.array([[runs[c.name, s]["macro_f1"] for s in range(3)] for c in found if c.factorial])
    left_CS = corners_CS - corners_CS.mean(axis=1)[:, None] - corners_CS.mean(axis=0) + corners_CS.mean()
    k = len(corners_CS)
    sd = (np.sum(left_CS**2) / ((k - 1) * 2)) ** 0.5
    reach = stats.t.ppf(0.975, (k - 1) * 2) * 2 * sd / (k * 3) ** 0.5  # of the mean of half less that of the other half
    main = next(term for term in before if len(term["families"]) == 1)
    assert (main["interval"][1] - main["interval"][0]) / 2 == pytest.approx(reach)


def test_one_seed_gives_values_and_no_interval() -> None:
    found = cells()
    got = factor_effects.analyse(found, planted(found, {}, 0.01, 0, 1), 1, "macro_f1", {})
    assert all(each["metrics"]["macro_f1"]["interval"] is None for each in got["effects"])
    assert _findings(got) == []


def test_what_is_not_done_or_failed_is_told_and_does_not_count() -> None:
    found = cells()
    runs = planted(found, {}, 0.01, 0)
    gone, broken = found[1].name, found[2].name
    del runs[gone, 2], runs[broken, 0]
    got = factor_effects.analyse(found, runs, 3, "macro_f1", {broken: "diverged"})
    told = {each["cell"]: each for each in got["effects"]}
    assert (told[gone]["metrics"], told[gone]["failed"]) == ({}, None)
    assert told[broken]["failed"] == "diverged"
    assert got["factorial"] is None


def test_holm_by_hand() -> None:
    assert intervals.holm([0.01, 0.04, 0.03]) == [True, False, False]
    assert intervals.holm([0.01, 0.02, 0.03]) == [True, True, True]


def test_progress_reads_the_log() -> None:
    plan = {
        "type": "factors_planned",
        "seeds": 2,
        "epochs": 3,
        "reference": 1,
        "cells": [c.to_data() for c in cells()[:2]],
    }
    events = [plan, {"type": "factor_finished", "cell": "reference", "seed": 0, "metrics": {"macro_f1": 0.5}}]
    events.append({"type": "factor_failed", "cell": cells()[1].name, "seed": 1, "reason": "diverged"})
    progress = Progress.of(events)
    assert [(cell.name, seed) for _, cell, seed in progress.left] == [("reference", 1), (cells()[1].name, 0)]
    assert progress.cells == cells()[:2]


@pytest.mark.parametrize(("said", "seconds"), [("2h", 7200.0), ("90", 90.0), (None, None)])
def test_a_budget_is_read(said: str | None, seconds: float | None) -> None:
    assert Asked.seconds(said) == seconds


@pytest.mark.parametrize("said", ["soon", "-3", "0s"])
def test_a_budget_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(InputError, match="--time"):
        Asked.seconds(said)


def test_importances_want_fifty_finished_trials() -> None:
    few = importance.of_search(STUDY, history(12))
    assert (few["importances"], few["trials"], few["needed"]) == (None, 12, 50)
    many = history(60)
    for trial in many.trials.values():
        trial.epochs[3] = {"macro_f1": float(np.log10(float(trial.config["train.lr"] or 0)))}  # the rate alone decides
    found = importance.of_search(STUDY, many)["importances"]
    assert max(found, key=found.get) == "train.lr"
    assert sum(found.values()) == pytest.approx(1)


def test_importances_are_of_all_that_came_to_the_first_rung() -> None:
    """The rate decides nearly everything and another knob nothing. Among survivors of the rungs, which are all of good
    rates, that other one would come to .2 and the rate to half.
    """
    space = {
        "model": ["facex_cnn"],
        "train": {"lr": {"low": 0.001, "high": 1.0, "log": True}, "label_smoothing": {"low": 0.0, "high": 0.3}},
    }
    asked = studies.parse({"version": 1, "name": "x", "data": "fer2013", "objective": "macro_f1", "space": space})
    rng, rungs, past = np.random.default_rng(0), Asha(1, 9, 3, True), History()
    for number in range(400):
        config = asked.space.random(rng)
        worth = 0.5 - 0.15 * abs(np.log10(float(config["train.lr"] or 1) / 0.03))
        made = Trial(number, config, "sampler", "finished")
        for epoch in range(1, 10):
            made.epochs[epoch] = {"macro_f1": worth - 0.1 / epoch + rng.normal() * 0.005}
            if epoch < 9 and not rungs.goes_on(number, epoch, made.epochs[epoch]["macro_f1"]):
                made.state = "stopped"
                break
        past.trials[number] = made
    found = importance.of_search(asked, past)
    assert (found["trials"], found["at_epoch"]) == (400, 1)
    assert found["importances"]["train.lr"] > 0.85
    assert found["importances"]["train.label_smoothing"] < 0.05
