"""Decode one picture to the pixels that are kept: the one decoder of every importer and of `facex-tune predict`.

A file is known by its content, never by its name. Eight bits are read as they are. Deeper pixels (16 and 32 bits,
floats) say nothing of their scale, so it is told from the kind and the range of the values, and a picture whose values
fit two scales is refused: a wrong one would come out black or white without a word.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.emotions import GREY_48, FaceShape

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES, MAX_PIXELS = 2**25, 50_000_000  # what is more is no picture of one face
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


def decode(data: bytes, face: FaceShape = GREY_48) -> Picture:
    """A file's first picture, turned as its camera says, what is transparent on white: its middle square, resized once,
    antialiased. In grey colours become luminance (ITU-R 601) first; in colour a grey picture gets three equal channels.

    Raises:
        ValueError, Exception: as `decode_whole`.
    """
    return _decoded(data, face.is_colour, face.size)


def decode_whole(data: bytes, *, colour: bool = False) -> Picture:
    """As `decode`, as large as the picture is.

    Raises:
        ValueError: no picture of a kind that is read, too large a one, or one whose scale cannot be told; with why.
        Exception: whatever a decoder fed damaged bytes raises.
    """
    return _decoded(data, colour, None)


def _decoded(data: bytes, colour: bool, side: int | None) -> Picture:
    from PIL import Image

    if kind_of(data[:HEAD_BYTES]) is None:
        raise ValueError(said_of(data[:HEAD_BYTES]))
    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many for a picture of one face")
        if not colour:  # a JPEG keeps its luminance apart from its colours, which then need no decoding
            image.draft("L", image.size)
        animated = bool(getattr(image, "is_animated", False))
        plain = _upright(_plain(image, colour), image)
    width, height = plain.size
    return Picture(_squared(plain, side), width, height, animated)


def fitted(image: Image, face: FaceShape = GREY_48) -> NDArray[np.uint8]:
    """An opened picture as `decode` gives a file's: upright, its middle square.

    Raises:
        ValueError: its scale cannot be told.
    """
    return _squared(_upright(_plain(image, face.is_colour), image), face.size)


def _squared(plain: Image, side: int | None) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    if side is not None and plain.size != (side, side):
        plain = ImageOps.fit(plain, (side, side), Image.Resampling.LANCZOS)
    return np.asarray(plain)


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


def _upright(plain: Image, image: Image) -> Image:
    """Turned as the camera says."""
    from PIL import ExifTags, Image

    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return plain.transpose(Image.Transpose[turn]) if turn else plain


def _plain(image: Image, colour: bool) -> Image:
    """Luminance, or red, green and blue, in eight bits."""
    from PIL import Image

    _mend_tiles(image)
    raw_mode, mode = _raw_mode(image), "RGB" if colour else "L"
    if image.mode.startswith(("I", "F")):
        deep = Image.fromarray(_eight_bits(_deep(image)))
        return deep.convert(mode) if colour else deep
    if image.mode == "LAB":
        raise ValueError("Lab colours are not read: save it as RGB")
    if image.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        colours = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        if colours.getchannel("A").getextrema() == (0, 0):
            raise ValueError("transparent everywhere: save it without transparency")
        _refuse_dark(colours, raw_mode)
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert(mode)
    image.load()
    plain = image if image.mode == mode else image.convert(mode)  # most JPEGs are grey after `draft`: no copy is made
    _refuse_dark(plain, raw_mode)
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


def _refuse_dark(image: Image, raw_mode: str) -> None:
    """Of 16 bits a channel only the high bytes are there: where they are low, the values may as well be of 8 bits."""
    if ";16" in raw_mode and max(high for _, high in _extrema(image)) < _HALF >> 8:
        raise ValueError("colours of 16 bits whose values stay in the lower half: their scale cannot be told")


def _extrema(image: Image) -> list[tuple[int, int]]:
    """(lowest, highest) of each channel but a transparency."""
    channels = image.convert("RGB") if image.mode == "RGBA" else image
    found: Any = channels.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]


def _deep(image: Image) -> NDArray[np.float64]:
    """Pixels of more than eight bits as they stand in the file."""
    if "transparency" in image.info:
        raise ValueError("a transparent shade among deep pixels is not read: save it with 8 bits")
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(262) == 0:  # PhotometricInterpretation: Pillow turns such pixels over only where they have eight bits
        raise ValueError("deep pixels of which 0 is white are not read: save it with 8 bits")
    return np.asarray(image, np.float64)


def _eight_bits(deep_HW: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Deep pixels on the scale 0 to 255.

    Raises:
        ValueError: their scale cannot be told.
    """
    if not np.isfinite(deep_HW).all():
        raise ValueError("pixels that are no finite numbers")
    return (deep_HW * (255 / _white(deep_HW))).round().clip(0, 255).astype(np.uint8)


def _white(deep_HW: NDArray[np.float64]) -> float:
    """The value that stands for white: of floats 1, 255 or 65,535, of whole numbers 255 or 65,535."""
    low, high = float(deep_HW.min()), float(deep_HW.max())
    whole = bool((deep_HW == np.floor(deep_HW)).all())
    if low < 0 or (whole and high == 1):  # 0 and 1 alone: black and white, or all but black
        white: float | None = None
    elif whole:
        white = _white_of_whole(deep_HW, high)
    else:
        white = next((top for top in (1.0, 255.0, 65_535.0) if high <= top), None)
        if white is not None and white > 1 and high < white / 2:  # percent lie between, and who knows what
            white = None
    if white is None:
        raise ValueError(
            f"deep pixels from {low:,.6g} to {high:,.6g}, which fit no scale (0 to 1, 255 or 65,535) or more than one: "
            "save it with 8 bits"
        )
    return white


def _white_of_whole(deep_HW: NDArray[np.float64], high: float) -> float | None:
    if high <= 255:
        return 255.0
    if high > 65_535:
        return None
    if not (deep_HW % 257).any():  # eight bits stretched to sixteen
        return 65_535.0
    if not (deep_HW % 256).any():  # eight bits moved up
        return 65_280.0
    return 65_535.0 if high >= _HALF else None
