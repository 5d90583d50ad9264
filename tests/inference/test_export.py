"""Prediction and export of real models: the same answers wherever they are asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facex_tune import parts
from facex_tune.cli import app
from facex_tune.cli.outcome import Outcome
from facex_tune.errors import InputError
from facex_tune.inference import answers, export, predict
from facex_tune.runs.store import Run
from facex_tune.training import classifier
from tests.evaluation.conftest import RunMaker


@pytest.fixture
def run(make_run: RunMaker) -> Run:
    return make_run()


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """A grey face, a colour one of another size, and one with transparency."""
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (48, 48), dtype=np.uint8))
    colour = Image.fromarray(rng.integers(0, 256, (90, 70, 3), dtype=np.uint8))
    paths = [tmp_path / name for name in ("grey.png", "colour.jpg", "clear.png")]
    for path, image in zip(paths, (grey, colour, grey.convert("LA")), strict=True):
        image.save(path)
    return paths


def test_every_way_of_naming_a_model_gives_its_answers(run: Run, images: list[Path], tmp_path: Path) -> None:
    said = [run.name, f"{run.name}/t0001-s0", str(run.final_folder(1, 0))]
    exported = export.export(predict.find(run.name, run.storage), "safetensors", tmp_path / "out" / "m.safetensors")
    found = []
    for name in [*said, str(exported)]:
        document = predict.predict(predict.find(name, run.storage), images, device_name="cpu", tta="none")
        found.append([image["probabilities"] for image in document["images"]])
    assert all(each == found[0] for each in found)
    tensors, info = run.load_model_files(1, 0)
    model = classifier.load_model(info["config"], tensors, 7, torch.device("cpu"))
    by_hand = classifier.probabilities_NC(model, predict.read_faces(images), torch.device("cpu"))
    assert [list(each.values()) for each in found[0]] == by_hand.tolist()
    other = predict.predict(predict.find(f"{run.name}/t0000-s1", run.storage), images, device_name="cpu", tta="flip")
    assert other["images"][0]["probabilities"] != found[0][0]


def test_a_face_as_it_was_prepared_is_read_unchanged(images: list[Path]) -> None:
    assert np.array_equal(predict.read_faces(images[:1])[0], np.asarray(Image.open(images[0])))


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken", None])
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "wrong.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        predict.read_faces([path])
    (line,) = caught.value.problems
    assert str(path) in line
    assert "\n" not in line


@pytest.mark.parametrize("said", ["nosuch", "small-1/t0009-s0", "../small-1"])
def test_a_wrong_model_is_one_clear_line(run: Run, said: str) -> None:
    with pytest.raises(InputError) as caught:
        predict.find(said, run.storage)
    (line,) = caught.value.problems
    assert said.rpartition("/")[2] in line


def test_a_file_of_no_known_format_is_told_without_the_decoder_s_words(tmp_path: Path) -> None:
    (tmp_path / "wrong.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"wrong\.png: not an image that can be read \(of no known format\); give PNG"):
        predict.read_faces([tmp_path / "wrong.png"])


def test_a_model_whose_weights_are_gone_is_one_clear_line(run: Run) -> None:
    (run.final_folder(1, 0) / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"t0001-s0: its weights or config\.json are gone; restore them"):
        predict.find(run.name, run.storage)


@pytest.mark.parametrize(("form", "out"), [("safetensors", "study.yaml"), ("onnx", "m.safetensors")])
def test_an_export_writes_over_no_other_file(run: Run, tmp_path: Path, form: str, out: str) -> None:
    (tmp_path / out).write_text("precious")
    trained = predict.find(run.name, run.storage)
    with pytest.raises(InputError, match=rf"--out .*{out}: give a file's name that ends with \.{form}"):
        export.export(trained, form, tmp_path / out)
    assert (tmp_path / out).read_text() == "precious"
    (tmp_path / f"x.{form}").mkdir()
    with pytest.raises(InputError, match="give a file's name"):
        export.export(trained, form, tmp_path / f"x.{form}")


def test_a_safetensors_file_of_others_is_refused(run: Run, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="names no configuration"):
        predict.find(str(path), run.storage)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="no safetensors file"):
        predict.find(str(path), run.storage)


def test_predict_prints_a_table_or_json(run: Run, images: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", run.name, *map(str, images), "--storage", str(run.storage), "--device", "cpu"]
    assert Outcome().of(lambda: app(args=words, standalone_mode=False)) == 0
    assert "grey.png" in capsys.readouterr().out
    assert Outcome().of(lambda: app(args=[*words, "--json"], standalone_mode=False)) == 0
    document = json.loads(capsys.readouterr().out)
    assert sum(document["images"][0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert Outcome().of(lambda: app(args=[*words, "--format", "x"], standalone_mode=False)) == 2


def of_model(name: str) -> predict.Trained:
    """An untrained network at its defaults, as `final` would keep it; batch norm has seen some faces."""
    knobs = {f"model.{name}.{knob}": value.default for knob, value in parts.model(name).SPACE.items()}
    if name == "resnet":
        knobs |= {"model.resnet.depth": 10, "model.resnet.width": 16}
    config = {"model": name, **knobs}
    torch.manual_seed(0)
    model = classifier.build_model(config, 7, (0.5, 0.25))
    model.train()
    with torch.no_grad():
        model(torch.rand(8, 1, 48, 48))
    return predict.Trained(name, dict(model.state_dict()), {"config": config, "n_classes": 7})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "facex_cnn"])
@pytest.mark.filterwarnings("ignore")  # of the exporter's innards
def test_the_onnx_graph_answers_as_torch_does(name: str, tmp_path: Path) -> None:
    """uint8 faces in, probabilities out, any number of faces: within 1e-4 of torch. Slow: torch's exporter."""
    import onnxruntime

    trained = of_model(name)
    path = export.export(trained, "onnx", tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    faces_NHW = np.random.default_rng(0).integers(0, 256, (5, 48, 48), dtype=np.uint8)
    model = classifier.load_model(trained.info["config"], trained.tensors, 7, torch.device("cpu"))
    expected_NC = classifier.probabilities_NC(model, faces_NHW, torch.device("cpu"))
    for n in (1, 5):
        (found_NC,) = session.run(None, {"faces": faces_NHW[:n]})
        assert np.abs(found_NC - expected_NC[:n]).max() < 1e-4
    assert session.get_modelmeta().custom_metadata_map["emotions"].startswith("angry,disgust")
    for tta in ("none", "flip"):  # as `predict` asks such a file
        asked = answers.ask(str(path), tmp_path, tta=tta)
        torch_NC = classifier.probabilities_NC(model, faces_NHW, torch.device("cpu"), tta=tta)
        assert asked.emotions == trained.emotions
        assert np.abs(asked.probabilities_NC(faces_NHW) - torch_NC).max() < 1e-4


def test_an_unknown_format_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choices: onnx, safetensors"):
        export.export(predict.find(run.name, run.storage), "pt", tmp_path / "x")
