"""A study that somebody sent: parsed as data within bounds, before the study's own checks see it. Nothing is executed,
and nothing small can grow large: no YAML aliases, no deep nesting, no run without end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import yaml

from facex_tune import parts, train_knobs
from facex_tune import study as studies
from facex_tune.errors import InputError, nearest
from facex_tune.space import Choice, Knobs, Open, path_from_here
from facex_tune.storage import patience
from facex_tune.storage.files import NAME
from facex_tune.study import Study, protocols, yaml_file

LARGEST_BYTES = 64 * 1024
DEEPEST = 16  # a study nests six levels
MOST_VALUES = 4_000  # unknown keys by the ten thousand would each be compared with the known ones
LONGEST_VALUE = 256  # characters: a number of so many digits is still a float, and a name of so many still a file's
MOST = {"retrain.seeds": 50, "retrain.top": 100, "search.concurrency": 100_000, "search.seed": 2**63 - 1}
MOST |= {"fidelity.reduction": 100_000, "resources.cpus": 4_096, "resources.gpus": 1_024}
MOST |= {"search.hung_after": 86_400, "budget.gpu_hours": 100_000}
SUBMISSION = ("run", "study")  # its keys
MOST_NAMED = 20  # of unknown ones, and of files
MOST_LISTED = {"data": 20, "objective": 50, "search.start_with": 500, "search.learn_from": 100}
MOST_LISTED |= {"search.priors_from": 100, "evaluate.protocols": 100}
LONGEST_FINAL = 50  # final models of the longest training that is granted
MOST_COMBINATIONS = 100  # of networks that are built to check a study, which takes up to half a second for each
CHECKED_WITHIN_S = 3.0  # of processor time, for all of it: reading, joining sets, building networks


@dataclass(frozen=True)
class Ceiling:
    """What the operator grants one study.

    Attributes:
        hours: of its search. A study that names no time then has none. None: 720 hours, if it names them.
        trials: and final models. None: 10,000, in the same way.
        epochs: of one training. None: 1,000. Final models have 50 times as many together.
    """

    hours: float | None = None
    trials: int | None = None
    epochs: int | None = None

    def problems(self, found: Study) -> list[str]:
        """What of a study is above it, a line each."""
        budget, hours, trials, epochs = found.budget, self.hours or 720, self.trials or 10_000, self.epochs or 1_000
        problems = []
        if budget.time is None and self.hours is not None:
            problems.append(f"budget.time: this service wants it said, and grants {hours:g}h at most")
        if budget.trials is None and self.trials is not None:
            problems.append(f"budget.trials: this service wants it said, and grants {trials:,} at most")
        asked: list[tuple[str, float | None, float, str]] = [
            ("budget.time", (budget.time or 0) / 3600, hours, " hours"),
            ("budget.trials", budget.trials, trials, ""),
            ("fidelity.max_epochs", found.fidelity.max_epochs, epochs, ""),
            ("retrain.epochs", found.retrain.epochs, epochs, ""),
        ]
        final = found.n_final_models
        if budget.trials is not None and budget.trials <= trials < budget.trials + final:
            problems.append(
                f"retrain: {final:,} final models beside {budget.trials:,} trials are more trainings than this service "
                f"grants ({trials:,} at most); lower retrain.top, retrain.seeds or budget.trials"
            )
        if final > trials or final * found.final_epochs > LONGEST_FINAL * epochs:
            problems.append(
                f"retrain: {final:,} final models of {found.final_epochs:,} epochs are more than this service grants "
                f"({trials:,} models and {LONGEST_FINAL * epochs:,} epochs at most); lower retrain.top, retrain.seeds "
                "or retrain.epochs"
            )
        return problems + [_above(key, value, most, unit) for key, value, most, unit in asked if (value or 0) > most]


def _above(key: str, value: Any, most: Any, unit: str = "") -> str:
    return f"{key}: {value:,}{unit} is more than this service grants ({most:,}{unit} at most)"


def load_libraries(text: str) -> None:
    """Loads what checking such a study needs, which takes seconds the first time, and none of the study's own."""
    import torch  # noqa: F401

    from facex_tune.data import training_set  # noqa: F401

    if "timm" in text:
        with suppress(ImportError):
            import timm  # noqa: F401


def study(text: str, ceiling: Ceiling | None = None) -> Study:
    """A study from YAML (and so from JSON) text.

    Raises:
        InputError: too large, too deep, aliases, no study, one that asks for more than a service grants, or one that
            names what lies outside the service's storage and data.
    """
    if len(text) > LARGEST_BYTES or len(text.encode(errors="replace")) > LARGEST_BYTES:
        raise InputError(f"the study has more than {LARGEST_BYTES:,} bytes; {LARGEST_BYTES:,} at most")
    said = _loaded(text)
    if not isinstance(said, Mapping):
        raise InputError("no study: a mapping of keys such as name, data, space is wanted")
    _check_lists(said)
    with patience.apart():
        load_libraries(text)
    found = studies.parse(said)
    patience.go_on("the study", "leave out what it need not say")
    if problems := (ceiling or Ceiling()).problems(found) + _too_much(found) + _elsewhere(found) + _files(found, said):
        raise InputError(problems)
    return found


def _loaded(text: str) -> Any:
    try:
        _check_shape(text)
        return yaml.load(text, yaml_file.Loader)  # safe, and refuses what is said twice
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:  # dates and numbers out of all range
        raise InputError(f"the study is no YAML: {' '.join(str(error).split())[:300]}") from error


