"""The search stage: our referee decides, Ray Tune places and runs."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.callback import Callback
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher as TuneSearcher

from facex_tune import parts
from facex_tune.errors import InputError
from facex_tune.search import cluster, node, warm_start
from facex_tune.search.referee import WORKER_LOSSES, Referee
from facex_tune.search.searcher import AHEAD_FROM_SLOTS
from facex_tune.search.trainable import FaceTrial
from facex_tune.search.worker import Context
from facex_tune.store import Log, Run


def search(run: Run, log: Log, context: Context) -> None:
    """Runs the study's search to the end of its budget; does nothing where the log says that it ended.

    Raises:
        InputError: the cluster cannot hold one trial, the disk is full, or no trial could be trained.
    """
    if run.history().stages.get("search") == "finished":
        return
    log.append("stage_started", stage="search")
    for text in (run.study.repetition, *parts.notes(run.study.space)):
        if text:
            log.tell("note", text=text)
    warm_start.learn(run, log)
    resources = run.study.resources
    limit = run.study.search.concurrency
    slots = cluster.capacity(resources, limit if context.joined else None)
    referee = Referee(run, log, ahead=(limit or slots) >= AHEAD_FROM_SLOTS)

    def free() -> bool:
        return len(referee.live) < (limit or max(slots, cluster.capacity(resources, slots)))

    node.check_storage(run.folder)
    shared = node.share(context)
    with tempfile.TemporaryDirectory(prefix="facex-tune-") as scratch:
        _fit(referee, context, shared, free, scratch)
    if referee.fatal is not None:
        raise referee.fatal
    if problem := referee.nothing_trained():
        raise InputError(problem)
    log.append("stage_finished", stage="search", reason=referee.over())


def _fit(referee: Referee, context: Context, shared: node.Shared, free: Callable[[], bool], scratch: str) -> None:
    resources = referee.study.resources
    trainable = tune.with_resources(
        tune.with_parameters(FaceTrial, context=context, shared=shared), {"cpu": resources.cpus, "gpu": resources.gpus}
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_Suggestions(referee, free),
            scheduler=_Decisions(referee),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=context.run,
            storage_path=scratch,
            verbose=0,
            callbacks=[_Silence(), _Beginnings(referee)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=WORKER_LOSSES),
        ),
    )
    tuner.fit()


def _trial_name(trial: Any) -> str:
    """The name that a person finds in Ray's own views."""
    return f"t{trial.config['trial']:04d}-{trial.config['job']['config']['model']}"


class _Silence(TrialProgressCallback):
    """Tune prints a line for a trial that ends before it has begun, however quiet it is told to be."""

    def on_trial_result(self, *_: Any, **__: Any) -> None:
        """Our live view tells it."""

    def on_trial_error(self, *_: Any, **__: Any) -> None:
        """See `on_trial_result`."""

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        """See `on_trial_result`."""


class _Forgotten:
    """Tune pickles what it is given, to restore it one day; a run is resumed from its log, so nothing is kept."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Beginnings(_Forgotten, Callback):
    """Tells the referee when a worker begins a trial, which may have waited for it, or lost one before."""

    def __init__(self, referee: Referee) -> None:
        self._referee = referee

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker is there."""
        self._referee.worker_began(trial.config["trial"])


class _Suggestions(_Forgotten, TuneSearcher):
    """Hands the referee's trials to Tune."""

    def __init__(self, referee: Referee, free: Callable[[], bool]) -> None:
        super().__init__(metric="report", mode="max")
        self._referee, self._free = referee, free

    def suggest(self, trial_id: str) -> Any:
        with _held(self._referee):
            if self._referee.fatal is None and not self._free():
                return None
            trial = self._referee.next_trial()
            if trial is not None:
                return {"trial": trial.number, "job": asdict(self._referee.job(trial))}
        return str(TuneSearcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The scheduler has told the referee already."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a run is resumed from its log."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: see `save`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


class _Decisions(_Forgotten, FIFOScheduler):
    """Asks the referee after each epoch; and, once a budget is used up or the search must end, stops the trials that
    wait for a worker.
    """

    def __init__(self, referee: Referee) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._referee = referee

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        with _held(self._referee):
            goes_on = self._referee.take(trial.config["trial"], json.loads(result["report"]))
            for other in [each for each in tune_controller.get_live_trials() if each.status == Trial.PENDING]:
                if self._referee.fatal is not None or self._referee.call_off(other.config["trial"]):
                    tune_controller.stop_trial(other)
            if goes_on:
                return str(TrialScheduler.CONTINUE)
        return str(TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Tune calls this at every loss of a worker, also where it starts the trial again. Its own count never falls,
        so the limit is moved to where the referee has it.
        """
        with _held(self._referee):
            left = self._referee.lose_worker(trial.config["trial"], _cause(trial))
            trial.max_failures = trial.num_failures + left


def _cause(trial: Any) -> str:
    """What Ray says of a lost worker, in a line: of a traceback the last one, else the first."""
    if trial.error_file is None:
        return "no more is known"
    said = Path(trial.error_file).read_text(encoding="utf-8", errors="replace").rpartition("Failure # ")[2]
    lines = [line.strip() for line in said.splitlines()[1:] if line.strip()]
    is_traceback = any(line.startswith("Traceback") for line in lines)
    return lines[-1 if is_traceback else 0][:300] if lines else "no more is known"


class _held(contextlib.AbstractContextManager[None]):
    """Keeps an exception from Tune, which would count it as a trial's fault: the referee holds it, and the search
    ends.
    """

    def __init__(self, referee: Referee) -> None:
        self._referee = referee

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Exception):
            self._referee.fatal = self._referee.fatal or error
            return True
        return False
