"""Read a data set's files alike from a folder and from its unopened zip, and its pictures.

Nothing is ever extracted: members are read into memory one at a time, so none can land outside a folder.
"""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.boxes import Box
from facex_tune.data.decoding import Asked, Decoded, decode_several, one_line
from facex_tune.data.faces import Skipped
from facex_tune.data.importing import Pictures, Progress
from facex_tune.data.members import open_member, read_whole
from facex_tune.data.pictures import (
    BESIDE_BYTES,
    HEAD_BYTES,
    MAX_BYTES,
    MAX_DECODED_BYTES,
    UNKNOWN,
    kind_of,
    said_of,
)
from facex_tune.emotions import EMOTIONS, GREY_48, FaceShape
from facex_tune.errors import InputError
from facex_tune.storage.helpers import Helpers, processors

MAX_FACE_BYTES = 2**20  # a 48 x 48 face takes some 2 kB; more is something else
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm",
    ".pnm", ".pfm", ".avif", ".heic", ".heif", ".jp2", ".tga",
)  # fmt: skip
"""What pictures are named as. A file of another name that is a picture is one all the same."""
_LITTER = ("thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "icon\ufffd")
_MANY = 2000  # pictures, from which on processes beside this one decode them
_TASK, _TASK_BYTES = 64, 2**20  # pictures handed to one of them at a time, and bytes from which on it gets no more
_TOLD_EACH = 256  # pictures

_ARCHIVES = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7-zip", b"Rar!": "RAR"}
_FIRST = 50  # files of a tree whose kind is looked at
_TAR_AT = 257  # where a tar says what it is
_NOT_READ = ", which is not read"
_INSTEAD = {
    "a pickle": "it is not read, since opening one runs whatever its maker wrote; save the arrays with numpy.savez",
    "a Parquet table": "read it with `facex-tune data prepare huggingface SOURCE --as NAME`",
    "a tar archive": "unpack it; shards of WebDataset go with `facex-tune data prepare webdataset SOURCE --as NAME`",
    "a NumPy array": "read it with `facex-tune data prepare arrays FOLDER --as NAME --arrays images=NAME labels=NAME`",
}
_INSTEAD |= dict.fromkeys(
    ("a NumPy archive", "an HDF5 file"),
    "read it with `facex-tune data prepare arrays SOURCE --as NAME --arrays images=NAME labels=NAME`",
)
_INSTEAD |= dict.fromkeys(
    ("a gzip archive", "a bzip2 archive", "an xz archive", "a 7-zip archive", "a RAR archive"),
    "unpack it and name the folder or file that was in it",
)
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError)


@dataclass(frozen=True)
class Tree:
    """The files below a folder or in a zip, sorted, with / between folders; hidden ones left out.

    Attributes:
        names: the files; what cannot be printed in a name stands as U+FFFD.
        folders: the folders; of a zip those that it lists, which not every program that zips does.
    """

    path: Path
    names: list[str]
    folders: list[str]
    size_bytes: Callable[[str], int]
    open: Callable[[str], BinaryIO]


@contextmanager
def open_tree(path: Path) -> Iterator[Tree]:
    """The files below a folder or in a zip.

    Raises:
        InputError: nothing there, not readable, no complete zip, or a member that points outside.
    """
    require_readable(path)
    if path.is_dir():
        files, folders = _walked(path)
        top = os.fspath(path)  # pathlib takes as long to join two parts as the system to open a file
        yield Tree(
            path,
            _visible(files),
            _visible(folders),
            lambda name: os.stat(f"{top}/{files[name]}").st_size,
            lambda name: open(f"{top}/{files[name]}", "rb"),  # noqa: SIM115
        )
        return
    with _opened_zip(path) as archive:
        members = [(_inside(path, info.filename), info) for info in archive.infolist()]
        of_name = {name: info for name, info in members if not info.is_dir()}
        yield Tree(
            path,
            _visible(name for name, info in members if not info.is_dir()),
            _visible(name for name, info in members if info.is_dir()),
            lambda name: of_name[name].file_size,
            lambda name: _member(archive, of_name[name]),
        )


