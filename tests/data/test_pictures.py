"""The one decoder: every mode and depth that Pillow writes, under any name, is the same face everywhere or refused."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facex_tune.data import pictures
from facex_tune.data.importing import NOTHING
from facex_tune.data.pictures import decode, decode_whole, kind_of, looks_uncropped
from facex_tune.data.sources import folder
from facex_tune.errors import InputError
from facex_tune.inference import predict

FORMATS = (
    "JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "PCX", "SGI", "ICO", "IM",
    "DDS", "QOI", "MPO", "XBM", "SPIDER", "MSP", "ICNS",
)  # fmt: skip
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "I;16B", "F")
NO_DEEP = {"GIF", "WEBP", "AVIF", "JPEG", "BMP", "DIB", "QOI", "ICO"}  # Pillow clips deep pixels as it writes these
SIDE = 48
OTHERWISE = {(kind, "LAB") for kind in FORMATS if kind != "TIFF"} | {("GIF", "RGBA")}  # and these it repaints
LOSSY = {"JPEG", "MPO", "WEBP", "AVIF", "JPEG2000"}
SUFFIXES = {"its own": "right", "another kind's": "wrong", "none": ""}


def face() -> np.ndarray:
    """Eight bits of the full range, smooth enough for JPEG."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    face_HW = 255 * (0.5 * rows + 0.5 * columns)
    return face_HW.round().astype(np.uint8)


def in_mode(mode: str, face_HW: np.ndarray) -> Image.Image:
    """The face, as a picture of a mode; deep ones hold its eight bits as most programs write them."""
    deep = {
        "I;16": face_HW.astype(np.uint16) * 257,
        "I": face_HW.astype(np.int32),
        "F": face_HW.astype(np.float32) / 255,
    }
    if mode == "I;16B":
        return Image.frombytes("I;16B", (SIDE, SIDE), (face_HW.astype(">u2") * 257).tobytes())
    if mode in deep:
        return Image.fromarray(deep[mode])
    if mode == "LAB":
        return Image.new("LAB", (SIDE, SIDE))
    return Image.fromarray(face_HW).convert("RGB" if mode in ("YCbCr", "HSV") else mode).convert(mode)


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 100} if kind in LOSSY - {"JPEG2000"} else {}))
    return buffer.getvalue()


def written(kind: str, mode: str) -> bytes | None:
    """The face as Pillow writes it; None where it cannot, or only other pixels than the face's."""
    if (kind in NO_DEEP and mode in ("I", "I;16", "I;16B", "F")) or (kind, mode) in OTHERWISE:
        return None
    try:
        return encoded(in_mode(mode, face()), kind)
    except Exception:  # every plugin has its own words for what it does not write
        return None


def prepared(root: Path, name: str, data: bytes) -> np.ndarray | str:
    """The face as `data prepare folder` reads it, or why it does not."""
    path = root / "happy" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    try:
        loaded = folder.load(root, lambda done, total: None, NOTHING)
    except InputError as error:
        return str(error)
    return loaded.faces.images_NHW[0]


def predicted(root: Path, name: str) -> np.ndarray | str:
    try:
        return predict.read_faces([root / "happy" / name])[0]
    except InputError as error:
        return str(error)


CASES = [(kind, mode) for kind in FORMATS for mode in MODES if written(kind, mode) is not None]


@pytest.mark.parametrize("habit", SUFFIXES)
@pytest.mark.parametrize(("kind", "mode"), CASES, ids=[f"{kind} {mode}" for kind, mode in CASES])
def test_equal_pictures_give_equal_faces_or_are_refused(kind: str, mode: str, habit: str, tmp_path: Path) -> None:
    data = written(kind, mode)
    assert data is not None
    name = {"its own": f"x.{kind.lower()}", "another kind's": "x.txt" if kind == "PNG" else "x.png", "none": "x"}[habit]
    one, other = prepared(tmp_path, name, data), predicted(tmp_path, name)
    if isinstance(one, str) or isinstance(other, str):
        assert isinstance(one, str)
        assert isinstance(other, str)
        assert len(one.splitlines()) == len(other.splitlines()) == 1
        assert kind not in ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM") or mode in ("LAB", "HSV")
        return
    assert np.array_equal(one, other)
    wanted = np.where(face() > 127, 255, 0) if mode == "1" else face()
    if mode == "1":  # dithered: its mean is what it keeps
        assert abs(float(one.mean()) - face().mean()) < 4
    else:
        assert np.abs(one.astype(int) - wanted).max() <= (4 if kind in LOSSY or mode in ("P", "CMYK", "HSV") else 1)


