"""What a study believes of its knobs (`lr: {low: ..., high: ..., prior: 0.1, confidence: medium}`), brought into any
sampler's suggestions.

A trial's suggestion is the sampler's. With a probability that falls with the number of trials, its knobs with a prior
are drawn around it instead, so that a search starts where it is told to, and a belief that is wrong costs the first
trials only: what the sampler learns from all of them outweighs it.

Source: Hvarfner et al., "πBO: Augmenting Acquisition Functions with User Beliefs for Bayesian Optimization", ICLR 2022,
for a weight that decays with the trials; Mallik et al., "PriorBand", NeurIPS 2023, for drawing from the prior and from
the search in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from facex_tune.search.ledger import Entry, Ledger
from facex_tune.search.samplers import Plan, Sampler, at_share, seed_of, share_of
from facex_tune.space import Choice, Config, Float, Int, Value, is_fixed
from facex_tune.study import Study

WIDTH = {"low": 0.5, "medium": 0.25, "high": 0.125}  # standard deviations, in shares of the range, as PriorBand's
LASTS = {"low": 2.0, "medium": 5.0, "high": 12.0}  # trials after which half of the suggestions follow the prior
DRAWN_AGAIN = 8  # times, for a configuration that was not tried yet


class Believing:
    """A sampler that follows priors at first: the study's, and those that earlier runs gave (`believe`).

    Args:
        sampler: whose suggestions are changed.
    """

    def __init__(self, sampler: Sampler, study: Study) -> None:
        self._sampler, self._seed, self.view = sampler, study.search.seed, sampler.view
        self._space, self._believed = study.space, believed(study)
        self._varied = [name for name, knob in study.space.knobs() if not is_fixed(knob)]

    def believe(self, priors: Mapping[str, Mapping[str, Any]]) -> None:
        """Takes over what an earlier run gave (`events.PriorsTaken`); what is believed of a knob already stands."""
        for name, knob in self._space.knobs():
            if name in priors and name not in self._believed and not isinstance(knob, Choice):
                self._believed[name] = replace(knob, **priors[name])

    def plan(self, ledger: Ledger, number: int) -> Plan:
        """See `Sampler`."""
        suggested, tried = self._sampler.plan(ledger, number), ledger.tried.copy()
        rng = np.random.default_rng([seed_of(self._seed, number), 1])
        chance = rng.random()
        follows = {name: knob for name, knob in self._believed.items() if chance < weight(knob, number)}

        def plan() -> Config:
            config = suggested()
            for _ in range(DRAWN_AGAIN if follows else 0):
                drawn = config | {name: around(knob, rng) for name, knob in follows.items() if name in config}
                if frozenset((name, drawn[name]) for name in self._varied if name in drawn) not in tried:
                    return drawn
            return config

        return plan

    def joined(self, ledger: Ledger, entry: Entry) -> None:
        """See `Sampler`."""
        self._sampler.joined(ledger, entry)


def believed(study: Study) -> dict[str, Float | Int]:
    """The knobs of which a study believes something."""
    knobs = ((name, knob) for name, knob in study.space.knobs() if not isinstance(knob, Choice))
    return {name: knob for name, knob in knobs if knob.prior is not None}


def weight(knob: Float | Int, number: int) -> float:
    """The probability that trial `number` follows a knob's prior: 1 for the first, then ever less."""
    lasts = LASTS[knob.confidence]
    return lasts / (lasts + number)


def around(knob: Float | Int, rng: np.random.Generator) -> Value:
    """Draws from the normal distribution around a knob's prior, cut off at the ends of its range."""
    assert knob.prior is not None
    middle, share = share_of(knob, knob.prior), -1.0
    while not 0.0 <= share < 1.0:
        share = rng.normal(middle, WIDTH[knob.confidence])
    return at_share(knob, share)
