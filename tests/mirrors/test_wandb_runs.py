"""The run as offline runs of Weights & Biases: read back with `wandb leet inspect`, W&B's own reader."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from facex_tune.errors import InputError
from facex_tune.mirrors.mirror import Targets, mirror
from tests.mirrors.conftest import SearchMaker, score
from tests.records import record

IS_THERE = importlib.util.find_spec("wandb") is not None  # not imported: what the environment says then must not count
needs_wandb = pytest.mark.skipif(not IS_THERE, reason="wandb is not installed (the extra wandb)")


def files_by_name(folder: Path) -> dict[str, Path]:
    """The transaction logs by trial, none of which is there twice."""
    paths = list(folder.glob("wandb/offline-run-*/run-*.wandb"))
    found = {path.stem.split("-", 2)[2]: path for path in paths}
    assert len(found) == len(paths)
    return found


def read(path: Path, *options: str) -> str:
    said = [sys.executable, "-m", "wandb", "leet", "inspect", *options, "--json", str(path)]
    return subprocess.run(said, check=True, capture_output=True, text=True, env=os.environ | OFFLINE).stdout


OFFLINE = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}


def summary(path: Path) -> Any:
    return json.loads(read(path, "--summary"))


@needs_wandb
def test_wandb_s_reader_reads_trials_and_scores_and_a_second_mirror_replaces_them(
    make_search: SearchMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"MODE": "online", "DISABLED": "true", "RUN_ID": "other", "DIR": str(tmp_path / "no")}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run, folder = make_search(), tmp_path / "offline"
    mirror(run, Targets(wandb=folder))
    assert sorted(files_by_name(folder)) == ["t0000", "t0001", "t0002", "t0003"]
    assert os.environ["WANDB_MODE"] == "offline"
    assert not (tmp_path / "no").exists()
    with run.log() as log:
        later = {"macro_f1": 0.75, "log_loss": 1.25}
        log.append(record({"type": "epoch", "trial": 3, "epoch": 2, "metrics": later, "seconds": 1.5}))
        log.append(record({"type": "trial_finished", "trial": 3}))
    score(run, "synthetic.private")
    mirror(run, Targets(wandb=folder))
    found = files_by_name(folder)
    assert sorted(found) == ["evaluation-synthetic.private-t0000", "t0000", "t0001", "t0002", "t0003"]
    first, last, scores = (summary(found[name]) for name in ("t0000", "t0003", "evaluation-synthetic.private-t0000"))
    assert first["summary"]["validation/macro_f1"] == 0.6
    assert first["config"]["model"] == "resnet"
    assert last["summary"]["validation/macro_f1"] == 0.75
    assert scores["summary"]["evaluation/accuracy"] == 0.25
    assert scores["summary"]["evaluation/n"] == 80
    records = [json.loads(line) for line in read(found["t0000"]).splitlines()]
    assert sum(each["type"] == "history" for each in records) == 3, "a row an epoch"


@pytest.mark.skipif(IS_THERE, reason="wandb is installed")
def test_without_wandb_the_extra_is_named(make_search: SearchMaker, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mirror --wandb needs the extra: pip install 'facex-tune\[wandb\]'"):
        mirror(make_search(), Targets(wandb=tmp_path / "offline"))
    assert not (tmp_path / "offline").exists()
