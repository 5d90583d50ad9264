#!/usr/bin/env bash
# Pillow 13.0.0: an uncompressed TIFF of 16 bits whose red, green and blue lie in planes (PlanarConfiguration 2) is read
# as if its samples were bytes: from each plane the first half comes, two columns for each pixel, without a word. So is
# one of 8 bits whose bytes are turned (FillOrder 2): its bits stay turned. With the pixels together (PlanarConfiguration
# 1) the first comes back whole.
# Seen: "together, 16 bits: off by 0", "planes, 8 bits: off by 0", "planes, 16 bits: off by 127", "planes, 8 bits,
# turned: off by 197".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pillow==13.0.0' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct

import numpy as np
from PIL import Image

SIDE = 48
ramp_HW = (np.mgrid[:SIDE, :SIDE].sum(0) * 255 / 94).round().astype(np.uint8)


def tiff(strips, bits, planar, order):
    tags = {256: (SIDE,), 257: (SIDE,), 258: (bits,) * 3, 259: (1,), 262: (2,), 266: (order,),
            273: (0,) * len(strips), 277: (3,), 278: (SIDE,), 279: tuple(map(len, strips)), 284: (planar,)}
    at = 8 + 2 + 12 * len(tags) + 4
    places = {}
    for tag, values in tags.items():
        if len(values) > 1:
            places[tag] = at
            at += 4 * len(values)
    tags[273] = tuple(at + sum(map(len, strips[:i])) for i in range(len(strips)))
    entries = b"".join(struct.pack("<HHII", tag, 4, len(v), places.get(tag, v[0])) for tag, v in tags.items())
    tables = b"".join(struct.pack(f"<{len(tags[tag])}I", *tags[tag]) for tag in places)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + tables + b"".join(strips)


deep, plain = (ramp_HW.astype("<u2") * 257).tobytes(), ramp_HW.tobytes()
turned = bytes(int(f"{byte:08b}"[::-1], 2) for byte in plain)
together = np.repeat(ramp_HW[..., None], 3, axis=2).astype("<u2") * 257
files = {
    "together, 16 bits": tiff([together.tobytes()], 16, 1, 1),
    "planes, 8 bits": tiff([plain] * 3, 8, 2, 1),
    "planes, 16 bits": tiff([deep] * 3, 16, 2, 1),
    "planes, 8 bits, turned": tiff([turned] * 3, 8, 2, 2),
}
off = {}
for name, data in files.items():
    with Image.open(io.BytesIO(data)) as image:
        off[name] = int(np.abs(np.asarray(image.convert("L")).astype(int) - ramp_HW).max())
    print(f"{name}: off by {off[name]}")
assert [value > 9 for value in off.values()] == [False, False, True, True], off
PYTHON
