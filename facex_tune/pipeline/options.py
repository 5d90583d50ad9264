"""Where and on what a run is executed, and how that is said on a command line and in the log."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facex_tune.runs.store import Run
from facex_tune.storage import files
from facex_tune.storage.files import Place
from facex_tune.study import Study

if TYPE_CHECKING:
    from facex_tune.runs.events import BudgetRaised
    from facex_tune.search.factor_progress import Asked


@dataclass(frozen=True)
class Options:
    """Where and on what a run is executed; nothing of it changes what the run means.

    Attributes:
        storage: the folder of runs, here or behind a URL.
        data_dir: the folder of prepared data sets.
        device: "cpu", "cuda", …; None picks.
        parts: folders of the user's own parts.
        address: a Ray cluster's; None starts Ray here.
        factors: what is asked of the factor study, where that stage is done.
        protocols: what to score under, where that stage is done; none means the study's.
        raised: a larger budget, which the log is told of when the session begins.
        ends_process: whether a signal may end this process, with exit code 75, where unwinding takes too long.
    """

    storage: Place
    data_dir: Path
    device: str | None = None
    parts: tuple[Path, ...] = ()
    address: str | None = None
    factors: Asked | None = None
    protocols: tuple[str, ...] = ()
    raised: BudgetRaised | None = None
    ends_process: bool = False

    def __post_init__(self) -> None:
        paths = {
            "storage": files.place(self.storage),
            "data_dir": files.absolute(self.data_dir),
            "parts": tuple(map(files.absolute, self.parts)),
        }
        for name, path in paths.items():
            object.__setattr__(self, name, path)


def resume_words(run: Run, options: Options) -> str:
    """Gives the words after `facex-tune resume` that continue a run as here: its name, and every option that is not at
    its default. A raised budget is not among them: the log has it.
    """
    words = [run.name]
    words += [] if options.storage == files.absolute("runs") else ["--storage", str(options.storage)]
    words += [] if options.data_dir == files.absolute("data") else ["--data", str(options.data_dir)]
    words += [] if options.device is None else ["--device", options.device]
    words += [word for folder in options.parts for word in ("--parts", str(folder))]
    words += [] if options.address is None else ["--address", options.address]
    return shlex.join(words)


def joins(options: Options) -> bool:
    """Tells whether trials run on a cluster that exists already, and not on a Ray started here."""
    return bool(options.address or os.environ.get("RAY_ADDRESS"))


def trial_device(study: Study, options: Options) -> str:
    """The name of the device that trials train on."""
    return options.device or ("auto" if study.resources.gpus else "cpu")


def plain_options(options: Options) -> dict[str, Any]:
    """Gives the options as they are logged."""
    return {
        "data": str(options.data_dir),
        "device": options.device,
        "parts": [str(folder) for folder in options.parts],
        "address": options.address,
        "protocols": list(options.protocols),
        "factors": None if options.factors is None else asdict(options.factors),
    }
