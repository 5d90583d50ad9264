"""Faces: the one form in which every stage sees images, and its prepared folder on disk.

Axes: N faces, H and W pixels (48 x 48, unless the set was prepared otherwise: `FaceShape`), C annotators' answers. In
colour `images_NHW` has a last axis of 3.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from facex_tune.emotions import EMOTIONS, GREY_48, N_FER2013, FaceShape
from facex_tune.errors import InputError, nearest
from facex_tune.storage.folders import write_folder
from facex_tune.study import sets_of

SPLITS = ("train", "public_test", "private_test", "test")
VOTE_ANSWERS = (*EMOTIONS, "unknown", "not-a-face")
SCHEMA, SCHEMA_OF_OTHER_SHAPES = 1, 2  # the second for what is not 48×48 grey, which older versions cannot read
ABOUT: dict[str, Any] = {
    "proven": None, "incomplete": "", "notes": [], "pictures": None, "face": GREY_48.to_data()
}  # fmt: skip
"""What a manifest says beyond counts, and what one of an older version means by its silence.

face: the size and channels of the prepared faces (`emotions.FaceShape`).
proven: whether the counts are the published ones (None: nothing is published). incomplete: else what falls short.
notes: what the user should know. pictures: sizes of the files that the faces were read from.
"""
_BY_MAJORITY = "by the annotators' majority "
_WITH_EIGHT = ", which is trained on with classes: 8 alone"
MISSPELT = 0.8  # likeness of names (difflib's ratio) from which one is taken for another with a slip
_SOURCES = Path(__file__).parent / "sources"
IntegerT = TypeVar("IntegerT", np.int16, np.int64)


@dataclass(frozen=True)
class Skipped:
    """One face that could not be read: its file, its row in it (None where a file is one face), and why."""

    file: str
    row: int | None
    reason: str


@dataclass(frozen=True)
class Faces:
    """Faces of one shape with everything known about each.

    Attributes:
        images_NHW: uint8 N x size x size, in colour N x size x size x 3; may be a read-only memory map.
        labels_N: int64 index into `EMOTIONS`.
        split_N: one of `SPLITS`.
        group_N: int64; faces that must stay together share a number (a CK+ subject, exact copies).
        sequence_N: int64 CK+ sequence, -1 where there is none.
        votes_NC: int16 N x 10 counts of annotators by `VOTE_ANSWERS`, or None.
        source_N: file name or row that the face came from.
    """

    images_NHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    split_N: NDArray[np.str_]
    group_N: NDArray[np.int64]
    sequence_N: NDArray[np.int64]
    votes_NC: NDArray[np.int16] | None
    source_N: NDArray[np.str_]

    def __post_init__(self) -> None:
        n = len(self.images_NHW)
        try:
            shape = FaceShape.of_array(self.images_NHW.shape)
        except InputError:
            shape = GREY_48
        _check("images_NHW", self.images_NHW, shape.images(n), "uint8")
        for name in ("labels_N", "group_N", "sequence_N"):
            _check(name, getattr(self, name), (n,), "int64")
        for name in ("split_N", "source_N"):
            _check(name, getattr(self, name), (n,), "str")
        if self.votes_NC is not None:
            _check("votes_NC", self.votes_NC, (n, len(VOTE_ANSWERS)), "int16")
        if n and not (self.labels_N.min() >= 0 and self.labels_N.max() < len(EMOTIONS)):
            raise ValueError(f"labels_N must lie in 0..{len(EMOTIONS) - 1}")
        strange_N = np.logical_and.reduce([self.split_N != split for split in SPLITS])  # np.unique would sort: slow
        if strange_N.any():
            raise ValueError(f"split_N has {self.split_N[strange_N][0]!r}; splits are {SPLITS}")

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def face(self) -> FaceShape:
        """The size and channels of each."""
        return FaceShape.of_array(self.images_NHW.shape)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.integer[Any]]) -> Faces:
        """The faces at an index array (in its order) or under a boolean mask of length N. Images that nobody can write
        to, and that lie in one piece, are not copied: a split of a memory map stays one.
        """
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if value is not None:
                values[name] = _images(value, rows) if name == "images_NHW" else np.asarray(value[rows])
        return Faces(**values)

    def where(self, split: str) -> Faces:
        """The faces of one split, possibly none."""
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: {nearest(split, SPLITS)}")
        return self.take(self.split_N == split)


def _images(
    images_NHW: NDArray[np.uint8], rows: NDArray[np.bool_] | NDArray[np.integer[Any]]
) -> NDArray[np.uint8]:
    """The images at `rows`, or a view of them."""
    at_N = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
    in_one_piece = len(at_N) > 0 and at_N[0] >= 0 and bool((np.diff(at_N) == 1).all())
    if images_NHW.flags.writeable or not in_one_piece:
        return np.asarray(images_NHW[rows])
    return np.asarray(images_NHW[at_N[0] : at_N[-1] + 1])


def _check(name: str, value: NDArray[Any], shape: tuple[int, ...], kind: str) -> None:
    right_kind = value.dtype.kind == "U" if kind == "str" else value.dtype == np.dtype(kind)
    if value.shape != shape or not right_kind:
        raise ValueError(f"{name} must be {kind} of shape {shape}, got {value.dtype} of shape {value.shape}")


def exact_groups(images_NHW: NDArray[np.uint8]) -> NDArray[np.int64]:
    """One number per face, shared by faces with equal pixels; numbered from 0 in order of first appearance."""
    numbers: dict[bytes, int] = {}
    digests = (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images_NHW)
    return np.fromiter((numbers.setdefault(digest, len(numbers)) for digest in digests), np.int64, len(images_NHW))


def fingerprint(faces: Faces) -> str:
    """SHA-256 over images, labels, splits, groups, sequences and votes; the same on every machine."""
    shape = "" if faces.face == GREY_48 else f" {faces.face.size} {faces.face.channels}"
    digest = hashlib.sha256(f"faces {SCHEMA} {len(faces)} {faces.votes_NC is not None}{shape}\n".encode())
    digest.update(np.ascontiguousarray(faces.images_NHW).data)
    for numbers in (faces.labels_N, faces.group_N, faces.sequence_N):
        digest.update(np.ascontiguousarray(numbers, "<i8").data)
    digest.update("\n".join(faces.split_N.tolist()).encode())
    if faces.votes_NC is not None:
        digest.update(np.ascontiguousarray(faces.votes_NC, "<i2").data)
    return digest.hexdigest()


def counts(faces: Faces) -> dict[str, dict[str, int]]:
    """Number of faces by split, then by emotion; splits and emotions without a face are left out."""
    table: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        per_emotion_C = np.bincount(faces.labels_N[faces.split_N == split], minlength=len(EMOTIONS))
        if per_emotion_C.any():
            table[split] = {name: int(n) for name, n in zip(EMOTIONS, per_emotion_C, strict=True) if n}
    return table


def write(
    faces: Faces,
    data_dir: Path,
    name: str,
    *,
    source: dict[str, Any],
    skipped: list[Skipped],
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the prepared folder `<data_dir>/<name>` in one step and return its manifest.

    A failure leaves the old set or none, never a part. A set with the same fingerprint, the same skipped files and the
    same words about it is left as it is, wherever it was read from.

    Args:
        about: what else the manifest says, of the keys of `ABOUT`.

    Raises:
        InputError: no space left, or the folder cannot be written.
    """
    manifest = {
        "schema": SCHEMA if faces.face == GREY_48 else SCHEMA_OF_OTHER_SHAPES,
        "name": name,
        "n": len(faces),
        "counts": counts(faces),
        "sha256": fingerprint(faces),
        "source": source,
        "skipped": [asdict(skip) for skip in skipped],
        **ABOUT,
        **(about or {}),
        "face": faces.face.to_data(),
    }
    if _already_there(data_dir, name, manifest):
        return read_manifest(data_dir, name)
    writers: dict[str, Callable[[BinaryIO], object]] = {
        "images.npy": lambda file: _write_images(faces.images_NHW, file),
        "rows.parquet": lambda file: _write_rows(faces, file),
        "manifest.json": lambda file: file.write(json.dumps(manifest, indent=1).encode() + b"\n"),
    }
    needed_bytes = faces.images_NHW.nbytes + 64 * len(faces) + 2**20  # 64: a generous row of rows.parquet
    write_folder(data_dir / name, writers, needed_bytes)
    return manifest


