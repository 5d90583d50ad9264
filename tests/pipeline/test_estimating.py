"""Estimates: arithmetic worked by hand, and one real measurement of a tiny network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facex_tune import study
from facex_tune.data import faces as faces_room
from facex_tune.data.sources import synthetic
from facex_tune.pipeline import dry_run, estimating, side_by_side
from facex_tune.pipeline.environment import ray_cpus
from facex_tune.pipeline.options import Options
from facex_tune.pipeline.preflight import ema_note
from facex_tune.search import scheduler
from facex_tune.space import Config
from facex_tune.study import Study
from facex_tune.training import train

COUNTED = estimating._Sizes._counted


@pytest.fixture(autouse=True)
def _one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that measure beside each other have tests of their own; so have sizes."""
    monkeypatch.setattr(side_by_side, "MOST", 0)
    monkeypatch.setattr(estimating._Sizes, "_counted", lambda *_: 1.0)


@pytest.fixture(autouse=True)
def _threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def parsed(**said: Any) -> Study:
    least: dict[str, Any] = {
        "version": 1,
        "name": "x",
        "data": "synthetic",
        "space": {"model": [{"resnet": {"width": 16}}], "train": {"batch_size": 8}},
    }
    return study.parse(least | said)


def asha_itself(cut: Study, trials: int, improvement: float) -> float:
    """The mean of 100 searches of trials that get better by that many standard deviations."""
    total = 0
    for seed in range(100):
        rungs, rng = scheduler.build(cut), np.random.default_rng(seed)
        for trial in range(trials):
            worth = rng.normal() + improvement * trial / trials
            for epoch in range(1, cut.fidelity.max_epochs + 1):
                total += 1
                if not rungs.goes_on(trial, epoch, worth + rng.normal() * 0.5 / epoch):
                    break
    return total / 100


@pytest.mark.parametrize(("trials", "fidelity"), [(24, (2, 18, 3)), (12, (2, 18, 3)), (60, (1, 9, 3)), (8, (1, 6, 3))])
def test_epochs_are_those_that_asha_takes(trials: int, fidelity: tuple[int, int, int]) -> None:
    """Between trials in random order and trials that get better by two standard deviations: 137 and 171 of 24 trials,
    of which "one in three goes on" makes 112.
    """
    low, high, reduction = fidelity
    cut = parsed(fidelity={"min_epochs": low, "max_epochs": high, "reduction": reduction})
    found = estimating.expected_epochs(cut, trials)
    assert asha_itself(cut, trials, 0.0) < found < asha_itself(cut, trials, 2.0)
    at_random = parsed(fidelity={"min_epochs": low, "max_epochs": high}, search={"sampler": "random"})
    assert estimating.expected_epochs(at_random, trials) == pytest.approx(asha_itself(at_random, trials, 0.0), rel=0.1)


@pytest.mark.parametrize(("trials", "fidelity", "epochs"), [(1, (1, 9, 3), 9), (4, (5, 5, 3), 20)])
def test_epochs_without_anything_to_compare(trials: int, fidelity: tuple[int, int, int], epochs: int) -> None:
    low, high, reduction = fidelity
    cut = parsed(fidelity={"min_epochs": low, "max_epochs": high, "reduction": reduction})
    assert estimating.expected_epochs(cut, trials) == epochs


def priced(monkeypatch: pytest.MonkeyPatch, balance: object, **said: Any) -> dict[str, Any]:
    """The estimate for FER2013's faces at 100 a second."""
    monkeypatch.setattr(estimating, "_measure", lambda _s, _m, faces, *_: {"seconds": faces / 100, "parameters": 1e6})
    space = {"model": [{"resnet": {"width": 16}}], "augment": ["none"], "balance": [balance]}
    return estimating.estimate(parsed(budget={"trials": 4}, space=space, **said), 28_709, "cpu")


@pytest.mark.parametrize(
    ("balance", "faces"),
    [
        ("none", 28_709),
        ("class_weights", 28_709),
        ({"undersample": {"ratio": 1.0}}, 7 * 436),
        ({"oversample": {"ratio": 1.0}}, 7 * 7215),
        ({"smote": {"ratio": 1.0}}, 7 * 7215),
        ({"smote": {"ratio": 0.5}}, 3995 + 4097 + 7215 + 4830 + 4965 + 2 * 3608),
    ],
)
def test_an_epoch_is_as_long_as_its_balancing_makes_it(
    monkeypatch: pytest.MonkeyPatch, balance: object, faces: int
) -> None:
    """Validation, .05 of an ordinary epoch, stays as long as it is."""
    found = priced(monkeypatch, balance)["seconds_per_epoch"]["resnet"]
    assert found == pytest.approx((faces + 0.05 * 28_709) / 1.05 / 100, abs=0.06)


