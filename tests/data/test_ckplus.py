from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forms import by_name, written  # beside this file
from PIL import Image

from facex_tune.data.faces import Faces, Skipped, fingerprint
from facex_tune.data.importing import Asked
from facex_tune.data.sources import ckplus
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError


def load(path: Path) -> tuple[Faces, list[Skipped]]:
    loaded = ckplus.load(path, lambda done, total: None)
    return loaded.faces, loaded.skipped


def test_subjects_are_groups_and_sequences_have_three_frames(ckplus_folder: Path) -> None:
    read, skipped = load(ckplus_folder)
    assert skipped == []
    assert len(read) == 540
    assert set(read.split_N) == {"test"}
    assert sorted(set(read.group_N)) == list(range(10, 70))
    assert np.bincount(read.sequence_N).tolist() == [3] * 180
    for row in (0, 333, 539):
        assert str(read.source_N[row]).startswith(f"S{read.group_N[row]:03d}_")
    for sequence in range(180):
        of_it = read.take(read.sequence_N == sequence)
        assert len(set(of_it.group_N)) == len(set(of_it.labels_N)) == 1


def test_no_neutral_and_contempt_is_the_eighth(ckplus_folder: Path) -> None:
    labels = set(load(ckplus_folder)[0].labels_N)
    assert labels == {0, 1, 2, 3, 4, 5, EMOTIONS.index("contempt")}


@pytest.mark.parametrize("inside", ["", "CK+48/", "ck/CK+48/"])
def test_zip_gives_the_folders_faces(ckplus_folder: Path, zipped: Callable[..., Path], inside: str) -> None:
    assert fingerprint(load(zipped(ckplus_folder, inside))[0]) == fingerprint(load(ckplus_folder)[0])


def test_a_zip_that_holds_the_folder_twice(ckplus_folder: Path) -> None:
    alone, _ = load(ckplus_folder)
    shutil.copytree(ckplus_folder, ckplus_folder / "ck" / "CK+48")
    read, skipped = load(ckplus_folder)
    assert fingerprint(read) == fingerprint(alone)
    assert len(skipped) == 540


def test_faults(ckplus_folder: Path, tmp_path: Path) -> None:
    first, second, *_ = sorted((ckplus_folder / "anger").iterdir())
    first.write_bytes(first.read_bytes()[:300])
    second.rename(second.with_name("someone.png"))
    read, skipped = load(ckplus_folder)
    assert len(read) == 538
    assert {skip.file for skip in skipped} == {f"anger/{first.name}", "anger/someone.png"}
    shutil.rmtree(ckplus_folder / "sadness")
    with pytest.raises(InputError, match="has no face of sad: the data set is incomplete"):
        load(ckplus_folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty is not CK\+: it has neither"):
        load(tmp_path / "empty")


PUBLISHED = (45, 59, 25, 69, 28, 83, 593, 18)


def write_ckextended(path: Path, counts: tuple[int, ...], bad_rows: int = 0) -> Path:
    """ckextended.csv with faces of noise, emotions in turn."""
    rng = np.random.default_rng(0)
    lines = ["emotion,pixels,Usage"]
    for row, emotion in enumerate(rng.permutation(np.repeat(np.arange(len(counts)), counts))):
        pixels = rng.integers(0, 256, 48 * 48 if row >= bad_rows else 9)
        lines.append(f"{emotion},{' '.join(map(str, pixels))},{('Training', 'PublicTest', 'PrivateTest')[row % 3]}")
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("form", ["csv", "zip", "folder"])
def test_the_csv_in_the_published_order(tmp_path: Path, zipped: Callable[..., Path], form: str) -> None:
    path = write_ckextended(tmp_path / "ckextended.csv", PUBLISHED, bad_rows=2)
    read, skipped = load({"csv": path, "zip": zipped(path), "folder": tmp_path}[form])
    assert len(skipped) == 2
    assert set(read.split_N) == {"test"}  # its own splits share subjects
    assert (read.sequence_N == -1).all()
    assert (np.array(PUBLISHED) - np.bincount(read.labels_N)).sum() == 2
    assert read.votes_NC is None


def test_a_csv_in_another_order_or_of_another_set_is_refused(tmp_path: Path) -> None:
    contempt_first = (45, 18, 59, 25, 69, 28, 83, 593)
    for counts in (contempt_first, tuple(n // 2 for n in PUBLISHED)):
        path = write_ckextended(tmp_path / "ckextended.csv", counts)
        with pytest.raises(InputError, match=r"faces by number 0: .*; wanted 45, 59.* use CK\+48, or class folders"):
            load(path)


def test_a_frame_in_two_classes_counts_in_neither(ckplus_folder: Path) -> None:
    file = next((ckplus_folder / "fear").iterdir())
    shutil.copy(file, ckplus_folder / "happy")
    read, skipped = load(ckplus_folder)
    assert len(read) == 539
    assert [skip.reason for skip in skipped] == [
        f"another class has a face of this name: {name}/{file.name}" for name in ("happy", "fear")
    ]


def test_larger_copies_are_read_as_large_as_they_are(tmp_path: Path) -> None:
    """CK+48's folders at 96×96: 96 is their own size, and nothing is enlarged."""
    there = written(by_name("ckplus_numbers_96"), tmp_path / "set")
    asked = Asked(incomplete=True, size=96)
    read = ckplus.load(there.root, lambda done, total: None, asked)
    assert read.faces.face.size == 96
    assert read.pictures is not None
    assert not read.pictures.enlarged(96).any()
    picture = next(there.root.rglob(str(read.faces.source_N[0])))
    with Image.open(picture) as image:
        assert np.array_equal(read.faces.images_NHW[0], np.asarray(image))


@pytest.mark.realdata
def test_the_real_zip(realdata_dir: Path) -> None:
    read, skipped = load(realdata_dir / "ckplus.zip")
    assert skipped == []
    assert fingerprint(read) == "45eedadf14616cced4aa4d2692e655f1a6f4a15db040daea6b02eb3edbaeb2e7"
    assert np.bincount(read.labels_N, minlength=8).tolist() == [135, 177, 75, 207, 84, 249, 0, 54]
    assert len(set(read.group_N)) == 118
    assert np.bincount(read.sequence_N).tolist() == [3] * 327
    six = read.take(read.labels_N < 6)
    assert (len(six), len(set(six.sequence_N)), len(set(six.group_N))) == (927, 309, 106)
