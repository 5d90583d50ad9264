"""Opponents that run in environments of their own, on the simulated clock: SMAC3, Syne Tune, NePS, HEBO.

Each is a process that is asked and told in lines of JSON (`peers/serve.py`). Its scheduler is its own; where it has
none (HEBO), nobody cuts, or this project's ASHA does. A trial that is taken up again pays only for the epochs that it
was not trained for yet.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facex_tune import metrics
from facex_tune.search.scheduler import Asha
from facex_tune.simulation.clock import Started
from facex_tune.space import FAMILIES, Choice, Config, Knob, Space, Value, is_fixed
from facex_tune.study import Study
from tests.benchmarks.simulated_opponents import Seen

FOLDER = Path(__file__).with_name("peers")
ENVIRONMENTS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "facex_tune" / "opponents"
ANSWER_S = 900.0  # wall clock; a process that takes longer for one line hangs
AT_ONCE = 1000  # times that an opponent may ask for what it was told already, before a worker gets something to train
STAMP = "requirements.txt"


class PeerError(Exception):
    """An opponent ended with an error, or never answered."""


@dataclass(frozen=True)
class Kind:
    """An opponent.

    Attributes:
        environment: the folder of the environment that it runs in.
        requirements: what is installed there.
        notes: what a table should say of it.
        variant: which of its ways of searching.
        is_cut: whether this project's ASHA stops its trials.
    """

    environment: str
    file: str
    requirements: tuple[str, ...]
    notes: str
    variant: str = ""
    is_cut: bool = False


# its conformal quantile regression imports what only its extras name
_SYNE = ("syne_tune", "peer_syne_tune.py", ("syne-tune==0.16.0", "huggingface_hub>=1"))
_SYNE_SAID = "conditional knobs flat; its ASHA stops, nothing is taken up again"
_HEBO = ("hebo", "peer_hebo.py", ("HEBO==0.3.6", "GPy==1.13.2"))  # left to find GPy, it takes one that does not build
_HEBO_SAID = "conditional knobs flat; suggests for 8 workers at most together; first trials, one a knob, quasi-random"
PEERS: dict[str, Kind] = {
    "smac": Kind(
        "smac",
        "peer_smac.py",
        ("smac==2.4.1", "ConfigSpace==1.2.2"),
        "SMAC3, MultiFidelityFacade; conditional knobs as conditions; its Hyperband promotes, at the price of the "
        "epochs that are new",
    ),
    "syne-cqr": Kind(*_SYNE, f"Syne Tune, ASHA-CQR; {_SYNE_SAID}", variant="cqr"),
    "syne-bore": Kind(*_SYNE, f"Syne Tune, ASHA-BORE; {_SYNE_SAID}", variant="bore"),
    "neps": Kind(
        "neps",
        "peer_neps.py",
        ("neural-pipeline-search==0.17.0",),
        "NePS, PriorBand over Hyperband, with the study's priors if it has any; conditional knobs flat; promotes, at "
        "the price of the epochs that are new",
    ),
    "hebo": Kind(*_HEBO, f"HEBO; {_HEBO_SAID}; nobody cuts"),
    "hebo-asha": Kind(*_HEBO, f"HEBO; {_HEBO_SAID}; this project's ASHA cuts", is_cut=True),
}


def python_of(kind: Kind, environments: Path) -> Path:
    """The interpreter of an opponent's environment."""
    return environments / kind.environment / "bin" / "python"


def make(names: Sequence[str], environments: Path) -> None:
    """Makes the environments that are missing, or that were made for other releases, with uv, whose own settings hold
    (`UV_CONSTRAINT` with a torch for processors alone saves gigabytes).

    Raises:
        SystemExit: there is no uv, or it could not.
    """
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    for kind in dict.fromkeys(PEERS[name] for name in names):
        folder, asked = environments / kind.environment, "\n".join(kind.requirements) + "\n"
        if (folder / STAMP).exists() and (folder / STAMP).read_text(encoding="utf-8") == asked:
            continue
        if uv is None:
            raise SystemExit("uv is not installed: pip install uv")
        for command in (["venv", "--clear", str(folder)], ["pip", "install", *kind.requirements]):
            where = [] if command[0] == "venv" else ["--python", str(python_of(kind, environments))]
            if subprocess.run([uv, *command, *where], check=False).returncode:
                raise SystemExit(f"{folder}: `uv {' '.join(command)}` failed")
        (folder / STAMP).write_text(asked, encoding="utf-8")


def missing(names: Sequence[str], environments: Path) -> list[str]:
    """The opponents whose environments are not there."""
    return [name for name in names if not python_of(PEERS[name], environments).exists()]


def task_of(study: Study, variant: str, workers: int, whole_trainings: float) -> dict[str, Any]:
    """What an opponent is told at its start, as plain data.

    Args:
        whole_trainings: how many the search has time for, all workers together.
    """
    metric = study.objective[0]
    return {
        "knobs": knobs_of(study.space),
        "min_epochs": study.fidelity.min_epochs,
        "max_epochs": study.fidelity.max_epochs,
        "reduction": study.fidelity.reduction,
        "seed": study.search.seed,
        "workers": workers,
        "whole_trainings": whole_trainings,
        "crash_cost": cost_of(metrics.worst_value(metric), study.maximize),
        "variant": variant,
    }


def cost_of(value: float, maximize: bool) -> float:
    """A value as something to be minimized."""
    return 1 - value if maximize else value


