"""A run in the forms of other tools: an Optuna study, TensorBoard logs, a table, MLflow, Weights & Biases. Written from
the log, at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facex_tune.errors import InputError
from facex_tune.runs import frames, tail
from facex_tune.runs.frames import Times
from facex_tune.runs.history import History
from facex_tune.runs.store import Run
from facex_tune.storage import files

OPTUNA, TENSORBOARD, CSV = "optuna.log", "tensorboard", "trials.csv"
HOW_TO_OPEN = {
    "optuna": ": open it with `optuna-dashboard {}`",
    "tensorboard": ": open it with `tensorboard --logdir {}`",
    "csv": "",
    "mlflow": ": open it with `mlflow ui --backend-store-uri sqlite:///{}`",
    "wandb": ": look at it with `wandb leet {}/wandb`",
}
Update = Callable[[History, Times], None]


@dataclass(frozen=True)
class Targets:
    """What to write, and where; None leaves a form out."""

    optuna: Path | None = None
    tensorboard: Path | None = None
    csv: Path | None = None
    mlflow: Path | None = None
    wandb: Path | None = None

    @classmethod
    def chosen(cls, run: Run, **named: Path | None) -> Targets:
        """Those that are named; where none is, those that need no extra, in the run's own folder `mirror/`, or, because
        the tools read from disks, in `mirror-RUN/` here where the run lies behind a URL.
        """
        if any(named.values()):
            return cls(**named)
        folder = run.folder / "mirror" if isinstance(run.folder, Path) else Path(f"mirror-{run.name}")
        return cls(folder / OPTUNA, folder / TENSORBOARD, folder / CSV)


def mirror(run: Run, targets: Targets, *, follow: bool = False, faces: bool = False) -> dict[str, Any]:
    """Writes the forms; with `follow` goes on while another process writes the run, with `faces` TensorBoard's logs
    show some of the test sets' faces.

    Returns:
        what was written: ``{version, run, trials, written: {form: path}}``.

    Raises:
        InputError: a place cannot be written to, or an extra is not installed.
    """
    history, times = History(), Times()
    try:
        with ExitStack() as stack, suppress(KeyboardInterrupt):  # Ctrl-C ends the following; what is written is whole
            updates = _updates(run, targets, stack, faces)
            for new in tail.batches(run) if follow else [list(run.events())]:
                for event in new:
                    history.see(event)
                    times.see(event)
                if new or history.last is None:
                    for update in updates:
                        update(history, times)
    except OSError as error:
        if error.filename is None:
            raise
        raise InputError(f"{error.filename}: cannot write there ({error.strerror}); name another place") from error
    written = {name: str(path) for name, path in vars(targets).items() if path is not None}
    return {"version": 1, "run": run.name, "trials": len(history.trials), "written": written}


def _refuse_others(targets: Targets) -> None:
    """A file that is there is written anew only where it is an earlier mirror.

    Raises:
        InputError: it is something else.
    """
    known = ((targets.optuna, b'{"op_code"', "Optuna journal"), (targets.csv, b"number,", "table of trials"))
    for path, begins, what in known:
        if path is not None and path.is_file():
            with path.open("rb") as file:
                first = file.read(len(begins))
            if first and first != begins:
                raise InputError(f"{path}: is there already and is no {what}; name another file, or remove it")


def _updates(run: Run, targets: Targets, stack: ExitStack, faces: bool) -> list[Update]:
    found: list[Update] = []
    _refuse_others(targets)
    if targets.optuna is not None:
        from facex_tune.mirrors.optuna_journal import OptunaJournal

        found.append(OptunaJournal(run, targets.optuna).update)
    if targets.tensorboard is not None:
        from facex_tune.mirrors.tensorboard_logs import TensorBoardLogs

        logs = TensorBoardLogs(run, targets.tensorboard, faces)
        stack.callback(logs.close)
        found.append(logs.update)
    if (path := targets.csv) is not None:
        found.append(lambda history, times: files.write_bytes(path, frames.csv_of(run, history, times).encode()))
    if targets.mlflow is not None:
        from facex_tune.mirrors.mlflow_store import MlflowStore

        found.append(MlflowStore(run, targets.mlflow).update)
    if targets.wandb is not None:
        from facex_tune.mirrors.wandb_runs import WandbRuns

        runs = WandbRuns(run, targets.wandb)
        stack.callback(runs.close)
        found.append(runs.update)
    return found
