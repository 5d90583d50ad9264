"""A model as it is trained, kept and asked: built from a configuration, with its input scaling inside.

Axes: faces_NCHW has one channel in grey and three in colour; images_NHW are uint8 as they are prepared, in colour
N x H x W x 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facex_tune import parts
from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.space import Config

EVALUATION_BATCH, CPU_EVALUATION_BATCH = 512, 64
TTA = ("none", "flip", "ten_crop")
TEN_CROP_SHARE = 11 / 12  # of a face's side


class Classifier(nn.Module):
    """A model with its input scaling inside: pixels in [0, 1] go in, logits come out.

    Args:
        mean, std: of the pixels; in colour one number a channel.

    What of it is frozen (has parameters, none of which needs gradients) stays in evaluation mode when the rest trains:
    its batch norms keep the statistics that its weights were trained with.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, mean: parts.Scale, std: parts.Scale) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", _scale(mean))
        self.register_buffer("std", _scale(std))

    def forward(self, faces_N1HW: Tensor) -> Tensor:
        logits_NC: Tensor = self.body((faces_N1HW - self.mean) / self.std)
        return logits_NC

    def train(self, mode: bool = True) -> Classifier:
        """See `nn.Module.train`; frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self.body.modules() if mode else ():
            if _is_frozen(module):
                module.eval()
        return self


def _scale(said: parts.Scale) -> Tensor:
    """A number, or one of each channel as 3 x 1 x 1."""
    value = torch.tensor(said)
    return value if value.ndim == 0 else value[:, None, None]


def build_model(
    config: Config,
    n_classes: int,
    mean_std: tuple[parts.Scale, parts.Scale] = (0.0, 1.0),
    face: FaceShape = GREY_48,
) -> Classifier:
    """The configuration's model for faces of a shape, untrained, on the CPU.

    Raises:
        InputError: colours are asked of a part that takes grey faces alone.
    """
    body = parts.network(str(config["model"]), parts.knobs("model", config), n_classes, face)
    mean, std = ((each,) * face.channels if face.is_colour and isinstance(each, float) else each for each in mean_std)
    return Classifier(body, mean, std)


def start_model(
    config: Config, n_classes: int, mean_std: tuple[parts.Scale, parts.Scale], face: FaceShape = GREY_48
) -> tuple[Classifier, parts.Pretrained | None]:
    """The configuration's model as its training starts, on the CPU: with the weights that it names and the scaling that
    those expect, or new and scaled by `mean_std`.

    Raises:
        InputError: weights are named that are not here or do not fit.
    """
    model, knobs = build_model(config, n_classes, mean_std, face), parts.knobs("model", config)
    if not knobs.get("pretrained"):
        return model, None
    loaded: parts.Pretrained = parts.model(str(config["model"])).load_pretrained(model.body, knobs)
    return Classifier(model.body, loaded.mean, loaded.std), loaded


def load_model(
    config: Config, tensors: dict[str, Tensor], n_classes: int, device: torch.device, face: FaceShape = GREY_48
) -> nn.Module:
    """A trained model in evaluation mode, from the tensors that a final model was kept with."""
    model = build_model(config, n_classes, face=face)
    model.load_state_dict(tensors)
    return placed(model, device).eval()


def probabilities_NC(
    model: nn.Module,
    images_NHW: NDArray[np.uint8],
    device: torch.device,
    *,
    tta: str = "none",
    batch: int | None = None,
) -> NDArray[np.float32]:
    """Class probabilities of each face, averaged over the views that `tta` names (see `views`).

    Args:
        batch: faces that the model is shown at once; None: `evaluation_batch`.
    """
    model.eval()
    batch = batch or evaluation_batch(device)
    found: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for start in range(0, len(images_NHW), batch):
            faces_N1HW = as_floats(torch.from_numpy(np.array(images_NHW[start : start + batch])).to(device))
            seen = [model(view_N1HW).float().softmax(1) for view_N1HW in views(faces_N1HW, tta)]
            found.append((sum(seen[1:], seen[0]) / len(seen)).cpu().numpy())
    return np.concatenate(found)


def evaluation_batch(device: torch.device) -> int:
    """How many faces a model is shown at once where nothing is learned. On a CPU few: their maps stay in its caches.
    With 64 instead of 512, resnet (10, 32, pooled) in fp32 took 1.1 instead of 1.6 to 1.9 s of processor time for 512
    faces and 350 MB less, for the same answers to the last bit.
    """
    return CPU_EVALUATION_BATCH if device.type == "cpu" else EVALUATION_BATCH


def views(faces_N1HW: Tensor, tta: str) -> Iterator[Tensor]:
    """The views of faces that test-time augmentation averages over.

    "none": the faces; "flip": and their mirror images; "ten_crop": corners and centre of eleven twelfths of the side
    (44 of 48 pixels), enlarged to the whole, and their mirror images (Krizhevsky et al., NIPS 2012).

    Raises:
        ValueError: no such augmentation.
    """
    if tta not in TTA:
        raise ValueError(f"no test-time augmentation named {tta!r}; choices: {', '.join(TTA)}")
    side = int(faces_N1HW.shape[-1])
    crop = round(side * TEN_CROP_SHARE)
    last, middle = side - crop, (side - crop) // 2
    corners = [(0, 0), (0, last), (last, 0), (last, last), (middle, middle)] if tta == "ten_crop" else [(0, 0)]
    for top, left in corners:
        cut_N1HW = faces_N1HW[..., top : top + crop, left : left + crop] if tta == "ten_crop" else faces_N1HW
        view_N1HW = resized(cut_N1HW, side)
        yield view_N1HW
        if tta != "none":
            yield view_N1HW.flip(3)


def predict_logits(
    model: nn.Module,
    images_NHW: Tensor,
    *,
    pixels: int,
    autocast: Callable[[], AbstractContextManager[Any]],
    batch: int,
) -> Tensor:
    """logits_NC of faces on the model's device, left there."""
    was_training = model.training
    model.eval()
    logits: list[Tensor] = []
    with torch.inference_mode(), autocast():
        for faces_NHW in torch.split(images_NHW, batch):
            logits.append(model(resized(as_floats(faces_NHW), pixels)).float())
    model.train(was_training)
    return torch.cat(logits)


