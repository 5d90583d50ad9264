"""Which configuration comes next. The searcher is fed by the log, event by event, and a replay of the log feeds it the
same, so a resumed search suggests what the first one would have.

Where many trials run at once, a suggestion is worked out in a thread while all slots are busy, so that no free slot
waits for it. The one for trial n+1 knows what the log said before trial n started, and that n runs; which is a matter
of the log's order, not of time, so a replay gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from facex_tune.runs.events import (
    BudgetRaised,
    EpochDone,
    LearnedFrom,
    PriorsTaken,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
)
from facex_tune.runs.history import ENDS, RUNNING, STOPPED, Trial
from facex_tune.search import priors, samplers
from facex_tune.search.gaussian_process import GaussianProcess
from facex_tune.search.ledger import Ledger
from facex_tune.search.samplers import distribution
from facex_tune.space import Config, is_fixed
from facex_tune.study import Study

AHEAD_FROM_SLOTS = 4  # below, what the last trial showed is worth more than the moment that its successor waits


class Searcher:
    """Suggests configurations of a study's space, trial after trial.

    Args:
        ahead: work the next suggestion out in a thread, before it is asked for.
    """

    def __init__(self, study: Study, *, ahead: bool = False) -> None:
        self._study, self._ahead = study, ahead
        self._sampler = _sampler(study)
        self._believing: priors.Believing | None = None
        if priors.believed(study) or study.search.priors_from:
            self._sampler = self._believing = priors.Believing(self._sampler, study)
        self.ledger = Ledger(study.objective, study.bounds, study.fidelity.max_epochs, self._sampler.view)
        self._numbers: dict[int, int] = {}  # our trial -> its place in the ledger, where learned ones come first
        self._news: list[Callable[[], None]] = []
        self._next: Future[Config] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def ask(self, again: Config | None = None) -> tuple[int, Config, str]:
        """Suggests the next trial: its number, configuration and source ("start_with", "sampler" or "repeat").

        Args:
            again: a configuration to try with another seed, in place of a suggestion.
        """
        number = len(self._numbers)
        if not self._ahead:
            self._take_news()
        starts = self._study.search.start_with
        if again is not None:
            config, source, self._next = dict(again), "repeat", None
        elif number < len(starts):
            config, source = self._study.space.complete(starts[number]), "start_with"
        else:
            config, source = self._suggested(number), "sampler"
        self.start(number, config)
        if self._ahead and number + 1 >= len(starts):
            self._work_ahead(number + 1)
        return number, config, source

    def known(self) -> Ledger:
        """The ledger with everything that was told so far."""
        if not self._ahead:
            self._take_news()
        return self.ledger

    def trial_at(self, place: int) -> int:
        """The number of the trial at a place in the ledger."""
        return next(number for number, own in self._numbers.items() if own == place)

    def _suggested(self, number: int) -> Config:
        if self._next is None:
            return self._sampler.plan(self.ledger, number)()
        config, self._next = self._next.result(), None
        return config

    def _work_ahead(self, number: int) -> None:
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="suggestions")
        self._next = self._thread.submit(self._sampler.plan(self.ledger, number))

    def start(self, number: int, config: Config) -> None:
        """Takes a trial into the ledger; what was told since the last one was taken in is, too, before or after."""
        if not self._ahead:
            self._take_news()
        varied = {name: knob for name, knob in self._study.space.knobs() if name in config and not is_fixed(knob)}
        entry = self.ledger.add(
            {name: config[name] for name in varied}, {name: distribution(knob) for name, knob in varied.items()}
        )
        self._numbers[number] = entry.number
        self._sampler.joined(self.ledger, entry)
        self._take_news()

    def _take_news(self) -> None:
        for take in self._news:
            take()
        self._news.clear()

    def replay(self, event: Mapping[str, Any]) -> None:
        """Takes in an event of the log, in the log's order."""
        kind, number = event["type"], event.get("trial", -1)
        if kind == LearnedFrom.TYPE:
            self._learn(event)
        elif kind == PriorsTaken.TYPE and self._believing is not None:
            self._believing.believe(event["priors"])
        elif kind == TrialStarted.TYPE and number not in self._numbers:
            self.start(number, event["config"])
        elif kind == EpochDone.TYPE:
            self.report(number, event["epoch"], event["metrics"])
        elif kind in ENDS:
            self._end(number, ENDS[kind])
        elif kind == TrialPaused.TYPE:
            self.pause(number)
        elif kind == TrialPromoted.TYPE:
            self.promote(number)
        elif kind == BudgetRaised.TYPE:
            for number in event["trials"]:
                self._end(number, RUNNING)

    def report(self, number: int, epoch: int, scores: Mapping[str, float]) -> None:
        """Takes in a trial's metrics after an epoch."""
        place = self._numbers[number]
        self._news.append(lambda: self.ledger.report(place, epoch, scores))

    def tell(self, trial: Trial) -> None:
        """Takes in that a trial has ended. `ledger.py` says what it is worth to the sampler."""
        self._end(trial.number, trial.state)

    def pause(self, number: int) -> None:
        """Takes in that a trial waits at a rung: what it is worth there is known, as of one that was stopped."""
        self._end(number, STOPPED)

    def promote(self, number: int) -> None:
        """Takes in that a paused trial goes on."""
        self._end(number, RUNNING)

    def _end(self, number: int, state: str) -> None:
        place = self._numbers[number]
        self._news.append(lambda: self.ledger.end(place, state))

    def _learn(self, event: Mapping[str, Any]) -> None:
        """The trials of an earlier run that fit this study, as if they had been searched here first."""
        knobs = {name: knob for name, knob in self._study.space.knobs() if not is_fixed(knob)}
        for told in event["trials"]:
            params = {name: value for name, value in told["config"].items() if name in knobs}
            entry = self.ledger.add(params, {name: distribution(knobs[name]) for name in params}, learned=True)
            self._sampler.joined(self.ledger, entry)
            for epoch, scores in told["epochs"].items():
                self.ledger.report(entry.number, int(epoch), scores)
            self.ledger.end(entry.number, told["state"])


def _sampler(study: Study) -> samplers.Sampler:
    if study.search.sampler == "gp" and len(study.objective) == 1 and not study.bounds:
        return GaussianProcess(study)
    sampler: samplers.Sampler = samplers.KINDS[study.search.sampler](study)
    return sampler