def png16(values_HW: np.ndarray) -> bytes:
    return encoded(Image.fromarray(values_HW.astype(np.uint16)), "PNG")


def tiff(values_HW: np.ndarray, dtype: type) -> bytes:
    return encoded(Image.fromarray(values_HW.astype(dtype)), "TIFF")


F = face().astype(np.float64)
READ: dict[str, Callable[[], bytes]] = {
    "16 bits, stretched": lambda: png16(F * 257),
    "16 bits, moved up by eight": lambda: png16(F * 256),
    "16 bits that hold eight": lambda: png16(F),
    "16 bits, dark but stretched": lambda: png16((F // 3) * 257),
    "floats to 1": lambda: tiff(F / 255, np.float32),
    "floats to 255": lambda: tiff(F + 0.25 * (F < 200), np.float32),
    "whole floats to 255": lambda: tiff(F, np.float32),
    "floats to 65,535": lambda: tiff(F * 257 * 0.9999, np.float32),
    "32 bits that hold eight": lambda: tiff(F, np.int32),
    "32 bits that hold sixteen": lambda: tiff(F * 257, np.int32),
}


@pytest.mark.parametrize("case", READ)
def test_the_scale_of_deep_pixels_is_told(case: str) -> None:
    wanted = F // 3 if "dark" in case else F
    assert np.abs(decode(READ[case]()).image_HW.astype(int) - wanted).max() <= 1


REFUSED: dict[str, Callable[[], bytes]] = {
    "12 bits in 16": lambda: png16(F * 16 + 5),
    "floats from -1 to 1": lambda: tiff(F / 127.5 - 1, np.float32),
    "percent": lambda: tiff(F / 2.55, np.float32),
    "no numbers": lambda: tiff(np.full((SIDE, SIDE), np.nan), np.float32),
    "32 bits, all used": lambda: tiff(F * 2**23, np.int32),
    "floats just above 1": lambda: tiff(F / 250, np.float32),
    "zeros and ones": lambda: tiff(F > 99, np.int32),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_scale_that_cannot_be_told_is_refused(case: str) -> None:
    with pytest.raises(ValueError, match=r"deep pixels from .* save it with 8 bits|no finite numbers"):
        decode(REFUSED[case]())


def png_of_16_bit_colours(values_HW3: np.ndarray) -> bytes:
    """Pillow writes none."""
    import struct
    import zlib

    height, width, _ = values_HW3.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values_HW3)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colours_of_sixteen_bits() -> None:
    colours_HW3 = np.repeat(F[..., None], 3, axis=2)
    assert np.abs(decode(png_of_16_bit_colours(colours_HW3 * 257)).image_HW.astype(int) - F).max() <= 1
    with pytest.raises(ValueError, match="their scale cannot be told"):
        decode(png_of_16_bit_colours(colours_HW3))


def test_the_first_picture_of_several_is_read_and_told(tmp_path: Path) -> None:
    first, second = Image.fromarray(face()), Image.fromarray(255 - face())
    first.convert("P").save(tmp_path / "x.gif", save_all=True, append_images=[second.convert("P")], duration=100)
    picture = decode((tmp_path / "x.gif").read_bytes())
    assert picture.animated
    assert np.abs(picture.image_HW.astype(int) - face()).max() <= 4
    assert not decode(encoded(first, "GIF")).animated


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_camera_says(orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(face()[:, ::-1]).resize((60, 90)).save(buffer, "PNG", exif=exif)
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    picture = decode_whole(buffer.getvalue())
    assert np.array_equal(picture.image_HW, wanted)
    assert (picture.height, picture.width) == wanted.shape


def test_a_huge_picture_is_not_decoded() -> None:
    with pytest.raises(ValueError, match="pixels are too many for a picture of one face"):
        decode(encoded(Image.new("1", (9000, 6000)), "PNG"))


PEAKS = """
import re, sys
from pathlib import Path
from facex_tune.data import pictures

def told(what):
    return int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

pictures.decode(Path(sys.argv[1]).read_bytes())
for path in sys.argv[2:]:
    data = Path(path).read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = told("VmRSS")
    pictures.decode(data)
    print(told("VmHWM") - before)
assert "torch" not in sys.modules
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the peak")
def test_a_picture_takes_little_more_than_its_own_pixels(tmp_path: Path) -> None:
    side, paths = 3000, [tmp_path / name for name in ("first.png", "transparent.png", "deep.png")]
    Image.new("RGBA", (9, 9)).save(paths[0])
    Image.new("RGBA", (side, side)).save(paths[1], compress_level=1)
    Image.new("I;16", (side, side)).save(paths[2], compress_level=1)
    asked = subprocess.run([sys.executable, "-c", PEAKS, *map(str, paths)], capture_output=True, text=True, check=True)
    transparent, deep = (int(n) / side**2 for n in asked.stdout.split())
    tiles = 40 * pictures.MEGAPIXEL / side**2  # bytes a pixel, for what is made of one tile at a time
    assert transparent < 4 + 1 + tiles < 4 * 4
    assert deep < 2 + 1 + tiles < 3 * 8


def tiff_of_one_tile(side: int) -> bytes:
    """A picture of 48 x 48 pixels that says of its one tile how large it is; nothing is in it."""
    said = {256: 48, 257: 48, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: 1}
    entries = b"".join(np.array([tag, 4, 1, 0], "<u2").tobytes()[:4] + np.array([1, value], "<u4").tobytes()
                       for tag, value in said.items())  # fmt: skip
    return b"II*\0" + np.array([8], "<u4").tobytes() + np.array([len(said)], "<u2").tobytes() + entries + bytes(4)


GREEDY: dict[str, Callable[[], bytes]] = {
    "WebP": lambda: webp_of_one_colour(),
    "TIFF of one strip": lambda: tiff_of_one_strip(),
    "TIFF of one tile": lambda: tiff_of_one_tile(40_000),
    "progressive JPEG": lambda: progressive(),
}


def webp_of_one_colour() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (5000, 5000)).save(buffer, "WEBP", lossless=True, method=0, quality=0)
    return buffer.getvalue()


def tiff_of_one_strip() -> bytes:
    buffer = io.BytesIO()
    image = Image.new("RGBA", (6000, 6000))
    image.save(buffer, "TIFF", compression="tiff_adobe_deflate", tiffinfo={278: 6000})
    return buffer.getvalue()


def progressive() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (6500, 6500)).save(buffer, "JPEG", progressive=True)
    return buffer.getvalue()


@pytest.mark.parametrize("case", GREEDY)
def test_what_a_decoder_would_take_is_reckoned_before_it_is_asked(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = GREEDY[case]()
    monkeypatch.setattr(pictures, "_opened", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match=r"take [0-9,]+ bytes to decode, and 268,435,456 are taken at most: save it"):
        decode(data)


def test_pictures_beside_each_other_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(face()), "PNG")
    monkeypatch.setattr(pictures, "_ROOM", pictures._Room(2 * (1 + 1) * SIDE**2))
    opened, meeting = pictures._opened, threading.Barrier(3)

    def met(*words: Any) -> pictures.Picture:
        try:
            meeting.wait(0.2)
        except threading.BrokenBarrierError:
            return opened(*words)
        pytest.fail("three were decoded at once, with room for two")

    monkeypatch.setattr(pictures, "_opened", met)
    with ThreadPoolExecutor(3) as pool:
        faces = list(pool.map(decode, [data] * 3))
    assert all(np.array_equal(each.image_HW, face()) for each in faces)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("kind", ["RGB", "RGBA", "LA", "P", "CMYK", "I;16"])
def test_tiles_make_the_same_picture(kind: str, colour: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(in_mode(kind, face()), "TIFF" if kind == "CMYK" else "PNG")
    whole = decode_whole(data, colour=colour)
    for megapixel in (7, 5 * SIDE + 1):  # parts of a row, and some rows
        monkeypatch.setattr(pictures, "MEGAPIXEL", megapixel)
        assert np.array_equal(decode_whole(data, colour=colour).image_HW, whole.image_HW)


@pytest.mark.parametrize(
    ("width", "height", "uncropped"),
    [(48, 48, False), (1024, 1024, False), (562, 762, False), (178, 218, False), (143, 181, False), (48, 40, False),
     (1025, 1024, True), (1920, 1280, True), (640, 480, True), (320, 180, True), (100, 160, True)],
)  # fmt: skip
def test_what_looks_like_a_whole_photograph(width: int, height: int, uncropped: bool) -> None:
    assert looks_uncropped(width, height) == uncropped


def test_kinds_are_known_by_content() -> None:
    for kind in ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "AVIF"):
        if (data := written(kind, "L")) or (data := written(kind, "RGB")):
            assert kind_of(data[:32]) == kind
    assert kind_of(b"P5X,a,table") is None