def _already_there(data_dir: Path, name: str, manifest: dict[str, Any]) -> bool:
    try:
        said = read_manifest(data_dir, name)
        same = all(said.get(key) == manifest[key] for key in ("schema", "sha256", "skipped", *ABOUT))
        return same and said["sha256"] == fingerprint(open_set(data_dir, name))
    except InputError:  # absent or damaged: to be written
        return False


def _write_images(images_NHW: NDArray[np.uint8], file: BinaryIO) -> None:
    """As np.save does, but through `file.write`, whose errors tell a full disk; np.save's only count bytes."""
    images_NHW = np.ascontiguousarray(images_NHW)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(images_NHW))
    file.write(images_NHW.data)


def _write_rows(faces: Faces, file: BinaryIO) -> None:
    """Columns are made of their bytes: from a list or an array pyarrow makes one with pandas, whose import takes half a
    second and 50 MB.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def numbers(values_N: NDArray[Any]) -> Any:
        kind = pa.int16() if values_N.dtype == np.int16 else pa.int64()
        return pa.Array.from_buffers(kind, len(values_N), [None, pa.py_buffer(np.ascontiguousarray(values_N))])

    def words(words_N: NDArray[np.str_]) -> Any:
        encoded = [word.encode() for word in words_N.tolist()]
        ends = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
        return pa.Array.from_buffers(pa.string(), len(encoded), buffers)

    if faces.votes_NC is None:
        votes = pa.nulls(len(faces), pa.list_(pa.int16()))
    else:
        ends = np.arange(len(faces) + 1, dtype=np.int32) * faces.votes_NC.shape[1]
        buffers, flat = [None, pa.py_buffer(ends)], numbers(faces.votes_NC.ravel())
        votes = pa.Array.from_buffers(pa.list_(pa.int16()), len(faces), buffers, children=[flat])
    columns = {
        "label": numbers(faces.labels_N),
        "split": words(faces.split_N),
        "group": numbers(faces.group_N),
        "sequence": numbers(faces.sequence_N),
        "votes": votes,
        "source": words(faces.source_N),
    }
    pq.write_table(pa.table(columns), file)


def shareable(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest without the folders of whoever prepared the set: of what was read, the name alone is left."""
    if not isinstance(manifest.get("source"), Mapping):
        return dict(manifest)
    source = {key: _last_part(value) if _is_place(key, value) else value for key, value in manifest["source"].items()}
    return {**manifest, "source": source}


