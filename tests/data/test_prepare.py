from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, Popen, run

import pytest
from PIL import Image

from facex_tune.data import prepare as room
from facex_tune.data import tree
from facex_tune.data.faces import counts, open_set, prepared_names, read_manifest
from facex_tune.data.importing import Asked, Published
from facex_tune.data.prepare import find, names, prepare
from facex_tune.data.sources import fer2013, synthetic
from facex_tune.errors import InputError
from facex_tune.storage.helpers import processors

PART = Asked(incomplete=True)


def test_the_folder_listing_names_the_sources() -> None:
    assert names() == [
        *("affectnet", "arrays", "caers", "ckplus", "expw", "fer2013", "ferg", "ferplus", "folder", "huggingface"),
        *("jaffe", "kdef", "oulu_casia", "rafdb", "ravdess", "roboflow", "sfew", "synthetic", "synthetic_lab", "table"),
        "webdataset",
    ]


@pytest.mark.parametrize("name", names())
def test_every_source_says_what_it_is(name: str) -> None:
    part = find(name)
    assert part.DESCRIPTION
    assert "\n" not in part.DESCRIPTION
    assert isinstance(part.NEEDS_SOURCE, bool)
    assert part.load.__doc__


def test_synthetic_writes_two_sets(tmp_path: Path) -> None:
    manifests = prepare("synthetic", None, tmp_path)
    assert {name: manifest["n"] for name, manifest in manifests.items()} == {"synthetic": 5600, "synthetic_lab": 600}
    assert prepared_names(tmp_path) == ["synthetic", "synthetic_lab"]


