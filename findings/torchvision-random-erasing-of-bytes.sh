#!/usr/bin/env bash
# torchvision 0.29.1: v2.RandomErasing(value="random") draws normal noise and casts it to the image's type. On pictures
# of bytes (uint8, which the other transforms of v2 take as they are) that noise is no noise: two in three of the erased
# pixels are 0, most others 1 or 255, nothing lies between 10 and 245, and no word is said. On floats it is what its
# documentation says.
# Seen: "of 1,000 erased pixels 0 have a shade between 10 and 245, 669 are 0" (the second figure goes by the seed).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torchvision==0.29.1' 'torch==2.14.1' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torchvision.transforms import v2

torch.manual_seed(0)
faces = torch.full((100, 1, 48, 48), 128, dtype=torch.uint8)
erase = v2.RandomErasing(p=1.0, value="random")
made = torch.cat([face[face != 128] for face in map(erase, faces)])[:1000].int()
between, black = int(((made > 10) & (made < 245)).sum()), int((made == 0).sum())
print(f"of {len(made):,} erased pixels {between} have a shade between 10 and 245, {black} are 0")
assert len(made) == 1000 and between == 0 and 600 < black < 750
PYTHON