def _is_place(key: str, value: Any) -> bool:
    return isinstance(value, str) and (
        key == "path" or PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()
    )


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def is_prepared(data_dir: Path, name: str) -> bool:
    """Whether the set has been written here; damage shows only in `open_set`."""
    return Path(name).name == name and (data_dir / name / "manifest.json").is_file()  # a name is never a path


def prepared_names(data_dir: Path) -> list[str]:
    """The names of the sets prepared in a folder, sorted; none where the folder is missing."""
    if not data_dir.is_dir():
        return []
    folders = sorted(folder.name for folder in data_dir.iterdir() if not folder.name.startswith("."))
    return [name for name in folders if is_prepared(data_dir, name)]


def fingerprints(data_dir: Path) -> dict[str, str]:
    """Of each prepared set whose manifest can be read, by name."""
    found = {}
    for name in prepared_names(data_dir):
        with suppress(InputError):
            found[name] = str(read_manifest(data_dir, name)["sha256"])
    return found


def read_manifest(data_dir: Path, name: str) -> dict[str, Any]:
    """A prepared set's manifest.

    Raises:
        InputError: the set is not prepared here (with the command that prepares it), or its manifest is damaged.
    """
    path = data_dir / name / "manifest.json"
    if not is_prepared(data_dir, name):
        raise InputError(
            f"data set {name!r} is not prepared in {data_dir}{_meant(name, data_dir)}: "
            f"run `facex-tune data prepare {_how_to_prepare(name)}`"
        )
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["schema"] not in (SCHEMA, SCHEMA_OF_OTHER_SHAPES):
            newer = isinstance(manifest["schema"], int) and manifest["schema"] > SCHEMA_OF_OTHER_SHAPES
            by = "was written by a newer facex_tune: update facex_tune here, or prepare it again in another folder"
            how = by if newer else "prepare it again"
            reads = f"this version reads {SCHEMA} and {SCHEMA_OF_OTHER_SHAPES}"
            raise InputError(f"{path} has schema {manifest['schema']}, {reads}: {how}")
        said = {key: manifest[key] for key in ("schema", "name", "n", "counts", "sha256", "source", "skipped")}
        said |= {key: manifest.get(key, default) for key, default in ABOUT.items()}
        _require_shape(said)
        return said
    except (ValueError, KeyError, TypeError, OSError) as error:
        _damaged(path, error)


def _require_shape(manifest: Mapping[str, Any]) -> None:
    """ValueError where it tells no shape of faces."""
    try:
        FaceShape.of(manifest)
    except InputError as error:
        raise ValueError(str(error)) from error


