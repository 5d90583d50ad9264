"""Seconds, processor seconds and peak memory of preparing, opening and auditing FER2013 and CK+, each in a new process.

`make bench-data DATA=FOLDER`, which has fer2013.zip, fer2013_rows.npz and ckplus.zip; writes to a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

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


def measured(what: str, code: str, *words: object) -> None:
    """Runs Python code in a new process and prints what it took."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, words)])
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start
    cpu_s, peak_mb = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    said = "" if status == 0 else f", STATUS {status}"
    print(f"== {what}: {wall_s:.1f} s, {cpu_s:.1f} s of processor, at most {peak_mb:,.0f} MB{said}", flush=True)


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
    parser.add_argument("data", type=Path)
    source: Path = parser.parse_args().data
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
