"""Folders as they lie on people's disks: read right, or refused in a line that helps and invents nothing."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forms import ALPHABET, FORMS, Written  # beside this file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from facex_tune.data import copies, known, naming
from facex_tune.data.faces import (
    Faces,
    fingerprint,
    holdout,
    left_out,
    notes_on_majority,
    open_set,
    read_manifest,
    told_of_majority,
)
from facex_tune.data.importing import Asked, Loaded
from facex_tune.data.prepare import find, names, prepare, preview
from facex_tune.data.sources import ckplus, fer2013, ferplus, folder
from facex_tune.emotions import AMBIGUOUS, EMOTIONS, canonical
from facex_tune.errors import InputError
from facex_tune.inference import predict

SEVEN = EMOTIONS[:7]


@pytest.fixture(scope="module")
def pool(faces: Faces) -> dict[str, list[np.ndarray]]:
    return {name: list(faces.images_NHW[faces.labels_N == label]) for label, name in enumerate(SEVEN)}


Pool = dict[str, list[np.ndarray]]


def put(path: Path, face_HW: np.ndarray, size: tuple[int, int] = (48, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(face_HW)
    (image if size == (48, 48) else image.resize(size)).save(path)


def tree(root: Path, pool: Pool, splits: Iterable[str] = ("",), classes: Sequence[str] = SEVEN, n: int = 2) -> Path:
    """`<split>/<class>/<split><k>.png`; the k-th class holds the k-th emotion's faces."""
    for rank, split in enumerate(splits):
        for name, emotion in zip(classes, [*SEVEN, "sad"], strict=False):
            for k in range(n):
                put(root / split / name / f"{k}.png", pool[emotion][(rank * n + k) % 15])
    return root


def load(path: Path, **asked: Any) -> Loaded:
    return folder.load(path, lambda done, total: None, Asked.parse(**asked))


def refused(path: Path, **asked: Any) -> str:
    """The one line that refuses, which must not propose an emotion for a name."""
    with pytest.raises(InputError) as told:
        load(path, **asked)
    (line,) = told.value.problems
    assert not any(f"={emotion}" in line for emotion in EMOTIONS)
    return line


def right(loaded: Loaded, pool: Pool) -> bool:
    """Whether each face's label is that of the emotion which it was drawn for."""
    of = {image.tobytes(): label for label, name in enumerate(SEVEN) for image in pool[name]}
    pairs = zip(loaded.faces.images_NHW, loaded.faces.labels_N.tolist(), strict=True)
    return all(of[image.tobytes()] == label for image, label in pairs)


@pytest.mark.parametrize(
    ("splits", "read"),
    [
        (("train_set", "val_set", "test_set"), ("train", "public_test", "test")),
        (("Train_Aligned_Faces", "Val_Aligned_Faces_new"), ("train", "public_test")),
        (("FER2013Train", "FER2013Valid", "FER2013Test"), ("train", "public_test", "test")),
        (("Training Data", "Testing Data"), ("train", "test")),
        (("trainset", "validation_set"), ("train", "public_test")),
        (("archive (3)/fer/Train", "archive (3)/fer/Test"), ("train", "test")),
        (("test/mine/train", "test/mine/valid"), ("train", "public_test")),
        (("PublicTest", "PrivateTest"), ("public_test", "private_test")),
    ],
)
def test_known_names_of_splits(tmp_path: Path, pool: Pool, splits: Sequence[str], read: Sequence[str]) -> None:
    loaded = load(tree(tmp_path, pool, splits))
    assert dict.fromkeys(loaded.faces.split_N.tolist()) == dict.fromkeys(read)
    assert right(loaded, pool)