def test_what_training_does_not_see_is_not_counted(tmp_path: Path) -> None:
    """A holdout, copies of held-out faces under `duplicates: drop`, and those among validation faces."""
    images_NHW = np.random.default_rng(0).integers(0, 256, (120, 48, 48), dtype=np.uint8)
    images_NHW[100:110] = images_NHW[:10]  # ten of validation's stand in training
    drawn = synthetic.generate(120, seed=0)
    split_N = np.repeat(["train", "public_test", "private_test"], [100, 15, 5])
    made = faces_room.Faces(**{**vars(drawn), "images_NHW": images_NHW, "split_N": split_N})
    faces_room.write(made, tmp_path, "synthetic", source={"name": "synthetic"}, skipped=[])
    options = Options(tmp_path / "runs", tmp_path)
    counted = {
        key: dry_run.train_faces(parsed(**said), options)
        for key, said in {
            "all": {},
            "keep": {"validation_copies": "keep"},
            "drop": {"duplicates": "drop", "evaluate": {"protocols": []}},
            "holdout": {"validation": {"holdout": 0.2}},
        }.items()
    }
    assert (sum(counted["all"].train_C), counted["all"].validation) == (100, 5), "copies judge nothing"
    assert (sum(counted["keep"].train_C), counted["keep"].validation) == (100, 15)
    assert sum(counted["drop"].train_C) == 90
    held = counted["holdout"]
    assert held.validation == pytest.approx(20, abs=4)
    assert sum(held.train_C) + (held.validation or 0) == 100


@pytest.mark.parametrize("scheduler", ["none", "median"])
def test_without_rungs_every_trial_may_run_to_its_end(scheduler: str) -> None:
    assert estimating.expected_epochs(parsed(search={"scheduler": scheduler}, fidelity={"max_epochs": 7}), 5) == 35


@pytest.mark.parametrize(
    ("scheduler", "said"), [("none", "every trial runs its whole course"), ("median", "an upper bound")]
)
def test_an_estimate_says_how_far_to_believe_its_epochs(scheduler: str, said: str) -> None:
    told = estimating.estimate(parsed(search={"scheduler": scheduler}, budget={"trials": 3}), 100, "cpu")
    assert told["epochs_expected"] == 3 * 12
    assert said in told["epochs_are"]
    assert len(told["epochs_are"]) < 60, "a line of a table on a terminal of 80 columns"


def test_an_estimate_of_a_tiny_study() -> None:
    fidelity = {"min_epochs": 1, "max_epochs": 4, "reduction": 2}
    tiny = parsed(budget={"trials": 4}, fidelity=fidelity, retrain={"top": 2, "seeds": 3})
    told = estimating.estimate(tiny, 1000, "cpu")
    assert told["trials"] == 4
    assert 4 + 2 * 1 + 1 * 2 <= told["epochs_expected"] <= 16
    assert told["device"] == "cpu"
    assert list(told["seconds_per_epoch"]) == ["resnet"]
    assert told["epochs_are"].startswith("expected: simulated, nine of ten between ")
    assert told["hours_are"].startswith("search, nine of ten: ")
    assert told["hours_are"].endswith(" at default knobs")
    assert len(told["hours_are"]) < 60
    assert told["at_once"] == ray_cpus()
    assert told["hours"] == pytest.approx(told["hours_search"] + told["hours_retrain"], abs=0.015), "each is rounded"
    assert told["memory_gb"] > 1
    assert told["disk_gb"] > 0
    assert torch.get_num_threads() == 1, "threads are left as they were"


def test_time_bounds_the_search_and_concurrency_its_width() -> None:
    short = parsed(budget={"trials": 10**9, "time": "36s"}, search={"concurrency": 1})
    told = estimating.estimate(short, 28_709, "cpu")
    assert told["hours_search"] == 0.01
    assert told["epochs_expected"] <= 1 + 36 / told["seconds_per_epoch"]["resnet"], "not those of all 10⁹ trials"
    assert told["at_once"] == 1


