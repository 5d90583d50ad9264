"""Importers of published sets: each form is read to the last label, split and subject, whatever lies around it."""

from __future__ import annotations

import importlib
import io
import os
import pickle
import re
import shutil
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from forms import FORMS, Form, Written, by_name, encoded, write_parquet, written  # beside this file
from PIL import Image

from facex_tune.data import known
from facex_tune.data.boxes import Box, cut
from facex_tune.data.faces import Faces, fingerprint, open_set
from facex_tune.data.importing import NOT_BY_CLASS, NOTHING, Asked, Classes, Loaded, held_to_totals
from facex_tune.data.pictures import Picture
from facex_tune.data.prepare import find, prepare
from facex_tune.data.sources import huggingface
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError
from facex_tune.evaluation import scoring
from facex_tune.study import protocols

TABLES = ("arrays", "huggingface", "roboflow", "table", "webdataset")  # sources of no set of their own
UNPACKED = ("arrays", "huggingface", "webdataset")  # of which nothing is read out of a zip
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
each_set = pytest.mark.parametrize(
    "form", [form for form in FORMS if form.source not in TABLES], ids=lambda form: form.name
)


def load(form: Form, path: Path) -> Loaded:
    return find(form.source).load(path, lambda done, total: None, form.asked)


def split_by(numbers_N: np.ndarray, names: list[str]) -> set[frozenset[str]]:
    """Which faces share a number."""
    found = defaultdict(set)
    for number, name in zip(numbers_N.tolist(), names, strict=True):
        found[number].add(name)
    return {frozenset(names) for names in found.values()}


def require_read(faces: Faces, there: Written) -> None:
    names = faces.source_N.tolist()
    assert sorted(names) == sorted(there.faces)
    assert [EMOTIONS[label] for label in faces.labels_N] == [there.faces[name][0] for name in names]
    assert faces.split_N.tolist() == [there.faces[name][1] for name in names]
    subjects = [there.faces[name][2] for name in names]
    if not any(subjects):
        assert (faces.sequence_N == -1).all()
        return
    rank = {subject: number for number, subject in enumerate(dict.fromkeys(subjects))}
    assert split_by(faces.group_N, names) == split_by(np.array([rank[subject] for subject in subjects]), names)
    whole = [(*there.faces[name][2:], "" if there.faces[name][3] else name) for name in names]
    number = {each: at for at, each in enumerate(dict.fromkeys(whole))}
    assert split_by(faces.sequence_N, names) == split_by(np.array([number[each] for each in whole]), names)


@each_form
def test_a_form_is_read_to_the_last_label_split_and_subject(form: Form, tmp_path: Path) -> None:
    there = written(form, tmp_path / "set")
    require_read(load(form, there.root).faces, there)


def litter(root: Path) -> None:
    """What file managers, archives and people leave in a data set."""
    face = Image.new("L", (100, 100), 90)
    for folder in [root, *(each for each in sorted(root.rglob("*")) if each.is_dir())]:
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        (folder / "notes.txt").write_text("looked at on Monday\n")
        (folder / ".thumbnails").mkdir()
        face.save(folder / ".thumbnails" / "0001.png")
        (folder / "@eaDir" / "0001.png").mkdir(parents=True)
        face.save(folder / "@eaDir" / "0001.png" / "SYNOPHOTO_THUMB_M.jpg")
    for file in [each for each in root.rglob("*.*g") if each.is_file() and not each.name.startswith(".")][:20]:
        beside = root / "__MACOSX" / file.relative_to(root).parent
        beside.mkdir(parents=True, exist_ok=True)
        (beside / f"._{file.name}").write_bytes(b"\0\5\x16\7" + bytes(60))


def zip_of(folder: Path, path: Path, *, backwards: bool) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((each for each in folder.rglob("*") if each.is_file()), reverse=backwards):
            archive.write(file, file.relative_to(folder.parent).as_posix())
    return path


def backwards(folder: Path, into: Path) -> None:
    """A copy whose files were written in reverse order, and whose archives hold their parts in reverse."""
    for file in sorted((each for each in folder.rglob("*") if each.is_file()), reverse=True):
        to = into / file.relative_to(folder)
        to.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".tar":
            with tarfile.open(file) as old, tarfile.open(to, "w") as new:
                for info in reversed(old.getmembers()):
                    new.addfile(info, old.extractfile(info))
        elif file.suffix == ".npz":
            with np.load(file) as old:
                np.savez(to, **{name: old[name] for name in reversed(old.files)})
        elif file.suffix == ".h5":
            h5py = pytest.importorskip("h5py")
            with h5py.File(file) as old, h5py.File(to, "w", track_order=True) as new:  # as written, not by name
                for split in reversed(list(old)):
                    group = new.create_group(split, track_order=True)
                    for name in reversed(list(old[split])):
                        group[name] = old[split][name][()]
        else:
            shutil.copy(file, to)


