"""Read a data set's files alike from a folder and from its unopened zip, and decode its small images.

Nothing is ever extracted: members are read into memory one at a time, so none can land outside a folder.
"""

from __future__ import annotations

import io
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.faces import SIDE, Skipped
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_IMAGE_BYTES = 2**20  # a 48 x 48 face takes some 2 kB; more is something else
MAX_PHOTO_BYTES, MAX_PHOTO_PIXELS = 2**25, 50_000_000  # what is more is no picture of one face
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
PHOTO_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
Progress = Callable[[int, int], None]

_ARCHIVES = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7-zip", b"Rar!": "RAR"}
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError)


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
        yield Tree(
            path,
            _visible(files),
            _visible(folders),
            lambda name: (path / files[name]).stat().st_size,
            lambda name: (path / files[name]).open("rb"),
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
    """InputError where a file is an archive of a kind that is not read."""
    head = _head(path)
    for magic, kind in _ARCHIVES.items():
        if head.startswith(magic):
            raise InputError(f"{path} is a {kind} archive: unpack it and name the folder or file that was in it")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


@contextmanager
def told_as_damage(where: str | Path) -> Iterator[None]:
    """What breaks while a file or member is opened and read becomes an InputError that names it."""
    try:
        yield
    except _DAMAGE as error:
        raise InputError(f"{where} is damaged ({one_line(error)}): download it again") from error


def _opened_zip(path: Path) -> zipfile.ZipFile:
    refuse_other_archives(path)
    try:
        return zipfile.ZipFile(path)
    except (*_DAMAGE, ValueError, NotImplementedError) as error:  # ValueError: names that are no UTF-8, wild offsets
        raise InputError(f"{path} is no complete zip ({one_line(error)}): download it again") from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    try:
        return archive.open(info)  # type: ignore[return-value]  # IO[bytes], all that a BinaryIO is used for
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
    """Without .DS_Store, __MACOSX/._x.jpg and the like."""
    return sorted(name for name in names if not any(part.startswith((".", "__MACOSX")) for part in name.split("/")))


def read_images(
    tree: Tree, names: list[str], progress: Progress, decode: Callable[[Tree, str], NDArray[np.uint8]] | None = None
) -> tuple[NDArray[np.uint8], list[int], list[Skipped]]:
    """Decode images: (images_NHW, the positions in `names` that they came from, what was skipped).

    Args:
        decode: what makes a grey 48 x 48 face of a file; by default `decode_face`.

    Raises:
        InputError: there are images and none of them can be read.
    """
    decode = decode or decode_face
    images_NHW = np.empty((len(names), SIDE, SIDE), np.uint8)
    kept: list[int] = []
    skipped: list[Skipped] = []
    for position, name in enumerate(names):
        try:
            images_NHW[len(kept)] = decode(tree, name)
            kept.append(position)
        except Exception as error:  # a decoder fed damaged bytes raises whatever it likes, SyntaxError included
            skipped.append(Skipped(name, None, one_line(error)))
        if position % 512 == 511 or position + 1 == len(names):
            progress(position + 1, len(names))
    if skipped and not kept:
        raise InputError(f"{tree.path}: not one of {len(names)} images can be read ({skipped[0].reason})")
    return images_NHW[: len(kept)], kept, skipped


def decode_face(tree: Tree, name: str) -> NDArray[np.uint8]:
    """A JPEG or PNG of 48 x 48 pixels, as it is; ValueError for any other size."""
    from PIL import Image

    data = _bytes(tree, name, MAX_IMAGE_BYTES, f"a {SIDE} x {SIDE} face")
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
        if image.size != (SIDE, SIDE):
            raise ValueError(f"{image.width} x {image.height} pixels where {SIDE} x {SIDE} are wanted")
        return np.asarray(image.convert("L"))


def decode_any_size(tree: Tree, name: str) -> NDArray[np.uint8]:
    """An image of any size and mode as 48 x 48: grey by luminance, cut to a square, resized once and antialiased."""
    return decode_photo(_bytes(tree, name, MAX_PHOTO_BYTES, "a picture of one face"))


def decode_photo(data: bytes) -> NDArray[np.uint8]:
    """The same of a file's content. Raises whatever a decoder fed damaged bytes raises."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(data), formats=PHOTO_FORMATS) as image:
        if image.width * image.height > MAX_PHOTO_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many for a picture of one face")
        grey = _grey(ImageOps.exif_transpose(image))
    if grey.size == (SIDE, SIDE):
        return np.asarray(grey)
    return np.asarray(ImageOps.fit(grey, (SIDE, SIDE), Image.Resampling.LANCZOS))


def _grey(image: Image) -> Image:
    """Luminance (ITU-R 601), sixteen bits scaled to eight; what is transparent shows white."""
    from PIL import Image

    if image.mode.startswith("I"):  # Pillow would clip sixteen bits at 255
        return Image.fromarray((np.asarray(image, np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.mode in ("P", "PA", "LA", "RGBA") or "transparency" in image.info:
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("L")
    return image.convert("L")


def _bytes(tree: Tree, name: str, limit_bytes: int, what: str) -> bytes:
    if tree.size_bytes(name) > limit_bytes:
        raise ValueError(f"{tree.size_bytes(name)} bytes are too many for {what}")
    with tree.open(name) as file:
        return file.read()


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    if type(error).__name__ == "UnidentifiedImageError":  # its message shows only a memory address
        return "no image of a known format"
    return " ".join(str(error).split()) or type(error).__name__


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


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


def require_classes(labels: set[int], wanted: tuple[int, ...], where: str) -> None:
    """InputError that names the emotions without a single face."""
    if missing := [EMOTIONS[emotion] for emotion in wanted if emotion not in labels]:
        raise InputError(f"{where} has no face of {', '.join(missing)}: the data set is incomplete, download it again")
