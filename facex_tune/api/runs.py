"""A run in Python: its tables, its best, and its stages one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from facex_tune.api import places
from facex_tune.runs import frames, overview
from facex_tune.runs.names import trial_label
from facex_tune.runs.store import Run as StoredRun
from facex_tune.storage import files

if TYPE_CHECKING:
    import pandas as pd

    from facex_tune.pipeline.options import Options
    from facex_tune.space import Config
    from facex_tune.storage.files import Place
    from facex_tune.study import Study


@dataclass(frozen=True)
class Best:
    """A run's best trial so far: finished ones come first, and of those the best value.

    Attributes:
        trial: its number.
        value: of the study's first objective, on the validation faces, after its last epoch.
        state: "finished" where it came to the last epoch; else it may not be compared with those that did.
        config: its knobs.
        metrics: of its last epoch.
    """

    trial: int
    value: float | None
    epochs: int
    state: str
    config: Config
    metrics: dict[str, float | None]


class Run:
    """A run's folder. Reading changes nothing, and works while the run goes on elsewhere.

    `open_run` opens one, `facex_tune.run` and `Study.search` make one. `search`, `retrain`, `evaluate` and `report`
    each do one stage, and give the run itself, so that they follow each other:
    ``study.search(run="a").retrain().evaluate().report()``.
    """

    def __init__(self, stored: StoredRun, options: Options, show: bool = True) -> None:
        self._stored, self._options, self._show = stored, options, show

    @property
    def stored(self) -> StoredRun:
        """The run as the rest of the program knows it."""
        return self._stored

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self._stored.name

    @property
    def folder(self) -> Place:
        """Where it lies."""
        return self._stored.folder

    @property
    def study(self) -> Study:
        """The study with every range written out, as it was when the run began."""
        return self._stored.study

    @property
    def state(self) -> str:
        """What it is: "running", "interrupted", "searched", "retrained", "evaluated", "finished" or "not begun"."""
        return str(overview.of_run(self._stored, top=0)["state"])

    @property
    def trials(self) -> pd.DataFrame:
        """A row for each trial: state, reason, epochs, seconds, the metrics of its last epoch, every knob."""
        return frames.load_run(str(self.folder), "trials")

    @property
    def epochs(self) -> pd.DataFrame:
        """A row for each epoch of each trial."""
        return frames.load_run(str(self.folder), "epochs")

    @property
    def models(self) -> pd.DataFrame:
        """A row for each final model, with its metrics on the validation faces."""
        return frames.load_run(str(self.folder), "models")

    @property
    def evaluation(self) -> pd.DataFrame:
        """A row for each metric of each protocol on the sealed test sets: n, mean, and its 95 % interval."""
        return frames.load_run(str(self.folder), "evaluation")

    @property
    def best(self) -> Best | None:
        """The leaderboard's first; None before any trial has come to an epoch."""
        found = overview.of_run(self._stored, top=0)["best"]
        if found is None:
            return None
        number = int(found["trial"].removeprefix("t"))
        named = {name: found[name] for name in ("value", "epochs", "state", "config", "metrics")}
        return Best(number, **named)

    @property
    def report_path(self) -> Place | None:
        """Where the report's page lies; None before one is written."""
        page = self.folder / "report" / "index.html"
        return page if page.is_file() else None

    def search(self) -> Run:
        """Goes on with the search to the end of its budget; does nothing where that was reached.

        Raises:
            InputError: something the user can mend stands in the way.
            Interrupted: a signal came; what was reported is saved, and the same call goes on.
        """
        is_done = self._stored.history().stages.get("search") == "finished"
        return self if is_done else self._do("search")

    def retrain(self) -> Run:
        """Trains the best candidates again with new seeds, at the full budget; does nothing where that was done.

        Raises:
            InputError: the search has not ended.
            Interrupted: see `search`.
        """
        is_done = self._stored.history().stages.get("retrain") == "finished"
        return self if is_done else self._do("retrain")

    def evaluate(self, protocols: Sequence[str] = ()) -> Run:
        """Scores the final models on the sealed test sets. Each opening is logged, and counted in the report.

        Args:
            protocols: such as ``["fer2013.private"]``; none means those of the study.

        Raises:
            InputError: there is no final model, no such protocol, or a set is not prepared.
        """
        from facex_tune.study.protocols import find

        if isinstance(protocols, str):
            protocols = [protocols]
        asked = tuple(find(name).id for name in protocols)
        return self._do("evaluate", replace(self._options, protocols=asked))

    def report(self, *, faces: bool = True) -> Run:
        """Writes the report again; of a run that still goes on, too. `report_path` says where.

        Args:
            faces: whether the page shows faces of the test sets; False writes one for people who may not have them.
        """
        from facex_tune.report import report

        report.report(self._stored, self._options.data_dir, faces=faces)
        return self

    def _do(self, stage: str, options: Options | None = None) -> Run:
        work(self._stored, [stage], options or self._options, show=self._show)
        return self

    def _repr_html_(self) -> str:
        """The summary that a notebook shows."""
        told = overview.of_run(self._stored, top=0)
        best, scored = self.best, self.evaluation
        said = [f"<p>{escape(sentence)}</p>" for sentence in self._verdict()]
        lines = [f"<b>run {escape(self.name)}</b>: {escape(told['state'])}, {_counted(told['trials'])}"]
        if best is not None:
            lines.append(f"best {trial_label(best.trial)}: {escape(told['objective'])} {_number(best.value)} "
                         f"after {best.epochs} epochs ({escape(best.state)}), on the validation faces")
        if self.report_path is not None:
            lines.append(f"report: {escape(str(self.report_path))}")
        table = scored[scored.metric.isin(["accuracy", "macro_f1", "worst_class_recall"])]
        shown = table.to_html(index=False, float_format=_number, border=0) if len(table) else ""
        return "".join(said) + "<br>".join(lines) + shown

    def _verdict(self) -> list[str]:
        """The report's first three sentences; none before one is written."""
        from facex_tune.report.verdict import verdict

        path = self.folder / "report" / "report.json"
        return verdict(files.read_json(path), self._stored.words) if path.is_file() else []

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {self.state}, {len(self._stored.history().trials)} trials)"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _counted(trials: dict[str, int]) -> str:
    return escape(", ".join(f"{count} trials {state}" for state, count in trials.items()) or "no trial yet")