def _check_shape(text: str) -> None:
    """What could grow large, or fails in a loader's own way, is refused before anything is made of it."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise InputError("a study sent to a service holds no YAML aliases (*name); write the values out")
        if getattr(event, "tag", None) is not None:
            raise InputError("a study sent to a service holds no YAML tags (!name); write plain values")
        if isinstance(event, yaml.ScalarEvent):
            _check_scalar(event.value)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"the study nests deeper than {DEEPEST} levels; no study does")
        if count > MOST_VALUES:
            raise InputError(f"the study has more than {MOST_VALUES:,} values; no study does")


def _check_scalar(value: str) -> None:
    value.encode()  # half a surrogate pair, escaped, is a string that nothing can write down: a ValueError
    if len(value) > LONGEST_VALUE:
        raise InputError(f"a value of the study has {len(value):,} characters; {LONGEST_VALUE} at most")


def _check_lists(said: Mapping[str, Any]) -> None:
    """Each of what these name is looked for."""
    problems = []
    for key, most in MOST_LISTED.items():
        room, _, name = key.partition(".")
        value = said.get(room)
        value = value.get(name) if name and isinstance(value, Mapping) else None if name else value
        if isinstance(value, list) and len(value) > most:
            problems.append(f"{key}: {len(value):,} are listed; {most:,} at most")
    if problems:
        raise InputError(problems)


def _too_much(found: Study) -> list[str]:
    said = found.to_data()
    problems = []
    for key, most in MOST.items():
        room, name = key.split(".")
        value = said[room].get(name)
        if isinstance(value, int | float) and value > most:
            problems.append(_above(key, value, most))
    return problems


def _elsewhere(found: Study) -> list[str]:
    """A person may learn from a run anywhere; who sends a study would make the service look there in their place."""
    named = [("search.learn_from", "runs of its own storage", name) for name in found.search.learn_from]
    named += [("search.priors_from", "runs of its own storage", name) for name in found.search.priors_from]
    sets = [protocols.find(protocol).data for protocol in found.evaluate.protocols]
    named += [("data", "sets of its own data", name) for name in found.sets]
    named += [("evaluate.protocols", "sets of its own data", name) for name in sets]
    outside = [(key, what, name) for key, what, name in named if not is_name(name)]
    return [f"{key}: a service takes names of {what} only, not {name!r}" for key, what, name in outside]


def _files(found: Study, said: Mapping[str, Any]) -> list[str]:
    """Knobs that would make the service open a file of its host: of such a knob only its own options are taken."""
    takes_files = {name: knob for name, knob in _declared(found).items() if isinstance(knob, Open) and knob.is_path}
    given: list[tuple[str, str, Any]] = []
    for name, knob in found.space.knobs():
        if name in takes_files and isinstance(knob, Choice):
            given += [(f"space.{name}", name, value) for value in knob.options]
    for index, config in enumerate(found.search.start_with):
        given += [(f"search.start_with[{index}]: {name}", name, config[name]) for name in takes_files if name in config]
    wrong = [(key, name, value) for key, name, value in given if not takes_files[name].holds(value)]
    written = {path_from_here(text): text for text in _texts(said)} if wrong else {}
    # as it was written: the absolute path that it became would tell a stranger where the service lies
    found_lines = [
        f"{key}: a service opens no file of its host, and so not {written.get(str(value), 'a path')!r}; "
        f"choices: {', '.join(json.dumps(option) for option in takes_files[name].options)}"
        for key, name, value in wrong[:MOST_NAMED]
    ]
    return [*found_lines, *([f"and {len(wrong) - MOST_NAMED:,} files more"] if len(wrong) > MOST_NAMED else [])]


def _declared(found: Study) -> Knobs:
    """The knobs of a study's parts and of training, by qualified name, as they are before a study narrows them."""
    declared = {f"train.{name}": knob for name, knob in train_knobs.SPACE.items()}
    for family, chosen in found.space.parts.items():
        for part in chosen:
            declared |= {f"{family}.{part}.{name}": knob for name, knob in parts.find(family, part).SPACE.items()}
    return declared


def _texts(said: Any) -> Iterator[str]:
    if isinstance(said, str):
        yield said
    elif isinstance(said, Mapping | list):
        for each in said.values() if isinstance(said, Mapping) else said:
            yield from _texts(each)


def is_name(said: str) -> bool:
    """Whether it can name a run or a set, and so neither a path nor a URL."""
    return re.fullmatch(NAME, said) is not None


def check_shape_of(body: Any) -> None:
    """Lets what can be a submission pass.

    Raises:
        InputError: no mapping, a key that no submission has, or no study.
    """
    shape = 'a submission is {"run": NAME, "study": {...}}; the study as a mapping or as YAML text'
    if not isinstance(body, Mapping):
        raise InputError(f"{shape}; not a {type(body).__name__}")
    if unknown := [str(key)[:80] for key in body if key not in SUBMISSION][:MOST_NAMED]:
        raise InputError([f"{key!r}: no key of a submission; {nearest(key, SUBMISSION)}" for key in unknown])
    if "study" not in body:
        raise InputError(f"study: it is not said; {shape}")


def of_body(body: Any, ceiling: Ceiling | None = None) -> tuple[str | None, Study]:
    """Name and study of a submission: `{"run": NAME, "study": {...} or "YAML text"}`.

    Raises:
        InputError: as `check_shape_of` and `study`.
    """
    check_shape_of(body)
    name, said = body.get("run"), body["study"]
    if name is not None and not isinstance(name, str):
        raise InputError(f"run: a name is wanted, not a {type(name).__name__}")
    if name is not None and not is_name(name):
        raise InputError(f"run: a name holds letters, digits, '_', '.' and '-' only, 64 at most; not {name[:80]!r}")
    return name, study(said if isinstance(said, str) else _text(said), ceiling)


def _text(said: Any) -> str:
    try:
        return json.dumps(said)
    except RecursionError as error:
        raise InputError(f"the study nests deeper than {DEEPEST} levels; no study does") from error
