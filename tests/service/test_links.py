"""Links in the storage of a service lead nowhere: who may write there reads, and writes, no other file through it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from facex_tune.pipeline.options import Options
from facex_tune.runs import overview
from facex_tune.runs.store import Run
from facex_tune.service import bundle, inside
from facex_tune.service.console import FILE as CONSOLE
from facex_tune.service.manager import Manager
from facex_tune.storage import files, regular
from facex_tune.storage.files import DamagedRun
from tests.search.conftest import tiny_study

from .conftest import Client, write_run

SECRET = '{"secret": "told to nobody"}'


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "foreign.json"
    path.write_text(SECRET)
    return path


def folder_of(run: Run) -> Path:
    assert isinstance(run.folder, Path)
    return run.folder


def test_a_console_that_is_a_link_is_neither_read_nor_written(
    service: Client, some_run: Run, options: Options, foreign: Path
) -> None:
    (folder_of(some_run) / CONSOLE).symlink_to(foreign)
    said = service.ask("/api/runs/night/console")[1]
    assert b"a link, or no regular file" in said
    assert b"told to nobody" not in said
    status, body = service.ask("/api/runs/night/resume", method="POST")
    assert (status, b"a link, or no regular file" in body) == (409, True)
    assert foreign.read_text() == SECRET


def test_a_console_that_is_a_pipe_keeps_nobody_waiting(service: Client, some_run: Run) -> None:
    os.mkfifo(folder_of(some_run) / CONSOLE)
    assert b"no regular file" in service.ask("/api/runs/night/console")[1]


PLACES = (
    "run.json", "lease.json", "lease.lock", "console.log", "note", "events/000009.jsonl", "evaluation/fer2013.json",
    "evaluation/fer2013.faces.npz", "report/data.csv", "report/figures/a.svg", "final/t0000-s0/config.json",
    "final/t0000-s0/last.safetensors", "factors/c01/config.json", "validation/t0000-s0.parquet",
    "trials/t0000/last.safetensors", "trials/t0001/a/b",
)  # fmt: skip


@pytest.mark.parametrize("path", PLACES)
def test_records_that_are_links_are_refused(service: Client, some_run: Run, foreign: Path, path: str) -> None:
    link = folder_of(some_run) / path
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(foreign)
    status, body = service.ask("/api/runs/night")
    assert (status, b"a link, or no regular file" in body, b"told to nobody" in body) == (409, True, False)
    listed = service.json("/api/runs")["runs"]
    assert [(run["run"], run["state"]) for run in listed] == [("night", "damaged")]


@pytest.mark.parametrize(
    "room", ["events", "evaluation", "report", "final", "factors", "validation", "trials", "trials/t0000"]
)
def test_rooms_that_are_links_are_refused(service: Client, some_run: Run, tmp_path: Path, room: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.json").write_text(SECRET)
    shutil.rmtree(folder_of(some_run) / room, ignore_errors=True)
    (folder_of(some_run) / room).symlink_to(tmp_path / "elsewhere")
    assert service.ask("/api/runs/night/files")[0] == 409


@pytest.mark.parametrize("path", ["run.json", "lease.json", "events/000002.jsonl", "evaluation/fer2013.json"])
def test_records_are_opened_without_following_links(some_run: Run, foreign: Path, path: str) -> None:
    """As if the link were put there after the look at the folder."""
    link = folder_of(some_run) / path
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(foreign)
    run = Run(some_run.storage, some_run.name)
    if path == "lease.json":
        assert run.holder() is None
        return
    with pytest.raises(DamagedRun, match="a link, or no regular file"):
        overview.of_run(run, top=3)


def test_rooms_that_become_links_are_not_followed(some_run: Run, tmp_path: Path) -> None:
    for room in ("events", "evaluation"):
        place = folder_of(some_run) / room
        place.mkdir(exist_ok=True)
        place.rename(tmp_path / room)
        (tmp_path / room / "000007.jsonl").write_text("{}\n")
        (tmp_path / room / "fer2013.json").write_text(SECRET)
        place.symlink_to(tmp_path / room)
        with pytest.raises(DamagedRun, match="a link, or no regular file"):
            overview.of_run(Run(some_run.storage, some_run.name), top=3)
        place.unlink()
        (tmp_path / room).rename(place)
        (place / "000007.jsonl").unlink()
        (place / "fer2013.json").unlink()


def test_a_folder_of_more_than_can_be_looked_at_is_refused(
    service: Client, some_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.ask("/api/runs/night")[0] == 200
    monkeypatch.setattr(inside, "MOST_ENTRIES", 5)
    status, body = service.ask("/api/runs/night")
    assert (status, b"more than 5 files and folders" in body) == (409, True)


def test_a_large_folder_is_not_looked_at_for_each_request(some_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "_MANY", 0)
    monkeypatch.setattr(inside, "_WHILE", 1e9)
    looks: list[Path] = []
    monkeypatch.setattr(inside, "_entries", lambda folder: looks.append(folder) or sum(range(10**5)))
    storage = folder_of(some_run).parent
    for _ in range(3):
        inside.check(storage, "night")
    assert len(looks) == 1


def test_a_run_that_leads_out_of_the_storage_is_refused(
    service: Client, options: Options, some_run: Run, tmp_path: Path
) -> None:
    outside = write_run(tmp_path / "elsewhere", "hidden", tiny_study())
    (options.storage / "hidden").symlink_to(outside.folder)
    for path in ("", "/files", "/archive", "/console", "/report/index.html", "/events"):
        status, body = service.ask(f"/api/runs/hidden{path}")
        assert (status, b"a link out of the storage" in body) == (409, True)
    listed = {run["run"]: run["state"] for run in service.json("/api/runs")["runs"]}
    assert listed["hidden"] == "damaged"
    assert listed["night"] != "damaged"


def test_between_a_look_and_the_opening_nothing_is_followed(some_run: Run, foreign: Path) -> None:
    folder = folder_of(some_run)
    (folder / "report" / "swapped.html").symlink_to(foreign)
    (folder / "pages").symlink_to(foreign.parent)
    for path in ("report/swapped.html", "pages/foreign.json"):
        with pytest.raises(DamagedRun, match="a link"):
            bundle.opened(folder, path)
    with pytest.raises(DamagedRun):
        regular.appended(folder, "report/swapped.html")
    with bundle.opened(folder, "report/index.html") as file:
        assert file.read() == b"<p>report</p>"


def test_a_storage_behind_a_link_is_served(options: Options, some_run: Run, tmp_path: Path) -> None:
    (tmp_path / "mount").symlink_to(options.storage)
    assert Manager(Options(storage=tmp_path / "mount", data_dir=options.data_dir)).open("night").name == "night"


def test_a_name_for_writing_cannot_be_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (names.append(Path(old).name), replace(old, new)))
    for _ in range(2):
        files.write_bytes(tmp_path / "x.json", b"{}")
    assert len(set(names)) == 2


@pytest.mark.parametrize("said", ["bytes=5-", "bytes=5-7", "bytes=0-", "bytes=7-5", "bytes=a", "bytes=5-99999999"])
def test_ranges_of_a_file(service: Client, some_run: Run, said: str) -> None:
    path = "/api/runs/night/files/report/index.html"
    whole = service.ask(path)[1]
    status, part = service.ask(path, headers={"Range": said})
    parts = {"bytes=0-": whole, "bytes=5-": whole[5:], "bytes=5-7": whole[5:8], "bytes=5-99999999": whole[5:]}
    assert (status, part) == ((206, parts[said]) if said in parts else (200, whole))
    assert service.ask(path, headers={"Range": "bytes=13-"})[0] == 416
