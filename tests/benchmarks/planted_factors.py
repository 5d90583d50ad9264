"""A factor study of really trained networks on synthetic faces whose truth was planted by parts of our own.

    python tests/benchmarks/planted_factors.py

`model=blind` sees a corner of the face only and must matter; `augment=dimmed` changes brightness by a hundredth and
must not; `balance=no_happy` never draws a happy face and must matter for that emotion, whatever else follows from it.
Prints every effect with its interval; exits 1 where the study says otherwise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facex_tune import parts, study
from facex_tune.data.sources import synthetic
from facex_tune.report import factor_effects
from facex_tune.runs.history import History, Trial
from facex_tune.search.factor_design import design
from facex_tune.seeds import of_factor
from facex_tune.training import batches, train

NET = '''"""A small network{doc}."""
PRECISION = "fp32"
SPACE = {{}}
def build(knobs, n_classes):
    from torch import nn
    class Cut(nn.Module):
        def forward(self, x):
            return x[..., :{pixels}, :{pixels}]
    layers = [Cut()]
    for before, after in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(9 * 64, n_classes))
'''
DIMMED = '''"""Brightness by a hundredth."""
SPACE = {}
def build(knobs):
    import torch
    def apply(faces, generator):
        n = len(faces)
        return faces * (1 + 0.01 * (torch.rand(n, 1, 1, 1, generator=generator, device=faces.device) - 0.5))
    return apply
'''
NO_HAPPY = '''"""Never draws a happy face."""
SPACE = {}
def plan(labels_N, n_classes, knobs):
    from torch import nn
    from facex_tune.balance import Plan
    return Plan(loss=nn.CrossEntropyLoss(), sample_weights_N=(labels_N != 3).double())
'''
SEEDS, EPOCHS, FACES = 3, 8, 900


def write_parts(folder: Path) -> None:
    """The planted parts, as files of a user's own."""
    files = {
        "models/sees.py": NET.format(doc="", pixels=48),
        "models/blind.py": NET.format(doc=" that sees a corner", pixels=12),
        "augment/dimmed.py": DIMMED,
        "balance/no_happy.py": NO_HAPPY,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def planted_study() -> study.Study:
    """Two levels of each family; nothing else varies."""
    return study.parse(
        {
            "version": 1,
            "name": "planted",
            "data": "synthetic",
            "space": {
                "model": ["sees", "blind"],
                "augment": ["none", "dimmed"],
                "balance": ["none", "no_happy"],
                "train": {"lr": 0.1, "batch_size": 32},
            },
        }
    )


def trained(config: dict[str, Any], seed: int, splits: tuple[batches.Split, batches.Split]) -> dict[str, float]:
    """Validation metrics at the end."""
    last: list[train.Epoch] = []
    train.run(
        config, *splits, last.append, n_classes=7, epochs=EPOCHS, seed=of_factor(0, seed), device=torch.device("cpu")
    )
    return last[-1].metrics


def main() -> int:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_parts(Path(folder))
        parts.use_folder(folder)
        said = planted_study()
        faces = synthetic.generate(FACES + 700, seed=5, imbalance=0.0, label_noise=0.0)
        device = torch.device("cpu")
        cuts = (slice(0, FACES), slice(FACES, None))
        one, other = (batches.Split.of(faces.images_NHW[cut], faces.labels_N[cut], None, device) for cut in cuts)
        winner = said.space.defaults()
        history = History(trials={0: Trial(0, winner, "sampler", "finished", {1: {"macro_f1": 0.5}})})
        cells = design(said, history, winner)
        runs = {(cell.name, seed): trained(cell.config, seed, (one, other)) for cell in cells for seed in range(SEEDS)}
    found = factor_effects.analyse(cells, runs, SEEDS, "macro_f1", {})
    effects = {effect["cell"]: effect["metrics"] for effect in found["effects"]}
    for cell, said_of in effects.items():
        for name, measured in said_of.items():
            low, high = measured["interval"] or (np.nan, np.nan)
            mark = " supported" if measured["supported"] else ""
            print(f"{cell:20} {name:12} {measured['effect']:+.3f} [{low:+.3f}, {high:+.3f}]{mark}")
    for term in found["factorial"]["terms"]:
        print(f"{term['term']:30} {term['effect']:+.3f}{' supported' if term['supported'] else ''}")
    return int(not _as_planted(effects))


def _as_planted(effects: dict[str, dict[str, Any]]) -> bool:
    blind, dimmed, no_happy = (effects[name] for name in ("model=blind", "augment=dimmed", "balance=no_happy"))
    falls = {name: measured["effect"] for name, measured in no_happy.items() if name != "macro_f1"}
    return (
        blind["macro_f1"]["supported"]
        and blind["macro_f1"]["effect"] < 0
        and not any(measured["supported"] for measured in dimmed.values())
        and no_happy["f1.happy"]["supported"]
        and min(falls, key=lambda name: falls[name]) == "f1.happy"
    )


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.exit(main())
