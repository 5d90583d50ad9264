"""The one decoder: every mode and depth that Pillow writes, under any name, is the same face everywhere or refused."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from facex_tune import parts
from facex_tune.data import pictures
from facex_tune.data.faces import open_set
from facex_tune.data.pictures import decode, decode_whole, kind_of, looks_uncropped
from facex_tune.data.prepare import prepare
from facex_tune.errors import InputError
from facex_tune.inference import predict
from facex_tune.training import classifier

Image.init()
FORMATS = sorted(Image.SAVE)
READ_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MODES = (
    *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"),
    *("I", "I;16", "I;16B", "I;16L", "I;16N", "F"),
)
PALETTES = {"palette of 2": 2, "palette of 4": 4, "palette of 16": 16, "palette of 256": 256}
TURNED = " from white"  # of a palette: the first shade is white
ALL_MODES = (*MODES, *PALETTES, *(mode + TURNED for mode in PALETTES))
DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
NO_DEEP = {"GIF", "WEBP", "AVIF", "JPEG", "BMP", "DIB", "QOI", "ICO"}  # Pillow clips deep pixels as it writes these
SIDE = 48
OTHERWISE = {(kind, "LAB") for kind in FORMATS if kind != "TIFF"} | {("GIF", "RGBA")}  # and these it repaints
# the colours of its own TIFF, uncompressed, an older Pillow takes for four channels, and says that bytes are missing
UNREAD = {("TIFF", "YCbCr")} if int(PIL.__version__.partition(".")[0]) < 13 else set()
LOSSY = {"JPEG", "MPO", "WEBP", "AVIF", "JPEG2000"}
SLOW = {"ICNS": ("L", "RGBA", "I;16")}  # ten sizes are written of each; by its first bytes none is read
HABITS = ("its own", "another kind's", "none")  # of a suffix


def face() -> np.ndarray:
    """Eight bits of the full range, smooth enough for JPEG."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    face_HW = 255 * (0.5 * rows + 0.5 * columns)
    return face_HW.round().astype(np.uint8)


def shades(n: int) -> np.ndarray:
    """Which of n shades from black to white is nearest to each of the face's."""
    return (face() / 255 * (n - 1)).round().astype(np.uint8)


def in_mode(mode: str) -> Image.Image:
    """The face, as a picture of a mode; deep ones hold its eight bits as most programs write them."""
    face_HW = face()
    if mode.removesuffix(TURNED) in PALETTES:
        return in_shades(PALETTES[mode.removesuffix(TURNED)], turned=mode.endswith(TURNED))
    if mode.startswith("I;16"):
        order = ">" if mode == "I;16B" else "<" if mode in ("I;16", "I;16L") else "="
        return Image.frombytes(mode, (SIDE, SIDE), (face_HW.astype(f"{order}u2") * 257).astype(f"{order}u2").tobytes())
    if mode in DEEP:
        return Image.fromarray(face_HW.astype(np.int32) if mode == "I" else face_HW.astype(np.float32) / 255)
    if mode == "LAB":
        return Image.new("LAB", (SIDE, SIDE))
    image = Image.fromarray(face_HW)
    by_way_of = {"La": "LA", "PA": "P", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB"}
    return image.convert(by_way_of.get(mode, mode)).convert(mode)


def in_shades(n: int, turned: bool) -> Image.Image:
    """The face in n shades, by a palette."""
    image = Image.fromarray(n - 1 - shades(n) if turned else shades(n))
    greys = [value for shade in range(n) for value in [round(255 * shade / (n - 1))] * 3]
    image.putpalette(greys[::-1] if turned else greys)
    return image


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 100} if kind in LOSSY - {"JPEG2000"} else {}))
    return buffer.getvalue()


@cache
def written(kind: str, mode: str) -> bytes | None:
    """The face as Pillow writes it; None where it cannot, or only other pixels than the face's."""
    if (kind in NO_DEEP and mode in DEEP) or (kind, mode) in OTHERWISE or mode not in SLOW.get(kind, ALL_MODES):
        return None
    try:
        return encoded(in_mode(mode), kind)
    except Exception:  # every plugin has its own words for what it does not write
        return None


CASES = [(kind, mode) for kind in FORMATS for mode in ALL_MODES if written(kind, mode) is not None]


def name_of(kind: str, mode: str, habit: str) -> str:
    suffixes = [suffix for suffix, of in Image.EXTENSION.items() if of == kind]
    suffix = {HABITS[0]: next(iter(suffixes), ".x"), HABITS[1]: ".txt" if kind == "PNG" else ".png", HABITS[2]: ""}
    return f"{kind} {mode} {habit.split()[0]}{suffix[habit]}"