def require_readable(path: Path) -> None:
    """InputError where there is nothing at `path` or it may not be read."""
    try:
        if path.is_dir():
            os.scandir(path).close()
        elif path.exists():
            path.open("rb").close()
        else:
            raise InputError(f"{path} does not exist: name the folder or file that was downloaded")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path} cannot be read: {reason}; check its owner and mode") from error


def is_zip(path: Path) -> bool:
    """Whether a file is a zip by its first bytes or by its name (a broken one is told as such); False for a folder."""
    require_readable(path)
    return path.is_file() and (_head(path).startswith(b"PK") or path.suffix.lower() == ".zip")


def refuse_other_archives(path: Path) -> None:
    """InputError that names the kind of a file that is neither a zip nor text."""
    head = _head(path)
    for magic, kind in _ARCHIVES.items():
        if head.startswith(magic):
            raise InputError(f"{path} is a {kind} archive: unpack it and name the folder or file that was in it")
    if kind := _kind_of_binary(head):
        raise InputError(f"{path} is {kind}: {_INSTEAD.get(kind, 'name the folder, zip or table of the data set')}")


def advice_on_binaries(tree: Tree) -> str:
    """What reads a file of the tree that is a table or an archive of faces; "" where there is none among the first."""
    for name in tree.names[:_FIRST]:
        with suppress(*DAMAGE), tree.open(name) as file:
            kind = "a NumPy archive" if name.lower().endswith(".npz") else _kind_of_binary(file.read(_TAR_AT + 5))
            if kind in _INSTEAD:
                return f"{name} is {kind}: {_INSTEAD[kind]}"
    return ""


def _kind_of_binary(head: bytes) -> str:
    """What a file is that neither a zip nor text begins so; "" for these."""
    if head.startswith(b"PK"):
        return ""
    if kind := kind_of(head):
        return f"one picture ({kind})"
    if (said := said_of(head)) != UNKNOWN and head:
        return said.removesuffix(_NOT_READ)
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "a tar archive"
    if head.startswith(b"\x80") and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle"
    is_text = head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" not in head[:HEAD_BYTES]  # UTF-16 is told as such
    return "" if is_text else "a binary file of a kind that is not known"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_TAR_AT + 5)


@contextmanager
def told_as_damage(where: str | Path) -> Iterator[None]:
    """What breaks while a file or member is opened and read becomes an InputError that names it."""
    try:
        yield
    except DAMAGE as error:
        raise InputError(f"{where} is damaged ({one_line(error)}): download it again") from error


def _opened_zip(path: Path) -> zipfile.ZipFile:
    refuse_other_archives(path)
    if path.suffix.lower() != ".zip" and not _head(path).startswith(b"PK"):
        raise InputError(f"{path} is a text file, where a folder or zip is wanted: name the one that it lies in")
    try:
        return zipfile.ZipFile(path)
    except (*DAMAGE, ValueError, NotImplementedError) as error:  # ValueError: names that are no UTF-8, wild offsets
        raise InputError(f"{path} is no complete zip ({one_line(error)}): download it again") from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    try:
        return open_member(archive, info)
    except (RuntimeError, ValueError) as error:  # encrypted, compressed in an unknown way, a name that is no UTF-8
        raise zipfile.BadZipFile(one_line(error)) from error


def _inside(path: Path, name: str) -> str:
    """A member's name with / between folders, as some programs do not write it, and without `.` among them."""
    if not name:
        raise InputError(f"{path} is no complete zip (a member has no name): download it again")
    place = PurePosixPath(name.replace("\\", "/"))
    if ".." in place.parts or place.is_absolute():
        raise InputError(f"{path} has a member {name!r} that points outside: get the zip from its publisher")
    return printable(place.as_posix())


