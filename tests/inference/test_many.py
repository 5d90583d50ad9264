"""Many faces: a folder or a table of paths, answered batch by batch; one that cannot be read loses nothing."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facex_tune import cli
from facex_tune.emotions import GREY_48
from facex_tune.errors import InputError
from facex_tune.inference import answers, many
from facex_tune.inference.answers import Asked
from facex_tune.inference.predict import of_run
from facex_tune.models import _zoo_table
from facex_tune.runs.store import Run
from tests.evaluation.conftest import new_run, write_data

EMOTIONS = ("angry", "disgust")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("many")
    return new_run(folder / "runs", write_data(folder / "data"))


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Five faces of rising brightness in two folders, something that is no face, and what is no image at all."""
    folder = tmp_path / "faces"
    (folder / "below").mkdir(parents=True)
    for number in range(5):
        image = Image.fromarray(np.full((48, 48), 40 * number, np.uint8))
        image.save(folder / ("below" if number % 2 else ".") / f"{number}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    return folder


def bright(batches: list[int]) -> Asked:
    """Answers "disgust" by brightness, and notes how many faces came at once."""

    def answer(images_NHW: np.ndarray) -> np.ndarray:
        batches.append(len(images_NHW))
        share_N = images_NHW.mean(axis=(1, 2), dtype=np.float32) / 255
        return np.stack([1 - share_N, share_N], axis=1)

    return Asked("bright", EMOTIONS, {}, GREY_48, answer)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_answered_in_batches_and_what_cannot_be_read_keeps_its_row(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "BATCH", 2)
    batches: list[int] = []
    told: list[tuple[int, int]] = []
    out = tmp_path / "new" / "answers.csv"
    found = many.answer(bright(batches), many.listed(faces), out, progress=lambda done, n: told.append((done, n)))
    assert (found.images, found.unread) == (6, 1)
    assert found.first_problem.startswith("not an image that can be read")
    assert (sum(batches), max(batches)) == (5, 2)
    assert told == [(2, 6), (4, 6), (6, 6)]
    by_name = {Path(row["file"]).name: row for row in rows(out)}
    assert sorted(by_name) == ["0.png", "1.png", "2.png", "3.png", "4.png", "broken.png"]
    assert {name: row["emotion"] for name, row in by_name.items()} == {
        **{f"{number}.png": EMOTIONS[40 * number > 127] for number in range(5)},
        "broken.png": "",
    }
    assert float(by_name["3.png"]["disgust"]) == pytest.approx(120 / 255, abs=1e-6)
    assert by_name["broken.png"]["problem"] == found.first_problem
    assert [path.name for path in out.parent.iterdir()] == ["answers.csv"]


def test_a_run_that_breaks_off_leaves_no_half_table(faces: Path, tmp_path: Path) -> None:
    def fails(images_NHW: np.ndarray) -> np.ndarray:
        raise MemoryError

    out = tmp_path / "answers.csv"
    out.write_text("before", encoding="utf-8")
    with pytest.raises(MemoryError):
        many.answer(Asked("x", EMOTIONS, {}, GREY_48, fails), many.listed(faces), out)
    assert out.read_text(encoding="utf-8") == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "faces"]


def test_a_table_names_its_images_from_its_own_folder(faces: Path) -> None:
    table = faces / "list.csv"
    table.write_text("who,path\nann,0.png\nbob,below/1.png\n", encoding="utf-8")
    assert many.listed(table) == [faces / "0.png", faces / "below" / "1.png"]
    assert many.listed(table, "path") == many.listed(table)


@pytest.mark.parametrize(
    ("content", "column", "said"),
    [
        ("who,what\na,b\n", None, "which column holds the paths"),
        ("who,path\na,b.png\n", "paht", "no such column; did you mean path"),
        ("who,path\na,\n", None, "row 1 names no image"),
        ("path\n", None, "no image in it"),
        ("", None, "which column|no image"),
        ("path\n\x00\xff", None, "no CSV file that can be read"),
    ],
)
def test_a_wrong_table_is_told(tmp_path: Path, content: str, column: str | None, said: str) -> None:
    table = tmp_path / "list.csv"
    table.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=said):
        many.listed(table, column)


def test_a_table_has_a_bound_of_rows_and_of_what_a_line_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "MOST_IMAGES", 3)
    table = tmp_path / "list.csv"
    table.write_text("path\n" + "a.png\n" * 3, encoding="utf-8")
    assert len(many.listed(table)) == 3
    table.write_text("path\n" + "a.png\n" * 4, encoding="utf-8")
    with pytest.raises(InputError, match=r"more than 3 rows; split it"):
        many.listed(table)
    for said in ("path\n" + "a" * 2**17, "path," + "a" * 2**17):
        table.write_text(said, encoding="utf-8")
        with pytest.raises(InputError, match=r"no CSV file that can be read \(a line of more than 65,536 characters\)"):
            many.listed(table)


def test_a_name_for_writing_cannot_be_foreseen(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (names.append(Path(old).name), replace(old, new)))
    for _ in range(2):
        many.answer(bright([]), many.listed(faces), tmp_path / "answers.csv")
    _zoo_table.write(tmp_path / "zoo.csv", [])
    _zoo_table.write(tmp_path / "zoo.csv", [])
    assert len(set(names)) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "faces", "zoo.csv"]


def test_no_cell_of_the_answers_is_a_formula(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(faces)
    (faces / "broken.png").rename(faces / "=1+1.png")
    out = tmp_path / "answers.csv"
    many.answer(bright([]), [Path("=1+1.png"), Path("0.png")], out)
    assert [row["file"] for row in rows(out)] == ["'=1+1.png", "0.png"]


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    return int(str(ended.value.code)), captured.out, captured.err


def test_the_command_writes_the_answers_of_the_model(
    run: Run, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--storage", run.storage, "--device", "cpu")
    out = tmp_path / "answers.csv"
    assert call(capsys, "predict", run.name, faces, *where)[2].startswith(f"error: IMAGES {faces}: the answers of a f")
    code, said, err = call(capsys, "predict", run.name, faces, "--out", out, "--json", *where)
    assert code == 0
    assert json.loads(said) | {"emotions": []} == {
        "version": 1, "model": f"{run.name}/t0001-s0", "emotions": [], "images": 6, "unread": 1, "answers": str(out),
    }  # fmt: skip
    assert "note: 1 images have no answer" in err
    first = rows(out)[0]
    document = json.loads(call(capsys, "predict", run.name, first["file"], "--json", *where)[1])
    told = document["images"][0]
    assert first["emotion"] == told["emotion"]
    assert float(first["happy"]) == pytest.approx(told["probabilities"]["happy"], abs=1e-5)


def test_a_file_that_is_no_onnx_model_of_ours_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "m.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(InputError, match="no ONNX file that can be read"):
        answers.ask(str(path), tmp_path)


def test_a_run_that_is_written_is_not_told_to_be_retrained(tmp_path: Path) -> None:
    run = new_run(tmp_path / "runs", tmp_path / "data", retrained=False)
    with pytest.raises(InputError, match="run `facex-tune retrain "):
        of_run(run, None)
    with run.log(), pytest.raises(InputError, match=f"no retrained model yet: process {os.getpid()} on .* at work"):
        of_run(run, None)
