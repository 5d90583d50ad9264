"""timm's zoo: any name, small grey faces, its weights; and nothing else suffers where timm is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from facex_tune import parts, study
from facex_tune.errors import InputError
from facex_tune.inspection import catalog, costs
from facex_tune.models import _zoo_table
from facex_tune.models import timm as part
from facex_tune.space import Config
from facex_tune.training.classifier import Classifier

HAS_TIMM = importlib.util.find_spec("timm") is not None
needs_timm = pytest.mark.skipif(not HAS_TIMM, reason="timm is not installed (an extra)")
MEAN_3, STD_3 = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*said: object) -> None:
        raise AssertionError("weights are never downloaded")

    monkeypatch.setattr("socket.socket.connect", refuse)


def knobs(**changes: object) -> Config:
    return {name: knob.default for name, knob in part.SPACE.items()} | changes  # type: ignore[operator]


def problems(**model: object) -> list[str]:
    said = {"version": 1, "name": "x", "data": "synthetic", "space": {"model": [{"timm": model}]}}
    return parts.problems(study.parse(said).space)


def positions(name: str, **changes: object) -> int:
    """A side of what the network's last stage sees of 48 pixels."""
    with torch.device("meta"):
        network = part.build(knobs(name=name, **changes), 7)
        return int(network.forward_features(torch.empty(2, 1, 48, 48)).shape[-1])  # type: ignore[operator]


def refused(call: Callable[[], object], *words: str) -> None:
    with pytest.raises(InputError) as told:
        call()
    assert len(told.value.problems) == 1
    assert "\n" not in told.value.problems[0]
    for word in words:
        assert word in told.value.problems[0]


# Without it


def test_without_timm_its_part_says_how_to_get_it_and_nothing_else_suffers(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *said: None if name == "timm" else find(name, *said))
    line = "timm is not installed: pip install 'facex-tune[timm]'"
    refused(lambda: part.build(knobs(), 7), line)
    assert problems() == [f"model.timm.name: {line}"]
    assert "timm" in catalog.of_parts(["model"])["families"]["model"]
    told = costs.of_models(["timm", "facex_cnn"], "cpu", timed=[])["models"]
    assert told["timm"] == {"problem": f"name: {line}"}
    assert told["facex_cnn"]["parameters"] > 0
    said = {"version": 1, "name": "x", "data": "synthetic", "space": {"model": ["facex_cnn"]}}
    assert parts.problems(study.parse(said).space) == []


# Names


@needs_timm
def test_an_unknown_name_gets_the_nearest() -> None:
    assert problems(name="resnet81")[0].startswith("model.timm.name: timm has no network 'resnet81'; did you mean ")
    assert "resnet18" in problems(name="resnett18")[0]
    assert "has a tag that timm does not know; choices: " in problems(name="resnet18.mine")[0]
    refused(lambda: part.build(knobs(name="hf-hub:timm/resnet18"), 7), "timm has no network")


@needs_timm
def test_a_network_that_lacks_what_a_knob_asks_for_is_one_line() -> None:
    assert "vgg11_bn cannot be built this way" in problems(name="vgg11_bn", stochastic_depth=0.1)[0]
    assert "only pretrained weights are frozen" in problems(frozen=[1])[0]
    assert problems(name="resnet10t", halve_stem=[True, False]) == []


# Small faces


@needs_timm
@pytest.mark.parametrize("name", ["regnety_002", "convnext_atto", "repvgg_a0"])
def test_half_the_first_stride_keeps_twice_the_positions(name: str) -> None:
    assert positions(name) == 3
    assert positions(name, halve_stem=False) <= 2


@needs_timm
def test_a_transformer_gets_patches_of_half_the_width_and_faces_of_its_size() -> None:
    with torch.device("meta"):
        network = part.build(knobs(name="vit_tiny_patch16_224"), 7)
        tokens = [network.network.forward_features(torch.empty(2, 1, 48, 48)).shape[1]]  # type: ignore[operator,union-attr]
        whole = part.build(knobs(name="vit_tiny_patch16_224", halve_stem=False), 7)
        tokens += [whole.network.forward_features(torch.empty(2, 1, 48, 48)).shape[1]]  # type: ignore[operator,union-attr]
        assert network(torch.empty(2, 1, 32, 32)).shape == (2, 7)
    assert tokens == [36 + 1, 9 + 1], "and one for the class"


