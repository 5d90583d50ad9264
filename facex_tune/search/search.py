"""The search stage: our referee decides, Ray Tune places and runs."""

from __future__ import annotations

import contextlib
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
from facex_tune.runs.events import Note, StageFinished, StageStarted
from facex_tune.runs.names import trial_label
from facex_tune.runs.store import Log, Run
from facex_tune.search import data_placement, ray_session, thread_choice, warm_start, worker_report
from facex_tune.search.data_placement import Shared
from facex_tune.search.job import Context
from facex_tune.search.referee import Referee
from facex_tune.search.searcher import AHEAD_FROM_SLOTS
from facex_tune.search.trainable import FaceTrial
from facex_tune.search.worker_losses import WORKER_LOSSES


def search(run: Run, log: Log, context: Context) -> None:
    """Runs the study's search to the end of its budget; does nothing where the log says that it ended.

    Raises:
        InputError: the cluster cannot hold one trial, the disk is full, or no trial could be trained.
    """
    if run.history().stages.get("search") == "finished":
        return
    log.append(StageStarted("search"))
    for text in (run.study.short_retraining, run.study.repetition, *parts.notes(run.study.space)):
        if text:
            log.tell(Note(text))
    warm_start.learn(run, log)
    resources = run.study.resources
    limit = run.study.search.concurrency
    slots = ray_session.capacity(resources, limit if context.joined else None)
    threads = thread_choice.of_search(run, log, context, _trials_left(run))
    referee = Referee(run, log, ahead=(limit or slots) >= AHEAD_FROM_SLOTS, threads=threads)

    def free() -> bool:
        if threads and referee.threads_held() >= slots:
            return False
        return len(referee.live) < (limit or max(slots, ray_session.capacity(resources, slots)))

    data_placement.check_storage(run.folder)
    shared = data_placement.share(context)
    with tempfile.TemporaryDirectory(prefix="facex-tune-", dir=ray_session.session_folder()) as scratch:
        _fit(referee, context, shared, free, scratch)
    if referee.fatal is not None:
        raise referee.fatal
    if problem := referee.nothing_trained():
        raise InputError(problem)
    log.append(StageFinished("search", referee.over()))


def _trials_left(run: Run) -> int | None:
    trials = run.study.budget.trials
    return None if trials is None else max(1, trials - len(run.history().trials))


def _fit(referee: Referee, context: Context, shared: Shared, free: Callable[[], bool], scratch: str) -> None:
    resources = referee.study.resources

    def held(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        threads = config["job"]["threads"] or resources.least_cpus
        return tune.PlacementGroupFactory([{"CPU": min(threads, ray_session.cpus())}])  # chosen on a larger machine?

    trainable = tune.with_resources(
        tune.with_parameters(FaceTrial, context=context, shared=shared),
        held if resources.cpus == "auto" else {"cpu": resources.cpus, "gpu": resources.gpus},
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
    return f"{trial_label(trial.config['trial'])}-{trial.config['job']['config']['model']}"


class _Silence(TrialProgressCallback):
    """Tune prints a line for a trial that ends before it has begun, however quiet it is told to be."""

    def on_trial_result(self, *_: Any, **__: Any) -> None:
        """Does nothing: our live view shows the result."""

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
        """Tells the referee that a worker has begun the trial."""
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
            may_come_back = self._referee.live and self._referee.fatal is None  # see `_Decisions.on_trial_error`
            if self._referee.waits or may_come_back:
                return None
        return str(TuneSearcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Does nothing: the scheduler has told the referee already."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: a run is resumed from its log."""

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
            goes_on = self._referee.take(trial.config["trial"], worker_report.from_json(result["report"]))
            for other in [each for each in tune_controller.get_live_trials() if each.status == Trial.PENDING]:
                if self._referee.fatal is not None or self._referee.call_off(other.config["trial"]):
                    tune_controller.stop_trial(other)
            if goes_on:
                return str(TrialScheduler.CONTINUE)
        return str(TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Tune calls this at every loss of a worker, also where it starts the trial again. Its own count never falls,
        so the limit is moved to where the referee has it.

        A worker that is lost while it changes to another trial is told of twice. At the second time the trial waits to
        start again, and Tune (2.60) gives it up whatever the limit says; so the referee has it started anew.
        """
        with _held(self._referee):
            if trial.status == Trial.PENDING:
                self._referee.hand_back(trial.config["trial"])
                return
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
