"""Which matters on FER2013: architecture, augmentation or class balancing? A full factorial, trained and told.

    python tests/benchmarks/factorial.py record DATA cells.csv [--hours 2] [--faces 10000] [--epochs 10] [--cells 2]
    python tests/benchmarks/factorial.py page cells.csv docs/what-matters.md

Three architectures × four augmentations × four balancing strategies, two seeds: 96 trainings, about five hours of one
core. A piece of `--hours` writes one row a training, as soon as it is trained; the next one goes on. Trained is on
`--faces` of FER2013's Training, the same ones in every cell; scored are PublicTest by its own labels and by FER+'s
annotators, and CK+'s six shared emotions, once, after the last epoch. PrivateTest stays shut, and nothing is chosen by
any of these scores.

The page has, for each set, what share of the variance each factor explains, what each of its levels is worth against
the mean of all, and the same for each emotion's F1, with 95 % intervals. Their error is that of seeds within cells:
what is said holds for these levels, these training knobs and this budget, whatever the seed.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facex_tune import metrics, parts, train_knobs
from facex_tune.data import faces as faces_room
from facex_tune.data.faces import Faces
from facex_tune.emotions import EMOTIONS, N_FER2013
from facex_tune.evaluation import scoring
from facex_tune.space import Config
from facex_tune.study import protocols
from facex_tune.study.protocols import SEVEN, Protocol
from facex_tune.training import train
from facex_tune.training.batches import Split
from facex_tune.training.classifier import probabilities_NC

CPU = torch.device("cpu")
SEEDS, SEED = 2, 20261129
FACTORS: dict[str, dict[str, Config]] = {
    "model": {
        "patch_cnn": {"width": 48},
        "resnet": {"width": 16, "dropout": 0.0},
        "facex_cnn": {"width": 0.25, "dropout": 0.1},
    },
    "augment": {"none": {}, "flip_shift": {"pixels": 3}, "facex": {"strength": 0.5}, "randaugment": {"operations": 1}},
    "balance": {"none": {}, "class_weights": {"power": 0.5}, "logit_adjust": {"tau": 0.5}, "sqrt_sample": {}},
}
"""Factor -> level -> what differs from the part's defaults."""
TRAIN: Config = {"lr": 0.05, "label_smoothing": 0.05, "batch_size": 64}
SETS: dict[str, Protocol] = {
    "fer2013": Protocol("fer2013.public", "fer2013", ("public_test",), SEVEN),
    "ferplus": replace(protocols.find("ferplus.majority7"), splits=("public_test",)),
    "ckplus": protocols.find("ckplus.6"),
}
SCORES = ("macro_f1", "accuracy", *(f"f1.{name}" for name in EMOTIONS[:N_FER2013]))
COLUMNS = [*FACTORS, "seed", "faces", "epochs", "seconds", "state", *(f"{s}.{name}" for s in SETS for name in SCORES)]
Cell = tuple[str, str, str, int]


