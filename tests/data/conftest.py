"""Small data sets in each published layout, made of drawn faces."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facex_tune.data.faces import Faces
from facex_tune.data.sources import synthetic
from facex_tune.emotions import EMOTIONS

USAGES = ("Training", "PublicTest", "PrivateTest")
CKPLUS_NAMES = {"angry": "anger", "sad": "sadness"}


@pytest.fixture(scope="session")
def faces() -> Faces:
    """105 faces, fifteen of each of seven emotions, correctly labelled."""
    return synthetic.generate(105, seed=3, imbalance=0, label_noise=0)


@pytest.fixture
def fer2013_folder(tmp_path: Path, faces: Faces) -> Path:
    """The Kaggle folder: of each emotion 5 Training, 5 PublicTest, 5 PrivateTest; ids out of order."""
    root = tmp_path / "fer2013"
    seen = dict.fromkeys(range(7), 0)
    for row in range(len(faces)):
        label = int(faces.labels_N[row])
        usage = USAGES[seen[label] % 3]
        seen[label] += 1
        folder = root / ("train" if usage == "Training" else "test") / EMOTIONS[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(faces.images_NHW[row]).save(folder / f"{usage}_{(row * 37) % 1009}.jpg", quality=95)
    return root


@pytest.fixture
def ckplus_folder(tmp_path: Path) -> Path:
    """CK+48 with 60 subjects, three sequences each of three frames."""
    lab = synthetic.generate(540, seed=4, variant="lab")
    root = tmp_path / "CK+48"
    for row in range(len(lab)):
        emotion = EMOTIONS[lab.labels_N[row]]
        folder = root / CKPLUS_NAMES.get(emotion, emotion)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"S{lab.group_N[row] + 10:03d}_{lab.sequence_N[row] % 3 + 1:03d}_{row % 3 + 8:08d}.png"
        Image.fromarray(lab.images_NHW[row]).save(folder / name)
    return root


@pytest.fixture
def write_csv(tmp_path: Path, faces: Faces) -> Callable[..., Path]:
    """Write the faces as fer2013.csv, with lines (counted from 0, after the header) replaced."""

    def write(header: str = "emotion,pixels,Usage", replaced: dict[int, str] | None = None) -> Path:
        lines = []
        for row in range(len(faces)):
            pixels = " ".join(map(str, faces.images_NHW[row].ravel().tolist()))
            lines.append((replaced or {}).get(row, f"{faces.labels_N[row]},{pixels},{USAGES[row % 3]}"))
        path = tmp_path / "fer2013.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return path

    return write


@pytest.fixture
def zipped(tmp_path: Path) -> Callable[..., Path]:
    """Zip a folder (or one file), its members below `inside`."""

    def pack(source: Path, inside: str = "") -> Path:
        path = tmp_path / "packed.zip"
        files = [source] if source.is_file() else sorted(source.rglob("*"), reverse=True)
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                name = file.name if source.is_file() else file.relative_to(source).as_posix()
                archive.write(file, inside + name)
        return path

    return pack


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def without_rights() -> Iterator[None]:
    """root, who may read everything, acts as nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture(scope="session")
def real_csv_folder(realdata_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real fer2013.csv (287 MB) written from the lossless rows, with fer2013new.csv beside it."""
    folder = tmp_path_factory.mktemp("fer2013_csv")
    with np.load(realdata_dir / "fer2013_rows.npz", allow_pickle=False) as rows:
        pixels_NP, emotion_N, usage_N = rows["pixels"].reshape(-1, 48 * 48), rows["emotion"], rows["usage"]
    words = [str(shade) for shade in range(256)]
    with (folder / "fer2013.csv").open("w") as file:
        file.write("emotion,pixels,Usage\n")
        for pixels_P, emotion, usage in zip(pixels_NP, emotion_N, usage_N, strict=True):
            file.write(f"{emotion},{' '.join(map(words.__getitem__, pixels_P.tobytes()))},{USAGES[usage]}\n")
    shutil.copy(realdata_dir / "fer2013new.csv", folder)
    return folder
