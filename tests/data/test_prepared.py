"""The prepared folder: what is written is what is read, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facex_tune.data import sheets
from facex_tune.data.faces import (
    Faces,
    Skipped,
    fingerprint,
    is_prepared,
    open_set,
    prepared_names,
    read_manifest,
    write,
)
from facex_tune.errors import InputError
from facex_tune.storage import folders

SKIPPED = [Skipped("a.jpg", None, "broken"), Skipped("b.csv", 3, "pixel 300 out of range 0..255")]


def put(faces: Faces, data_dir: Path, name: str = "drawn") -> dict[str, Any]:
    return write(faces, data_dir, name, source={"name": "synthetic", "path": None}, skipped=SKIPPED)


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.mark.parametrize("with_votes", [True, False])
def test_what_is_written_is_read(faces: Faces, tmp_path: Path, with_votes: bool) -> None:
    faces = faces if with_votes else replace(faces, votes_NC=None)
    put(faces, tmp_path / "new" / "data")
    read = open_set(tmp_path / "new" / "data", "drawn")
    assert fingerprint(read) == fingerprint(faces)
    assert read.source_N.tolist() == faces.source_N.tolist()
    assert (read.votes_NC is None) == (not with_votes)
    assert isinstance(read.images_NHW, np.memmap)
    assert not read.images_NHW.flags.writeable


def test_opening_a_set_imports_no_pandas(faces: Faces, tmp_path: Path) -> None:
    """Which would take most of the first opening's time in every process."""
    write(faces, tmp_path, "toy", source={}, skipped=[])
    code = (
        "import sys; from pathlib import Path; from facex_tune.data.faces import open_set;"
        "faces = open_set(Path(sys.argv[1]), 'toy'); print(len(faces), 'pandas' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert told.stdout.split() == [str(len(faces)), "False"]


def test_manifest_tells_counts_source_and_skipped(faces: Faces, tmp_path: Path) -> None:
    returned = put(faces, tmp_path)
    manifest = json.loads((tmp_path / "drawn" / "manifest.json").read_text())
    assert manifest == returned == read_manifest(tmp_path, "drawn")
    assert manifest["schema"] == 1
    assert manifest["n"] == 105
    assert manifest["counts"] == {"train": dict.fromkeys(
        ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"), 15)}  # fmt: skip
    assert manifest["skipped"][1] == {"file": "b.csv", "row": 3, "reason": "pixel 300 out of range 0..255"}


def test_writing_the_same_faces_again_touches_nothing(faces: Faces, tmp_path: Path) -> None:
    first = put(faces, tmp_path)
    before = files_of(tmp_path / "drawn")
    assert put(faces, tmp_path) == first
    assert files_of(tmp_path / "drawn") == before


def test_other_faces_replace_the_set_and_leave_nothing_else(faces: Faces, tmp_path: Path) -> None:
    put(faces, tmp_path)
    put(faces.take(np.arange(10)), tmp_path)
    assert len(open_set(tmp_path, "drawn")) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["drawn"]


def test_a_damaged_set_is_mended_by_writing_again(faces: Faces, tmp_path: Path) -> None:
    put(faces, tmp_path)
    images = tmp_path / "drawn" / "images.npy"
    data = bytearray(images.read_bytes())
    data[-1] ^= 1  # right size, wrong pixels
    images.write_bytes(data)
    put(faces, tmp_path)
    assert fingerprint(open_set(tmp_path, "drawn")) == fingerprint(faces)


def test_the_set_is_readable_by_others(faces: Faces, tmp_path: Path) -> None:
    put(faces, tmp_path)
    assert (tmp_path / "drawn").stat().st_mode & 0o777 == 0o755


def test_a_full_disk_is_seen_before_writing(faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=rf"no space left in {tmp_path}: 1\.3 MB needed, 1,000 bytes free"):
        put(faces, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("already_there", [False, True])
def test_a_disk_that_fills_up_leaves_no_half_set(faces: Faces, tmp_path: Path, already_there: bool) -> None:
    """Full only while writing, after the check; the older set stays whole."""
    if already_there:
        put(faces.take(np.arange(10)), tmp_path)

    def fill(file: Any) -> None:
        file.write(b"x" * 1000)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError, match="no space left"):
        folders.write_folder(tmp_path / "drawn", {"images.npy": fill}, needed_bytes=1000)
    assert prepared_names(tmp_path) == (["drawn"] if already_there else [])
    assert [path.name for path in tmp_path.iterdir()] == prepared_names(tmp_path)
    if already_there:
        assert len(open_set(tmp_path, "drawn")) == 10


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 kB; a prepared set of these faces takes twice that."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user may not mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(faces: Faces, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=rf"no space left in {tiny_disk}: 1\.3 MB needed, [\d,]+ bytes free"):
        put(faces, tiny_disk)
    assert list(tiny_disk.iterdir()) == []
    plenty = namedtuple("plenty", "total used free")(10**9, 0, 10**9)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda folder: plenty)  # until the check: then others fill it
        with pytest.raises(InputError, match="no space left in"):
            put(faces, tiny_disk)
    assert list(tiny_disk.iterdir()) == []
    document = {"counts": {"train": {"happy": 15}}}
    (tiny_disk / "full").write_bytes(bytes(120_000))
    with pytest.raises(InputError, match="no space left in"):
        sheets.write_show(faces, document, tiny_disk)
    assert {path.name for path in tiny_disk.iterdir()} <= {"full", "classes.png"}  # whole or not there


@pytest.mark.parametrize("limit_bytes", [1000, 100_000])
def test_a_write_that_breaks_off_is_one_line_and_leaves_nothing(
    fer2013_folder: Path, tmp_path: Path, limit_bytes: int
) -> None:
    code = (
        "import resource; from facex_tune.cli import main; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes})); "
        f"main(['data', 'prepare', 'fer2013', {str(fer2013_folder)!r}, '--incomplete', '--data', 'data'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    said = f"error: cannot write {tmp_path / 'data'}: File too large; choose another folder with --data"
    assert done.stderr.splitlines() == [said]
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.usefixtures("open_folder", "without_rights")
def test_a_place_that_may_not_be_written(faces: Faces, open_folder: Path) -> None:
    with pytest.raises(InputError, match=rf"cannot write {open_folder}.*: Permission denied; choose another folder"):
        put(faces, open_folder)
    assert list(open_folder.iterdir()) == []


def test_a_crash_while_writing_leaves_nothing(faces: Faces, tmp_path: Path) -> None:
    def interrupt(file: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folders.write_folder(tmp_path / "drawn", {"a": lambda file: file.write(b"1"), "b": interrupt}, needed_bytes=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o700), (0o022, 0o755), (0o002, 0o775)])
def test_the_umask_says_who_may_read_a_set(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        folders.write_folder(tmp_path / "drawn", {"a": lambda file: file.write(b"1")}, needed_bytes=1)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "drawn").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "drawn" / "a").stat().st_mode) == mode & 0o666


