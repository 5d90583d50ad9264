"""FER2013 in its three forms: the same faces, in the right order, and every fault named."""

from __future__ import annotations

import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facex_tune.data.faces import Faces, Skipped, fingerprint
from facex_tune.data.groups import with_copies_grouped
from facex_tune.data.sources import fer2013
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError


def load(path: Path) -> tuple[Faces, list[Skipped]]:
    loaded = fer2013.load(path, lambda done, total: None)
    return loaded.faces, loaded.skipped


def test_folder(fer2013_folder: Path) -> None:
    read, skipped = load(fer2013_folder)
    assert skipped == []
    for split in ("train", "public_test", "private_test"):
        assert np.bincount(read.where(split).labels_N).tolist() == [5] * 7
    assert (read.sequence_N == -1).all()
    for row in (0, 50, 104):
        usage = {"train": "train"}.get(str(read.split_N[row]), "test")
        file = fer2013_folder / usage / EMOTIONS[read.labels_N[row]] / str(read.source_N[row])
        assert np.array_equal(read.images_NHW[row], np.asarray(Image.open(file)))


def test_rows_stand_in_the_order_of_split_then_id(fer2013_folder: Path) -> None:
    read, _ = load(fer2013_folder)
    assert read.split_N.tolist() == ["train"] * 35 + ["public_test"] * 35 + ["private_test"] * 35
    for split in ("train", "public_test", "private_test"):
        ids = [int(name.split("_")[1].removesuffix(".jpg")) for name in read.where(split).source_N]
        assert ids == sorted(ids)


@pytest.mark.parametrize("inside", ["", "fer2013/", "archive/deep/"])
def test_zip_gives_the_folders_faces(fer2013_folder: Path, zipped: Callable[..., Path], inside: str) -> None:
    from_folder, from_zip = load(fer2013_folder)[0], load(zipped(fer2013_folder, inside))[0]
    assert fingerprint(from_zip) == fingerprint(from_folder)
    assert from_zip.source_N.tolist() == from_folder.source_N.tolist()


def test_hidden_files_and_other_files_are_passed_over(fer2013_folder: Path) -> None:
    (fer2013_folder / "__MACOSX" / "train" / "happy").mkdir(parents=True)
    (fer2013_folder / "__MACOSX" / "train" / "happy" / "._Training_1.jpg").write_bytes(b"x")
    (fer2013_folder / "train" / "happy" / ".DS_Store").write_bytes(b"x")
    (fer2013_folder / "readme.txt").write_text("x")
    read, skipped = load(fer2013_folder)
    assert (len(read), skipped) == (105, [])


def test_progress_reaches_the_total(fer2013_folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    fer2013.load(fer2013_folder, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (105, 105)


def test_bad_images_are_skipped_and_named(fer2013_folder: Path, zipped: Callable[..., Path]) -> None:
    happy = sorted((fer2013_folder / "train" / "happy").iterdir())
    happy[0].write_bytes(happy[0].read_bytes()[:400])
    happy[1].write_bytes(b"no image")
    Image.new("L", (64, 48)).save(happy[2])
    happy[3].rename(happy[3].with_name("face.jpg"))
    for path in (fer2013_folder, zipped(fer2013_folder)):
        read, skipped = load(path)
        assert len(read) == 101
        reasons = {Path(skip.file).name: skip.reason for skip in skipped}
        assert "truncated" in reasons[happy[0].name]
        assert reasons[happy[1].name] == "no image of a known format"
        assert reasons[happy[2].name] == "64 x 48 pixels where 48 x 48 are wanted"
        assert reasons["face.jpg"].startswith("its name is not Training_")
        assert all(skip.file.startswith("train/happy/") for skip in skipped)


def test_a_member_with_a_wrong_checksum_is_skipped(fer2013_folder: Path, zipped: Callable[..., Path]) -> None:
    path = zipped(fer2013_folder)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.infolist()[0]
    data[info.header_offset + 30 + len(info.filename) + 200] ^= 0xFF
    path.write_bytes(data)
    read, skipped = load(path)
    assert len(read) == 104
    assert skipped[0].file == info.filename
    assert "CRC" in skipped[0].reason


def test_a_member_that_would_unpack_to_something_huge_is_not_read(
    fer2013_folder: Path, zipped: Callable[..., Path]
) -> None:
    path = zipped(fer2013_folder)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/happy/Training_5555.jpg", bytes(2**21))
    read, skipped = load(path)
    assert len(read) == 105
    assert skipped[0].reason == "2097152 bytes are too many for a 48 x 48 face"


def test_an_image_that_claims_to_be_huge_is_not_decoded(fer2013_folder: Path) -> None:
    first = next((fer2013_folder / "train" / "happy").iterdir())
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    first.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)))
    read, skipped = load(fer2013_folder)
    assert len(read) == 104
    assert [Path(skip.file).name for skip in skipped] == [first.name]


