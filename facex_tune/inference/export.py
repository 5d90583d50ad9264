"""Trained models for use elsewhere: ONNX with the preprocessing inside the graph, or one safetensors file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facex_tune.emotions import GREY_48
from facex_tune.errors import InputError, one_line
from facex_tune.inference.predict import Trained, describe
from facex_tune.storage import files

if TYPE_CHECKING:
    from torch import nn

FORMATS = ("onnx", "safetensors")
OPSET = 18


def export(trained: Trained, form: str, path: Path) -> Path:
    """Writes the model to `path`, whole or not at all.

    Args:
        form: "onnx" takes faces as uint8 N x size x size (in colour x 3) and gives probabilities N x C, for any N;
            "safetensors" holds the weights, with configuration and classes in its header, and is what `facex-tune
            predict` reads.

    Raises:
        InputError: no such format, `path` is called otherwise or is a folder, the extra `onnx` is not installed, or the
            model has no ONNX form.
    """
    if form not in FORMATS:
        raise InputError(f"--format {form}: no such format; choices: {', '.join(FORMATS)}")
    if path.suffix != f".{form}" or path.is_dir():  # whoever mistypes it would lose another file
        raise InputError(f"--out {path}: give a file's name that ends with .{form}")
    if form == "onnx":
        files.write_bytes(path, onnx_bytes(trained))
    else:
        values = {key: trained.info[key] for key in ("config", "n_classes")}
        values |= {"face": trained.face.to_data()} if trained.face != GREY_48 else {}
        values |= {"data": list(trained.data)} if trained.data else {}
        files.save_tensors(path, trained.tensors, {**values, "about": describe(trained)})
    return path


def onnx_bytes(trained: Trained) -> bytes:
    """The ONNX file's content.

    Raises:
        InputError: the extra `onnx` is not installed, or the model has no ONNX form.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter is written in it
    except ImportError as error:
        raise InputError("--format onnx needs the extra: pip install 'facex-tune[onnx]'") from error
    import torch

    wrapped = with_preprocessing(trained)
    faces_NHW = torch.zeros(trained.face.images(2), dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of the exporter's own innards
            program: Any = torch.onnx.export(
                wrapped,
                (faces_NHW,),
                input_names=["faces"],
                output_names=["probabilities"],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes={"faces_NHW": {0: torch.export.Dim("n", min=1)}},
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = one_line(error, 200)
        raise InputError(f"{trained.name}: this architecture has no ONNX form here ({reason})") from error
    proto = program.model_proto
    for key, value in describe(trained).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def with_preprocessing(trained: Trained) -> nn.Module:
    """The model from pixels to probabilities, on the CPU in evaluation mode."""
    import torch
    from torch import Tensor, nn

    class Whole(nn.Module):
        """uint8 faces_NHW, in colour faces_NHWC, -> probabilities_NC."""

        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, faces_NHW: Tensor) -> Tensor:
            faces_NCHW = faces_NHW.unsqueeze(1) if faces_NHW.ndim == 3 else faces_NHW.permute(0, 3, 1, 2)
            logits_NC: Tensor = self.model(faces_NCHW.to(torch.float32) / 255)
            return logits_NC.softmax(1)

    model = trained.load(torch.device("cpu"))
    return Whole(model.to(memory_format=torch.contiguous_format)).eval()
