"""A run as offline runs of Weights & Biases: one for each trial, for each final model and for each candidate's final
scores. `wandb sync` sends them, if somebody wants that; nothing here does.

Offline is asked for outright and no `WANDB_*` of the environment counts; error reports to W&B are turned off, and
nothing is told of the machine, its console, its packages or its code.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from facex_tune.errors import InputError
from facex_tune.mirrors import final_scores
from facex_tune.mirrors.final_scores import FinalScores, tag
from facex_tune.runs.frames import Times
from facex_tune.runs.history import FAILED, RUNNING, History, Trial
from facex_tune.runs.names import model_label
from facex_tune.runs.store import Run

MISSING = "mirror --wandb needs the extra: pip install 'facex-tune[wandb]'"
FORCED = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}  # read when it is imported
Curve = Mapping[int, Mapping[str, float]]  # step -> values by W&B's names


class WandbRuns:
    """One run as a folder of W&B's, `wandb/offline-run-*`; `update` writes what has ended, `close` the rest.

    W&B writes a run from its first step to its last, so a trial is written when it has ended.

    Args:
        folder: where `wandb/` is made. What an earlier mirror of this run wrote there is replaced.

    Raises:
        InputError: wandb is not installed.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder = run, folder.absolute()
        self._wandb = _imported()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._written: dict[str, Any] = {}  # name -> what it told
        self._running: list[Trial] = []

    def update(self, history: History, times: Times) -> None:
        """Writes trials that have ended, final models and final scores that are new."""
        self._running = []
        for number in sorted(history.trials):
            trial = history.trials[number]
            if trial.state == RUNNING:
                self._running.append(trial)
            else:
                self._trial(trial, ended_utc=times.ended[number])
        for candidate, seed in sorted(history.models):
            curve, _ = final_scores.model_curve(self.run, candidate, seed)
            config = history.trials[candidate].config if candidate in history.trials else {}
            name = f"final-{model_label(candidate, seed)}"
            self._write(name, _tagged(curve), {**config, "seed": seed}, "final model")
        for scores in final_scores.read(self.run, history):
            self._evaluation(scores)

    def close(self) -> None:
        """Writes the trials that still run, as far as they have come, and ends W&B's own process."""
        for trial in self._running:
            self._trial(trial, ended_utc=None)
        self._wandb.teardown()

    def _trial(self, trial: Trial, ended_utc: str | None) -> None:
        said = {"state": trial.state, "reason": trial.reason, "detail": trial.detail, "ended_utc": ended_utc}
        about = {f"facex_tune.{name}": value for name, value in said.items() if value}
        code = 1 if trial.state == FAILED else 0
        self._write(trial.label, _tagged(trial.epochs), {**trial.config, **about}, "trial", exit_code=code)

    def _evaluation(self, scores: FinalScores) -> None:
        config = {"protocol": scores.protocol, "candidate": scores.candidate}
        drawn = scores.confusion_png()
        name = f"evaluation-{scores.protocol}-{scores.candidate}"
        self._write(name, {0: scores.values}, config, "evaluation", png=drawn[0] if drawn else None)

    def _write(
        self,
        name: str,
        curve: Curve,
        config: Mapping[str, Any],
        kind: str,
        *,
        exit_code: int = 0,
        png: bytes | None = None,
    ) -> None:
        told = curve, config
        if self._written.get(name) == told:
            return
        run_id = self._id(name)
        for old in (self.folder / "wandb").glob(f"offline-run-*-{run_id}"):
            shutil.rmtree(old)
        run = self._wandb.init(
            project=self.run.name,
            id=run_id,
            name=name,
            job_type=kind,
            config=dict(config),
            dir=str(self.folder),
            mode="offline",
            reinit="create_new",
            settings=self._wandb.Settings(**QUIET),
        )
        for step, found in sorted(curve.items()):
            run.log({key: value for key, value in found.items() if math.isfinite(value)}, step=step)
        if png is not None:
            run.log({"evaluation/confusion": self._image(png)}, step=max(curve))
        run.finish(exit_code=exit_code)
        self._written[name] = told

    def _image(self, png: bytes) -> Any:
        from PIL import Image

        return self._wandb.Image(Image.open(io.BytesIO(png)))

    def _id(self, name: str) -> str:
        """The same for the same run, so that what is synced again replaces itself; another for one of the same name."""
        whose = hashlib.sha256(f"{self.run.name} {self.run.header['created_utc']}".encode()).hexdigest()[:8]
        return f"{whose}-{name}"


QUIET: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "save_code": False,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


def _imported() -> ModuleType:
    """W&B, told by nothing in the environment: a run's id, a service, a mode that stand there are of something else."""
    for name in [each for each in os.environ if each.startswith("WANDB_")]:
        del os.environ[name]
    os.environ.update(FORCED)
    try:
        import wandb
    except ImportError as error:
        raise InputError(MISSING) from error
    module: ModuleType = wandb
    return module


def _tagged(curve: Curve) -> dict[int, dict[str, float]]:
    return {step: {tag(name): value for name, value in found.items()} for step, found in curve.items()}
