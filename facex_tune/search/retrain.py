"""The retrain stage: the best configurations again, from the start, with seeds that the search never used."""

from __future__ import annotations

from collections import Counter

from facex_tune import files, seeds
from facex_tune.errors import InputError
from facex_tune.history import FINISHED, STOPPED, Candidate, History, Standing, Trial, baseline_of, keeps
from facex_tune.search import fleet
from facex_tune.search.fleet import Order
from facex_tune.search.worker import Context, Job, Report
from facex_tune.store import Log, Run
from facex_tune.study import Study


def choose(history: History, study: Study) -> list[Trial]:
    """The trials to retrain: the best finished ones; where none finished, the best of the stopped ones, compared at the
    highest epoch that enough of them have passed (`History.compared_at`). Of a configuration that was repeated one
    stands for all.

    Those that break a constraint are chosen only where none keeps them.

    Raises:
        InputError: no trial has a value.
    """
    return [standing.trial for standing in _choose(history, study)]


def _choose(history: History, study: Study) -> list[Standing]:
    first = [each for each in history.standings(study) if each.of is each.trial]
    board = [each for each in first if each.trial.state in (FINISHED, STOPPED) and each.trial.metrics]
    eligible = [each for each in board if each.trial.state == FINISHED] or board
    if not eligible:
        reasons = sorted({trial.reason for trial in history.trials.values() if trial.reason})
        raise InputError(
            f"no trial can be retrained: none came to a value (reasons: {', '.join(reasons) or 'none was run'})"
        )
    kept = [each for each in eligible if keeps(study.bounds, each.mean)]
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
            f"`facex-tune resume {run.name}` tries them again; if it is not the machine, begin a run of another study"
        )


def _train(run: Run, log: Log, context: Context, orders: list[Order]) -> None:
    def who(order: Order) -> dict[str, int]:
        return {"candidate": order.candidate, "seed": order.replicate}

    def on_start(order: Order) -> None:
        log.tell("model_started", **who(order))

    def on_epoch(order: Order, report: Report) -> None:
        told = {name: report[name] for name in ("epoch", "metrics", "seconds")}
        log.tell("model_epoch", **who(order), epochs=order.job.epochs, **told)

    def on_model(order: Order, metrics: dict[str, float]) -> None:
        log.append("model_finished", **who(order), metrics=metrics)
        run.final_checkpoint(order.candidate, order.replicate).unlink(missing_ok=True)

    def on_failed(order: Order, reason: str, detail: str) -> None:
        log.append("model_failed", **who(order), reason=reason, detail=detail)
        checkpoint = run.final_checkpoint(order.candidate, order.replicate)
        files.remove([checkpoint, checkpoint.with_name("hung.json")])  # tried again, it begins anew

    def on_note(order: Order, reason: str, detail: str) -> None:
        log.append("model_recovered", **who(order), reason=reason, detail=detail)

    fleet.train(orders, context, run.study.resources, on_epoch, on_model, on_note, on_failed, on_start=on_start)


def _name(candidate: Candidate, replicate: int) -> str:
    return f"model t{candidate.trial:04d} seed {replicate}"


def _job(run: Run, history: History, study: Study, candidate: Candidate, replicate: int) -> Job:
    checkpoint = str(run.final_checkpoint(candidate.trial, replicate))
    seed = seeds.of_model(study.search.seed, candidate.trial, replicate)
    return Job(history.trials[candidate.trial].config, study.final_epochs, seed, checkpoint, logs_epochs=False)