def test_an_encrypted_zip_says_why(fer2013_folder: Path, zipped: Callable[..., Path]) -> None:
    path = zipped(fer2013_folder)
    with zipfile.ZipFile(path) as archive:
        offsets = [info.header_offset for info in archive.infolist()]
        directory = archive.start_dir
    data = bytearray(path.read_bytes())
    for offset in offsets:
        data[offset + 6] |= 1
    while data[directory : directory + 4] == b"PK\x01\x02":  # the flag stands in each directory entry too
        data[directory + 8] |= 1
        directory += 46 + sum(struct.unpack_from("<HHH", data, directory + 28))
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"not one of 105 images can be read \(.*encrypted"):
        load(path)


def test_a_name_in_two_classes_is_two_faces(fer2013_folder: Path) -> None:
    """Two names of the published set stand for two faces each."""
    one, other = (next((fer2013_folder / "train" / name).iterdir()) for name in ("happy", "sad"))
    other.rename(other.with_name(one.name))
    read, skipped = load(fer2013_folder)
    assert (len(read), skipped) == (105, [])
    assert {f"happy/{one.name}", f"sad/{one.name}"} <= set(read.source_N.tolist())
    assert len(set(read.source_N.tolist())) == 105


@pytest.mark.parametrize("spelt", [lambda name: f"./{name}", lambda name: name.replace("/", "\\")], ids=["dot", "dos"])
def test_zips_that_spell_folders_in_their_own_way(
    fer2013_folder: Path, tmp_path: Path, spelt: Callable[[str], str]
) -> None:
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for file in fer2013_folder.rglob("*.jpg"):
            archive.writestr(spelt(file.relative_to(fer2013_folder).as_posix()), file.read_bytes())
    assert fingerprint(load(tmp_path / "own.zip")[0]) == fingerprint(load(fer2013_folder)[0])


@pytest.mark.parametrize(("head", "kind"), [(b"\x1f\x8b\x08", "gzip"), (b"7z\xbc\xaf'", "7-zip"), (b"Rar!\x1a", "RAR")])
def test_other_archives_are_told(tmp_path: Path, head: bytes, kind: str) -> None:
    path = tmp_path / "fer2013.tar.gz"
    path.write_bytes(head + b"rest")
    with pytest.raises(InputError, match=f"is a {kind} archive: unpack it and name"):
        load(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_picture_in_the_set_s_place_is_told_without_its_bytes(tmp_path: Path, kind: str) -> None:
    """By its content, whatever its name is."""
    path = tmp_path / "face.csv"
    Image.new("L", (48, 48), 90).save(path, kind)
    with pytest.raises(InputError) as caught:
        load(path)
    assert caught.value.problems == [f"{path} is one picture ({kind}): name the folder, zip or table of the data set"]


def test_the_same_file_twice_counts_once(fer2013_folder: Path) -> None:
    shutil.copytree(fer2013_folder / "train", fer2013_folder / "copy" / "train")
    read, skipped = load(fer2013_folder)
    assert len(read) == 105
    assert len(skipped) == 35
    assert "a second copy of copy/train/" in skipped[0].reason


@pytest.mark.parametrize(("half", "emotion"), [("train", "disgust"), ("test", "sad")])
def test_an_empty_class_is_named(fer2013_folder: Path, half: str, emotion: str) -> None:
    for file in (fer2013_folder / half / emotion).iterdir():
        file.unlink()
    with pytest.raises(InputError, match=rf"\({half}\) has no face of {emotion}: the data set is incomplete"):
        load(fer2013_folder)


def test_an_unknown_class_is_named_with_the_nearest(fer2013_folder: Path) -> None:
    (fer2013_folder / "train" / "happy").rename(fer2013_folder / "train" / "hapy")
    with pytest.raises(InputError, match="unknown emotion 'hapy': did you mean happy"):
        load(fer2013_folder)


def test_a_class_that_fer2013_lacks_is_refused(fer2013_folder: Path) -> None:
    (fer2013_folder / "train" / "happy").rename(fer2013_folder / "train" / "contempt")
    with pytest.raises(InputError, match="class 'contempt', which FER2013 does not have"):
        load(fer2013_folder)


def test_a_truncated_zip(fer2013_folder: Path, zipped: Callable[..., Path]) -> None:
    path = zipped(fer2013_folder)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match=r"packed\.zip is no complete zip .* download it again"):
        load(path)


