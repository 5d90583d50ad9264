"""Sets of other sizes, and in colour: read as asked, told as they are, and never mixed with others without a word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from forms import FORMS, Form, written  # beside this file
from PIL import Image, ImageOps

from facex_tune.data import audit, copies, training_set
from facex_tune.data.faces import Faces, fingerprint, open_set, read_manifest, told_of, write
from facex_tune.data.importing import Asked
from facex_tune.data.near import near_between
from facex_tune.data.prepare import find, prepare
from facex_tune.data.shapes import coloured, reshaped, told_conversion
from facex_tune.data.sources import synthetic
from facex_tune.emotions import EMOTIONS, GREY_48, RGB, FaceShape
from facex_tune.errors import InputError
from tests.search.conftest import tiny_study

COLOUR_64 = FaceShape(64, RGB)
SHAPED = [form for form in FORMS if "size" in getattr(find(form.source), "OPTIONS", ())]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """28 reddish PNGs of 100×90 pixels in class folders, and their emotions in their folders' names."""
    root = tmp_path_factory.mktemp("pictures")
    drawn = synthetic.generate(28, seed=5, imbalance=0, label_noise=0, size=100)
    for row, image in enumerate(drawn.images_NHW):
        path = root / ("train" if row % 2 else "test") / EMOTIONS[row % 7] / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        tinted = (image[5:95, :, None] * np.array([1.0, 0.7, 0.5])).astype(np.uint8)
        Image.fromarray(tinted).save(path)
    return root


def by_hand(path: Path, face: FaceShape) -> np.ndarray:
    with Image.open(path) as image:
        plain = image.convert("RGB" if face.is_colour else "L")
    return np.asarray(ImageOps.fit(plain, (face.size, face.size), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("face", [GREY_48, FaceShape(96), COLOUR_64, FaceShape(48, RGB)], ids=str)
def test_a_folder_is_prepared_in_the_shape_that_was_asked_for(face: FaceShape, pictures: Path, tmp_path: Path) -> None:
    asked = Asked.parse(size=face.size, colour=face.is_colour)
    manifest = prepare("folder", pictures, tmp_path, set_name="mine", asked=asked)["mine"]
    found = open_set(tmp_path, "mine")
    assert found.face == face == FaceShape.of(manifest) == FaceShape.of(read_manifest(tmp_path, "mine"))
    assert found.images_NHW.shape == face.images(28)
    for image, name in zip(found.images_NHW, found.source_N, strict=True):
        assert np.array_equal(image, by_hand(pictures / str(name), face)), name
    assert manifest["schema"] == (1 if face == GREY_48 else 2), "older versions read 48×48 grey alone, and say so"
    assert [EMOTIONS[label] for label in found.labels_N] == [name.split("/")[1] for name in found.source_N]


def test_a_manifest_from_before_there_were_shapes_is_48_grey(pictures: Path, tmp_path: Path) -> None:
    manifest = prepare("folder", pictures, tmp_path, set_name="mine")["mine"]
    path = tmp_path / "mine" / "manifest.json"
    old = {key: value for key, value in json.loads(path.read_text()).items() if key != "face"}
    path.write_text(json.dumps(old))
    assert open_set(tmp_path, "mine").face == GREY_48
    assert fingerprint(open_set(tmp_path, "mine")) == manifest["sha256"]
    inode = path.stat().st_ino
    prepare("folder", pictures, tmp_path, set_name="mine")
    assert path.stat().st_ino == inode, "the same set is left as it is"


def test_the_fingerprint_of_48_grey_is_the_one_that_it_always_was() -> None:
    faces = synthetic.generate(20, seed=3)
    assert fingerprint(faces) == "7e80b0c2d324c038ee79d945ac8b2f72ad1c4e8b2b13089fa56846a66ae473c7"


def test_a_manifest_that_tells_another_shape_than_its_images_is_damaged(pictures: Path, tmp_path: Path) -> None:
    prepare("folder", pictures, tmp_path, set_name="mine", asked=Asked(size=96))
    path = tmp_path / "mine" / "manifest.json"
    for said, reason in (({"size": 64, "channels": 1}, "28 faces of 64×64 grey"), ({"size": 7}, "size 7")):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"face": said}))
        with pytest.raises(InputError, match=f"is damaged .*{reason}"):
            open_set(tmp_path, "mine")


@pytest.mark.parametrize("size", [0, 20, 47, 257, -96])
def test_a_size_that_no_model_takes_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"--size {size}: faces have a side of 48 to 256 whole pixels"):
        Asked.parse(size=size)


def test_colour_is_refused_of_a_set_without_colours_and_told_of_single_faces(pictures: Path, tmp_path: Path) -> None:
    grey = tmp_path / "grey"
    for row, path in enumerate(sorted(pictures.rglob("*.png"))):
        into = grey / path.relative_to(pictures)
        into.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.convert("L").convert("RGB").save(into.with_suffix(".jpg"), quality=80 + row % 2)
    with pytest.raises(InputError, match=r"--colour: not one of the 28 faces of .* has colours: leave it out"):
        prepare("folder", grey, tmp_path / "data", set_name="mine", asked=Asked(colour=True))
    (grey / "train" / "angry" / "red.png").write_bytes((pictures / "train" / "angry" / "07.png").read_bytes())
    manifest = prepare("folder", grey, tmp_path / "data", set_name="mine", asked=Asked(colour=True))["mine"]
    assert "28 of 29 faces have no colours: their three channels are equal" in told_of(manifest)


