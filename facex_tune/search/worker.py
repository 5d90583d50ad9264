"""What runs inside a worker process: one configuration after another, an epoch at a time; an epoch that the log is to
hold is durable before it is told.

Knows nothing of Ray: `trainable.py` and `fleet.py` put it on actors.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facex_tune import parts
from facex_tune.data import training_set
from facex_tune.errors import InputError, StorageOutage, one_line
from facex_tune.metrics import COSTS
from facex_tune.runs.lease import LeaseLost
from facex_tune.runs.names import ALL
from facex_tune.runs.store import Run
from facex_tune.search.job import Context, Job
from facex_tune.search.watchdog import Watchdog
from facex_tune.search.worker_report import Epoch, Failure, Fatal, Note, Outage, Report
from facex_tune.storage import files, remote_path
from facex_tune.storage.files import Place
from facex_tune.study import Study
from facex_tune.training import costs, devices, posthoc, train
from facex_tune.training.batches import Split

LONGEST_DETAIL = 500  # characters of an error that the log keeps
LAST_WORD_S = 5.0  # of a process that ends itself, to a store that may not answer
HANGS_FORGIVEN = 1  # the second is no accident
SAVES_APART = 10.0  # times a save's own duration: it then costs a tenth of the time, and a crash as much training
SAVES_APART_AT_MOST_S = 300.0


class Worker:
    """One process's trainer: loads the faces once, at the first step, then takes jobs."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.study = Study.from_data(context.study)
        self.run = Run(context.storage, context.run)
        self._faces: tuple[Split, Split] | None = None
        self._faces_on: str | None = None  # which job's they are
        self._watchdog = Watchdog(self.study.search.hung_after, self._remember_hang)

    def _load(self, on: str | None) -> tuple[Split, Split]:
        """Train and validation, on the device.

        Args:
            on: "all" for the splits of `training_set.load_all`.
        """
        context = self.context
        for folder in context.parts:
            parts.use_folder(folder)
        self.device = devices.pick_device(context.device)
        load = training_set.load_all if on == ALL else training_set.load
        loaded = load(self.study, Path(context.data_dir))
        self.n_classes = loaded.n_classes
        seen, validation = loaded.train, loaded.validation
        return (
            Split.of(seen.images_NHW, seen.labels_N, loaded.targets_NC, self.device, loaded.odds_N),
            Split.of(validation.images_NHW, validation.labels_N, None, self.device),
        )

    def begin(self, job: Job) -> None:
        """Takes a job. The first `step` reports what goes wrong in building it."""
        self.job = job
        self.training: train.Training | None = None
        self.history: list[dict[str, float]] = []
        self._costs: dict[str, float] | None = None
        self._resumed = False
        self._epoch_seconds: list[float] = []
        self._unsaved_s, self._saving_s = 0.0, 0.0  # trained since the last save, which took so long
        self._notes: list[Note] = []
        if self._faces is not None:
            devices.release_memory(self.device)  # of the job before, which others on this GPU may want

    def step(self) -> Report:
        """Trains one epoch, saved before it is reported if the log is to hold it; the first step after a resume reports
        the saved epoch again.
        """
        usual_s = statistics.median(self._epoch_seconds) if self._epoch_seconds else None
        self._notes = []
        start = time.perf_counter()
        try:
            with self._watchdog.watching(usual_s):
                report: Report = self._step()
        except train.Diverged as error:
            report = Failure("diverged", str(error))
        except (InputError, LeaseLost) as error:
            report = Fatal(str(error))
        except StorageOutage as error:
            report = Outage(str(error))
        except Exception as error:
            report = self._failed(error)
        if not isinstance(report, Epoch):
            self._unsaved_s = 0.0  # what an epoch that failed has left is not to be saved
        if isinstance(report, Failure):
            report = replace(report, seconds=time.perf_counter() - start)
        return replace(report, notes=tuple(self._notes))

    def _step(self) -> Epoch | Failure:
        if self.training is None:
            hangs = self._hangs()
            if hangs["times"] > HANGS_FORGIVEN:
                return Failure("hung", f"{hangs['times']} times; the last time {hangs['detail']}")
            if hangs["times"]:
                self._note("hung", hangs["detail"])
            self.training = self._build()
            if self._resumed:
                return self._saved_report()
        return self._epoch(self.training)

    def _failed(self, error: Exception) -> Failure:
        if not devices.is_out_of_memory(error):
            return Failure("error", f"{type(error).__name__}: {one_line(error, LONGEST_DETAIL)}")
        halved = self.training is not None and max(self.training.slices, self.training.evaluation_slices) > 1
        detail = one_line(error, LONGEST_DETAIL)
        return Failure("out_of_memory", f"with half the batch too: {detail}" if halved else detail)

    def _note(self, reason: str, detail: str) -> None:
        self._notes.append(Note(reason, detail))

    def _hangs(self) -> dict[str, Any]:
        """How often this job's process had to be ended because it stood still, and where it stood last."""
        try:
            hangs: dict[str, Any] = files.read_json(self._hangs_path)
        except (FileNotFoundError, files.DamagedRun):
            return {"times": 0, "detail": ""}
        return hangs

    def _remember_hang(self, detail: str) -> None:
        with suppress(StorageOutage), remote_path.hurry(LAST_WORD_S):
            files.write_json(self._hangs_path, {"times": self._hangs()["times"] + 1, "detail": detail})

    @property
    def _hangs_path(self) -> Place:
        return files.place(self.job.checkpoint).with_name("hung.json")

    def finish(self, candidate: int, replicate: int) -> dict[str, float]:
        """Keeps the trained model as a final one, and returns its validation metrics. Its checkpoint stays until the
        log knows of the model.
        """
        assert self.training is not None
        import pandas as pd

        self._check_fence()
        folder = self.run.final_folder(candidate, replicate, self.job.on)
        tensors = dict(self.training.kept.state_dict())
        last = self.history[-1]
        info = {
            "trial": candidate,
            "seed": replicate,
            "config": self.job.config,
            "epochs": self.training.done,
            "weights": self.study.retrain.weights,
            "n_classes": self.n_classes,
            "data": list(self.study.sets),
            "face": self.training.face.to_data(),
            "class_counts": self.training.class_counts.tolist(),
            "target_shares": self.training.target_shares.tolist(),
            "metrics": self._kept_metrics(last),
            "params": sum(parameter.numel() for parameter in self.training.model.parameters()),
            "train_images_per_second": last.get("train_images_per_second"),
            "device": str(self.device),
            "precision": self.training.precision,
        }
        info |= {name: said for name in ("on", "threads") if (said := getattr(self.job, name)) is not None}
        if (source := self.training.pretrained) is not None:
            info["pretrained"] = {"file": source.file, "sha256": source.sha256}
        csv = pd.DataFrame(self.history).rename_axis("epoch").rename(index=lambda row: row + 1).to_csv()
        files.write_bytes(folder / "history.csv", csv.encode())
        self.run.save_model(candidate, replicate, tensors, info, self.job.on)
        return last

    def _kept_metrics(self, last: Mapping[str, float]) -> dict[str, float]:
        return {**last, **({} if self.job.adjust_tau is None else {posthoc.TAU: self.job.adjust_tau})}

    def _build(self) -> train.Training:
        if self._faces is None or self._faces_on != self.job.on:
            self._faces = None  # before others take its memory
            self._faces, self._faces_on = self._load(self.job.on), self.job.on
        if self.device.type == "cpu":
            torch.set_num_threads(self.job.threads or self.context.threads)
        training = train.Training(
            self.job.config,
            *self._faces,
            n_classes=self.n_classes,
            epochs=self.job.epochs,
            seed=self.job.seed,
            device=self.device,
            weights=self.study.retrain.weights,
        )
        training.on_batch = self._watchdog.beat
        if (saved := self._saved()) is not None:
            tensors, values = saved
            training.load_state(tensors, values)
            self.history = values["history"]
            self._seconds = values["seconds"]
            self._resumed = True
        return training

    def _saved(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The job's checkpoint, None before its first epoch. One that is damaged or gone costs its epochs, which are
        trained again, and is told.
        """
        path = files.place(self.job.checkpoint)
        try:
            tensors, values = files.load_tensors(path)
        except FileNotFoundError:
            if self.job.epochs_done:
                self._note("checkpoint_lost", f"{path}: gone; training starts again from epoch 1")
            return None
        except files.DamagedRun as error:
            self._note("checkpoint_lost", f"{one_line(error, LONGEST_DETAIL)}; training starts again from epoch 1")
            return None
        if values["epoch"] < self.job.epochs_done:
            self._note("checkpoint_lost", f"{path}: an old one; training goes on after epoch {values['epoch']}")
        return tensors, values

    def _saved_report(self) -> Epoch:
        """The epoch of the checkpoint, which may have been saved without anybody having been told."""
        return self._report(len(self.history), self.history[-1], self._seconds)

    def _epoch(self, training: train.Training) -> Epoch:
        start, slices, replays = time.perf_counter(), training.slices, training.replays
        evaluation_slices = training.evaluation_slices
        done = training.epoch()
        if training.evaluation_slices > evaluation_slices:
            self._note("out_of_memory", "validation's batches are halved, which changes nothing of what it finds")
        if training.slices > slices:
            self._note("out_of_memory", f"a batch of {training.batches.size} is halved, its gradients are added up")
        if replays and training.not_captured:
            why = one_line(training.not_captured, LONGEST_DETAIL)
            self._note("not_captured", f"batches are launched kernel by kernel, which may take far longer ({why})")
        seconds = time.perf_counter() - start
        if self._costs is None:
            self._costs = self._costs_of(training)
        found = (_of_training(done.metrics) if self.job.on == ALL else done.metrics) | self._costs
        self.history.append(found)
        self._epoch_seconds.append(seconds)
        self._unsaved_s += seconds
        self._check_fence()
        report = self._report(done.epoch, found, seconds)
        if not self._must_save():
            return replace(report, unsaved=True)
        self._save(training, seconds)
        return report

    def _costs_of(self, training: train.Training) -> dict[str, float]:
        """What the network costs (`metrics.COSTS`): as the log or the checkpoint knows it, else counted and, where the
        study asks for its speed, measured.
        """
        known = {**(self.history[-1] if self.history else {}), **self.job.costs}
        found = {name: known[name] for name in COSTS if name in known}
        wanted = {*self.study.objective, *self.study.bounds}.intersection(COSTS)
        try:
            if not {"parameters", "macs"} <= found.keys():
                found = {**costs.counted(training.kept, training.face, self.device), **found}
            if "images_per_second" in wanted - found.keys():
                found["images_per_second"] = costs.images_per_second(training.kept, training.face, self.device)
        except Exception:  # of a network that takes no single face; it matters where the study asks
            if wanted - found.keys():
                raise
        return found

    def save(self) -> None:
        """Saves what was trained since the last save, if anything."""
        if self.training is not None and self._unsaved_s > 0:
            self._check_fence()
            self._save(self.training, self._epoch_seconds[-1])

    def _must_save(self) -> bool:
        is_last = len(self.history) >= self.job.epochs
        apart_s = min(SAVES_APART * self._saving_s, SAVES_APART_AT_MOST_S)
        return self.job.logs_epochs or is_last or self._unsaved_s >= apart_s

    def _save(self, training: train.Training, seconds: float) -> None:
        start = time.perf_counter()
        tensors, values = training.state()
        values |= {"history": self.history, "seconds": seconds}
        files.save_tensors(files.place(self.job.checkpoint), tensors, values)
        self._unsaved_s, self._saving_s = 0.0, time.perf_counter() - start

    def _report(self, epoch: int, metrics: dict[str, float], seconds: float) -> Epoch:
        return Epoch(epoch, metrics, seconds, socket.gethostname())

    def _check_fence(self) -> None:
        """What another driver's workers write must not be overwritten by those of one that lost the run. Between this
        look and the write lies the time of one write; what then comes too late is an epoch that both would compute
        alike.
        """
        newest = self.run.newest_fence()
        if newest > self.context.fence:
            raise LeaseLost(f"run {self.context.run!r} was taken over by another process; this one writes no more")


def _of_training(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those that no face is scored for."""
    return {name: value for name, value in metrics.items() if name.startswith("train_")}
