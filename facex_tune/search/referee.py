"""The search itself, without Ray: what runs next, what goes on, when it is over. Every word goes to the log before
anybody acts on it.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any

from facex_tune import retention, seeds
from facex_tune.errors import InputError, StorageOutage
from facex_tune.history import FAILED, FINISHED, RUNNING, STOPPED, Trial, fold, keeps
from facex_tune.metrics import gives_one_answer
from facex_tune.search import scheduler as schedulers
from facex_tune.search.searcher import Searcher
from facex_tune.search.worker import Job, Report
from facex_tune.space import Config
from facex_tune.store import Event, Log, Run

WORKER_LOSSES = 5  # in one epoch; a sixth worker would be lost to it too
HOPELESS = 20  # failures in a row before any epoch; where every second configuration fails, one search in a million


class Referee:
    """One search in progress, rebuilt from the run's log whenever a driver starts.

    Args:
        log: the right to write; every event goes through it.
        clock: seconds, for the wall-clock budget.
        ahead: see `Searcher`.
    """

    def __init__(self, run: Run, log: Log, clock: Callable[[], float] = time.monotonic, *, ahead: bool = False) -> None:
        self.run, self.log, self.study = run, log, run.study
        self.scheduler = schedulers.build(self.study)
        self.searcher = Searcher(self.study, ahead=ahead)
        self.fatal: Exception | None = None
        self._clock, self._start = clock, clock()
        events = list(run.events())
        history = fold(events)
        self.trials = history.trials
        self._losses: Counter[int] = Counter()  # of workers, since the trial's last epoch
        self._noted: set[tuple[Any, ...]] = set()
        self._begun: list[int] = []  # by this driver, in order
        self._heard_of: dict[int, float] = {}  # on the clock: when a trial's worker began, or last reported
        self._any_epoch = False  # reported to this driver
        self._seconds_before = history.search_seconds
        self._trained_s = sum(trial.seconds for trial in self.trials.values())
        self._reached = any(self._reaches(trial) for trial in self.trials.values())
        self._replay(events)
        self._waiting = deque(trial.number for trial in self.trials.values() if trial.state == RUNNING)
        self.live: set[int] = set()
        self._cleared: set[int] = set()  # whose checkpoint is gone

    def _replay(self, events: Iterable[Event]) -> None:
        """Rungs and sampler, from the events in the order in which they came."""
        for event in events:
            self.searcher.replay(event)
            if event["type"] == "epoch" and self._is_compared(self.trials[event["trial"]], event["epoch"]):
                self.scheduler.goes_on(event["trial"], event["epoch"], self._value(event["metrics"]))
            elif event["type"] == "trial_recovered":
                self._noted.add((event["trial"], event["reason"], event["detail"]))

    def next_trial(self) -> Trial | None:
        """The trial to start now: first those that an earlier driver left unfinished. None: there will be no more."""
        if self.fatal is not None:
            return None
        if self.over() not in ("", "trials"):
            self._give_up_waiting()
            return None
        if self._waiting:
            number = self._waiting.popleft()
        elif self.over():
            return None
        else:
            number, config, source = self.searcher.ask()
            self.log.append("trial_started", trial=number, config=config, source=source, **self._repeated(config))
            self.trials[number] = Trial(number, config, source)
        self.live.add(number)
        self._begun.append(number)
        return self.trials[number]

    def _repeated(self, config: Config) -> dict[str, int]:
        """Which trial had the same configuration, where one had; this one gets another seed."""
        first = next((number for number in sorted(self.trials) if self.trials[number].config == config), None)
        return {} if first is None else {"repeats": first}

    def job(self, trial: Trial) -> Job:
        """What a worker needs to train it."""
        checkpoint = str(self.run.trial_checkpoint(trial.number))
        return Job(
            trial.config,
            self.study.fidelity.max_epochs,
            seeds.of_trial(self.study.search.seed, trial.number),
            checkpoint,
            trial.last_epoch,
        )

    def worker_began(self, number: int) -> None:
        """Takes in that a worker has started on a trial: from now on it holds what it trains on."""
        self._heard_of[number] = self._clock()

    def take(self, number: int, report: Report) -> bool:
        """Takes in a worker's report; whether the trial goes on. None does once the search must end."""
        trial = self.trials[number]
        self._heard_of[number] = self._clock()
        if trial.state != RUNNING:
            return False
        for note in report.get("notes", ()):
            self._note(number, **note)
        if "fatal" in report:
            self.fatal = self.fatal or InputError(report["fatal"])
            return False
        if "outage" in report:
            self.fatal = self.fatal or StorageOutage(report["outage"])
            return False
        if "failed" in report:
            self.fail(number, report["failed"], report["detail"], report.get("seconds", 0.0))
            return False
        self._epoch(trial, report)
        return self._goes_on(trial) and self.fatal is None

    def fail(self, number: int, reason: str, detail: str, seconds: float = 0.0) -> None:
        """Ends a trial that cannot go on; `seconds` of training came to no epoch."""
        trial = self.trials[number]
        if trial.state != RUNNING:
            return
        self._lose_seconds(trial, seconds)
        self._end(trial, FAILED, reason=reason, detail=detail, seconds=seconds)
        if self.fatal is None and not self.over() and self._is_hopeless():
            self.fatal = InputError(
                f"{HOPELESS} trials in a row failed and none came to a first epoch; the last one, {trial.label}: "
                f"{reason} ({detail}); mend that, then continue with `facex-tune resume {self.run.name}`"
            )

    def _is_hopeless(self) -> bool:
        """Whether so many trials in a row failed that the cause lies outside them. In the order in which they began,
        because failures come sooner than first epochs do.
        """
        have_failed = (self.trials[number].state == FAILED for number in self._begun)
        return not self._any_epoch and any(
            failed and len(list(row)) >= HOPELESS for failed, row in groupby(have_failed)
        )

    def nothing_trained(self) -> str:
        """What to tell of a search whose every trial failed before its first epoch; "" for any other."""
        trials = self.trials.values()
        if not trials or any(trial.state != FAILED or trial.epochs for trial in trials):
            return ""
        last = self.trials[max(self.trials)]
        return (
            f"no trial could be trained: all {len(trials)} failed before their first epoch, and the budget "
            f"({self.over()}) is used up; the last one, {last.label}: {last.reason} ({last.detail}); mend that, then "
            "start a new run with --run NAME"
        )

    def _lose_seconds(self, trial: Trial, seconds: float) -> None:
        """A trial held what it trains on, and no epoch came of it."""
        trial.seconds += seconds
        trial.lost_seconds += seconds
        self._trained_s += seconds

    def call_off(self, number: int) -> bool:
        """Ends a trial that waits for a worker, where a budget is used up; whether it did."""
        if self.trials[number].state != RUNNING or self.over() in ("", "trials"):
            return False
        self._end_by_budget(self.trials[number])
        return True

    def lose_worker(self, number: int, why: str) -> int:
        """Takes in that a trial's worker was lost; how many more it may lose in this epoch. Below 0 it has failed."""
        trial = self.trials[number]
        self._losses[number] += 1
        times, epoch = self._losses[number], trial.last_epoch + 1
        seconds = self._clock() - self._heard_of.pop(number, self._clock())
        if times > WORKER_LOSSES:
            reason = "out_of_memory" if "memory" in why else "error"
            self.fail(number, reason, f"its worker was lost {times} times in epoch {epoch}: {why}", seconds)
        elif trial.state == RUNNING:
            self._lose_seconds(trial, seconds)
            detail = f"{times} of {WORKER_LOSSES} times in epoch {epoch}: {why}"
            self._record(number, "worker_lost", detail, seconds=seconds)
        return WORKER_LOSSES - times

    def _note(self, number: int, reason: str, detail: str) -> None:
        """Logs once what befell a trial that goes on; a worker that starts again tells it again."""
        if (number, reason, detail) not in self._noted:
            self._record(number, reason, detail)

    def _record(self, number: int, reason: str, detail: str, **more: float) -> None:
        self._noted.add((number, reason, detail))
        self.log.append("trial_recovered", trial=number, reason=reason, detail=detail, **more)

    def over(self) -> str:
        """Which budget is used up: "trials", "time", "gpu_hours", "target"; "" while there is none."""
        budget = self.study.budget
        if self._reached:
            return "target"
        if budget.time is not None and self.seconds() >= budget.time:
            return "time"
        if budget.gpu_hours is not None and self.gpu_hours() >= budget.gpu_hours:
            return "gpu_hours"
        if budget.trials is not None and len(self.trials) >= budget.trials:
            return "trials"
        return ""

    def seconds(self) -> float:
        """Wall-clock of this search, all its drivers together."""
        return self._seconds_before + self._clock() - self._start

    def gpu_hours(self) -> float:
        """GPU time that trials have held, those that failed and lost workers included."""
        return self._trained_s * self.study.resources.gpus / 3600

    def _give_up_waiting(self) -> None:
        """A budget that is used up also ends what an earlier driver left unfinished."""
        while self._waiting:
            self._end_by_budget(self.trials[self._waiting.popleft()])

    def _epoch(self, trial: Trial, report: Report) -> None:
        epoch, self._any_epoch = report["epoch"], True
        if epoch in trial.epochs:  # reported before; the worker could not know
            return
        told = {name: report[name] for name in ("metrics", "seconds", "host") if name in report}
        self.log.append("epoch", trial=trial.number, epoch=epoch, **told)
        trial.epochs[epoch] = report["metrics"]
        trial.seconds += report["seconds"]
        self._losses[trial.number] = 0
        self._trained_s += report["seconds"]
        self.searcher.report(trial.number, epoch, trial.metrics)

    def _goes_on(self, trial: Trial) -> bool:
        if collapsed(trial):
            self.fail(
                trial.number,
                "collapsed",
                f"epochs {trial.last_epoch - 1} and {trial.last_epoch}: one answer for every face",
            )
        elif trial.last_epoch >= self.study.fidelity.max_epochs:
            self._end(trial, FINISHED)
        elif not self.scheduler.goes_on(trial.number, trial.last_epoch, self._value(trial.metrics)):
            self._end(trial, STOPPED, epoch=trial.last_epoch, reason="rung")
        elif self.over() not in ("", "trials"):
            self._end_by_budget(trial)
        return trial.state == RUNNING

    def _is_compared(self, trial: Trial, epoch: int) -> bool:
        """Whether an epoch is shown to the scheduler, as `_goes_on` does: others are not measured against the last one,
        nor against that of a collapsed trial, which has failed.
        """
        return epoch < self.study.fidelity.max_epochs and not collapsed(trial, epoch)

    def _end_by_budget(self, trial: Trial) -> None:
        self._end(trial, STOPPED, epoch=trial.last_epoch, reason=f"budget: {self.over()}")

    def _end(self, trial: Trial, state: str, **fields: Any) -> None:
        event = {FINISHED: "trial_finished", STOPPED: "trial_stopped", FAILED: "trial_failed"}[state]
        self.log.append(event, trial=trial.number, **fields)
        trial.state, trial.reason, trial.detail = state, fields.get("reason", ""), fields.get("detail", "")
        self.live.discard(trial.number)
        self._reached = self._reached or self._reaches(trial)
        self.searcher.tell(trial)
        self._forget_checkpoints()

    def _forget_checkpoints(self) -> None:
        """Keeps those of running trials and of the best finished ones: twice as many as will be retrained."""
        kept = retention.kept_checkpoints(self.trials.values(), self.study) | self._cleared
        gone = {trial.number for trial in self.trials.values() if trial.number not in kept}
        self.run.remove_checkpoints(gone)
        self._cleared |= gone

    def _reaches(self, trial: Trial) -> bool:
        """Whether a trial is good enough to end the search: finished, within every constraint, at the target."""
        target = self.study.budget.target
        if target is None or trial.state != FINISHED or not keeps(self.study.bounds, trial.metrics):
            return False
        value = self._value(trial.metrics)
        return value >= target if self.study.maximize else value <= target

    def _value(self, metrics: Mapping[str, float]) -> float:
        """The first objective's.

        Raises:
            InputError: it was not measured. `pipeline.problems` refuses such a study; a run may be older than that.
        """
        name = self.study.objective[0]
        if name not in metrics:
            raise InputError(
                f"objective: {name} is not measured on this study's validation faces; start a new run with another one"
            )
        return metrics[name]


def collapsed(trial: Trial, epoch: int | None = None) -> bool:
    """Whether a trial gave (almost) every face the same answer in an epoch (the last one) and in the one before."""
    at = trial.last_epoch if epoch is None else epoch
    return at > 1 and all(gives_one_answer(trial.epochs.get(at - ago, {})) for ago in (0, 1))