@each_form
def test_the_order_in_which_a_folder_lists_its_files_changes_nothing(
    form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = written(form, tmp_path / "set")
    plain = load(form, there.root)
    backwards(there.root, tmp_path / "backwards")
    walk = os.walk

    def reversed_walk(top: str, **how: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for root, below, here in walk(top, **how):
            below.sort(reverse=True)
            yield root, below, sorted(here, reverse=True)

    monkeypatch.setattr(os, "walk", reversed_walk)
    read = load(form, tmp_path / "backwards")
    assert fingerprint(read.faces) == fingerprint(plain.faces)
    assert read.faces.source_N.tolist() == plain.faces.source_N.tolist()


@each_form
def test_file_order_litter_and_a_deeper_root_change_nothing(form: Form, tmp_path: Path) -> None:
    there = written(form, tmp_path / "set")
    plain = load(form, there.root)
    zips = [zip_of(there.root, tmp_path / f"{backwards}.zip", backwards=backwards) for backwards in (False, True)]
    (tmp_path / "deeper").mkdir()
    shutil.copytree(there.root, tmp_path / "deeper" / "archive (3)" / "set")
    litter(tmp_path / "deeper")
    if form.source in UNPACKED:
        with pytest.raises(InputError, match="is a zip: unpack it and name the folder that was in it"):
            load(form, zips[0])
        zips = []
    for path in (*zips, tmp_path / "deeper"):
        read = load(form, path)
        assert fingerprint(read.faces) == fingerprint(plain.faces)
        assert read.faces.source_N.tolist() == plain.faces.source_N.tolist()
        assert sorted(skip.reason for skip in read.skipped) == sorted(skip.reason for skip in plain.skipped)
        assert read.notes == plain.notes


@each_set
def test_a_set_twice_in_a_tree_counts_once(form: Form, tmp_path: Path) -> None:
    there = written(form, tmp_path / "set")
    plain = load(form, there.root)
    shutil.copytree(there.root, tmp_path / "both" / "images")
    shutil.copytree(there.root, tmp_path / "both" / "images" / "images")
    read = load(form, tmp_path / "both")
    assert fingerprint(read.faces) == fingerprint(plain.faces)


BY_TOTALS = ("ferg", "kdef", "oulu_casia", "sfew")  # of which no counts by class are published
NOTHING_KNOWN = ("caers", "ravdess")


@pytest.mark.parametrize("source", [*BY_TOTALS, *NOTHING_KNOWN])
def test_totals_prove_what_is_not_published_by_class(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the totals of the miniature as if they were the published ones: those are proven, and no more than those."""
    form = next(form for form in FORMS if form.source == source)
    there = written(form, tmp_path / "set")
    module = importlib.import_module(f"facex_tune.data.sources.{source}")
    held: dict[str, Mapping[str, int]] = {}

    def as_published(name: str, loaded: Loaded, found: Mapping[str, int], published: Mapping[str, int]) -> Loaded:
        held["published"] = published
        return held_to_totals(name, loaded, found, dict(found) if "more" not in held else {k: 1 for k in found})

    monkeypatch.setattr(module, "held_to_totals", as_published)
    asked = replace(form.asked, incomplete=False)
    manifest = prepare(source, there.root, tmp_path / "data", asked=asked)[source]
    assert manifest["proven"] is (True if source in BY_TOTALS else None)
    assert any(note.startswith(NOT_BY_CLASS) for note in manifest["notes"])
    if source in NOTHING_KNOWN:
        assert held["published"] == {}
        return
    assert held["published"] == {
        "ferg": {"pictures": 55767}, "kdef": {"pictures": 4900}, "sfew": {"train": 958, "test": 436},
        "oulu_casia": {f"{of} {name}": 240 for of in ("NI Dark", "VL Strong") for name in EMOTIONS[:6]},
    }[source]  # fmt: skip
    held["more"] = {}
    with pytest.raises(InputError, match=f"this is not {source}: .* were published; prepare it under a name"):
        prepare(source, there.root, tmp_path / "data", asked=form.asked)


@each_set
def test_prepared_it_is_not_taken_for_the_whole_set(form: Form, tmp_path: Path) -> None:
    there = written(form, tmp_path / "set")
    asked = Asked(uncropped=form.asked.uncropped)
    published = getattr(find(form.source), "PUBLISHED", ()) or form.source in BY_TOTALS
    if published:
        with pytest.raises(InputError, match=r"is not proven: .*--incomplete"):
            prepare(form.source, there.root, tmp_path / "data", asked=asked)
    manifest = prepare(form.source, there.root, tmp_path / "data", asked=form.asked)[form.source]
    assert manifest["n"] == len(there.faces)
    assert manifest["proven"] is (False if published else None)


LABELLED = {  # form -> (a picture, a table beside it, another emotion, what the numbers of its folders are called)
    "rafdb_kaggle": ("DATASET/train/3/train_00003_aligned.jpg", "DATASET/said.csv", "happy", "rafdb"),
    "affectnet_folders": ("train/3/image3.jpg", "labels.csv", "happy", "affectnet"),
    "affectnet_names": ("Train/Happy/image1.jpg", "labels.csv", "sad", "affectnet"),
    "caers_cut_out": ("CAER-S/test/Sad/0001.png", "CAER-S/labels.csv", "happy", ""),
    "sfew_archives": ("Train_Aligned_Faces/Sad/Film_sad_1.png", "labels.csv", "happy", ""),
    "ferg_release": ("FERG_DB_256/aia/aia_joy/aia_joy_1.png", "FERG_DB_256/said.tsv", "sad", ""),
    "oulu_casia_release": ("Oulu_CASIA_NIR_VIS/VL/Strong/P001/Anger/004.jpeg", "labels.csv", "sad", ""),
    "ckplus_48": ("CK+48/angry/S010_001_00000014.png", "CK+48/labels.csv", "sad", ""),
    "ckplus_numbers_96": ("CK+48/0/S010_001_00000014.png", "labels.csv", "sad", "ckplus_folders"),
    "fer2013_folder": ("train/sad/Training_4.png", "labels.csv", "happy", "fer2013"),
    "ferplus_folders": ("train/sad/fer0000004.png", "labels.csv", "happy", "ferplus"),
}
WORDS = {"angry": "Anger", "happy": "joy", "sad": "sadness"}


@pytest.mark.parametrize("name", LABELLED)
def test_a_table_beside_class_folders_is_held_against_them(name: str, tmp_path: Path) -> None:
    """By the emotions' words, and by the numbers that a published set gives them; the table is never passed over."""
    picture, file, other, numbering = LABELLED[name]
    form = by_name(name)
    there = written(form, tmp_path / "set")
    if name == "rafdb_kaggle":
        deleted(there.root, "*.csv")
    plain = load(form, there.root)
    emotions = {path: emotion for path, (emotion, *_) in there.faces.items()}
    files = sorted(path.relative_to(there.root).as_posix() for path in there.root.rglob("*") if path.is_file())
    ends = [(path, end) for path in files for end in emotions if f"/{path}".endswith(f"/{end}")]
    of_file = {path: emotions[end] for path, end in ends}
    assert len(of_file) == len(there.faces)
    number_of = {emotion: number for number, emotion in known.meaning(numbering).items()} if numbering else {}

    def beside(words: dict[str, str], **asked: object) -> Loaded:
        folder = PurePosixPath(file).parent
        listed = [(PurePosixPath(path).relative_to(folder), word) for path, word in words.items()]
        there.table(file, [["", "pth", "label", "relFCs"], *([at, *each, 0.87] for at, each in enumerate(listed))])
        return find(form.source).load(there.root, lambda done, total: None, Asked(**{**vars(form.asked), **asked}))

    said = {path: WORDS.get(emotion, emotion) for path, emotion in of_file.items()}
    numbers = {path: str(number_of[emotion]) for path, emotion in of_file.items()} if numbering else said
    for words in (said, numbers):
        read = beside(words)
        assert fingerprint(read.faces) == fingerprint(plain.faces)
        assert f"{PurePosixPath(file).name} (label) agrees with the folders for {len(of_file):,} images" in read.notes
    for words in (said | {picture: other}, numbers | {picture: str(number_of[other]) if numbering else other}):
        with pytest.raises(InputError) as told:
            beside(words)
        (line,) = told.value.problems
        assert f"{file} has other labels (label) than the folders for 1 of {len(of_file):,} images" in line
        assert f"such as {picture}: keep those of the folders with --labels folders" in line
        by_numbers = f" --numbers {numbering}" if numbering else ""
        assert f"data prepare folder SOURCE --as NAME{by_numbers} --labels {file}:label`" in line
        kept = beside(words, labels="folders")
        assert fingerprint(kept.faces) == fingerprint(plain.faces)
        assert kept.notes == plain.notes
        with pytest.raises(InputError, match=f"--labels {re.escape(file)}:label: with a table's labels it is not the"):
            beside(words, labels=f"{file}:label")


FOLDERLESS = ("rafdb_release", "affectnet_npy", "affectnet_csv", "affectnet_yolo", "ckplus_release", "ferplus_pictures")


@pytest.mark.parametrize("name", FOLDERLESS)
def test_labels_are_not_asked_for_where_there_are_no_class_folders(name: str, tmp_path: Path) -> None:
    there = written(by_name(name), tmp_path / "set")
    said = "--labels folders goes with class folders, and SOURCE is"
    refused(by_name(name).source, there.root, said, labels="folders")


NAMED = {
    "rafdb": "list_patition_label.txt", "affectnet": "N_exp.npy", "expw": "label/label.lst", "jaffe": "YM.NE1.49.tiff",
    "kdef": "AF01ANS.JPG", "ravdess": "01-01-06-01-02-01-12_frame3.jpg", "ferg": "aia/aia_anger",
    "oulu_casia": "VL/Strong/P001/Anger", "sfew": "Train_Aligned_Faces/Angry", "caers": "train/Anger/0001.png",
}  # fmt: skip


@pytest.mark.parametrize("source", NAMED)
def test_another_set_is_refused_in_a_line_that_says_what_is_wanted(source: str, tmp_path: Path) -> None:
    for at, emotion in enumerate(EMOTIONS):
        (tmp_path / "set" / emotion).mkdir(parents=True)
        Image.new("L", (48, 48), 20 * at).save(tmp_path / "set" / emotion / "face.png")
    with pytest.raises(InputError) as told:
        find(source).load(tmp_path / "set", lambda done, total: None, NOTHING)
    assert len(str(told.value).splitlines()) == 1
    assert NAMED[source] in str(told.value)
    assert "data prepare folder SOURCE --as NAME" in str(told.value)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def deleted(root: Path, pattern: str) -> None:
    found = sorted(root.glob(pattern))
    assert found
    for each in found:
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def swap(file: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda root: replaced(root / file, old, new)


def delete(pattern: str) -> Callable[[Path], None]:
    return lambda root: deleted(root, pattern)


def rename(old: str, new: str) -> Callable[[Path], None]:
    def move(root: Path) -> None:
        (root / old).rename(root / new)

    return move


RAF_LIST = "basic/EmoLabel/list_patition_label.txt"
CODE = "Emotion/S005/003/S005_003_00000006_emotion.txt"
DATA_FILE = "YOLO_format/data.yaml"
EXPW_LIST = "label/label.lst"
REFUSED: list[tuple[str, Callable[[Path], None], str]] = [
    ("rafdb_release", swap(RAF_LIST, "train_00002.jpg 2", "train_00002.jpg 11"),
     r"line 20 is `train_00002.jpg 11`, as in RAF-DB's compound set"),
    ("rafdb_release", swap(RAF_LIST, "test_0007.jpg", "test_792.jpg"),
     r"line 1 is `test_792.jpg 7`, as in RAF-DB's compound set"),
    ("rafdb_release", swap(RAF_LIST, "test_0007.jpg 7", "test_0007.jpg 0"), r"label '0' is none of 1 surprise 2 fear"),
    ("rafdb_release", swap(RAF_LIST, "test_0007.jpg 7", "test_0007.jpg"), r"line 1 has 1 fields where 2 are wanted"),
    ("rafdb_release", delete("basic/Image/aligned"), r"names 21 faces and none of them is there"),
    ("rafdb_kaggle", swap("train_labels.csv", "train_00003_aligned.jpg,3", "train_00003_aligned.jpg,4"),
     r"train_labels.csv has other labels \(label\) than the folders for 1 of 14 images, such as DATASET/train/3/"),
    ("rafdb_kaggle", rename("DATASET/train/7", "DATASET/train/8"), r"label '8' is none of 1 surprise"),
    ("affectnet_yolo", delete(DATA_FILE), r"YOLO labels and no data.yaml"),
    ("affectnet_yolo", swap(DATA_FILE, "'Happy', ", ""), r"label '7' is none of"),
    ("affectnet_yolo", swap(DATA_FILE, "'Happy'", "'Bored'"), r"unknown emotion 'Bored'"),
    ("affectnet_folders", rename("train/7", "train/11"), r"label '11' is none of 0 neutral"),
    ("ckplus_release", delete("Landmarks"), r"without Landmarks/.*--uncropped"),
    ("ckplus_release", delete("Emotion"), r"frames without Emotion/"),
    ("ckplus_release", swap(CODE, "3.0000000e+00", "3.5"), r"label '3.5' is none of 0 neutral 1 angry 2 contempt"),
    ("ckplus_release", swap(CODE, "3.0000000e+00", "9"), r"label '9' is none of"),
    ("ckplus_numbers_96", delete("CK+48/0"), r"folders 1, 2, 3, 4, 5, 6, which are neither 0 to 6"),
    ("expw_release", swap(EXPW_LIST, "41.12 0", "41.12 7"), r"label '7' is none of 0 angry"),
    ("expw_release", swap(EXPW_LIST, " 90 100 300 290 41.12 0", " 90 x 300 290 41.12 0"),
     r"x 90 300 290 are no corners of a box"),
    ("expw_release", delete("image"), r"no photograph of it is in image/origin"),
    ("ferplus_pictures", swap("data/FER2013Train/label.csv", "(0, 0, 48, 48)", "(0, 0, 40, 40)"),
     r'line 1 is not file, "\(0, 0, 48, 48\)" and ten numbers'),
    ("ravdess_frames", rename("Actor_01/01-01-03-01-01-01-01_frame0.jpg", "Actor_01/01-01-09-01-01-01-01_frame0.jpg"),
     r"label '09' is none of"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spoil", "said"), REFUSED, ids=[f"{name}-{said[:30]}" for name, _, said in REFUSED])
def test_what_would_be_read_wrong_is_refused(
    name: str, spoil: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    there = written(by_name(name), tmp_path / "set")
    spoil(there.root)
    with pytest.raises(InputError, match=said) as told:
        load(by_name(name), there.root)
    assert len(str(told.value).splitlines()) == 1


def test_tables_are_prepared_under_the_users_name(tmp_path: Path) -> None:
    form = by_name("huggingface_parquet")
    there = written(form, tmp_path / "set")
    with pytest.raises(InputError, match="data prepare huggingface SOURCE --as my_faces"):
        prepare("huggingface", there.root, tmp_path / "data")
    manifest = prepare("huggingface", there.root, tmp_path / "data", set_name="hub")["hub"]
    assert (manifest["n"], manifest["proven"], manifest["source"]["name"]) == (21, None, "huggingface")


def read_as(source: str, path: Path, **asked: object) -> Loaded:
    return find(source).load(path, lambda done, total: None, Asked(**asked))  # type: ignore[arg-type]


def refused(source: str, path: Path, said: str, **asked: object) -> None:
    with pytest.raises(InputError, match=said) as told:
        read_as(source, path, **asked)
    assert len(str(told.value).splitlines()) == 1
    assert str(told.value).isprintable()


def test_bare_numbers_of_a_parquet_are_refused_and_read_as_asked(tmp_path: Path) -> None:
    w = Written(tmp_path)
    write_parquet(tmp_path / "train.parquet", [(encoded(w.draw()), at) for at in range(7)])
    refused("huggingface", tmp_path, r"bare numbers as labels, 0 \(1\), .*--numbers NAME: fer2013 \(0 angry 1 disgust")
    read = read_as("huggingface", tmp_path, numbers="fer2013").faces
    assert read.labels_N.tolist() == list(range(7))
    assert set(read.split_N) == {"train"}
    said = r"--numbers rafdb has no 0 \(1 faces\), such as train.parquet row 00000000; it has 1 surprise"
    refused("huggingface", tmp_path, said, numbers="rafdb")


def test_a_numbering_is_the_files_own_and_not_the_columns_order(tmp_path: Path) -> None:
    w = Written(tmp_path)
    names = ("neutral", "anger", "joy")
    write_parquet(tmp_path / "a.parquet", [(encoded(w.draw()), at) for at in (2, 0, 1)], names)
    read = read_as("huggingface", tmp_path)
    assert [EMOTIONS[label] for label in read.faces.labels_N] == ["happy", "neutral", "angry"]
    assert set(read.faces.split_N) == {"test"}


def test_classes_that_are_no_emotion_are_mapped_or_dropped(tmp_path: Path) -> None:
    w = Written(tmp_path)
    write_parquet(tmp_path / "a.parquet", [(encoded(w.draw()), at) for at in range(3)], ("bored", "happy", "other"))
    refused("huggingface", tmp_path, r"no emotion: bored \(1\), other \(1\); give each with --map NAME=EMOTION")
    read = read_as("huggingface", tmp_path, classes=Classes.parse(["bored=neutral"], ["other"])).faces
    assert [EMOTIONS[label] for label in read.labels_N] == ["neutral", "happy"]


def test_parquet_of_no_split_or_no_picture(tmp_path: Path) -> None:
    w = Written(tmp_path)
    for name in ("one", "two"):
        write_parquet(tmp_path / f"{name}.parquet", [(encoded(w.draw()), 0)], ("happy",))
    refused("huggingface", tmp_path, r"'one' is the name of no split; say which with --split NAME=train")
    read = read_as("huggingface", tmp_path, splits={"one": "train", "two": "test"}).faces
    assert read.split_N.tolist() == ["train", "test"]
    (tmp_path / "two.parquet").write_bytes(b"PAR1 and no more")
    refused("huggingface", tmp_path, r"two.parquet is no whole Parquet")
    (tmp_path / "empty").mkdir()
    refused("huggingface", tmp_path / "empty", r"has no .parquet file")


def test_tables_name_their_column_and_their_split(tmp_path: Path) -> None:
    w = Written(tmp_path)
    rows = [["file", "who", "feeling", "usage"]]
    for at, emotion in enumerate(("happy", "sad", "fear")):
        w.save(f"faces/{at}.png", w.draw())
        rows.append([f"{at}.png", "anna", emotion, ("Training", "PublicTest", "PrivateTest")[at]])
    w.table("list.csv", [*rows, ["9.png", "anna", "sad", "Training"], ["broken"]])
    refused("table", tmp_path, r"no column of labels \(emotion or label .*found who, feeling, usage")
    refused("table", tmp_path, "no such column; did you mean feeling", labels="list.csv:felling")
    for path in (tmp_path, tmp_path / "list.csv"):
        read = read_as("table", path, labels="list.csv:feeling")
        assert read.faces.split_N.tolist() == ["train", "public_test", "private_test"]
        assert [EMOTIONS[label] for label in read.faces.labels_N] == ["happy", "sad", "fear"]
        lost = [(skip.row, skip.reason) for skip in read.skipped]
        assert lost == [(4, "it has not 4 fields"), (3, "9.png is not there")]


def test_a_table_that_says_two_emotions_of_a_face_tells_neither(tmp_path: Path) -> None:
    w = Written(tmp_path)
    for at in range(2):
        w.save(f"{at}.png", w.draw())
    w.table("t.csv", [["image", "emotion"], ["0.png", "sad"], ["1.png", "sad"], ["1.png", "happy"]])
    read = read_as("table", tmp_path)
    assert read.faces.source_N.tolist() == ["0.png"]
    assert {skip.reason for skip in read.skipped} == {"it is said to be happy of test and sad of test"}


def test_arrays_are_named_and_belong_together(tmp_path: Path) -> None:
    faces_NHW = np.stack([np.asarray(Written(tmp_path).draw())] * 3)
    np.savez(tmp_path / "a.npz", X=faces_NHW, y=np.arange(3), two=np.arange(2), both=np.ones((3, 2)))
    one = {"images": "X", "labels": "y"}
    refused("arrays", tmp_path, r"say which arrays with --arrays .*; there are X \(3 x 48 x 48 uint8\)")
    refused("arrays", tmp_path, r"has no array 'z'", arrays=one | {"labels": "z"})
    refused("arrays", tmp_path, r"bare numbers as labels, .*--numbers NAME", arrays=one)
    refused("arrays", tmp_path, r"X has 3 faces and two 2 labels", arrays=one | {"labels": "two"}, numbers="fer2013")
    refused("arrays", tmp_path, r"not just one 1 in each row", arrays=one | {"labels": "both"}, numbers="fer2013")
    refused("arrays", tmp_path, r"pictures are N x height x width", arrays={"images": "y", "labels": "y"})
    read = read_as("arrays", tmp_path, arrays=one, numbers="affectnet")
    assert [EMOTIONS[label] for label in read.faces.labels_N] == ["neutral", "happy", "sad"]
    assert np.array_equal(read.faces.images_NHW, faces_NHW)


@pytest.mark.parametrize(
    ("values", "said"),
    [(np.full((1, 48, 48), 300), "values from 300 to 300"), (np.full((1, 48, 48), -0.5), "values from -0.5"),
     (np.full((1, 48, 48), np.nan), "values from nan"), (np.eye(48, dtype=int)[None], "no value but 0 and 1")],
)  # fmt: skip
def test_arrays_of_no_scale_are_refused(values: np.ndarray, said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=values, y=np.arange(1))
    refused("arrays", tmp_path, said, arrays={"images": "X", "labels": "y"}, numbers="fer2013")


def test_hdf5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    face_HW = np.asarray(Written(tmp_path).draw())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for split in ("train", "test"):
            file[f"{split}/images"], file[f"{split}/labels"] = face_HW[None], [b"happy"]
    read = read_as("arrays", tmp_path / "a.h5", arrays={"images": "*/images", "labels": "*/labels"}).faces
    assert read.split_N.tolist() == ["train", "test"]
    assert np.array_equal(read.images_NHW[0], face_HW)


def test_hdf5_of_other_files_or_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    faces_NHW, shape = np.zeros((2, 48, 48), np.uint8), (2, 48, 48)
    (tmp_path / "raw").write_bytes(faces_NHW.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y"], file["x"] = [b"happy", b"sad"], faces_NHW
        file.create_dataset("external", shape, "u1", external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)])
        layout = h5py.VirtualLayout(shape, "u1")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "x", shape)
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("huge", (2**20, 48, 48, 3), "u1", chunks=(1, 48, 48, 3))  # nothing of it is stored
        file.create_dataset("objects", (3_000_000,), h5py.string_dtype())
        file["long"] = ["happy", "s" * 2000]
        file["linked"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = faces_NHW
    for images, labels, said in (
        ("external", "y", "/external lies in other files: save it"),
        ("virtual", "y", "/virtual lies in other files: save it"),
        ("huge", "y", r"/huge \(1048576 x 48 x 48 x 3 uint8\) takes more than 4,294,967,296 bytes"),
        ("x", "objects", "2,000,000 strings in one row are read at most"),
        ("x", "long", "a string has more than 1,000 bytes; no label does"),
        ("linked", "y", "has no array 'linked'"),
    ):
        refused("arrays", tmp_path / "a.h5", said, arrays={"images": images, "labels": labels})
    assert len(read_as("arrays", tmp_path / "a.h5", arrays={"images": "x", "labels": "y"}).faces) == 2


def test_a_parquet_of_one_picture_many_times_is_not_unpacked_beyond_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    picture = encoded(Written(tmp_path).draw()) + bytes(100_000)
    write_parquet(tmp_path / "a.parquet", [(picture, 0)] * 500, ("happy",), 500)
    assert (tmp_path / "a.parquet").stat().st_size < 2 * len(picture)
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        assert len(read_as("huggingface", tmp_path).faces) == 500
        assert pool.max_memory() < 20 * len(picture)
        monkeypatch.setattr(huggingface, "MAX_GROUP_BYTES", 50 * len(picture))
        refused("huggingface", tmp_path, r"row group 0 takes [0-9,]+ bytes or more, and [0-9,]+ are read at most")
    finally:
        pa.set_memory_pool(before)


def test_a_parquet_of_what_is_too_large_for_a_picture_is_not_unpacked(tmp_path: Path) -> None:
    import pyarrow as pa

    picture = encoded(Written(tmp_path).draw())
    write_parquet(tmp_path / "a.parquet", [(bytes([at]) * 50_000_000, 0) for at in range(2)], ("happy",))
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        refused("huggingface", tmp_path, "bytes for 2 rows, and a picture may take 33,554,432")
        assert pool.max_memory() < 2**20
    finally:
        pa.set_memory_pool(before)
    write_parquet(tmp_path / "a.parquet", [(bytes(50_000_000), 0), *[(picture, 0)] * 2], ("happy",))
    read = read_as("huggingface", tmp_path)  # beside others it is counted
    assert [each.reason for each in read.skipped] == ["50000000 bytes are too many for a picture of one face"]
    assert len(read.faces) == 2


def test_rows_and_words_of_a_parquet_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = encoded(Written(tmp_path).draw())
    write_parquet(tmp_path / "a.parquet", [(picture, "happy"), (picture, "h" * 2000), (picture, "sad")])
    read = read_as("huggingface", tmp_path)
    assert [each.reason for each in read.skipped] == ["a label of more than 1,000 characters"]
    monkeypatch.setattr(huggingface, "MOST_ROWS", 2)
    refused("huggingface", tmp_path, "has more than 2 rows; name a folder with fewer")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    (tmp_path / "faces.pkl").write_bytes(pickle.dumps(([1, 2], [0])))
    np.savez(tmp_path / "objects.npz", X=np.array([{"a": 1}], dtype=object))
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object))
    for source in ("arrays", "fer2013", "folder", "rafdb"):
        refused(source, tmp_path / "faces.pkl", "runs whatever its maker wrote")
    refused("arrays", tmp_path / "objects.npz", "pickled objects, which are not read")


@pytest.mark.parametrize(
    ("start", "said"),
    [(b"PAR1", "a Parquet table: read it with `facex-tune data prepare huggingface"),
     (b"\x89HDF\r\n", "an HDF5 file: read"), (b"\x93NUMPY", "a NumPy array: read"),
     (bytes(257) + b"ustar\0", "a tar archive: unpack it"), (b"SQLite format 3\0", "an SQLite database"),
     (b"\x89PNG\r\n\x1a\n", r"one picture \(PNG\)"), (bytes(64), "a binary file of a kind that is not known"),
     (b"7z\xbc\xaf\x27", "a 7-zip archive")],
)  # fmt: skip
@pytest.mark.parametrize("source", ["fer2013", "folder", "jaffe"])
def test_a_binary_is_named_by_its_kind(source: str, start: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(start + bytes(range(256)))
    refused(source, tmp_path / "data.bin", said)


def test_shards_need_a_split_and_words_for_their_numbers(tmp_path: Path) -> None:
    there = written(by_name("webdataset_shards"), tmp_path / "set")
    (there.root / "classnames.txt").unlink()
    refused("webdataset", there.root, "bare numbers as labels.*--numbers NAME")
    assert len(read_as("webdataset", there.root, numbers="alphabetical").faces) == 14
    (there.root / "train" / "0.tar").write_bytes(b"no tar")
    refused("webdataset", there.root, r"0.tar is no whole, plain tar")


def test_pictures_of_shards_are_known_by_their_content(tmp_path: Path) -> None:
    there = written(by_name("webdataset_shards"), tmp_path / "set")
    shard = there.root / "train" / "0.tar"
    with tarfile.open(shard) as archive:
        kept = [(info.name, archive.extractfile(info).read()) for info in archive]  # type: ignore[union-attr]
    with tarfile.open(shard, "w") as archive:
        for name, data in kept:
            info = tarfile.TarInfo(name.replace(".webp", ".img"))
            picture = name.endswith(".webp")
            data = b"no picture" if name == "s0000006.webp" else data
            info.size = len(data)
            if picture:  # what else is in a sample comes first
                beside = tarfile.TarInfo(name.replace(".webp", ".json"))
                beside.size = 2
                archive.addfile(beside, io.BytesIO(b"{}"))
            archive.addfile(info, io.BytesIO(data))
    loaded = read_as("webdataset", there.root)
    assert [str(source) for source in loaded.faces.source_N if "train" in str(source)] == [
        f"train/0.tar/s{at:07d}.img" for at in range(6)
    ]
    assert [(skip.file, skip.reason) for skip in loaded.skipped] == [("train/0.tar/s0000006", "no picture")]


def test_pictures_with_votes_beside_them_are_known_by_their_content(tmp_path: Path) -> None:
    there = written(by_name("ferplus_pictures"), tmp_path / "set")
    wanted = read_as("ferplus", there.root)
    for path in there.root.rglob("*.png"):
        path.rename(path.with_suffix(""))
    for path in there.root.rglob("label.csv"):
        path.write_text(path.read_text().replace(".png", ""))
    found = read_as("ferplus", there.root)
    assert np.array_equal(found.faces.images_NHW, wanted.faces.images_NHW)
    assert [str(source) for source in found.faces.source_N] == [
        str(source).removesuffix(".png") for source in wanted.faces.source_N
    ]


def test_a_box_is_cut_out_square_and_whole(tmp_path: Path) -> None:
    picture = Picture(np.zeros((100, 200), np.uint8), 200, 100, False)
    for box, size in (
        (Box(10, 10, 50, 90), (80, 80)),  # taller than wide: widened
        (Box(0, 0, 20, 60), (60, 60)),  # at the edge: moved inside
        (Box(-10, -10, 50, 50), (50, 50)),  # partly outside: what is there
        (Box(0, 0, 200, 100), (200, 100)),  # wider than the picture is high: as far as it goes
    ):
        face = cut(picture, box, 48)
        assert (face.width, face.height) == size
        assert face.image_HW.shape == (48, 48)
    for box in (Box(10, 10, 10, 50), Box(190, 10, 290, 90), Box(50, 50, 10, 10)):
        with pytest.raises(ValueError, match="does not lie in the picture of 200 x 100"):
            cut(picture, box, 48)


def test_faces_of_one_photograph_stay_together(tmp_path: Path) -> None:
    there = written(by_name("expw_release"), tmp_path / "set")
    prepare("expw", there.root, tmp_path / "data", asked=Asked(incomplete=True))
    faces = open_set(tmp_path / "data", "expw")
    photographs = [name.partition(" face ")[0] for name in faces.source_N.tolist()]
    assert split_by(faces.group_N, photographs) == {frozenset({name}) for name in photographs}


SCORED = {  # form: protocol, faces scored, classes, clusters
    "rafdb_release": ("rafdb.test", 7, 7, 7), "affectnet_npy": ("affectnet.val", 7, 7, 7),
    "affectnet_csv": ("affectnet.val8", 8, 8, 8),
    "affectnet_names": ("affectnet.val", 7, 7, 7),
    "jaffe_release": ("jaffe", 14, 7, 2),
    "kdef_release": ("kdef.front", 28, 7, 2), "expw_release": ("expw", 14, 7, 7), "ferg_release": ("ferg", 14, 7, 2),
    "oulu_casia_release": ("oulu_casia.vl", 36, 6, 2), "sfew_folders": ("sfew.val", 7, 7, 7),
    "caers_cut_out": ("caers.test", 7, 7, 7), "ravdess_frames": ("ravdess", 32, 7, 2),
    "ckplus_release": ("ckplus.6", 36, 6, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", SCORED)
def test_a_protocol_scores_its_faces_classes_and_clusters(name: str, tmp_path: Path) -> None:
    protocol_id, n, n_classes, n_clusters = SCORED[name]
    protocol = protocols.find(protocol_id)
    there = written(by_name(name), tmp_path / "set")
    prepare(protocol.data, there.root, tmp_path / "data", asked=by_name(name).asked)
    faces = open_set(tmp_path / "data", protocol.data)
    rows_N, labels_N = scoring.judged(protocol, faces)
    assert (len(rows_N), len(set(labels_N.tolist()))) == (n, n_classes)
    assert len(set(faces.group_N[rows_N].tolist())) == n_clusters
    if protocol.only:
        assert len(rows_N) < len(faces)