@pytest.mark.parametrize("name", ["../train/happy/Training_1.jpg", "/etc/Training_1.jpg", "a\\..\\..\\Training_1.jpg"])
def test_a_member_that_points_outside(fer2013_folder: Path, zipped: Callable[..., Path], name: str) -> None:
    path = zipped(fer2013_folder)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(InputError, match="points outside"):
        load(path)


def test_what_is_not_there_or_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone does not exist"):
        load(tmp_path / "gone")
    with pytest.raises(InputError, match="is not FER2013: neither"):
        load(tmp_path)


@pytest.fixture
def closed_folder(fer2013_folder: Path, open_folder: Path) -> Path:
    """The Kaggle folder with a class that nobody may list, a face that nobody may read, and a zip of the same kind."""
    root = open_folder / "fer2013"
    shutil.copytree(fer2013_folder, root)
    next((root / "train" / "sad").iterdir()).chmod(0)
    (root / "train" / "happy").chmod(0)
    (open_folder / "packed.zip").write_bytes(b"PK")
    (open_folder / "packed.zip").chmod(0)
    return root


@pytest.mark.usefixtures("closed_folder", "without_rights")
def test_what_may_not_be_read_is_named(closed_folder: Path) -> None:
    with pytest.raises(InputError, match="train/happy cannot be read: Permission denied; check its owner and mode"):
        load(closed_folder)
    with pytest.raises(InputError, match=r"packed\.zip cannot be read: permission denied; check its owner and mode"):
        load(closed_folder.parent / "packed.zip")


def test_a_face_that_may_not_be_read_is_skipped(closed_folder: Path, request: pytest.FixtureRequest) -> None:
    (closed_folder / "train" / "happy").chmod(0o755)
    request.getfixturevalue("without_rights")
    read, skipped = load(closed_folder)
    assert len(read) == 104
    assert "Permission denied" in skipped[0].reason


@pytest.mark.parametrize(
    "header",
    ["emotion,pixels,Usage", "emotion, pixels, Usage", "\ufeffEmotion,Pixels,Usage"],
    ids=["plain", "icml", "bom"],
)
def test_csv_keeps_pixels_labels_and_row_order(faces: Faces, write_csv: Callable[..., Path], header: str) -> None:
    read, skipped = load(write_csv(header))
    assert skipped == []
    assert np.array_equal(read.images_NHW, faces.images_NHW)
    assert np.array_equal(read.labels_N, faces.labels_N)
    assert read.split_N[:4].tolist() == ["train", "public_test", "private_test", "train"]
    assert read.source_N.tolist() == [str(row) for row in range(105)]


def test_csv_columns_in_another_order(faces: Faces, write_csv: Callable[..., Path]) -> None:
    path = write_csv()
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\r\n".join(f"{emotion},{usage},{pixels}" for emotion, pixels, usage in lines))
    assert np.array_equal(load(path)[0].images_NHW, faces.images_NHW)


@pytest.mark.parametrize("inside", ["", "challenges/"])
def test_zipped_csv(faces: Faces, write_csv: Callable[..., Path], zipped: Callable[..., Path], inside: str) -> None:
    path = zipped(write_csv(), inside)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("larger.csv", "pixels\n" + "0 " * 10**6)
    assert fingerprint(load(path)[0]) == fingerprint(load(write_csv())[0])


def deflated_csv(path: Path, tmp_path: Path) -> tuple[Path, int]:
    """A CSV compressed in a zip, and where its compressed bytes begin."""
    packed = tmp_path / "deflated.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "fer2013.csv")
        info = archive.infolist()[0]
    return packed, info.header_offset + 30 + len(info.filename)


@pytest.mark.parametrize("at", [20, 5000], ids=["in its first line", "in its rows"])
def test_a_zipped_csv_with_damaged_bytes(write_csv: Callable[..., Path], tmp_path: Path, at: int) -> None:
    packed, start = deflated_csv(write_csv(), tmp_path)
    data = bytearray(packed.read_bytes())
    data[start + at : start + at + 40] = b"\xff" * 40
    packed.write_bytes(data)
    with pytest.raises(InputError, match=r"fer2013\.csv is damaged .*: download it again"):
        load(packed)