def knobs_of(space: Space) -> list[dict[str, Any]]:
    """The knobs that vary, each parent before its own; a choice is the numbers of its options.

    `parent` is the knob that decides whether a knob applies, which it does where that one's option is `parent_is`.
    """
    known, found = dict(space.knobs()), []
    for name, knob in known.items():
        if is_fixed(knob):
            continue
        family, _, rest = name.partition(".")
        said: dict[str, Any] = {"name": name, "parent": None, "parent_is": None, "prior": None, "confidence": None}
        if family in FAMILIES and rest and not is_fixed(known[family]):
            options = known[family].options  # type: ignore[union-attr]
            said |= {"parent": family, "parent_is": options.index(rest.partition(".")[0])}
        if isinstance(knob, Choice):
            said |= {"type": "choice", "options": len(knob.options), "default": knob.options.index(knob.default)}
        else:
            kind = type(knob).__name__.lower()
            said |= {"type": kind, "low": knob.low, "high": knob.high, "log": knob.log, "default": knob.default}
            said |= {"prior": knob.prior, "confidence": knob.confidence}
        found.append(said)
    return found


def config_of(space: Space, told: dict[str, Any]) -> Config:
    """The configuration that an opponent means; what does not apply is left out."""
    return space.draw(lambda name, knob: _value(knob, told[name]))


def _value(knob: Knob, told: Any) -> Value:
    if isinstance(knob, Choice):
        return knob.options[told]
    # a logarithm and back may leave a range by a rounding error
    value = min(max(told, knob.low), knob.high)
    return float(value) if isinstance(knob.low, float) else round(value)


class Peer:
    """See `clock.Searching`.

    Args:
        command: a process that answers as `peers/serve.py` does.
        whole_trainings: see `task_of`.

    Raises:
        PeerError: from every method: the opponent raised something, ended or hung.
    """

    def __init__(
        self, command: Sequence[str], kind: Kind, study: Study, workers: int, whole_trainings: float
    ) -> None:
        self._study, self._maximize = study, study.maximize
        fidelity = study.fidelity
        shape = fidelity.min_epochs, fidelity.max_epochs, fidelity.reduction
        self._asha = Asha(*shape, study.maximize) if kind.is_cut else None
        self._seen: dict[int, Seen] = {}
        self._open = contextlib.ExitStack()
        # what it writes to files goes with it, and what it prints is read only to tell of an error
        folder = self._open.enter_context(tempfile.TemporaryDirectory())
        self._noise = self._open.enter_context((Path(folder) / "said.txt").open("w+b"))
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        # a name's hash would order what it keeps in sets
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environ |= {**one_thread, "PYTHONHASHSEED": "0", "TMPDIR": folder}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            env=environ,
            text=True,
            encoding="utf-8",
        )
        try:
            task = task_of(study, kind.variant, workers, whole_trainings)
            self.versions: dict[str, str] = self._say(do="begin", task=task)["versions"]
        except PeerError:
            self.close()
            raise

    def start(self) -> Started | None:
        """See `Searching`."""
        for _ in range(AT_ONCE):
            said = self._say(do="ask")
            number = said["number"]
            if number is None:
                return None
            if number not in self._seen:
                self._seen[number] = Seen(config_of(self._study.space, said["knobs"]))
            seen = self._seen[number]
            if len(seen.values) < said["until"]:
                return Started(number, seen.config, len(seen.values))
            # trained that far before: told at once
            self._tell(number, said["until"])
        raise PeerError(f"asked {AT_ONCE} times for what it had been told")

    def epoch(self, number: int, epoch: int, scores: dict[str, float], seconds: float) -> bool:
        """See `Searching`."""
        value = scores[self._study.objective[0]]
        self._seen[number].values.append(value)
        if not self._tell(number, epoch):
            return False
        if self._asha is not None and not self._asha.goes_on(number, epoch, value):
            self._say(do="stop", number=number, epoch=epoch, cost=cost_of(value, self._maximize))
            return False
        return True

    def _tell(self, number: int, epoch: int) -> bool:
        cost = cost_of(self._seen[number].values[epoch - 1], self._maximize)
        return bool(self._say(do="tell", number=number, epoch=epoch, cost=cost)["is"])

    def fail(self, number: int, reason: str, seconds: float) -> None:
        """See `Searching`."""
        self._say(do="fail", number=number)

    def best(self) -> Config | None:
        """See `Searching`."""
        number = self._say(do="best")["is"]
        return None if number is None else self._seen[number].config

    def spent(self) -> dict[str, float]:
        """How often it was asked (`asked`), and seconds of processor: of asking (`ask_s`), and of all (`process_s`)."""
        return self._say(do="end")

    def close(self) -> None:
        """Ends the process, however it is."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            # what was not written yet has no reader any more
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._open.close()

    def _say(self, **said: Any) -> dict[str, Any]:
        """Says a line and reads the answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        alarm = threading.Timer(ANSWER_S, self._process.kill)
        alarm.start()
        try:
            stdin.write(json.dumps(said) + "\n")
            stdin.flush()
            line = stdout.readline()
        except OSError as error:
            raise PeerError(f"it ended at {said['do']!r}: {self._last_words()}") from error
        finally:
            alarm.cancel()
        if not line:
            raise PeerError(f"it ended at {said['do']!r}, or took {ANSWER_S:g} s: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(f"at {said['do']!r}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        self._noise.seek(0)
        lines = self._noise.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def peer(name: str, study: Study, workers: int, whole_trainings: float, environments: Path) -> Peer:
    """An opponent by name, its process started."""
    kind = PEERS[name]
    command = [str(python_of(kind, environments)), str(FOLDER / "serve.py"), str(FOLDER / kind.file)]
    return Peer(command, kind, study, workers, whole_trainings)