def test_unknown_folders_above_the_classes_are_refused_until_decided(tmp_path: Path, pool: Pool) -> None:
    tree(tmp_path, pool, ("aia", "bonnie", "jules"))
    line = refused(tmp_path)
    assert "above its classes that are no split: aia (14 images), bonnie (14 images), jules (14 images)" in line
    assert "--split NAME=train|validation|test" in line
    assert "jules (14 images)" in refused(tmp_path, splits=["aia=train", "bonnie=validation"])
    loaded = load(tmp_path, splits=["aia=train", "BONNIE=validation"], drop=["jules"])
    assert dict.fromkeys(loaded.faces.split_N.tolist()) == dict.fromkeys(["train", "public_test"])
    assert len(loaded.faces) == 28
    assert right(loaded, pool)
    assert len(load(tmp_path, drop=["aia", "jules"]).faces) == 14  # one alone is a wrapper


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"splits": ["aia=eval"]}, "--split 'aia=eval': write NAME=train|validation|test"),
        ({"splits": ["ai=train"]}, "--split ai: .* has no such folder: did you mean aia"),
        ({"numbers": "raf"}, "--numbers 'raf': no numbering of that name; did you mean rafdb"),
        ({"subject": "(x"}, r"--subject '\(x' is no regular expression"),
        ({"subject": r"P(\d+)"}, r"--subject .* matches 0 of 28 images of .*, and not aia/angry/0.png, "),
        ({"sequence": "aia"}, r"--sequence 'aia' matches 14 of 28 images of .*, and not bonnie/angry/0.png"),
        ({"labels": "labels.csv"}, "--labels 'labels.csv': write FILE:COLUMN, or folders"),
        ({"labels": "gone.csv:emotion"}, "--labels gone.csv: .* has no such file"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, pool: Pool, asked: dict[str, Any], said: str) -> None:
    tree(tmp_path, pool, ("aia", "bonnie"))
    with pytest.raises(InputError, match=said):
        load(tmp_path, **({"splits": ["aia=train", "bonnie=test"]} | asked))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("Image/aligned/train_00001_aligned.jpg", "aligned look like mere containers"),
        ("S005/001/S005_001_00000011.png", "001 look like sequences"),
        ("Actor_01/01-01-03-01-01-01-01_frame0.png", "Actor_01 look like people (--subject REGEX)"),
        ("KA.AN1.39.png", "(no folder) (1 images)"),
        ("Test/Test_Aligned_Faces/film.png", "(no class below Test/Test_Aligned_Faces) (1 images)"),
    ],
)
def test_a_hint_says_what_a_folder_looks_like_and_invents_no_label(
    tmp_path: Path, pool: Pool, path: str, said: str
) -> None:
    put(tmp_path / path, pool["sad"][0])
    assert said in refused(tmp_path)


def test_no_hint_anywhere_proposes_an_emotion() -> None:
    from typer.testing import CliRunner

    from facex_tune import cli

    root = Path(__file__).parents[2]
    pages = "".join(path.read_text() for path in (root / "README.md", *(root / "docs").glob("*.md")))
    shown = CliRunner().invoke(cli.app, ["data", "prepare", "--help"]).output + pages
    assert not [emotion for emotion in EMOTIONS if f"={emotion}" in shown.replace("CLASS=EMOTION", "")]


@pytest.mark.parametrize("numbering", known.NUMBERINGS)
def test_numbers_mean_what_the_user_says(tmp_path: Path, pool: Pool, numbering: str) -> None:
    meant = {number: emotion for number, emotion in known.meaning(numbering).items() if emotion in SEVEN}
    for number, emotion in meant.items():
        put(tmp_path / "train" / str(number) / "x.png", pool[emotion][number])
    line = refused(tmp_path)
    assert "are numbers, which mean another emotion in each set" in line
    assert f"{numbering} ({known.told(numbering)})" in line
    loaded = load(tmp_path, numbers=numbering)
    assert right(loaded, pool)
    assert len(loaded.faces) == len(meant)


def test_a_number_that_the_numbering_lacks(tmp_path: Path, pool: Pool) -> None:
    tree(tmp_path, pool, classes=[str(number) for number in range(8)][::-1], n=4)
    with pytest.raises(InputError, match=re.escape(
        "--numbers rafdb has no 0 (4 faces), such as 0/0.png, 0/1.png, 0/2.png; it has 1 surprise 2 fear"
    )):  # fmt: skip
        load(tmp_path, numbers="rafdb")
    rows = [[f"{at}/{k}.png", at] for at in range(9, 0, -1) for k in range(4)]
    table(tmp_path / "l.csv", [["image", "label"], *rows])
    for at in (8, 9):
        for k in range(4):
            put(tmp_path / str(at) / f"{k}.png", pool["sad"][k])
    with pytest.raises(InputError, match=re.escape(
        "--numbers rafdb has no 8 (4 faces), 9 (4 faces), such as 9/0.png, 9/1.png, 9/2.png; it has 1 surprise"
    )):  # fmt: skip
        load(tmp_path, numbers="rafdb", labels="l.csv:label")