def test_an_encrypted_csv_is_told(write_csv: Callable[..., Path], tmp_path: Path) -> None:
    packed, _ = deflated_csv(write_csv(), tmp_path)
    data = bytearray(packed.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    packed.write_bytes(data)
    with pytest.raises(InputError, match=r"fer2013\.csv is damaged .*encrypted"):
        load(packed)


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_text("emotion,pixels,Usage\n" + "0 " * 2**20)
    with pytest.raises(InputError, match=r"a line of more than 65,536 characters"):
        load(path)


def test_csv_in_a_folder(faces: Faces, write_csv: Callable[..., Path]) -> None:
    assert len(load(write_csv().parent)[0]) == 105


ZEROS = " ".join(["0"] * 2304)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"3,{ZEROS.replace('0', '300', 1)},Training", "pixel 300 out of range 0..255"),
        (f"3,{ZEROS.replace('0', '-1', 1)},Training", "pixel -1 out of range 0..255"),
        (f"3,{ZEROS[:-2]},Training", "2,303 pixels where 2,304 are wanted"),
        (f"3,{ZEROS} 0,Training", "2,305 pixels where 2,304 are wanted"),
        (f"3,{ZEROS[:-1]}x,Training", "pixels holds something that is not a whole number"),
        (f"3,{ZEROS[:-1]}1.5,Training", "pixels holds something that is not a whole number"),
        ("3,,Training", "0 pixels where 2,304 are wanted"),
        (f"happy,{ZEROS},Training", "emotion 'happy' is no number of 0..6"),
        (f"3.0,{ZEROS},Training", "emotion '3.0' is no number of 0..6"),
        (f"3,{ZEROS},Test", "Usage 'Test' is none of Training, PublicTest, PrivateTest"),
        (f"3,{ZEROS}", "2 fields where 3 are wanted"),
    ],
)
def test_bad_csv_rows_are_skipped_and_named(write_csv: Callable[..., Path], line: str, reason: str) -> None:
    read, skipped = load(write_csv(replaced={10: line}))
    assert skipped == [Skipped("fer2013.csv", 10, reason)]
    assert len(read) == 104
    assert "10" not in read.source_N.tolist()
    assert read.source_N[10] == "11"  # the others keep their numbers: FER+ votes are joined by them


def test_a_missing_column_is_named(write_csv: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"fer2013\.csv has no column usage: .* found emotion, pixels, set"):
        load(write_csv("emotion,pixels,set"))


def test_a_csv_without_a_class_or_empty(write_csv: Callable[..., Path], faces: Faces) -> None:
    gone = {int(row): "" for row in np.flatnonzero(faces.labels_N == 1)}
    with pytest.raises(InputError, match=r"\(train\) has no face of disgust"):
        load(write_csv(replaced=gone))
    path = write_csv()
    path.write_text("")
    with pytest.raises(InputError, match="no column emotion, pixels, usage"):
        load(path)


Row = list[str]  # emotion, pixels, Usage


def in_cells(path: Path, change: Callable[[Row], Row]) -> Path:
    """The CSV with each row's cells changed."""
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *(",".join(change(line.split(","))) for line in lines)]) + "\n")
    return path


WORDS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SHORT = {"Training": "Train", "PublicTest": "Val", "PrivateTest": "Test"}
CELLS: dict[str, tuple[Callable[[Row], Row], str]] = {
    "lower case": (lambda row: [*row[:2], row[2].lower()], "35 skipped: Usage 'training' is none of Training"),
    "other splits": (lambda row: [*row[:2], SHORT[row[2]]], "35 skipped: Usage 'Train' is none of Training"),
    "one split misspelt": (lambda row: [*row[:2], row[2].replace("Public", "Pubic")], "no face of public_test that"),
    "words": (lambda row: [WORDS[int(row[0])], *row[1:]], "15 skipped: emotion 'angry' is no number of 0..6"),
    "fractions": (lambda row: [f"{row[0]}.0", *row[1:]], "skipped: emotion '0.0' is no number of 0..6"),
    "lists": (lambda row: [row[0], f"[{row[1].replace(' ', ' , ')}]", row[2]], "skipped: "),
    "one class in words": (lambda row: ["fear" if row[0] == "2" else row[0], *row[1:]], "train fear that can"),
}


@pytest.mark.parametrize("case", CELLS)
def test_what_makes_a_class_or_split_vanish_is_told(write_csv: Callable[..., Path], case: str) -> None:
    change, said = CELLS[case]
    with pytest.raises(InputError) as told:
        load(in_cells(write_csv(), change))
    (line,) = told.value.problems
    assert said in line
    assert "the first row " in line
    assert "download it again" not in line


