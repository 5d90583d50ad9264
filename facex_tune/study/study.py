"""A study: what a `search_spaces/*.yaml` says, wholly checked before anything is claimed. Needs neither torch nor
Ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from facex_tune import metrics
from facex_tune.emotions import FaceShape
from facex_tune.errors import InputError, nearest
from facex_tune.space import Config, Space
from facex_tune.storage import files
from facex_tune.study import protocols, ranges, yaml_file
from facex_tune.study.consistency import contradictions, start_problems
from facex_tune.study.schema import Body, Bounds, Budget, Holdout, data_text, sets_of, validated_sets
from facex_tune.study.words import plural

_EXAMPLES = {"version": "version: 1", "name": "name: my_study", "data": "data: fer2013"}  # of keys that must be said
# what people write, and what a study calls it
_SYNONYMS = {"metric": "objective", "metrics": "objective", "dataset": "data", "epochs": "fidelity.max_epochs"}
_SYNONYMS |= {"model": "space.model", "models": "space.model", "lr": "space.train.lr", "gpus": "resources.gpus"}


class Study(Body):
    """A checked study, every range written out, so that a new part file cannot change a running one."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    space: Space

    @property
    def maximize(self) -> bool:
        """Whether the first objective is better when larger."""
        return metrics.MAXIMIZE[self.objective[0]]

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of the sets that are trained on, the first one first."""
        return sets_of(self.data)

    @property
    def data_text(self) -> str:
        """The names of the sets for reading."""
        return data_text(self.data)

    @property
    def validated_on(self) -> tuple[str, ...]:
        """The sets whose faces the search is judged by: the first, unless a holdout says otherwise."""
        of = self.validation.of if isinstance(self.validation, Holdout) else None
        return validated_sets(self.data, of)

    @property
    def face_shape(self) -> FaceShape | None:
        """The shape that its faces must have; None where it leaves that to the prepared sets."""
        return FaceShape(self.face.size, self.face.channels) if self.face is not None else None

    @property
    def final_epochs(self) -> int:
        """The number of epochs of a retrained model."""
        return self.retrain.epochs or self.fidelity.max_epochs

    @property
    def n_final_models(self) -> int:
        """The number of models that are retrained: candidates, and the baseline where it is asked for, times seeds; and
        the one of `retrain: {on: all}`.
        """
        honest = (self.retrain.top + (self.retrain.also == "baseline")) * self.retrain.seeds
        return honest + (self.retrain.on == "all")

    @property
    def short_retraining(self) -> str:
        """Says that final models are trained less than the trials that they are chosen by, where they are; else ""."""
        own, longest = self.final_epochs, self.fidelity.max_epochs
        if own >= longest:
            return ""
        return (
            f"final models are trained for {plural(own, 'epoch')} (retrain.epochs), the search's longest trials for "
            f"{longest}: they will be worse than what they were chosen for; leave retrain.epochs out, or write "
            f"{longest} or more"
        )

    @property
    def repetition(self) -> str:
        """What to tell of a space that is smaller than the budget; "" where there may be a new configuration for every
        trial.
        """
        there_are, trials = self.space.configurations(), self.budget.trials
        if there_are is None or (trials is not None and trials <= there_are):
            return ""
        several = f"{there_are} configurations" if there_are != 1 else "1 configuration"
        then = "trials after them" if trials is None else f"{trials - there_are} of {trials} trials"
        return (
            f"the space has {several}: {then} repeat one with another seed, and each configuration is ranked once, "
            "by its mean"
        )

    @property
    def settling(self) -> str:
        """What to tell of a search that may end before its budget is used up; "" for one that may not."""
        if self.search.stop_when_settled == "never":
            return ""
        said = self.search.stop_when_settled
        least = f"{said:g}" if isinstance(said, float) else "what two seeds differ by"
        return (
            f"search.stop_when_settled: no further trial begins once less than {least} is left to gain; the figures "
            "are those of the whole budget"
        )

    @property
    def bounds(self) -> dict[str, dict[str, float]]:
        """The constraints as plain numbers, ``{metric: {min, max}}``."""
        return {name: bounds.model_dump(exclude_none=True) for name, bounds in self.constraints.items()}

    def to_data(self) -> dict[str, Any]:
        """Gives the study as plain data, for JSON and for the run's header. A shape of faces is left out where it asks
        for none, as in studies from before there was one.
        """
        said = self.model_dump(mode="json", exclude={"space"} | ({"face"} if self.face is None else set()))
        return {**said, "space": self.space.to_data()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Study:
        """Reads the study that `to_data` wrote. Runs of before 2026-11-29 validated with every face."""
        return cls(**{"validation_copies": "keep", **data, "space": Space.from_data(data["space"])})


def load(path: Path, sets: Sequence[str] = ()) -> Study:
    """Reads and checks a study file, with ``key=value`` changes on top.

    Raises:
        InputError: the file cannot be read, or anything in it is wrong: every problem, a line each.
    """
    return parse(yaml_file.read(path, sets))


def parse(said: Mapping[str, Any]) -> Study:
    """Checks a study given as plain data.

    Raises:
        InputError: every problem, a line each.
    """
    problems: list[str] = []
    said = dict(said)
    space = ranges.space(said.pop("space", {}), problems)
    body: Body | None = None
    try:
        body = Body(**said)
    except ValidationError as error:
        # `_validation` lets only mappings past the literal, so that what the literal says of one is noise
        problems += [_line(detail) for detail in error.errors() if detail["loc"][-1:] != ("literal['public_test']",)]
    except TypeError:
        problems.append(f"keys of a study are words; found {sorted(map(str, said))}")
    if body is not None:
        is_whole = not problems  # a space that lacks a wrong part would make right configurations look wrong
        problems += contradictions(body, space) + (start_problems(body, space) if is_whole else [])
    if problems or body is None:
        raise InputError(problems)
    body = body.model_copy(update=_filled(body, space))
    return Study(**body.model_dump(), space=space)


def with_budget(study: Study, said: Mapping[str, Any]) -> Study:
    """Gives a study with another budget.

    Raises:
        InputError: there is no such budget, or it contradicts the study: every problem, a line each.
    """
    try:
        changed = study.model_copy(update={"budget": Budget(**said)})
    except ValidationError as error:
        raise InputError([_line({**detail, "loc": ("budget", *detail["loc"])}) for detail in error.errors()]) from error
    if problems := contradictions(changed, study.space):
        raise InputError(problems)
    return changed


def _filled(body: Body, space: Space) -> dict[str, Any]:
    """Defaults that depend on the rest."""
    chosen = body.evaluate.protocols or protocols.defaults(sets_of(body.data), body.classes)
    starts: list[Config] = [space.complete(said) for said in body.search.start_with]
    return {
        "evaluate": body.evaluate.model_copy(update={"protocols": tuple(chosen)}),
        "search": body.search.model_copy(
            update={
                "start_with": tuple(starts),
                "learn_from": _runs(body.search.learn_from),
                "priors_from": _runs(body.search.priors_from),
            }
        ),
    }


def _runs(names: Sequence[str]) -> tuple[str, ...]:
    """Runs to learn from, a path among them as it is meant from here: a resumed run may have another working folder."""
    is_path = {name: "/" in name and "://" not in name for name in names}
    return tuple(str(files.absolute(name)) if is_path[name] else name for name in names)


def _line(detail: Any) -> str:
    """One pydantic error as one line that names key, value and rule."""
    place = ".".join(str(step) for step in detail["loc"] if step not in ("Holdout", "literal['public_test']"))
    if detail["type"] == "extra_forbidden":
        return f"{place}: unknown key; {_meant(str(detail['loc'][-1]), detail['loc'][:-1])}"
    if detail["type"] == "missing":
        return f"{place}: missing; every study says it, such as `{_EXAMPLES.get(place, f'{place}: …')}`"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    place = place or "a key"  # one that is no text has no place
    return f"{place}: {detail['input']!r} is not allowed: {message}"


def _meant(key: str, loc: Sequence[Any]) -> str:
    """The end of an error about an unknown key: where a key of that name or meaning belongs, else the nearest ones."""
    keys = _keys(loc)
    rooms = {room: _keys((room,)) for room in _keys(()) if room not in keys or not loc}
    elsewhere = [f"{room}.{key}" for room, names in rooms.items() if key in names]
    if key in _SYNONYMS or elsewhere:
        return f"did you mean {_SYNONYMS.get(key) or ' or '.join(elsewhere)}? (choices: {', '.join(keys)})"
    return nearest(key, keys)


def _keys(loc: Sequence[Any]) -> list[str]:
    """The keys that a place of the study may have."""
    if loc and loc[0] == "constraints":
        return list(Bounds.model_fields)
    place: Any = Body
    for step in loc:
        if not (isinstance(place, type) and issubclass(place, BaseModel)) or step not in place.model_fields:
            return ["space"] if place is Body else []
        place = place.model_fields[step].annotation
    if isinstance(place, type) and issubclass(place, BaseModel):
        return [*place.model_fields, *(["space"] if place is Body else [])]
    return []
