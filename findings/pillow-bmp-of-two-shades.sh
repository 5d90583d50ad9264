#!/usr/bin/env bash
# Pillow 13.0.0: a picture with a palette of black and white alone, saved as BMP or DIB, is read back all but black,
# without a word. The writer takes eight bits for a pixel; the reader sees two colours, calls the picture one of mode
# "1" and unpacks eight pixels from each byte. With the palette the other way round, or as PNG, it comes back whole. (A
# file of four bits a pixel with those two colours, as other programs write it, is read wrong alike.)
# Seen: "PNG: mode P, mean 148.8", "BMP: mode 1, mean 0.0", "DIB: mode 1, mean 0.0", "BMP, white first: mode P, mean
# 148.8".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pillow==13.0.0' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import io

import numpy as np
from PIL import Image

shades_HW = np.zeros((48, 48), np.uint8)
shades_HW[:, 20:] = 1
means = {}
for name, greys in (("PNG", (0, 255)), ("BMP", (0, 255)), ("DIB", (0, 255)), ("BMP, white first", (255, 0))):
    image = Image.fromarray(shades_HW if greys == (0, 255) else 1 - shades_HW)
    image.putpalette([value for grey in greys for value in [grey] * 3])
    buffer = io.BytesIO()
    image.save(buffer, name.split(",")[0])
    with Image.open(io.BytesIO(buffer.getvalue())) as back:
        means[name] = float(np.asarray(back.convert("L")).mean())
        print(f"{name}: mode {back.mode}, mean {means[name]:.1f}")
assert means == {"PNG": 148.75, "BMP": 0.0, "DIB": 0.0, "BMP, white first": 148.75}, means
PYTHON
