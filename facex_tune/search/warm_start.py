"""What earlier runs teach before the first trial: `learn_from`, their finished trials as what the sampler knows, where
their values compare; `priors_from`, where the best of them lay, on whatever data, as what is believed at first.

Both are copied into the run's log when the search starts, so that a resumed search knows the same although the earlier
run has gone on, or is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from facex_tune.errors import InputError
from facex_tune.runs.events import LearnedFrom, Note, PriorsTaken
from facex_tune.runs.history import FINISHED, Trial
from facex_tune.runs.store import Log, Run
from facex_tune.search.samplers import at_share, share_of
from facex_tune.space import Choice, Config, Float, Int, Space, is_active, is_fixed
from facex_tune.storage.files import Place, place
from facex_tune.study import Holdout, Study, protocols
from facex_tune.study.words import plural

FEWEST_BEST = 5  # trials that must agree
AGREE = {"low": 0.5, "medium": 0.3}  # the scatter of the best over that of all, below which they do
SAME = ("data", "validation", "labels", "classes", "duplicates", "set_balance")  # else values do not compare


def find(storage: Place, name: str, key: str = "search.learn_from") -> Run:
    """Opens a run that a key of the study names: one of `storage` by its name, any other by its folder's path or URL.

    Raises:
        InputError: there is none.
    """
    try:
        if "/" not in name:
            return Run.open(storage, name)
        path = place(name)
        return Run.open(path.parent, path.name)
    except InputError as error:
        raise InputError([f"{key}: {line}" for line in error.problems]) from error


def learn(run: Run, log: Log) -> None:
    """Writes into the log, once, what the sampler learns from the study's `learn_from` and `priors_from` runs."""
    _learn_trials(run, log)
    _learn_priors(run, log)


def _learn_trials(run: Run, log: Log) -> None:
    if not run.study.search.learn_from:
        return
    known = {learned.run for learned in run.history().learned}
    for name in run.study.search.learn_from:
        if name not in known:
            taken, left_out = fitting(find(run.storage, name), run)
            log.append(LearnedFrom(name, taken, left_out))
            log.tell(Note(summary(name, len(taken), left_out)))


def _learn_priors(run: Run, log: Log) -> None:
    wanted = run.study.search.priors_from
    known = {event["run"] for event in run.events() if event["type"] == PriorsTaken.TYPE} if wanted else set()
    for name in wanted:
        if name not in known:
            count, found = beliefs(find(run.storage, name, "search.priors_from"), run.study)
            log.append(PriorsTaken(name, count, found))


