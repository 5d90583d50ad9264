"""Which checkpoints a run still needs, and how to be rid of what it needs no more.

Kept are the last checkpoint of every trial that still runs, or that a budget stopped, which may be raised, and of the
best finished ones, twice as many as will be retrained; once the run has gone through all its stages, none. Never
touched: final models, the log, evaluation, report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facex_tune.errors import InputError
from facex_tune.runs import lease
from facex_tune.runs.history import FINISHED, RUNNING, History, Trial, is_cut_by_budget, keeps
from facex_tune.runs.lease import Lease
from facex_tune.runs.names import ALL_LABEL, MODEL_LABEL, STAGES, TRIAL_LABEL
from facex_tune.runs.store import Run
from facex_tune.storage import files
from facex_tune.storage.files import DamagedRun, Place
from facex_tune.study import Study

_UNFINISHED = "of a model that was never finished, of a trial that was not chosen"
_TEMPORARY = re.compile(r"\..*\.part|\.probe-[0-9a-f]+")


@dataclass(frozen=True)
class Waste:
    """One file that is not needed, and why."""

    path: Place
    n_bytes: int
    why: str


@dataclass(frozen=True)
class Found:
    """The files that one run does not need. Where the run could not be examined, `problem` says why."""

    run: str
    waste: tuple[Waste, ...] = ()
    problem: str = ""

    @property
    def n_bytes(self) -> int:
        return sum(each.n_bytes for each in self.waste)


def kept_checkpoints(trials: Iterable[Trial], study: Study) -> set[int]:
    """Chooses the trials whose last checkpoint is kept while the run goes on."""
    every = list(trials)
    objective = study.objective[0]
    sign = -1.0 if study.maximize else 1.0
    finished = [trial for trial in every if trial.state == FINISHED and objective in trial.metrics]
    best = sorted(
        finished,
        key=lambda trial: (not keeps(study.bounds, trial.metrics), sign * trial.metrics[objective], trial.number),
    )
    going = {trial.number for trial in every if trial.state == RUNNING or is_cut_by_budget(trial)}
    return going | {trial.number for trial in best[: 2 * study.retrain.top]}


def look(run: Run) -> Found:
    """Finds the files that a run does not need.

    Raises:
        InputError: it is being written at this moment.
        DamagedRun: its log cannot be read.
    """
    if (held := lease.holder(run.folder)) is not None:
        raise InputError(
            f"run {run.name!r} is being written by process {held['pid']} on {held['host']}; clean up when it has ended"
        )
    history, study = run.history(), run.study
    judge = _Judge(run.folder, history, study)
    waste = [
        Waste(path, n_bytes, why) for path, n_bytes in files.sizes(run.folder).items() if (why := judge.why_not(path))
    ]
    return Found(run.name, tuple(waste))


class _Judge:
    """Says of each file of a run why it is not needed; "" where it is."""

    def __init__(self, folder: Place, history: History, study: Study) -> None:
        self.folder, self.history = folder, history
        self.is_over = all(history.stages.get(stage) == "finished" for stage in STAGES)
        self.kept = set() if self.is_over else kept_checkpoints(history.trials.values(), study)
        self.whole = {path.parent.name for path in self._files("final", "config.json")}

    def _files(self, room: str, name: str) -> list[Place]:
        folders: Sequence[Place] = [*(self.folder / room).glob("t*")]
        return [folder / name for folder in folders if (folder / name).is_file()]

    def why_not(self, path: Place) -> str:
        room, _, rest = files.below(path, self.folder).partition("/")
        if _TEMPORARY.fullmatch(path.name):
            return "left by a write that was broken off"
        if room == "trials":
            return self._of_trial(rest.partition("/")[0])
        if room == "final":
            return self._of_model(rest.partition("/")[0], path.name)
        return ""

    def _of_trial(self, name: str) -> str:
        named = TRIAL_LABEL.fullmatch(name)
        if named is None:
            return ""  # none of ours
        trial = self.history.trials.get(int(named[1]))
        if trial is None:
            return "of a trial that the log does not know"
        if trial.number in self.kept:
            return ""
        if is_cut_by_budget(trial):
            return "checkpoint of a trial that the budget stopped: without it a raised budget cannot go on with it"
        return f"checkpoint of a {trial.state} trial" + (" of a run that is over" if self.is_over else "")

    def _of_model(self, name: str, file: str) -> str:
        if (on_all := ALL_LABEL.fullmatch(name)) is not None:
            return self._of_model_on_all(int(on_all[1]), name, file)
        named = MODEL_LABEL.fullmatch(name)
        if named is None:
            return ""
        candidate, seed = int(named[1]), int(named[2])
        if (candidate, seed) in self.history.models:
            return "checkpoint of a finished model" if file == "last.safetensors" else ""
        chosen = {each.trial for each in self.history.candidates}
        if name in self.whole or candidate in chosen:  # whole, or in the making
            return ""
        return _UNFINISHED

    def _of_model_on_all(self, candidate: int, name: str, file: str) -> str:
        if any(trial == candidate for trial, _ in self.history.models_on_all):
            return "checkpoint of a finished model" if file == "last.safetensors" else ""
        chosen = {each.trial for each in self.history.candidates}
        return "" if name in self.whole or candidate in chosen else _UNFINISHED


def look_at_all(storage: Place) -> list[Found]:
    """Finds the files that the runs of a storage folder do not need. Runs that are damaged or being written are listed
    with the reason.

    A folder that holds nothing but temporary files and never became a run counts as one.
    """
    found = []
    for name in Run.names(storage):
        try:
            found.append(look(Run(storage, name)))
        except (InputError, DamagedRun) as error:
            found.append(Found(name, problem=str(error)))
    return found + _never_begun(storage)


def _never_begun(storage: Place) -> list[Found]:
    found = []
    for folder in storage.iterdir() if storage.is_dir() else ():
        if not folder.is_dir() or (folder / "run.json").exists():
            continue
        inside = files.sizes(folder)
        if inside and all(_TEMPORARY.fullmatch(path.name) for path in inside):
            waste = tuple(Waste(path, n, "of a run that never began") for path, n in inside.items())
            found.append(Found(folder.name, waste))
    return found


def remove(storage: Place, found: Found) -> None:
    """Deletes what `look` found, as the run's only writer.

    Raises:
        InputError: a process began to write it meanwhile.
    """
    run = Run(storage, found.run)
    if not run.exists():
        files.remove(each.path for each in found.waste)
        _remove_empty(run.folder)
        return
    held = Lease(run.folder, run.name, run.newest_fence())
    try:
        held.keep()
        files.remove(each.path for each in found.waste)
        if isinstance(run.folder, Path):
            for room in ("trials", "final"):
                for folder in (run.folder / room).glob("t*"):
                    _remove_empty(folder)
    finally:
        held.release()


def _remove_empty(folder: Place) -> None:
    with suppress(OSError):
        folder.rmdir()


def document(found: Sequence[Found], removed: bool) -> dict[str, Any]:
    """Gives one JSON document of the files that were found, and says whether they were deleted."""
    return {
        "version": 1,
        "removed": removed,
        "bytes": sum(each.n_bytes for each in found),
        "runs": [
            {
                "run": each.run,
                "bytes": each.n_bytes,
                "files": [{"path": str(w.path), "bytes": w.n_bytes, "why": w.why} for w in each.waste],
                **({"problem": each.problem} if each.problem else {}),
            }
            for each in found
        ],
    }


def in_words(found: Sequence[Found], removed: bool) -> list[str]:
    """Gives the same as text: a line for each kind of file of each run."""
    lines = []
    for each in found:
        if each.problem:
            lines.append(f"{each.run}: left alone: {each.problem}")
        for why in dict.fromkeys(waste.why for waste in each.waste):
            kind = [waste for waste in each.waste if waste.why == why]
            total = sum(waste.n_bytes for waste in kind)
            lines.append(f"{each.run}: {len(kind)} file{'s' * (len(kind) != 1)}, {megabytes(total)}: {why}")
    n, total = sum(len(each.waste) for each in found), sum(each.n_bytes for each in found)
    if not n:
        return [*lines, "nothing to delete"]
    if removed:
        return [*lines, f"deleted: {n} files, {megabytes(total)}"]
    return [*lines, f"would delete {n} files, {megabytes(total)}; --yes deletes them"]


def megabytes(n_bytes: int) -> str:
    """Writes a size in MB, for reading."""
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e5 else f"{n_bytes:,} bytes"
