"""Decode one picture to the pixels that are kept: the one decoder of every importer and of `facex-tune predict`.

A file is known by its content, never by its name. Eight bits are read as they are. Deeper pixels (16 and 32 bits,
floats) say nothing of their scale, so it is told from the kind and the range of the values, and a picture whose values
fit two scales is refused: a wrong one would come out black or white without a word.

A small file can hold a picture of many pixels. What a decoder would take is reckoned from the file's head and refused
beyond `MAX_DECODED_BYTES`; what is made of a picture is made tile by tile; and pictures that are decoded beside each
other take `ROOM_BYTES` together.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.emotions import GREY_48, FaceShape

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES, MAX_PIXELS = 2**25, 50_000_000  # what is more is no picture of one face
MAX_DECODED_BYTES = 2**28  # that a decoder may hold at once
ROOM_BYTES = 2 * MAX_DECODED_BYTES  # for all pictures that are decoded at the same time
BESIDE_BYTES = MAX_DECODED_BYTES // 8  # for each process that decodes beside this one
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "AVIF")
HEAD_BYTES = 32  # of a file, by which its kind is known
MEGAPIXEL = 2**20  # pixels; a face cut out of a photograph has fewer
WIDEST, TALLEST = 1.3, 1.5  # width / height and height / width of what may be a cut-out face
UNKNOWN = "no image of a known format"
_HALF = 2**15  # of a scale of 16 bits: whose brightest pixel is darker may be of 10, 12 or 14 bits as well

_STARTS = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF8", "GIF"), (b"BM", "BMP"), (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"), (b"II+\x00", "TIFF"), (b"MM\x00+", "TIFF"),
    (b"P1", "PPM"), (b"P2", "PPM"), (b"P3", "PPM"), (b"P4", "PPM"), (b"P5", "PPM"), (b"P6", "PPM"), (b"Pf", "PPM"),
    (b"\x28\x00\x00\x00", "DIB"), (b"\x6c\x00\x00\x00", "DIB"), (b"\x7c\x00\x00\x00", "DIB"),
)  # fmt: skip
_OTHERS = (
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"), (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"8BPS", "a Photoshop picture"), (b"qoif", "a QOI picture"), (b"DDS ", "a DDS picture"),
    (b"\x01\xda", "an SGI picture"), (b"\x00\x00\x01\x00", "an ICO picture"), (b"icns", "an ICNS picture"),
    (b"\x0a\x05\x01", "a PCX picture"), (b"PF", "a colour PFM picture"), (b"P7", "a PAM picture"),
    (b"%PDF", "a PDF document"), (b"%!PS", "a PostScript document"), (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"), (b"BZh", "a bzip2 archive"), (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7-zip archive"), (b"Rar!", "a RAR archive"), (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"), (b"PAR1", "a Parquet table"), (b"MATLAB", "a MATLAB file"),
    (b"SQLite", "an SQLite database"), (b"\x80\x04", "a pickle"), (b"\x80\x03", "a pickle"), (b"\x80\x05", "a pickle"),
    (b"RIFF", "a sound or film"), (b"\x1aE\xdf\xa3", "a film"), (b"ID3", "a sound"),
)  # fmt: skip
_BYTES_A_PIXEL = {"L": 1, "P": 1, "1": 1, "LA": 4, "PA": 4}  # that Pillow keeps; 2 of 16 bits, 4 of all others
_HELD = {"WEBP": 16, "AVIF": 12}  # bytes a pixel that these decoders hold themselves, Pillow's included
_COEFFICIENTS = 6  # bytes a pixel that libjpeg keeps of a progressive picture: 2 for each of its colours
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"}
_TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
          7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip
"""By EXIF's orientation."""
_HEIC = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        image_HW: uint8, H x W in grey and H x W x 3 in colour; of `decode_whole` as wide and high as the picture is
            seen.
        width, height: pixels of the picture as it is seen, before anything was cut or resized.
        animated: whether the file has more pictures than the first one, which this is.
    """

    image_HW: NDArray[np.uint8]
    width: int
    height: int
    animated: bool

    @property
    def pixels(self) -> int:
        return self.width * self.height


def kind_of(head: bytes) -> str | None:
    """The format of a file with these first bytes, where it is one that is read; None for anything else."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12])
    kind = next((kind for start, kind in _STARTS if head.startswith(start)), None)
    return None if kind == "PPM" and not head[2:3].isspace() else kind


