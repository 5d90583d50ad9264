"""The search itself, without Ray: what runs next, what goes on, when it is over. Every word goes to the log before
anybody acts on it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from math import inf, isfinite

from facex_tune import seeds
from facex_tune.errors import InputError, StorageOutage
from facex_tune.metrics import COSTS, gives_one_answer
from facex_tune.runs import retention
from facex_tune.runs.events import (
    EpochDone,
    LearnedFrom,
    PriorsTaken,
    TrialFailed,
    TrialFinished,
    TrialPaused,
    TrialPromoted,
    TrialRecovered,
    TrialStarted,
    TrialStopped,
)
from facex_tune.runs.history import BY_BUDGET, FAILED, RUNNING, Trial, badness, violation
from facex_tune.runs.store import Event, Log, Run
from facex_tune.search import budgets
from facex_tune.search import scheduler as schedulers
from facex_tune.search.job import Job
from facex_tune.search.searcher import Searcher
from facex_tune.search.settling import Repeat, Settling
from facex_tune.search.turns import Turns
from facex_tune.search.worker_losses import WorkerLosses
from facex_tune.search.worker_report import Epoch, Failure, Fatal, Note, Outage, Report
from facex_tune.space import Config, knobs_of
from facex_tune.study import FIXED, NEVER

COLLAPSED = "collapsed"  # the reason of a trial that gave every face one answer
HOPELESS = 20  # failures in a row before any epoch; where every second configuration fails, one search in a million


class Referee:
    """One search in progress, rebuilt from the run's log whenever a driver starts.

    Args:
        log: the right to write; every event goes through it.
        clock: seconds, for the wall-clock budget.
        ahead: see `Searcher`.
        threads: of each model, where they were chosen.
    """

    def __init__(
        self,
        run: Run,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
        *,
        ahead: bool = False,
        threads: Mapping[str, int] | None = None,
    ) -> None:
        self.run, self.log, self.study = run, log, run.study
        self._threads = threads or {}
        self.scheduler = schedulers.build(self.study)
        self.searcher = Searcher(self.study, ahead=ahead)
        self.fatal: Exception | None = None
        self._clock, self._start = clock, clock()
        assert log.run is run  # whose history takes in each event that the log appends, and with it these trials
        history = run.history()
        self.trials = history.trials
        self._losses = WorkerLosses()
        self._noted: set[tuple[int, Note]] = set()
        self._begun: dict[int, None] = {}  # by this driver, in order
        self._heard_of: dict[int, float] = {}  # on the clock: when a trial's worker began, or last reported
        self._any_epoch = False  # reported to this driver
        self._seconds_before = history.search_seconds
        self._trained_s = sum(trial.seconds for trial in self.trials.values())
        self._reached = any(budgets.reaches(self.study, trial) for trial in self.trials.values())
        self._costs: dict[str, dict[str, float]] = {}  # of each network, as it was measured first
        for trial in self.trials.values():
            self._remember_costs(trial)
        self._settling = Settling(self.study) if self.study.search.stop_when_settled != NEVER else None
        self._again: Config | None = None  # to be tried next, with another seed
        self._is_settled = history.settled is not None
        self.live: set[int] = set()  # have a worker, or are about to
        self._cleared: set[int] = set()  # whose checkpoint is gone
        self._known_to_searcher = 0  # trials, where order is fixed
        self._turns = self._in_turns() if self.study.search.order == FIXED else None
        self._replay(run.events())
        unfinished = (trial for trial in self.trials.values() if trial.state == RUNNING and not trial.paused)
        self._waiting = deque(trial.number for trial in unfinished)

    def _replay(self, events: Iterable[Event]) -> None:
        """Rungs and sampler, from the events in the order in which they came."""
        for event in events:
            if self._turns is None or event["type"] in (LearnedFrom.TYPE, PriorsTaken.TYPE):
                self.searcher.replay(event)
            if self._turns is not None and event["type"] == EpochDone.TYPE:
                continue  # is taken in at its turn
            if event["type"] == EpochDone.TYPE:
                if not self.scheduler.remembers(event["epoch"]):
                    continue
                if self._is_compared(self.trials[event["trial"]], event["epoch"]):
                    self._compared(event["trial"], event["epoch"], event["metrics"])
            elif event["type"] in (TrialPromoted.TYPE, TrialStopped.TYPE) and self._promotion is not None:
                self._promotion.leave(event["trial"], event.get("epoch", 0))
            elif event["type"] == TrialRecovered.TYPE:
                self._noted.add((event["trial"], Note(event["reason"], event["detail"])))

    def next_trial(self) -> Trial | None:
        """Gives the trial to start now: first those that an earlier driver left unfinished. None: there is none, and
        unless `waits` says otherwise there will be none.
        """
        if self.fatal is not None:
            return None
        if self._ends_all():
            self._give_up_waiting()
            return None
        number = self._next() if self._turns is None else self._next_ready(self._turns)
        if number is None:
            if self._promotion is not None and not self.waits:
                self._end_paused()
            return None
        self.live.add(number)
        self._begun[number] = None
        return self.trials[number]

    @property
    def waits(self) -> bool:
        """Whether a trial may have to start later although none can now."""
        later = bool(self._turns) if self._promotion is None else bool(self.live)
        return later and self.fatal is None and not self._ends_all()

    @property
    def _promotion(self) -> schedulers.Promotion | None:
        return self.scheduler if isinstance(self.scheduler, schedulers.Promotion) else None

    def _next(self) -> int | None:
        if self._waiting:
            return self._waiting.popleft()
        promoted = self._promote(self._promotion) if self._promotion is not None else None
        if promoted is not None:
            return promoted
        return None if self._may_not_ask() else self._ask()

    def _may_not_ask(self) -> bool:
        """Whether no further trial is to begin; looks whether the search has settled, where it may end by that."""
        if self.over() or self._settling is None or len(self.trials) < len(self.study.search.start_with):
            return bool(self.over())
        found = self._settling.look(self.searcher.known())
        if isinstance(found, Repeat):
            self._again = self.trials[self.searcher.trial_at(found.place)].config
        elif found is not None:
            self.log.append(found)
            self._is_settled = True
        return self._is_settled

    def _promote(self, rungs: schedulers.Promotion) -> int | None:
        """The paused trial that goes on now; where no other trial will come to its rung, one more than its share."""
        found = rungs.promotable()
        if found is None and self.over():
            found = rungs.left_over(min((self.trials[number].last_epoch for number in self.live), default=inf))
        if found is None:
            return None
        self.log.append(TrialPromoted(*found))
        rungs.leave(*found)
        self.searcher.promote(found[0])
        return found[0]

    def _pause(self, trial: Trial, rungs: schedulers.Promotion) -> None:
        """The trial waits at its rung, without a worker; those that no trial to come can help end there."""
        self.live.discard(trial.number)
        if not trial.paused:
            self.log.append(TrialPaused(trial.number, trial.last_epoch))
            self.searcher.pause(trial.number)
        if self.study.budget.trials is not None:
            for number in rungs.hopeless(self.study.budget.trials):
                self._end_at_rung(self.trials[number])

    def _end_paused(self) -> None:
        """The search is over, and nobody will be promoted any more."""
        for trial in self.trials.values():
            if trial.paused:
                self._end_at_rung(trial)

    def _end_at_rung(self, trial: Trial) -> None:
        if trial.state == RUNNING:
            self._end(trial, TrialStopped(trial.number, trial.last_epoch, "rung"))
            if self._promotion is not None:
                self._promotion.leave(trial.number, trial.last_epoch)

    def _ask(self) -> int:
        again, self._again = self._again, None
        number, config, source = self.searcher.ask(again)
        threads = self._threads.get(str(config["model"]))
        self.log.append(TrialStarted(number, config, source, self._repeated(config), threads))
        return number

    def _next_ready(self, turns: Turns) -> int | None:
        turns.advance()
        return next(iter(turns.ready(self.live)), None)

    def _in_turns(self) -> Turns:
        def start() -> int | None:
            """The next one of the log, else a new one."""
            number = self._known_to_searcher
            if number in self.trials:
                self.searcher.start(number, self.trials[number].config)
            elif self._may_not_ask() or self._ask() != number:
                return None
            self._known_to_searcher += 1
            return number

        assert self.study.search.concurrency is not None  # `study.consistency` asks for it
        return Turns(self.trials, self.study.search.concurrency, start, self._must_wait, self._take_in)

    def _repeated(self, config: Config) -> int | None:
        """Which trial had the same configuration, where one had; this one gets another seed."""
        return next((number for number in sorted(self.trials) if self.trials[number].config == config), None)

    def job(self, trial: Trial) -> Job:
        """Gives what a worker needs to train a trial."""
        checkpoint = str(self.run.trial_checkpoint(trial.number))
        return Job(
            trial.config,
            self.study.fidelity.max_epochs,
            seeds.of_trial(self.study.search.seed, trial.number),
            checkpoint,
            trial.last_epoch,
            costs=self._costs.get(_network(trial.config), {}),
            threads=trial.threads,
        )

    def threads_held(self) -> int:
        """CPUs that the trials in progress hold, or wait for."""
        least = self.study.resources.least_cpus
        return sum(self.trials[number].threads or least for number in self.live)

    def worker_began(self, number: int) -> None:
        """Takes in that a worker has started on a trial: from now on it holds what it trains on."""
        self._heard_of[number] = self._clock()

    def take(self, number: int, report: Report) -> bool:
        """Takes in a worker's report; returns whether the trial goes on. No trial does once the search must end."""
        trial = self.trials[number]
        self._heard_of[number] = self._clock()
        if trial.state != RUNNING:
            return False
        for note in report.notes:
            self._note(number, note)
        match report:
            case Epoch():
                self._epoch(trial, report)
                goes_on = self._goes_on(trial) if self._turns is None else self._goes_on_in_turn(trial, self._turns)
                return goes_on and self.fatal is None
            case Failure(reason, detail, seconds):
                self.fail(number, reason, detail, seconds)
            case Fatal(problem):
                self.fatal = self.fatal or InputError(problem)
            case Outage(problem):
                self.fatal = self.fatal or StorageOutage(problem)
        return False

    def fail(self, number: int, reason: str, detail: str, seconds: float = 0.0) -> None:
        """Ends a trial that cannot go on; `seconds` of training came to no epoch."""
        trial = self.trials[number]
        if trial.state != RUNNING:
            return
        self._trained_s += seconds
        self._end(trial, TrialFailed(number, reason, detail, seconds))
        if self.fatal is None and not self.over() and self._is_hopeless():
            self.fatal = InputError(
                f"{HOPELESS} trials in a row failed and none came to a first epoch; the last one, {trial.label}: "
                f"{reason} ({detail}); mend that, then continue with `facex-tune resume {self.run.words}`"
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
        """Says what to tell of a search in which every trial failed before its first epoch; "" for any other search."""
        trials = self.trials.values()
        if not trials or any(trial.state != FAILED or trial.epochs for trial in trials):
            return ""
        last = self.trials[max(self.trials)]
        return (
            f"no trial could be trained: all {len(trials)} failed before their first epoch, and the budget "
            f"({self.over()}) is used up; the last one, {last.label}: {last.reason} ({last.detail}); mend that, then "
            "start a new run with --run NAME"
        )

    def call_off(self, number: int) -> bool:
        """Ends a trial that waits for a worker if a budget is used up; returns whether it did."""
        if self.trials[number].state != RUNNING or not self._ends_all():
            return False
        self._end_by_budget(self.trials[number])
        return True

    def lose_worker(self, number: int, why: str) -> int:
        """Takes in that a trial's worker was lost; returns how many more it may lose in this epoch, below 0 once it
        failed.
        """
        trial = self.trials[number]
        loss = self._losses.lose(number, why, f"epoch {trial.last_epoch + 1}")
        seconds = self._clock() - self._heard_of.pop(number, self._clock())
        if loss.gives_up:
            self.fail(number, loss.reason, loss.detail, seconds)
        elif trial.state == RUNNING:
            self._trained_s += seconds
            self._record(number, Note(loss.reason, loss.detail), seconds)
        return loss.left

    def hand_back(self, number: int) -> None:
        """Takes in that a trial that may go on has no worker and will get none: `next_trial` gives it again."""
        self.live.discard(number)
        if self.trials[number].state == RUNNING and self._turns is None:
            self._waiting.append(number)

    def _note(self, number: int, note: Note) -> None:
        """Logs once what befell a trial that goes on; a worker that starts again tells it again."""
        if (number, note) not in self._noted:
            self._record(number, note)

    def _record(self, number: int, note: Note, seconds: float | None = None) -> None:
        self._noted.add((number, note))
        self.log.append(TrialRecovered(number, note.reason, note.detail, seconds))

    def over(self) -> str:
        """Names the budget that is used up, "trials", "time", "gpu_hours" or "target", or says "settled"; "" while the
        search may go on.
        """
        return budgets.used_up(
            self.study,
            trials=len(self.trials),
            seconds=self.seconds(),
            gpu_hours=self.gpu_hours(),
            reached=self._reached,
            settled=self._is_settled,
        )

    def _ends_all(self) -> bool:
        """Whether what ends the search ends trials, too: every budget but that of trials does."""
        return self.over() not in ("", *budgets.NO_MORE)

    def seconds(self) -> float:
        """The wall-clock seconds of this search, over all its drivers."""
        return self._seconds_before + self._clock() - self._start

    def gpu_hours(self) -> float:
        """The GPU hours that trials have held, failed trials and lost workers included."""
        return self._trained_s * self.study.resources.gpus / 3600

    def _give_up_waiting(self) -> None:
        """A budget that is used up also ends what an earlier driver left unfinished."""
        self._waiting.clear()
        self._end_paused()
        for trial in self.trials.values():
            if trial.state == RUNNING and trial.number not in self.live:
                self._end_by_budget(trial)

    def _epoch(self, trial: Trial, report: Epoch) -> None:
        epoch, self._any_epoch = report.epoch, True
        if epoch in trial.epochs:  # reported before; the worker could not know
            return
        self.log.append(EpochDone(trial.number, epoch, report.metrics, report.seconds, report.host))
        self._remember_costs(trial)
        self._losses.trained(trial.number)
        self._trained_s += report.seconds
        if self._turns is None:
            self.searcher.report(trial.number, epoch, trial.metrics)

    def _remember_costs(self, trial: Trial) -> None:
        """Trials of one network must not differ by the noise of a clock, nor one that is resumed from itself."""
        if found := {name: trial.metrics[name] for name in COSTS if name in trial.metrics}:
            self._costs.setdefault(_network(trial.config), found)

    def _goes_on(self, trial: Trial) -> bool:
        if collapsed(trial):
            self._fail_collapsed(trial)
        elif trial.last_epoch >= self.study.fidelity.max_epochs:
            self._end(trial, TrialFinished(trial.number))
        elif not self._compared(trial.number, trial.last_epoch, trial.metrics):
            self._leave_at_rung(trial)
        elif self._ends_all():
            self._end_by_budget(trial)
        return trial.state == RUNNING and not trial.paused

    def _leave_at_rung(self, trial: Trial) -> None:
        """The trial does not go on now: it pauses, or ends."""
        if self._promotion is not None and self._promotion.holds(trial.number, trial.last_epoch):
            self._pause(trial, self._promotion)
        else:
            self._end_at_rung(trial)

    def _goes_on_in_turn(self, trial: Trial, turns: Turns) -> bool:
        """False also where it waits for its turn, and its worker takes another."""
        if collapsed(trial):
            self._fail_collapsed(trial)
        turns.advance()
        if trial.state == RUNNING and self._ends_all():
            self._end_by_budget(trial)
        if trial.state == RUNNING and not turns.has_come(trial.number):
            self.live.discard(trial.number)
            return False
        return trial.state == RUNNING

    def _must_wait(self, trial: Trial) -> bool:
        """Whether a trial may not go on from its last epoch before that was taken in."""
        epoch = trial.last_epoch
        is_last = epoch >= self.study.fidelity.max_epochs
        return epoch > 0 and (is_last or self.scheduler.compares(epoch) or not isfinite(self._value(trial.metrics)))

    def _take_in(self, trial: Trial, epoch: int) -> bool:
        """Takes in an epoch at its turn, or a failure in it; what the log says of a trial's end stands."""
        goes_on = True
        if epoch in trial.epochs:
            self.searcher.report(trial.number, epoch, trial.epochs[epoch])
            if self._is_compared(trial, epoch):
                goes_on = self._compared(trial.number, epoch, trial.epochs[epoch])
        if trial.state == RUNNING and trial.last_epoch == epoch:
            if epoch >= self.study.fidelity.max_epochs:
                self._end(trial, TrialFinished(trial.number))
            elif not goes_on:
                self._end(trial, TrialStopped(trial.number, epoch, "rung"))
        if trial.state == RUNNING or epoch < _ended_in(trial):
            return True
        self.searcher.tell(trial)
        return False

    def _fail_collapsed(self, trial: Trial) -> None:
        epochs = f"epochs {trial.last_epoch - 1} and {trial.last_epoch}"
        self.fail(trial.number, COLLAPSED, f"{epochs}: one answer for every face")

    def _compared(self, number: int, epoch: int, metrics: Mapping[str, float]) -> bool:
        """The scheduler's answer."""
        broken_by = violation(self.study.bounds, metrics)
        others = badness(self.study.objective[1:], metrics)
        return self.scheduler.goes_on(number, epoch, self._value(metrics), broken_by, others)

    def _is_compared(self, trial: Trial, epoch: int) -> bool:
        """Whether an epoch is shown to the scheduler, as `_goes_on` does: others are not measured against the last one,
        nor against that of a collapsed trial, which has failed.
        """
        return epoch < self.study.fidelity.max_epochs and not collapsed(trial, epoch)

    def _end_by_budget(self, trial: Trial) -> None:
        """Ends a trial before its last epoch; one that is through and waits for its turn has finished."""
        if trial.last_epoch >= self.study.fidelity.max_epochs:
            self._end(trial, TrialFinished(trial.number))
            return
        self._end(trial, TrialStopped(trial.number, trial.last_epoch, f"{BY_BUDGET}: {self.over()}"))

    def _end(self, trial: Trial, end: TrialFinished | TrialStopped | TrialFailed) -> None:
        self.log.append(end)
        self.live.discard(trial.number)
        self._reached = self._reached or budgets.reaches(self.study, trial)
        if self._turns is None:
            self.searcher.tell(trial)
        self._forget_checkpoints()

    def _forget_checkpoints(self) -> None:
        """Keeps those of running trials and of the best finished ones: twice as many as will be retrained."""
        kept = retention.kept_checkpoints(self.trials.values(), self.study) | self._cleared
        gone = {trial.number for trial in self.trials.values() if trial.number not in kept}
        self.run.remove_checkpoints(gone)
        self._cleared |= gone

    def _value(self, metrics: Mapping[str, float]) -> float:
        """Picks the value of the first objective.

        Raises:
            InputError: it was not measured. `preflight.problems` refuses such a study; a run may be older than that.
        """
        name = self.study.objective[0]
        if name not in metrics:
            raise InputError(
                f"objective: {name} is not measured on this study's validation faces; start a new run with another one"
            )
        return metrics[name]


def _network(config: Config) -> str:
    """What makes a configuration's network what it costs."""
    return repr((config["model"], sorted(knobs_of("model", config).items())))


def _ended_in(trial: Trial) -> int:
    """The epoch in which a trial ended: its last one, or the one that failed."""
    failed_in_the_next = trial.state == FAILED and trial.reason != COLLAPSED
    return max(1, trial.last_epoch + failed_in_the_next)


def collapsed(trial: Trial, epoch: int | None = None) -> bool:
    """Whether a trial gave (almost) every face the same answer in an epoch (the last one) and in the one before."""
    at = trial.last_epoch if epoch is None else epoch
    return at > 1 and all(gives_one_answer(trial.epochs.get(at - ago, {})) for ago in (0, 1))
