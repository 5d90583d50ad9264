"""What is wrong in a study although each word alone is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facex_tune import metrics
from facex_tune.emotions import EMOTIONS, N_FER2013
from facex_tune.errors import InputError, nearest
from facex_tune.space import Choice, Space
from facex_tune.study import protocols
from facex_tune.study.schema import ALL, Holdout, sets_of

if TYPE_CHECKING:
    from facex_tune.study.schema import Body

SAMPLERS = ("tpe", "random", "qmc", "gp", "nsga2")
SCHEDULERS = ("asha", "asha_promotion", "median", "none")
_UNTRAINED = tuple(f".{emotion}" for emotion in EMOTIONS[N_FER2013:])
KNOW_CONDITIONS = ("tpe", "random", "qmc", "nsga2")  # search/samplers.py says how


def contradictions(body: Body, space: Space) -> list[str]:
    """Finds what is wrong although each key by itself is right."""
    found: list[str] = []
    named = [*(("objective", name) for name in body.objective), *((f"constraints.{n}", n) for n in body.constraints)]
    for key, metric in named:
        if metric not in metrics.MAXIMIZE:
            found.append(f"{key}: no metric named {metric!r}; {nearest(metric, metrics.names())}")
        elif body.classes == N_FER2013 and metric.endswith(_UNTRAINED):
            found.append(
                f"{key}: {metric} is never measured, because training has seven emotions, without contempt; write "
                f"classes: 8, or name the metric of another: {', '.join(EMOTIONS[:N_FER2013])}"
            )
    if not body.objective:
        found.append("objective: name at least one metric, for example macro_f1")
    elif body.objective[0] in metrics.COSTS:
        found.append(
            f"objective: {body.objective[0]} alone would choose a network that learns nothing; name a score first, by "
            f"which trials are cut short and models chosen, for example [macro_f1, {body.objective[0]}]"
        )
    if twice := sorted({name for name in body.objective if body.objective.count(name) > 1}):
        found.append(f"objective: {twice[0]!r} is named twice; name each objective once")
    for name, bounds in body.constraints.items():
        if bounds.min is None and bounds.max is None:
            found.append(f"constraints.{name}: give min, max or both")
        elif bounds.min is not None and bounds.max is not None and bounds.min > bounds.max:
            found.append(f"constraints.{name}: min {bounds.min:g} is above max {bounds.max:g}")
    found += _unreachable(body)
    if body.fidelity.min_epochs > body.fidelity.max_epochs:
        found.append(f"fidelity: min_epochs {body.fidelity.min_epochs} is above max_epochs {body.fidelity.max_epochs}")
    if body.search.scheduler not in SCHEDULERS:
        choices = nearest(body.search.scheduler, SCHEDULERS)
        found.append(f"search.scheduler: no scheduler named {body.search.scheduler!r}; {choices}")
    if body.budget.trials is None and body.budget.time is None and body.budget.gpu_hours is None:
        found.append("budget: name at least one of trials, time, gpu_hours, or the search never ends")
    if body.budget.gpu_hours is not None and body.resources.gpus == 0:
        found.append(
            "budget.gpu_hours: trials hold no GPU (resources.gpus is 0), so this would never be reached; use time"
        )
    if body.resources.gpus > 1 and not body.resources.gpus.is_integer():
        found.append(
            f"resources.gpus: {body.resources.gpus:g} is not allowed: a trial holds a share of one GPU (up to 1) or "
            f"whole ones; write {int(body.resources.gpus)} or {int(body.resources.gpus) + 1}"
        )
    if body.search.order == "fixed" and body.search.concurrency is None:
        found.append(
            "search.order: fixed needs search.concurrency, since how many trials are on their way at once decides what "
            "each of them is told; write search.concurrency: 2, or as many as you have workers"
        )
    found += _set_problems(body)
    if body.resources.cpus == "auto" and body.resources.gpus:
        found.append(
            f"resources.cpus: auto is for trials that train on CPUs, and these hold {body.resources.gpus:g} GPU; "
            "write a number, for example 2"
        )
    if body.search.order == "fixed" and body.search.scheduler == "asha_promotion":
        found.append(
            "search.order: fixed does not go with scheduler: asha_promotion, which gives a free worker the best trial "
            "that waits at that moment; use scheduler: asha, or order: arrival"
        )
    found += _settling_problems(body)
    found += _sampler_problems(body, space) + _weights_problems(body, space) + _protocol_problems(body)
    found += _on_all_problems(body, space)
    return found


def _settling_problems(body: Body) -> list[str]:
    """Why nobody could say what is left to gain."""
    if body.search.stop_when_settled == "never":
        return []
    has_more = "several objectives" if len(body.objective) > 1 else "constraints" if body.constraints else ""
    if not has_more:
        return []
    return [
        f"search.stop_when_settled: {body.search.stop_when_settled} is not allowed with {has_more}: what is left to "
        "gain is known of one objective alone; leave it out, and end the search by a budget"
    ]


def _unreachable(body: Body) -> list[str]:
    """Bounds that no value can keep, and a target that none can reach."""
    said = [(f"constraints.{name}.min", name, bounds.min, True) for name, bounds in body.constraints.items()]
    said += [(f"constraints.{name}.max", name, bounds.max, False) for name, bounds in body.constraints.items()]
    if body.objective:
        first = body.objective[0]
        said.append(("budget.target", first, body.budget.target, metrics.MAXIMIZE.get(first, True)))
    found = []
    for key, name, value, is_least in said:
        if value is None or name not in metrics.MAXIMIZE:
            continue
        greatest = metrics.greatest(name)
        if name in metrics.COSTS and value <= 0:
            found.append(f"{key}: {value:g} bounds nothing: {name} lies above 0")
        elif (value > greatest) if is_least else (value < 0):
            found.append(f"{key}: {value:g} is out of reach: {name} lies between 0 and {greatest:g}")
    return found


def _set_problems(body: Body) -> list[str]:
    """What is said of several sets although there is one, or of a set that is none of them."""
    sets, found = sets_of(body.data), []
    of = body.validation.of if isinstance(body.validation, Holdout) else None
    if of is not None and of not in (*sets, ALL):
        found.append(f"validation.of: no set named {of!r} in data; {nearest(of, [*sets, ALL])}")
    if ALL in sets and len(sets) > 1:
        found.append(f"data: a set named {ALL!r} cannot be joined with others, since `of: {ALL}` means every set")
    if body.set_balance == "even" and len(sets) == 1:
        found.append(f"set_balance: even needs several sets, and data names {sets[0]} alone; write none")
    return found


def _sampler_problems(body: Body, space: Space) -> list[str]:
    name = body.search.sampler
    if name not in SAMPLERS:
        return [f"search.sampler: no sampler named {name!r}; {nearest(name, SAMPLERS)}"]
    if name in KNOW_CONDITIONS or (name == "gp" and len(body.objective) == 1 and not body.constraints):
        return []
    beside = " beside several objectives or constraints" if name == "gp" else ""
    others = ", ".join(KNOW_CONDITIONS)
    return [
        f"search.sampler: {name} knows no conditional knobs{beside}, and the choice of space.{family} "
        f"({', '.join(options)}) decides which there are; name one {family}, or fix its knobs, or use one of {others}"
        for family, options in space.conditional().items()
    ]


def _weights_problems(body: Body, space: Space) -> list[str]:
    decay = space.train.get("ema_decay")
    never = isinstance(decay, Choice) and all(value == 0 for value in decay.options)
    if body.retrain.weights == "ema" and never:
        return ["retrain.weights: ema needs space.train.ema_decay above 0, for example 0.998"]
    if body.retrain.weights == "last" and decay is not None and not never:
        return ["space.train.ema_decay: the average is used by `retrain: {weights: ema}` alone, which is not asked for"]
    return []


def _on_all_problems(body: Body, space: Space) -> list[str]:
    schedule = space.train.get("schedule")
    if body.retrain.on == "train" or not isinstance(schedule, Choice) or "plateau" not in schedule.options:
        return []
    return [
        "retrain.on: all trains on the validation faces too, and space.train.schedule: plateau lowers the rate by what "
        "they say; write on: train, or take plateau out of the schedules"
    ]


def start_problems(body: Body, space: Space) -> list[str]:
    found: list[str] = []
    for index, said in enumerate(body.search.start_with):
        try:
            space.complete(said)
        except InputError as error:
            found += [f"search.start_with[{index}]: {line}" for line in error.problems]
    return found


def _protocol_problems(body: Body) -> list[str]:
    found: list[str] = []
    for name in body.evaluate.protocols:
        try:
            protocol = protocols.find(name)
        except InputError as error:
            found += error.problems
            continue
        if protocol.splits == ("public_test", "private_test") and body.validation == "public_test":
            found.append(
                f"evaluate.protocols: {name} contains the faces that this study validates on; "
                "use validation: {holdout: 0.1}"
            )
    return found
