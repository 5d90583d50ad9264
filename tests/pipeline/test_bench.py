"""Where a study's time goes: shares that add up, refusals as `run` has them, and advice that follows the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from facex_tune import cli
from facex_tune.pipeline.bench import PHASES, advice, kind_of

SMALL = ("--set", "space.model=[{facex_cnn: {width: 0.25}}]", "--set", "space.train.batch_size=16")


def ran(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    return int(ended.value.code or 0)


def test_a_bench_tells_where_the_time_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--data", str(tmp_path / "data"), "--storage", str(tmp_path / "runs"))
    assert ran("bench", "search_spaces/quick.yaml", *SMALL, "--profile", "--json", *where) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert "measuring facex_cnn (1 of 1)" in said.err
    (found,) = document["models"].values()
    assert set(found["shares"]) == {*PHASES, "validation", "checkpoint"}
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert sum(found["operations"].values()) == pytest.approx(1)
    assert found["operations"]["convolution"] > 0
    assert found["bare_images_per_second"] > 0
    assert document["matmul_gflops"]["fp32"] > 0
    assert document["advice"]
    assert not (tmp_path / "runs").exists(), "nothing is begun"


def test_a_study_that_is_not_prepared_gets_what_run_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("search_spaces/fer2013.yaml", "--set", "resources.gpus=0", "--data", str(tmp_path))
    told = []
    for command in ("run", "bench"):
        assert ran(command, *words) == 2
        told.append(capsys.readouterr())
    assert told[0].err == told[1].err
    assert told[1].out == ""


def figures(precision: str = "bf16", bf16: float = 300.0, **shares: float) -> dict[str, Any]:
    model = {"precision": precision, "images_per_second": 100.0}
    model["shares"] = dict.fromkeys((*PHASES, "validation", "checkpoint"), 0.05) | shares  # type: ignore[assignment]
    return {"matmul_gflops": {"fp32": 100.0, "bf16": bf16}, "models": {"resnet": model}}


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (figures(), "nothing stands out"),
        (figures("fp32"), "bf16 multiplies 3.0 times as fast"),
        (figures("fp32", bf16=90.0), "nothing stands out"),
        (figures(augmentation=0.4), "40% of its time is augmentation"),
        (figures(validation=0.3), "30% of its time is validation"),
        (figures(checkpoint=0.2), "20% of its time is checkpoints"),
        (figures(optimizer=0.3), "larger train.batch_size"),
    ],
)
def test_advice_follows_the_figures(told: dict[str, Any], word: str) -> None:
    (said,) = advice(told)
    assert word in said


def test_a_model_that_is_far_slower_than_another_is_named() -> None:
    told = figures()
    told["models"]["vgg"] = told["models"]["resnet"] | {"images_per_second": 20.0}
    assert advice(told)[0].startswith("vgg trains 5.0 times slower than resnet")


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::mkldnn_convolution", "convolution"),
        ("aten::addmm", "matrix product"),
        ("aten::native_batch_norm", "normalisation"),
        ("aten::max_pool2d_with_indices", "pooling"),
        ("aten::gelu_backward", "activation"),
        ("aten::copy_", "copy"),
        ("Optimizer.step#SGD.step", "optimizer"),
        ("aten::_foreach_add_", "optimizer"),
        ("aten::mean", "other"),
    ],
)
def test_operations_are_told_by_kind(operation: str, kind: str) -> None:
    assert kind_of(operation) == kind
