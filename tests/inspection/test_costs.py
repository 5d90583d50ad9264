"""What a network costs: counts that can be reckoned by hand, speeds that follow the work, and the table."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from facex_tune import cli, parts
from facex_tune.cli import tables
from facex_tune.inspection import costs
from facex_tune.space import Config

CPU = torch.device("cpu")


def config(name: str, **knobs: object) -> Config:
    return costs.configuration(name, **knobs)  # type: ignore[arg-type]


def test_macs_of_a_network_reckoned_by_hand() -> None:
    """Filters × their inputs × the positions they answer at, and the dense layers' weights."""
    filters, kernels, sides = (64, 128, 512, 512), (3, 5, 3, 3), (48, 24, 12, 6)
    inputs = (1, *filters[:3])
    convolutions = sum(
        out * into * kernel**2 * side**2
        for out, into, kernel, side in zip(filters, inputs, kernels, sides, strict=True)
    )
    dense = 512 * 9 * 256 + 256 * 512 + 512 * 7
    told = costs.counted(config("facex_cnn", width=1.0))
    assert told["macs"] == convolutions + dense
    norms = 2 * (sum(filters) + 256 + 512)
    weights = sum(o * i * k**2 for o, i, k in zip(filters, inputs, kernels, strict=True)) + dense + 7
    assert told["parameters"] == told["trained"] == weights + norms


def test_frozen_parameters_are_told_apart() -> None:
    told = costs.counted(config("mobilenet", pretrained="imagenet", frozen=5))
    assert 0 < told["trained"] < told["parameters"]


def test_a_published_count() -> None:
    """ResNet-50's 4.09 billion are of 224 pixels in colour; vgg's filters scale with the pixels alone."""
    told = costs.counted(config("vgg", depth=16, width=1.0, head=0))
    colour = 15_346_630_656  # of the convolutions of VGG16 at 224×224, by its table
    grey = colour - 2 * 64 * 9 * 224**2
    assert told["macs"] - 512 * 7 == pytest.approx(grey * (48 / 224) ** 2, rel=1e-12)


def test_speeds_follow_the_work() -> None:
    small, large = (costs.measured(config("resnet", width=width), CPU, batch=8, seconds=0.05) for width in (16, 64))
    for told in (small, large):
        assert told["precision"] in ("fp32", "bf16")
        assert told["forward"] > told["training"] > 0
    assert small["training"] > large["training"]


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    costs.measured(config("resnet", width=16), CPU, batch=2, seconds=0.01, threads=before + 1)
    assert torch.get_num_threads() == before


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def call(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 0
        return capsys.readouterr().out

    return call


def test_parts_models_prints_what_each_costs(printed: Callable[..., str]) -> None:
    out = printed("parts", "models", "--no-measure")
    rows = {line.split()[0]: line.split() for line in out.partition("MACs a face")[2].splitlines() if line}
    assert set(parts.names("model")) <= set(rows)
    counted = costs.counted(config("resnet"))
    assert rows["resnet"][1] == f"{counted['parameters']:,}"
    assert rows["resnet"][2] == f"{counted['macs'] / 1e6:,.1f}"
    assert "MACs" not in printed("parts", "augment")


def test_measured_speeds_are_told_with_the_machine(
    monkeypatch: pytest.MonkeyPatch, printed: Callable[..., str]
) -> None:
    monkeypatch.setattr(parts, "names", lambda family: ["mobilenet"])
    document = json.loads(printed("parts", "models", "--json"))["costs"]
    assert document["device"] == "cpu"
    assert document["models"]["mobilenet"]["training"] > 0
    assert "images a second here (cpu, " in "".join(str(each) for each in tables.costs(document)[1:])
