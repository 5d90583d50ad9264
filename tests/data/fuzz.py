"""Throw damaged CSVs and zips at the readers: faces or one line that names the fault may come back, nothing else.

`python tests/data/fuzz.py --seconds 600` is the long form (`make fuzz`); the suite runs some hundred inputs.
Mutations: bytes flipped, cut out, doubled, moved and cut off, numbers and separators exchanged; of zips also with the
checksums mended, so that the damage reaches the decoders.
"""

from __future__ import annotations

import argparse
import io
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from facex_tune.data.importing import Loaded, Progress
from facex_tune.data.sources import ckplus, fer2013, ferplus, folder
from facex_tune.errors import InputError

Load = Callable[[Path, Progress], Loaded]
LOADERS: dict[str, Load] = {each.__name__.rpartition(".")[2]: each.load for each in (ckplus, fer2013, ferplus, folder)}
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
USAGES = ("Training", "PublicTest", "PrivateTest")
WORDS = (
    b",",
    b"\n",
    b'"',
    b" ",
    b"300",
    b"-1",
    b"\x00",
    b"\xff",
    b"1e9",
    b"99999999999999999999",
    b"\r",
    b"PK\x01\x02",
)


def seeds() -> dict[str, bytes]:
    """Small whole inputs of every kind, by file name."""
    rng = np.random.default_rng(0)
    images_NHW = rng.integers(0, 256, (42, 48, 48), dtype=np.uint8)
    rows = [
        f"{at % 7},{' '.join(map(str, image.ravel()))},{USAGES[0 if at < 28 else at % 3]}"
        for at, image in enumerate(images_NHW)
    ]
    csv = "\n".join(["emotion,pixels,Usage", *rows]).encode()
    votes = ["Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"]
    votes += [f"{USAGES[0 if at < 28 else at % 3]},fer{at}.png,{','.join('1' * 10)}" for at in range(42)]
    both = {"fer2013.csv": csv, "fer2013new.csv": "\n".join(votes).encode()}
    faces = {
        f"{'train' if at < 21 else 'test'}/{EMOTIONS[at % 7]}/{USAGES[0 if at < 21 else 1]}_{at}.jpg": encoded(image)
        for at, image in enumerate(images_NHW)
    }
    return {
        "fer2013.csv": csv,
        "stored.zip": zipped(both, zipfile.ZIP_STORED),
        "deflated.zip": zipped(both, zipfile.ZIP_DEFLATED),
        "lzma.zip": zipped(both, zipfile.ZIP_LZMA),
        "faces.zip": zipped(faces, zipfile.ZIP_DEFLATED),
        "subjects.zip": zipped({f"CK+48/{name}/S0{at}{again}_001_0001.png": encoded(images_NHW[7 * again + at], "PNG")
                                for at, name in enumerate(("contempt", *EMOTIONS[:6])) for again in range(4)},
                               zipfile.ZIP_STORED),
    }  # fmt: skip


def encoded(image_HW: np.ndarray, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image_HW).save(buffer, kind)
    return buffer.getvalue()


def zipped(members: dict[str, bytes], compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One to eight changes, most of them small."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        if not changed:
            break
        at = place(changed, rng)
        length = int(min(rng.geometric(0.2), 64) if rng.random() < 0.9 else rng.integers(1, len(changed) + 1))
        kind = rng.integers(0, 7)
        if kind == 0:
            changed[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            changed[at : at + length] = rng.integers(0, 256, len(changed[at : at + length]), np.uint8).tobytes()
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length]
        elif kind == 4:
            piece = changed[at : at + length]
            to = int(rng.integers(0, len(changed)))
            changed[to : to + len(piece)] = piece
        elif kind == 5:
            changed[at : at + 1] = WORDS[int(rng.integers(0, len(WORDS)))]
        else:
            del changed[max(1, len(changed) - length) :]
    return bytes(changed)


def place(data: bytearray, rng: np.random.Generator) -> int:
    """Where to change: anywhere, near the beginning, or in a zip's directory at the end."""
    near = int(rng.integers(0, min(len(data), 200)))
    return (int(rng.integers(0, len(data))), near, len(data) - 1 - near)[int(rng.integers(0, 3))]


def mended(data: bytes) -> bytes:
    """A zip of stored members with the checksums that their bytes now have."""
    changed, at = bytearray(data), 0
    while (at := changed.find(b"PK\x03\x04", at)) >= 0 and at + 30 <= len(changed):
        size, name, extra = struct.unpack_from("<IHH", changed, at + 22)
        start = at + 30 + name + extra
        checksum = zlib.crc32(changed[start : start + size])
        central = changed.find(struct.pack("<I", at), changed.find(b"PK\x01\x02"))
        struct.pack_into("<I", changed, at + 14, checksum)
        if central >= 42:
            struct.pack_into("<I", changed, central - 42 + 16, checksum)
        at = max(at + 4, start)
    return bytes(changed)


def inputs(seed: int) -> Iterator[tuple[str, bytes]]:
    """(file name, damaged bytes) without end, the same for the same seed."""
    rng = np.random.default_rng(seed)
    whole = seeds()
    while True:
        for name, data in whole.items():
            bad = mutated(data, rng)
            yield name, mended(bad) if name.endswith(".zip") and rng.random() < 0.5 else bad


def outcome(load: Load, path: Path) -> str:
    """What came of reading: `faces`, `told`, or what must not be."""
    try:
        loaded = load(path, lambda done, total: None)
    except InputError as error:
        return "told" if len(error.problems[0].splitlines()) == 1 else f"more than one line: {error}"
    except Exception:
        return traceback.format_exc()
    if any("\n" in skip.reason for skip in loaded.skipped):
        return f"a reason of more than one line: {loaded.skipped}"
    return "faces" if len(loaded.faces) else "no faces, and nobody was told"


def fuzz(seed: int, n: int | None = None, seconds: float = float("inf")) -> tuple[Counter[str], list[str]]:
    """(how often which outcome, faults): `n` inputs, or as many as fit in `seconds`."""
    counts: Counter[str] = Counter()
    faults: list[str] = []
    ends = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, (name, data) in enumerate(inputs(seed)):
            if number == n or time.monotonic() > ends or len(faults) > 20:
                break
            path = Path(place) / name
            path.write_bytes(data)
            for loader, load in LOADERS.items():
                said = outcome(load, path)
                counts[said if said in ("faces", "told") else "fault"] += 1
                if said not in ("faces", "told"):
                    faults.append(f"input {number} of seed {seed}, {name} by {loader}: {said}")
            path.unlink()
    return counts, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=600)
    asked = parser.parse_args()
    counts, faults = fuzz(asked.seed, seconds=asked.seconds)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"seed {asked.seed}: {dict(counts)}, {len(faults)} faults, at most {peak_mb:,.0f} MB")
    print("\n".join(faults))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
