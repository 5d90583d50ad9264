"""A model that is asked: its weights on a device, or an exported ONNX file in onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.emotions import EMOTIONS, FaceShape
from facex_tune.errors import InputError, one_line
from facex_tune.inference.predict import Trained, find
from facex_tune.storage.files import Place

ONNX_FORMAT = "facex_tune model 1"


@dataclass(frozen=True)
class Asked:
    """A model ready to answer.

    Attributes:
        name: as a user knows it.
        emotions: of its answers, in their order.
        info: its configuration and what else is known of it.
        face: the shape of the faces that it takes.
        probabilities_NC: uint8 faces of that shape, N x size x size (x 3) -> float32 N x emotions, rows of sum 1.
        data: the sets that it was trained on; () where nobody has told.
    """

    name: str
    emotions: tuple[str, ...]
    info: dict[str, Any]
    face: FaceShape
    probabilities_NC: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    data: tuple[str, ...] = ()


def ask(said: str, storage: Place, *, device_name: str | None = None, tta: str = "none") -> Asked:
    """Makes the model that `said` means ready to answer: see `predict.find`; or an ONNX file that `facex-tune export`
    wrote.

    Raises:
        InputError: there is no such model, or it cannot be read.
    """
    if said.endswith(".onnx") and Path(said).is_file():
        return _of_onnx(Path(said), tta)
    return of_trained(find(said, storage), device_name=device_name, tta=tta)


def of_trained(trained: Trained, *, device_name: str | None = None, tta: str = "none") -> Asked:
    """Puts a model's weights on a device."""
    from facex_tune.training import classifier, devices

    device = devices.pick_device(device_name)
    model = trained.load(device)

    def answer(images_NHW: NDArray[np.uint8]) -> NDArray[np.float32]:
        return classifier.probabilities_NC(model, images_NHW, device, tta=tta)

    return Asked(trained.name, trained.emotions, trained.info, trained.face, answer, trained.data)


def _of_onnx(path: Path, tta: str) -> Asked:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"MODEL {path}: reading ONNX needs the extra: pip install 'facex-tune[onnx]'") from error
    try:
        session: Any = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no class in common
        raise InputError(f"MODEL {path}: no ONNX file that can be read ({one_line(error, 200)})") from error
    about = dict(session.get_modelmeta().custom_metadata_map)
    emotions = tuple(about.get("emotions", "").split(","))
    if about.get("format") != ONNX_FORMAT or emotions != EMOTIONS[: len(emotions)]:
        raise InputError(
            f"MODEL {path}: its metadata do not say what faces it takes and which emotions it answers; "
            "export one with `facex-tune export RUN --format onnx`"
        )
    try:
        face = FaceShape.of({"face": json.loads(about["face"])} if "face" in about else {})
    except (InputError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"MODEL {path}: its metadata tell no shape of faces ({one_line(error, 100)})") from error
    if tta not in ("none", "flip"):
        raise InputError(f"test-time augmentation {tta!r}: of an ONNX file none or flip")

    def once(images_NHW: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(["probabilities"], {"faces": np.ascontiguousarray(images_NHW)})[0]
        return found

    def answer(images_NHW: NDArray[np.uint8]) -> NDArray[np.float32]:
        if tta == "none":
            return once(images_NHW)
        both_VNC = np.stack([once(images_NHW), once(images_NHW[:, :, ::-1])])
        found: NDArray[np.float32] = both_VNC.mean(axis=0, dtype=np.float32)
        return found

    data = tuple(filter(None, about.get("data", "").split(",")))
    return Asked(about.get("model", path.stem), emotions, about, face, answer, data)
