"""`facex-tune delete`, and where faces leave."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import ray.exceptions
from PIL import Image

from facex_tune.data import faces, prepare
from facex_tune.emotions import EMOTIONS
from facex_tune.pipeline import begin
from facex_tune.pipeline import delete as deleting
from facex_tune.pipeline.options import Options
from facex_tune.report import report
from facex_tune.runs.store import Run
from facex_tune.search import data_placement, face_cache, ray_session
from facex_tune.storage import folders
from tests.search.conftest import tiny_data, tiny_study

from .test_cli import Call, call, make_run

__all__ = ["call", "tiny_data"]


@pytest.fixture
def demo(tmp_path: Path) -> Run:
    return make_run(tmp_path / "runs")


def a_set(folder: Path) -> Path:
    """What is taken for a prepared set."""
    folder.mkdir(parents=True)
    for name in ("manifest.json", "rows.parquet", "images.npy"):
        (folder / name).write_text("{}")
    return folder


def test_a_run_goes_with_all_that_is_in_it(call: Call, demo: Run) -> None:
    folder = demo.folder
    assert isinstance(folder, Path)
    (folder / "console.log").write_text("x")
    result = call("delete", "demo", "--yes", "--json")
    assert result.code == 0, result.err
    said = json.loads(result.out)
    assert (said["kind"], said["name"], said["folder"], said["copies"]) == ("run", "demo", str(folder), [])
    assert said["files"] > 3
    assert not folder.exists()
    assert folder.parent.is_dir()


def test_nobody_is_asked_in_silence(call: Call, demo: Run) -> None:
    result = call("delete", "demo")
    assert (result.code, demo.exists()) == (2, True)
    assert "run demo: " in result.err
    assert "--yes" in result.err.splitlines()[-1]


def test_a_run_that_is_written_stays_whole(call: Call, demo: Run) -> None:
    with demo.log():
        result = call("delete", "demo", "--yes")
        assert (result.code, "being written by process" in result.err) == (2, True)
        assert result.err.endswith("; stop it first\n"), "a deletion takes no --run"
    assert demo.history().trials


def test_a_deletion_that_breaks_off_is_repeated(call: Call, demo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (demo.folder / "zzz").mkdir()
    (demo.folder / "zzz" / "last").write_text("x")
    unlink, gone = Path.unlink, []

    def fails_once(path: Path, missing_ok: bool = False) -> None:
        if path.name == "last" and not gone:
            gone.append(path)
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", fails_once)
    result = call("delete", "demo", "--yes")
    assert (result.code, "Permission denied; delete it again" in result.err) == (2, True)
    assert Run.names(demo.storage) == ["demo"]
    assert demo.holder() is None
    assert call("delete", "demo", "--yes").code == 0
    assert not demo.folder.exists()


@pytest.mark.parametrize("cache", ["absolute", "relative"])
def test_a_set_goes_with_the_copies_that_this_host_keeps(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    monkeypatch.setenv(face_cache.CACHE, "cache" if cache == "relative" else str(tmp_path / "cache"))
    folder, broken_off = a_set(tmp_path / "data" / "mine"), a_set(tmp_path / "data" / ".mine.0123456789abcdef")
    copies = [a_set(tmp_path / "cache" / key / "mine") for key in ("k1", "k2-k3")]
    others = [a_set(tmp_path / "data" / "mine2"), a_set(tmp_path / "cache" / "k1" / "mine2")]
    run = Run.create(tmp_path / "runs", "r", tiny_study(), data={"mine": {"sha256": "0"}}, environment={})
    with run.log():
        busy = call("delete", "mine", "--yes")
        assert (busy.code, "is needed by run 'r', which is being written" in busy.err) == (2, True)
    result = call("delete", "mine", "--yes")
    assert result.code == 0, result.err
    assert not any(path.exists() for path in (folder, broken_off, *copies))
    assert all(path.exists() for path in others)
    assert result.out.count("deleted: a copy in") == 2
    assert "--address" in result.out
    assert deleting.look("r", tmp_path / "runs", tmp_path / "data").kind == "run"


def test_a_set_that_is_being_prepared_stays(call: Call, tmp_path: Path) -> None:
    folder, other = a_set(tmp_path / "data" / "mine"), a_set(tmp_path / "data" / ".mine2.0123")
    refused = []

    def prepared(file: BinaryIO) -> None:  # in the middle of `data prepare`
        file.write(b"{}")
        refused.append(call("delete", "mine", "--yes"))

    folders.write_folder(folder, dict.fromkeys(("manifest.json", "images.npy"), prepared), 0)
    for result in refused:
        assert (result.code, "set 'mine' is being prepared (in " in result.err) == (2, True)
    assert len(refused) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["images.npy", "manifest.json"]
    assert call("delete", "mine", "--yes").code == 0
    assert other.exists()
    assert not folder.exists()


def test_where_folders_cannot_be_locked_a_young_one_stays(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_locked", lambda folder: None)
    a_set(tmp_path / "data" / "mine")
    broken_off = a_set(tmp_path / "data" / ".mine.0123456789abcdef")
    assert "is being prepared" in call("delete", "mine", "--yes").err
    for path in (*broken_off.iterdir(), broken_off):
        os.utime(path, (1, 1))
    assert call("delete", "mine", "--yes").code == 0
    assert not broken_off.exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "stays"), [("y", False), ("yes", False), ("n", True), ("", True)])
def test_who_is_asked_decides(
    call: Call, demo: Run, monkeypatch: pytest.MonkeyPatch, answer: str, stays: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    result = call("delete", "demo")
    assert "run demo: " in result.err
    assert "delete it for good? [y/N]" in result.err
    assert (result.code, demo.exists()) == ((2, True) if stays else (0, False))
    assert ("nothing was deleted" in result.err) == stays


def test_copies_of_every_host_go_with_a_set(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a host does is tested above; here its answers are those of two folders."""
    caches = {f"host{number}": tmp_path / f"cache{number}" for number in (1, 2)}
    copies = [a_set(cache / "key" / "mine") for cache in caches.values()]
    joined: list[str] = []

    @contextlib.contextmanager
    def connected(address: str) -> Iterator[None]:
        joined.append(address)
        yield

    def asked(nodes: list[str], act: Callable[[str], list[str]], said: str) -> dict[str, list[str]]:
        answers = {}
        for node in nodes:
            monkeypatch.setenv(face_cache.CACHE, str(caches[node]))
            answers[node] = act(said)
        return answers

    monkeypatch.setattr(ray_session, "connected", connected)
    monkeypatch.setattr(data_placement, "_nodes", lambda: list(caches))
    monkeypatch.setattr(data_placement, "_asked", asked)
    folder = a_set(tmp_path / "data" / "mine")
    result = call("delete", "mine", "--yes", "--address", "10.0.0.1:6379", "--json")
    assert result.code == 0, result.err
    assert (joined, len(json.loads(result.out)["copies"])) == (["10.0.0.1:6379"], 2)
    assert not any(path.exists() for path in (folder, *copies))

    def lost(*_: object) -> dict[str, list[str]]:
        raise ray.exceptions.GetTimeoutError

    monkeypatch.setattr(data_placement, "_asked", lost)
    a_set(folder)
    result = call("delete", "mine", "--yes", "--address", "10.0.0.1:6379")
    assert (result.code, "a host of the cluster has not answered (GetTimeoutError)" in result.err) == (2, True)
    assert folder.exists()


