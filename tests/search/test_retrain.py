"""The retrain stage: what is chosen, and that one model which cannot be trained costs that model alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import yaml

from facex_tune import parts
from facex_tune.data import training_set
from facex_tune.errors import InputError, Interrupted
from facex_tune.evaluation.evaluate import finished_models
from facex_tune.inference import predict
from facex_tune.pipeline import stages
from facex_tune.pipeline.begin import begin
from facex_tune.pipeline.options import Options
from facex_tune.runs.events import (
    CandidateChosen,
    EpochDone,
    ModelFailed,
    ModelFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    TrialFinished,
    TrialStarted,
)
from facex_tune.runs.history import FINISHED, STOPPED, History, Trial
from facex_tune.runs.store import Run
from facex_tune.search import factor_study, fleet, ray_session, retrain, worker, worker_losses
from facex_tune.search.factor_progress import Asked, Progress, winner_of
from facex_tune.search.job import Context, Job
from facex_tune.search.worker_report import Epoch
from facex_tune.storage import files
from tests.faults import drivers
from tests.faults.conftest import only_full

from .conftest import tiny_study
from .test_resume import DEADLINE_S, DRIVER

PARTS = Path(__file__).resolve().parents[1] / "faults" / "parts"
SELDOM_SAVED = Path(__file__).resolve().parent / "parts"


# Which trials are chosen


def stopped(number: int, values: Mapping[int, float], **metrics: float) -> Trial:
    """A trial that was stopped after its last epoch, which has `metrics` too."""
    epochs = {epoch: {"macro_f1": value} for epoch, value in values.items()}
    epochs[max(epochs)] |= metrics
    return Trial(number, {"train.lr": number}, "sampler", STOPPED, epochs)


def flat(number: int, epochs: int, value: float, **metrics: float) -> Trial:
    return stopped(number, dict.fromkeys(range(1, epochs + 1), value), **metrics)


def chosen(trials: list[Trial], top: int, reduction: int = 3, **said: Any) -> list[int]:
    study = tiny_study(
        fidelity={"min_epochs": 2, "max_epochs": 40, "reduction": reduction}, retrain={"top": top, "seeds": 1}, **said
    )
    history = History(trials={trial.number: trial for trial in trials})
    found = [trial.number for trial in retrain.choose(history, study)]
    assert [trial.number for trial in history.leaderboard(study)][: len(found)] == found, "what a person is shown"
    return found


def test_a_trial_that_the_end_of_the_budget_found_an_epoch_ahead_wins_nothing_by_that() -> None:
    trials = [flat(0, 10, 0.7), flat(1, 10, 0.65), flat(2, 10, 0.6), flat(3, 11, 0.4)]
    assert chosen(trials, top=3) == [0, 1, 2]
    assert chosen(trials, top=1) == [0]
    assert chosen(trials, top=9) == [0, 1, 2, 3]


def test_values_are_compared_at_the_same_epoch_and_not_where_each_trial_ended() -> None:
    """The second one was better after ten epochs; the first has had two more to catch up."""
    trials = [stopped(0, {10: 0.5, 12: 0.6}), stopped(1, {10: 0.55})]
    assert chosen(trials, top=1) == [1]


def test_a_trial_just_begun_does_not_beat_one_that_was_almost_through() -> None:
    trials = [stopped(0, {2: 0.2, 30: 0.7}), flat(1, 2, 0.3)]
    assert chosen(trials, top=1) == [0]


def test_the_best_come_from_the_highest_rung_that_enough_have_passed_then_from_the_next() -> None:
    high = [stopped(n, {2: 0.3, 6: 0.4 + n / 100, 18: 0.5 + n / 100}) for n in range(3)]
    middle = [stopped(10 + n, {2: 0.3, 6: 0.6 + n / 100}) for n in range(4)]
    low = [flat(20 + n, 2, 0.9) for n in range(9)]
    assert chosen([*low, *middle, *high], top=1) == [2]
    assert chosen([*low, *middle, *high], top=3) == [2, 1, 0]
    assert chosen([*low, *middle, *high], top=5) == [13, 12, 11, 10, 2], "at epoch 6, which five and more have passed"


def test_trials_that_break_a_constraint_neither_are_chosen_nor_say_where_to_compare() -> None:
    broken = [flat(n, 30, 0.9, worst_class_recall=0.1) for n in range(3)]
    kept = [flat(3, 10, 0.5, worst_class_recall=0.4), flat(4, 11, 0.3, worst_class_recall=0.4)]
    assert chosen([*broken, *kept], top=1, constraints={"worst_class_recall": {"min": 0.3}}) == [3]


def test_a_stopped_trial_that_keeps_the_constraints_is_chosen_before_finished_ones_that_break_them() -> None:
    broken = [flat(n, 40, 0.9, worst_class_recall=0.1) for n in range(3)]
    for trial in broken:
        trial.state = FINISHED
    kept = [flat(3, 10, 0.5, worst_class_recall=0.4), flat(4, 10, 0.6, worst_class_recall=0.4)]
    bound = {"constraints": {"worst_class_recall": {"min": 0.3}}}
    assert chosen([*broken, *kept], top=1, **bound) == [4]
    assert chosen([*broken, *kept], top=4, **bound) == [4, 3], "no place for one that breaks them"
    finished = flat(5, 40, 0.4, worst_class_recall=0.4)
    finished.state = FINISHED
    assert chosen([*broken, *kept, finished], top=1, **bound) == [5], "of those that keep them, one that finished"
    assert chosen(broken, top=1, **bound) == [0], "where none keeps them"


# What a run's log says, and what is trained of it


SEARCH_STEPS = 2 * drivers.STEPS  # of two epochs


def test_a_repeated_configuration_is_retrained_once_and_chosen_by_its_mean(tmp_path: Path, tiny_data: Path) -> None:
    study = tiny_study(retrain={"top": 2, "seeds": 1, "epochs": 2})
    run = begin(study, "r", Options(tmp_path, tiny_data))
    with run.log() as log:
        for number, (lr, value) in enumerate([(0.02, 0.9), (0.03, 0.6), (0.02, 0.5), (0.04, 0.1)]):
            config = study.space.complete({"train.lr": lr})
            log.append(TrialStarted(number, config, "sampler"))
            log.append(EpochDone(number, 3, {"macro_f1": value}, 1.0))
            log.append(TrialFinished(number))
        found = retrain._candidates(log, run.history(), study)
    assert [(each.trial, each.value) for each in found] == [(0, pytest.approx(0.7)), (1, 0.6)]


def network(fault: str, sound_steps: int = 0) -> dict[str, Any]:
    return {"model.faulty_net.fault": fault, "model.faulty_net.sound_steps": sound_steps}


def searched(storage: Path, data: Path, faults: list[str], **said: Any) -> Run:
    """A run whose search has finished a trial of each fault, the first one the best; nothing was trained."""
    knobs = {"fault": sorted(set(faults)), "tag": [0.0, 0.1, 0.2], "step_ms": 0, "fits": 16, "sound_steps": 0}
    space = {"model": [{"faulty_net": knobs}], "augment": ["none"], "balance": ["none"]}
    space["train"] = {"lr": 0.05, "batch_size": 32}  # type: ignore[assignment]
    study = tiny_study(
        **{"space": space, "retrain": {"top": len(faults), "seeds": 1, "epochs": 2}, "evaluate": {"protocols": []}}
        | said
    )
    run = begin(study, "r", Options(storage, data))
    with run.log() as log:
        log.append(RunStarted(stages=["search"]))
        log.append(StageStarted(stage="search"))
        for number, fault in enumerate(faults):
            config = study.space.complete({**network(fault), "model.faulty_net.tag": number / 10})
            log.append(TrialStarted(trial=number, config=config, source="sampler"))
            metrics = {"macro_f1": 0.9 - number / 10}
            log.append(EpochDone(trial=number, epoch=3, metrics=metrics, seconds=1.0))
            log.append(TrialFinished(trial=number))
        log.append(StageFinished(stage="search"))
    return run


@pytest.fixture
def faulty_parts() -> Any:
    parts.use_folder(PARTS)
    yield
    parts._own_folders.clear()


def retrained(run: Run, data: Path, told: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """One session of the stage, on a Ray that runs already; what it wrote to the log."""
    before = len(list(run.events()))
    with run.log() as log:
        if told is not None:
            log.listeners.append(told.append)
        context = stages._context(run, Options(run.storage, data, "cpu"), log.fence)
        retrain.retrain(run, log, context)
    return list(run.events())[before:]


def of(events: list[dict[str, Any]], kind: str) -> list[tuple[int, int]]:
    return [(event["candidate"], event["seed"]) for event in events if event["type"] == kind]


@only_full
@pytest.mark.slow
@pytest.mark.usefixtures("faulty_parts")
def test_a_model_that_cannot_be_trained_costs_that_model_alone(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The winner diverges, the second kills its workers, the third is sound. Slow: Ray is started."""
    monkeypatch.setattr(worker_losses, "WORKER_LOSSES", 1)
    run = searched(tmp_path, tiny_data, ["nan", "dies", "none"], search={"seed": 3})
    with ray_session.connected(None):
        events = retrained(run, tiny_data)
        again = retrained(run, tiny_data, told := [])
    failed = {event["candidate"]: event for event in events if event["type"] == "model_failed"}
    assert sorted(failed) == [0, 1]
    assert failed[0]["reason"] == "diverged"
    assert failed[1]["reason"] == "error"
    assert failed[1]["detail"].startswith("its worker was lost 2 times in one epoch")
    assert of(events, "model_finished") == [(2, 0)]
    assert events[-1] | {"seq": 0, "time_utc": ""} == {
        "v": 1,
        "seq": 0,
        "time_utc": "",
        "type": "stage_finished",
        "stage": "retrain",
    }
    history = run.history()
    assert history.models.keys() == {(2, 0)}
    assert sorted(of(again, "model_failed")) == [(0, 0), (1, 0)], "asked for anew, they are tried anew"
    assert (2, 0) not in of(told, "model_started")
    assert not list((run.folder / "final").rglob("last.safetensors"))
    assert winner_of(history, "r") == 2, "a factor study varies what has a model"


