"""A study of larger faces, and one of faces in colour, from pictures to predictions; and what is told on the way."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facex_tune
from facex_tune.data.importing import Asked
from facex_tune.data.prepare import prepare
from facex_tune.data.sources import synthetic
from facex_tune.emotions import EMOTIONS, RGB, FaceShape
from facex_tune.inference import export, predict
from facex_tune.pipeline import dry_run, preflight
from facex_tune.pipeline.begin import begin
from facex_tune.pipeline.options import Options
from facex_tune.pipeline.stages import execute
from tests.faults.conftest import only_full
from tests.search.conftest import tiny_study


def draw(root: Path, n: int, seed: int) -> None:
    """Pictures of 100×100 pixels, whose colours tell nothing but that they have some."""
    drawn = synthetic.generate(n, seed=seed, imbalance=0, label_noise=0, size=100)
    for row, (image, label) in enumerate(zip(drawn.images_NHW, drawn.labels_N, strict=True)):
        path = root / ("train", "train", "train", "validation", "test")[row % 5] / EMOTIONS[label] / f"{row:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[..., None] * np.array([1.0, 0.8, 0.6])).astype(np.uint8)).save(path)


@pytest.mark.parametrize("face", [pytest.param(FaceShape(96), marks=only_full), FaceShape(64, RGB)], ids=str)
def test_a_study_from_its_pictures_to_predictions(
    face: FaceShape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    data = tmp_path / "data"
    draw(tmp_path / "pictures", 280, seed=1)
    draw(tmp_path / "others", 70, seed=2)
    prepare("folder", tmp_path / "pictures", data, set_name="mine", asked=Asked(size=face.size, colour=face.is_colour))
    prepare("folder", tmp_path / "others", data, set_name="small")
    study = tiny_study(
        data="mine",
        face={"size": face.size, "channels": face.channels},
        budget={"trials": 1},
        fidelity={"min_epochs": 1, "max_epochs": 4, "reduction": 2},
        retrain={"top": 1, "seeds": 1, "epochs": 4},
        space={
            "model": [{"patch_cnn": {"width": 32}}],
            "augment": ["flip_shift"],
            "balance": ["none"],
            "train": {"optimizer": "adamw", "lr": {"low": 0.002, "high": 0.004}, "batch_size": 16},
        },
        evaluate={"protocols": ["folder.mine", "folder.small"], "tta": "flip"},
    )
    options = Options(tmp_path / "runs", data, device="cpu")
    change = f"enlarged from 48×48 to {face.size}×{face.size}" + ", their grey in three channels" * face.is_colour
    assert preflight.conversions(study, data) == [
        f"small: its 48×48 grey faces are shown to the models as {face} ({change}); scores say so"
    ]
    assert any(line.startswith("small: its 48×48 grey") for line in dry_run.told(study, options))
    run = begin(study, "shaped", options)
    execute(run, ["search", "retrain", "evaluate", "report"], options, [])

    assert FaceShape.of(run.header["data"]["mine"]) == face
    report = json.loads((run.report_folder / "report.json").read_text())
    own, other = (report["evaluation"][f"folder.{name}"] for name in ("mine", "small"))
    assert FaceShape.of(own) == face
    assert "converted" not in own
    assert other["converted"] == change
    assert other["about"].endswith(f"; faces {change}")
    rows = {row["protocol"]: row for row in report["insight"]["generalization"]["rows"]}
    assert rows["folder.small"]["converted"] == change
    page = (run.report_folder / "index.html").read_text()
    assert f"{face.size}×{face.size} pixels in {'colour' if face.is_colour else 'grey'}" in page
    assert change in page
    card = next((run.report_folder / "cards").glob("*.md")).read_text()
    assert f"face as {face} pixels" in card

    trained = predict.of_run(run, None)
    assert trained.face == face
    paths = sorted((tmp_path / "pictures" / "test").rglob("*.png"))
    told = predict.predict(trained, paths, device_name="cpu", tta="none")
    wanted = np.array([list(each["probabilities"].values()) for each in told["images"]])
    written = export.export(trained, "safetensors", tmp_path / "model.safetensors")
    for source in (written, run.final_folder(0, 0)):
        model = facex_tune.load_model(source, device="cpu")
        assert model.face == face
        assert np.allclose(model.predict(paths), wanted, atol=1e-6)
        assert np.allclose(model.predict([Image.open(path) for path in paths]), wanted, atol=1e-6)
    if all(map(find_spec, ("onnx", "onnxruntime", "onnxscript"))):
        model = facex_tune.load_model(export.export(trained, "onnx", tmp_path / "model.onnx"))
        assert model.face == face
        assert np.allclose(model.predict(paths), wanted, atol=1e-4)
