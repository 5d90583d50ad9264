"""A trained model asked in Python: every form of one face gives one answer, and what is no face is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import facex_tune
from facex_tune import InputError, Model
from facex_tune.inference import export, predict
from facex_tune.runs.store import Run
from facex_tune.training import classifier
from tests.evaluation.conftest import new_run, write_data

FACES_NHW = np.random.default_rng(0).integers(0, 256, (5, 48, 48), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("asked")
    return new_run(folder / "runs", write_data(folder / "data"))


@pytest.fixture(scope="module")
def model(run: Run) -> Model:
    return facex_tune.load_model(run.folder, device="cpu")


@pytest.fixture(scope="module")
def answers(model: Model) -> pd.DataFrame:
    return model.predict(FACES_NHW)


def test_answers_are_probabilities_named_by_emotion(run: Run, model: Model, answers: pd.DataFrame) -> None:
    assert list(answers.columns) == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    assert list(model.emotions) == list(answers.columns)
    assert np.allclose(answers.sum(axis=1), 1, atol=1e-5)
    tensors, info = run.load_model_files(1, 0)
    network = classifier.load_model(info["config"], tensors, 7, torch.device("cpu"))
    assert np.array_equal(answers, classifier.probabilities_NC(network, FACES_NHW, torch.device("cpu")))


@pytest.mark.parametrize(
    "form",
    [
        FACES_NHW.astype(np.int64),
        FACES_NHW / 255,
        FACES_NHW.astype(np.float32),
        FACES_NHW[..., None],
        FACES_NHW[:, None],
        np.repeat(FACES_NHW[..., None], 3, axis=-1),
        np.repeat(FACES_NHW[:, None], 3, axis=1),
        list(FACES_NHW),
        [Image.fromarray(face) for face in FACES_NHW],
        iter(FACES_NHW),
        torch.from_numpy(FACES_NHW) / 255,
        torch.from_numpy(FACES_NHW).requires_grad_(False),
    ],
    ids=["int", "0-1", "0-255", "NHW1", "N1HW", "NHW3", "N3HW", "list", "PIL", "iterator", "torch", "torch-uint8"],
)
def test_every_form_of_the_same_faces_has_the_same_answers(model: Model, answers: pd.DataFrame, form: Any) -> None:
    assert np.allclose(model.predict(form, batch=2), answers, atol=1e-5)


def test_files_name_their_rows(model: Model, answers: pd.DataFrame, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, face in zip(paths, FACES_NHW, strict=True):
        Image.fromarray(face).save(path)
    found = model.predict([str(path) for path in paths], batch=2)
    assert found.index.tolist() == list(map(str, paths))
    assert np.allclose(found, answers, atol=1e-6)
    assert np.allclose(model.predict(paths[3]), answers.iloc[[3]], atol=1e-6)
    assert np.allclose(model.predict(FACES_NHW[3]), answers.iloc[[3]], atol=1e-6)


def test_images_are_read_batch_by_batch(model: Model) -> None:
    given: list[int] = []

    def faces() -> Iterator[np.ndarray]:
        for number in range(4):
            given.append(number)
            yield FACES_NHW[number]
        yield np.full((48, 48), np.nan)

    with pytest.raises(InputError, match="image 4: images: NaN"):
        model.predict(faces(), batch=2)
    assert given == [0, 1, 2, 3]


def test_no_images_are_no_rows(model: Model) -> None:
    assert model.predict([]).shape == (0, 7)
    assert model.predict(np.empty((0, 48, 48), np.uint8)).shape == (0, 7)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros(48), "shape 48 is none of faces"),
        (np.zeros((2, 48, 48, 2)), "is none of faces"),
        (np.zeros((1, 1, 1, 48, 48)), "is none of faces"),
        (np.array(3.0), "one number"),
        (np.zeros((2, 3), np.uint8), "too small for a face|is none"),
        (np.full((2, 48, 48), np.nan), "NaN or infinity among the pixels of 2 of 2 images"),
        (np.full((48, 48), np.inf), "NaN or infinity"),
        (FACES_NHW / 127.5 - 1, "neither 0 to 1 nor 0 to 255"),
        (FACES_NHW / 100, "neither 0 to 1 nor 0 to 255"),
        (FACES_NHW.astype(np.float32) * 2, "neither 0 to 1 nor 0 to 255"),
        (FACES_NHW.astype(np.int64) * 2, "neither 0 to 1 nor 0 to 255"),
        (FACES_NHW > 100, "an array of bool holds no pixels"),
        (np.array([None]), "an array of object holds no pixels"),
        (np.zeros((48, 200), np.uint8), "whole photograph"),
        ([FACES_NHW[:2]], "image 0: an array of shape 2 x 48 x 48 holds 2 images"),
        ([3], "image 0: int is no image"),
        (3, "int holds no images"),
        (b"face", "bytes holds no images"),
        ("nowhere.png", "IMAGE nowhere.png: not an image"),
        ([FACES_NHW[0], Image.fromarray(np.full((48, 48), 7.5, np.float32))], "image 1: deep pixels"),
    ],
)
def test_what_is_no_face_is_refused(model: Model, wrong: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        model.predict(wrong)


def test_every_way_of_naming_a_model(run: Run, answers: pd.DataFrame, tmp_path: Path) -> None:
    exported = export.export(predict.find(run.name, run.storage), "safetensors", tmp_path / "m.safetensors")
    opened = facex_tune.open_run(run.folder)
    for source in (opened, str(run.folder), run.final_folder(1, 0), exported):
        assert np.array_equal(facex_tune.load_model(source, device="cpu").predict(FACES_NHW), answers)
    for name in (run.name, f"{run.name}/t0001-s0"):
        named = facex_tune.load_model(name, storage=run.storage, device="cpu")
        assert np.array_equal(named.predict(FACES_NHW), answers)
    with pytest.raises(InputError, match="neither a file"):
        facex_tune.load_model(tmp_path / "nothing")
    with pytest.raises(InputError, match="dict is no model"):
        facex_tune.load_model({})  # type: ignore[arg-type]


def test_mirrored_faces_count_as_much_where_asked(run: Run, answers: pd.DataFrame) -> None:
    both = facex_tune.load_model(run.folder, device="cpu", flip=True).predict(FACES_NHW)
    mirrored = facex_tune.load_model(run.folder, device="cpu").predict(FACES_NHW[:, :, ::-1])
    assert np.allclose(both, (answers + mirrored) / 2, atol=1e-6)