def test_a_failed_rename_brings_the_older_set_back(faces: Faces, tmp_path: Path) -> None:
    put(faces, tmp_path)
    with pytest.raises(FileNotFoundError):
        folders._swap_in(tmp_path / ".vanished", tmp_path / "drawn")
    assert fingerprint(open_set(tmp_path, "drawn")) == fingerprint(faces)
    assert prepared_names(tmp_path) == ["drawn"]


def test_a_data_folder_that_is_a_file(faces: Faces, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*data: .*--data"):
        put(faces, tmp_path / "data")


def test_a_file_in_the_sets_place_is_replaced(faces: Faces, tmp_path: Path) -> None:
    (tmp_path / "drawn").write_text("")
    put(faces, tmp_path)
    assert is_prepared(tmp_path, "drawn")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("fer2013", "fer2013 SOURCE"),
        ("synthetic", "synthetic"),
        ("synthetic_lab", "synthetic"),
        ("folder", "folder SOURCE --as NAME"),
        ("my_faces", "folder SOURCE --as my_faces"),
    ],
)
def test_unprepared_names_the_command(tmp_path: Path, name: str, command: str) -> None:
    with pytest.raises(InputError) as told:
        open_set(tmp_path, name)
    assert str(told.value) == (
        f"data set {name!r} is not prepared in {tmp_path}: run `facex-tune data prepare {command}`"
    )


def test_a_slip_in_a_name_is_told(faces: Faces, tmp_path: Path) -> None:
    put(faces, tmp_path)
    for slip, meant in (("fer2014", "fer2013"), ("drwan", "drawn")):
        with pytest.raises(InputError, match=rf"'{slip}' is not prepared in .* \(did you mean {meant}\?\): run"):
            open_set(tmp_path, slip)


def test_a_name_is_never_a_path(faces: Faces, tmp_path: Path) -> None:
    put(faces, tmp_path)
    (tmp_path / "other").mkdir()
    assert not is_prepared(tmp_path / "other", "../drawn")


@pytest.mark.parametrize(
    ("file_name", "damage"),
    [
        *((name, damage) for name in ("images.npy", "rows.parquet") for damage in ("truncated", "rubbish", "gone")),
        *(("manifest.json", damage) for damage in ("truncated", "rubbish")),  # gone: it counts as not prepared
    ],
)
def test_damage_names_the_file(faces: Faces, tmp_path: Path, file_name: str, damage: str) -> None:
    put(faces, tmp_path)
    path = tmp_path / "drawn" / file_name
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"rubbish" * 100)
    with pytest.raises(InputError, match=rf"{file_name} is damaged \(.*prepare it again"):
        open_set(tmp_path, "drawn")


def test_a_pickle_in_place_of_the_images_is_not_opened(faces: Faces, tmp_path: Path) -> None:
    put(faces, tmp_path)
    np.save(tmp_path / "drawn" / "images.npy", np.array([{"a": 1}] * 105, dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"images\.npy is damaged"):
        open_set(tmp_path, "drawn")


def test_another_schema_is_told(faces: Faces, tmp_path: Path) -> None:
    put(faces, tmp_path)
    path = tmp_path / "drawn" / "manifest.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 3'))
    with pytest.raises(InputError, match="has schema 3, this version reads 1 and 2"):
        open_set(tmp_path, "drawn")


def test_prepared_names(faces: Faces, tmp_path: Path) -> None:
    assert prepared_names(tmp_path / "missing") == []
    put(faces, tmp_path, "b")
    put(faces, tmp_path, "a")
    (tmp_path / "c").mkdir()
    assert prepared_names(tmp_path) == ["a", "b"]
