"""Drivers in processes of their own, to be killed: the command line's on Ray, and a bare one that starts sooner.

They are started as a user would: in a folder with a space in its name, reached by a link, every path relative, storage
and data the defaults.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from facex_tune.runs.history import RUNNING, Trial
from facex_tune.runs.store import Run
from tests.faults.conftest import PARTS

ROOT = Path(__file__).resolve().parents[2]
LIFE_S = 600  # after which a driver that has not ended is taken for stuck
STEPS = 8  # an epoch's, of 280 faces in batches of 32


def study(**changes: Any) -> dict[str, Any]:
    """Trials of at most four epochs of the faulty network, sound as long as nothing else is said."""
    network = {"fault": ["none"], "tag": {"low": 0.0, "high": 1.0}, "step_ms": 40, "fits": 16, "sound_steps": 0}
    said: dict[str, Any] = {
        "version": 1,
        "name": "faults",
        "data": "synthetic",
        "budget": {"trials": 6},
        "fidelity": {"min_epochs": 1, "max_epochs": 4, "reduction": 2},
        "search": {"seed": 5, "sampler": "random", "concurrency": 1, "hung_after": 300},
        "space": {
            "model": [{"faulty_net": network}],
            "augment": ["none"],
            "balance": ["none"],
            "train": {"lr": {"low": 0.01, "high": 0.3, "log": True}, "batch_size": 32},
        },
        "retrain": {"top": 1, "seeds": 1, "epochs": 2},
        "evaluate": {"protocols": []},
    }
    return {**said, **changes}


@dataclass
class Place:
    """Where a run lives, and what its drivers are told.

    Attributes:
        folder: everything lies in it; drivers start in `home`.
        temporary: the drivers' temporary folder, Ray's too; a short path of its own, as Ray's sockets ask for.
        on_ray: the command line's driver; else the bare one.
        kills: drivers killed so far.
        interruptions: by trial, how many of them found it in training.
        found_paused: by trial, how many of them found it waiting at a rung.
    """

    folder: Path
    data: Path
    study: Mapping[str, Any]
    on_ray: bool
    temporary: Path = field(init=False)
    kills: int = 0
    interruptions: Counter[int] = field(default_factory=Counter)
    found_paused: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.temporary = Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))
        weakref.finalize(self, shutil.rmtree, self.temporary, ignore_errors=True)
        behind_the_link = self.folder / "a folder"
        behind_the_link.mkdir(parents=True)
        self.home.symlink_to(behind_the_link.name)
        self.ticks.mkdir()
        (self.home / "data").symlink_to(self.data)
        (self.home / "parts").symlink_to(PARTS)
        (self.home / "study.yaml").write_text(yaml.safe_dump(dict(self.study)))

    @property
    def home(self) -> Path:
        """The drivers' working folder."""
        return self.folder / "by a link"

    @property
    def storage(self) -> Path:
        """The default one there."""
        return self.home / "runs"

    @property
    def ticks(self) -> Path:
        """One file a trial, a byte for each step that was begun."""
        return self.folder / "ticks"

    @property
    def run(self) -> Run:
        return Run(self.storage, "r")

    def start(self, *words: str, command: str = "search") -> subprocess.Popen[str]:
        """A driver that begins or resumes the run."""
        if self.on_ray:
            return self.start_cli(command, "study.yaml", "--run", "r", *words)
        return self._start("-m", "tests.faults.bare_driver", "study.yaml", "--run", "r", "--parts", "parts", *words)

    def start_cli(self, *words: str) -> subprocess.Popen[str]:
        """The command line."""
        return self._start("-c", "from facex_tune.cli import main; main()", *words, "--parts", "parts")

    def _start(self, *words: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if name not in ("FACEX_DATA", "FACEX_STORAGE")}
        own = {"PWD": str(self.home), "FACEX_TICKS": str(self.ticks), "OMP_NUM_THREADS": "1"}
        own |= dict.fromkeys(("TMPDIR", "RAY_TMPDIR"), str(self.temporary))
        way = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
        return subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env={**environment, **own, "PYTHONPATH": way},
        )

    def finish(self) -> Run:
        """Lets a driver come to the end of the search."""
        driver = self.start()
        _, errors = driver.communicate(timeout=LIFE_S)
        assert driver.returncode == 0, errors
        return self.run

    def kill_one(self, chance: random.Random, most_s: float, begun: Callable[[], bool] | None = None) -> bool:
        """Starts a driver and kills it at a random moment of its work; False if it came to its end before.

        Args:
            most_s: how long it may work once it has `begun`, by default once it has written anything; on Ray, whose
                start alone may take that long, three times of four once a worker trains.
        """
        before, ticked = self.written(), self.ticked()
        trains = self.on_ray and self.kills % 4 != 0
        driver = self.start()
        deadline = time.monotonic() + LIFE_S
        begun = begun or (lambda: self.ticked() > ticked if trains else self.written() > before)
        while not begun() and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            driver.wait(chance.uniform(0, most_s))
        except subprocess.TimeoutExpired:
            driver.send_signal(signal.SIGKILL)
        _, errors = driver.communicate(timeout=60)
        if driver.returncode != -signal.SIGKILL:
            assert driver.returncode == 0, errors
            return False
        self.kills += 1
        left = {number: trial.paused for number, trial in self.trials().items() if trial.state == RUNNING}
        self.interruptions.update(number for number, is_paused in left.items() if not is_paused)
        self.found_paused.update(number for number, is_paused in left.items() if is_paused)
        return True

    def ticked(self) -> int:
        """Steps of training that were begun so far, in any worker."""
        return sum(path.stat().st_size for path in self.ticks.iterdir()) if self.ticks.is_dir() else 0

    def written(self) -> int:
        """Bytes of the log so far."""
        return sum(path.stat().st_size for path in (self.run.folder / "events").glob("*.jsonl"))

    def strays(self) -> set[Path]:
        """What lies in `folder` outside the storage, and what of ours among the temporary files: checkpoints, models,
        logs and tables, also in Ray's sessions, and whatever bears our name beside these. The sessions themselves stay
        where a driver was killed, with what Ray Tune writes of its own in them (`facex-tune-…`).
        """
        ours = ("*.safetensors", "run.json", "0*.jsonl", "history.csv", "trials.csv", "trials", "final")
        found = {path for pattern in ours for path in self.temporary.rglob(pattern)}
        found |= set(self.temporary.glob("facex*"))
        runs = self.storage.resolve()
        beside = {path for path in self.folder.rglob("*") if not path.is_relative_to(runs)}
        return found | {path for path in beside if not path.is_relative_to(self.ticks)}

    def trials(self) -> dict[int, Trial]:
        """All that the log knows of; none before there is a log."""
        return self.run.history().trials if self.run.exists() else {}

    def all_steps(self) -> int:
        """Steps that were begun, by all drivers together, of every stage."""
        return sum(path.stat().st_size for path in self.ticks.iterdir())

    def steps(self, trial: Trial) -> int:
        """Steps that were begun for a trial, by all drivers together."""
        path = self.ticks / str(trial.config["model.faulty_net.tag"])
        return path.stat().st_size if path.exists() else 0


def told_once(run: Run) -> bool:
    """Whether no start, epoch, pause, promotion or end of a trial stands in the log twice."""
    kinds = ("trial_started", "epoch", "trial_stopped", "trial_finished", "trial_failed")
    kinds += ("trial_paused", "trial_promoted")
    told = [(event["type"], event["trial"], event.get("epoch")) for event in run.events() if event["type"] in kinds]
    return len(told) == len(set(told))


def timeless(trials: Mapping[int, Trial]) -> dict[int, Any]:
    """What trials came to, but for how fast it went."""
    return {
        number: (
            trial.config,
            trial.state,
            trial.reason,
            {
                epoch: {name: value for name, value in metrics.items() if name != "train_images_per_second"}
                for epoch, metrics in trial.epochs.items()
            },
        )
        for number, trial in trials.items()
    }


def children(driver: int) -> dict[int, str]:
    """The processes below a driver, Ray's and its workers, with their command lines."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            titles[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    return {pid: title for pid, title in titles.items() if driver in ancestors(pid, parents)}


def ancestors(pid: int, parents: Mapping[int, int]) -> set[int]:
    """A process's parents, up to the first."""
    found: set[int] = set()
    while (pid := parents.get(pid, 0)) > 0:
        found.add(pid)
    return found
