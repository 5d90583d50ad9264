"""How a run begins: its name is its own, and what would stop its trials stops it first."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from facex_tune.data import faces
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError
from facex_tune.pipeline import begin as begin_room
from facex_tune.pipeline import dry_run, preflight, stages
from facex_tune.pipeline.begin import begin
from facex_tune.pipeline.environment import ray_cpus, torch_gpus
from facex_tune.pipeline.options import Options
from facex_tune.pipeline.stages import execute
from facex_tune.runs.events import StageFinished, StageStarted
from facex_tune.runs.store import Run, RunTaken
from facex_tune.study import Study
from tests.search.conftest import tiny_data, tiny_study

__all__ = ["tiny_data"]  # a fixture


@pytest.fixture
def options(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return Options(tmp_path / "runs", tiny_data)


# Names


def test_runs_that_begin_at_one_moment_have_names_of_their_own(options: Options) -> None:
    studies = [tiny_study(search={"seed": seed, "concurrency": 1}) for seed in range(4)]
    together = threading.Barrier(len(studies))

    def begin_together(study: Study) -> Run:
        together.wait()
        return begin(study, None, options)

    with ThreadPoolExecutor(len(studies)) as pool:
        begun = list(pool.map(begin_together, studies))
    assert sorted(run.name for run in begun) == ["tiny-1", "tiny-2", "tiny-3", "tiny-4"]
    assert [Run.open(run.storage, run.name).study.search.seed for run in begun] == [0, 1, 2, 3]


@pytest.fixture
def overtaken(options: Options, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run `tiny-1` of another seed, which begins while the next one is still being checked."""
    counts = begin_room._face_counts

    def count(study: Study, options: Options) -> dict[str, int]:
        if not (options.storage / "tiny-1").exists():
            Run.create(options.storage, "tiny-1", tiny_study(search={"seed": 99}), data={}, environment={})
        return counts(study, options)

    monkeypatch.setattr(begin_room, "_face_counts", count)
    return "tiny-1"


def test_a_default_name_that_is_taken_meanwhile_is_followed_by_the_next(options: Options, overtaken: str) -> None:
    assert begin(tiny_study(), None, options).name == "tiny-2"
    assert Run.open(options.storage, overtaken).study.search.seed == 99


def test_a_given_name_that_is_taken_meanwhile_is_refused(options: Options, overtaken: str) -> None:
    with pytest.raises(RunTaken, match="'tiny-1' was begun by another process at this moment"):
        begin(tiny_study(), overtaken, options)
    assert Run.open(options.storage, overtaken).study.search.seed == 99


def test_a_name_that_exists_is_that_run_again(options: Options) -> None:
    first = begin(tiny_study(), "mine", options)
    assert begin(tiny_study(), "mine", options).header["id"] == first.header["id"]
    with pytest.raises(InputError, match=r"exists with another study \(.*\): continue it, with the study"):
        begin(tiny_study(objective="accuracy"), "mine", options)


def test_a_run_is_led_to_a_larger_budget_whether_or_not_its_search_is_finished(options: Options) -> None:
    run = begin(tiny_study(), "mine", options)
    for _ in range(2):
        with pytest.raises(InputError) as told:
            begin(tiny_study(budget={"trials": 99}), "mine", options)
        assert "budget.trials: 4 then, 99 now" in str(told.value)
        assert f"facex-tune resume mine --storage {options.storage} --set budget.trials=" in str(told.value)
        with run.log() as log:
            log.append(StageFinished("search", "trials"))
    assert preflight.problems(tiny_study(budget={"trials": 99}, search={"learn_from": "mine"}), options) == []


# Resources and devices


def test_what_this_machine_cannot_hold_is_refused_before_the_run_begins(options: Options) -> None:
    cpus, gpus = ray_cpus(), torch_gpus()
    with pytest.raises(InputError) as refused:
        begin(tiny_study(resources={"cpus": cpus + 1, "gpus": gpus + 1}), "r", options)
    of_cpus, of_gpus = refused.value.problems
    assert of_cpus.startswith(f"resources.cpus: a trial holds {cpus + 1}, and Ray counts {cpus} on this machine; ")
    assert of_gpus.startswith(f"resources.gpus: a trial holds {gpus + 1}, and torch finds {gpus} on this machine; ")
    assert all("--set resources." in each and "--address" in each for each in (of_cpus, of_gpus))
    assert not Run(options.storage, "r").exists()


def test_what_this_machine_holds_just_so_is_no_problem(options: Options) -> None:
    assert preflight.problems(tiny_study(resources={"cpus": ray_cpus()}), options) == []