def _walked(folder: Path) -> tuple[dict[str, str], list[str]]:
    """The files below a folder (printable name -> name) and the folders, those that are links included."""

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}; check its owner and mode") from error

    files, folders = {}, []
    for root, below, here in os.walk(folder, onerror=refuse, followlinks=True):
        place = Path(root).relative_to(folder)
        below[:] = [name for name in below if not _leads_back(folder, place / name)]  # in place: os.walk goes by it
        folders += [printable((place / name).as_posix()) for name in below]
        for name in here:
            real = (place / name).as_posix()
            files[printable(real)] = real
    return files, folders


def _leads_back(top: Path, place: Path) -> bool:
    """Whether a folder below `top` is, by its real path, one of those that it was reached through."""
    return (top / place).resolve() in {(top / above).resolve() for above in place.parents}


def printable(name: str) -> str:
    """With U+FFFD for what is not: names go into messages of one line and UTF-8 files, and may be any bytes on disk."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text if text.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in text)


def _visible(names: Iterable[str]) -> list[str]:
    """Without .DS_Store, __MACOSX/._x.jpg, a disk station's @eaDir/x.jpg/THUMB.jpg and the like."""
    hidden = (".", "__MACOSX", "@eaDir")
    return sorted(name for name in names if not any(part.startswith(hidden) for part in name.split("/")))


@dataclass(frozen=True)
class Read:
    """Pictures read: K kept of those asked for.

    Attributes:
        images_KHW: of the shape that was asked for; in colour K x H x W x 3.
        kept: the positions that they had among the names asked for.
        skipped: the others, with the reason.
        pictures: the sizes of the kept.
    """

    images_KHW: NDArray[np.uint8]
    kept: list[int]
    skipped: list[Skipped]
    pictures: Pictures


def read_images(
    tree: Tree,
    names: Sequence[str],
    progress: Progress,
    side: int | None = None,
    boxes: Sequence[Box | None] | None = None,
    face: FaceShape = GREY_48,
) -> Read:
    """Decode pictures to faces of one shape. Many are decoded by processes beside this one: what Pillow does in Python
    for each takes as long as decoding it, so that threads wait for each other.

    Args:
        side: how wide and high each must be, in pixels; by default any size is cut to a square and resized.
        boxes: where the face is in each picture; None: all of it, cut to a square.

    Raises:
        InputError: there are pictures and none of them can be read.
    """
    images_NHW = np.empty(face.images(len(names)), np.uint8)
    kept: list[int] = []
    skipped: list[Skipped] = []
    sizes: list[tuple[int, int, bool]] = []
    with Helpers(_helpers(len(names))) as helpers:
        for position, found in enumerate(_decoded(helpers, _tasks(tree, names, boxes, side), face, side)):
            if isinstance(found, str):
                skipped.append(Skipped(names[position], None, found))
            else:
                images_NHW[len(kept)] = found.image_HW
                sizes.append((found.width, found.height, found.animated))
                kept.append(position)
            if (position + 1) % _TOLD_EACH == 0 or position + 1 == len(names):
                progress(position + 1, len(names))
    if skipped and not kept:
        raise InputError(f"{tree.path}: not one of {len(names):,} images can be read ({skipped[0].reason})")
    width_K, height_K, animated_K = np.array(sizes, np.int64).reshape(-1, 3).T
    pictures = Pictures(width_K, height_K, animated_K.astype(np.bool_))
    return Read(images_NHW[: len(kept)], kept, skipped, pictures)


def _helpers(n: int) -> int:
    """How many processes decode n pictures: none where they would take longer to start than to decode."""
    cpus = processors()
    return min(cpus, 8) if cpus > 1 and n >= _MANY else 0