def small_model() -> predict.Trained:
    knobs = {f"model.facex_cnn.{knob}": value.default for knob, value in parts.model("facex_cnn").SPACE.items()}
    config = {"model": "facex_cnn", **knobs, "model.facex_cnn.width": 0.25}
    torch.manual_seed(0)
    tensors = dict(classifier.build_model(config, 7, (0.5, 0.25)).state_dict())
    return predict.Trained("small", tensors, {"config": config, "n_classes": 7})


class Both:
    """What `data prepare folder` and `predict` make of every picture, by its file's name.

    Attributes:
        prepared: its pixels, or why it was left out.
        predicted: its emotions' probabilities, or the line that refuses it.
        of_prepared: the probabilities that the same model gives for the prepared pixels.
    """

    def __init__(self, root: Path) -> None:
        folder, model = root / "mine" / "happy", small_model()
        folder.mkdir(parents=True)
        for kind, mode in CASES:
            for habit in HABITS:
                (folder / name_of(kind, mode, habit)).write_bytes(written(kind, mode) or b"")
        skipped = prepare("folder", folder.parent, root / "data", set_name="mine")["mine"]["skipped"]
        faces = open_set(root / "data", "mine")
        names = [Path(str(source)).name for source in faces.source_N]
        self.prepared: dict[str, np.ndarray | str] = dict(zip(names, faces.images_NHW, strict=True))
        self.prepared |= {Path(each["file"]).name: each["reason"] for each in skipped}
        device = torch.device("cpu")
        answers = classifier.probabilities_NC(model.load(device), faces.images_NHW, device)
        self.of_prepared = dict(zip(names, answers, strict=True))
        self.predicted: dict[str, np.ndarray | str] = {}
        paths = sorted(folder.iterdir())
        with pytest.raises(InputError) as caught:
            predict.predict(model, paths, device_name="cpu", tta="none")
        for line in str(caught.value).splitlines():
            self.predicted[next(path.name for path in paths if f"IMAGE {path}: " in line)] = line
        read = [path for path in paths if path.name not in self.predicted]
        for each in predict.predict(model, read, device_name="cpu", tta="none")["images"]:
            self.predicted[Path(each["file"]).name] = np.array(list(each["probabilities"].values()), np.float32)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    torch.set_num_threads(1)
    return Both(tmp_path_factory.mktemp("pictures"))


@pytest.mark.parametrize(("kind", "mode"), CASES, ids=[f"{kind} {mode}" for kind, mode in CASES])
def test_equal_pictures_give_equal_faces_or_are_refused(kind: str, mode: str, both: Both) -> None:
    pixels = []
    for name in (name_of(kind, mode, habit) for habit in HABITS):
        one, other = both.prepared[name], both.predicted[name]
        if isinstance(one, str) or isinstance(other, str):
            assert isinstance(one, str)
            assert isinstance(other, str)
            assert len(one.splitlines()) == 1
            assert kind not in READ_FORMATS or mode in ("LAB", "HSV") or (kind, mode) in UNREAD
            continue
        assert np.array_equal(both.of_prepared[name], other)
        pixels.append(one)
    assert len(pixels) in (0, len(HABITS))
    for one in pixels:
        assert np.array_equal(one, pixels[0])
        if mode == "1":  # dithered: its mean is what it keeps
            assert abs(float(one.mean()) - face().mean()) < 4
            continue
        n = PALETTES.get(mode.removesuffix(TURNED), 256)
        wanted = shades(n) * (255 / (n - 1))
        assert np.abs(one - wanted).max() <= (4 if kind in LOSSY or mode in ("P", "PA", "CMYK", "HSV") else 1)


def test_the_same_pixels_are_given_the_same_answer(both: Both) -> None:
    named = name_of("PNG", "L", HABITS[0])
    same = [name for name, one in both.prepared.items() if np.array_equal(one, both.prepared[named])]
    assert {name.split()[0] for name in same} >= {"PNG", "BMP", "DIB", "GIF", "PPM", "TIFF"}
    for name in same:
        assert np.array_equal(both.predicted[name], both.predicted[named])


def test_every_format_that_pillow_writes_is_read_or_known_not_to_be(both: Both) -> None:
    read = {kind for kind, mode in CASES if not isinstance(both.prepared[name_of(kind, mode, HABITS[0])], str)}
    assert read - {"MPO"} == {kind for kind in READ_FORMATS if kind in FORMATS}  # an MPO begins as the JPEG that it is


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