def told_of(
    manifest: Mapping[str, Any], *, classes: int = N_FER2013, by_votes: bool = False, joined: bool = False
) -> list[str]:
    """What a user should know of a prepared set, a sentence each.

    Args:
        classes: emotions that the study tells apart which reads it.
        by_votes: whether that study's labels are its annotators', which the manifest does not count.
    """
    said = ABOUT | dict(manifest)  # a run's header may hold one of an older version
    found = [f"incomplete: {said['incomplete']}"] if said["incomplete"] else []
    found += [_told_sizes(said["pictures"], FaceShape.of(said))] if said["pictures"] else []
    notes = [_of_classes(note, classes) for note in said["notes"]]
    return [*found, *notes, *left_out(said["counts"], classes=classes, by_votes=by_votes, joined=joined)]


def _told_sizes(pictures: Mapping[str, Any], face: FaceShape) -> str:
    """The sizes of the files in a sentence."""
    said = (
        f"pictures of {pictures['median_width']} x {pictures['median_height']} pixels (median; width / height "
        f"{pictures['median_aspect']:g})"
    )
    said += f", {pictures['enlarged']:,} enlarged to {face.size} x {face.size}" * bool(pictures["enlarged"])
    return said + f", {len(pictures['uncropped']):,} look like whole photographs" * bool(pictures["uncropped"])


def as_read(study: Mapping[str, Any], name: str) -> dict[str, Any]:
    """How a study, as plain data, reads that set: the words of `told_of` and `left_out`."""
    sets = sets_of(study["data"])
    by_votes = name in sets and str(study["labels"]).startswith("ferplus")
    return {"classes": study["classes"], "by_votes": by_votes, "joined": name in sets and len(sets) > 1}


def told_of_majority(n_contempt: int, n_without: int) -> str:
    """What of a set with votes is not trained on or scored where the labels are the annotators': a manifest's note,
    which `notes_on_majority` finds again.
    """
    return (
        f"{_BY_MAJORITY}{n_contempt:,} faces are contempt{_WITH_EIGHT}, and "
        f"{n_without:,} have no majority for an emotion: with their labels those are not trained on"
    )


def notes_on_majority(manifest: Mapping[str, Any], classes: int) -> list[str]:
    """What a manifest notes of the annotators' majority, as a study of so many classes reads it; nothing where it has
    none, or is of an older version.
    """
    return [_of_classes(note, classes) for note in manifest.get("notes", []) if note.startswith(_BY_MAJORITY)]


def _of_classes(note: str, classes: int) -> str:
    """A manifest's note is written once for all studies: that eight classes are needed is no news to one that has."""
    return note.replace(_WITH_EIGHT, "") if classes > N_FER2013 and note.startswith(_BY_MAJORITY) else note


def left_out(
    counts_by_split: Mapping[str, Mapping[str, int]],
    *,
    trained: bool = True,
    classes: int = N_FER2013,
    by_votes: bool = False,
    joined: bool = False,
) -> list[str]:
    """What of a set no model trains on or is scored over, and what it cannot learn there.

    Args:
        trained: whether the set's train split is trained on; else only its test splits are told of.
        classes: emotions that the model tells apart.
        by_votes: whether labels are those of annotators, which the counts do not tell.
        joined: whether other sets are trained on too.
    """
    if by_votes:
        return []
    found = []
    n_contempt = sum(of_split.get("contempt", 0) for of_split in counts_by_split.values())
    if n_contempt and classes == N_FER2013:
        use = "trained on with classes: 8 alone, and scored only where a protocol says so" if trained else "not scored"
        found.append(f"contempt ({n_contempt:,} faces) is none of the seven emotions: {use}")
    for split, of_split in counts_by_split.items():
        if split == "train" and not trained:
            continue
        absent = [name for name in EMOTIONS[:classes] if name not in of_split]
        if absent:
            never = "a model trained on it never learns to answer so"
            never = "only the other sets of the study can teach it" if joined else never
            never = never if split == "train" else "not scored there"
            found.append(f"no face of {', '.join(absent)} in {split}: {never}")
    return found


def _meant(name: str, data_dir: Path) -> str:
    """The set whose name is nearly that, in brackets; "" where there is none, or the name is known."""
    known = {path.stem for path in _SOURCES.glob("*.py") if not path.stem.startswith("_")}
    close = get_close_matches(name, sorted({*known, *prepared_names(data_dir)}), n=1, cutoff=MISSPELT)
    return f" (did you mean {close[0]}?)" if close and name not in known else ""


def _how_to_prepare(name: str) -> str:
    if name.startswith("synthetic"):  # made, not read, and `synthetic` makes its lab set too
        return "synthetic"
    if name == "folder":
        return "folder SOURCE --as NAME"
    is_source = (_SOURCES / f"{Path(name).name}.py").is_file()
    return f"{name} SOURCE" if is_source else f"folder SOURCE --as {name}"


