"""What a worker is given: plain values that travel, apart from the worker, so that the driver of a search need not load
torch, a quarter of a gigabyte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from facex_tune.space import Config


@dataclass(frozen=True)
class Context:
    """What every job of a run shares; plain values, so that it travels.

    Attributes:
        threads: of torch, on a CPU.
        device: "auto", "cpu", "cuda", …
        parts: folders of the user's own parts.
        fence: the number of the driver that the workers work for; once another has taken the run, they write nothing.
        joined: whether Ray is a cluster that others may use and that may grow.
    """

    storage: str
    run: str
    study: Mapping[str, Any]
    data_dir: str
    threads: int
    device: str
    parts: tuple[str, ...]
    fence: int
    joined: bool = False


@dataclass(frozen=True)
class Job:
    """One configuration to train.

    Attributes:
        seed: see `seeds.py`.
        checkpoint: where its last epoch lies, and where a resumed job goes on.
        epochs_done: how many the log knows of; a checkpoint that holds fewer has been lost.
        logs_epochs: whether each epoch goes into the log, and so must be saved before it is told. Others are saved
            when to train them again would take far longer than to save them (a large network on a fast GPU trains an
            epoch in less time than its checkpoint takes), and at the end.
        costs: of its network, where the log knows them: what was measured once is not measured again.
        on: "all": trained on validation faces too, so that its scores on these are not told; None: not.
        adjust_tau: of such a model, which cannot choose one itself (`posthoc.py`): the median of the others' own.
        threads: of torch, on a CPU; None: the context's.
    """

    config: Config
    epochs: int
    seed: tuple[int, ...]
    checkpoint: str
    epochs_done: int = 0
    logs_epochs: bool = True
    costs: Mapping[str, float] = field(default_factory=dict)
    on: str | None = None
    adjust_tau: float | None = None
    threads: int | None = None