@only_full
@pytest.mark.slow
@pytest.mark.usefixtures("faulty_parts")
def test_where_no_model_can_be_trained_the_reasons_are_told(tiny_data: Path, tmp_path: Path) -> None:
    run = searched(tmp_path, tiny_data, ["nan"], retrain={"top": 1, "seeds": 2, "epochs": 2}, search={"seed": 3})
    with ray_session.connected(None):
        for _ in range(2):  # also on resume, which tries them again
            with pytest.raises(InputError, match=r"none of the 2 final models could be trained \(2 diverged"):
                retrained(run, tiny_data)
    assert sorted(of(list(run.events()), "model_failed")) == [(0, 0), (0, 0), (0, 1), (0, 1)]


@pytest.mark.usefixtures("faulty_parts")
def test_a_resumed_stage_leaves_failed_models_alone_where_there_is_another(tiny_data: Path, tmp_path: Path) -> None:
    """Nothing is left to train, so that no Ray is needed."""
    run = searched(tmp_path, tiny_data, ["nan", "none"])
    with run.log() as log:
        log.append(StageStarted(stage="retrain"))
        for trial in range(2):
            log.append(CandidateChosen(trial=trial, value=0.9 - trial / 10, rank=trial + 1))
        log.append(ModelFailed(candidate=0, seed=0, reason="diverged", detail="loss is nan"))
        log.append(ModelFinished(candidate=1, seed=0, metrics={"macro_f1": 0.8}))
    assert [event["type"] for event in retrained(run, tiny_data)] == ["stage_started", "stage_finished"]


