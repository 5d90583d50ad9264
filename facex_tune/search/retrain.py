"""The retrain stage: the best configurations again, from the start, with seeds that the search never used."""

from __future__ import annotations

from collections import Counter

from facex_tune import seeds
from facex_tune.errors import InputError
from facex_tune.runs.history import FINISHED, STOPPED, Candidate, History, Trial, baseline_of, keeps
from facex_tune.runs.names import model_name
from facex_tune.runs.store import Log, Run
from facex_tune.search.fleet import Failed, Finished, Fleet, Order, Recovered, Started, Trained
from facex_tune.search.worker import Context, Job
from facex_tune.storage import files
from facex_tune.study import Study


def choose(history: History, study: Study) -> list[Trial]:
    """Chooses the trials to retrain: the best finished ones. Where none finished, these are the best stopped ones,
    compared at the highest epoch that enough of them have passed (`History.compared_at`).

    Those that break a constraint are chosen only where none keeps them.

    Raises:
        InputError: no trial has a value.
    """
    board = [trial for trial in history.leaderboard(study) if trial.state in (FINISHED, STOPPED) and trial.metrics]
    eligible = [trial for trial in board if trial.state == FINISHED] or board
    if not eligible:
        reasons = sorted({trial.reason for trial in history.trials.values() if trial.reason})
        raise InputError(
            f"no trial can be retrained: none came to a value (reasons: {', '.join(reasons) or 'none was run'})"
        )
    kept = [trial for trial in eligible if keeps(study.bounds, trial.metrics)]
    return (kept or eligible)[: study.retrain.top]


def retrain(run: Run, log: Log, context: Context) -> None:
    """Chooses the candidates once, and trains what is not yet trained of candidates × seeds. A model that cannot be
    trained is logged with its reason, and the others go on.

    Raises:
        InputError: there is nothing to choose, or no model at all can be trained.
    """
    log.append("stage_started", stage="retrain")
    study, history = run.study, run.history()
    given_up = _given_up(history)
    orders = [
        Order(candidate.trial, replicate, _job(run, history, study, candidate, replicate), _name(candidate, replicate))
        for candidate in _candidates(log, history, study)
        for replicate in range(study.retrain.seeds)
        if (candidate.trial, replicate) not in history.models.keys() | given_up
    ]
    if orders:
        _train(run, log, context, orders)
    _some_model(run)
    log.append("stage_finished", stage="retrain")


def _given_up(history: History) -> set[tuple[int, int]]:
    """Failed models, which the same seeds would let fail again; all are tried again where no other model is there."""
    return set(history.failed_models) if history.models else set()


def _candidates(log: Log, history: History, study: Study) -> list[Candidate]:
    """Those that the log names and, where an interruption came between two of them, the rest, which is logged now. A
    choice is whole once a model of it has ended; one by the rules of an earlier version stands as it is.
    """
    known = history.candidates
    if known and (history.models or history.failed_models):
        return known
    chosen = _chosen(history, study)
    if [each.trial for each in known] != [each.trial for each in chosen[: len(known)]]:
        return known
    for candidate in chosen[len(known) :]:
        log.append("candidate_chosen", trial=candidate.trial, value=candidate.value, rank=candidate.rank)
    return chosen


def _chosen(history: History, study: Study) -> list[Candidate]:
    objective = study.objective[0]
    chosen = [
        Candidate(trial.number, trial.metrics[objective], rank)
        for rank, trial in enumerate(choose(history, study), start=1)
    ]
    baseline = baseline_of(history) if study.retrain.also == "baseline" else None
    if baseline is not None and baseline.metrics and baseline.number not in [each.trial for each in chosen]:
        chosen.append(Candidate(baseline.number, baseline.metrics[objective], len(chosen) + 1))
    return chosen


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
            f"`facex-tune resume {run.name}` tries them again; if it is not the machine, begin a run of another study"
        )


def _train(run: Run, log: Log, context: Context, orders: list[Order]) -> None:
    with Fleet(orders, context, run.study.resources) as fleet:
        for happened in fleet:
            order = happened.order
            who = {"candidate": order.candidate, "seed": order.replicate}
            checkpoint = run.final_checkpoint(order.candidate, order.replicate)
            match happened:
                case Started():
                    log.tell("model_started", **who)
                case Trained(_, done):
                    told = {"epoch": done.epoch, "metrics": done.metrics, "seconds": done.seconds}
                    log.tell("model_epoch", **who, epochs=order.job.epochs, **told)
                case Finished(_, metrics):
                    log.append("model_finished", **who, metrics=metrics)
                    checkpoint.unlink(missing_ok=True)
                case Failed(_, reason, detail):
                    log.append("model_failed", **who, reason=reason, detail=detail)
                    files.remove([checkpoint, checkpoint.with_name("hung.json")])  # tried again, it begins anew
                case Recovered(_, reason, detail):
                    log.append("model_recovered", **who, reason=reason, detail=detail)


def _name(candidate: Candidate, replicate: int) -> str:
    return f"model {model_name(candidate.trial, replicate)}"


def _job(run: Run, history: History, study: Study, candidate: Candidate, replicate: int) -> Job:
    checkpoint = str(run.final_checkpoint(candidate.trial, replicate))
    seed = seeds.of_model(study.search.seed, candidate.trial, replicate)
    return Job(history.trials[candidate.trial].config, study.final_epochs, seed, checkpoint, logs_epochs=False)