def png(packed: list[bytes], depth: int, colour: int) -> bytes:
    """A PNG of packed rows, of a depth and a kind of colour (0 grey, 2 colours) that Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, len(packed), depth, colour, 0, 0, 0))
    rows = b"".join(b"\0" + row for row in packed)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def bits_of(shades_HW: np.ndarray, depth: int) -> list[bytes]:
    """Rows of shades, packed with a few bits each."""
    bits = (shades_HW[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.astype(np.uint8).ravel()).tobytes() for row in bits]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_of_few_bits(depth: int) -> None:
    n = 2**depth
    found_HW = decode(png(bits_of(shades(n), depth), depth, 0)).image_HW
    assert np.array_equal(found_HW, shades(n) * (255 // (n - 1)))


def bitmap(depth: int, greys: list[int], file: bool, upwards: bool) -> bytes:
    """The face in two shades as a BMP or DIB of any depth, with a palette of these greys."""
    rows = bits_of(shades(2), depth)
    pixels = b"".join(row + bytes(-len(row) % 4) for row in (rows[::-1] if upwards else rows))
    height = SIDE if upwards else -SIDE
    header = struct.pack("<IiiHHIIiiII", 40, SIDE, height, 1, depth, 0, len(pixels), 0, 0, len(greys), 0)
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in greys)
    at = 14 + len(header) + len(palette)
    return (struct.pack("<2sIII", b"BM", at + len(pixels), 0, at) if file else b"") + header + palette + pixels


@pytest.mark.parametrize("upwards", [True, False])
@pytest.mark.parametrize("file", [True, False])
@pytest.mark.parametrize("depth", [1, 4, 8])
def test_a_bitmap_of_black_and_white_takes_any_bits_for_a_pixel(depth: int, file: bool, upwards: bool) -> None:
    assert np.array_equal(decode(bitmap(depth, [0, 255, 9], file, upwards)).image_HW, shades(2) * 255)
    if depth == 4:
        with pytest.raises(ValueError, match="black and white with 4 bits a pixel is not read: save it as PNG"):
            decode(bitmap(depth, [0, 255], file, upwards))
    else:
        assert np.array_equal(decode(bitmap(depth, [0, 255], file, upwards)).image_HW, shades(2) * 255)


def planar_tiff(planes: list[bytes], bits: int, turned: bool) -> bytes:
    """Red, green and blue one after the other, uncompressed, as Pillow does not write them."""
    n = len(planes)
    tags = {256: (SIDE,), 257: (SIDE,), 258: (bits,) * n, 259: (1,), 262: (2,), 266: (2 if turned else 1,),
            273: (0,) * n, 277: (n,), 278: (SIDE,), 279: tuple(map(len, planes)), 284: (2,)}  # fmt: skip
    at = 8 + 2 + 12 * len(tags) + 4
    long = {tag: 4 * n for tag, values in tags.items() if len(values) > 1}
    places = {tag: at + sum(list(long.values())[:i]) for i, tag in enumerate(long)}
    start = at + sum(long.values())
    tags[273] = tuple(start + sum(map(len, planes[:i])) for i in range(n))
    entries = b"".join(
        struct.pack("<HHII", tag, 4, len(values), places.get(tag, values[0])) for tag, values in tags.items()
    )
    tables = b"".join(struct.pack(f"<{n}I", *tags[tag]) for tag in long)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + tables + b"".join(planes)


def test_planes_of_a_tiff() -> None:
    plain, deep = face().tobytes(), (face().astype("<u2") * 257).tobytes()
    assert np.array_equal(decode(planar_tiff([plain] * 3, 8, turned=False)).image_HW, face())
    for planes, bits, turned in (([deep] * 3, 16, False), ([plain] * 3, 8, True)):
        with pytest.raises(ValueError, match="a TIFF of planes with 16 bits, or with turned bytes, is not read"):
            decode(planar_tiff(planes, bits, turned))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF"])
def test_a_picture_that_is_transparent_everywhere_is_refused(kind: str) -> None:
    clear = Image.fromarray(face()).convert("RGBA")
    clear.putalpha(0)
    with pytest.raises(ValueError, match="transparent everywhere: save it without transparency"):
        decode(encoded(clear, kind))


def test_colours_of_sixteen_bits() -> None:
    def deep(values_HW: np.ndarray) -> bytes:
        return png([np.repeat(row, 3).astype(">u2").tobytes() for row in values_HW], 16, 2)

    assert np.abs(decode(deep(F * 257)).image_HW.astype(int) - F).max() <= 1
    with pytest.raises(ValueError, match="their scale cannot be told"):
        decode(deep(F))


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
    Image.new("RGBA", (9, 9), (0, 0, 0, 1)).save(paths[0])
    Image.new("RGBA", (side, side), (0, 0, 0, 1)).save(paths[1], compress_level=1)
    Image.new("I;16", (side, side)).save(paths[2], compress_level=1)
    asked = subprocess.run([sys.executable, "-c", PEAKS, *map(str, paths)], capture_output=True, text=True, check=True)
    transparent, deep = (int(n) / side**2 for n in asked.stdout.split())
    tiles = 44 * pictures.MEGAPIXEL / side**2  # bytes a pixel, for what is made of one tile at a time
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
    image.save(buffer, "TIFF", compression="tiff_adobe_deflate", strip_size=2**30)
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
    data = encoded(in_mode(kind), "TIFF" if kind == "CMYK" else "PNG")
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
