"""Tries every network of timm's listing up to 60 million parameters once on small grey faces, with either stem.

`python tests/benchmarks/timm_zoo.py` makes `facex_tune/models/timm_zoo.csv`, which the dry run's advice and the words
of docs/search.md come from. Each try is a process of its own, a fork of this one, which has imported torch and timm: it
takes faces of 32, 40 and 48 pixels without memory, as the dry run does, then trains two epochs of one step, on 32 and
48 pixels, validation and moving average included, within a limit of processor seconds and of memory. Two faces are
quick, but one position of two faces is little for batch norms, which 121 networks answer with values that are not
finite: what fails with two is tried with sixteen. A table that is there is gone on with; `--again` tries the named ones
anew. About two hours of one core; `nice -n 15` leaves it to others.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import resource
import signal
import sys
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from facex_tune import parts
from facex_tune.inspection import costs
from facex_tune.models import _zoo, _zoo_table
from facex_tune.models._zoo_table import LARGEST, OK, UNTRIED, Row
from facex_tune.space import Config
from facex_tune.training.batches import Split
from facex_tune.training.train import Training

N_CLASSES, PIXELS, EPOCHS = 7, 48, 2
FACES = 2, 16
CPU_S, MEMORY_BYTES = 120, 6 * 2**30
WALL_S = 10 * CPU_S  # for one that sleeps
REASON = 120  # characters


def sized(name: str) -> Row:
    """The name's row with its size alone."""
    counted = forked(lambda: size(name))
    return Row(name, timm.__version__, counted if isinstance(counted, int) else 0, UNTRIED, UNTRIED)


def tried(row: Row) -> Row:
    """The row with what became of the network with either stem; what stands there is not tried anew."""
    halved = outcome(row.name, True) if row.halved == UNTRIED else row.halved
    return replace(row, halved=halved, whole=outcome(row.name, False) if row.whole == UNTRIED else row.whole)


def outcome(name: str, halve_stem: bool) -> str:
    """What became of training it, each try in a process of its own."""
    config = costs.configuration("timm", name=name, halve_stem=halve_stem) | {
        "augment": "none",
        "balance": "none",
        "train.progressive": True,
        "train.ema_decay": 0.9,
        "train.lr": 1e-4,
    }
    said = UNTRIED
    for n_faces in FACES:
        said = str(forked(lambda n=n_faces: trained(config, n))).removeprefix(f"{name} ")
        if said == OK:
            break
    return said


def size(name: str) -> int:
    """Parameters for grey faces of seven classes, without memory."""
    with torch.device("meta"):
        network = timm.create_model(name, in_chans=1, num_classes=N_CLASSES)
    return sum(parameter.numel() for parameter in network.parameters())


def trained(config: Config, n_faces: int) -> str:
    """ "ok" after two epochs of one step, or why not."""
    _zoo.shown(parts.knobs("model", config))
    training = Training(
        config,
        faces(1, n_faces),
        faces(2, n_faces),
        n_classes=N_CLASSES,
        epochs=EPOCHS,
        seed=(0,),
        device=torch.device("cpu"),
        weights="ema",
    )
    while training.done < training.epochs:
        training.epoch()
    return OK


def faces(seed: int, n_faces: int) -> Split:
    """Noise."""
    drawn = np.random.default_rng(seed).integers(0, 256, (n_faces, PIXELS, PIXELS), np.uint8)
    return Split.of(drawn, np.arange(n_faces) % N_CLASSES, None, torch.device("cpu"))


def forked(work: Any) -> Any:
    """What `work` returns in a process of its own, which dies at the limits; or why it does not."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        signal.alarm(WALL_S)
        try:
            os.write(write, json.dumps(answered(work)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if said:
        return json.loads(said)
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if ended_by in (signal.SIGXCPU, signal.SIGALRM):
        return f"not done in {CPU_S} s of one core"
    return f"ended its process ({signal.Signals(ended_by).name if ended_by else 'exit code ' + str(status >> 8)})"


def answered(work: Any) -> Any:
    try:
        return work()
    except MemoryError:
        return f"more than {MEMORY_BYTES >> 30} GB"
    except Exception as error:
        said = " ".join(str(error).split())
        if "can't allocate memory" in said:
            return f"more than {MEMORY_BYTES >> 30} GB"
        return said.removeprefix("name: ")[:REASON] if said else type(error).__name__


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["*"], help="patterns of names; default: all")
    parser.add_argument("--again", action="store_true", help="also those that stand in the table")
    parser.add_argument("--table", type=Path, default=_zoo_table.FILE)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    table = dict(_zoo_table.rows(asked.table))
    names = [name for name in timm.list_models() if any(fnmatch.fnmatch(name, each) for each in asked.names)]
    for name in names:
        if asked.again or name not in table or table[name].timm != timm.__version__:
            table[name] = sized(name)
            _zoo_table.write(asked.table, table.values())
    for row in sorted((table[name] for name in names), key=lambda row: row.parameters):
        if row.parameters <= LARGEST and UNTRIED in (row.halved, row.whole):
            start = time.perf_counter()
            table[row.name] = tried(row)
            _zoo_table.write(asked.table, table.values())
            print(f"{time.perf_counter() - start:6.1f} s", *asdict(table[row.name]).values(), flush=True)
    print(len(table), "names;", sum(OK in (row.halved, row.whole) for row in table.values()), "take small faces")


if __name__ == "__main__":
    sys.exit(main())
