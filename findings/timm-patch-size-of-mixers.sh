#!/usr/bin/env bash
# timm 1.0.31: patch_size is an argument of MlpMixer as it is of VisionTransformer, and create_model hands it on to the
# vision transformers; for the mixers it ends in "dict() got multiple values for keyword argument 'patch_size'", because
# their entry functions put it beside the caller's. The class itself takes it.
# Seen: "vit_tiny_patch16_224: 36 patches", "mixer_s16_224: dict() got multiple values for keyword argument 'patch_size'",
# "MlpMixer: 36 patches".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'timm==1.0.31' 'torch==2.14.1' 'torchvision==0.29.1'
"$folder/venv/bin/python" - <<'PYTHON'
import timm
import torch
from timm.models.mlp_mixer import MlpMixer

with torch.device("meta"):
    vit = timm.create_model("vit_tiny_patch16_224", img_size=48, patch_size=8)
    print(f"vit_tiny_patch16_224: {vit.patch_embed.num_patches} patches")
    own = MlpMixer(img_size=48, patch_size=8)
    said = ""
    try:
        timm.create_model("mixer_s16_224", img_size=48, patch_size=8)
    except TypeError as error:
        said = str(error)
    print(f"mixer_s16_224: {said}")
    print(f"MlpMixer: {own.stem.num_patches} patches")
assert vit.patch_embed.num_patches == own.stem.num_patches == 36
assert said == "dict() got multiple values for keyword argument 'patch_size'", said
PYTHON
