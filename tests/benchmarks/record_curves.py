"""Records learning curves of real trainings on FER2013: a table of numbers, no faces, for `facex-tune simulate`.

    python tests/benchmarks/record_curves.py DATA curves.csv [--configurations 300] [--first 0]
                                              [--study …/small_curves.yaml]

DATA is a folder of prepared sets that has `fer2013`. Configurations are drawn from the study's space with a fixed seed,
the model's parts with `MODEL_ODDS` (large networks cost most), and each is trained by `training.train` for all of the
study's `max_epochs` on `TRAIN` faces of the Training split, validated on `VALIDATION` of PublicTest; PrivateTest stays
shut. A fifth is trained with a second seed. What diverges or collapses stays in the table: a training that diverges
ends with a row that says so.

With `--first 150` a second process records the other half into a table of its own; its rows may be appended to the
first's. An epoch is a row. A training's rows are written together when it ends, so that the command goes on where it
was ended. `seconds` are of the processor, of one thread, which other work on the machine moves less than it does the
wall clock's.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facex_tune import study as studies
from facex_tune.data import faces as faces_room
from facex_tune.data.faces import Faces
from facex_tune.emotions import EMOTIONS, N_FER2013
from facex_tune.seeds import SEARCH
from facex_tune.space import Choice, Config, Knob, Space, Value, draw_one
from facex_tune.study import Study
from facex_tune.training import costs, devices, train
from facex_tune.training.batches import Split

TRAIN, VALIDATION = 1024, 800
SEED = 20261129
SECOND_SEED_EVERY = 5
MODEL_ODDS = {"patch_cnn": 0.8, "resnet": 0.1, "facex_cnn": 0.1}
SCORES = ("macro_f1", "accuracy", "balanced_accuracy", "worst_class_recall", "log_loss", "ece", "train_loss")
METRICS = (*SCORES, *(f"{kind}.{name}" for kind in ("f1", "recall") for name in EMOTIONS[:N_FER2013]))
CPU = torch.device("cpu")
Key = tuple[int, int]


def main() -> None:
    """Trains what is not in the table yet."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("data", type=Path)
    asked.add_argument("out", type=Path)
    asked.add_argument("--study", type=Path, default=Path("search_spaces/small_curves.yaml"))
    asked.add_argument("--configurations", type=int, default=300)
    asked.add_argument("--first", type=int, default=0)
    said = asked.parse_args()
    torch.set_num_threads(1)
    study = studies.load(said.study)
    configs = list(drawn(study.space, said.configurations))
    train_set, validation = _splits(said.data, study)
    done = _begun(said.out, study)
    for key in _order(range(said.first, len(configs))):
        if key not in done:
            rows = _trained(key, configs[key[0]], study, train_set, validation)
            _append(said.out, rows, _columns(study.space))
            last = rows[-1]
            spent_s = sum(row["seconds"] for row in rows)
            print(key, last["state"] or last["macro_f1"], f"{spent_s:.1f} s", configs[key[0]]["model"], flush=True)


def drawn(space: Space, count: int) -> Iterator[Config]:
    """The first configurations of the fixed draw: the same ones whatever their number."""
    for number in range(count):
        rng = np.random.default_rng([SEED, number])

        def draw(name: str, knob: Knob, rng: np.random.Generator = rng) -> Value:
            if name == "model" and isinstance(knob, Choice):
                odds = np.array([MODEL_ODDS[str(option)] for option in knob.options])
                return knob.options[int(rng.choice(len(odds), p=odds / odds.sum()))]
            return _short(draw_one(knob, rng))

        yield space.draw(draw)