def _tasks(
    tree: Tree, names: Sequence[str], boxes: Sequence[Box | None] | None, side: int | None
) -> Iterator[list[Asked]]:
    """Files read here, in order, since a zip's members are read one at a time: some pictures, not too many bytes."""
    limit_bytes = MAX_BYTES if side is None else MAX_FACE_BYTES
    several: list[Asked] = []
    n_bytes = 0
    for name, box in zip(names, repeat(None, len(names)) if boxes is None else boxes, strict=True):
        try:
            data: bytes | str = _bytes(tree, name, limit_bytes, side)
        except Exception as error:  # of a damaged zip whatever its library raises
            data = one_line(error)
        several.append((data, box))
        n_bytes += len(data)
        if len(several) == _TASK or n_bytes > _TASK_BYTES:
            yield several
            several, n_bytes = [], 0
    yield several


def _decoded(
    helpers: Helpers, tasks: Iterable[list[Asked]], face: FaceShape, side: int | None
) -> Iterator[Decoded]:
    """The pictures of tasks in order; some tasks are under way at once."""
    under_way: deque[tuple[list[Asked], Future[list[Decoded | None]]]] = deque()
    at_most_bytes = BESIDE_BYTES if helpers.n else MAX_DECODED_BYTES

    def first() -> Iterator[Decoded]:
        task, future = under_way.popleft()
        for asked, found in zip(task, future.result(), strict=True):
            if found is None:  # a large one, of which none is decoded beside another
                (found,) = decode_several([asked], face, side)
            assert found is not None, "nothing is larger than what is taken at most"
            yield found

    for task in tasks:
        under_way.append((task, helpers.submit(decode_several, task, face, side, at_most_bytes)))
        if len(under_way) > 3 * helpers.n:
            yield from first()
    while under_way:
        yield from first()


def _bytes(tree: Tree, name: str, limit_bytes: int, side: int | None) -> bytes:
    size_bytes = tree.size_bytes(name)
    if size_bytes > limit_bytes:
        what = "a picture of one face" if side is None else f"a {side} x {side} face"
        raise ValueError(f"{size_bytes} bytes are too many for {what}")
    with tree.open(name) as file:
        return read_whole(file, size_bytes, limit_bytes)


def content(tree: Tree, name: str, limit_bytes: int) -> bytes:
    """A whole file, whatever the tree says of its size.

    Raises:
        TooLarge: it has more than `limit_bytes`.
    """
    with tree.open(name) as file:
        return read_whole(file, tree.size_bytes(name), limit_bytes)


def head_of(tree: Tree, name: str) -> bytes:
    """The first bytes of a file; none of one that cannot be read."""
    try:
        with tree.open(name) as file:
            return file.read(HEAD_BYTES)
    except DAMAGE:
        return b""


def is_picture(tree: Tree, name: str) -> bool:
    """Whether a file is a picture, by its content; one that is named so counts, so that it is missed."""
    return name.lower().endswith(IMAGE_SUFFIXES) or kind_of(head_of(tree, name)) is not None


def is_litter(name: str) -> bool:
    """Whether a file is what file managers leave in folders."""
    return PurePosixPath(name).name.lower() in _LITTER


def one_of_a_name(files: list[tuple[str, int]]) -> tuple[int, list[Skipped]]:
    """Of files (name, label) that say that they are the same face: how many stay (1, or 0), and why the others do not.

    The first stays, unless they lie in different classes: nobody knows which is right.
    """
    (first, label), *others = files
    if all(other == label for _, other in others):
        return 1, [Skipped(name, None, f"a second copy of {first}") for name, _ in others]
    names = [name for name, _ in files]
    return 0, [
        Skipped(name, None, f"another class has a face of this name: {names[at - 1]}") for at, name in enumerate(names)
    ]


def missing_classes(labels: set[int], wanted: tuple[int, ...]) -> list[str]:
    """The emotions without a single face."""
    return [EMOTIONS[emotion] for emotion in wanted if emotion not in labels]


def require_classes(labels: set[int], wanted: tuple[int, ...], where: str) -> None:
    """InputError that names the emotions without a single face."""
    if missing := missing_classes(labels, wanted):
        raise InputError(f"{where} has no face of {', '.join(missing)}: the data set is incomplete, download it again")