def beliefs(earlier: Run, study: Study) -> tuple[int, dict[str, dict[str, Any]]]:
    """Finds the ranges of a study in which the best finished trials of an earlier run agree, and where they lie.

    The best are a quarter of the configurations, FEWEST_BEST at least. They agree where their shares of the range
    scatter by less than AGREE times what those of all do; by chance five draws do so in one knob of eleven. What is
    said so lasts for few trials (`priors.LASTS`).

    Returns:
        the configurations that came to their end; knob -> ``{prior, confidence}``.
    """
    ranked = [each.trial for each in earlier.history().standings(earlier.study) if each.of is each.trial]
    configs = [trial.config for trial in ranked if trial.state == FINISHED]
    best = configs[: max(FEWEST_BEST, len(configs) // 4)]
    if len(configs) < 2 * FEWEST_BEST:
        return len(configs), {}
    found: dict[str, dict[str, Any]] = {}
    for name, knob in study.space.knobs():
        if isinstance(knob, Choice) or knob.prior is not None:
            continue
        shares_B, shares_N = _shares(name, knob, best), _shares(name, knob, configs)
        scatter = float(np.std(shares_N, ddof=1)) if len(shares_N) > 1 else 0.0
        if len(shares_B) < FEWEST_BEST or not scatter:
            continue
        agree = float(np.std(shares_B, ddof=1)) / scatter
        if agree < AGREE["low"]:
            prior = at_share(knob, min(max(float(np.median(shares_B)), 0.0), 1 - 1e-9))
            found[name] = {"prior": prior, "confidence": "medium" if agree < AGREE["medium"] else "low"}
    return len(configs), found


def _shares(name: str, knob: Float | Int, configs: Sequence[Config]) -> list[float]:
    """Where in the range the values of configurations lie that have the knob, and have it inside the range."""
    return [share_of(knob, float(config[name] or 0)) for config in configs if knob.holds(config.get(name))]


def summary(name: str, taken: int, left_out: dict[str, int]) -> str:
    """Says in a line what was learned and what did not fit."""
    said = f"learned from {plural(taken, 'trial')} of run {name}"
    reasons = "; ".join(f"{count} ({reason})" for reason, count in left_out.items())
    return f"{said}; left out: {reasons}" if reasons else said


def fitting(earlier: Run, run: Run) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Finds the finished trials of an earlier run whose values compare with this run's, and counts the others by
    reason.
    """
    history, study = earlier.history(), run.study
    taken: list[dict[str, Any]] = []
    reasons: list[str] = []
    other = ", ".join(_differences(earlier, run))
    for trial in sorted(history.trials.values(), key=lambda trial: trial.number):
        reason = other or _other_trial(trial, study)
        if reason:
            reasons.append(reason)
        else:
            taken.append(_observation(trial, study))
    return taken, dict(Counter(reasons).most_common())


def _differences(earlier: Run, run: Run) -> list[str]:
    """What keeps any value of the earlier run from being compared.

    The epochs are among it, because a schedule ends with them: a value at the end of a short one is no value that this
    run's trials pass on their way.
    """
    before, study = earlier.study, run.study
    was, now = before.to_data(), study.to_data()
    was["data"], now["data"] = before.data_text, study.data_text
    differs = [f"{key} {was[key]} there, {now[key]} here" for key in SAME if was[key] != now[key]]
    if isinstance(study.validation, Holdout) and before.search.seed != study.search.seed:
        differs.append(f"search.seed {before.search.seed} there, {study.search.seed} here, which cuts the holdout")
    if before.validation_copies != study.validation_copies and not _same_count(earlier, run):
        differs.append(f"validation_copies {before.validation_copies} there, {study.validation_copies} here")
    there, here = _dropped_for(earlier), _dropped_for(run)
    if study.duplicates == "drop" == before.duplicates and there != here:
        differs.append(f"duplicates: drop kept copies of {_named(there)} out of training there, of {_named(here)} here")
    faces_there, faces_here = _fingerprints(earlier), _fingerprints(run)
    both = [name for name in study.sets if before.data == study.data and name in faces_there and name in faces_here]
    other = [name for name in both if faces_there[name] != faces_here[name]]
    differs += [f"data {name} was prepared with other faces there" for name in other]
    if before.retrain.weights != study.retrain.weights:
        differs.append(f"retrain.weights {before.retrain.weights} there, {study.retrain.weights} here")
    if before.fidelity.max_epochs != study.fidelity.max_epochs:
        differs.append(f"{before.fidelity.max_epochs} epochs there, {study.fidelity.max_epochs} here")
    return differs


def _same_count(earlier: Run, run: Run) -> bool:
    """Whether both validate with as many faces: then there was no copy to leave out. False where a header is silent."""
    there, here = ((each.header.get("faces") or {}).get("validation") for each in (earlier, run))
    return there is not None and there == here


def _dropped_for(run: Run) -> set[str]:
    """The splits of sealed sets whose copies `duplicates: drop` keeps out of training: those of the protocols."""
    wanted = [protocols.find(name) for name in run.study.evaluate.protocols]
    return {f"{each.data}/{split}" for each in wanted for split in each.splits}


def _named(splits: set[str]) -> str:
    return ", ".join(sorted(splits)) or "no sealed set"


def _fingerprints(run: Run) -> dict[str, str]:
    """The SHA-256 of the faces that a run began with, by set, where it was recorded."""
    manifests: dict[str, Any] = run.header["data"]
    said = {name: manifests.get(name, {}).get("sha256") for name in run.study.sets}
    return {name: sha256 for name, sha256 in said.items() if sha256}


def _other_trial(trial: Trial, study: Study) -> str:
    if trial.state != FINISHED:
        return f"{trial.state}, not finished"
    if missing := [name for name in (*study.objective, *study.bounds) if name not in trial.metrics]:
        return f"{missing[0]} was not measured"
    return misfit(trial.config, study.space)


def misfit(config: Config, space: Space) -> str:
    """Says why a configuration is not one of this space; "" if it is.

    A knob that the configuration predates counts with its default, as everywhere; one that it has and this space has
    not would have been something else here.
    """
    knobs = {name: knob for name, knob in space.knobs() if is_active(name, config)}
    for name, knob in knobs.items():
        if not knob.holds(config.get(name, knob.default)):
            return f"{name} is fixed here" if is_fixed(knob) else f"{name} lies outside its range here"
    strange = [name for name in config if name not in knobs]
    return f"{strange[0]} is no knob here" if strange else ""


def _observation(trial: Trial, study: Study) -> dict[str, Any]:
    """A trial as the log keeps it: what the sampler needs, every epoch's, which tell what a stopped one would gain."""
    knobs = {name: knob for name, knob in study.space.knobs() if is_active(name, trial.config)}
    wanted = (*study.objective, *study.bounds)
    return {
        "trial": trial.number,
        "config": {name: trial.config.get(name, knob.default) for name, knob in knobs.items()},
        "state": FINISHED,
        "epochs": {
            str(epoch): {name: scores[name] for name in wanted if name in scores}
            for epoch, scores in sorted(trial.epochs.items())
        },
    }
