"""Small sets in the form in which published ones lie on disks, of drawn faces, and what each must be read as."""

from __future__ import annotations

import csv
import functools
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facex_tune.data.importing import Asked
from facex_tune.data.sources import synthetic
from facex_tune.emotions import EMOTIONS

SEVEN = EMOTIONS[:7]
RAF = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")
YOLO = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
CK_CODES = ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
FERPLUS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")


@functools.cache
def drawn() -> np.ndarray:
    """A thousand different faces; what they show is not asked."""
    return synthetic.generate(1000, seed=7).images_NHW


@dataclass
class Written:
    """A set being written: `faces` is what must be read, by the name that each face must have."""

    root: Path
    faces: dict[str, tuple[str, str, str, str]] = field(default_factory=dict)
    """(emotion, split, subject, sequence); "" where none is known."""
    drawings: int = 0

    def draw(self, size: int = 48) -> Image.Image:
        self.drawings += 1
        face = Image.fromarray(drawn()[self.drawings % len(drawn())])
        return face if size == 48 else face.resize((size, size))

    def scene(self, width: int, height: int, *boxes: tuple[int, int, int, int]) -> Image.Image:
        """A photograph, patches of colour that are quickly stored, with a face in each box (left, top, right,
        bottom).
        """
        rng = np.random.default_rng(self.drawings)
        patches = Image.fromarray(rng.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8))
        picture = patches.resize((width, height), Image.Resampling.NEAREST)
        for left, top, right, bottom in boxes:
            picture.paste(self.draw().resize((right - left, bottom - top)).convert("RGB"), (left, top))
        return picture

    def save(self, name: str, picture: Image.Image) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        quickly = {"compress_level": 1} if path.suffix == ".png" else {}
        picture.save(path, **quickly)

    def face(
        self, name: str, emotion: str, split: str = "test", *, subject: str = "", sequence: str = "", drop: int = 0,
        size: int = 100, picture: Image.Image | None = None,
    ) -> None:  # fmt: skip
        """Save a face that must be read, named from its `drop`-th folder on."""
        self.save(name, picture if picture is not None else self.draw(size))
        self.faces["/".join(name.split("/")[drop:])] = (emotion, split, subject, sequence)

    def text(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def table(self, name: str, rows: Iterable[Iterable[object]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self.text(name, text.getvalue())


@dataclass(frozen=True)
class Form:
    source: str
    write: Callable[[Written], None]
    asked: Asked

    @property
    def name(self) -> str:
        return self.write.__name__


FORMS: list[Form] = []


def form(source: str, **asked: Any) -> Callable[[Callable[[Written], None]], Callable[[Written], None]]:
    def add(write: Callable[[Written], None]) -> Callable[[Written], None]:
        FORMS.append(Form(source, write, Asked(**asked)))
        return write

    return add


def by_name(name: str) -> Form:
    others = [Form("ferplus", ferplus_folders, Asked(incomplete=True))]
    return next(form for form in (*FORMS, *others) if form.name == name)


def written(each: Form, root: Path) -> Written:
    there = Written(root)
    root.mkdir(parents=True, exist_ok=True)
    each.write(there)
    return there


@form("rafdb", incomplete=True)
def rafdb_release(w: Written) -> None:
    lines = []
    for split, digits, n in (("train", 5, 2), ("test", 4, 1)):
        for at in range(7 * n):
            name = f"{split}_{at + 1:0{digits}d}"
            w.face(f"basic/Image/aligned/{name}_aligned.jpg", RAF[at % 7], split, drop=3)
            w.save(f"basic/Image/original/{name}.jpg", w.draw())
            lines.append(f"{name}.jpg {at % 7 + 1}" + " 0.9" * (at == 3))
    w.text("basic/EmoLabel/list_patition_label.txt", "\n".join(lines[::-1]) + "\n")


@form("rafdb", incomplete=True)
def rafdb_kaggle(w: Written) -> None:
    for split, n in (("train", 2), ("test", 1)):
        rows: list[tuple[object, object]] = [("image", "label")]
        for at in range(7 * n):
            name = f"{split}_{at + 1:05d}_aligned.jpg"
            w.face(f"DATASET/{split}/{at % 7 + 1}/{name}", RAF[at % 7], split, drop=1)
            rows.append((name, at % 7 + 1))
        w.table(f"{split}_labels.csv", rows)


@form("affectnet", incomplete=True)
def affectnet_npy(w: Written) -> None:
    for folder, split, n in (("train_set", "train", 2), ("val_set", "test", 1)):
        (w.root / folder / "annotations").mkdir(parents=True)
        for at in range(8 * n):
            w.face(f"{folder}/images/{at}.jpg", AFFECTNET[at % 8], split, size=224)
            for what, value in (("exp", at % 8), ("val", 0.1), ("aro", 0.2)):
                number = np.array(str(value)) if at % 3 else np.array(value)
                np.save(w.root / folder / "annotations" / f"{at}_{what}.npy", number)


@form("affectnet", incomplete=True)
def affectnet_csv(w: Written) -> None:
    header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    for file, split, n in (("training", "train", 2), ("validation", "test", 1)):
        rows: list[list[object]] = [list(header.split(","))]
        for at in range(11 * n):
            name = f"{100 + at % 3}/{split}{at:08x}.jpg"
            label = at % 11
            picture = w.scene(320, 240, (100, 50, 210, 160))
            place = f"Manually_Annotated_Images/{name}"
            if label < 8:
                w.face(place, AFFECTNET[label], split, drop=1, picture=picture)
            else:
                w.save(place, picture)
            rows.append([name, 100, 50, 110, 110, ";".join(["150.0;90.0"] * 68), label, -2, -2])
        w.table(f"Manually_Annotated_file_lists/{file}.csv", rows)
    w.table("Manually_Annotated_file_lists/automatically_annotated.csv", [list(header.split(","))])


@form("affectnet", incomplete=True)
def affectnet_yolo(w: Written) -> None:
    for folder, split in (("train", "train"), ("valid", "public_test"), ("test", "test")):
        for at in range(8):
            w.face(f"YOLO_format/{folder}/images/ffhq_{at}.png", YOLO[at], split, drop=1, size=96)
            w.text(f"YOLO_format/{folder}/labels/ffhq_{at}.txt", f"{at} 0.5 0.5 0.9 0.9\n")
    names = ", ".join(f"'{name.title()}'" for name in YOLO)
    w.text("YOLO_format/data.yaml", f"train: ../train/images\nnc: 8\nnames: [{names}]\n")


@form("affectnet", incomplete=True)
def affectnet_folders(w: Written) -> None:
    for folder, split in (("train", "train"), ("val", "test")):
        for at in range(8):
            w.face(f"{folder}/{at}/image{at}.jpg", AFFECTNET[at], split, size=224)


@form("affectnet", incomplete=True)
def affectnet_names(w: Written) -> None:
    """As on Kaggle."""
    words = ("Neutral", "Happy", "Sad", "surprise", "Fear", "Disgust", "Anger", "Contempt", "No-Face")
    for folder, split in (("Train", "train"), ("Test", "test")):
        for at, word in enumerate(words):
            if at < len(AFFECTNET):
                w.face(f"{folder}/{word}/image{at}.jpg", AFFECTNET[at], split, size=96)
            else:
                w.save(f"{folder}/{word}/image{at}.jpg", w.draw(96))


@form("fer2013", incomplete=True)
def fer2013_folder(w: Written) -> None:
    for folder, usage, split in (
        ("train", "Training", "train"), ("test", "PublicTest", "public_test"), ("test", "PrivateTest", "private_test")
    ):  # fmt: skip
        for at, emotion in enumerate(SEVEN):
            w.save(f"{folder}/{emotion}/{usage}_{at}.png", w.draw())
            w.faces[f"{usage}_{at}.png"] = (emotion, split, "", "")


def ferplus_folders(w: Written) -> None:
    """Cleaned, as on Kaggle, without votes: read as any class folders are, faces named from SOURCE on."""
    for number, (folder, split) in enumerate((("train", "train"), ("validation", "public_test"), ("test", "test"))):
        for at, emotion in enumerate(SEVEN):
            w.face(f"{folder}/{emotion}/fer{10 * number + at:07d}.png", emotion, split, size=48)


@form("ferplus", incomplete=True)
def ferplus_pictures(w: Written) -> None:
    number = 0
    for folder, split in (("Train", "train"), ("Valid", "public_test"), ("Test", "private_test")):
        rows: list[list[object]] = []
        for at, emotion in enumerate(FERPLUS):
            votes = [0] * 10
            votes[at], votes[(at + 1) % 8] = 8, 2
            w.face(f"data/FER2013{folder}/fer{number:07d}.png", emotion, split, drop=1, size=48)
            rows.append([f"fer{number:07d}.png", "(0, 0, 48, 48)", *votes])
            number += 1
        for votes in ([0] * 9 + [10], [2, 2, 2, 2, 2, 0, 0, 0, 0, 0]):  # not a face; no majority
            w.save(f"data/FER2013{folder}/fer{number:07d}.png", w.draw())
            rows.append([f"fer{number:07d}.png", "(0, 0, 48, 48)", *votes])
            number += 1
        w.table(f"data/FER2013{folder}/label.csv", rows)


def _ckplus_release(w: Written, *, landmarks: bool) -> None:
    for subject in ("S005", "S010"):
        for at in range(1, 9):  # the eighth has no label
            for frame in range(1, 7):
                name = f"{subject}_{at:03d}_{frame:08d}"
                place = f"cohn-kanade-images/{subject}/{at:03d}/{name}.png"
                picture = w.scene(640, 490 if at % 2 else 480, (200, 80, 460, 400))
                if frame == 1:
                    w.face(place, "neutral", subject=subject, sequence=f"{at} neutral", drop=1, picture=picture)
                elif frame > 3 and at < 8:
                    w.face(place, CK_CODES[at], subject=subject, sequence=str(at), drop=1, picture=picture)
                else:
                    w.save(place, picture)
                if landmarks:
                    points = [(210 + 240 * (n % 8) / 7, 100 + 290 * (n // 8) / 8) for n in range(68)]
                    lines = "\n".join(f"   {x:.7e}   {y:.7e}" for x, y in points)
                    w.text(f"Landmarks/{subject}/{at:03d}/{name}_landmarks.txt", lines + "\n")
            if at < 8:
                w.text(f"Emotion/{subject}/{at:03d}/{subject}_{at:03d}_00000006_emotion.txt", f"   {at:.7e}\n")


@form("ckplus", incomplete=True)
def ckplus_release(w: Written) -> None:
    _ckplus_release(w, landmarks=True)


@form("ckplus", incomplete=True, uncropped=True)
def ckplus_release_uncropped(w: Written) -> None:
    _ckplus_release(w, landmarks=False)


@form("ckplus", incomplete=True)
def ckplus_48(w: Written) -> None:
    _ckplus_folders(w, dict(zip(CK_CODES[1:], CK_CODES[1:], strict=True)), 48)


@form("ckplus", incomplete=True)
def ckplus_numbers_96(w: Written) -> None:
    order = ("angry", "disgust", "fear", "happy", "sad", "surprise", "contempt")
    _ckplus_folders(w, dict(zip("0123456", order, strict=True)), 96)


def _ckplus_folders(w: Written, folders: dict[str, str], size: int) -> None:
    for at, (folder, emotion) in enumerate(folders.items()):
        for subject in ("S010", "S011"):
            for frame in (14, 15, 16):
                name = f"{subject}_{at + 1:03d}_{frame:08d}.png"
                w.save(f"CK+48/{folder}/{name}", w.draw(size))
                w.faces[name] = (emotion, "test", subject, str(at))


@form("expw", incomplete=True)
def expw_release(w: Written) -> None:
    lines = []
    for at, emotion in enumerate(SEVEN):
        other = SEVEN[(at + 1) % 7]
        name = f"{emotion}_person_{at}.jpg"
        w.save(f"image/origin/{name}", w.scene(800, 600, (100, 90, 300, 290), (450, 120, 650, 320)))
        corners = ((emotion, 90, 100, 300, 290), (other, 120, 450, 650, 320))
        for face, (told, top, left, right, bottom) in enumerate(corners):
            lines.append(f"{name} {face} {top} {left} {right} {bottom} 41.12 {SEVEN.index(told)}")
            w.faces[f"{name} face {face}"] = (told, "test", "", "")
    w.text("label/label.lst", "\n".join(lines) + "\n")


@form("jaffe", incomplete=True)
def jaffe_release(w: Written) -> None:
    codes = dict(AN="angry", DI="disgust", FE="fear", HA="happy", NE="neutral", SA="sad", SU="surprise")
    for number, (subject, code) in enumerate((subject, code) for subject in ("KA", "YM") for code in codes):
        w.face(f"jaffedbase/{subject}.{code}1.{number}.tiff", codes[code], subject=subject, drop=1, size=256)
    w.text("jaffedbase/README", "JAFFE\n")


@form("kdef", incomplete=True)
def kdef_release(w: Written) -> None:
    codes = dict(AF="fear", AN="angry", DI="disgust", HA="happy", NE="neutral", SA="sad", SU="surprise")
    for session in "AB":
        for subject in ("F01", "M01"):
            for code in codes:
                for angle in ("S", "HL", "FR"):
                    name = f"KDEF/{session}{subject}/{session}{subject}{code}{angle}.JPG"
                    picture = w.draw().resize((562, 762)).convert("RGB")
                    w.face(name, codes[code], subject=subject, drop=1, picture=picture)
    w.save("KDEF/AF31/AF31V.JPG", w.draw())
    w.save("KDEF/AF31/AF31ANS.JPG", Image.new("L", (562, 762)))  # black


@form("ravdess", uncropped=True)
def ravdess_frames(w: Written) -> None:
    for actor in ("01", "24"):
        for at, emotion in enumerate(("neutral", "neutral", "happy", "sad", "angry", "fear", "disgust", "surprise"), 1):
            clip = f"01-01-{at:02d}-01-01-01-{actor}"
            for frame in range(2):
                name = f"{clip}_frame{frame}.jpg" if actor == "01" else f"{clip}/frame_{frame:04d}.jpg"
                picture = w.scene(320, 180, (110, 20, 210, 150))
                w.face(f"Actor_{actor}/{name}", emotion, subject=actor, sequence=clip, picture=picture)


@form("ferg", incomplete=True)
def ferg_release(w: Written) -> None:
    words = dict(anger="angry", disgust="disgust", fear="fear", joy="happy", neutral="neutral", sadness="sad",
                 surprise="surprise")  # fmt: skip
    for character in ("aia", "ray"):
        for word, emotion in words.items():
            picture = w.draw(256).convert("RGBA")
            name = f"FERG_DB_256/{character}/{character}_{word}/{character}_{word}_1.png"
            w.face(name, emotion, subject=character, drop=1, picture=picture)


@form("oulu_casia", incomplete=True)
def oulu_casia_release(w: Written) -> None:
    words = dict(Anger="angry", Disgust="disgust", Fear="fear", Happiness="happy", Sadness="sad", Surprise="surprise")
    for camera, light in (("NI", "Dark"), ("VL", "Strong")):
        for person in ("P001", "P080"):
            for word, emotion in words.items():
                for frame in range(5):
                    name = f"Oulu_CASIA_NIR_VIS/{camera}/{light}/{person}/{word}/{frame:03d}.jpeg"
                    if frame >= 2:
                        w.face(name, emotion, subject=person, sequence=f"{camera} {light} {word}", drop=1, size=80)
                    else:
                        w.save(name, w.draw(80))


@form("sfew", incomplete=True)
def sfew_folders(w: Written) -> None:
    for split, place in (("train", "Train/Train_Aligned_Faces"), ("test", "Val/Val_Aligned_Faces")):
        for emotion in SEVEN:
            w.face(f"{place}/{emotion.title()}/Airheads_000519240_00000005.png", emotion, split,
                   picture=w.draw().resize((143, 181)))  # fmt: skip
    w.save("Test/Test_Aligned_Faces/Film_1.png", w.draw(143))


@form("sfew", incomplete=True)
def sfew_archives(w: Written) -> None:
    for split, place in (("train", "Train_Aligned_Faces"), ("test", "Val_Aligned_Faces_new")):
        for emotion in SEVEN:
            w.face(f"{place}/{emotion.title()}/Film_{emotion}_1.png", emotion, split, size=143)


@form("caers")
def caers_cut_out(w: Written) -> None:
    for split in ("train", "test"):
        for emotion, word in zip(SEVEN, ("Anger", *map(str.title, SEVEN[1:])), strict=True):
            w.face(f"CAER-S/{split}/{word}/0001.png", emotion, split, drop=1)


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    picture.save(data, kind)
    return data.getvalue()


ALPHABET = ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")
IN_ALPHABET = ("angry", *ALPHABET[1:])


def write_parquet(path: Path, rows: list[tuple[bytes, Any]], names: tuple[str, ...] = (), group: int = 4) -> None:
    """As the hub's own library does, with the classes' names in its metadata, if there are any."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": data, "path": None} for data, _ in rows]
    table = pa.table({
        "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "label": pa.array([label for _, label in rows]),
    })  # fmt: skip
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    if names:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)


@form("huggingface")
def huggingface_parquet(w: Written) -> None:
    for split, n in (("train", 2), ("test", 1)):
        name = f"{split}-00000-of-00001.parquet"
        rows = [(encoded(w.draw(96)), at % 7) for at in range(7 * n)]
        write_parquet(w.root / "data" / name, [*rows, (b"", 3), (encoded(w.draw()), -1)], ALPHABET)
        w.faces |= {f"{name} row {at:08d}": (IN_ALPHABET[at % 7], split, "", "") for at in range(7 * n)}


@form("table")
def table_with_mixed_separators(w: Written) -> None:
    words = ("anger", "HAPPINESS", "Surprised", "sad", "NEUTRAL", "contempt", "fear", "disgust")
    read_as = ("angry", "happy", "surprise", "sad", "neutral", "contempt", "fear", "disgust")
    lines = ["user.id,image,emotion"]
    for at, (word, emotion) in enumerate(zip(words, read_as, strict=True)):
        w.face(f"images/Person_{at}.jpg", emotion, drop=1, size=350)
        lines.append((",", "\t")[at % 2].join(("628", f"Person_{at}.jpg", word)))
    w.text("data/legend.csv", "\n".join(lines) + "\n")


@form("table")
def table_of_each_split(w: Written) -> None:
    for split, folder in (("train", "train"), ("test", "test")):
        rows: list[list[object]] = [["path", "label", "confidence"]]
        for emotion in SEVEN:
            w.face(f"{folder}/{emotion}.png", emotion, split)
            rows.append([f"{folder}/{emotion}.png", emotion.title(), 0.5])
        w.table(f"{folder}.csv", rows)


@form("roboflow")
def roboflow_classes(w: Written) -> None:
    for folder, split in (("train", "train"), ("valid", "public_test")):
        rows: list[list[object]] = [["filename", *(f" {name}" for name in ALPHABET)]]
        for at, emotion in enumerate(IN_ALPHABET):
            w.face(f"{folder}/{emotion}_jpg.rf.ab.jpg", emotion, split, size=224)
            rows.append([f"{emotion}_jpg.rf.ab.jpg", *(int(at == column) for column in range(7))])
        w.save(f"{folder}/two_jpg.rf.ab.jpg", w.draw())
        rows.append(["two_jpg.rf.ab.jpg", 1, 1, 0, 0, 0, 0, 0])
        w.table(f"{folder}/_classes.csv", rows)


@form("webdataset")
def webdataset_shards(w: Written) -> None:
    for split in ("train", "test"):
        (w.root / split).mkdir(parents=True)
        with tarfile.open(w.root / split / "0.tar", "w") as shard:
            for at, emotion in enumerate(IN_ALPHABET):
                for suffix, data in (("webp", encoded(w.draw(), "WEBP")), ("cls", str(at).encode())):
                    info = tarfile.TarInfo(f"s{at:07d}.{suffix}")
                    info.size = len(data)
                    shard.addfile(info, io.BytesIO(data))
                w.faces[f"{split}/0.tar/s{at:07d}.webp"] = (emotion, split, "", "")
    w.text("classnames.txt", "\n".join(ALPHABET) + "\n")


def _stacked(w: Written) -> np.ndarray:
    return np.stack([np.asarray(w.draw()) for _ in range(7)])


STAR = {"images": "X_*", "labels": "y_*"}


@form("arrays", arrays=STAR, numbers="fer2013")
def arrays_npz(w: Written) -> None:
    there = {}
    for split in ("train", "test"):
        there |= {f"X_{split}": _stacked(w), f"y_{split}": np.arange(7)}
        w.faces |= {f"X_{split} {at:08d}": (emotion, split, "", "") for at, emotion in enumerate(SEVEN)}
    np.savez(w.root / "fer.npz", **there)


@form("arrays", arrays={"images": "*/X", "labels": "*/y"}, numbers="fer2013")
def arrays_hdf5(w: Written) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(w.root / "fer.h5", "w") as file:
        for split in ("train", "test"):
            file[f"{split}/X"], file[f"{split}/y"] = _stacked(w), np.arange(7)
            w.faces |= {f"{split}/X {at:08d}": (emotion, split, "", "") for at, emotion in enumerate(SEVEN)}


@form("arrays", arrays={"images": "fdataX", "labels": "flabels"}, numbers="fer2013")
def arrays_npy(w: Written) -> None:
    np.save(w.root / "fdataX.npy", _stacked(w)[..., None].astype("float32") / 255)
    np.save(w.root / "flabels.npy", np.eye(7))
    w.faces |= {f"fdataX {at:08d}": (emotion, "test", "", "") for at, emotion in enumerate(SEVEN)}
