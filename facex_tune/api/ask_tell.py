"""The search for those who train themselves: it says what to try, and is told what came of it. The same sampler,
scheduler, budgets and log as in a search of `facex_tune.run`, without Ray.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from facex_tune.api import places
from facex_tune.api.runs import Run
from facex_tune.api.study import Study, check_name
from facex_tune.errors import InputError
from facex_tune.runs.events import RunResumed, RunStarted, StageFinished, StageStarted
from facex_tune.runs.history import RUNNING
from facex_tune.runs.names import trial_label
from facex_tune.runs.store import Log
from facex_tune.runs.store import Run as StoredRun
from facex_tune.study import FIXED

if TYPE_CHECKING:
    from facex_tune.pipeline.options import Options
    from facex_tune.runs.history import Trial
    from facex_tune.search.referee import Referee
    from facex_tune.space import Config
    from facex_tune.storage.files import Place


@dataclass(frozen=True)
class Suggestion:
    """A trial to train.

    Attributes:
        number: the trial's, from 0; `Search.tell` takes it, or the suggestion itself.
        config: every active knob: ``{"model": "resnet", "model.resnet.depth": 10, "train.lr": 0.05, ...}``.
        seed: to train it with, of 32 bits, as numpy's and torch's generators take it; another one for each trial.
        epochs: to train, unless `Search.tell` says that it stops.
        epochs_done: how many were told of before, by a process that has ended, or before the trial waited; 0 for a
            new trial.
    """

    number: int
    config: Config
    seed: int
    epochs: int
    epochs_done: int = 0


class Search:
    """A search that suggests configurations and leaves their training to you.

    ``ask`` gives a trial, ``tell`` takes its metrics after each epoch and says whether it goes on. Every word is in the
    run's log before the call returns, so that a process that dies loses nothing told: a `Search` of the same study and
    run goes on, its unfinished trials first. Use it in a ``with`` block, or call `close`; only one process may hold a
    run at a time.

    Args:
        study: a study file's path, a dictionary with its keys, or a `Study`. Its data need not be prepared.
        run: the run's name; one that exists is resumed. Default: the study's name and a number.
        storage: the folder of runs, or its URL; default: FACEX_STORAGE, else ``runs``.
        data: the folder of prepared data sets, whose manifests the run records where they are there.
        parts: folders with parts of the user's own.

    Raises:
        InputError: the study is wrong, the run exists with another study, its search has ended, or another process
            writes it.
    """

    def __init__(
        self,
        study: Study | Mapping[str, Any] | str | Path,
        run: str | None = None,
        *,
        storage: Place | str | None = None,
        data: Path | str | None = None,
        parts: tuple[Path | str, ...] = (),
    ) -> None:
        self._options = places.options(storage, data, None, parts, None)
        stored = _opened(Study.of(study), run, self._options)
        self._closed = False
        with contextlib.ExitStack() as undone:
            self._log = undone.enter_context(stored.log())
            self._referee = _referee(stored, self._log)
            self._stack = undone.pop_all()
        self._run = Run(stored, self._options)
        self._told_s: dict[int, float] = {}  # on the clock: when a trial was asked for, or told of last

    @property
    def run(self) -> Run:
        """The run that it writes, to be read at any time."""
        return self._run

    @property
    def over(self) -> str:
        """Which budget is used up, "trials", "time", "gpu_hours" or "target", or "settled"; "" while it may go on."""
        return self._referee.over()

    def ask(self) -> Suggestion | None:
        """Gives the next trial to train: first those that an earlier process left, from their first epoch that was not
        told of. None: the budget is used up, and there will be no more. Several may be trained at once, as far as the
        study's ``search.concurrency`` allows.

        Raises:
            InputError: the search is closed, or as many trials as the study allows at once are not told of to their
                end; or what comes next depends on some of these.
        """
        if self._is_finished():
            return None
        self._check_open()
        limit, live = self._referee.study.search.concurrency, sorted(self._referee.live)
        if limit is not None and len(live) >= limit and (not self._referee.over() or self._is_left()):
            raise InputError(
                f"ask: search.concurrency is {limit}, and {', '.join(map(trial_label, live))} not told of to the end"
            )
        trial = self._referee.next_trial()
        self._raise_fatal()
        if trial is None:
            if self._referee.waits:
                raise InputError(
                    f"ask: what comes next depends on {', '.join(map(trial_label, sorted(self._referee.live)))}, not "
                    "told of to the end"
                )
            self._end_if_over()
            return None
        self._told_s[trial.number] = time.monotonic()
        job = self._referee.job(trial)
        return Suggestion(trial.number, dict(trial.config), _one_number(job.seed), job.epochs, trial.last_epoch)

    def tell(
        self,
        trial: Suggestion | int,
        metrics: float | Mapping[str, float],
        *,
        epoch: int | None = None,
        seconds: float | None = None,
    ) -> bool:
        """Takes in what an epoch came to; returns whether the trial goes on. False: it has finished, was stopped at a
        rung or by a budget, or failed; or it waits, for its turn (``search.order: fixed``) or at its rung
        (``search.scheduler: asha_promotion``), until `ask` gives it again, to go on after its last epoch.

        Args:
            trial: a suggestion, or its number.
            metrics: the value of the study's first objective, or metrics by name, every objective and constraint among
                them. One of these that is NaN or infinite fails the trial as diverged.
            epoch: its number, from 1; default: the next one. Epochs may be left out, as where only the last is
                measured.
            seconds: it took; default: since the trial was asked for or told of.

        Raises:
            InputError: no such trial, one that has ended, an epoch that was told of, or one that is none; metrics that
                lack an objective, or hold what is no number. Nothing is logged then.
        """
        found = self._running(trial)
        self._check_open()
        number = self._epoch(found, epoch)
        said = self._metrics(metrics)
        took = self._seconds(found.number, seconds)
        unfit = [name for name in self._needed() if not math.isfinite(said[name])]
        if unfit:
            self._referee.fail(found.number, "diverged", f"{unfit[0]} is {said[unfit[0]]} in epoch {number}", took)
            goes_on = False
        else:
            from facex_tune.search.worker_report import Epoch

            goes_on = self._referee.take(found.number, Epoch(number, said, took))
        self._raise_fatal()
        self._end_if_over()
        return goes_on

    def fail(self, trial: Suggestion | int, detail: str) -> None:
        """Ends a trial that could not be trained, with a line that says why. It can never be chosen, and the sampler
        learns to keep away from it.

        Raises:
            InputError: no such trial, or one that has ended; or so many have failed that the cause lies outside them.
        """
        found = self._running(trial)
        self._check_open()
        took = self._seconds(found.number, None)
        self._referee.fail(found.number, "error", " ".join(str(detail).split())[:500] or "no more is known", took)
        self._raise_fatal()
        self._end_if_over()

    def close(self) -> None:
        """Gives the run free for another process. Trials under way stay unfinished; a search of the same name asks for
        them again.
        """
        self._closed = True
        self._stack.close()

    def __enter__(self) -> Search:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Search({self._run.name!r}, {len(self._referee.trials)} trials, {len(self._referee.live)} under way)"

    def _check_open(self) -> None:
        if self._closed:
            raise InputError(f"the search of run {self._run.name!r} is closed; make a Search of that name to go on")

    def _is_finished(self) -> bool:
        return self._run.stored.history().stages.get("search") == "finished"

    def _is_left(self) -> bool:
        """Whether a trial that an earlier process left waits to be asked for."""
        trials = self._referee.trials.values()
        return any(trial.state == RUNNING and trial.number not in self._referee.live for trial in trials)

    def _running(self, said: Suggestion | int) -> Trial:
        number = said.number if isinstance(said, Suggestion) else said
        known = self._referee.trials
        if isinstance(number, bool) or not isinstance(number, int) or number not in known:
            last = f"{trial_label(0)} to {trial_label(max(known))}" if known else "none yet"
            raise InputError(f"trial {number!r}: this search has no such trial; it has {last}")
        trial = known[number]
        if trial.state != RUNNING:
            why = f" ({trial.reason})" if trial.reason else ""
            raise InputError(f"{trial.label} has {trial.state}{why} after epoch {trial.last_epoch}, and takes no more")
        if number not in self._referee.live:
            if trial.paused or self._referee.study.search.order == FIXED:
                at = f"{trial.label} waits after epoch {trial.last_epoch}"
                raise InputError(f"{at}; `ask` gives it again, or ends it")
            raise InputError(f"{trial.label} was begun by an earlier process; `ask` gives it again before any new one")
        return trial

    def _epoch(self, trial: Trial, epoch: int | None) -> int:
        most = self._referee.study.fidelity.max_epochs
        number = trial.last_epoch + 1 if epoch is None else epoch
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
            raise InputError(f"{trial.label}: epoch {number!r} is none; they go from 1 to {most} (fidelity.max_epochs)")
        if number <= trial.last_epoch:
            raise InputError(f"{trial.label}: epoch {number} comes after epoch {trial.last_epoch}, which was told of; "
                             "the first word counts")
        return number

    def _needed(self) -> list[str]:
        study = self._referee.study
        return list(dict.fromkeys((*study.objective, *study.constraints)))

    def _metrics(self, said: float | Mapping[str, float]) -> dict[str, float]:
        needed = self._needed()
        told = dict(said) if isinstance(said, Mapping) else {needed[0]: said}
        if missing := [name for name in needed if name not in told]:
            raise InputError(f"metrics: {', '.join(missing)} missing; the study's objective and constraints need them")
        found = {str(name): _number(str(name), value) for name, value in told.items()}
        for name, value in found.items():
            if not math.isfinite(value) and name not in needed:
                raise InputError(f"metrics: {name} is {value}; leave it out")
        return found

    def _seconds(self, number: int, said: float | None) -> float:
        now = time.monotonic()
        before, self._told_s[number] = self._told_s.get(number, now), now
        if said is None:
            return now - before
        took = _number("seconds", said)
        if not 0 <= took < math.inf:
            raise InputError(f"seconds: {said!r} is no duration")
        return took

    def _raise_fatal(self) -> None:
        if self._referee.fatal is not None:
            raise self._referee.fatal

    def _end_if_over(self) -> None:
        if not self._closed and self._referee.over() and not self._referee.live and not self._is_left():
            self._log.append(StageFinished("search", self._referee.over()))
            self.close()


def _opened(study: Study, name: str | None, options: Options) -> StoredRun:
    """The run, begun where there is none of that name.

    Raises:
        InputError: it has another study, or its search has ended.
    """
    from facex_tune.pipeline import begin, preflight

    checked = study.checked
    check_name(name)
    if problems := preflight.storage_problems(options.storage):
        raise InputError(problems)
    if name is not None and (run := StoredRun(options.storage, name)).exists():
        preflight.same_study(run, checked)
        preflight.same_header(run)
        if run.history().stages.get("search") == "finished":
            raise InputError(f"run {name!r}: its search has ended, and takes no more trials; give another name")
        return run
    return begin.create(checked, name, options, {})


def _referee(run: StoredRun, log: Log) -> Referee:
    from facex_tune.pipeline.preflight import header_as_begun
    from facex_tune.search import warm_start
    from facex_tune.search.referee import Referee

    if run.history().stages:
        log.append(RunResumed(["search"], {}))
    else:
        log.append(RunStarted(["search"], {}, **header_as_begun(run)))
    log.append(StageStarted("search"))
    warm_start.learn(run, log)
    return Referee(run, log)


def _one_number(seed: Sequence[int]) -> int:
    """The integers of a seed as one."""

    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _number(name: str, value: object) -> float:
    try:
        if isinstance(value, bool | str):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {value!r} is no number") from error
