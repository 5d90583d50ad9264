"""The retrain stage: the best configurations again, from the start, with seeds that the search never used; with
`retrain: {on: all}` the winner once more, on training and validation faces.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import replace

from facex_tune import seeds
from facex_tune.errors import InputError
from facex_tune.metrics import COSTS
from facex_tune.runs.events import (
    CandidateChosen,
    ModelEpoch,
    ModelFailed,
    ModelFinished,
    ModelRecovered,
    ModelStarted,
    StageFinished,
    StageStarted,
)
from facex_tune.runs.history import FINISHED, STOPPED, Candidate, History, Standing, Trial, baseline_of
from facex_tune.runs.names import ALL, model_name
from facex_tune.runs.store import Log, Run
from facex_tune.search import thread_choice
from facex_tune.search.fleet import Failed, Finished, Fleet, Order, Recovered, Started, Trained
from facex_tune.search.job import Context, Job
from facex_tune.storage import files
from facex_tune.study import Study
from facex_tune.training import posthoc


def choose(history: History, study: Study) -> list[Trial]:
    """Chooses the trials to retrain: of those that keep the study's constraints the best finished ones. Where none
    finished, these are the best stopped ones, compared at the highest epoch that enough of them have passed
    (`History.compared_at`).
    Of a configuration that was repeated one trial stands for all.

    Those that break a constraint are chosen only where no trial keeps all of them, finished or stopped.

    Raises:
        InputError: no trial has a value.
    """
    return [standing.trial for standing in _choose(history, study)]


def _choose(history: History, study: Study) -> list[Standing]:
    first = [each for each in history.standings(study) if each.of is each.trial]
    board = [each for each in first if each.trial.state in (FINISHED, STOPPED) and each.trial.metrics]
    if not board:
        reasons = sorted({trial.reason for trial in history.trials.values() if trial.reason})
        raise InputError(
            f"no trial can be retrained: none came to a value (reasons: {', '.join(reasons) or 'none was run'})"
        )
    keepers = history.keepers(study)
    eligible = [each for each in board if each.trial.number in keepers] or board
    return ([each for each in eligible if each.trial.state == FINISHED] or eligible)[: study.retrain.top]


def retrain(run: Run, log: Log, context: Context) -> None:
    """Chooses the candidates once, and trains what is not yet trained of candidates × seeds; then, where the study asks
    for it, the winner on all faces. A model that cannot be trained is logged with its reason, and the others go on.

    Raises:
        InputError: there is nothing to choose, or no model at all can be trained.
    """
    log.append(StageStarted("retrain"))
    study, history = run.study, run.history()
    given_up = _given_up(history)
    orders = [
        _order(run, history, study, candidate.trial, replicate)
        for candidate in _candidates(log, history, study)
        for replicate in range(study.retrain.seeds)
        if (candidate.trial, replicate) not in history.models.keys() | given_up
    ]
    if orders:
        _train(run, log, context, orders)
    _some_model(run)
    if study.retrain.on == ALL and (order := _on_all(run, study)) is not None:
        _train(run, log, context, [order])
    log.append(StageFinished("retrain"))


def _on_all(run: Run, study: Study) -> Order | None:
    """The winner on all faces; None where there is such a model, or none can be trained. Its seed is one more than the
    others have. What only validation could choose, it takes over: the epochs, and the median of their adjustments.
    """
    history = run.history()
    winner = history.finished_models[0][0]
    key = winner, study.retrain.seeds
    if key in history.models_on_all.keys() | history.failed_on_all.keys():
        return None
    own = [found for (trial, _), found in history.models.items() if trial == winner]
    taus = [found[posthoc.TAU] for found in own if posthoc.TAU in found]
    order = _order(run, history, study, *key, ALL)
    return replace(order, job=replace(order.job, adjust_tau=statistics.median(taus) if taus else None))


def _given_up(history: History) -> set[tuple[int, int]]:
    """Failed models, which the same seeds would let fail again; all are tried again where no other model is there."""
    return set(history.failed_models) if history.models else set()


def _candidates(log: Log, history: History, study: Study) -> list[Candidate]:
    """Those that the log names and, where an interruption came between two of them, the rest, which is logged now. A
    choice is whole once a model of it has ended; one by the rules of an earlier version stands as it is.
    """
    known = history.candidates
    if known and history.choice_stands:
        return known
    chosen = _chosen(history, study)
    if [each.trial for each in known] != [each.trial for each in chosen[: len(known)]]:
        return known
    for candidate in chosen[len(known) :]:
        log.append(CandidateChosen(candidate.trial, candidate.value, candidate.rank))
    return chosen


def _chosen(history: History, study: Study) -> list[Candidate]:
    objective = study.objective[0]
    chosen = [
        Candidate(each.trial.number, _at_search(each, objective), rank)
        for rank, each in enumerate(_choose(history, study), start=1)
    ]
    baseline = baseline_of(history) if study.retrain.also == "baseline" else None
    known = [history.trials[each.trial].config for each in chosen]
    if baseline is not None and baseline.metrics and baseline.config not in known:
        chosen.append(Candidate(baseline.number, baseline.metrics[objective], len(chosen) + 1))
    return chosen


def _at_search(standing: Standing, objective: str) -> float:
    """What a candidate was chosen by: its value or, where its configuration was repeated, the mean."""
    return standing.mean[objective] if standing.n > 1 else standing.trial.metrics[objective]


def _some_model(run: Run) -> None:
    """
    Raises:
        InputError: no candidate has a model, with the reasons.
    """
    history = run.history()
    if not history.models:
        reasons = Counter(history.failed_models.values()).most_common()
        raise InputError(
            f"none of the {len(history.failed_models)} final models could be trained "
            f"({', '.join(f'{count} {reason}' for reason, count in reasons)}; the log has the details): "
            f"`facex-tune resume {run.words}` tries them again; if it is not the machine, begin a run of another study"
        )


def _train(run: Run, log: Log, context: Context, orders: list[Order]) -> None:
    for group in thread_choice.of_orders(run, log, context, "retrain", orders):
        _train_group(run, log, context, group)


def _train_group(run: Run, log: Log, context: Context, orders: list[Order]) -> None:
    with Fleet(orders, context, run.study.resources) as fleet:
        for happened in fleet:
            order = happened.order
            on = order.job.on
            checkpoint = run.final_checkpoint(order.candidate, order.replicate, on)
            match happened:
                case Started():
                    log.tell(ModelStarted(*order.key, on))
                case Trained(_, done):
                    log.tell(ModelEpoch(*order.key, order.job.epochs, done.epoch, done.metrics, done.seconds, on))
                case Finished(_, metrics):
                    log.append(ModelFinished(*order.key, metrics, on))
                    checkpoint.unlink(missing_ok=True)
                case Failed(_, reason, detail):
                    log.append(ModelFailed(*order.key, reason, detail, on))
                    files.remove([checkpoint, checkpoint.with_name("hung.json")])  # tried again, it begins anew
                case Recovered(_, reason, detail):
                    log.append(ModelRecovered(*order.key, reason, detail, on))


def _order(run: Run, history: History, study: Study, number: int, replicate: int, on: str | None = None) -> Order:
    checkpoint = str(run.final_checkpoint(number, replicate, on))
    seed = seeds.of_model(study.search.seed, number, replicate)
    trial = history.trials[number]
    costs = {name: trial.metrics[name] for name in COSTS if name in trial.metrics}
    job = Job(trial.config, study.final_epochs, seed, checkpoint, logs_epochs=False, costs=costs, on=on)
    return Order(number, replicate, job, f"model {model_name(number, replicate, on)}")
