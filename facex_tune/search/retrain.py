"""The retrain stage: the best configurations again, from the start, with seeds that the search never used."""

from __future__ import annotations

from facex_tune import seeds
from facex_tune.errors import InputError
from facex_tune.history import FINISHED, STOPPED, Candidate, History, Trial, baseline_of, keeps
from facex_tune.search import fleet
from facex_tune.search.fleet import Order
from facex_tune.search.worker import Context, Job, Report
from facex_tune.store import Log, Run
from facex_tune.study import Study


def choose(history: History, study: Study) -> list[Trial]:
    """The trials to retrain: the best finished ones; where none finished, the best of the highest rung.

    Those that break a constraint are chosen only where none keeps them.

    Raises:
        InputError: no trial has a value.
    """
    board = [trial for trial in history.leaderboard(study) if trial.state in (FINISHED, STOPPED) and trial.metrics]
    finished = [trial for trial in board if trial.state == FINISHED]
    eligible = finished or [trial for trial in board if trial.last_epoch == max(other.last_epoch for other in board)]
    if not eligible:
        reasons = sorted({trial.reason for trial in history.trials.values() if trial.reason})
        raise InputError(
            f"no trial can be retrained: none came to a value (reasons: {', '.join(reasons) or 'none was run'})"
        )
    kept = [trial for trial in eligible if keeps(study.bounds, trial.metrics)]
    return (kept or eligible)[: study.retrain.top]


def retrain(run: Run, log: Log, context: Context) -> None:
    """Chooses the candidates once, and trains what is not yet trained of candidates × seeds.

    Raises:
        InputError: there is nothing to choose, or a model cannot be trained.
    """
    log.append("stage_started", stage="retrain")
    study, history = run.study, run.history()
    candidates = history.candidates or _choose_and_log(log, history, study)
    orders = [
        Order(candidate.trial, replicate, _job(run, history, study, candidate, replicate))
        for candidate in candidates
        for replicate in range(study.retrain.seeds)
        if (candidate.trial, replicate) not in history.models
    ]

    def on_start(order: Order) -> None:
        log.tell("model_started", candidate=order.candidate, seed=order.replicate)

    def on_epoch(order: Order, report: Report) -> None:
        log.tell(
            "model_epoch",
            candidate=order.candidate,
            seed=order.replicate,
            epoch=report["epoch"],
            epochs=order.job.epochs,
            metrics=report["metrics"],
            seconds=report["seconds"],
        )

    def on_model(order: Order, metrics: dict[str, float]) -> None:
        log.append("model_finished", candidate=order.candidate, seed=order.replicate, metrics=metrics)
        run.final_checkpoint(order.candidate, order.replicate).unlink(missing_ok=True)

    def on_note(order: Order, reason: str, detail: str) -> None:
        log.append("model_recovered", candidate=order.candidate, seed=order.replicate, reason=reason, detail=detail)

    if orders:
        fleet.train(orders, context, study.resources, on_epoch, on_model, on_note, on_start=on_start)
    log.append("stage_finished", stage="retrain")


def _choose_and_log(log: Log, history: History, study: Study) -> list[Candidate]:
    objective = study.objective[0]
    chosen = [
        Candidate(trial.number, trial.metrics[objective], rank)
        for rank, trial in enumerate(choose(history, study), start=1)
    ]
    baseline = baseline_of(history) if study.retrain.also == "baseline" else None
    if baseline is not None and baseline.metrics and baseline.number not in [each.trial for each in chosen]:
        chosen.append(Candidate(baseline.number, baseline.metrics[objective], len(chosen) + 1))
    for candidate in chosen:
        log.append("candidate_chosen", trial=candidate.trial, value=candidate.value, rank=candidate.rank)
    return chosen


def _job(run: Run, history: History, study: Study, candidate: Candidate, replicate: int) -> Job:
    checkpoint = str(run.final_checkpoint(candidate.trial, replicate))
    seed = seeds.of_model(study.search.seed, candidate.trial, replicate)
    return Job(history.trials[candidate.trial].config, study.final_epochs, seed, checkpoint)
