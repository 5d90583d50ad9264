"""A study, built in code or read from a file, and what can be done with one."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from facex_tune import study as studies
from facex_tune.api import places
from facex_tune.api.runs import Run, work
from facex_tune.api.said import Budget, Evaluate, Face, Fidelity, Parts, Resources, Retrain, Sampling, Train
from facex_tune.errors import InputError
from facex_tune.runs.names import STAGES
from facex_tune.storage import files
from facex_tune.study import yaml_file

if TYPE_CHECKING:
    from facex_tune.pipeline.options import Options
    from facex_tune.space import Config
    from facex_tune.storage.files import Place


class Study:
    """What to search over, wholly checked when it is made. Its keywords are the keys of a study's file; one that is
    left out keeps its default.

    Args:
        name: letters, digits, "_", "." and "-".
        data: a prepared data set, or several whose training faces are joined; ``"synthetic"`` is drawn where it is
            missing.
        model, augment, balance: parts to search over, each with its own knobs.
        train: training knobs, each a value, a list of values, or a `Range`.
        face: the size and channels that its sets must have; left out, whatever they have, all alike.
        objective: a metric, or several for a Pareto front, the first of which decides what is cut short.
        constraints: ``{metric: {"min": ..., "max": ...}}``, which a winner must keep.
        sampling: the file's key `search`: sampler, scheduler, seed.

    Raises:
        InputError: anything is wrong with it; every problem, a line each.
    """

    def __init__(
        self,
        name: str,
        data: str | Sequence[str],
        *,
        model: Parts | None = None,
        augment: Parts | None = None,
        balance: Parts | None = None,
        train: Train | None = None,
        face: Face | None = None,
        validation: Literal["public_test"] | Mapping[str, Any] | None = None,
        labels: Literal["own", "ferplus_majority", "ferplus_votes"] | None = None,
        classes: Literal[7, 8] | None = None,
        duplicates: Literal["keep", "drop"] | None = None,
        validation_copies: Literal["keep", "drop"] | None = None,
        set_balance: Literal["none", "even"] | None = None,
        objective: str | Sequence[str] | None = None,
        constraints: Mapping[str, Mapping[Literal["min", "max"], float]] | None = None,
        budget: Budget | None = None,
        fidelity: Fidelity | None = None,
        sampling: Sampling | None = None,
        resources: Resources | None = None,
        retrain: Retrain | None = None,
        evaluate: Evaluate | None = None,
    ) -> None:
        space = {"model": model, "augment": augment, "balance": balance, "train": train}
        keys = {
            "version": 1,
            "name": name,
            "data": data,
            "face": face,
            "validation": validation,
            "labels": labels,
            "classes": classes,
            "duplicates": duplicates,
            "validation_copies": validation_copies,
            "set_balance": set_balance,
            "objective": objective,
            "constraints": constraints,
            "budget": budget,
            "fidelity": fidelity,
            "search": sampling,
            "resources": resources,
            "retrain": retrain,
            "evaluate": evaluate,
            "space": {key: value for key, value in space.items() if value is not None},
        }
        self._keep({key: value for key, value in keys.items() if value is not None})

    def _keep(self, said: Mapping[str, Any]) -> None:
        self._said: dict[str, Any] = _plain(said)
        self._checked = studies.parse(copy.deepcopy(self._said))

    @classmethod
    def of(cls, said: Study | Mapping[str, Any] | str | Path, sets: Sequence[str] = ()) -> Study:
        """Makes a study of a file's path, of a mapping with a study file's keys, or of another study.

        Args:
            sets: changes on top, such as ``"budget.trials=8"``.

        Raises:
            InputError: it cannot be read, or anything in it is wrong.
        """
        made = cls.__new__(cls)
        if isinstance(said, Study):
            made._keep(yaml_file.changed(said._said, sets))
        elif isinstance(said, Mapping):
            made._keep(yaml_file.changed(_plain(said), sets))
        elif isinstance(said, str | Path):
            made._keep(yaml_file.read(Path(said), sets))
        else:
            raise InputError(f"study: {type(said).__name__} is no study; give a path, a dictionary or a Study")
        return made

    @property
    def name(self) -> str:
        """What runs of it are called, with a number."""
        return self._checked.name

    @property
    def checked(self) -> studies.Study:
        """The study with every default and range written out, as a run keeps it."""
        return self._checked

    def defaults(self) -> Config:
        """Gives the configuration of every default: ``{"model": "resnet", "train.lr": 0.05, ...}``."""
        return self._checked.space.defaults()

    def knobs(self) -> dict[str, str]:
        """Gives every knob that varies, with its range in words."""
        from facex_tune.space import is_fixed

        return {name: str(knob) for name, knob in self._checked.space.knobs() if not is_fixed(knob)}

    def to_yaml(self) -> str:
        """Writes what was said as the text of a study file."""
        import yaml

        text: str = yaml.safe_dump(self._said, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
        return text

    def search(
        self,
        run: str | None = None,
        *,
        storage: Place | str | None = None,
        data: Path | str | None = None,
        device: str | None = None,
        parts: Sequence[Path | str] = (),
        address: str | None = None,
        show: bool = True,
    ) -> Run:
        """Searches to the end of the budget; the other stages are methods of the run. See `facex_tune.run` for the
        arguments and errors.
        """
        check_name(run)
        return self._do(["search"], run, places.options(storage, data, device, parts, address), show)

    def _do(self, stages: Sequence[str], name: str | None, options: Options, show: bool) -> Run:
        from facex_tune.pipeline.begin import begin

        begun = begin(self._checked, name, options)
        if stages == ["search"]:
            return Run(begun, options, show).search()
        work(begun, stages, options, show=show)
        return Run(begun, options, show)

    def estimate(
        self,
        *,
        data: Path | str | None = None,
        storage: Place | str | None = None,
        device: str | None = None,
    ) -> dict[str, Any]:
        """Measures a few steps of each architecture and gives what a run would take here: trials, hours, memory_gb,
        disk_gb, seconds_per_epoch by model. Starts no run.

        Raises:
            InputError: something would stop the run; every problem, a line each.
        """
        from facex_tune.pipeline import dry_run

        options = places.options(storage, data, device, (), None)
        dry_run.check(self._checked, None, options)
        return dry_run.estimate(self._checked, options)

    def __repr__(self) -> str:
        knobs = len(self.knobs())
        return f"Study({self.name!r}, data={self._checked.data!r}, {knobs} knob{'s' * (knobs != 1)})"


def run(
    study: Study | Mapping[str, Any] | str | Path,
    run: str | None = None,
    *,
    storage: Place | str | None = None,
    data: Path | str | None = None,
    sets: Sequence[str] = (),
    device: str | None = None,
    parts: Sequence[Path | str] = (),
    address: str | None = None,
    show: bool = True,
) -> Run:
    """Runs every stage of a study: search, retrain the best, evaluate on the sealed test sets, report.

    Args:
        study: a study file's path, a dictionary with its keys, or a `Study`.
        run: the run's name; one that exists is resumed. Default: the study's name and a number.
        storage: the folder of runs, or its URL; default: FACEX_STORAGE, else ``runs``.
        data: the folder of prepared data sets; default: FACEX_DATA, else ``data``.
        sets: changes of the study, such as ``["budget.trials=8"]``.
        device: "cpu", "cuda", ...; None picks.
        parts: folders with parts of the user's own (``models/x.py`` and so on).
        address: a Ray cluster's; None starts Ray here.
        show: whether it tells of its progress on standard error.

    Raises:
        InputError: anything that would stop it, every problem a line, before a trial starts.
        Interrupted: Ctrl-C or a signal came; what was reported is saved, and the same call with the run's name goes on.
    """
    check_name(run)
    options = places.options(storage, data, device, parts, address)
    return Study.of(study, sets)._do(STAGES, run, options, show)


def check_name(run: object) -> None:
    """Checks a run's name, which is its folder's and must not lead out of the storage folder.

    Raises:
        InputError: it may not be called so.
    """
    if run is not None and not (isinstance(run, str) and re.match(files.NAME, run)):
        raise InputError(f"run: a run's name holds letters, digits, '_', '.' and '-' only, 64 at most; not {run!r}")


def _plain(said: Any) -> Any:
    """Mappings and sequences as YAML has them, so that what the caller changes later changes nothing here. A path is
    text, and a number of numpy's is Python's.
    """
    if isinstance(said, Mapping):
        return {key: _plain(value) for key, value in said.items()}
    if isinstance(said, Path):
        return str(said)
    if isinstance(said, Iterable) and not isinstance(said, str | bytes):
        return [_plain(value) for value in said]
    return said.item() if type(said).__module__ == "numpy" and hasattr(said, "item") else said
