from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import run

import pytest

from facex_tune.data import prepare as room
from facex_tune.data.faces import open_set, prepared_names
from facex_tune.data.prepare import find, names, prepare
from facex_tune.errors import InputError


def test_the_folder_listing_names_the_sources() -> None:
    assert names() == ["ckplus", "fer2013", "ferplus", "folder", "synthetic", "synthetic_lab"]


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
    first = prepare("fer2013", fer2013_folder, data)
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    assert prepare("fer2013", fer2013_folder, data) == first
    assert prepare("fer2013", zipped(fer2013_folder), data) == first
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    assert len(open_set(data, "fer2013")) == 105


def test_skipped_files_reach_the_manifest(ckplus_folder: Path, tmp_path: Path) -> None:
    broken = next((ckplus_folder / "fear").iterdir())
    broken.write_bytes(b"")
    manifest = prepare("ckplus", ckplus_folder, tmp_path / "data")["ckplus"]
    assert manifest["n"] == 539
    assert [skip["file"] for skip in manifest["skipped"]] == [f"fear/{broken.name}"]
    assert manifest["source"] == {"name": "ckplus", "path": str(ckplus_folder)}


def test_what_was_skipped_and_has_gone_since_is_forgotten(ckplus_folder: Path, tmp_path: Path) -> None:
    broken = ckplus_folder / "fear" / "broken.png"
    broken.write_bytes(b"")
    first = prepare("ckplus", ckplus_folder, tmp_path / "data")["ckplus"]
    broken.unlink()
    second = prepare("ckplus", ckplus_folder, tmp_path / "data")["ckplus"]
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


def test_faces_can_be_imported_with_numpy_alone() -> None:
    code = (
        "import sys, facex_tune.data.faces, facex_tune.emotions; "
        "print([m for m in ('torch', 'ray', 'pandas', 'pyarrow', 'PIL') if m in sys.modules])"
    )
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