@pytest.mark.slow
@pytest.mark.usefixtures("faulty_parts")
def test_no_more_models_are_trained_at_once_than_the_study_says(tiny_data: Path, tmp_path: Path) -> None:
    """One at a time where two would fit, in both stages that train many. Slow: Ray is started."""
    said = {"top": 2, "seeds": 1, "epochs": 2, "on": "all"}
    run = searched(tmp_path, tiny_data, ["none", "none"], retrain=said)  # search.concurrency is 1
    with ray_session.connected(None):
        trained_on_all(run, retrained(run, tiny_data, told := []), tiny_data)
        assert of(retrained(run, tiny_data), "model_finished") == [], "one on all faces, and no second one"
        with run.log() as log:
            log.listeners.append(told.append)
            context = stages._context(run, Options(run.storage, tiny_data, "cpu"), log.fence)
            factor_study.factors(run, log, context, Asked(seeds=1, epochs=1))
        slots = ray_session.capacity(run.study.resources)
        assert at_once(context, 1) == at_once(replace(context, joined=True), 1) == 1
        assert at_once(context, None) == at_once(context, slots + 3) == slots
        assert at_once(replace(context, joined=True), slots + 3) == slots + 3, "a cluster grows to what is asked for"
    ends = {"model_started": 1, "model_finished": -1, "factor_started": 1, "factor_finished": -1}
    in_training = list(accumulate(ends[event["type"]] for event in told if event["type"] in ends))
    assert max(in_training) == 1
    assert Progress.of(run.events()).ended == 3