def _is_frozen(module: nn.Module) -> bool:
    owned = list(module.parameters())
    return bool(owned) and not any(parameter.requires_grad for parameter in owned)


def placed(model: Classifier, device: torch.device) -> Classifier:
    """On its device, filters laid out channels-last: the faster layout on CPUs always, on GPUs with bf16."""
    moved = model.to(device)
    for tensor in (*moved.parameters(), *moved.buffers()):
        if tensor.ndim == 4:  # `Module.to` would refuse a network with a convolution over three axes
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return moved


def as_floats(images_NHW: Tensor) -> Tensor:
    """faces_NCHW in [0, 1], of images N x H x W, or N x H x W x 3 in colour, which stay laid out channels last."""
    faces_NCHW = images_NHW.unsqueeze(1) if images_NHW.ndim == 3 else images_NHW.permute(0, 3, 1, 2)
    return faces_NCHW.float().div_(255)


def resized(faces_N1HW: Tensor, pixels: int) -> Tensor:
    """Faces of `pixels` a side."""
    if faces_N1HW.shape[-1] == pixels:
        return faces_N1HW
    return nn.functional.interpolate(
        faces_N1HW, size=(pixels, pixels), mode="bilinear", antialias=True, align_corners=False
    )


def pixel_scale(images_NHW: Tensor) -> tuple[parts.Scale, parts.Scale]:
    """Mean and standard deviation of the training pixels, in [0, 1], in colour of each channel; counted, so that no
    float copy of the set is made.
    """
    if images_NHW.ndim == 3:
        return _scale_of(images_NHW)
    means, stds = zip(*(_scale_of(images_NHW[..., channel]) for channel in range(images_NHW.shape[-1])), strict=True)
    return means, stds


def _scale_of(images_NHW: Tensor) -> tuple[float, float]:
    counts_256 = torch.bincount(images_NHW.flatten(), minlength=256).double().cpu()
    values_256 = torch.arange(256, dtype=torch.float64) / 255
    share_256 = counts_256 / counts_256.sum()
    mean = (share_256 * values_256).sum()
    variance = (share_256 * (values_256 - mean) ** 2).sum()
    return float(mean), float(variance.sqrt().clamp(min=1e-3))