def test_preparing_again_or_from_the_zip_changes_nothing(
    fer2013_folder: Path, zipped: Callable[..., Path], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    first = prepare("fer2013", fer2013_folder, data, asked=PART)
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    assert prepare("fer2013", fer2013_folder, data, asked=PART) == first
    assert prepare("fer2013", zipped(fer2013_folder), data, asked=PART) == first
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    assert len(open_set(data, "fer2013")) == 105


def test_a_set_that_falls_short_is_refused_or_marked(fer2013_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not proven: 105 of 35,887 published faces, too few of train angry 5 of"):
        prepare("fer2013", fer2013_folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    manifest = prepare("fer2013", fer2013_folder, tmp_path / "data", asked=PART)["fer2013"]
    assert manifest["proven"] is False
    assert manifest["incomplete"].startswith("105 of 35,887 published faces")
    assert read_manifest(tmp_path / "data", "fer2013") == manifest


def published_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the small set had been published."""
    found = fer2013.load(folder, lambda done, total: None).faces
    monkeypatch.setattr(fer2013, "PUBLISHED", (Published(counts(found)),))


@pytest.mark.parametrize("said", [True, False])
def test_an_incomplete_set_never_replaces_a_proven_one(
    fer2013_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    published_as_it_is(fer2013_folder, monkeypatch)
    data = tmp_path / "data"
    whole = prepare("fer2013", fer2013_folder, data)["fer2013"]
    assert (whole["proven"], whole["incomplete"]) == (True, "")
    if not said:  # as an older version wrote it
        path = data / "fer2013" / "manifest.json"
        path.write_text(path.read_text().replace('"proven": true', '"proven": null'))
    next((fer2013_folder / "train" / "sad").iterdir()).unlink()
    with pytest.raises(InputError, match=r"fer2013 is proven to be fer2013 and stays: .* --data"):
        prepare("fer2013", fer2013_folder, data, asked=PART)
    assert read_manifest(data, "fer2013")["n"] == 105
    assert prepare("fer2013", fer2013_folder, tmp_path / "other", asked=PART)["fer2013"]["n"] == 104


def test_more_faces_than_were_published_are_another_set(
    fer2013_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published_as_it_is(fer2013_folder, monkeypatch)
    face = next((fer2013_folder / "train" / "sad").iterdir())
    shutil.copy(face, face.with_name("Training_4999.jpg"))
    with pytest.raises(InputError, match="this is not fer2013: train sad 6 where 5 were published"):
        prepare("fer2013", fer2013_folder, tmp_path / "data", asked=PART)


def test_skipped_files_reach_the_manifest(ckplus_folder: Path, tmp_path: Path) -> None:
    broken = next((ckplus_folder / "fear").iterdir())
    broken.write_bytes(b"")
    manifest = prepare("ckplus", ckplus_folder, tmp_path / "data", asked=PART)["ckplus"]
    assert manifest["n"] == 539
    assert [skip["file"] for skip in manifest["skipped"]] == [f"fear/{broken.name}"]
    assert manifest["source"] == {"name": "ckplus", "path": str(ckplus_folder), "incomplete": True}


def test_what_was_skipped_and_has_gone_since_is_forgotten(ckplus_folder: Path, tmp_path: Path) -> None:
    broken = ckplus_folder / "fear" / "broken.png"
    broken.write_bytes(b"")
    first = prepare("ckplus", ckplus_folder, tmp_path / "data", asked=PART)["ckplus"]
    broken.unlink()
    second = prepare("ckplus", ckplus_folder, tmp_path / "data", asked=PART)["ckplus"]
    assert [len(manifest["skipped"]) for manifest in (first, second)] == [1, 0]
    assert first["sha256"] == second["sha256"]


def test_wrong_calls(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown data source 'fer13': did you mean fer2013"):
        prepare("fer13", None, tmp_path)
    with pytest.raises(InputError, match="run `facex-tune data prepare fer2013 SOURCE`"):
        prepare("fer2013", None, tmp_path)
    with pytest.raises(InputError, match="'synthetic' is drawn and takes no SOURCE"):
        prepare("synthetic", tmp_path, tmp_path)
    assert prepared_names(tmp_path) == []


def test_a_faulty_source_writes_nothing(fer2013_folder: Path, tmp_path: Path) -> None:
    for file in (fer2013_folder / "train" / "fear").iterdir():
        file.unlink()
    with pytest.raises(InputError):
        prepare("fer2013", fer2013_folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_new_file_is_a_new_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_up_source.py").write_text("DESCRIPTION = 'x'\nNEEDS_SOURCE = False\n")
    monkeypatch.setattr(room.sources, "__path__", [*room.sources.__path__, str(tmp_path)])
    assert "made_up_source" in names()
    assert find("made_up_source").DESCRIPTION == "x"


@pytest.fixture
def many_pictures(tmp_path: Path) -> Path:
    """As many as processes of their own decode, and large enough that they have work for a while; one file, linked."""
    first = tmp_path / "first.jpg"
    drawn = synthetic.generate(1, seed=1).images_NHW[0]
    Image.fromarray(drawn).resize((700, 700)).save(first)
    for at in range(tree._MANY):
        path = tmp_path / "many" / "train" / ("happy", "sad")[at % 2] / f"{at:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(first)
    return tmp_path / "many"


def children_of(pid: int) -> set[int]:
    """Processes, by their ids."""
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(word) for path in listed for word in path.read_text().split()}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are read from /proc")
@pytest.mark.skipif(processors() < 2, reason="one CPU has no helpers")
def test_ctrl_c_while_helpers_decode_leaves_nothing(many_pictures: Path, tmp_path: Path) -> None:
    """As in a terminal: to the whole process group, once the bar counts faces; the bar also tells the time left."""
    ours, theirs = pty.openpty()
    command = "from facex_tune.cli import main; main()"
    words = ["data", "prepare", "folder", str(many_pictures), "--as", "many", "--data", str(tmp_path / "data")]
    process = Popen(
        [sys.executable, "-c", command, *words],
        stdin=DEVNULL, stdout=DEVNULL, stderr=theirs, start_new_session=True, env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip
    os.close(theirs)
    seen = ""
    try:
        while not (counted := re.search(r" ([1-9]\d?)% \d:\d\d:\d\d", seen)):
            seen = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", seen + os.read(ours, 4096).decode(errors="replace"))
        assert int(counted[1]) < 100
        helpers = children_of(process.pid)
        assert helpers, "it decodes by itself"
        os.killpg(process.pid, signal.SIGINT)
        with suppress(OSError):  # a terminal's end, as Linux tells it
            while part := os.read(ours, 4096):
                seen += part.decode(errors="replace")
        assert process.wait() == 75, seen
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "interrupted: nothing was begun; give the same command again" in seen
    assert not list((tmp_path / "data").rglob("*"))
    assert not [pid for pid in helpers if Path(f"/proc/{pid}").exists()]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_faces_can_be_imported_with_numpy_alone() -> None:
    code = (
        "import sys, facex_tune.data.faces, facex_tune.emotions; "
        "print([m for m in ('torch', 'ray', 'pandas', 'pyarrow', 'PIL') if m in sys.modules])"
    )
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
