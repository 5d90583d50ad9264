"""FER+: votes joined to FER2013's rows by number, proven by the duplicates."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facex_tune.data.faces import Faces, Skipped, exact_groups, fingerprint, majority_labels, open_set
from facex_tune.data.groups import with_copies_grouped
from facex_tune.data.importing import Asked
from facex_tune.data.prepare import prepare
from facex_tune.data.sources import ferplus
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
PUBLISHED_ORDER = (6, 3, 5, 4, 0, 1, 2, 7, 8, 9)  # of the columns above, in VOTE_ANSWERS
USAGES = ("Training", "PublicTest", "PrivateTest")
WriteVotes = Callable[..., Path]


def load(path: Path) -> tuple[Faces, list[Skipped]]:
    loaded = ferplus.load(path, lambda done, total: None)
    return loaded.faces, loaded.skipped


@pytest.fixture
def write_votes(tmp_path: Path, faces: Faces) -> WriteVotes:
    """Write the faces' votes as fer2013new.csv, in the published order of columns, with lines replaced."""
    assert faces.votes_NC is not None
    votes_NC = faces.votes_NC

    def write(header: str = HEADER, replaced: dict[int, str] | None = None, rows: int = len(faces)) -> Path:
        lines = []
        for row in range(rows):
            name = "" if row % 9 == 0 else f"fer{row // 2:07d}.png"  # blank and repeated names, as published
            votes = ",".join(str(votes_NC[row, answer]) for answer in PUBLISHED_ORDER)
            lines.append((replaced or {}).get(row, f"{USAGES[row % 3]},{name},{votes}"))
        path = tmp_path / "fer2013new.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return path

    return write


def test_votes_stand_at_their_rows_in_canonical_order(
    faces: Faces, write_csv: Callable[..., Path], write_votes: WriteVotes
) -> None:
    write_votes()
    read, skipped = load(write_csv().parent)
    assert skipped == []
    assert read.votes_NC is not None
    assert faces.votes_NC is not None
    assert np.array_equal(read.votes_NC, faces.votes_NC)
    assert np.array_equal(read.images_NHW, faces.images_NHW)
    assert np.array_equal(read.labels_N, faces.labels_N)  # FER2013's own; the majority comes from the votes


@pytest.mark.parametrize("form", ["csv", "zip beside", "zip of both", "zip in the folder"])
def test_every_form_gives_the_same(
    tmp_path: Path, write_csv: Callable[..., Path], write_votes: WriteVotes, zipped: Callable[..., Path], form: str
) -> None:
    votes, rows = write_votes(), write_csv()
    expected = fingerprint(load(tmp_path)[0])
    if form == "csv":
        source = rows
    elif form == "zip of both":
        (tmp_path / "both").mkdir()
        for file in (votes, rows):
            shutil.move(file, tmp_path / "both")
        source = zipped(tmp_path / "both", "fer/")
    else:
        source = zipped(rows)
        rows.unlink()
        source = source if form == "zip beside" else tmp_path
    assert fingerprint(load(source)[0]) == expected


def test_a_skipped_face_takes_its_votes_along(
    faces: Faces, write_csv: Callable[..., Path], write_votes: WriteVotes
) -> None:
    write_votes()
    read, skipped = load(write_csv(replaced={10: "3,1 2 3,Training"}).parent)
    assert [skip.row for skip in skipped] == [10]
    assert faces.votes_NC is not None
    assert read.votes_NC is not None
    assert np.array_equal(read.votes_NC, np.delete(faces.votes_NC, 10, axis=0))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"header": HEADER.replace("fear", "feer")}, r"has no fer2013new\.csv \(columns Usage, .*fear"),
        ({"rows": 104}, r"fer2013new\.csv has 104 rows, FER2013's CSV 105"),
        ({"replaced": {7: "Training,x,1,1,1,1,1,1,1,1,1,1"}}, "row 7 is of train, in FER2013's CSV of public_test"),
        ({"replaced": {7: "PublicTest,x,1,1,1,1,x,1,1,1,1,1"}}, r"row 7 is damaged \('x' is no number of votes\)"),
        ({"replaced": {7: "PublicTest,x,1,1,1,1,-1,1,1,1,1,1"}}, r"row 7 is damaged \('-1' is no number"),
        ({"replaced": {7: "PublicTest,x,1,1"}}, "row 7 is damaged"),
        ({"replaced": {7: "Test,x,1,1,1,1,1,1,1,1,1,1"}}, r"row 7 is damaged \('Test'\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_votes_that_do_not_fit_are_told(
    write_csv: Callable[..., Path], write_votes: WriteVotes, wrong: dict[str, object], said: str
) -> None:
    write_votes(**wrong)
    with pytest.raises(InputError, match=said):
        load(write_csv().parent)


