"""Writes a zip: two runs of the version that PYTHONPATH names, and what it told of them, for later versions to read.

    PYTHONPATH=/a/checkout/of/that/version python tests/runs/old_runs/make.py tests/runs/old_runs/VERSION.zip

In it lie a prepared set of drawn faces (`data`), a part of the user's own (`parts`), one run that is whole and one that
was interrupted in its search (`runs`), and what `show --json` printed of them (`told`). All goes through the command
line, so that the same file makes such runs with any version.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

COMMAND = [sys.executable, "-c", "from facex_tune.cli import main; main()"]
PART = Path(__file__).resolve().parents[2] / "faults" / "parts" / "models" / "faulty_net.py"
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SPLITS = {"train": 10, "val": 5, "test": 5}  # faces of each emotion
KNOB = "model.faulty_net.fault"
SOUND = [{KNOB: "none", "train.lr": lr} for lr in (0.05, 0.2, 0.01, 0.1)]
STUDY = {
    "version": 1,
    "name": "old",
    "data": "drawn",
    "budget": {"trials": 5},
    "fidelity": {"min_epochs": 1, "max_epochs": 4, "reduction": 2},
    "search": {"seed": 3, "concurrency": 1, "start_with": [{KNOB: "nan"}, *SOUND]},
    "space": {
        "model": [{"faulty_net": {"fault": ["none", "nan"], "tag": 0, "step_ms": 150, "fits": 16, "sound_steps": 0}}],
        "augment": ["none", "flip_shift"],
        "balance": ["none", "logit_adjust"],
        "train": {"lr": {"low": 0.01, "high": 0.3, "log": True}, "batch_size": 32},
    },
    "retrain": {"top": 1, "seeds": 2, "epochs": 3},
    "evaluate": {"protocols": ["folder.drawn"]},
}
LEFT_OUT = ("figures", "tables", "cards", "index.html", "report.schema.json")  # of a report, all but its data


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="old-") as made:
        folder = Path(made)
        (folder / "parts" / "models").mkdir(parents=True)
        shutil.copy(PART, folder / "parts" / "models")
        (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
        draw_faces(folder / "faces")
        where = ["--storage", str(folder / "runs"), "--data", str(folder / "data"), "--parts", str(folder / "parts")]
        call(folder, "data", "prepare", "folder", "faces", "--as", "drawn")
        shutil.rmtree(folder / "faces")
        call(folder, "run", "study.yaml", "--run", "whole", *where)
        call(folder, "report", "whole")  # again, so that it also knows what the first one took
        interrupt(folder, "run", "study.yaml", "--run", "interrupted", *where)
        tell(folder)
        pack(folder, target)


def draw_faces(folder: Path) -> None:
    """Patches of grey, brighter from emotion to emotion; few enough that a file of them is small."""
    rng = np.random.default_rng(0)
    for split, count in SPLITS.items():
        for label, emotion in enumerate(EMOTIONS):
            (folder / split / emotion).mkdir(parents=True)
            for number in range(count):
                patches = rng.integers(0, 120, (6, 6)) + 20 * label
                patches[label % 6] += 15
                face = np.kron(patches, np.ones((8, 8), int)).astype(np.uint8)
                Image.fromarray(face).save(folder / split / emotion / f"{number}.png")


def call(folder: Path, *words: str) -> str:
    return subprocess.run([*COMMAND, *words], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def interrupt(folder: Path, *words: str) -> None:
    """Sends SIGINT when trials have ended and one has trained for an epoch or more."""
    process = subprocess.Popen([*COMMAND, *words], cwd=folder)
    while process.poll() is None and not under_way(folder / "runs" / "interrupted"):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 75


def under_way(run: Path) -> bool:
    lines = [line for path in run.glob("events/*.jsonl") for line in path.read_text().splitlines()]
    events = [json.loads(line) for line in lines if line.endswith("}")]
    ended = {each["trial"] for each in events if each["type"] in ("trial_finished", "trial_stopped", "trial_failed")}
    begun = {each["trial"] for each in events if each["type"] == "epoch" and each["epoch"] == 2} - ended
    return len(ended) >= 2 and bool(begun)


def tell(folder: Path) -> None:
    """What this version says of the runs."""
    (folder / "told").mkdir()
    for run in ("whole", "interrupted"):
        (folder / "told" / f"{run}.json").write_text(call(folder, "show", run, "--json"))


def pack(folder: Path, target: Path) -> None:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for path in paths:
            inside = path.relative_to(folder)
            if not ("report" in inside.parts and set(inside.parts) & set(LEFT_OUT)):
                zipped.write(path, str(inside))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