def test_a_ray_of_our_own_is_told_what_this_process_may_use(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def connected(address: str | None, cpus: int, on_lost: object, **_: object) -> None:
        told.append((address, cpus))
        raise InputError("enough")

    monkeypatch.setattr("facex_tune.search.ray_session.connected", connected)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    with pytest.raises(InputError, match="enough"):
        execute(begin(tiny_study(), "r", options), ["search"], options, [])
    assert told == [(None, 1)]


@pytest.mark.parametrize("joined_by", ["address", "environment"])
def test_a_cluster_is_not_judged_by_this_machine(
    options: Options, joined_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if joined_by == "environment":
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # as inside a job
    else:
        options = Options(options.storage, options.data_dir, address="10.0.0.1:6379")
    study = tiny_study(resources={"cpus": 10_000, "gpus": 10_000})
    assert preflight.problems(study, options) == []
    (told,) = preflight.problems(tiny_study(resources={"cpus": "auto"}), options)
    assert told.startswith("resources.cpus: auto measures this machine, and trials run on a cluster")


def test_an_estimate_says_whose_it_is_and_takes_no_more_threads_than_there_are_cpus(options: Options) -> None:
    cluster = Options(options.storage, options.data_dir, address="10.0.0.1:6379")
    large = dry_run.estimate(tiny_study(resources={"cpus": 10_000}), cluster)
    assert large["measured_on"] == "this machine, not the cluster"
    assert large["at_once"] == 1


def numbered(options: Options, address: str | None = None) -> Options:
    return Options(options.storage, options.data_dir, device="cuda:1", address=address)


def test_a_gpu_by_number_is_refused_where_ray_hands_out_gpus(options: Options) -> None:
    study = tiny_study(resources={"gpus": 0.5})
    with pytest.raises(InputError) as refused:
        begin(study, "r", numbered(options))
    [of_device] = [each for each in refused.value.problems if "--device" in each]
    assert of_device == (
        "--device cuda:1: a trial holds 0.5 GPU (resources.gpus), and Ray chooses which; "
        "write CUDA_VISIBLE_DEVICES=1 facex-tune ... --device cuda"
    )
    [of_device] = preflight.problems(study, numbered(options, "10.0.0.1:6379"))
    assert of_device.endswith("Ray chooses which; write --device cuda")
    assert not Run(options.storage, "r").exists()


@pytest.mark.parametrize(("device", "gpus"), [("cuda:1", 0), ("cuda", 0.5), (None, 0.5), ("cpu", 0.5)])
def test_other_devices_are_no_problem_of_rays(device: str | None, gpus: float) -> None:
    assert preflight.device_problems(tiny_study(resources={"gpus": gpus}), device, joins=False) == []


@pytest.mark.parametrize("stages", [["search", "retrain", "evaluate", "report"], ["retrain"]])
def test_a_run_is_not_resumed_with_a_gpu_by_number(options: Options, stages: list[str]) -> None:
    study = tiny_study(resources={"gpus": 0.5})
    run = Run.create(options.storage, "r", study, data={}, environment={})
    with run.log() as log:
        log.append(StageStarted(stage="search"))
        if "search" not in stages:
            log.append(StageFinished(stage="search"))
    known = list(run.events())
    with pytest.raises(InputError, match=r"--device cuda:1: a trial holds 0\.5 GPU"):
        execute(run, stages, numbered(options), [])
    assert list(run.events()) == known


def test_the_header_names_the_device_that_trials_train_on(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with a GPU, trials that hold none train on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    run = begin(tiny_study(), "r", options)
    assert run.header["hardware"]["device"] == "cpu"
    assert stages._context(run, options, 1).device == "cpu"


# Objectives


def test_a_metric_of_an_emotion_that_no_validation_face_shows_is_refused(options: Options, tmp_path: Path) -> None:
    """A set whose validation faces show no disgust, though its other faces do."""
    whole = faces.open_set(options.data_dir, "synthetic")
    disgust = EMOTIONS.index("disgust")
    lacking = whole.take((whole.labels_N != disgust) | (whole.split_N != "public_test"))
    faces.write(lacking, tmp_path / "data", "mine", source={"name": "mine"}, skipped=[])
    here = Options(options.storage, tmp_path / "data")
    said = {"data": "mine", "evaluate": {"protocols": ["folder.mine"]}}
    named = tiny_study(**said, objective=["macro_f1", "f1.disgust"], constraints={"recall.disgust": {"min": 0.1}})
    with pytest.raises(InputError) as refused:
        begin(named, "r", here)
    starts = ("objective: f1.disgust", "constraints.recall.disgust: recall.disgust")
    assert len(refused.value.problems) == len(starts)
    for line, start in zip(refused.value.problems, starts, strict=True):
        assert line.startswith(f"{start} cannot be measured: data set 'mine' has no face of disgust to validate with; ")
        assert "name another metric" in line
    sound = tiny_study(**said, objective=["macro_f1", "f1.fear"], constraints={"recall.angry": {"min": 0.1}})
    assert preflight.problems(sound, here) == []