def open_run(
    path: Path | str,
    *,
    data: Path | str | None = None,
    device: str | None = None,
    parts: Sequence[Path | str] = (),
    address: str | None = None,
    show: bool = True,
) -> Run:
    """Opens a run that exists.

    Args:
        path: its folder, such as ``runs/demo``, or its URL; or its name in FACEX_STORAGE, or else in ``runs``.
        data: the folder of prepared data sets; default: FACEX_DATA, else ``data``. Needed by its stages alone.
        device: "cpu", "cuda", ...; None picks.
        parts: folders with parts of the user's own.
        address: a Ray cluster's; None starts Ray here, where a stage needs it.
        show: whether stages tell of their progress on standard error.

    Raises:
        InputError: there is no run.
    """
    said = str(path)
    where = files.place(path)
    if re.match(files.NAME, said) and not (where / "run.json").is_file():
        where = places.storage_place(None) / said
    stored = StoredRun.open(where.parent, where.name)
    return Run(stored, places.options(where.parent, data, device, parts, address), show)


def work(run: StoredRun, stages: Sequence[str], options: Options, *, show: bool = True) -> None:
    """Does a run's stages and shows them as they go on: a board in a terminal and in a notebook, where the run's
    summary takes its place in the end; plain lines elsewhere.

    Raises:
        InputError, Interrupted: see `facex_tune.pipeline.stages.execute`.
    """
    from facex_tune.display.board import Board
    from facex_tune.display.pace import Past
    from facex_tune.display.view import View
    from facex_tune.pipeline.stages import execute
    from facex_tune.search.factor_progress import Progress

    if not show:
        execute(run, stages, options, [])
        return
    history = run.history()
    board = Board.of(run.study, history, Progress.of(run.events()) if "factors" in stages else None)
    with View(board, Past(history.search_seconds), last=lambda: Run(run, options)._repr_html_()) as view:
        execute(run, stages, options, [view])