def test_numbers_of_another_set_are_refused(write_csv: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not FER2013: emotion 7 in 1 rows, the first row 10, where it has 0 "):
        load(write_csv(replaced={10: f"7,{ZEROS},Training"}))
    with pytest.raises(InputError, match=r"is not FER2013: emotion -1 in 1 rows"):
        load(write_csv(replaced={10: f"-1,{ZEROS},Training"}))
    counts = (45, 59, 25, 69, 28, 83, 593, 18)
    rows = [f"{emotion},{ZEROS},Training" for emotion, n in enumerate(counts) for _ in range(n)]
    path = tmp_path / "ckextended.csv"
    path.write_text("\n".join(["emotion,pixels,Usage", *rows]))
    with pytest.raises(InputError, match=r"emotion 7 in 18 rows.* it looks like CK\+ .*: run `facex-tune data prep"):
        load(path)


def test_alphabetical_numbers_are_told_by_the_counts(tmp_path: Path) -> None:
    published = fer2013.PUBLISHED[0].by_split["train"]
    path = tmp_path / "fer2013.csv"
    for order, said in ((sorted(published), "(alphabetical)"), (list(published), "")):
        rows = [f"{at},{ZEROS},Training" for at, name in enumerate(order) for _ in range(published[name] // 30)]
        path.write_text("\n".join(["emotion,pixels,Usage", *rows]))
        if said:
            with pytest.raises(InputError, match="0 angry 1 disgust 2 fear 3 happy 4 neutral 5 sad 6 surprise") as told:
                load(path)
            assert said in str(told.value)
        else:
            assert len(load(path)[0]) == len(rows)


def test_a_csv_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(bytes(range(256)) * 4000)
    with pytest.raises(InputError, match=r"fer2013\.csv"):
        load(path)


@pytest.mark.realdata
def test_the_real_zip(realdata_dir: Path) -> None:
    read, skipped = load(realdata_dir / "fer2013.zip")
    assert skipped == []
    assert fingerprint(read) == "06d4ca3b7b78dd694b0d1ef66010336fa2b7030f74ce6c52228972b88944d048"
    prepared = with_copies_grouped(read)
    assert fingerprint(prepared) == "4d22e54b72aae225840278c4dfe67ee3e6f7d34472f7e655d22fc0aa65e7543d"
    assert np.bincount(read.where("train").labels_N).tolist() == [3995, 436, 4097, 7215, 4830, 3171, 4965]
    assert len(read.where("public_test")) == 3589
    assert np.bincount(read.where("private_test").labels_N).tolist() == [491, 55, 528, 879, 594, 416, 626]
    with np.load(realdata_dir / "fer2013_rows.npz", allow_pickle=False) as rows:  # the CSV's, losslessly
        emotion_N, usage_N = rows["emotion"], rows["usage"]
    for usage, split in enumerate(("train", "public_test", "private_test")):
        assert np.bincount(read.where(split).labels_N).tolist() == np.bincount(emotion_N[usage_N == usage]).tolist()


@pytest.mark.realdata
def test_exact_groups_of_the_real_lossless_faces(realdata_dir: Path) -> None:
    from facex_tune.data.faces import exact_groups

    with np.load(realdata_dir / "fer2013_rows.npz", allow_pickle=False) as rows:
        group_N, usage_N = exact_groups(rows["pixels"]), rows["usage"]
    size_G = np.bincount(group_N)
    assert ((size_G > 1).sum(), size_G[size_G > 1].sum()) == (1516, 3369)
    assert np.isin(group_N[usage_N == 1], group_N[usage_N == 0]).sum() == 280
    assert np.isin(group_N[usage_N == 2], group_N[usage_N == 0]).sum() == 288
    assert np.isin(group_N[usage_N == 2], group_N[usage_N == 1]).sum() == 44


@pytest.mark.realdata
def test_majority_rule_gives_the_published_counts(realdata_dir: Path) -> None:
    import csv

    from facex_tune.data.faces import majority_labels
    from facex_tune.emotions import canonical

    with (realdata_dir / "fer2013new.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    usage_N = np.array([row[0] for row in rows])
    answers = [canonical(name) for name in header[2:10]] + [8, 9]
    votes_NC = np.zeros((len(rows), 10), np.int16)
    votes_NC[:, answers] = np.array([row[2:] for row in rows], np.int16)
    labels_N = majority_labels(votes_NC)
    kept = {usage: int((labels_N[usage_N == usage] >= 0).sum()) for usage in ("Training", "PublicTest", "PrivateTest")}
    assert kept == {"Training": 25060, "PublicTest": 3199, "PrivateTest": 3153}
    private_N = labels_N[(usage_N == "PrivateTest") & (labels_N >= 0)]
    assert np.bincount(private_N).tolist() == [273, 18, 83, 893, 384, 396, 1090, 16]