def open_set(data_dir: Path, name: str) -> Faces:
    """A prepared set, its images as a read-only memory map shared by every process of a node.

    Raises:
        InputError: the set is not prepared here, or a file of it is damaged (the message names the file).
    """
    folder = data_dir / name
    manifest = read_manifest(data_dir, name)
    path, n = folder / "images.npy", manifest["n"]
    try:
        images_NHW = np.load(path, mmap_mode="r", allow_pickle=False)
        face = FaceShape.of(manifest)
        if images_NHW.shape != face.images(n) or images_NHW.dtype != np.uint8:
            said = f"counts {n} faces" + f" of {face}" * (face != GREY_48)
            raise ValueError(f"{images_NHW.dtype} of shape {images_NHW.shape} where the manifest {said}")
        path = folder / "rows.parquet"
        return Faces(images_NHW, **_read_rows(path))
    except (ValueError, KeyError, TypeError, OSError, EOFError) as error:  # pyarrow's own errors are among these
        _damaged(path, error)


def _read_rows(path: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    # one thread and no dataset layer: fastest for one small file, and leaves no thread pool behind in a forking parent
    table = pq.ParquetFile(path).read(use_threads=False)
    votes = table["votes"].combine_chunks()
    return {
        "labels_N": _integers(table["label"].combine_chunks(), np.int64),
        "split_N": _strings(table["split"].combine_chunks()),
        "group_N": _integers(table["group"].combine_chunks(), np.int64),
        "sequence_N": _integers(table["sequence"].combine_chunks(), np.int64),
        "votes_NC": None if votes.null_count else _integers(votes.flatten(), np.int16).reshape(-1, len(VOTE_ANSWERS)),
        "source_N": _strings(table["source"].combine_chunks()),
    }


def _integers(column: Any, kind: type[IntegerT]) -> NDArray[IntegerT]:
    """A copy of an Arrow array; through DLPack, since pyarrow's own conversion would import pandas first."""
    return np.array(np.from_dlpack(column), kind)


def _strings(column: Any) -> NDArray[np.str_]:
    encoded = column.dictionary_encode()  # few distinct splits: only those are made into Python strings
    words: NDArray[np.str_] = np.array(encoded.dictionary.to_pylist(), dtype=np.str_)
    return np.take(words, _integers(encoded.indices, np.int64))


def _damaged(path: Path, error: Exception) -> NoReturn:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise InputError(f"{path} is damaged ({reason}): delete {path.parent} and prepare it again") from error


def majority_labels(votes_NC: NDArray[np.int16]) -> NDArray[np.int64]:
    """Labels under the majority rule of FER+ (Barsoum et al., ICMI 2016), -1 for a face that it drops.

    A single vote for an answer counts as noise; the winner must have over half of the votes that remain; faces won
    by 'unknown' or 'not-a-face' are dropped.
    """
    kept_NC = np.where(votes_NC > 1, votes_NC, 0)
    winner_N = kept_NC.argmax(axis=1)
    has_majority_N = 2 * kept_NC.max(axis=1) > kept_NC.sum(axis=1)
    return np.where(has_majority_N & (winner_N < len(EMOTIONS)), winner_N, -1).astype(np.int64)


def holdout(faces_train: Faces, fraction: float, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Cut a validation part: (train_mask_N, validation_mask_N), complementary and the same for the same seed.

    Whole groups move; within each emotion (a group counts as its most frequent one) groups are taken in random order
    while the emotion's validation faces stay within `fraction` of its faces.

    Raises:
        InputError: the fraction does not lie strictly between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise InputError(f"holdout fraction {fraction} must lie between 0 and 1, both excluded; 0.1 is usual")
    group_N = np.unique(faces_train.group_N, return_inverse=True)[1]
    table_GC = np.zeros((int(group_N.max(initial=-1)) + 1, len(EMOTIONS)), np.int64)
    np.add.at(table_GC, (group_N, faces_train.labels_N), 1)
    size_G, emotion_G = table_GC.sum(axis=1), table_GC.argmax(axis=1)
    order_G = np.random.default_rng(seed).permutation(len(size_G))
    chosen_G = np.zeros(len(size_G), np.bool_)
    for emotion in range(len(EMOTIONS)):
        members = order_G[emotion_G[order_G] == emotion]
        room = round(fraction * int(size_G[members].sum()))
        for group in members:
            if size_G[group] <= room:
                chosen_G[group] = True
                room -= int(size_G[group])
    validation_N = chosen_G[group_N]
    return ~validation_N, validation_N