def said_of(head: bytes) -> str:
    """Why a file with these first bytes is not read as a picture, in words."""
    if not head:
        return "an empty file"
    if head[4:8] == b"ftyp":
        name: str | None = "a HEIC picture" if head[8:12] in _HEIC else "a film"
    else:
        name = next((name for start, name in _OTHERS if head.startswith(start)), None)
    return f"{name}, which is not read" if name else UNKNOWN


class Larger(Exception):
    """A picture takes more to decode than was allowed."""


def decode(data: bytes, face: FaceShape = GREY_48, at_most_bytes: int = MAX_DECODED_BYTES) -> Picture:
    """A file's first picture, turned as its camera says, what is transparent on white: its middle square, resized once,
    antialiased. In grey colours become luminance (ITU-R 601) first; in colour a grey picture gets three equal channels.

    Args:
        at_most_bytes: that decoding it may take, by its head.

    Raises:
        Larger, ValueError, Exception: as `decode_whole`.
    """
    return _decoded(data, face.is_colour, face.size, at_most_bytes)


def decode_whole(data: bytes, *, colour: bool = False, at_most_bytes: int = MAX_DECODED_BYTES) -> Picture:
    """As `decode`, as large as the picture is.

    Raises:
        Larger: it takes more than `at_most_bytes`, and no more than `MAX_DECODED_BYTES`.
        ValueError: no picture of a kind that is read, too large a one, or one whose scale cannot be told; with why.
        Exception: whatever a decoder fed damaged bytes raises.
    """
    return _decoded(data, colour, None, at_most_bytes)


def _decoded(data: bytes, colour: bool, side: int | None, at_most_bytes: int) -> Picture:
    from PIL import Image

    if kind_of(data[:HEAD_BYTES]) is None:
        raise ValueError(said_of(data[:HEAD_BYTES]))
    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many for a picture of one face")
        if not colour:  # a JPEG keeps its luminance apart from its colours, which then need no decoding
            image.draft("L", image.size)
        held = _held_bytes(image)
        if held > MAX_DECODED_BYTES:
            raise ValueError(
                f"{image.width} x {image.height} pixels as this {image.format} has them take {held:,} bytes to decode, "
                f"and {MAX_DECODED_BYTES:,} are taken at most: save it smaller, or as a plain JPEG or PNG"
            )
        taken = held + image.width * image.height * (4 if colour else 1)
        if taken > at_most_bytes < MAX_DECODED_BYTES:
            raise Larger
        with _ROOM.taken(taken):
            return _opened(image, colour, side)


def _opened(image: Image, colour: bool, side: int | None) -> Picture:
    animated = bool(getattr(image, "is_animated", False))
    plain = _plain(image, colour)
    turn = _turn(image)
    if plain is not image:
        image.close()  # gives its pixels back before more is made
    plain = _turned(plain, turn)
    width, height = plain.size
    return Picture(_squared(plain, side), width, height, animated)


def _held_bytes(image: Image) -> int:
    """What decoding an opened picture takes, as its head says it."""
    pixels = image.width * image.height
    each = 2 if image.mode.startswith("I;16") else _BYTES_A_PIXEL.get(image.mode, 4)
    if image.format == "TIFF":
        return pixels * each + _piece_bytes(image)
    if image.info.get("progressive"):
        each += _COEFFICIENTS
    return pixels * _HELD.get(image.format or "", each)