def _short(value: Value) -> Value:
    """As the table has it, so that what is trained is what is told."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _order(numbers: range) -> Iterator[Key]:
    """First seeds and, among them, the second ones, so that a table that is cut short has its share of both."""
    for number in numbers:
        yield number, 0
        if number % SECOND_SEED_EVERY == 0:
            yield number, 1


def _splits(data_dir: Path, study: Study) -> tuple[Split, Split]:
    everything = faces_room.open_set(data_dir, study.data)
    return _part(everything.where("train"), TRAIN), _part(everything.where("public_test"), VALIDATION)


def _part(faces: Faces, count: int) -> Split:
    """Faces drawn from a split, the same ones each time."""
    chosen = faces.take(np.sort(np.random.default_rng(SEED).choice(len(faces), count, replace=False)))
    return Split.of(chosen.images_NHW, chosen.labels_N, None, CPU)


def _trained(key: Key, config: Config, study: Study, train_set: Split, validation: Split) -> list[dict[str, Any]]:
    """The rows of one training: its epochs, then what ended it early, if anything did."""
    number, replicate = key
    told = {"configuration": number, "seed": replicate, **config}
    rows: list[dict[str, Any]] = []
    began = time.process_time()
    try:
        training = train.Training(
            config,
            train_set,
            validation,
            n_classes=N_FER2013,
            epochs=study.fidelity.max_epochs,
            seed=(SEED, SEARCH, number, replicate),
            device=CPU,
        )
        params = costs.counted(training.model, training.face, CPU)["parameters"]
        began = time.process_time()
        while training.done < study.fidelity.max_epochs:
            done = training.epoch()
            now = time.process_time()
            found = {name: f"{done.metrics[name]:.4f}" for name in METRICS if name in done.metrics}
            rows.append({**told, "epoch": done.epoch, "seconds": round(now - began, 3), "state": "", **found})
            rows[-1]["parameters"] = params
            began = now
    except train.Diverged:
        spent_s = round(time.process_time() - began, 3)
        rows.append({**told, "epoch": len(rows) + 1, "seconds": spent_s, "state": "diverged"})
    return rows


def _columns(space: Space) -> list[str]:
    knobs = [name for name, _ in space.knobs()]
    return ["configuration", "seed", "epoch", "seconds", "state", *METRICS, "parameters", *knobs]


def _about(study: Study) -> Mapping[str, Any]:
    return {
        "what": f"learning curves on FER2013: {TRAIN:,} faces of Training, validated on {VALIDATION:,} of PublicTest",
        "made_by": "tests/benchmarks/record_curves.py",
        "epochs": study.fidelity.max_epochs,
        "seconds": "of one CPU thread",
        "bf16": devices.has_fast_bf16(CPU),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "space": study.space.to_data(),
    }


def _begun(path: Path, study: Study) -> set[Key]:
    """What the table holds already; begins one where there is none. The first line says what it is, as JSON. A training
    that was cut off while it was written goes, to be trained again.
    """
    about = f"# {json.dumps(_about(study))}\n"
    rows: list[dict[str, str]] = []
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            about, rows = file.readline(), [row for row in csv.DictReader(file) if None not in row.values()]
        _refuse_other(path, json.loads(about.removeprefix("# ")), study)
    last = str(study.fidelity.max_epochs)
    whole = {(row["configuration"], row["seed"]) for row in rows if row["epoch"] == last or row["state"]}
    kept = [row for row in rows if (row["configuration"], row["seed"]) in whole]
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        file.write(about)
        writer = csv.DictWriter(file, _columns(study.space))
        writer.writeheader()
        writer.writerows(kept)
    part.replace(path)
    return {(int(number), int(seed)) for number, seed in whole}


def _refuse_other(path: Path, about: Mapping[str, Any], study: Study) -> None:
    """SystemExit where a table was begun with other faces, epochs or another space, or on a processor that has fast
    bf16 where this one has none: its seconds are others, by a factor of eight where both were tried.
    """
    now = json.loads(json.dumps(_about(study)))
    if differing := [key for key in ("what", "epochs", "space", "bf16") if about.get(key) != now[key]]:
        raise SystemExit(f"{path} was begun with another {differing[0]}: name another table")


def _append(path: Path, rows: list[dict[str, Any]], columns: list[str]) -> None:
    """In one write, so that what is cut off in between is a whole training."""
    lines = io.StringIO(newline="")
    csv.DictWriter(lines, columns).writerows(rows)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(lines.getvalue())
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