def main() -> None:
    """Records a piece, or writes the page."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = asked.add_subparsers(dest="job", required=True)
    one = jobs.add_parser("record")
    one.add_argument("data", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--hours", type=float, default=math.inf)
    one.add_argument("--faces", type=int, default=10_000)
    one.add_argument("--epochs", type=int, default=10)
    one.add_argument("--cells", type=int, default=len(list(cells())), help="of this piece, at most")
    other = jobs.add_parser("page")
    other.add_argument("cells", type=Path)
    other.add_argument("out", type=Path)
    said = asked.parse_args()
    if said.job == "record":
        record(said.data, said.out, said.hours, said.faces, said.epochs, said.cells)
    else:
        said.out.write_text(page(read(said.cells)), encoding="utf-8")


def cells() -> Iterator[Cell]:
    """Every training; a whole design of one seed comes before the next one."""
    for seed in range(SEEDS):
        for levels in itertools.product(*FACTORS.values()):
            yield (*levels, seed)  # type: ignore[misc]


# Recording


def record(data_dir: Path, path: Path, hours: float, faces: int, epochs: int, most: int) -> None:
    """Trains what is not in the table yet, until the time is over."""
    torch.set_num_threads(1)
    began = time.monotonic()
    rows = read(path) if path.exists() else []
    if other := [row for row in rows if (row["faces"], row["epochs"]) != (str(faces), str(epochs))]:
        raise SystemExit(f"{path} was begun with {other[0]['faces']} faces and {other[0]['epochs']} epochs")
    _write(path, rows)  # without a row that was cut off
    done = {_cell(row) for row in rows}
    missing = [cell for cell in cells() if cell not in done][:most]
    if not missing:
        return
    train_set = _drawn(faces_room.open_set(data_dir, "fer2013").where("train"), faces)
    scored = {name: faces_room.open_set(data_dir, protocol.data) for name, protocol in SETS.items()}
    for cell in missing:
        if time.monotonic() - began > hours * 3600:
            break
        row = _trained(cell, train_set, scored, epochs)
        _append(path, row)
        print(cell, row["state"] or row["fer2013.macro_f1"], f"{row['seconds']} s", flush=True)


def configuration(cell: Cell) -> Config:
    """The configuration of a cell."""
    config: Config = {f"train.{name}": value for name, value in (train_knobs.defaults() | TRAIN).items()}
    for (family, levels), level in zip(FACTORS.items(), cell, strict=False):
        own = {name: knob.default for name, knob in parts.find(family, str(level)).SPACE.items()}
        config[family] = str(level)
        config |= {f"{family}.{level}.{name}": value for name, value in (own | levels[str(level)]).items()}
    return config


def _drawn(faces: Faces, count: int) -> Split:
    rows = np.sort(np.random.default_rng(SEED).choice(len(faces), min(count, len(faces)), replace=False))
    chosen = faces.take(rows)
    return Split.of(chosen.images_NHW, chosen.labels_N, None, CPU)


def _trained(cell: Cell, train_set: Split, scored: Mapping[str, Faces], epochs: int) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip((*FACTORS, "seed"), cell, strict=True))
    row |= {"faces": len(train_set), "epochs": epochs, "state": ""}
    began = time.process_time()
    few = Split(train_set.images_NHW[:64], train_set.labels_N[:64])  # what it is validated on is read by nobody
    try:
        settings: Any = {"n_classes": N_FER2013, "epochs": epochs, "seed": (SEED, cell[-1]), "device": CPU}
        model = train.run(configuration(cell), train_set, few, lambda epoch: None, **settings)
        row |= {name: value for each, faces in scored.items() for name, value in _scores(model, each, faces).items()}
    except train.Diverged:
        row["state"] = "diverged"
    return row | {"seconds": round(time.process_time() - began, 1)}


def _scores(model: torch.nn.Module, name: str, faces: Faces) -> dict[str, str]:
    rows_N, labels_N = scoring.judged(SETS[name], faces)
    found = metrics.scores(probabilities_NC(model, faces.images_NHW[rows_N], CPU), labels_N)
    return {f"{name}.{score}": f"{found[score]:.4f}" for score in SCORES if score in found}


def _write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)


def _append(path: Path, row: Mapping[str, Any]) -> None:
    lines = io.StringIO(newline="")
    csv.DictWriter(lines, COLUMNS).writerow(row)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(lines.getvalue())
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[dict[str, str]]:
    """The whole rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def _cell(row: Mapping[str, str]) -> Cell:
    return row["model"], row["augment"], row["balance"], int(row["seed"])


# Telling


@dataclass(frozen=True)
class Effects:
    """What one score owes to each factor, of a whole design.

    Attributes:
        shares: factor -> share of the variance, less what seeds alone would give it (omega squared: Hays, "Statistics
            for Psychologists", 1963); "together" is what factors do only together, "seeds" what is left.
        levels: factor -> level -> how far its mean is from that of all, and half the width of the 95 % interval.
    """

    shares: dict[str, float]
    levels: dict[str, dict[str, tuple[float, float]]]


def effects(values_MABS: np.ndarray) -> Effects:
    """Analysis of variance of a balanced design; the last axis is seeds, whose scatter within cells is the error."""
    n_seeds, grand = values_MABS.shape[-1], values_MABS.mean()
    total = float(((values_MABS - grand) ** 2).sum())
    within = float(((values_MABS - values_MABS.mean(axis=-1, keepdims=True)) ** 2).sum())
    n_cells = values_MABS[..., 0].size
    df = n_cells * (n_seeds - 1)
    error = within / df
    between, used, levels = {"together": total - within}, 0, {}
    for axis, (factor, named) in enumerate(FACTORS.items()):
        others = tuple(each for each in range(values_MABS.ndim) if each != axis)
        apart_L = values_MABS.mean(axis=others) - grand
        each = values_MABS.size // len(apart_L)
        alone = float((apart_L**2).sum() * each)
        between["together"] -= alone
        between[factor] = alone - (len(apart_L) - 1) * error
        used += len(apart_L) - 1
        reach = _t95(df) * math.sqrt(error * (1 / each - 1 / values_MABS.size))
        levels[factor] = {name: (float(gap), reach) for name, gap in zip(named, apart_L, strict=True)}
    between["together"] -= (n_cells - 1 - used) * error
    shares = {name: max(0.0, value) / ((total + error) or 1.0) for name, value in between.items()}
    return Effects(shares | {"seeds": 1 - sum(shares.values())}, levels)


