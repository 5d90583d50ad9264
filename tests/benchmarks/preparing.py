"""Seconds, processor seconds and peak memory of preparing, opening and auditing FER2013 and CK+, each in a new process.

`make bench-data DATA=FOLDER`, which has fer2013.zip, fer2013_rows.npz and ckplus.zip; writes to a temporary folder.

`preparing.py --jpegs 20000 --against FOLDER` prepares drawn JPEGs of 100×100 with this build and with another one's
source tree, in turn, and tells the ratio of each round. On a busy machine that of processor seconds is the one to read.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
COMMAND = "import sys; from facex_tune.cli import main; main(sys.argv[1:])"
OPEN = """
import sys, time
from pathlib import Path
from facex_tune.data.faces import open_set
import pyarrow.parquet
for _ in range(3):
    start = time.perf_counter()
    faces = open_set(Path(sys.argv[1]), "fer2013")
    print(f"{1000 * (time.perf_counter() - start):.1f}", end=" ")
print("ms to open", len(faces), "faces, three times over")
"""


def measured(what: str, code: str, *words: object, tree: Path | None = None) -> tuple[float, float, float]:
    """Runs Python code in a new process and prints what it took: (seconds, processor seconds, peak in MB). Processor
    seconds and memory are those of the processes that it starts, too; memory is looked at ten times a second.

    Args:
        tree: the source tree whose package is run; None takes this one.
    """
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(tree or ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], env=environment, cwd=tree or ROOT)
    peak_mb = 0.0
    while not (found := os.wait4(process.pid, os.WNOHANG))[0]:
        peak_mb = max(peak_mb, _held_mb(process.pid))
        time.sleep(0.1)
    _, status, used = found
    wall_s = time.perf_counter() - start
    cpu_s = used.ru_utime + used.ru_stime
    said = "" if status == 0 else f", STATUS {status}"
    print(f"== {what}: {wall_s:.1f} s, {cpu_s:.1f} s of processor, at most {peak_mb:,.0f} MB{said}", flush=True)
    return wall_s, cpu_s, peak_mb


def _held_mb(pid: int) -> float:
    """What a process and those that it started hold now, in MB, shared pages by shares."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [child for task in tasks for child in (task / "children").read_text().split()]
        (own_kb,) = re.findall(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except (OSError, ValueError):  # it ended meanwhile
        return 0.0
    return int(own_kb) / 1024 + sum(_held_mb(int(child)) for child in children)


def write_jpegs(n: int, folder: Path) -> None:
    """n drawn JPEGs of 100×100 in class folders: smooth, in colour, no two alike."""
    rng = np.random.default_rng(0)
    for number in range(n):
        small_HWC = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        path = folder / "train" / CLASSES[number % len(CLASSES)] / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small_HWC).resize((100, 100), Image.Resampling.BICUBIC).save(path, quality=90)


def compared(n: int, other: Path, rounds: int) -> None:
    """Prepares the same JPEGs with the other tree and with this one, in turn."""
    with tempfile.TemporaryDirectory() as place:
        write_jpegs(n, Path(place, "faces"))
        for number in range(rounds):
            took = []
            for what, tree in (("other", other), ("this", ROOT)):
                into = Path(place, f"{what}{number}")
                words = ("data", "prepare", "folder", Path(place, "faces"), "--as", "drawn", "--data", into)
                took.append(measured(f"{n:,} JPEGs, {what} build", COMMAND, *words, tree=tree))
            ratios = [before / after for before, after in zip(*took, strict=True)]
            print(f"   other / this: {ratios[0]:.2f} in seconds, {ratios[1]:.2f} in processor seconds, "
                  f"{ratios[2]:.2f} in memory", flush=True)  # fmt: skip


def write_csv(npz: Path, path: Path) -> None:
    """The original fer2013.csv from its lossless rows."""
    usages = ("Training", "PublicTest", "PrivateTest")
    with np.load(npz, allow_pickle=False) as rows, path.open("w") as file:
        file.write("emotion,pixels,Usage\n")
        for image, emotion, usage in zip(
            rows["pixels"].reshape(-1, 48 * 48), rows["emotion"], rows["usage"], strict=True
        ):
            file.write(f"{emotion},{' '.join(map(str, image.tolist()))},{usages[usage]}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--jpegs", type=int, default=20_000)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    said = parser.parse_args()
    if said.against is not None:
        compared(said.jpegs, said.against.absolute(), said.rounds)
        return
    if said.data is None:
        parser.error("name the folder of the data, or another build with --against")
    source: Path = said.data
    with tempfile.TemporaryDirectory() as place:
        from_csv, from_zip = Path(place, "csv"), Path(place, "zip")
        write_csv(source / "fer2013_rows.npz", Path(place, "fer2013.csv"))
        measured("prepare CSV", COMMAND, "data", "prepare", "fer2013", Path(place, "fer2013.csv"), "--data", from_csv)
        measured("prepare zip", COMMAND, "data", "prepare", "fer2013", source / "fer2013.zip", "--data", from_zip)
        measured("prepare CK+", COMMAND, "data", "prepare", "ckplus", source / "ckplus.zip", "--data", from_zip)
        measured("open", OPEN, from_zip)
        measured("audit FER2013 + CK+", COMMAND, "data", "audit", "fer2013", "ckplus", "--data", from_zip)
        os.replace(from_zip / "ckplus", from_csv / "ckplus")
        measured("audit of the lossless rows + CK+", COMMAND, "data", "audit", "fer2013", "ckplus", "--data", from_csv)


if __name__ == "__main__":
    main()
