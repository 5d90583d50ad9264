"""A training on random faces, to measure what a step of a configuration takes."""

from __future__ import annotations

import torch

from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.space import Config
from facex_tune.training import train
from facex_tune.training.batches import Split

EPOCHS = 100  # more than anybody measures
STEPS = 3  # of an epoch


def training(
    config: Config, n_classes: int, device: torch.device, steps: int = STEPS, face: FaceShape = GREY_48
) -> train.Training:
    """A training whose epochs have `steps` batches of whole faces, each face once."""
    config = {name: value for name, value in config.items() if name.partition(".")[0] != "balance"}
    config |= {"balance": "none", "train.progressive": False}  # whose first epochs see the smallest faces alone
    n = int(config["train.batch_size"] or 1) * steps
    images_NHW = torch.randint(0, 256, face.images(n), dtype=torch.uint8, device=device)
    faces = Split(images_NHW, torch.arange(n, device=device) % n_classes)
    return train.Training(config, faces, faces, n_classes=n_classes, epochs=EPOCHS, seed=[0], device=device)
