"""A worker: real training on tiny faces, cut off and gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facex_tune import parts
from facex_tune.emotions import GREY_48
from facex_tune.errors import InputError
from facex_tune.runs.lease import LeaseLost
from facex_tune.runs.store import Run
from facex_tune.search import worker as worker_room
from facex_tune.search.job import Context, Job
from facex_tune.search.worker import Worker
from facex_tune.search.worker_report import Epoch, Failure, Fatal, Note
from facex_tune.storage import files
from facex_tune.study import Study
from facex_tune.training import costs, posthoc, train
from facex_tune.training.classifier import build_model
from tests.search.conftest import tiny_study

FAULTY = Path(__file__).parents[1] / "faults" / "parts"


@pytest.fixture
def study() -> Study:
    return tiny_study(
        retrain={"weights": "ema"},
        space={
            "model": [{"facex_cnn": {"width": 0.25}}],
            "augment": ["flip_shift"],
            "balance": ["logit_adjust"],
            # fp32, because sealed sets are scored in it: in bf16 validation rounds otherwise than the loaded model.
            "train": {"lr": 0.03, "batch_size": 32, "ema_decay": 0.9, "progressive": True, "precision": "fp32"},
        },
    )


@pytest.fixture
def context(study: Study, tiny_data: Path, tmp_path: Path) -> Context:
    Run.create(tmp_path, "r", study, data={}, environment={})
    return Context(str(tmp_path), "r", study.to_data(), str(tiny_data), threads=1, device="cpu", parts=(), fence=1)


def job(context: Context, name: str = "a", epochs: int = 3) -> Job:
    config = Study.from_data(context.study).space.defaults()
    return Job(config, epochs, (3, 0, 0, 0), str(Path(context.storage) / f"{name}.safetensors"))


def trained(worker: Worker) -> Epoch:
    """One step, which must have come to an epoch."""
    report = worker.step()
    assert isinstance(report, Epoch), report
    return report


def failed(worker: Worker) -> Failure:
    """One step, which must have failed."""
    report = worker.step()
    assert isinstance(report, Failure), report
    return report


def without_times(report: Epoch) -> tuple[int, dict[str, float]]:
    return report.epoch, {name: value for name, value in report.metrics.items() if name != "train_images_per_second"}


def test_a_job_cut_off_after_any_epoch_ends_as_if_it_had_not_been(context: Context) -> None:
    worker = Worker(context)
    worker.begin(job(context, "whole"))
    whole = [without_times(trained(worker)) for _ in range(3)]
    for cut in (1, 2):
        first = Worker(context)
        first.begin(job(context, f"cut{cut}"))
        for _ in range(cut):
            first.step()
        second = Worker(context)
        second.begin(job(context, f"cut{cut}"))
        again = [without_times(trained(second)) for _ in range(cut, 4)]
        assert again == whole[cut - 1 :], "the saved epoch again, then the others as before"


def test_a_warm_worker_takes_another_job_as_a_fresh_one_would(context: Context) -> None:
    worker = Worker(context)
    worker.begin(job(context, "a"))
    worker.step()
    worker.begin(job(context, "b"))
    fresh = Worker(context)
    fresh.begin(job(context, "c"))
    assert without_times(trained(worker)) == without_times(trained(fresh))


def test_a_job_has_the_threads_that_were_chosen_for_it(context: Context) -> None:
    worker, before = Worker(context), torch.get_num_threads()
    try:
        for threads, has in ((2, 2), (None, 1)):
            worker.begin(replace(job(context, f"with {threads}"), threads=threads))
            trained(worker)
            assert torch.get_num_threads() == has
    finally:
        torch.set_num_threads(before)


def test_the_checkpoint_is_there_before_anybody_is_told(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(context)
    worker.begin(job(context))

    def disk_full(*arguments: object) -> None:
        raise InputError("no space left in x: 1 MB more are needed")

    monkeypatch.setattr(files, "save_tensors", disk_full)
    assert worker.step() == Fatal("no space left in x: 1 MB more are needed")


def saved_epoch(job: Job) -> int:
    return int(files.load_tensors(Path(job.checkpoint))[1]["epoch"])


def test_what_no_log_holds_is_saved_when_it_is_worth_it(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_room, "SAVES_APART", 1e9)  # as if an epoch were trained in no time
    final = replace(job(context, "final", epochs=4), logs_epochs=False)
    worker = Worker(context)
    worker.begin(final)
    whole = [trained(worker) for _ in range(3)]
    assert saved_epoch(final) == 1, "the first, which tells how long a save takes"
    assert [each.unsaved for each in whole] == [False, True, True]
    cut_off = Worker(context)
    cut_off.begin(final)
    again = [trained(cut_off) for _ in range(4)]
    assert [without_times(each) for each in again[:3]] == [without_times(each) for each in whole]
    assert saved_epoch(final) == 4, "the last: the model is made of it"
    worker.save()
    assert saved_epoch(final) == 3, "whoever is cut off saves first"


def test_what_a_failed_epoch_left_is_not_saved(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_room, "SAVES_APART", 1e9)
    final = replace(job(context, "final", epochs=4), logs_epochs=False)
    worker = Worker(context)
    worker.begin(final)
    worker.step()
    worker.step()
    assert worker.training is not None

    def breaks() -> None:
        raise RuntimeError("no such layer")

    monkeypatch.setattr(worker.training, "epoch", breaks)
    assert failed(worker).reason == "error"
    worker.save()
    assert saved_epoch(final) == 1


def test_what_takes_long_to_train_is_saved_each_time(context: Context) -> None:
    final = replace(job(context, "final", epochs=3), logs_epochs=False)
    worker = Worker(context)
    worker.begin(final)
    worker.step()
    worker._unsaved_s, worker._saving_s = 1.0, 1.0 / worker_room.SAVES_APART
    worker.step()
    assert saved_epoch(final) == 2


def test_an_epoch_that_the_log_holds_is_saved_however_long_that_takes(context: Context) -> None:
    logged = job(context, "trial")
    worker = Worker(context)
    worker.begin(logged)
    worker.step()
    worker._saving_s = 1e9
    worker.step()
    assert saved_epoch(logged) == 2


def test_a_finished_model_loads_and_scores_as_it_did(context: Context, tiny_data: Path) -> None:
    from facex_tune import metrics
    from facex_tune.data import faces
    from facex_tune.training import classifier

    worker = Worker(context)
    worker.begin(job(context, epochs=2))
    worker.step()
    last = trained(worker)
    assert worker.finish(0, 1) == last.metrics
    run = Run(Path(context.storage), "r")
    tensors, info = run.load_model_files(0, 1)
    model = classifier.load_model(info["config"], tensors, info["n_classes"], torch.device("cpu"))
    validation = faces.open_set(tiny_data, "synthetic").where("public_test")
    scores = metrics.scores(
        classifier.probabilities_NC(model, validation.images_NHW, torch.device("cpu")), validation.labels_N
    )
    assert scores["macro_f1"] == pytest.approx(last.metrics["macro_f1"], abs=1e-6)
    assert scores["log_loss"] == pytest.approx(last.metrics["log_loss"], abs=1e-5)  # other batch shapes, other sums
    seen_N = faces.open_set(tiny_data, "synthetic").where("train").labels_N
    assert info["class_counts"] == np.bincount(seen_N, minlength=7).tolist()
    assert info["data"] == ["synthetic"]
    adjustment = posthoc.of_model(info)
    assert adjustment is not None
    assert adjustment.class_counts == tuple(worker.training.target_shares.tolist())
    assert adjustment.tau == last.metrics["adjust_tau"]
    lines = (run.final_folder(0, 1) / "history.csv").read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("epoch,")
    again = Worker(context)
    again.begin(worker.job)
    assert again.step() == last, "a driver that was killed before it logged the model finds it whole"


def test_a_diverging_trial_says_so(context: Context) -> None:
    worker = Worker(context)
    diverging = job(context)
    diverging.config["train.lr"] = 1e30
    worker.begin(diverging)
    report = failed(worker)
    assert report.reason == "diverged"
    assert "nan" in report.detail or "finite" in report.detail


def test_a_part_that_breaks_fails_its_trial_alone(context: Context, tmp_path: Path) -> None:
    (tmp_path / "own" / "models").mkdir(parents=True)
    (tmp_path / "own" / "models" / "broken_net.py").write_text(
        '"""Breaks."""\nSPACE = {}\nPRECISION = "fp32"\n'
        'def build(knobs, n_classes):\n    raise RuntimeError("no such layer")\n'
    )
    parts.use_folder(tmp_path / "own")
    worker = Worker(context)
    broken = job(context)
    broken.config["model"] = "broken_net"
    worker.begin(broken)
    report = failed(worker)
    assert report.seconds > 0, "it held its place so long"
    assert report == Failure("error", "RuntimeError: no such layer", report.seconds)
    worker.begin(job(context, "next"))
    assert trained(worker).epoch == 1
    parts._own_folders.clear()


@pytest.mark.parametrize("damage", ["truncated", "garbage", "gone", "old"])
def test_a_lost_checkpoint_costs_its_epochs_and_is_told(context: Context, damage: str) -> None:
    worker = Worker(context)
    worker.begin(job(context))
    first = trained(worker)
    path = Path(worker.job.checkpoint)
    content = path.read_bytes()
    second = trained(worker)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {"truncated": path.read_bytes()[:-200], "garbage": b"\x08" + b"\0" * 7 + b"garbage!"}.get(damage, content)
        )
    again = Worker(context)
    again.begin(replace(worker.job, epochs_done=2))
    reports = [trained(again), trained(again)]
    assert [without_times(report) for report in reports] == [without_times(first), without_times(second)]
    [note] = reports[0].notes
    assert note.reason == "checkpoint_lost"
    assert str(path) in note.detail
    assert reports[1].notes == ()


def test_a_batch_that_cannot_be_captured_is_told_once(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(train, "Captured", refused)
    worker = Worker(context)
    worker.begin(job(context))
    assert worker.step().notes == (), "no GPU, nothing to capture"
    assert worker.training is not None
    worker.training.replays = True
    [note] = worker.step().notes
    assert note.reason == "not_captured"
    assert note.detail.endswith("(operation not permitted when stream is capturing)")
    assert worker.step().notes == ()


def test_a_worker_of_a_driver_that_lost_the_run_writes_nothing(context: Context) -> None:
    run = Run(Path(context.storage), "r")
    with run.log() as log:
        worker = Worker(replace(context, fence=log.fence))
        worker.begin(job(context))
        worker.step()
    content = Path(worker.job.checkpoint).read_bytes()
    with run.log() as log:
        report = worker.step()
        assert isinstance(report, Fatal)
        assert "taken over" in report.problem
        assert Path(worker.job.checkpoint).read_bytes() == content
        with pytest.raises(LeaseLost):
            worker.finish(0, 0)
        assert not run.final_folder(0, 0).exists()
        heir = Worker(replace(context, fence=log.fence))
        heir.begin(job(context))
        assert [trained(heir).epoch, trained(heir).epoch] == [1, 2]


def test_a_batch_that_does_not_fit_is_halved_and_told_once(context: Context) -> None:
    parts.use_folder(FAULTY)
    hungry = job(context)
    knobs = {"fault": "host_memory", "tag": 0.0, "step_ms": 0, "fits": 16, "sound_steps": 0}
    hungry.config.update(
        {"model": "faulty_net", **{f"model.faulty_net.{name}": value for name, value in knobs.items()}}
    )
    worker = Worker(replace(context, parts=(str(FAULTY),)))
    worker.begin(hungry)
    reports = [worker.step(), worker.step()]
    assert reports[0].notes == (Note("out_of_memory", "a batch of 32 is halved, its gradients are added up"),)
    assert reports[1].notes == ()
    hungry.config["model.faulty_net.fits"] = 4
    worker.begin(replace(hungry, checkpoint=hungry.checkpoint + "2"))
    report = failed(worker)
    assert report.reason == "out_of_memory"
    assert report.detail.startswith("with half the batch too: ")
    parts._own_folders.clear()


def test_faces_that_cannot_be_read_stop_the_run_and_not_a_trial(context: Context, tmp_path: Path) -> None:
    worker = Worker(replace(context, data_dir=str(tmp_path / "nowhere")))
    worker.begin(job(context))
    report = worker.step()
    assert isinstance(report, Fatal)
    assert "data set 'synthetic' is not prepared" in report.problem


def test_a_network_is_counted_and_measured_once_and_never_again(
    context: Context, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the log or the checkpoint knows stands, or a resumed trial would be another one than it was."""
    asked = {**study.to_data(), "objective": ["macro_f1", "images_per_second"]}
    context = replace(context, study=asked)
    first = Worker(context)
    first.begin(job(context))
    one, two = trained(first).metrics, trained(first).metrics
    assert one["images_per_second"] == two["images_per_second"] > 0
    network = build_model(job(context).config, 7)
    assert one["parameters"] == sum(each.numel() for each in network.parameters())
    assert one["macs"] == costs.counted(network, GREY_48, torch.device("cpu"))["macs"]

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(worker_room.costs, "counted", never)
    monkeypatch.setattr(worker_room.costs, "images_per_second", never)
    resumed = Worker(context)
    resumed.begin(job(context))
    assert trained(resumed).metrics["images_per_second"] == one["images_per_second"], "of the checkpoint"
    assert trained(resumed).metrics["images_per_second"] == one["images_per_second"]
    told = Worker(context)
    told.begin(replace(job(context, "b"), costs={"parameters": 1.0, "macs": 2.0, "images_per_second": 3.0}))
    assert trained(told).metrics["images_per_second"] == 3.0, "of the log"


def test_speed_is_measured_where_the_study_asks_for_it(context: Context) -> None:
    worker = Worker(context)
    worker.begin(job(context))
    assert {"parameters", "macs"} <= trained(worker).metrics.keys()
    assert "images_per_second" not in worker.history[-1]
