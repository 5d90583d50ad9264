"""Models from elsewhere: refused in one line, before memory is taken, unless they are what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from facex_tune import cli
from facex_tune.inference import predict
from facex_tune.storage import files
from facex_tune.training import classifier

CONFIG: dict[str, Any] = {"model": "facex_cnn"}


def kept(folder: Path, info: Any, n_classes: int = 7) -> Path:
    """A model's folder that holds the weights of `CONFIG`, and says `info`."""
    tensors = classifier.build_model(CONFIG, n_classes).state_dict()
    files.save_tensors(folder / "model.safetensors", tensors, {})
    if info is not None:
        (folder / "config.json").write_text(info if isinstance(info, str) else json.dumps(info))
    return folder


def refused(model: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that predict says, with exit code 2."""
    face = model / "face.png"
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(face)
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", str(model), str(face)])
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1), said
    return said


def test_a_model_that_is_what_it_says_is_taken(tmp_path: Path) -> None:
    trained = predict.find(str(kept(tmp_path, {"config": CONFIG, "n_classes": 7})), tmp_path)
    assert trained.emotions[-1] == "neutral"


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (None, "no config.json"),
        ("{", "malformed JSON"),
        ("[" * 100_000, "MODEL"),
        ([], "names no `config`"),
        ({"n_classes": 7}, "names no `config`"),
        ({"config": [], "n_classes": 7}, "names no `config`"),
        ({"config": CONFIG}, "n_classes None: a model has 2 to"),
        ({"config": CONFIG, "n_classes": 1000}, "n_classes 1000: a model has 2 to"),
        ({"config": CONFIG, "n_classes": True}, "n_classes True: a model has 2 to"),
        ({"config": CONFIG, "n_classes": "7"}, "n_classes 7: a model has 2 to"),
        ({"config": {}, "n_classes": 7}, "names no architecture"),
        ({"config": {"model": ["vgg"]}, "n_classes": 7}, "names no architecture"),
        ({"config": {"model": "../vgg"}, "n_classes": 7}, "no part named '../vgg'"),
        ({"config": CONFIG | {"model.facex_cnn.depth_charge": 3}, "n_classes": 7}, "no knob of this architecture"),
        ({"config": CONFIG | {"model.facex_cnn.dropout": "x"}, "n_classes": 7}, "is not in its range; allowed"),
        ({"config": CONFIG | {"model.facex_cnn.dropout": [1]}, "n_classes": 7}, "is not in its range; allowed"),
        ({"config": CONFIG | {"model.facex_cnn.dropout": float("nan")}, "n_classes": 7}, "is not in its range"),
        ({"config": {"model": "vgg"}, "n_classes": 7}, "weights are not of its configuration"),
        ({"config": CONFIG, "n_classes": 6}, "is 7, where its configuration makes 6"),
    ],
)
def test_what_cannot_be_a_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], info: Any, said: str
) -> None:
    assert said in refused(kept(tmp_path, info), capsys)


def test_nothing_is_built_for_weights_that_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    build = classifier.build_model

    def watched(*said: Any, **options: Any) -> nn.Module:
        built.append(str(torch.empty(0).device))
        return build(*said, **options)

    model = kept(tmp_path, {"config": {"model": "resnet"}, "n_classes": 7})
    monkeypatch.setattr(classifier, "build_model", watched)
    assert "weights are not of its configuration" in refused(model, capsys)
    assert built == ["meta"]


@pytest.mark.parametrize("values", ["[]", "3", "{", "null", "[" * 100_000, '{"config": 3}'])
def test_an_exported_file_whose_header_is_malformed_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: str
) -> None:
    from safetensors.torch import save_file

    path, face = tmp_path / "m.safetensors", tmp_path / "face.png"
    save_file({"x": torch.zeros(2)}, path, {"values": values})
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(face)
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", str(path), str(face)])
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n"), f"MODEL {path}" in said) == (2, 1, True), said
