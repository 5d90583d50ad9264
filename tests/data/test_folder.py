"""Any class folders: sizes, modes, splits, class names, and every fault named."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facex_tune.data.faces import Faces, Skipped, fingerprint, open_set
from facex_tune.data.importing import Asked, Classes
from facex_tune.data.prepare import prepare
from facex_tune.data.sources import folder
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError


def load(path: Path, renames: tuple[str, ...] = (), drop: tuple[str, ...] = ()) -> tuple[Faces, list[Skipped]]:
    loaded = folder.load(path, lambda done, total: None, Asked(classes=Classes.parse(renames, drop)))
    return loaded.faces, loaded.skipped


def put(image: Image.Image, *parts: object) -> Path:
    path = Path(*map(str, parts))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture
def root(tmp_path: Path, faces: Faces) -> Path:
    """Two faces of each of seven emotions as PNG, in class folders without splits."""
    for row in range(14):
        at = int(np.flatnonzero(faces.labels_N == row % 7)[row // 7])
        put(Image.fromarray(faces.images_NHW[at]), tmp_path, "mine", EMOTIONS[row % 7].title(), f"{row // 7}.png")
    return tmp_path / "mine"


def test_a_flat_folder_is_a_test_set(root: Path, faces: Faces) -> None:
    read, skipped = load(root)
    assert skipped == []
    assert set(read.split_N) == {"test"}
    assert np.bincount(read.labels_N).tolist() == [2] * 7
    assert read.source_N[0] == "Angry/0.png"  # one name in several classes: told apart by the path
    assert np.array_equal(read.images_NHW[0], faces.images_NHW[np.flatnonzero(faces.labels_N == 0)[0]])


@pytest.mark.parametrize("inside", ["", "wrapped/deep/"])
def test_zip_gives_the_folders_faces(root: Path, zipped: Callable[..., Path], inside: str) -> None:
    assert fingerprint(load(zipped(root, inside))[0]) == fingerprint(load(root)[0])


@pytest.mark.parametrize("pattern", ["{split}/{name}", "{name}/{split}", "data/{split}/faces_are_here/{name}"])
def test_splits_by_their_usual_names(root: Path, tmp_path: Path, pattern: str) -> None:
    for split in ("Train", "val", "test"):
        for name in ("anger", "joy"):
            shutil.copytree(root / "Angry", tmp_path / "split" / pattern.format(split=split, name=name))
    read, skipped = load(tmp_path / "split")
    assert skipped == []
    assert read.split_N.tolist() == ["train"] * 4 + ["public_test"] * 4 + ["test"] * 4
    assert sorted(set(read.labels_N)) == [EMOTIONS.index("angry"), EMOTIONS.index("happy")]
    assert read.group_N.max() == 1  # the copies share a group


def test_folders_that_are_links_are_read_as_folders(root: Path, tmp_path: Path) -> None:
    """Classes kept elsewhere, a class of its own in two splits, and a split that is itself a link."""
    (tmp_path / "links" / "train").mkdir(parents=True)
    for name in ("Angry", "Sad"):
        (tmp_path / "links" / "train" / name).symlink_to(root / name)
    (tmp_path / "links" / "val").symlink_to(tmp_path / "links" / "train", target_is_directory=True)
    read, skipped = load(tmp_path / "links")
    assert skipped == []
    assert read.split_N.tolist() == ["train"] * 4 + ["public_test"] * 4


def test_links_that_lead_back_are_left_out(root: Path) -> None:
    """Upwards, sideways and back, and to the folder itself."""
    whole = fingerprint(load(root)[0])
    (root / "Happy" / "all").symlink_to(root)
    (root / "Sad" / "Sad").symlink_to(root / "Sad")
    (root / "Happy" / "up").symlink_to(root.parent)
    faces, skipped = load(root)
    assert skipped == []
    assert fingerprint(faces) == whole


def test_an_image_outside_the_splits_is_skipped(root: Path) -> None:
    shutil.copytree(root / "Sad", root / "train" / "Sad")
    read, skipped = load(root)
    assert len(read) == 2
    assert {skip.reason for skip in skipped} == {"lies in no split, and others do"}


def test_larger_images_are_resized_without_aliasing(tmp_path: Path) -> None:
    stripes_HW = np.tile(np.array([0, 255], np.uint8), (480, 240))  # one pixel wide: mean grey after any good resizing
    put(Image.fromarray(stripes_HW), tmp_path, "a", "happy", "stripes.png")
    gradient_HW = np.tile(np.linspace(0, 255, 480), (480, 1)).astype(np.uint8)
    put(Image.fromarray(gradient_HW), tmp_path, "a", "happy", "gradient.png")
    read, _ = load(tmp_path / "a")
    gradient, stripes = read.images_NHW.astype(int)
    assert np.abs(stripes - 127.5).max() < 6  # the filter is cut off at the border; a bad one shows 0 and 255
    assert np.abs(gradient - np.linspace(0, 255, 48)).max() < 4


@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200), (30, 20)])
def test_the_middle_square_is_kept_in_its_proportions(tmp_path: Path, width: int, height: int) -> None:
    rows, columns = np.mgrid[:height, :width]
    radius = min(width, height) * 0.4
    disc_HW = np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2) < radius
    put(Image.fromarray((disc_HW * 255).astype(np.uint8)), tmp_path, "a", "sad", "disc.png")
    image_HW = load(tmp_path / "a")[0].images_NHW[0] > 127
    assert abs(int(image_HW.any(0).sum()) - int(image_HW.any(1).sum())) <= 1
    assert abs(image_HW.sum() - np.pi * (0.4 * 48) ** 2) < 100  # of 1,158 pixels; the rim of the smallest is coarse


COLOURS = [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29)]


@pytest.mark.parametrize(("colour", "grey"), COLOURS)
def test_colour_becomes_grey_by_luminance(tmp_path: Path, colour: tuple[int, int, int], grey: int) -> None:
    image = Image.new("RGB", (96, 96), colour)
    put(image, tmp_path, "a", "sad", "rgb.png")
    put(image.convert("RGBA"), tmp_path, "a", "sad", "rgba.png")
    put(image.quantize(4), tmp_path, "a", "sad", "palette.png")
    put(image, tmp_path, "a", "sad", "x.bmp")
    put(image, tmp_path, "a", "sad", "x.tif")
    read, skipped = load(tmp_path / "a")
    assert skipped == []
    assert np.abs(read.images_NHW.astype(int) - grey).max() <= 1
    assert len(read) == 5


def test_sixteen_bits_are_scaled_and_what_is_transparent_is_white(tmp_path: Path) -> None:
    put(Image.fromarray(np.full((60, 60), 100 * 257, np.uint16)), tmp_path, "a", "sad", "deep.png")
    veiled = Image.new("LA", (60, 60), (0, 0))
    veiled.putpixel((59, 59), (255, 255))  # transparent everywhere would be refused
    put(veiled, tmp_path, "a", "sad", "nothing.png")
    put(Image.new("1", (60, 60), 1), tmp_path, "a", "sad", "one_bit.png")
    read, _ = load(tmp_path / "a")
    assert [set(image.ravel().tolist()) for image in read.images_NHW] == [{100}, {255}, {255}]


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    upright_HW = np.zeros((48, 48), np.uint8)
    upright_HW[:24] = 255
    lying = Image.fromarray(np.rot90(upright_HW))  # a camera held sideways
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    (tmp_path / "a" / "sad").mkdir(parents=True)
    lying.save(tmp_path / "a" / "sad" / "photo.jpg", exif=exif, quality=95)
    image_HW = load(tmp_path / "a")[0].images_NHW[0]
    assert np.abs(image_HW.astype(int) - upright_HW).mean() < 5


def test_unknown_classes_are_one_error_that_says_how_to_go_on(root: Path) -> None:
    (root / "Happy").rename(root / "Boredom")
    (root / "Sad").rename(root / "other")
    with pytest.raises(InputError) as told:
        load(root)
    assert str(told.value) == (
        f"{root} has classes that are no emotion: Boredom (2 images), other (2 images); map each with "
        f"--map NAME=EMOTION or leave it out with --drop NAME; emotions: {', '.join(EMOTIONS)}"
    )
    read, _ = load(root, ("Boredom=neutral",), ("OTHER",))
    assert np.bincount(read.labels_N).tolist() == [2, 2, 2, 0, 0, 2, 4]


@pytest.mark.parametrize(
    ("renames", "drop", "said"),
    [
        (("Happy",), (), "--map 'Happy': write CLASS=EMOTION"),
        (("Happy=hapy",), (), "unknown emotion 'hapy': did you mean happy"),
        (("hapy=sad",), (), "has no class 'hapy' to map or drop: did you mean Happy"),
        ((), ("x",), "has no class 'x' to map or drop"),
        (("Sad=sad",), ("sad",), "class 'sad' is both mapped and dropped"),
        ((), tuple(EMOTIONS[:7]), "every class is dropped"),
    ],
)
def test_wrong_maps_and_drops(root: Path, renames: tuple[str, ...], drop: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(root, renames, drop)


def test_images_in_no_folder_have_no_class(root: Path) -> None:
    shutil.copy(root / "Sad" / "0.png", root / "stray.png")
    with pytest.raises(InputError, match=r"no emotion: \(no folder\) \(1 images\)"):
        load(root)


def test_faults(root: Path, tmp_path: Path) -> None:
    (root / "Sad" / "0.png").write_bytes(b"no image")
    (root / "Sad" / "notes.txt").write_text("no image, and none by its name")
    (root / "Sad" / "Thumbs.db").write_bytes(b"left by a file manager")
    (root / "README").write_text("in no class")
    read, skipped = load(root)
    assert len(read) == 13
    assert [(skip.file, skip.reason) for skip in skipped] == [
        (f"Sad/{name}", "no image of a known format") for name in ("notes.txt", "0.png")
    ]
    (root / "Contempt").mkdir()
    with pytest.raises(InputError, match="Contempt is an empty class"):
        load(root)
    (root / "Contempt" / "Thumbs.db").write_bytes(b"no image")
    with pytest.raises(InputError, match="Contempt is an empty class"):
        load(root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty has no image"):
        load(tmp_path / "empty")
    with pytest.raises(InputError, match="gone does not exist"):
        load(tmp_path / "gone")


def test_two_members_with_one_name_count_once(tmp_path: Path, faces: Faces) -> None:
    buffer = io.BytesIO()
    Image.fromarray(faces.images_NHW[0]).save(buffer, "PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("sad/1.png", buffer.getvalue())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("sad/1.png", buffer.getvalue())
    read, skipped = load(tmp_path / "a.zip")
    assert len(read) == 1
    assert skipped == [Skipped("sad/1.png", None, "a second member of that name")]


def test_prepared_under_the_users_name(root: Path, tmp_path: Path) -> None:
    (root / "Happy").rename(root / "Boredom")
    classes = Classes.parse(["boredom=neutral"], ["sad"])
    manifest = prepare("folder", root, tmp_path / "data", set_name="mine", asked=Asked(classes=classes))["mine"]
    assert manifest["source"] == {
        "name": "folder",
        "path": str(root),
        "map": {"boredom": "neutral"},
        "drop": ["sad"],
    }
    assert len(open_set(tmp_path / "data", "mine")) == 12
    with pytest.raises(InputError, match="run `facex-tune data prepare folder SOURCE --as other`"):
        open_set(tmp_path / "data", "other")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("folder", {}, "name the set, as in `facex-tune data prepare folder SOURCE --as my_faces`"),
        ("folder", {"set_name": "../x"}, "--as '../x': a set's name holds letters"),
        ("folder", {"set_name": "fer2013"}, "is the name of a data source: choose another, such as my_fer2013"),
        ("fer2013", {"set_name": "x"}, "--as do not go with `data prepare fer2013`: data source"),
        ("fer2013", {"asked": Asked(classes=Classes({}, ("sad",)))}, "--map, --drop do not go with `data"),
    ],
)
def test_wrong_options(root: Path, tmp_path: Path, name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        prepare(name, root, tmp_path / "data", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("inside", ["", "wrapped/"])
def test_an_empty_class_in_a_zip_is_named(root: Path, zipped: Callable[..., Path], inside: str) -> None:
    (root / "Contempt").mkdir()
    with pytest.raises(InputError, match=rf"packed\.zip/{inside}Contempt is an empty class"):
        load(zipped(root, inside))


def test_a_name_that_is_no_text_is_shown_as_well_as_it_can_be(root: Path, tmp_path: Path) -> None:
    os.rename(os.fsencode(root / "Sad" / "0.png"), os.fsencode(root / "Sad") + b"/\xff\n0.png")
    (root / "Sad" / "1.png").write_bytes(b"no image")
    manifest = prepare("folder", root, tmp_path / "data", set_name="mine")["mine"]
    assert manifest["n"] == 13
    assert "Sad/\ufffd\ufffd0.png" in open_set(tmp_path / "data", "mine").source_N.tolist()
    (root / "Sad").rename(root / "so\nso")
    with pytest.raises(InputError) as told:
        load(root)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("data/train-00000-of-00001.parquet", b"PAR1", r"is a Parquet table: read it .* huggingface SOURCE --as NAME"),
        ("train/0.tar", bytes(257) + b"ustar\0", r"is a tar archive: .* webdataset SOURCE --as NAME"),
        ("faces.npz", b"PK\x03\x04", r"is a NumPy archive: .* arrays SOURCE --as NAME --arrays images=NAME"),
        ("faces.h5", b"\x89HDF\r\n", r"is an HDF5 file: read it with `facex-tune data prepare arrays"),
        ("fer2013.csv", b"emotion,pixels,Usage\n0,1,Training", r"a CSV of pixels: .* prepare fer2013 SOURCE"),
        ("icml.csv", b"emotion, Usage, pixels\n0,Training,1 2", r"a CSV of pixels: .* prepare fer2013 SOURCE"),
        ("labels.csv", b"image,emotion\n1.png,sad\n", r"is a table: put the pictures .* prepare table SOURCE --as"),
        ("fer2013.tar.gz", b"\x1f\x8b\x08", r"is a gzip archive: unpack it"),
        ("faces.pkl", b"\x80\x04\x95", r"is a pickle: it is not read, since opening one runs whatever its maker wrote"),
        ("readme.txt", b"nothing here", r"name the folder above the classes"),
    ],
)
def test_what_holds_faces_and_no_pictures_is_named_with_its_importer(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / "set" / name).parent.mkdir(parents=True)
    (tmp_path / "set" / name).write_bytes(content)
    (tmp_path / "set" / "README.md").write_text("a set")
    with pytest.raises(InputError, match=rf"has no image .*{said}") as told:
        load(tmp_path / "set")
    assert len(str(told.value).splitlines()) == 1
