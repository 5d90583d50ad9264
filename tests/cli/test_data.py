"""The data commands: what they print, and what they refuse."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facex_tune import cli
from facex_tune.data.faces import Skipped, majority_labels, open_set, write
from facex_tune.data.sources import synthetic

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in this process: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FACEX_DATA", raising=False)

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture
def my_faces(tmp_path: Path) -> Path:
    """A folder with two classes, one of which is no emotion."""
    for name, shade in (("happy", 10), ("boredom", 200)):
        (tmp_path / "mine" / name).mkdir(parents=True)
        pixels_HW = np.random.default_rng(shade).integers(0, 256, (80, 64), dtype=np.uint8)
        Image.fromarray(pixels_HW).convert("RGB").save(tmp_path / "mine" / name / "1.jpg")
    return tmp_path / "mine"


def test_a_folder_is_prepared_with_its_classes_mapped(call: Call, my_faces: Path) -> None:
    words = ["data", "prepare", "folder", my_faces, "--as", "mine"]
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "--map NAME=EMOTION" in err
    assert "=neutral" not in err, "a hint never invents a label"
    assert call(*words, "--map", "boredom=neutral")[1] == f"mine: 2 faces (test 2), in {Path.cwd()}/data/mine\n"
    code, out, err = call(*words, "--drop", "boredom")
    assert (code, out) == (0, f"mine: 1 faces (test 1), in {Path.cwd()}/data/mine\n")
    assert "replaced other faces of that name" in err
    err = call(*words, "--drop", "boredom")[2]
    assert "replaced" not in err, "the same again"
    assert "note: mine: all its faces are test faces: to train on some" in err
    (my_faces / "train").mkdir()
    (my_faces / "happy").rename(my_faces / "train" / "happy")
    code, out, err = call(*words, "--drop", "boredom")
    assert "mine: 1 faces (train 1)" in out
    assert "test faces" not in err


def test_other_sources_refuse_the_folders_options(call: Call, my_faces: Path) -> None:
    for option in (["--as", "x"], ["--map", "boredom=neutral"], ["--drop", "boredom"]):
        code, out, err = call("data", "prepare", "ckplus", my_faces, *option)
        assert (code, out) == (2, "")
        assert "do not go with `data prepare" in err


@pytest.mark.parametrize("source", ["fer2013", "ckplus"])
def test_a_picture_in_the_place_of_a_set_is_named_and_none_of_its_bytes_is_printed(
    call: Call, tmp_path: Path, source: str
) -> None:
    Image.fromarray(np.full((48, 48), 90, np.uint8)).save(tmp_path / "face.png")
    said = "error: face.png is one picture (PNG): name the folder, zip or table of the data set\n"
    assert call("data", "prepare", source, "face.png") == (2, "", said)


def test_the_list_says_how_to_prepare_a_folder(call: Call) -> None:
    listed = call("data", "list")[1]
    assert "facex-tune data prepare folder SOURCE --as NAME  (" in listed, "the name once"


def prepared(folder: Path) -> None:
    """Set `mine`: twelve drawn faces; the first test face also stands in train."""
    faces = synthetic.generate(12, seed=2)
    images = faces.images_NHW.copy()
    images[8] = images[0]
    split_N = np.array(["train"] * 8 + ["test"] * 4)
    write(replace(faces, images_NHW=images, split_N=split_N), folder / "data", "mine", source={}, skipped=[])


def test_the_audit_tells_what_stands_in_training(call: Call, tmp_path: Path) -> None:
    prepared(tmp_path)
    code, out, err = call("data", "audit", "mine", "--out", "seen")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "mine 12 1 of 2 " in lines[1]
    assert "mine test mine train 1 0 0" in lines
    assert "mine test 4 1 0 0 1 (25.0%)" in lines
    assert lines[-2:] == [f"written: {Path.cwd()}/seen/{name}" for name in ("audit.json", "pairs.png")]


def test_the_audit_as_json_is_one_document(call: Call, tmp_path: Path) -> None:
    prepared(tmp_path)
    code, out, err = call("data", "audit", "mine", "--json", "--out", "seen")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "seen" / "audit.json").read_bytes())
    assert err.splitlines() == [f"written: {Path.cwd()}/seen/{name}" for name in ("audit.json", "pairs.png")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["audit", "mine", "mine"], "'mine' is named twice"),
        (["audit", "mine", "gone"], "data prepare folder SOURCE --as gone"),
        (["audit", "mine", "--out", "data/mine/images.npy"], "data/mine/images.npy/audit.json: File exists"),
    ],
)
def test_wrong_words_are_one_line(call: Call, tmp_path: Path, words: list[str], said: str) -> None:
    prepared(tmp_path)
    code, _, err = call("data", *words)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert said in err


def test_a_set_is_shown_split_by_split(call: Call, tmp_path: Path) -> None:
    prepared(tmp_path)
    faces = open_set(tmp_path / "data", "mine")
    code, out, err = call("data", "show", "mine")
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line}
    train, test = (np.bincount(faces.where(split).labels_N, minlength=8) for split in ("train", "test"))
    shown = lines["happy"]
    assert [shown[1], shown[2]] == [str(train[3]), f"{train[3] / 8:.1%}"]
    assert (train[3], test[3]) != (0, 0)
    assert lines["all"] == ["all", "8", "4"]
    assert lines["groups"] == ["groups", "8", "4"]
    assert "annotators' majority" in out


def test_a_set_is_shown_as_json_and_as_pictures(call: Call, tmp_path: Path) -> None:
    prepared(tmp_path)
    code, out, err = call("data", "show", "mine", "--json", "--out", "pictures")
    assert code == 0
    document = json.loads(out)
    faces = open_set(tmp_path / "data", "mine")
    assert faces.votes_NC is not None
    majority_N = majority_labels(faces.votes_NC)
    assert sum(document["counts"]["train"].values()) == 8
    assert sum(sum(each.values()) for each in document["majority_counts"].values()) == (majority_N >= 0).sum()
    assert (document["n"], document["sequences"], document["groups"]) == (12, 0, {"train": 8, "test": 4})
    assert err.splitlines() == [f"written: {Path.cwd()}/pictures/{name}" for name in ("classes.png", "faces.png")]
    for path in (tmp_path / "pictures").iterdir():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert np.asarray(picture.convert("L")).std() > 5


def test_skipped_rows_are_told_by_reason(call: Call, tmp_path: Path) -> None:
    faces = synthetic.generate(12, seed=2)
    skipped = [Skipped("a.jpg", None, "broken"), Skipped("b.jpg", None, "broken"), Skipped("c.jpg", None, "too small")]
    write(replace(faces, votes_NC=None), tmp_path / "data", "mine", source={}, skipped=skipped)
    out = call("data", "show", "mine")[1]
    assert out.splitlines()[-2:] == ["skipped 2: broken", "skipped 1: too small"]
    assert "majority" not in out
    assert json.loads(call("data", "show", "mine", "--json")[1])["majority_counts"] is None


def test_showing_what_is_not_prepared_is_one_line(call: Call) -> None:
    code, out, err = call("data", "show", "ckplus")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f"error: data set 'ckplus' is not prepared in {Path.cwd()}/data: "
        "run `facex-tune data prepare ckplus SOURCE`"
    ]


def test_getting_a_drawn_set_prepares_it(call: Call) -> None:
    code, out, err = call("data", "get", "synthetic_lab")
    assert (code, err) == (0, "")
    assert out == f"synthetic_lab: 600 faces (test 600), in {Path.cwd()}/data/synthetic_lab\n"


def test_getting_without_kagglehub_is_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # importing it fails as where it is not installed
    code, out, err = call("data", "get", "ckplus")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "pip install 'facex-tune[kaggle]'" in err