def _t95(df: int) -> float:
    from scipy import special

    return float(special.stdtrit(df, 0.975))


def page(rows: Sequence[Mapping[str, str]]) -> str:
    """The page of the documentation.

    Raises:
        SystemExit: a training is missing or diverged, without which the design is not balanced.
    """
    by_cell = {_cell(row): row for row in rows}
    if missing := [cell for cell in cells() if cell not in by_cell or by_cell[cell]["state"]]:
        of = len(list(cells()))
        raise SystemExit(f"{len(missing)} of {of} trainings are missing or failed, such as {missing[0]}")
    lines = [
        "# What matters on FER2013: architecture, augmentation or balancing",
        "",
        _how(rows),
        "",
        "Made by `tests/benchmarks/factorial.py`, which has the levels, and where they leave their parts' defaults.",
    ]
    for name in SETS:
        lines += ["", f"## {name}", "", *_shares(by_cell, name), "", *_levels(by_cell, name)]
    return "\n".join(lines) + "\n"


def _how(rows: Sequence[Mapping[str, str]]) -> str:
    design = " × ".join(str(len(levels)) for levels in FACTORS.values())
    return (
        f"{len(rows)} trainings: {design} cells, {SEEDS} seeds each, on {int(rows[0]['faces']):,} faces of Training "
        f"for {rows[0]['epochs']} epochs, all with the same training knobs. Scored once, after the last: PublicTest "
        "by its own labels and by FER+'s annotators, and CK+'s six shared emotions. PrivateTest was not opened, and "
        "nothing was chosen by these scores. Intervals are of 95 %, by the scatter of seeds within cells: they hold "
        "for these levels and this budget. 280 of PublicTest's 3,589 faces stand in Training too, in every cell alike."
    )


def _table(by_cell: Mapping[Cell, Mapping[str, str]], column: str) -> np.ndarray:
    """values_MABS of one score."""
    shape = [*(len(levels) for levels in FACTORS.values()), SEEDS]
    ordered = itertools.product(*FACTORS.values(), range(SEEDS))
    return np.array([float(by_cell[cell][column]) for cell in ordered]).reshape(shape)  # type: ignore[index]


def _measured(by_cell: Mapping[Cell, Mapping[str, str]], name: str) -> list[str]:
    """The scores that the set has: an emotion that it lacks has none."""
    first = next(iter(by_cell.values()))
    return [score for score in SCORES if first[f"{name}.{score}"]]


def _shares(by_cell: Mapping[Cell, Mapping[str, str]], name: str) -> list[str]:
    found = {score: effects(_table(by_cell, f"{name}.{score}")) for score in _measured(by_cell, name)}
    headers = [*FACTORS, "together", "seeds"]
    rows = [_line(score, *(f"{each.shares[key]:.0%}" for key in headers)) for score, each in found.items()]
    title = "Share of the variance that each factor explains alone, that factors explain only together, and of seeds:"
    return [title, "", _line("score", *headers), "|---" * (len(headers) + 1) + "|", *rows]


def _levels(by_cell: Mapping[Cell, Mapping[str, str]], name: str) -> list[str]:
    scores = _measured(by_cell, name)
    found = {score: effects(_table(by_cell, f"{name}.{score}")) for score in scores}
    rows = []
    for factor, levels in FACTORS.items():
        for level in levels:
            gaps = (found[score].levels[factor][level] for score in scores)
            rows.append(_line(factor, level, *(f"{100 * gap:+.1f} ± {100 * reach:.1f}" for gap, reach in gaps)))
    title = "What each level is worth against the mean of all, in points:"
    return [title, "", _line("factor", "level", *scores), "|---" * (len(scores) + 2) + "|", *rows]


def _line(*texts: str) -> str:
    return f"| {' | '.join(texts)} |"


if __name__ == "__main__":
    main()