def test_neither_run_nor_report_tell_where_faces_were_read_from(tmp_path: Path) -> None:
    source = tmp_path / "where" / "ann" / "keeps"
    for number, emotion in enumerate(EMOTIONS[:7]):
        for split in ("train", "validation", "test"):
            place = source / split / emotion
            place.mkdir(parents=True)
            pixels_HW = np.random.default_rng(number).integers(0, 255, (48, 48), np.uint8)
            Image.fromarray(pixels_HW).save(place / f"{split}.png")
    prepare.prepare("folder", source, tmp_path / "data", set_name="mine")
    options = Options(storage=tmp_path / "runs", data_dir=tmp_path / "data", device="cpu")
    study = tiny_study().model_copy(update={"data": "mine"})
    run = begin.create(study, "r", options, {})
    assert run.header["data"]["mine"]["source"]["path"] == "keeps"
    told = report.manifests(run, options.data_dir)
    old = faces.read_manifest(options.data_dir, "mine")  # what runs of before kept
    assert old["source"]["path"] == str(source)
    (tmp_path / "old").mkdir()
    kept = Run.create(tmp_path / "old", "r", study, data={"mine": old}, environment={})
    for text in ((run.folder / "run.json").read_text(), *map(json.dumps, (told, report.manifests(kept, None)))):
        assert '"path": "keeps"' in text
        assert "where" not in text


def test_what_is_meant_must_be_clear(call: Call, demo: Run, tmp_path: Path) -> None:
    a_set(tmp_path / "data" / "demo")
    assert "say --kind run or --kind set" in call("delete", "demo", "--yes").err
    assert call("delete", "demo", "--yes", "--kind", "set").code == 0
    assert demo.exists()
    for words in (("nothing",), ("demo", "--kind", "set"), ("demo", "--kind", "x"), ("../runs",), ("..",), (".",)):
        result = call("delete", *words, "--yes")
        assert (result.code, len(result.err.splitlines())) == (2, 1), words
    (tmp_path / "runs" / "linked").symlink_to(demo.folder)
    assert "is a link to" in call("delete", "linked", "--yes").err
    assert demo.exists()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"name": "x", "path": "/home/ann/faces.zip"}, {"name": "x", "path": "faces.zip"}),
        ({"name": "x", "path": "../ann/faces/"}, {"name": "x", "path": "faces"}),
        ({"name": "x", "path": "C:\\Users\\ann\\faces.zip"}, {"name": "x", "path": "faces.zip"}),
        ({"name": "x", "path": None, "incomplete": True}, {"name": "x", "path": None, "incomplete": True}),
        ({"labels": "/home/ann/a.csv:emotion", "map": {"a": "b"}}, {"labels": "a.csv:emotion", "map": {"a": "b"}}),
        ({"subject": r"(S\d+)/.*"}, {"subject": r"(S\d+)/.*"}),
    ],
)
def test_where_a_set_was_read_from_stays_here(source: dict[str, object], told: dict[str, object]) -> None:
    assert faces.shareable({"n": 3, "source": source}) == {"n": 3, "source": told}