def test_a_missing_file_is_told(tmp_path: Path, write_csv: Callable[..., Path], write_votes: WriteVotes) -> None:
    rows = write_csv()
    with pytest.raises(InputError, match=r"fer2013\.csv has no fer2013new\.csv"):
        load(rows)
    rows.unlink()
    write_votes()
    with pytest.raises(InputError, match="has no CSV emotion,pixels,Usage"):
        load(tmp_path)
    with pytest.raises(InputError, match="gone does not exist"):
        load(tmp_path / "gone")


@pytest.mark.realdata
@pytest.mark.slow
def test_the_real_votes_give_the_published_counts(real_csv_folder: Path) -> None:
    read, skipped = load(real_csv_folder)
    assert (len(read), skipped) == (35887, [])
    assert fingerprint(read) == "b7965cea0d76782c7ffde7b33e6599e53ebfc7e5e4274dd836bb66631dc0d158"
    prepared = with_copies_grouped(read)
    assert fingerprint(prepared) == "4a3426fbee3f8e51e73ec97dd5c71dab1f82e4d9995d7356ed9c43df10e292b2"
    assert np.bincount(read.where("train").labels_N).tolist() == [3995, 436, 4097, 7215, 4830, 3171, 4965]
    assert read.votes_NC is not None
    majority_N = majority_labels(read.votes_NC)
    kept = [int((majority_N[read.split_N == split] >= 0).sum()) for split in ("train", "public_test", "private_test")]
    assert kept == [25060, 3199, 3153]
    private_N = majority_N[(read.split_N == "private_test") & (majority_N >= 0)]
    names = ["neutral", "happy", "surprise", "sad", "angry", "fear", "disgust", "contempt"]
    assert [int((private_N == EMOTIONS.index(name)).sum()) for name in names] == [1090, 893, 396, 384, 273, 83, 18, 16]


@pytest.mark.realdata
def test_identical_pixels_carry_identical_votes(realdata_dir: Path) -> None:
    """What proves the join by row number: names could not, for 173 are blank."""
    with np.load(realdata_dir / "fer2013_rows.npz", allow_pickle=False) as rows:
        group_N = exact_groups(rows["pixels"])
    with (realdata_dir / "fer2013new.csv").open(newline="") as file:
        _, *lines = csv.reader(file)
    votes = [tuple(line[2:]) for line in lines]
    of_group: dict[int, set[tuple[str, ...]]] = {}
    for group, vote in zip(group_N.tolist(), votes, strict=True):
        of_group.setdefault(group, set()).add(vote)
    assert [len(each) for each in of_group.values() if len(each) > 1] == []
    assert (np.bincount(group_N) > 1).sum() == 1516


@pytest.fixture
def class_folders(tmp_path: Path, faces: Faces) -> Path:
    """FER+ as Kaggle has it in class folders, with its spelling of surprise and a face that stands in two splits."""
    root = tmp_path / "FERPlus"
    for row in range(21):
        split = ("train", "validation", "test")[row // 7]
        name = {"angry": "Angry", "surprise": "suprise"}.get(EMOTIONS[row % 7], EMOTIONS[row % 7])
        at = int(np.flatnonzero(faces.labels_N == row % 7)[row // 7])
        path = root / split / name / f"fer{row:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(faces.images_NHW[at]).save(path)
    (root / "train" / "contempt").mkdir()
    Image.fromarray(faces.images_NHW[0]).save(root / "train" / "contempt" / "fer1000000.png")
    Image.fromarray(np.roll(faces.images_NHW[0], 1)).save(root / "test" / "disgust" / "fer1000001.png")
    return root


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_class_folders(class_folders: Path, zipped: Callable[..., Path], tmp_path: Path, form: str) -> None:
    source = class_folders if form == "folder" else zipped(class_folders, "archive/")
    prepare("ferplus", source, tmp_path / "data", asked=Asked(incomplete=True))
    read = open_set(tmp_path / "data", "ferplus")
    assert read.votes_NC is None
    assert np.bincount(read.where("train").labels_N).tolist() == [1] * 8
    assert np.bincount(read.where("public_test").labels_N).tolist() == [1] * 7
    assert np.bincount(read.where("test").labels_N).tolist() == [1, 2, 1, 1, 1, 1, 1]
    moved = read.take(np.char.endswith(read.source_N, "fer1000001.png"))
    assert moved.group_N[0] in read.where("train").group_N


def test_an_incomplete_class_folder_is_told(class_folders: Path) -> None:
    for file in class_folders.glob("*/fear/*"):
        file.rename(file.parent.parent / "happy" / file.name)
        file.parent.rmdir()
    with pytest.raises(InputError, match="FERPlus has no face of fear: the data set is incomplete"):
        load(class_folders)


def test_fer2013s_own_folders_are_not_taken_for_ferplus(fer2013_folder: Path) -> None:
    with pytest.raises(InputError, match="holds FER2013 with its own labels"):
        load(fer2013_folder)


def test_the_votes_may_be_named_as_the_source(write_csv: Callable[..., Path], write_votes: WriteVotes) -> None:
    rows = write_csv()
    assert fingerprint(load(write_votes())[0]) == fingerprint(load(rows.parent)[0])
