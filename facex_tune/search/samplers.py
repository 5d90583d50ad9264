"""Optuna's samplers, asked without a study of Optuna's own: each suggestion is a function of the ledger, the trial's
number and the study's seed, and of nothing that a killed process forgets.

What each knows of knobs that only some configurations have (a part's own):

- `tpe` models every part's knobs by themselves (multivariate, group); `random` draws them as they come;
- `qmc` spreads its points over all knobs and drops the coordinates of those that do not apply, which leaves the others
  as evenly spread as they were;
- `nsga2` lets a configuration carry the defaults of knobs that do not apply, as genes that are not expressed;
- `gp` is our own (`gaussian_process.py`), where such a knob has no effect; with several objectives or constraints it is
  Optuna's, which would take a default for a setting that was measured: `study.consistency` refuses it there.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Container, Set
from datetime import datetime
from itertools import chain
from typing import Any, Protocol

import numpy as np
import optuna
from numpy.random import SeedSequence
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from facex_tune.metrics import MAXIMIZE
from facex_tune.search.ledger import Entry, Ledger, Varied, View
from facex_tune.seeds import SEARCH
from facex_tune.space import Choice, Config, Float, Int, Knob, Value, is_active, is_fixed
from facex_tune.study import Study

Plan = Callable[[], Config]

STARTUP_TRIALS = 8
ASKED_AGAIN, DRAWN_AGAIN = 4, 64  # times, for a configuration that was not tried yet: the sampler, then plain chance
UNIVARIATE_FROM_RUNNING = 24  # of TPE
POPULATION = 24  # of NSGA-II: its usual 50 would leave a search of a hundred trials in the second generation


class Sampler(Protocol):
    """Suggests configurations."""

    view: View

    def plan(self, ledger: Ledger, number: int) -> Plan:
        """Makes what will give the configuration of trial `number`, from what the ledger shows now.

        A plan no longer looks at the ledger, so it can be worked out in a thread while the ledger goes on.
        """

    def joined(self, ledger: Ledger, entry: Entry) -> None:
        """A trial was started: the sampler notes what it must know of it later, in the order of the log."""


class _Shown(InMemoryStorage):
    """What Optuna's samplers read instead of a study's own trials."""

    def __init__(self) -> None:
        super().__init__()
        self.trials: list[FrozenTrial] = []

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Gives the trials of the ledger."""
        return [trial for trial in self.trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keeps a note on the trial that is being suggested, which is the last."""
        self.trials[-1].system_attrs[key] = value


class _Optuna:
    """What the samplers that are Optuna's have in common."""

    view = View()

    def __init__(self, study: Study) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.seed = study.space, study.search.seed
        self.flat = {name: distribution(knob) for name, knob in study.space.knobs() if not is_fixed(knob)}
        self._storage = _Shown()
        kinds = optuna.study.StudyDirection
        directions = [kinds.MAXIMIZE if MAXIMIZE[name] else kinds.MINIMIZE for name in study.objective]
        optuna.create_study(storage=self._storage, study_name="search", directions=directions, sampler=_NO_SAMPLER)

    def plan(self, ledger: Ledger, number: int) -> Plan:
        """See `Sampler`."""
        seed = seed_of(self.seed, number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # `group` has been experimental since 2021
            sampler = self._sampler(seed, ledger.running())
        trial, tried = starting(len(ledger)), ledger.tried.copy()
        self._storage.trials = [*self._told(ledger), trial]
        return lambda: self._untried(sampler, trial, tried, np.random.default_rng(seed))

    def _untried(
        self, sampler: BaseSampler, trial: FrozenTrial, tried: Set[Varied], rng: np.random.Generator
    ) -> Config:
        """The first suggestion that no trial has had; in a space where that is hard to find, an untried one by chance;
        where there seems to be none left, the sampler's own.
        """
        first = self._suggest(sampler, self._study(), trial)
        again = (self._suggest(sampler, self._study(), trial) for _ in range(ASKED_AGAIN))
        drawn = (self.space.random(rng) for _ in range(DRAWN_AGAIN))
        return next((config for config in chain([first], again, drawn) if self._varied(config) not in tried), first)

    def _varied(self, config: Config) -> Varied:
        return frozenset((name, config[name]) for name in self.flat if name in config)

    def _suggest(self, sampler: BaseSampler, study: optuna.Study, trial: FrozenTrial) -> Config:
        related = self._related(sampler, study, trial)

        def draw(name: str, knob: Knob) -> Value:
            if name not in related:
                related[name] = sampler.sample_independent(study, trial, name, distribution(knob))
            found: Value = related[name]
            return found

        return self.space.draw(draw)

    def joined(self, ledger: Ledger, entry: Entry) -> None:
        """Does nothing: these samplers remember nothing."""

    def _told(self, ledger: Ledger) -> list[FrozenTrial]:
        return ledger.shown()

    def _study(self) -> optuna.Study:
        """A new object each time, because a study caches the trials that it has seen."""
        return optuna.load_study(study_name="search", storage=self._storage, sampler=_NO_SAMPLER)

    def _sampler(self, seed: int, running: int) -> BaseSampler:
        return RandomSampler(seed=seed)

    def _related(self, sampler: BaseSampler, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """The knobs that are suggested together; the others are asked for one by one."""
        return sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))


class Random(_Optuna):
    """Draws every knob evenly."""

    def _told(self, ledger: Ledger) -> list[FrozenTrial]:
        return []


class Tpe(_Optuna):
    """The tree-structured Parzen estimator, over groups of knobs that occur together; over each knob by itself where
    many trials run at once, which found better configurations there (`make bench-search`, 32 and 64 workers).

    Source: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011; for what is multivariate and
    grouped, Optuna's documentation of `TPESampler`.
    """

    def _sampler(self, seed: int, running: int) -> BaseSampler:
        joint = running < UNIVARIATE_FROM_RUNNING
        return TPESampler(
            seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=joint, group=joint, constant_liar=True
        )

    def _related(self, sampler: BaseSampler, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """First what every configuration has, then the knobs of the parts that were chosen: the groups of knobs that
        would not apply are most of a large space's, and of the time.
        """
        space = sampler.infer_relative_search_space(study, trial)
        found = sampler.sample_relative(study, trial, {name: space[name] for name in space if is_active(name, {})})
        if not found:
            return {}
        chosen = {family: found.get(family, next(iter(parts))) for family, parts in self.space.parts.items()}
        own = {name: space[name] for name in space if not is_active(name, {}) and is_active(name, chosen)}
        return found | sampler.sample_relative(study, trial, own)


class Gp(_Optuna):
    """Optuna's Gaussian process, for several objectives or constraints, over spaces without conditional knobs."""

    view = View(models_values=True)

    def _sampler(self, seed: int, running: int) -> BaseSampler:
        return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False)

    def _related(self, sampler: BaseSampler, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        return sampler.sample_relative(study, trial, self.flat)


class Nsga2(_Optuna):
    """An elitist genetic algorithm, made for several objectives.

    Source: Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE TEC 2002.
    """

    view = View(forgets=False, running=False)  # a population must not change while its children are made

    def _sampler(self, seed: int, running: int) -> BaseSampler:
        return NSGAIISampler(seed=seed, population_size=POPULATION)

    def _related(self, sampler: BaseSampler, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        return sampler.sample_relative(study, trial, self.flat)

    def joined(self, ledger: Ledger, entry: Entry) -> None:
        """Notes the trial's generation, which depends on the trials that had ended when it was suggested, and its
        unexpressed genes.
        """
        for name, knob in self.space.knobs():
            if name in self.flat and name not in entry.params:
                entry.params[name], entry.distributions[name] = knob.default, self.flat[name]
        sampler, trial = self._sampler(0, running=0), starting(entry.number)
        assert isinstance(sampler, NSGAIISampler)
        self._storage.trials = [*ledger.shown()[: entry.number], trial]
        study = self._study()
        sampler.get_parent_population(study, sampler.get_trial_generation(study, trial))
        entry.attributes.update(trial.system_attrs)


class Qmc:
    """Sobol' points, scrambled by the study's seed: trial `number` has point `number`.

    SciPy's sequence, because Optuna's sampler counts the points that it gave in its own storage, which a replay would
    have to forge. Source: Owen, "Scrambling Sobol' and Niederreiter-Xing points", Journal of Complexity 1998.
    """

    view = View()

    def __init__(self, study: Study) -> None:
        self.space, self.seed = study.space, study.search.seed
        self.names = [name for name, knob in study.space.knobs() if not is_fixed(knob)]

    def plan(self, ledger: Ledger, number: int) -> Plan:
        """See `Sampler`; the ledger is not looked at."""
        return lambda: self._point(number)

    def _point(self, number: int) -> Config:
        from scipy.stats import qmc

        if not self.names:
            return self.space.defaults()
        points = qmc.Sobol(len(self.names), scramble=True, seed=seed_of(self.seed, 0))
        if number:
            points.fast_forward(number)
        shares = points.random(1)[0]
        point = dict(zip(self.names, shares, strict=True))
        return self.space.draw(lambda name, knob: at_share(knob, float(point[name])))

    def joined(self, ledger: Ledger, entry: Entry) -> None:
        """Does nothing: a point follows from its number."""


_NO_SAMPLER = RandomSampler(seed=0)  # Optuna's study wants one; ours are asked without it
KINDS: dict[str, Any] = {"tpe": Tpe, "random": Random, "qmc": Qmc, "gp": Gp, "nsga2": Nsga2}


def seed_of(study_seed: int, number: int) -> int:
    """Gives the seed of one trial's suggestion."""
    return int(SeedSequence([study_seed, SEARCH, number]).generate_state(1)[0])


def starting(number: int) -> FrozenTrial:
    """Writes a trial that is about to get its configuration in Optuna's form."""
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime(2000, 1, 1),  # wanted, and never read
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def distribution(knob: Knob) -> BaseDistribution:
    """Writes a knob as a distribution of Optuna's."""
    if isinstance(knob, Choice):
        return CategoricalDistribution(knob.options)
    if isinstance(knob, Int):
        return IntDistribution(knob.low, knob.high, log=knob.log)
    return FloatDistribution(knob.low, knob.high, log=knob.log)


def at_share(knob: Knob, share: float) -> Value:
    """The value at a share in [0, 1) of a knob's range: every choice and every whole number is as wide as any other
    (in the logarithm where the knob says so).
    """
    if isinstance(knob, Choice):
        return knob.options[int(share * len(knob.options))]
    low, high = (knob.low - 0.5, knob.high + 0.5) if isinstance(knob, Int) else (knob.low, knob.high)
    value = math.exp(math.log(low) + share * math.log(high / low)) if knob.log else low + share * (high - low)
    value = min(max(value, knob.low), knob.high)
    return round(value) if isinstance(knob, Int) else value


def share_of(knob: Float | Int, value: float) -> float:
    """Where in a knob's range a value lies, from 0 to 1: what `at_share` turns round."""
    low, high = (knob.low - 0.5, knob.high + 0.5) if isinstance(knob, Int) else (knob.low, knob.high)
    return math.log(value / low) / math.log(high / low) if knob.log else (value - low) / (high - low)
