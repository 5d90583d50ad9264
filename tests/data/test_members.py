"""Archives, arrays and tables that say less of their size than they have: never more is read than a limit allows.

The archives are small and harmless: a few hundred kB of zeros, limits of a few kB, and sizes written over.
"""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from facex_tune.data import members
from facex_tune.data.importing import Asked
from facex_tune.data.sources import _labelled, _pixel_csv, affectnet, arrays, fer2013, ferplus
from facex_tune.data.tree import content, open_tree, read_images
from facex_tune.errors import InputError

REAL_BYTES, SAID_BYTES = 2**25, 2304
PEAK_BYTES = 2**23 + 2**21  # the dictionary that LZMA is written with, and some room
METHODS = {"deflated": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}


def lying(path: Path, name: str, data: bytes, method: int, said_bytes: int) -> Path:
    """A zip whose directory says another size of its one member."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, data)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 24 : at + 28] = struct.pack("<I", said_bytes)
    path.write_bytes(raw)
    return path


@contextmanager
def peak_below(n_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < n_bytes, f"{peak:,} bytes at the peak"


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_picture_of_a_zip_is_read_as_far_as_it_says(tmp_path: Path, method: int) -> None:
    path = lying(tmp_path / "set.zip", "happy/1.png", bytes(REAL_BYTES), method, SAID_BYTES)
    with open_tree(path) as tree, peak_below(PEAK_BYTES), pytest.raises(InputError, match="not one of 1 images"):
        read_images(tree, ["happy/1.png"], lambda done, total: None, 48)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_list_of_a_zip_is_read_as_far_as_it_says(tmp_path: Path, method: int) -> None:
    path = lying(tmp_path / "set.zip", "labels.csv", bytes(REAL_BYTES), method, SAID_BYTES)
    with open_tree(path) as tree, peak_below(PEAK_BYTES), pytest.raises(InputError, match=r"damaged .*CRC"):
        _labelled.text_of(tree, "labels.csv")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, *METHODS.values()], ids=["stored", *METHODS])
def test_honest_member_is_read_whole(tmp_path: Path, method: int) -> None:
    data = np.random.default_rng(3).integers(0, 9, 70_000, np.uint8).tobytes()
    with zipfile.ZipFile(tmp_path / "set.zip", "w", method) as archive:
        archive.writestr("list.txt", data)
    with open_tree(tmp_path / "set.zip") as tree:
        assert content(tree, "list.txt", len(data)) == data
        with pytest.raises(members.TooLarge, match="70000 bytes are more than 69999"):
            content(tree, "list.txt", len(data) - 1)
        with tree.open("list.txt") as file:
            assert file.read(10) == data[:10]


def test_file_that_grew_is_not_read_beyond_the_limit() -> None:
    file = io.BytesIO(bytes(2**20))
    with peak_below(2**16), pytest.raises(members.TooLarge, match="more than 1000 bytes, and says 10"):
        members.read_whole(file, 10, 1000)


def npy(shape: tuple[int, ...], data: bytes = b"") -> bytes:
    """A NPY file whose header says a shape that its data do not have."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue() + data


def test_array_that_says_more_than_it_has_takes_no_memory() -> None:
    with peak_below(2**21), pytest.raises(ValueError, match="cut short: 10 bytes where 134,217,728"):
        members.read_array(io.BytesIO(npy((2**27,), bytes(10))), 2**30)


def test_array_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with peak_below(2**16), pytest.raises(members.TooLarge, match="more than 1,000 bytes"):
        members.read_array(io.BytesIO(npy((1001,))), 1000)


def test_npz_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "x.npz", X=np.zeros((100, 48, 48), np.uint8), y=np.zeros(100, np.int64))
    monkeypatch.setattr(arrays, "MAX_ARRAY_BYTES", 100_000)
    with pytest.raises(InputError, match=r"X\.npy: 100 x 48 x 48 uint8 takes more than 100,000 bytes"):
        arrays.load(tmp_path / "x.npz", lambda done, total: None, Asked.parse(arrays=["images=X", "labels=y"]))


def test_array_file_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "X.npy").write_bytes(npy((100, 48, 48)))
    with pytest.raises(InputError, match=r"X\.npy cannot be read as NPY"):
        arrays.load(tmp_path, lambda done, total: None, Asked.parse(arrays=["images=X", "labels=y"]))


def test_rows_that_are_no_faces_end_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pixel_csv, "MOST_SKIPPED", 50)
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n" + "a\n" * 60)
    with pytest.raises(InputError, match="more than 50 rows are no faces"):
        fer2013.load(tmp_path / "fer2013.csv", lambda done, total: None)


def test_votes_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ferplus, "MOST_ROWS", 50)
    with pytest.raises(InputError, match="more than 50 rows are no votes"):
        ferplus._read(io.BytesIO(b"Usage,neutral\n" + b"Training,1\n" * 60), "fer2013new.csv")


def test_class_that_is_no_word_is_refused(tmp_path: Path) -> None:
    for split in ("images", "labels"):
        (tmp_path / "train" / split).mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("a: &a [x, x]\nnames: [*a, happy]\n")
    with open_tree(tmp_path) as tree, pytest.raises(InputError, match="a list where a class's name is wanted"):
        affectnet._yolo_names(tree)