@pytest.mark.parametrize(
    ("source", "asked"),
    [("fer2013", Asked(size=96)), ("ferplus", Asked(colour=True)), ("synthetic", Asked(colour=True))],
)
def test_a_set_that_is_48_grey_alone_refuses_other_shapes(source: str, asked: Asked, tmp_path: Path) -> None:
    where = None if source == "synthetic" else tmp_path
    with pytest.raises(InputError, match=rf"do not go with `data prepare {source}`: .*; its faces are 48×48 grey"):
        prepare(source, where, tmp_path / "data", asked=asked)


@pytest.mark.parametrize("form", SHAPED, ids=lambda form: form.name)
def test_every_importer_keeps_labels_and_order_whatever_the_shape(form: Form, tmp_path: Path) -> None:
    there = written(form, tmp_path / "set")
    load = find(form.source).load
    small = load(there.root, lambda done, total: None, form.asked).faces
    other = Asked(**{**vars(form.asked), "size": 64, "colour": True})
    if form.name == "ckplus_48":  # in which there is nothing larger
        with pytest.raises(InputError, match=r"--size 64 --colour: .* holds CK\+ as 48×48 grey alone: the "):
            load(there.root, lambda done, total: None, other)
        return
    large = load(there.root, lambda done, total: None, other).faces
    assert large.face == COLOUR_64
    assert large.source_N.tolist() == small.source_N.tolist()
    assert large.labels_N.tolist() == small.labels_N.tolist()
    assert large.split_N.tolist() == small.split_N.tolist()


def test_faces_become_another_shape_as_pictures_do() -> None:
    faces = synthetic.generate(3, seed=1, size=96).images_NHW
    as_48 = reshaped(faces, GREY_48)
    for face, small in zip(faces, as_48, strict=True):
        assert np.array_equal(small, np.asarray(Image.fromarray(face).resize((48, 48), Image.Resampling.LANCZOS)))
    in_colour = reshaped(faces, FaceShape(96, RGB))
    assert all(np.array_equal(in_colour[..., channel], faces) for channel in range(3))
    assert not coloured(in_colour).any()
    assert np.abs(reshaped(in_colour, FaceShape(96)).astype(int) - faces).max() == 0
    assert reshaped(faces, FaceShape(96)) is faces
    assert told_conversion(FaceShape(96, RGB), GREY_48) == "reduced from 96×96 to 48×48, their colours as grey"
    assert told_conversion(GREY_48, GREY_48) == ""


def test_copies_are_found_across_shapes(pictures: Path, tmp_path: Path) -> None:
    for name, asked in (("small", Asked()), ("large", Asked(size=96)), ("coloured", Asked(size=64, colour=True))):
        prepare("folder", pictures, tmp_path, set_name=name, asked=asked)
    large, small = open_set(tmp_path, "large"), open_set(tmp_path, "small")
    pairs = near_between(large.images_NHW, small.images_NHW)
    assert {(a, a) for a in range(28)} <= set(zip(pairs.first_P.tolist(), pairs.second_P.tolist(), strict=True))
    rows = {row.in_set: row for row in copies.across(tmp_path, "coloured")}
    assert [(row.exact, row.near) for row in rows.values()] == [(0, 28), (0, 28)]
    names = ["small", "coloured"]
    document = audit.document(audit.search(names, tmp_path), names, tmp_path)
    assert document["compared_as"] == "48×48 grey"
    assert [about["face"] for about in document["sets"].values()] == [GREY_48.to_data(), COLOUR_64.to_data()]


def of_shape(face: FaceShape, seed: int) -> Faces:
    drawn = synthetic.generate(70, seed=seed, imbalance=0)
    split_N = np.array(["train"] * 49 + ["public_test"] * 14 + ["test"] * 7)
    return Faces(**{**vars(drawn), "images_NHW": reshaped(drawn.images_NHW, face), "split_N": split_N})


def test_sets_of_several_shapes_are_not_mixed(tmp_path: Path) -> None:
    for seed, (name, face) in enumerate({"grey": GREY_48, "large": FaceShape(96), "coloured": COLOUR_64}.items()):
        write(of_shape(face, seed), tmp_path, name, source={}, skipped=[])
    study = tiny_study(data=["grey", "large"], evaluate={})
    with pytest.raises(InputError, match=r"several shapes \(grey 48×48 grey, large 96×96 grey\), which are not mixed"):
        training_set.load(study, tmp_path)
    alone = tiny_study(data="coloured", evaluate={})
    assert training_set.face_of(alone, tmp_path) == COLOUR_64
    assert training_set.load(alone, tmp_path).train.face == COLOUR_64


def test_a_study_may_say_what_shape_its_faces_must_have(tmp_path: Path) -> None:
    write(of_shape(FaceShape(96), 1), tmp_path, "large", source={}, skipped=[])
    fits = tiny_study(data="large", evaluate={}, face={"size": 96})
    assert training_set.face_of(fits, tmp_path) == FaceShape(96)
    other = tiny_study(data="large", evaluate={}, face={"size": 64, "channels": 3})
    with pytest.raises(InputError, match=r"is for 64×64 colour faces, .* 96×96 grey: .*--size 64 --colour"):
        training_set.load(other, tmp_path)
    assert training_set.face_of(other, tmp_path / "nothing") == COLOUR_64, "before anything is prepared"
    assert "face" not in tiny_study().to_data(), "as studies were before there were shapes"
    assert type(other).from_data(json.loads(json.dumps(other.to_data()))).face_shape == COLOUR_64


@pytest.mark.parametrize("said", [{"size": 20}, {"channels": 2}, {"side": 96}])
def test_a_study_of_another_shape_is_refused(said: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"^face\."):
        tiny_study(face=said)
