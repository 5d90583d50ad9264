"""A run begins: its folder, and in its header everything that it rests on."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from facex_tune.data import faces, prepare
from facex_tune.data.importing import Asked
from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.errors import InputError
from facex_tune.pipeline.environment import describe
from facex_tune.pipeline.options import Options, trial_device
from facex_tune.pipeline.preflight import data_sets, problems, same_study, storage_problems
from facex_tune.runs.store import Run, RunTaken
from facex_tune.storage import patience
from facex_tune.storage.files import Place
from facex_tune.storage.remote_path import RemotePath
from facex_tune.study import Study


def begin(study: Study, name: str | None, options: Options) -> Run:
    """Creates a run of the study or, where `name` exists already, opens that run. Without a name the run gets the next
    free one.

    Raises:
        InputError: anything that would stop the run, every problem a line; or the run exists with another study, or
            another process began one of that name meanwhile.
    """
    if (run := checked(study, name, options)) is not None:
        return run
    return create(study, name, options, {"faces": _face_counts(study, options)})


def create(study: Study, name: str | None, options: Options, about: Mapping[str, Any]) -> Run:
    """Creates a run with its header, which holds the manifests of the study's sets that are prepared.

    Args:
        name: None: the study's name, and the first number that is free.
        about: what else the header tells.

    Raises:
        RunTaken: another process began a run of that name meanwhile.
    """
    sets = [each for each in data_sets(study) if faces.is_prepared(options.data_dir, each)]
    data = {each: faces.shareable(faces.read_manifest(options.data_dir, each)) for each in sets}
    environment = {**describe(trial_device(study, options)), **about}
    make = partial(Run.create, options.storage, study=study, data=data, environment=environment)
    if name is not None:
        return make(name)
    free_names = _free_names(study, options.storage)
    while True:
        with contextlib.suppress(RunTaken):  # by a run that begins at the same moment
            return make(next(free_names))


def checked(study: Study, name: str | None, options: Options) -> Run | None:
    """Finds everything that would stop a run of the study, and draws the synthetic faces that it reads. Gives the run
    of that name where there is one already.

    Raises:
        InputError: as `begin` does.
    """
    if isinstance(options.storage, RemotePath) and (found := storage_problems(options.storage)):
        raise InputError(found)  # before anything waits for a store that is not there
    if name is not None and (run := Run(options.storage, name)).exists():
        same_study(run, study)
        return run
    prepare_synthetic(study, options)
    if found := problems(study, options):
        raise InputError(found)
    return None


def _face_counts(study: Study, options: Options) -> dict[str, Any]:
    """How many faces every trial trains on and is validated with: what its value rests on. Of several sets those of
    each by emotion too, and how many were left out as copies.
    """
    from facex_tune.data import training_set

    loaded = training_set.load(study, options.data_dir)
    found = {"train": len(loaded.train), "validation": len(loaded.validation)}
    return {**found, "by_set": loaded.by_set()} if len(study.sets) > 1 else found


def prepare_synthetic(study: Study, options: Options) -> None:
    """Draws the synthetic sets that the study reads, where one is missing."""
    wanted = [name for name in data_sets(study) if name.startswith("synthetic")]
    there = [name for name in wanted if faces.is_prepared(options.data_dir, name)]
    if len(there) < len(wanted):
        shapes = [FaceShape.of(faces.read_manifest(options.data_dir, name)) for name in there]
        face = (shapes or [study.face_shape or GREY_48])[0]
        with patience.apart():
            prepare.prepare("synthetic", None, options.data_dir, asked=Asked(size=face.size, colour=face.is_colour))


def _free_names(study: Study, storage: Place) -> Iterator[str]:
    """The study's name with each number that no run has; without end."""
    taken = set(Run.names(storage))
    return (name for number in itertools.count(1) if (name := f"{study.name}-{number}") not in taken)
