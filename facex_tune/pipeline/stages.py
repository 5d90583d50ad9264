"""One run from top to bottom: begin, then search, retrain, evaluate, report. Each stage reads what its predecessor
wrote.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from facex_tune import parts
from facex_tune.errors import InputError, Interrupted, RayLost, RayNotStarted, StorageOutage
from facex_tune.pipeline.environment import ray_cpus
from facex_tune.pipeline.options import Options, joins, plain_options, resume_words, trial_device
from facex_tune.pipeline.preflight import device_problems, ema_note, header_as_begun, same_data, same_header
from facex_tune.pipeline.raising import stay_stopped
from facex_tune.pipeline.signals import raising_interrupted
from facex_tune.runs import events as vocabulary
from facex_tune.runs.events import (
    SESSION_EVENTS,
    BudgetRaised,
    Note,
    RunInterrupted,
    RunResumed,
    RunStarted,
    StageFinished,
    StageStarted,
)
from facex_tune.runs.history import AFTER_A_RAISE
from facex_tune.runs.names import STAGES
from facex_tune.runs.store import Event, Log, Run, now_utc
from facex_tune.storage import remote_path
from facex_tune.study import Study, protocols

if TYPE_CHECKING:
    from facex_tune.runs.history import History
    from facex_tune.search.job import Context

ORDER = ("search", "retrain", "evaluate", "factors", "report")
NEED_RAY = ("search", "retrain", "factors")
LAST_WORD_S = 3.0  # of an interrupted run, to a store that may not answer


def execute(run: Run, stages: Sequence[str], options: Options, listeners: Sequence[Callable[[Event], None]]) -> None:
    """Does the stages, one after another. In a whole run (from the search on), stages that the log says are finished
    are not done again, except the factor study, which its budget may have ended, and the report of it.

    Raises:
        InputError: something the user can mend stands in the way.
        Interrupted: SIGINT or SIGTERM came; what was reported is saved.
    """
    resume = resume_words(run, options)
    with raising_interrupted(resume, ends_process=options.ends_process) as signals, run.log() as log:
        log.listeners += listeners
        signals.last_words = partial(_last_words, log)
        with contextlib.ExitStack() as ray:  # outlives the last event: ending Ray takes its time
            try:
                _execute(run, stages, options, log, ray, lambda process: signals.end(RayLost(resume, process)))
            except BaseException as error:  # Ray's compiled half may have made another one of the interruption
                if isinstance(error, RayNotStarted):
                    interrupted: Interrupted | None = Interrupted(resume, str(error))
                else:
                    interrupted = error if isinstance(error, Interrupted) else signals.behind(error)
                if interrupted is not None:
                    signals.last_words = None
                    _log_interrupted(log, interrupted)
                    raise interrupted from (None if interrupted is error else error)
                raise


def _execute(
    run: Run,
    stages: Sequence[str],
    options: Options,
    log: Log,
    ray: contextlib.ExitStack,
    on_lost: Callable[[str], object],
) -> None:
    same_header(run)
    history = run.history() if options.raised is None else _as_raised(run, options.raised)
    left = stages_left(stages, history)
    _in_order(left, run, history, options)
    if set(left) & set(NEED_RAY) and (found := device_problems(run.study, options.device, joins(options))):
        raise InputError(found)
    same_data(run, options)
    if history.stages or history.raises:
        log.append(RunResumed(left, plain_options(options)))
    else:
        log.append(RunStarted(left, plain_options(options), **header_as_begun(run)))
    if options.raised is not None:
        if told := stay_stopped(run, options.raised):
            log.tell(Note(told))
        log.append(options.raised)
    if not log.is_fenced:
        log.tell(Note(f"{run.storage}: this store itself keeps no second writer out; start none"))
    trained_on = run.header.get("faces", {}).get("train", 0)
    if trained_on and (note := ema_note(run.study, trained_on)):
        log.tell(Note(note))
    _with_ray([stage for stage in left if stage in NEED_RAY], run, log, options, ray, on_lost)
    ray.close()
    _without_ray([stage for stage in left if stage not in NEED_RAY], run, log, options)


def _as_raised(run: Run, raised: BudgetRaised) -> History:
    """What the log will add up to once the budget is raised, which it is told when nothing stands in the way."""
    from facex_tune.runs.history import fold

    return fold([*run.events(), vocabulary.told(raised, now_utc())])


def stages_left(stages: Sequence[str], history: History) -> list[str]:
    """Lists the stages to do: in a whole run those that are not finished, the factor study and its report; else all of
    them.
    """
    if "search" not in stages or len(stages) == 1:
        return list(stages)
    again = ("factors", "report") if "factors" in stages else ()
    return [stage for stage in stages if stage in again or history.stages.get(stage) != "finished"]


def unfinished(events: Iterable[Event]) -> tuple[list[str], tuple[str, ...]]:
    """The stages that some session was asked for and that have not come to their end, or that a raised budget opens
    again, in their order; and the protocols that `evaluate` was asked for last. All four where no session has begun, or
    one of a version that did not log them.
    """
    events = list(events)
    sessions = [event for event in events if event["type"] in SESSION_EVENTS]
    left = set() if sessions else set(STAGES)
    protocols: tuple[str, ...] = ()
    ended: set[str] = set()
    for event in events:
        if event["type"] == StageStarted.TYPE:
            left.add(event["stage"])
            ended.discard(event["stage"])
        elif event["type"] == StageFinished.TYPE:
            left.discard(event["stage"])
            ended.add(event["stage"])
        elif event["type"] == BudgetRaised.TYPE:
            again = {"search", *ended.intersection(AFTER_A_RAISE)}
            left |= again
            ended -= again
        elif event["type"] in SESSION_EVENTS:
            asked = event.get("stages", [stage for stage in STAGES if stage not in ended])
            left |= set(asked)
            if "evaluate" in asked:
                protocols = tuple(event.get("options", {}).get("protocols", ()))
    if "factors" in left:
        left.add("report")
    return [stage for stage in ORDER if stage in left], protocols


def _in_order(stages: Sequence[str], run: Run, history: History, options: Options) -> None:
    """A stage reads what its predecessor wrote. One that must do without is not begun, and nothing is logged that a
    resume would take for asked for.

    Raises:
        InputError: a stage's predecessor has not ended.
    """
    if "retrain" in stages and "search" not in stages and history.stages.get("search") != "finished":
        raise InputError(
            f"run {run.name!r} has not ended its search, from which the final models are chosen: "
            f"let `facex-tune resume {resume_words(run, options)}` end it first"
        )
    if "retrain" in stages:
        return
    if "factors" in stages:
        from facex_tune.search.factor_progress import winner_of

        winner_of(history, run.words)
    if "evaluate" in stages:
        from facex_tune.evaluation import evaluate

        evaluate.finished_models(run)
        asked = options.protocols or run.study.evaluate.protocols
        evaluate.check(run, [protocols.find(name) for name in asked], options.data_dir)


def next_command(run: Run, options: Options) -> str:
    """Gives the command for the stage that follows those that have ended, where it was not begun; "" where there is
    none.
    """
    stages = run.history().stages
    if stages.get("search") == "finished" and "retrain" not in stages:
        return f"facex-tune retrain {resume_words(run, options)}"
    if stages.get("retrain") == "finished" and "evaluate" not in stages:
        return f"facex-tune evaluate {resume_words(run, replace(options, address=None))}"
    return ""


def _log_interrupted(log: Log, interrupted: Interrupted) -> None:
    with contextlib.suppress(StorageOutage, InputError), remote_path.hurry(LAST_WORD_S):  # the end must not wait
        log.append(RunInterrupted(interrupted.signal_name))


def _last_words(log: Log, interrupted: Interrupted) -> None:
    """Of a process that ends without unwinding."""
    _log_interrupted(log, interrupted)
    log.close()


def _with_ray(
    stages: Sequence[str],
    run: Run,
    log: Log,
    options: Options,
    ray: contextlib.ExitStack,
    on_lost: Callable[[str], object],
) -> None:
    if not stages:
        return
    log.tell(Note("starting Ray" if options.address is None else f"joining Ray at {options.address}"))
    from facex_tune.search import ray_session

    cpus = ray_cpus()
    workers = _workers(run.study, stages[0], cpus)
    ray.enter_context(ray_session.connected(options.address, cpus, on_lost, workers=workers))
    from facex_tune.search import factor_study, retrain, search, telemetry  # while workers load torch
    from facex_tune.search.factor_progress import Asked

    work: dict[str, Callable[[Run, Log, Context], None]] = {
        "search": search.search,
        "retrain": retrain.retrain,
        "factors": partial(factor_study.factors, asked=options.factors or Asked()),
    }
    log.listeners.append(telemetry.Telemetry(run.name, run.study, run.history()))
    for stage in stages:
        work[stage](run, log, _context(run, options, log.fence))


def _workers(study: Study, stage: str, cpus: int) -> int:
    """How many train at once in a stage on so many CPUs; 0 where GPUs say it."""
    if study.resources.gpus:
        return 0
    models = {"search": study.budget.trials, "retrain": study.n_final_models}.get(stage)
    limits = [limit for limit in (study.search.concurrency, models) if limit is not None]
    return min([cpus // study.resources.least_cpus, *limits])


def _without_ray(stages: Sequence[str], run: Run, log: Log, options: Options) -> None:
    from facex_tune.evaluation import evaluate
    from facex_tune.report import report

    for stage in stages:
        log.append(StageStarted(stage))
        if stage == "evaluate":
            evaluate.evaluate(run, log, options.data_dir, options.device, options.protocols)
        else:
            report.report(run, options.data_dir)
        log.append(StageFinished(stage))


def _context(run: Run, options: Options, fence: int) -> Context:
    from facex_tune.search.job import Context

    study = run.study
    return Context(
        storage=str(options.storage),
        run=run.name,
        study=study.to_data(),
        data_dir=str(options.data_dir),
        threads=study.resources.least_cpus,
        device=trial_device(study, options),
        parts=tuple(parts.own_folders()),
        fence=fence,
        joined=joins(options),
    )