def _piece_bytes(image: Image) -> int:
    """Of a TIFF's largest strip or tile, which may be larger than the picture, unpacked."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(258, (1,))
    depth = sum(bits) if isinstance(bits, tuple) else int(bits)
    depth = max(depth, int(tags.get(277, 1)) * (max(bits) if isinstance(bits, tuple) else int(bits)))
    strip = image.width * min(int(tags.get(278, image.height)), image.height)
    return max(strip, int(tags.get(322, 0)) * int(tags.get(323, 0))) * depth // 8


class _Room:
    """Bytes for what is decoded at the same time; a picture waits until there is room for it."""

    def __init__(self, n_bytes: int) -> None:
        self._most = self._left = n_bytes
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, n_bytes: int) -> Iterator[None]:
        """Takes so many, or all that there are if it wants more, as long as the block lasts."""
        wanted = min(n_bytes, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= wanted)
            self._left -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._left += wanted
                self._changed.notify_all()


_ROOM = _Room(ROOM_BYTES)


def fitted(image: Image, face: FaceShape = GREY_48) -> NDArray[np.uint8]:
    """An opened picture as `decode` gives a file's: upright, its middle square.

    Raises:
        ValueError: its scale cannot be told.
    """
    return _squared(_turned(_plain(image, face.is_colour), _turn(image)), face.size)


def _squared(plain: Image, side: int | None) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    if side is not None and plain.size != (side, side):
        plain = ImageOps.fit(plain, (side, side), Image.Resampling.LANCZOS)
    pixels = np.empty((plain.height, plain.width, 3) if plain.mode == "RGB" else (plain.height, plain.width), np.uint8)
    for box in _tiles(plain.size):  # numpy asks for an image as bytes, and so twice
        left, top, right, bottom = box
        pixels[top:bottom, left:right] = np.asarray(_tile(plain, box))
    return pixels


def _tiles(size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of what is looked at at once, a megapixel at most; of most pictures all."""
    width, height = size
    across = min(width, MEGAPIXEL)
    down = max(1, MEGAPIXEL // max(across, 1))
    return [
        (left, top, min(left + across, width), min(top + down, height))
        for top in range(0, height, down)
        for left in range(0, width, across)
    ]


def _tile(image: Image, box: tuple[int, int, int, int]) -> Image:
    return image if box == (0, 0, *image.size) else image.crop(box)


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed Pillow can read, their decoders loaded and no others."""
    from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401  # importing them makes them known

    Image.preinit()
    with suppress(ImportError):  # of an older Pillow
        from PIL import AvifImagePlugin  # noqa: F401
    return tuple(name for name in FORMATS if name in Image.OPEN)


def looks_uncropped(width: int, height: int) -> bool:
    """Whether a picture of that size is rather a whole photograph than a face cut out of one."""
    return width * height > MEGAPIXEL or width > WIDEST * height or height > TALLEST * width


def _turn(image: Image) -> str | None:
    """How it must be turned, as its camera says."""
    from PIL import ExifTags

    return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))


def _turned(plain: Image, turn: str | None) -> Image:
    from PIL import Image

    return plain.transpose(Image.Transpose[turn]) if turn else plain


def _plain(image: Image, colour: bool) -> Image:
    """Luminance, or red, green and blue, in eight bits."""

    _mend_tiles(image)
    raw_mode, mode = _raw_mode(image), "RGB" if colour else "L"
    if image.mode.startswith(("I", "F")):
        deep = _eight_bits(image)
        return _converted(deep, mode) if colour else deep
    if image.mode == "LAB":
        raise ValueError("Lab colours are not read: save it as RGB")
    if image.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        return _on_white(image, mode, raw_mode)
    image.load()
    # most JPEGs are grey after `draft`: no copy is made
    plain = image if image.mode == mode else _converted(image, mode)
    _refuse_dark(max(high for _, high in _extrema(plain)) if ";16" in raw_mode else None)
    return plain


def _converted(image: Image, mode: str) -> Image:
    from PIL import Image

    tiles = _tiles(image.size)
    if len(tiles) == 1:
        return image.convert(mode)
    plain = Image.new(mode, image.size, None)
    for box in tiles:
        plain.paste(_tile(image, box).convert(mode), box[:2])
    return plain


def _on_white(image: Image, mode: str, raw_mode: str) -> Image:
    """A picture that may be transparent, with white behind it."""
    from PIL import Image

    image.load()
    plain, highest, is_seen = Image.new(mode, image.size, None), 0, False
    for box in _tiles(image.size):
        colours = _tile(image, box).convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        if ";16" in raw_mode:
            highest = max(highest, *(high for _, high in _extrema(colours.convert("RGB"))))
        is_seen = is_seen or colours.getchannel("A").getextrema() != (0, 0)
        white = Image.new("RGBA", colours.size, "white")
        plain.paste(Image.alpha_composite(white, colours).convert(mode), box[:2])
    if not is_seen:
        raise ValueError("transparent everywhere: save it without transparency")
    _refuse_dark(highest if ";16" in raw_mode else None)
    return plain


def _mend_tiles(image: Image) -> None:
    """What Pillow would read wrong without a word is read right or refused: a bitmap of black and white that takes a
    byte for each pixel, and planes of a TIFF whose samples are no plain bytes, which Pillow takes for such.

    Raises:
        ValueError: it cannot be read right.
    """
    tiles: Any = getattr(image, "tile", None)
    if not tiles or tiles[0][0] != "raw":
        return
    codec, box, offset, arguments = tiles[0]
    if image.format in ("BMP", "DIB") and arguments[0] == "1" and arguments[1] != (image.width + 31) // 32 * 4:
        if arguments[1] != (image.width + 3) // 4 * 4:
            raise ValueError("a bitmap of black and white with 4 bits a pixel is not read: save it as PNG")
        tiles[0] = (codec, box, offset, ("1;8", *arguments[1:]))
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(284) == 2 and (max(tags.get(258, (1,))) > 8 or tags.get(266) == 2):  # planes; bits, and their order
        raise ValueError("a TIFF of planes with 16 bits, or with turned bytes, is not read: save it as PNG")


def _raw_mode(image: Image) -> str:
    """How the file's pixels are packed, as Pillow names it: `RGB;16B` says that it will keep the high bytes alone."""
    tiles: Any = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _refuse_dark(highest: int | None) -> None:
    """Of 16 bits a channel only the high bytes are there: where they are low, the values may as well be of 8 bits."""
    if highest is not None and highest < _HALF >> 8:
        raise ValueError("colours of 16 bits whose values stay in the lower half: their scale cannot be told")


def _extrema(image: Image) -> list[tuple[int, int]]:
    """(lowest, highest) of each channel."""
    found: Any = image.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]