def table(path: Path, rows: Iterable[Sequence[object]], separator: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_a_label_file_beside_the_folders_is_held_against_them(tmp_path: Path, pool: Pool, separator: str) -> None:
    tree(tmp_path, pool)
    words = {name: ("sadness" if name == "sad" else name.upper()) for name in SEVEN}
    rows = [["", "pth", "label", "relFCs"]]
    rows += [[str(k), f"{name}/{k}.png", words[name], "0.87"] for name in SEVEN for k in range(2)]
    table(tmp_path / "labels.csv", rows, separator)
    assert load(tmp_path).notes == ("labels.csv (label) agrees with the folders for 14 images",)
    rows[1][2] = rows[4][2] = "surprise"
    table(tmp_path / "labels.csv", rows, separator)
    line = refused(tmp_path)
    assert "labels.csv has other labels (label) than the folders for 2 of 14 images, such as angry/0.png" in line
    assert "--labels labels.csv:label or --labels folders" in line
    assert right(load(tmp_path, labels="folders"), pool)
    changed = load(tmp_path, labels="labels.csv:label").faces
    assert EMOTIONS[changed.labels_N[changed.source_N.tolist().index("angry/0.png")]] == "surprise"
    assert np.bincount(changed.labels_N).tolist() == [1, 1, 2, 2, 2, 4, 2]


def test_labels_from_a_file_alone(tmp_path: Path, pool: Pool) -> None:
    rows = [["user.id", "image", "emotion"]]
    for at, name in enumerate((*SEVEN, *SEVEN)):
        put(tmp_path / "images" / f"p_{at}.png", pool[name][at])
        rows.append([str(at), f"p_{at}.png", name.upper() if at % 2 else name])
    table(tmp_path / "data" / "legend.csv", rows)
    loaded = load(tmp_path, labels="legend.csv:Emotion")
    assert right(loaded, pool)
    assert len(loaded.faces) == 14
    put(tmp_path / "images" / "unnamed.png", pool["sad"][0])
    skipped = load(tmp_path, labels="legend.csv:emotion").skipped
    assert [(skip.file, skip.reason) for skip in skipped] == [
        ("images/unnamed.png", "data/legend.csv does not name it")
    ]
    with pytest.raises(InputError, match=r"--labels data/legend\.csv:mood: no such column; .*emotion"):
        load(tmp_path, labels="legend.csv:mood")
    table(tmp_path / "data" / "legend.csv", [*rows, ["9", "gone.png", "sad"]])
    with pytest.raises(InputError, match=r"1 of 15 rows name no image, such as gone\.png"):
        load(tmp_path, labels="legend.csv:emotion")
    table(tmp_path / "data" / "legend.csv", [*rows[:-1], ["9", rows[-1][1], "bored"]])
    with pytest.raises(InputError, match=r"labels that are no emotion: bored \(1 rows\)"):
        load(tmp_path, labels="legend.csv:emotion")


NAMES = {
    "CK+": "{emotion}/S{subject:03d}_{sequence:03d}_{frame:08d}.png",
    "RAVDESS": "{emotion}/01-01-03-01-01-{sequence:02d}-{subject:02d}_frame{frame}.png",
    "folders": "P{subject:03d}/{emotion}/{sequence}{frame}.png",
    "words": "train/{emotion}/subject{subject:02d}_{emotion}_{sequence}{frame}.png",
}


@pytest.mark.parametrize("habit", NAMES)
def test_people_stay_together(tmp_path: Path, pool: Pool, habit: str) -> None:
    """Whose names tell them, without being asked: in holdouts too."""
    subject_of = {}
    for at in range(60):
        of = {"subject": 1 + at % 6, "sequence": at // 30, "frame": at, "emotion": SEVEN[at % 5]}
        name = NAMES[habit].format(**of)
        put(tmp_path / name, pool[SEVEN[at % 5]][at % 15])
        subject_of[name] = of["subject"]
    loaded = load(tmp_path)
    subjects = np.array([subject_of[name] for name in loaded.faces.source_N.tolist()])
    assert len({*zip(subjects.tolist(), loaded.faces.group_N.tolist(), strict=True)}) == 6
    assert (loaded.faces.sequence_N >= 0).all()
    assert "names tell 6 people" in loaded.notes[0]
    train_N, validation_N = holdout(loaded.faces, 0.3, seed=0)
    assert validation_N.any()
    assert not set(subjects[train_N]) & set(subjects[validation_N])
    if habit != "folders":
        apart = load(tmp_path, subject="none").faces
        assert (apart.sequence_N == -1).all()


def test_subjects_and_sequences_by_patterns(tmp_path: Path, pool: Pool) -> None:
    for at in range(24):
        person, clip = "xyz"[at % 3], at % 6 // 3
        put(tmp_path / SEVEN[at % 2] / f"{person}-{clip}-{at}.png", pool[SEVEN[at % 2]][at % 15])
    loaded = load(tmp_path, subject=r"/([xyz])-", sequence=r"-(\d)-").faces
    assert len(set(loaded.group_N.tolist())) == 3
    assert len(set(loaded.sequence_N.tolist())) == 6
    alone = load(tmp_path, sequence=r"[xyz]-\d").faces
    assert len(set(alone.group_N.tolist())) == 6
    assert alone.group_N.tolist() == alone.sequence_N.tolist()


def test_people_who_are_trained_on_and_tested_are_told(tmp_path: Path, pool: Pool) -> None:
    for split in ("train", "test"):
        for at in range(8):
            put(tmp_path / split / "sad" / f"subject{at % 4:02d}_{at}.png", pool["sad"][at])
    assert "4 of 4 people of the other splits are also trained on" in load(tmp_path).notes


def test_a_tree_that_lies_there_twice_counts_once(tmp_path: Path, pool: Pool) -> None:
    tree(tmp_path / "images", pool, ("train", "validation"))
    alone = load(tmp_path)
    shutil.copytree(tmp_path / "images", tmp_path / "images" / "images", ignore=shutil.ignore_patterns("images"))
    twice = load(tmp_path)
    assert fingerprint(twice.faces) == fingerprint(alone.faces)
    assert len(twice.skipped) == 28
    assert "a second copy of images/" in twice.skipped[0].reason


def test_an_image_in_folders_of_two_emotions_is_refused(tmp_path: Path, pool: Pool) -> None:
    put(tmp_path / "happy" / "sad" / "x.png", pool["sad"][0])
    assert "happy/sad/x.png lies in folders of two emotions, happy and sad" in refused(tmp_path)


def test_whole_photographs_are_refused_above_five_in_a_hundred(tmp_path: Path, pool: Pool) -> None:
    for at in range(40):
        put(tmp_path / "in" / "sad" / f"{at}.png", pool["sad"][at % 15], (300, 200) if at < 2 else (100, 120))
    manifest = prepare("folder", tmp_path / "in", tmp_path, set_name="few")["few"]
    assert manifest["pictures"] == {
        "median_width": 100, "median_height": 120, "median_aspect": 0.833, "enlarged": 0,
        "uncropped": ["sad/0.png", "sad/1.png"],
    }  # fmt: skip
    put(tmp_path / "in" / "sad" / "40.png", pool["sad"][0], (300, 200))
    with pytest.raises(InputError, match=r"3 of 41 pictures look like whole photographs \(median 100 x 120 pixels\)"):
        prepare("folder", tmp_path / "in", tmp_path, set_name="many")
    assert not (tmp_path / "many").exists()
    asked = Asked(uncropped=True)
    manifest = prepare("folder", tmp_path / "in", tmp_path, set_name="many", asked=asked)["many"]
    assert len(manifest["pictures"]["uncropped"]) == 3
    assert manifest["source"]["uncropped"] is True
    from facex_tune.data import audit

    document = audit.document(audit.search(["many"], tmp_path), ["many"], tmp_path)
    assert len(document["sets"]["many"]["uncropped"]) == 3


@pytest.mark.parametrize("size", [(1920, 1280), (640, 480), (100, 200)])
def test_predict_refuses_whole_photographs(tmp_path: Path, pool: Pool, size: tuple[int, int]) -> None:
    put(tmp_path / "x.png", pool["sad"][0], size)
    with pytest.raises(InputError, match=f"{size[0]} x {size[1]} pixels look like a whole photograph.*--uncropped"):
        predict.read_faces([tmp_path / "x.png"])
    assert predict.read_faces([tmp_path / "x.png"], uncropped=True).shape == (1, 48, 48)


def test_enlarged_animated_and_empty_pictures_are_told(tmp_path: Path, pool: Pool) -> None:
    for at in range(6):
        put(tmp_path / "in" / "sad" / f"{at}.png", pool["sad"][at], (24, 30))
        put(tmp_path / "in" / "sad" / f"flat{at}.png", np.full((48, 48), 20 * at, np.uint8))
    first = Image.fromarray(pool["sad"][7])
    first.save(tmp_path / "in" / "sad" / "several", "GIF", save_all=True, append_images=[first.rotate(90)])
    manifest = prepare("folder", tmp_path / "in", tmp_path, set_name="mine")["mine"]
    assert manifest["n"] == 13
    assert manifest["pictures"]["enlarged"] == 6
    assert manifest["notes"] == [
        "1 of 13 files hold more than one picture: the first of each was read",
        "6 of 13 faces show next to nothing (their pixels' standard deviation is under 1)",
    ]
    assert read_manifest(tmp_path, "mine") == manifest


def test_what_is_not_trained_on_or_scored_is_said() -> None:
    whole = dict.fromkeys(SEVEN, 3)
    without = {name: n for name, n in whole.items() if name != "neutral"}
    assert left_out({"train": whole, "test": whole}) == []
    assert "contempt (4 faces) is none of the seven emotions" in left_out({"train": whole | {"contempt": 4}})[0]
    assert left_out({"train": without}) == [
        "no face of neutral in train: a model trained on it never learns to answer so"
    ]
    said = left_out({"train": without, "test": without}, trained=False)
    assert said == ["no face of neutral in test: not scored there"]
    written = {"notes": [told_of_majority(16, 300), "of something else"]}
    assert notes_on_majority(written, 7) == [told_of_majority(16, 300)]
    assert "16 faces are contempt, which is trained on with classes: 8 alone, and 300 have" in told_of_majority(16, 300)
    assert "16 faces are contempt, and 300 have" in notes_on_majority(written, 8)[0]


@pytest.mark.parametrize("classes", [SEVEN, (*SEVEN, "contempt")])
def test_other_class_folders_are_no_ferplus(tmp_path: Path, pool: Pool, classes: Sequence[str]) -> None:
    tree(tmp_path, pool, ("train", "test"), classes)
    with pytest.raises(InputError, match=r"is not FER\+: .* named fer0000000\.png; prepare other class folders with"):
        ferplus.load(tmp_path, lambda done, total: None)
    for at, path in enumerate(sorted(tmp_path.rglob("*.png"))):
        path.rename(path.with_name(f"train_{at:05d}_aligned.png"))
    with pytest.raises(InputError, match=r"is not FER\+: .*; it looks like RAF-DB: run"):
        ferplus.load(tmp_path, lambda done, total: None)


@pytest.mark.parametrize(
    ("name", "said"),
    [("fer0000001.png", "FER+"), ("S005_001_00000011.png", "CK+"), ("AF01ANS.JPG", "KDEF"), ("YM.NE1.49.png", "JAFFE"),
     ("train_00001_aligned.jpg", "RAF-DB"), ("PublicTest_12.jpg", "FER2013"), ("01-01-03-01-01-01-01_f.png", "RAVDESS"),
     ("FERG_DB_256/aia/aia_anger/aia_anger_1.png", "FERG"), ("face.png", None)],
)  # fmt: skip
def test_sets_are_recognised_by_their_names(name: str, said: str | None) -> None:
    found = known.by_names([name])
    assert (found.name if found else None) == said


def test_sets_are_recognised_by_their_counts() -> None:
    cases = {
        (45, 59, 25, 69, 28, 83, 593, 18): "CK+ (ckextended.csv)",
        (1619, 355, 877, 5957, 2460, 867, 3204): "RAF-DB",
        (8624, 4542, 6209, 39526, 16636, 11062, 41081): "MMAFEDB (a copy of ExpW and FER2013)",
        (0, 1): None,
    }
    for counts, name in cases.items():
        found = known.by_counts(reversed(counts))
        assert (found.name if found else None) == name


def test_published_counts_add_up() -> None:
    assert [published.n for published in fer2013.PUBLISHED] == [35887]
    assert [published.n for published in ckplus.PUBLISHED] == [981, 920, 1574]  # two on Kaggle, and as released
    assert {split: sum(of.values()) for split, of in fer2013.PUBLISHED[0].by_split.items()} == {
        "train": 28709, "public_test": 3589, "private_test": 3589
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    ["wut ekel angst freude trauer überraschung neutral", "colère dégoût peur joie tristesse surprise neutre",
     "enojado asco miedo feliz triste sorpresa neutral", "raiva nojo medo feliz triste surpreso neutro",
     "kızgın iğrenme korku mutlu üzgün şaşkın nötr",  # noqa: RUF001
     "KIZGIN İĞRENME KORKU MUTLU ÜZGÜN ŞAŞKIN NÖTR",
     "marah jijik takut senang sedih terkejut netral", "生气 厌恶 害怕 高兴 悲伤 惊讶 中性",
     "злость отвращение страх радость грусть удивление нейтральный", "an di fe ha sa su ne",
     "anger disgusted afraid joy sadness suprised normal", "anger disgust af happiness sadness surprize calm",
     "colere degout peur joie tristesse surprise neutre"],
)  # fmt: skip
def test_names_in_many_languages(words: str) -> None:
    import unicodedata

    for form in ("NFC", "NFD"):  # as Linux and as a Mac keep names
        assert [EMOTIONS[canonical(unicodedata.normalize(form, word))] for word in words.split()] == list(SEVEN)


def test_ambiguous_names_are_refused(tmp_path: Path, pool: Pool) -> None:
    for word in AMBIGUOUS:
        with pytest.raises(InputError, match="is ambiguous"):
            canonical(word)
    put(tmp_path / "disgusto" / "x.png", pool["disgust"][0])
    assert "as in --map disgusto=EMOTION" in refused(tmp_path)
    assert load(tmp_path, renames=["disgusto=disgust"]).faces.labels_N.tolist() == [1]


@pytest.mark.parametrize(
    ("name", "emotion"),
    [("0_angry", "angry"), ("1-disgust", "disgust"), ("2.fear", "fear"), ("Happy Faces", "happy"),
     ("Neutral_face", "neutral"), ("Surprised ", "surprise"), ("happy2", None), ("not happy", None),
     ("5", None), ("happy_sad", None)],
)  # fmt: skip
def test_decorated_names(name: str, emotion: str | None) -> None:
    found = naming.emotion_of(name)
    assert (None if found is None else EMOTIONS[found]) == emotion


def test_a_preview_shows_labels_and_prepares_nothing(tmp_path: Path, pool: Pool) -> None:
    tree(tmp_path / "in", pool, ("train", "test"))
    document, written = preview("folder", tmp_path / "in", tmp_path / "seen", lambda done, total: None, "mine", Asked())
    assert [path.name for path in written] == ["classes.png", "faces.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert document["counts"]["train"] == dict.fromkeys(SEVEN, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "seen"]


STRAY = {
    "__MACOSX/train/happy/._1.jpg": b"\x00\x05\x16\x07",
    ".DS_Store": b"\x00\x00\x00\x01Bud1",
    "train/.DS_Store": b"\x00\x00\x00\x01Bud1",
    "train/happy/Thumbs.db": b"\xd0\xcf\x11\xe0",
    "test/sad/desktop.ini": b"[.ShellClassInfo]",
    "README.txt": b"about this set\n",
    "licence": b"all rights\n",
}
WRAPPERS = ("", "archive (3)/", "my set/images/")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, pool: Pool) -> dict[str, tuple[Path, str]]:
    """A small set of each importer that reads files, and its fingerprint as it was made."""
    root = tmp_path_factory.mktemp("published")
    usages = ("Training", "Training", "Training", "PublicTest", "PrivateTest", "Training")
    for at in range(42):
        name, usage = SEVEN[at % 7], usages[at // 7]
        half = "train" if usage == "Training" else "test"
        put(root / "fer2013" / half / name / f"{usage}_{at}.png", pool[name][at // 7])
        put(root / "folder" / half / name / f"im{at}.png", pool[name][at // 7])
        put(root / "ferplus" / half / name / f"fer{at:07d}.png", pool[name][at // 7])
    for at, name in enumerate(("anger", "disgust", "fear", "happy", "sadness", "surprise", "contempt") * 3):
        put(root / "ckplus" / "CK+48" / name / f"S{at % 5:03d}_{at:03d}_{at:08d}.png", pool[SEVEN[at % 7]][at // 7])
    faces = ["emotion,pixels,Usage"]
    votes = ["Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"]
    for at in range(42):
        name, usage = SEVEN[at % 7], usages[at // 7]
        faces.append(f"{at % 7},{' '.join(map(str, pool[name][at // 7].ravel().tolist()))},{usage}")
        votes.append(f"{usage},fer{at:07d}.png,{','.join(str(at * k % 11) for k in range(10))}")
    for folder_name in ("fer2013_csv", "ferplus_csv"):
        (root / folder_name).mkdir()
        (root / folder_name / "fer2013.csv").write_text("\n".join(faces))
    (root / "ferplus_csv" / "fer2013new.csv").write_text("\n".join(votes))
    return {name: (root / name, read(name, root / name)) for name in BY_FOLDER}


BY_FOLDER = ("fer2013", "fer2013_csv", "folder", "ferplus", "ferplus_csv", "ckplus")


def test_every_source_of_files_is_held_to_another_order_litter_and_a_deeper_root() -> None:
    """Here, or as a form beside `test_importers`' property."""
    held = {name.removesuffix("_csv") for name in BY_FOLDER} | {form.source for form in FORMS}
    assert held == {name for name in names() if find(name).NEEDS_SOURCE}


def read(name: str, path: Path) -> str:
    source = name.removesuffix("_csv")
    return fingerprint(find(source).load(path, lambda done, total: None, Asked(incomplete=True)).faces)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.randoms(use_true_random=False),
    stray=st.sets(st.sampled_from(sorted(STRAY))),
    wrapper=st.sampled_from(WRAPPERS),
    packed=st.booleans(),
)
@pytest.mark.parametrize("source", BY_FOLDER)
def test_order_stray_files_and_wrappers_change_nothing(
    source: str,
    published: dict[str, tuple[Path, str]],
    tmp_path_factory: pytest.TempPathFactory,
    order: Any,
    stray: set[str],
    wrapper: str,
    packed: bool,
) -> None:
    import zipfile

    whole, wanted = published[source]
    contents = {path.relative_to(whole).as_posix(): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    contents |= {name: STRAY[name] for name in stray}
    names = sorted(contents)
    order.shuffle(names)
    place = tmp_path_factory.mktemp("changed")
    if packed:
        with zipfile.ZipFile(place / "it.zip", "w") as archive:
            for name in names:
                archive.writestr(wrapper + name, contents[name])
        assert read(source, place / "it.zip") == wanted
        return
    for name in names:
        path = place / "it" / wrapper / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[name])
    assert read(source, place / "it") == wanted


def test_frames_in_a_folder_for_each_video(tmp_path: Path, pool: Pool) -> None:
    """AFEW."""
    for split in ("Train_AFEW", "Val_AFEW"):
        for at, name in enumerate(SEVEN):
            for frame in range(3):
                video = f"{split[0] == 'V':d}{at:04d}6280"
                put(tmp_path / split / name.title() / video / f"{video}_{frame:02d}.png", pool[name][frame])
    line = refused(tmp_path)
    assert "has folders below its classes: 000006280 (3 images), 000016280 (3 images), 000026280 (3 images)" in line
    assert "with --sequence REGEX or --subject REGEX" in line
    (pattern,) = re.findall(r"such as --sequence '(.*?)'", line)
    assert refused(tmp_path, sequence=r"clip\d") == line
    loaded = load(tmp_path, sequence=pattern)
    assert right(loaded, pool)
    assert dict.fromkeys(loaded.faces.split_N.tolist()) == dict.fromkeys(["train", "public_test"])
    assert np.bincount(loaded.faces.sequence_N).tolist() == [3] * 14


def test_classes_of_other_moods_and_a_broken_file(tmp_path: Path, pool: Pool) -> None:
    """FANE."""
    tree(tmp_path, pool, classes=[*SEVEN, "confused"])
    tree(tmp_path, pool, classes=["shy"])
    (tmp_path / "happy" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    line = refused(tmp_path)
    assert "has classes that are no emotion: confused (2 images), shy (2 images); map each" in line
    loaded = load(tmp_path, drop=["confused", "shy"])
    assert right(loaded, pool)
    assert [skip.file for skip in loaded.skipped] == ["happy/broken.jpg"]
    assert len(loaded.faces) == 14


def test_one_folder_of_classes(tmp_path: Path, pool: Pool) -> None:
    """NHFI: no splits, its own words, contempt too."""
    words = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutrality", "contempt")
    loaded = load(tree(tmp_path, pool, classes=words))
    assert np.bincount(loaded.faces.labels_N).tolist() == [2] * 8
    assert set(loaded.faces.split_N) == {"test"}
    assert right(replace(loaded, faces=loaded.faces.take(loaded.faces.labels_N < 7)), pool)


@pytest.mark.parametrize("form", ["folder", "train.csv", "test.csv"])
def test_the_challenges_pair_has_no_labels_to_test_on(tmp_path: Path, pool: Pool, form: str) -> None:
    pixels = [" ".join(map(str, pool[name][0].ravel().tolist())) for name in SEVEN]
    labelled = [f"{at},{each}" for at, each in enumerate(pixels)]
    (tmp_path / "train.csv").write_text("\n".join(["emotion,pixels", *labelled]))
    (tmp_path / "test.csv").write_text("\n".join(["pixels", *pixels]))
    said = r"no column (emotion, )?[Uu]sage.*the challenge's .* no labels.* get fer2013\.csv"
    with pytest.raises(InputError, match=said) as told:
        fer2013.load(tmp_path if form == "folder" else tmp_path / form, lambda done, total: None)
    assert len(told.value.problems) == 1


def test_ckplus_in_whole_frames_by_class(tmp_path: Path) -> None:
    """CK+48's folders at 640×490: the middle is read, and only if that was asked for."""
    there = Written(tmp_path / "set")
    for at, name in enumerate(("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")):
        there.save(f"{name}/S010_{at:03d}_00000014.png", there.scene(640, 490, (200, 90, 460, 400)))
    said = r"7 of 7 pictures look like whole photographs \(median 640 x 490 .*--uncropped"
    with pytest.raises(InputError, match=said):
        prepare("ckplus", there.root, tmp_path / "data", asked=Asked(incomplete=True))
    asked = Asked(incomplete=True, uncropped=True, size=96)
    assert prepare("ckplus", there.root, tmp_path / "data", asked=asked)["ckplus"]["face"]["size"] == 96
    assert open_set(tmp_path / "data", "ckplus").labels_N.tolist() == [0, 7, 1, 2, 3, 4, 5]


def test_mmafedb_is_named_and_its_copies_are_told(
    tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree of faces that are FER2013's, under other names; by its counts, as if it had so few, it is recognised."""
    for at in range(42):
        usage = ("Training", "PublicTest", "PrivateTest")[at // 7 % 3]
        half = "train" if usage == "Training" else "test"
        put(tmp_path / "fer" / half / SEVEN[at % 7] / f"{usage}_{at}.png", pool[SEVEN[at % 7]][at // 7])
        split = ("train", "valid", "test")[at // 7 % 3]
        put(tmp_path / "MMAFEDB" / split / SEVEN[at % 7] / f"{at}{SEVEN[at % 7]}.png", pool[SEVEN[at % 7]][at // 7])
    put(tmp_path / "MMAFEDB" / "train" / "sad" / "more.png", pool["sad"][9])
    assert "by how many faces each class has" not in " ".join(load(tmp_path / "MMAFEDB").notes)
    counted = known.Known("MMAFEDB (a copy of ExpW and FER2013)", "folder", ((6, 6, 6, 6, 6, 6, 7),))
    monkeypatch.setattr(known, "KNOWN", (*known.KNOWN, counted))
    prepare("fer2013", tmp_path / "fer", tmp_path / "data", asked=Asked(incomplete=True))
    manifest = prepare("folder", tmp_path / "MMAFEDB", tmp_path / "data", set_name="mma")["mma"]
    assert "by how many faces each class has, it is MMAFEDB (a copy of ExpW and FER2013)" in manifest["notes"]
    read_set = open_set(tmp_path / "data", "mma")
    assert right(Loaded(read_set, []), pool)
    assert {split: sum(of.values()) for split, of in manifest["counts"].items()} == {
        "train": 15, "public_test": 14, "test": 14
    }  # fmt: skip
    (row,) = copies.across(tmp_path / "data", "mma")
    assert (row.in_set, row.exact, row.n) == ("fer2013", 42, 43)
    assert "most of mma is faces of fer2013" in copies.told([row], "mma", tmp_path / "data")[0]


@pytest.mark.parametrize(
    ("splits", "classes", "beside"),
    [
        (("Train", "Test"), ("Anger", "Disgust", "Fear", "Happy", "Sad", "Surprise", "neutral", "Contempt"), ()),
        (("train", "valid", "test"), ALPHABET, ("README.dataset.txt", "README.roboflow.txt")),
    ],
    ids=["AffectNet on Kaggle", "Roboflow"],
)
def test_class_folders_as_they_are_exported(
    tmp_path: Path, pool: Pool, splits: Sequence[str], classes: Sequence[str], beside: Sequence[str]
) -> None:
    for rank, split in enumerate(splits):
        for name in classes:
            emotion = EMOTIONS[canonical(name)]
            put(tmp_path / split / name / "im_jpg.rf.0a1b.png", pool.get(emotion, pool["sad"])[rank])
    for name in beside:
        (tmp_path / name).write_text("Faces\n\nProvided by a user\nCC BY 4.0\n")
    loaded = load(tmp_path)
    assert dict.fromkeys(loaded.faces.split_N.tolist()) == {
        {"train": "train", "valid": "public_test", "test": "test"}[split.lower()]: None for split in splits
    }
    assert right(replace(loaded, faces=loaded.faces.take(loaded.faces.labels_N < 7)), pool)
    assert len(loaded.faces) == len(splits) * len(classes)
    assert (loaded.skipped, loaded.notes) == ([], ())


def test_the_prepared_set_knows_its_people(tmp_path: Path, pool: Pool) -> None:
    for at in range(24):
        put(tmp_path / "in" / SEVEN[at % 3] / f"subject{at % 4:02d}_{at}.png", pool[SEVEN[at % 3]][at % 15])
    prepare("folder", tmp_path / "in", tmp_path, set_name="people")
    assert len(set(open_set(tmp_path, "people").group_N.tolist())) == 4
