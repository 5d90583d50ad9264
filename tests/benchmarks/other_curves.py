"""Learning curves that others recorded, for `simulated_search.py`: benchmark extras, read from two packages' own CSVs.

    pip install --no-deps scan-bench==0.2.3 lcdb==0.1.0

Both name libraries as requirements that these files do not need; only tables are read here, no code of either runs.

- `scan_vlm`: OpenCLIP (Scan-Bench, MIT): validation loss over epochs, divergences and seconds of an epoch.
- `lcdb`: twenty learners on hundreds of data sets (LCDB, MIT; Mohr et al., ECML PKDD 2022): validation accuracy over
  sizes of the training set. Often the winner at a third of the set is not the winner at the whole.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from facex_tune.simulation.curves import Curves, Recorded
from facex_tune.space import Choice, Config, Float, Int, Space

VLM_STEPS = 6  # of a training; its epochs are 6 to 10 in the trainings that are taken
LCDB_STEPS = 9  # ninths of the training set
LCDB_ROWS = 1000  # in the training set at least: below, a ninth of it is nothing
LCDB_LEARNERS = 18  # that came to an end, at least


def folder_of(package: str) -> Path:
    """Where a package's files lie; nothing of it is executed."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: pip install --no-deps scan-bench==0.2.3 lcdb==0.1.0")
    return Path(next(iter(found.submodule_search_locations)))


def _log(low: float, high: float) -> Float:
    return Float(low, high, (low * high) ** 0.5, log=True)


VLM_SPACE = Space(
    {"model": {"openclip": {}}, "augment": {"none": {}}, "balance": {"none": {}}},
    {
        "lr": _log(1e-5, 5e-2),
        "wd": _log(1e-6, 2e-1),
        "warmup_fraction": Float(0.0, 0.75, 0.2),
        "beta1": Float(0.9, 0.99, 0.9),
        "beta2": Float(0.95, 0.999, 0.98),
        "eps": _log(1e-8, 1e-6),
        "total_samples_planned": Int(10_000_000, 120_000_000, 40_000_000, log=True),
        "vision_width": Choice((32, 64, 128, 192, 256, 320, 384, 448, 512), 256),
        "text_width": Choice((32, 64, 128, 192, 256, 320, 384, 448, 512), 256),
    },
)


@functools.cache
def scan_vlm() -> Curves:
    """The trainings of at least VLM_STEPS epochs that lie in `VLM_SPACE`; a loss between two epochs is interpolated."""
    import pandas as pd

    table = pd.read_csv(folder_of("scan_bench") / "vlm" / "data.csv")
    trainings = []
    for number, rows in table[table["total_epochs"] >= VLM_STEPS].groupby("config_id"):
        found = _openclip(int(number), rows.sort_values("epoch"))  # type: ignore[call-overload]
        if found is not None:
            trainings.append(found)
    what = "OpenCLIP's validation loss (Scan-Bench 0.2.3)"
    return Curves(what, VLM_SPACE, VLM_STEPS, ("log_loss",), tuple(trainings))


def _openclip(number: int, rows: Any) -> Recorded | None:
    first = rows.iloc[0]
    config: Config = VLM_SPACE.defaults() | {
        f"train.{name}": (float if isinstance(knob, Float) else int)(first[name])
        for name, knob in VLM_SPACE.train.items()
    }
    if not all(knob.holds(config[name]) for name, knob in VLM_SPACE.knobs()):
        return None
    diverged = bool(rows["epoch_diverged"].max())
    good = rows[np.isfinite(rows["val_loss"]) & ~rows["epoch_diverged"].astype(bool)]
    reached = float(good["training_progress"].max()) if len(good) else 0.0
    if not diverged and (reached < 0.999 or len(good) < VLM_STEPS):
        return None  # broken off by its authors
    durations = rows["train_duration(s)"].dropna()
    if not len(durations):
        return None
    step_s = float(np.median(durations)) * float(first["total_epochs"]) / VLM_STEPS
    at = np.arange(1, VLM_STEPS + 1) / VLM_STEPS
    at = at[at <= reached + 1e-6]
    scores = np.interp(at, good["training_progress"], good["val_loss"]) if len(at) else np.empty(0)
    failure = "diverged" if diverged else ""
    return Recorded(number, config, scores.reshape(-1, 1), np.full(len(at), step_s), failure, step_s if diverged else 0)


@functools.cache
def _lcdb_rows() -> Any:
    import pandas as pd

    columns = ["openmlid", "learner", "size_train", "outer_seed", "inner_seed", "score_valid"]
    return pd.read_csv(folder_of("lcdb") / "database-accuracy.csv", usecols=columns).dropna()


def lcdb_sets(count: int) -> list[int]:
    """The first so many data sets, by their OpenML numbers, that are large enough and where most learners came to an
    end.
    """
    rows = _lcdb_rows()
    largest = rows.groupby("openmlid")["size_train"].transform("max")
    ends = rows[(rows["size_train"] == largest) & (largest >= LCDB_ROWS)]
    learners = ends.groupby("openmlid")["learner"].nunique()
    return [int(number) for number in sorted(learners[learners >= LCDB_LEARNERS].index)[:count]]


def lcdb(openml: int) -> Curves:
    """The learners on one data set, with every split as a seed. A step takes a second whatever the learner: their own
    seconds differ five-hundredfold, and would decide everything.
    """
    rows = _lcdb_rows()
    rows = rows[rows["openmlid"] == openml]
    whole = int(rows["size_train"].max())
    at_log = np.log(np.arange(1, LCDB_STEPS + 1) / LCDB_STEPS * whole)
    trainings, learners = [], sorted(rows["learner"].unique())
    for (learner, _, _), curve in rows.groupby(["learner", "outer_seed", "inner_seed"]):
        curve = curve.sort_values("size_train")
        if int(curve["size_train"].max()) < whole:
            continue
        scores = np.interp(at_log, np.log(curve["size_train"]), curve["score_valid"])
        config: Config = {"model": learner.rpartition(".")[2], "augment": "none", "balance": "none"}
        trainings.append(Recorded(learners.index(learner), config, scores.reshape(-1, 1), np.ones(LCDB_STEPS)))
    known = sorted({str(each.config["model"]) for each in trainings})
    space = Space({"model": {name: {} for name in known}, "augment": {"none": {}}, "balance": {"none": {}}})
    return Curves(f"LCDB, OpenML set {openml}", space, LCDB_STEPS, ("accuracy",), tuple(trainings))