def _deep(image: Image) -> Iterator[tuple[tuple[int, int, int, int], NDArray[np.float64]]]:
    """Pixels of more than eight bits as they stand in the file, tile by tile, with each tile's place."""
    if "transparency" in image.info:
        raise ValueError("a transparent shade among deep pixels is not read: save it with 8 bits")
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(262) == 0:  # PhotometricInterpretation: Pillow turns such pixels over only where they have eight bits
        raise ValueError("deep pixels of which 0 is white are not read: save it with 8 bits")
    image.load()
    for box in _tiles(image.size):
        yield box, np.asarray(_tile(image, box), np.float64)


def _eight_bits(image: Image) -> Image:
    """Deep pixels on the scale 0 to 255.

    Raises:
        ValueError: their scale cannot be told.
    """
    from PIL import Image

    scale = 255 / _Deep.of(image).white()
    plain = Image.new("L", image.size, None)
    for box, deep_HW in _deep(image):
        plain.paste(Image.fromarray((deep_HW * scale).round().clip(0, 255).astype(np.uint8)), box[:2])
    return plain


@dataclass
class _Deep:
    """What deep pixels have in common, by which their scale is told."""

    low: float = np.inf
    high: float = -np.inf
    whole: bool = True
    stretched: bool = True  # eight bits stretched to sixteen
    moved: bool = True  # eight bits moved up

    @classmethod
    def of(cls, image: Image) -> _Deep:
        """Of all of a picture's.

        Raises:
            ValueError: some are no numbers.
        """
        found = cls()
        for _, deep_HW in _deep(image):
            if not np.isfinite(deep_HW).all():
                raise ValueError("pixels that are no finite numbers")
            found.low, found.high = min(found.low, float(deep_HW.min())), max(found.high, float(deep_HW.max()))
            found.whole = found.whole and bool((deep_HW == np.floor(deep_HW)).all())
            found.stretched = found.stretched and not (deep_HW % 257).any()
            found.moved = found.moved and not (deep_HW % 256).any()
        return found

    def white(self) -> float:
        """The value that stands for white: of floats 1, 255 or 65,535, of whole numbers 255 or 65,535."""
        low, high = self.low, self.high
        if low < 0 or (self.whole and high == 1):  # 0 and 1 alone: black and white, or all but black
            white: float | None = None
        elif self.whole:
            white = self._white_of_whole()
        else:
            white = next((top for top in (1.0, 255.0, 65_535.0) if high <= top), None)
            if white is not None and white > 1 and high < white / 2:  # percent lie between, and who knows what
                white = None
        if white is None:
            raise ValueError(
                f"deep pixels from {low:,.6g} to {high:,.6g}, which fit no scale (0 to 1, 255 or 65,535) or more than "
                "one: save it with 8 bits"
            )
        return white

    def _white_of_whole(self) -> float | None:
        if self.high <= 255:
            return 255.0
        if self.high > 65_535:
            return None
        if self.stretched:
            return 65_535.0
        if self.moved:
            return 65_280.0
        return 65_535.0 if self.high >= _HALF else None