def trained_on_all(run: Run, events: list[dict[str, Any]], data: Path) -> None:
    """The last model has seen the validation faces; nothing that an honest figure is made of knows of it."""
    *honest, last = [event for event in events if event["type"] == "model_finished"]
    assert ["on" in event for event in honest] == [False, False]
    assert (last["candidate"], last["seed"], last["on"]) == (0, 1, "all")
    assert "train_loss" in last["metrics"]
    assert "macro_f1" not in last["metrics"]
    history = run.history()
    assert sorted(history.models) == [(0, 0), (1, 0)]
    assert list(history.models_on_all) == [(0, 1)]
    faces = training_set.load(run.study, data)
    tensors, info = run.load_model_files(0, 1, "all")
    assert tensors.keys() == run.load_model_files(0, 0)[0].keys()
    assert sum(info["class_counts"]) == len(faces.train) + len(faces.validation)
    assert info["on"] == "all"
    assert info["metrics"]["adjust_tau"] == history.models[0, 0]["adjust_tau"]
    assert (predict.of_run(run, None).name, predict.of_run(run, "t0000-all").name) == ("r/t0000-s0", "r/t0000-all")
    assert finished_models(run) == [(0, 0), (1, 0)], "no sealed set is opened for it"


@pytest.mark.slow
def test_whoever_is_cut_off_lets_its_models_be_saved_first(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow: Ray is started."""
    for constant in ("SAVES_APART", "SAVES_APART_AT_MOST_S"):  # the part sets them here, too, not in workers alone
        monkeypatch.setattr(worker, constant, getattr(worker, constant))
    parts.use_folder(SELDOM_SAVED)
    study = tiny_study(
        space={
            "model": [{"seldom_saved": {"width": 0.25}}],
            "augment": ["none"],
            "balance": ["none"],
            "train": {"lr": 0.01, "batch_size": 140},
        },
    )
    run = Run.create(tmp_path, "r", study, data={}, environment={})
    checkpoint = tmp_path / "r" / "last.safetensors"
    job = Job(study.space.defaults(), 60, (3, 1, 0, 0), str(checkpoint), logs_epochs=False)

    def unsaved_epoch(happenings: Iterator[fleet.Happened]) -> int:
        """Trains until the workers are ahead of their checkpoint."""
        told: list[Epoch] = []
        for happened in happenings:
            if isinstance(happened, fleet.Trained):
                told.append(happened.epoch)
                if happened.epoch.unsaved and len(told) > 2:
                    return happened.epoch.epoch
            else:
                assert isinstance(happened, fleet.Started)
        raise AssertionError("every epoch was saved at once")

    def saved_epoch() -> int:
        return int(files.load_tensors(checkpoint)[1]["epoch"])

    with ray_session.connected(None), run.log() as log:
        options = Options(run.storage, tiny_data, "cpu", parts=(SELDOM_SAVED,))
        context = stages._context(run, options, log.fence)
        orders = [fleet.Order(0, 0, job, "model")]
        with suppress(Interrupted), fleet.Fleet(orders, context, study.resources) as interrupted:
            reached = unsaved_epoch(iter(interrupted))
            assert saved_epoch() < reached
            raise Interrupted("r", "SIGTERM")
        assert saved_epoch() == reached
        with fleet.Fleet(orders, context, study.resources) as stopped:
            happenings = iter(stopped)
            reached = unsaved_epoch(happenings)
            stopped.stop()
            assert list(happenings) == [], "nothing more is begun"
            assert saved_epoch() < reached
        assert saved_epoch() == reached


def at_once(context: Context, concurrency: int | None) -> int:
    """Of a hundred orders."""
    study = tiny_study(search={"concurrency": concurrency})
    return fleet.at_once(100, replace(context, study=study.to_data()), study.resources)


@pytest.mark.slow
def test_a_run_goes_on_to_its_report_with_the_models_that_there_are(tiny_data: Path, tmp_path: Path) -> None:
    """A whole run by the command line; one configuration is sound for as long as the search trains it. Slow: Ray."""
    faults = {"fault": ["none", "nan"], "tag": 0.0, "step_ms": 0, "fits": 16, "sound_steps": [0, SEARCH_STEPS]}
    said = drivers.study(
        budget={"trials": 2},
        fidelity={"min_epochs": 1, "max_epochs": SEARCH_STEPS // drivers.STEPS},
        retrain={"top": 2, "seeds": 1, "epochs": SEARCH_STEPS // drivers.STEPS + 1},
        evaluate={"protocols": ["synthetic.lab.6"]},
    )
    said["space"]["model"] = [{"faulty_net": faults}]
    starts = [network("none"), network("nan", SEARCH_STEPS)]
    said["search"] |= {"scheduler": "none", "start_with": starts, "concurrency": 2}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(said))
    where = ["--run", "r", "--storage", str(tmp_path), "--data", str(tiny_data), "--parts", str(PARTS)]
    command = [*DRIVER, "run", str(tmp_path / "study.yaml"), *where]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "model t0001 seed 0 failed (diverged" in ended.stderr
    history = Run(tmp_path, "r").history()
    assert {each.trial for each in history.candidates} == {0, 1}
    assert (list(history.models), history.failed_models) == ([(0, 0)], {(1, 0): "diverged"})
    report = json.loads((tmp_path / "r" / "report" / "report.json").read_text())
    assert [(each["candidate"], each["seed"]) for each in report["models"]] == [(0, 0)]
    scored = report["evaluation"]["synthetic.lab.6"]
    assert (scored["winner"], scored["seeds"], list(scored["candidates"])) == ("t0000", [0], ["t0000"])
    assert report["search"]["selection_bias"]["trial"] == 0


# The choice, where an interruption came into it


def interrupted_choice(storage: Path, data: Path, logged: list[int]) -> list[tuple[int, int]]:
    """A run that was killed when these candidates had been logged; (trial, rank) of all, once it has been resumed."""
    run = searched(storage, data, ["none"] * 3, retrain={"top": 2, "seeds": 1, "epochs": 2, "also": "baseline"})
    with run.log() as log:
        log.append(StageStarted(stage="retrain"))
        for rank, trial in enumerate(logged, start=1):
            log.append(CandidateChosen(trial=trial, value=0.9 - trial / 10, rank=rank))
        retrain._candidates(log, run.history(), run.study)
    return [(each.trial, each.rank) for each in run.history().candidates]


@pytest.mark.usefixtures("faulty_parts")
@pytest.mark.parametrize("logged", [[], [0], [0, 1]])
def test_candidates_that_an_interruption_kept_from_the_log_are_not_lost(
    tiny_data: Path, tmp_path: Path, logged: list[int]
) -> None:
    assert interrupted_choice(tmp_path, tiny_data, logged) == [(0, 1), (1, 2)]


@pytest.mark.usefixtures("faulty_parts")
def test_a_choice_by_other_rules_stands(tiny_data: Path, tmp_path: Path) -> None:
    assert interrupted_choice(tmp_path, tiny_data, [2]) == [(2, 1)]


@pytest.mark.usefixtures("faulty_parts")
def test_a_choice_that_models_were_trained_of_stands(tiny_data: Path, tmp_path: Path) -> None:
    run = searched(tmp_path, tiny_data, ["none"] * 2)
    with run.log() as log:
        log.append(CandidateChosen(trial=0, value=0.9, rank=1))
        log.append(ModelFinished(candidate=0, seed=0, metrics={"macro_f1": 0.8}))
        assert [each.trial for each in retrain._candidates(log, run.history(), run.study)] == [0]
