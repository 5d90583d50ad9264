"""A set under another name is found out as it is prepared, without a second look at what is none."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facex_tune import cli
from facex_tune.data import copies
from facex_tune.data.faces import Faces, exact_groups, write
from facex_tune.data.sources import synthetic

N = 40


def drawn(seed: int, n: int = N) -> Faces:
    return synthetic.generate(n, seed=seed, imbalance=0, label_noise=0)


def joined(*several: Faces) -> Faces:
    """One set of the faces of several."""
    names = [name for name in vars(several[0]) if name != "votes_NC"]
    arrays = {name: np.concatenate([getattr(each, name) for each in several]) for name in names}
    images_NHW = arrays["images_NHW"]
    return Faces(**arrays | {"votes_NC": None, "group_N": exact_groups(images_NHW)})


def prepared(folder: Path, **sets: Faces) -> None:
    for name, faces in sets.items():
        write(faces, folder, name, source={"name": "folder", "path": name}, skipped=[])


def as_jpeg(image_HW: np.ndarray) -> np.ndarray:
    sink = io.BytesIO()
    Image.fromarray(image_HW).save(sink, "JPEG", quality=70)
    return np.asarray(Image.open(sink))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepared(tmp_path, expw=drawn(1), fer2013=drawn(2), jaffe=drawn(3, 10))
    return tmp_path


def test_two_sets_under_one_new_name(folder: Path) -> None:
    """MMAFEDB is ExpW and FER2013, to the last face; some of them mirrored."""
    expw, fer = drawn(1), drawn(2)
    turned_NHW = fer.images_NHW.copy()
    turned_NHW[:4] = turned_NHW[:4, :, ::-1]
    prepared(folder, mmafedb=joined(expw, replace(fer, images_NHW=turned_NHW)))
    found = {row.in_set: row for row in copies.across(folder, "mmafedb")}
    assert list(found) == ["jaffe", "expw", "fer2013"]
    counted = {name: (row.exact, row.mirrored, row.near, row.of_other) for name, row in found.items()}
    assert counted == {"jaffe": (0, 0, 0, 0), "expw": (N, 0, 0, N), "fer2013": (N - 4, 4, 0, N)}
    said = copies.told(list(found.values()), "mmafedb", folder)
    assert len(said) == 2
    assert said[1].startswith("40 faces of 80 are copies of faces of fer2013 (36 exact, 4 mirrored, 0 near), 40 of")
    assert said[1].endswith("a study that trains on one and is scored on the other needs duplicates: drop")


def test_a_set_that_was_stored_anew_is_near(folder: Path) -> None:
    """A Kaggle set called ferplus was RAF-DB."""
    again_NHW = np.stack([as_jpeg(image_HW) for image_HW in drawn(1).images_NHW])
    prepared(folder, ferplus=replace(drawn(1), images_NHW=again_NHW))
    (row,) = [each for each in copies.across(folder, "ferplus") if each.copies]
    assert (row.in_set, row.exact, row.near, row.of_other) == ("expw", 0, N, N)
    assert copies.told([row], "ferplus", folder)[0].endswith(
        "most of ferplus is faces of expw, and no second set beside it"
    )


def test_what_would_take_too_long_is_left_to_a_command(folder: Path) -> None:
    prepared(folder, mine=joined(drawn(1).take(np.arange(20)), drawn(9)))
    found = copies.across(folder, "mine", longest_s=0)
    counted = [(row.in_set, row.exact, row.near) for row in found]
    assert counted == [("jaffe", 0, None), ("expw", 20, None), ("fer2013", 0, None)]
    *_, last = said = copies.told(found, "mine", folder)
    assert not any("sample" in each for each in said)  # nothing was found there
    assert f"`facex-tune data audit mine jaffe expw fer2013 --data {folder}`" in last
    assert "(about 1 min)" in last


def test_a_sample_tells_that_there_are_near_copies(folder: Path) -> None:
    again_NHW = np.stack([as_jpeg(image_HW) for image_HW in drawn(1).images_NHW])
    prepared(folder, ferplus=replace(drawn(1), images_NHW=again_NHW))
    said = copies.told(copies.across(folder, "ferplus", longest_s=0), "ferplus", folder)
    assert said[0] == "in a sample, 40 of 40 faces are near copies of one of 40 of expw: among all there are more"


def test_blank_faces_are_nobodys_copies(folder: Path) -> None:
    blank = drawn(5)
    blank.images_NHW[:5] = 0
    other = drawn(6)
    other.images_NHW[:7] = 0
    prepared(folder, one=blank, two=other)
    assert all(row.copies == 0 == row.of_other for row in copies.across(folder, "one"))


def test_drawn_and_damaged_sets_are_left_out(folder: Path) -> None:
    write(drawn(1), folder, "synthetic", source={"name": "synthetic", "path": None}, skipped=[])
    (folder / "fer2013" / "images.npy").write_bytes(b"torn")
    prepared(folder, mine=drawn(1))
    assert [row.in_set for row in copies.across(folder, "mine")] == ["jaffe", "expw"]
    assert copies.across(folder, "synthetic") == []


def test_prepare_tells_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for at, image_HW in enumerate(drawn(1, 14).images_NHW):
        folder = tmp_path / "mine" / ("happy" if at % 2 else "sad")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_HW).save(folder / f"{at}.png")
    for name, form in (("one", ()), ("two", ("--json",))):
        with pytest.raises(SystemExit) as ended:
            cli.main(["data", "prepare", "folder", "mine", "--as", name, *form])
        assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert "note: two: 14 faces of 14 are copies of faces of one (14 exact, 0 mirrored, 0 near)" in err
    (row,) = json.loads(out[out.index("{") :])["copies"]["two"]
    assert (row["in_set"], row["exact"], row["of_other"]) == ("one", 14, 14)