@needs_timm
def test_a_transformer_with_windows_takes_every_size_that_training_shows() -> None:
    assert problems(name="swin_tiny_patch4_window7_224") == []


@needs_timm
@pytest.mark.parametrize("name", ["coatnet_0_rw_224", "efficientformerv2_s0", "hiera_tiny_224"])
def test_a_network_of_one_size_without_patches_sees_what_it_would_of_96_pixels(name: str) -> None:
    assert problems(name=name, halve_stem=True) == []
    line = f"model.timm.name: {name} does not take faces of 48×48 ("
    [told] = problems(name=name, halve_stem=False)
    assert told.startswith(line)
    assert told.endswith(") with halve_stem: false; set halve_stem: true, which works")


@needs_timm
def test_what_is_advised_was_tried() -> None:
    [told] = problems(name="xcit_nano_12_p8_224")
    assert told == (
        "model.timm.name: xcit_nano_12_p8_224 cannot be built this way in patches of 4 pixels (timm gives no reason) "
        "with halve_stem: true; set halve_stem: false, which works"
    )
    assert problems(name="xcit_nano_12_p8_224", halve_stem=False) == []
    [told] = problems(name="vgg11_bn", stochastic_depth=0.1)
    assert told.endswith("with stochastic_depth: 0.1; set stochastic_depth: 0, which works")
    [told] = problems(name="xcit_nano_12_p8_224", stochastic_depth=0.1)
    assert told.endswith("with halve_stem: true; set halve_stem: false, which works")


@needs_timm
@pytest.mark.parametrize("halve", [True, False])
@pytest.mark.parametrize("name", ["crossvit_tiny_240", "bat_resnext26ts"])
def test_a_network_that_no_stem_makes_fit_is_said_so_with_others_that_do(name: str, halve: bool) -> None:
    [told] = problems(name=name, halve_stem=halve)
    assert f"with halve_stem: {str(halve).lower()}, and fails the other way too" in told
    assert "set halve_stem" not in told
    _, _, others = told.rpartition("no setting makes it take small faces; choose another network, for example ")
    for other in others.split(", "):
        assert problems(name=other, halve_stem=[True, False]) == [], other


@needs_timm
def test_what_failed_in_training_is_refused_for_the_same_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    row = _zoo_table.Row("resnet10t", timm.__version__, 5_000_000, "loss is nan", _zoo_table.OK)
    monkeypatch.setattr(_zoo_table, "rows", lambda: {"resnet10t": row})
    [told] = problems(name="resnet10t.c3_in1k")
    assert told == (
        "model.timm.name: resnet10t.c3_in1k failed when it was trained once (loss is nan) with halve_stem: true; "
        "set halve_stem: false, which works"
    )
    monkeypatch.setattr(_zoo_table, "rows", lambda: {"resnet10t": replace(row, timm="0.9")})
    assert problems(name="resnet10t") == []


# The table


@needs_timm
def test_the_table_has_every_name_of_the_listing_and_says_what_is_untried() -> None:
    import timm

    table = _zoo_table.rows()
    assert table.keys() == set(timm.list_models())
    large = [row for row in table.values() if row.parameters > _zoo_table.LARGEST]
    assert {row.halved for row in large} == {row.whole for row in large} == {_zoo_table.UNTRIED}
    small = [row for row in table.values() if row.parameters <= _zoo_table.LARGEST]
    assert [row.name for row in small if _zoo_table.UNTRIED in (row.halved, row.whole)] == []
    assert all(row.parameters for row in table.values())


@needs_timm
def test_the_table_is_what_a_dry_run_finds_here() -> None:
    """Of every two hundredth name; `tests/benchmarks/timm_zoo.py` tries all, with training."""
    import timm

    tried = [row for row in _zoo_table.rows().values() if row.timm == timm.__version__ and row.halved != "untried"]
    for row in [each for each in tried if each.parameters < 15_000_000][::200]:
        for halve in (True, False):
            if row.outcome(halve) == "untried":
                continue
            told = problems(name=row.name, halve_stem=halve)
            assert bool(told) == (row.outcome(halve) != _zoo_table.OK), (row, told)


