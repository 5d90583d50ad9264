"""`facex-tune delete`, and where faces leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facex_tune.data import faces
from facex_tune.pipeline import delete as deleting
from facex_tune.runs.store import Run
from facex_tune.search import face_cache
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