def test_an_epoch_of_a_wider_network_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as wide is four times the multiply-accumulates, but for the stem's; measured is one of the two."""
    counted: list[object] = []

    def count(sizes: estimating._Sizes, config: Config) -> float:
        counted.append(config["model.resnet.width"])
        return COUNTED(sizes, config)

    monkeypatch.setattr(estimating._Sizes, "_counted", count)
    monkeypatch.setattr(estimating, "_measure", lambda _s, _m, faces, *_: {"seconds": faces / 100, "parameters": 1e6})

    small = {"depth": 10, "pool": True, "squeeze_excitation": False}

    def seconds(width: list[int]) -> float:
        space = {"model": [{"resnet": {**small, "width": width}}], "augment": ["none"], "balance": ["none"]}
        search = {"concurrency": 1, "scheduler": "none", "sampler": "random"}
        study = parsed(budget={"trials": 300}, space=space, search=search)
        return float(estimating.estimate(study, 28_709, "cpu")["seconds_per_epoch"]["resnet"])

    one, two = seconds([16]), seconds([16, 32])
    assert two / one in (pytest.approx(2.5, rel=0.15), pytest.approx(0.625, rel=0.15)), "half of the trials are wide"
    assert sorted(map(str, counted)) == ["16", "32"], "each size is built and counted once, however many trials have it"


@pytest.mark.parametrize(("at_once", "gpus", "slowed"), [(1, 1, 1.0), (2, 1, 2.0), (4, 2, 2.0), (2, 4, 1.0)])
def test_trials_that_share_a_gpu_share_its_time(at_once: int, gpus: int, slowed: float) -> None:
    assert estimating.shared_gpu(at_once, gpus) == slowed


def test_a_search_of_more_trials_than_are_simulated_is_like_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    study = parsed(search={"sampler": "random", "scheduler": "none"}, fidelity={"max_epochs": 2})
    monkeypatch.setattr(estimating, "SIMULATED_TRIALS", 10)
    (course, *_) = estimating.simulated(study, 40, 1, lambda config: 3.0)
    assert (course.epochs, course.seconds) == (80, 240.0)


def test_a_search_bounded_by_time_alone() -> None:
    told = estimating.estimate(parsed(budget={"time": "1h"}), 1000, "cpu")
    assert told["trials"] is None
    assert told["epochs_expected"] is None
    assert told["hours_search"] == 1.0


def test_twice_the_faces_take_twice_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured speed held still, since two measurements never agree."""
    monkeypatch.setattr(estimating, "_measure", lambda _s, _m, faces, *_: {"seconds": faces / 100, "parameters": 1e6})
    once, twice = (
        estimating.estimate(parsed(budget={"trials": 9}, search={"concurrency": 1}), n, "cpu") for n in (28_000, 56_000)
    )
    assert twice["hours_search"] == pytest.approx(2 * once["hours_search"], abs=0.015)
    assert once["seconds_per_epoch"] == {"resnet": 280.0}
    assert once["hours_retrain"] == pytest.approx(2 * 12 * 280 / 3600, abs=0.006)


def test_a_course_that_grows_is_measured_on_whole_faces_and_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first epochs see faces of two thirds the side and would promise a third of the time too little."""
    assert estimating._share_of_pixels() == pytest.approx(0.4 * (2 / 3) ** 2 + 0.25 * (5 / 6) ** 2 + 0.35)
    seen: list[Any] = []

    class Watched(train.Training):
        def _train_epoch(self, number: int) -> float:
            seen.append(self._pixels(number))
            return super()._train_epoch(number)

    monkeypatch.setattr(train, "Training", Watched)
    growing = parsed(space={"model": [{"resnet": {"width": 16}}], "train": {"batch_size": 8, "progressive": True}})
    estimating.estimate(growing, 1000, "cpu")
    assert seen == [48, 48]


def averaged(**train: Any) -> Study:
    return parsed(
        space={"model": [{"resnet": {"width": 16}}], "train": {"batch_size": 128, **train}},
        retrain={"weights": "ema", "epochs": 20},
    )


def test_an_average_that_cannot_act_is_told() -> None:
    """20 epochs of 224 batches are 4,480 steps; decay is at most (1 + steps) / (10 + steps), and .9999 wants 89,990."""
    assert ema_note(averaged(ema_decay=0.9999), 28_709) == (
        "train.ema_decay 0.9999 cannot act: a final model does 4,480 steps, and an average begins that long after "
        "89,990; 0.998 and all above it are the same here"
    )
    assert ema_note(averaged(ema_decay={"low": 0.99, "high": 0.9999}), 28_709)
    assert ema_note(averaged(ema_decay=0.997), 28_709) == ""
    assert ema_note(averaged(ema_decay=0.9999), 28_709 * 21) == ""
    assert ema_note(parsed(), 100) == ""