@needs_timm
def test_a_network_that_was_not_tried_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    model = {"timm": {"name": "vit_giant_patch14_224"}}
    said = {"version": 1, "name": "x", "data": "synthetic", "space": {"model": [model]}}
    assert parts.notes(study.parse(said).space) == [
        "model.timm.name: vit_giant_patch14_224 has 1,011 million parameters; above 60 none was tried"
    ]
    assert _zoo_table.note("resnet18", "0.9") == f"resnet18 was tried with timm {timm.__version__}, here is 0.9"
    assert _zoo_table.note("resnet18.a1_in1k", timm.__version__) == ""
    assert _zoo_table.note("resnet18k", timm.__version__) == "resnet18k is a name that was not tried in training"


def test_the_page_says_what_the_table_says() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "search.md").read_text()
    assert _zoo_table.in_words() in " ".join(page.split())


def test_a_table_is_written_as_it_is_read(tmp_path: Path) -> None:
    rows = [_zoo_table.Row("b", "1.0", 2, "ok", 'no, "never"'), _zoo_table.Row("a", "1.0", 0, "untried", "untried")]
    _zoo_table.write(tmp_path / "t.csv", rows)
    assert list(_zoo_table.rows(tmp_path / "t.csv").values()) == sorted(rows, key=lambda row: row.name)


# Weights


def stirred(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.1)
    return network.eval()


def answers(network: nn.Module, faces_N1HW: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = network(faces_N1HW)
    return found


def as_colour(faces_N1HW: Tensor, mean_3: Tensor = MEAN_3, std_3: Tensor = STD_3) -> Tensor:
    return (faces_N1HW.expand(-1, 3, -1, -1) - mean_3[:, None, None]) / std_3[:, None, None]


@needs_timm
@pytest.mark.parametrize(
    ("name", "half"), [("convnext_atto", True), ("convnext_atto", False), ("vit_tiny_patch16_224", True)]
)
def test_patches_answer_as_the_zoos_network_in_colour_does_to_a_face_of_twice_the_size(
    tmp_path: Path, name: str, half: bool
) -> None:
    import timm

    said = {"img_size": 96} if name.startswith("vit") else {}
    theirs = stirred(timm.create_model(name, **said))
    path = tmp_path / "w.pth"
    torch.save(theirs.state_dict(), path)
    chosen = knobs(name=name, pretrained=str(path), halve_stem=half)
    ours = part.build(chosen, 1000).eval()
    source = part.load_pretrained(ours, chosen)
    inner = ours.get_submodule("network") if name.startswith("vit") else ours
    inner.get_classifier().load_state_dict(theirs.get_classifier().state_dict())  # type: ignore[operator]
    cfg = timm.models.get_pretrained_cfg(name)
    faces = torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(2))
    seen = faces.repeat_interleave(2, 2).repeat_interleave(2, 3) if half else faces
    expected = answers(theirs, as_colour(seen, torch.tensor(cfg.mean), torch.tensor(cfg.std)))
    assert torch.allclose(answers(ours, (faces - source.mean) / source.std), expected, atol=1e-3)


@needs_timm
def test_a_trained_model_goes_on_and_other_weights_are_refused(tmp_path: Path) -> None:
    from facex_tune.storage import files

    trained = Classifier(part.build(knobs(name="resnet10t"), 7), 0.5, 0.25).eval()
    path = tmp_path / "model.safetensors"
    files.save_tensors(path, trained.state_dict(), {})
    chosen = knobs(name="resnet10t", pretrained=str(path))
    ours = part.build(chosen, 7).eval()
    source = part.load_pretrained(ours, chosen)
    faces = torch.rand(2, 1, 48, 48)
    assert torch.equal(answers(ours, (faces - source.mean) / source.std), answers(trained, faces))
    assert "does not fit" in problems(name="regnety_002", pretrained=str(path))[0]
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    assert "does not fit timm's resnet10t" in problems(name="resnet10t", pretrained=str(tmp_path / "other.pth"))[0]


@needs_timm
def test_imagenet_means_a_cache_and_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    line = problems(name="resnet10t", pretrained="imagenet")[0]
    assert line.startswith("model.timm.pretrained: no ImageNet weights of resnet10t are here")
    import timm

    path = tmp_path / "model.safetensors"
    from safetensors.torch import save_file

    save_file(timm.create_model("resnet10t").state_dict(), path)
    asked: list[str] = []
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda repo, file: asked.append(f"{repo} {file}") or str(path)
    )
    assert problems(name="resnet10t", pretrained="imagenet", frozen=[0, 2]) == []
    assert asked[0] == "timm/resnet10t.c3_in1k model.safetensors"
