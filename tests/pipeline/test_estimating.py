"""Estimates: arithmetic worked by hand, and one real measurement of a tiny network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from facex_tune import study
from facex_tune.pipeline import estimating
from facex_tune.pipeline.environment import ray_cpus
from facex_tune.study import Study


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


@pytest.mark.parametrize(
    ("trials", "fidelity", "epochs"),
    [
        (9, (1, 9, 3), 9 * 1 + 3 * 2 + 1 * 6),
        (8, (1, 6, 3), 8 + 6 + 3),  # 8 at one epoch, 8/3 two more, one (of 8/9) three more: 16.3, rounded up
        (1, (1, 9, 3), 9),  # at least one trial goes all the way
        (4, (5, 5, 3), 20),  # no rung below the last epoch
        (4, (2, 3, 2), 4 * 2 + 2 * 1),
    ],
)
def test_epochs_of_successive_halving(trials: int, fidelity: tuple[int, int, int], epochs: int) -> None:
    low, high, reduction = fidelity
    cut = parsed(fidelity={"min_epochs": low, "max_epochs": high, "reduction": reduction})
    assert estimating.expected_epochs(cut, trials) == epochs


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
    assert told["epochs_expected"] == 4 + 2 * 1 + 1 * 2
    assert told["device"] == "cpu"
    assert list(told["seconds_per_epoch"]) == ["resnet"]
    assert told["epochs_are"] == "expected: one in 2 goes on from each rung"
    assert told["at_once"] == ray_cpus()
    assert told["hours"] == pytest.approx(told["hours_search"] + told["hours_retrain"], abs=0.015), "each is rounded"
    assert told["memory_gb"] > 1
    assert told["disk_gb"] > 0
    assert torch.get_num_threads() == 1, "threads are left as they were"


def test_time_bounds_the_search_and_concurrency_its_width() -> None:
    short = parsed(budget={"trials": 10**6, "time": "36s"}, search={"concurrency": 1})
    told = estimating.estimate(short, 28_709, "cpu")
    assert told["hours_search"] == 0.01
    assert told["at_once"] == 1


@pytest.mark.parametrize(("at_once", "gpus", "slowed"), [(1, 1, 1.0), (2, 1, 2.0), (4, 2, 2.0), (2, 4, 1.0)])
def test_trials_that_share_a_gpu_share_its_time(at_once: int, gpus: int, slowed: float) -> None:
    assert estimating.shared_gpu(at_once, gpus) == slowed


def test_a_search_bounded_by_time_alone() -> None:
    told = estimating.estimate(parsed(budget={"time": "1h"}), 1000, "cpu")
    assert told["trials"] is None
    assert told["epochs_expected"] is None
    assert told["hours_search"] == 1.0


def test_twice_the_faces_take_twice_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured speed held still, since two measurements never agree."""
    monkeypatch.setattr(estimating, "_measure", lambda _s, _m, faces, _d: {"seconds": faces / 100, "parameters": 1e6})
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

    class Watched(estimating.train.Training):
        def _train_epoch(self, number: int) -> float:
            seen.append(self._pixels(number))
            return super()._train_epoch(number)

    monkeypatch.setattr(estimating.train, "Training", Watched)
    growing = parsed(space={"model": [{"resnet": {"width": 16}}], "train": {"batch_size": 8, "progressive": True}})
    estimating.estimate(growing, 1000, "cpu")
    assert seen == [48, 48]
