"""Weights trained elsewhere: found without the network, folded to grey, refused in one line, frozen, fingerprinted.

No weights of ImageNet are at hand: torchvision's networks with random numbers in them stand for them, since names,
shapes and arithmetic are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models as torchvision_models
from torchvision.models import vgg as torchvision_vgg

from facex_tune import cli, parts, study, train_knobs
from facex_tune.errors import InputError
from facex_tune.inspection import costs
from facex_tune.models import _pretrained, _weights
from facex_tune.pipeline.begin import begin
from facex_tune.pipeline.options import Options
from facex_tune.runs.store import Run
from facex_tune.search.job import Context, Job
from facex_tune.search.worker import Worker
from facex_tune.space import Config
from facex_tune.storage import files
from facex_tune.training import train
from facex_tune.training.batches import Split
from facex_tune.training.classifier import Classifier, load_model, probabilities_NC
from facex_tune.training.optimization import build_optimizer

CPU = torch.device("cpu")
MEAN_3, STD_3 = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One thread; an empty cache of weights; and whoever reaches for the network fails."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))

    def refuse(*said: object) -> None:
        raise AssertionError("weights are never downloaded")

    monkeypatch.setattr("socket.socket.connect", refuse)


def knobs(name: str, **changes: object) -> Config:
    return {knob: space.default for knob, space in parts.model(name).SPACE.items()} | changes  # type: ignore[operator]


def stirred(network: nn.Module) -> nn.Module:
    """With running statistics that are not those of a new network, in evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return network.eval()


def theirs(architecture: str) -> nn.Module:
    return stirred(torchvision_models.get_model(architecture))


def saved(network: nn.Module, path: Path) -> Path:
    torch.save(network.state_dict(), path)
    return path


def loaded(name: str, path: Path | str, n_classes: int = 7, **changes: object) -> tuple[nn.Module, Any]:
    chosen = knobs(name, pretrained=str(path), **changes)
    network = parts.model(name).build(chosen, n_classes)
    return network.eval(), parts.model(name).load_pretrained(network, chosen)


def refused(call: Callable[[], object], *words: str) -> None:
    with pytest.raises(InputError) as told:
        call()
    assert len(told.value.problems) == 1
    assert "\n" not in told.value.problems[0]
    for word in words:
        assert word in told.value.problems[0]


def grey(side: int = 48) -> Tensor:
    return torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(2))


def as_colour(faces_N1HW: Tensor) -> Tensor:
    """What torchvision's own preparation makes of grey faces."""
    return (faces_N1HW.expand(-1, 3, -1, -1) - MEAN_3[:, None, None]) / STD_3[:, None, None]


def scaled(faces_N1HW: Tensor, source: Any) -> Tensor:
    return (faces_N1HW - source.mean) / source.std


# Loading: the network answers as the one that the weights are from


@pytest.mark.parametrize("patch", [4, 2])
def test_convnext_answers_as_the_network_in_colour_does(tmp_path: Path, patch: int) -> None:
    """Patches do not overlap, so this is exact; patches of 2 answer as those of 4 do to a face of twice the size."""
    network = theirs("convnext_tiny")
    ours, source = loaded("convnext", saved(network, tmp_path / "w.pth"), size="tiny", patch=patch)
    ours.get_submodule("classifier.2").load_state_dict(
        {key: value[:7] for key, value in network.get_submodule("classifier.2").state_dict().items()}
    )
    faces = grey()
    enlarged = faces if patch == 4 else faces.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.inference_mode():
        expected = network(as_colour(enlarged))[:, :7]
        assert torch.allclose(ours(scaled(faces, source)), expected, atol=1e-4)


def test_mobilenet_answers_as_the_network_in_colour_does_away_from_the_border(tmp_path: Path) -> None:
    """At the border the padding is zeros after scaling, which in colour are three slightly different greys."""
    network = theirs("mobilenet_v3_small")
    ours, source = loaded("mobilenet", saved(network, tmp_path / "w.pth"), stem_stride=2)
    with torch.inference_mode():
        found = ours.get_submodule("features.0")(scaled(grey(), source))
        expected = network.get_submodule("features.0")(as_colour(grey()))
    assert torch.allclose(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-5)
    for name, tensor in network.state_dict().items():
        if not name.startswith(("features.0.", "classifier.3.")):
            assert torch.equal(tensor, ours.state_dict()[name]), name


def test_vgg_takes_the_convolutions_and_leaves_the_dense_layers(tmp_path: Path) -> None:
    features = stirred(torchvision_vgg.make_layers(torchvision_vgg.cfgs["A"], batch_norm=True))
    path = tmp_path / "w.pth"
    torch.save({f"features.{name}": tensor for name, tensor in features.state_dict().items()}, path)
    ours, source = loaded("vgg", path, depth=11, width=1.0)
    assert isinstance(ours, nn.Sequential)
    with torch.inference_mode():
        found, expected = ours[:3](scaled(grey(), source)), features[:3](as_colour(grey()))  # type: ignore[index]
    assert torch.allclose(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-5)
    assert torch.equal(ours.state_dict()["4.weight"], features.state_dict()["4.weight"])


@pytest.mark.parametrize(
    ("depth", "pairs"),
    [
        (
            18,
            {
                "layer1.0.conv1": "4.residual.0",
                "layer2.0.downsample.0": "6.shortcut.1",
                "layer4.1.bn2": "11.residual.4",
            },
        ),
        (
            50,
            {
                "layer1.0.downsample.0": "4.shortcut.0",
                "layer3.5.conv3": "16.residual.6",
                "layer4.0.bn2": "17.residual.4",
            },
        ),
    ],
)
def test_resnets_blocks_are_torchvisions_and_its_stem_is_folded(
    tmp_path: Path, depth: int, pairs: dict[str, str]
) -> None:
    network = theirs(f"resnet{depth}")
    ours, source = loaded("resnet", saved(network, tmp_path / "w.pth"), depth=depth, width=64)
    for there, here in pairs.items():
        for name, tensor in network.get_submodule(there).state_dict().items():
            assert torch.equal(tensor, ours.get_submodule(here).state_dict()[name]), (there, name)
    flat = torch.full((1, 1, 48, 48), 0.7)
    with torch.inference_mode():  # taps are added up, so an even face is answered as by the 7×7 filters
        found = ours.get_submodule("1")(ours.get_submodule("0")(scaled(flat, source)))
        expected = network.get_submodule("bn1")(network.get_submodule("conv1")(as_colour(flat)))
    assert torch.allclose(found[0, :, 20, 20], expected[0, :, 12, 12], atol=1e-5)


@pytest.mark.parametrize(("part", "chosen"), [("vgg", {"depth": 11, "width": 1.0}), ("resnet", {"depth": 18})])
def test_files_older_than_batch_norms_counts_fit(tmp_path: Path, part: str, chosen: dict[str, object]) -> None:
    """torch 0.4.1 began to count batches; files from before, as of ImageNet's VGGs, have no such tensors."""
    whole = theirs("vgg11_bn" if part == "vgg" else "resnet18").state_dict()
    kept = {name: tensor for name, tensor in whole.items() if not name.endswith("num_batches_tracked")}
    assert len(kept) < len(whole)
    torch.save(kept, tmp_path / "old.pth")
    torch.save(whole, tmp_path / "new.pth")
    wanted = {"width": 64, **chosen}
    old, new = (loaded(part, tmp_path / file, **wanted)[0].state_dict() for file in ("old.pth", "new.pth"))
    for name, tensor in new.items():
        if tensor.ndim == 4 or "running" in name:  # dense layers start anew
            assert torch.equal(old[name], tensor), name
    for name in ("running_mean", "running_var"):
        gone = next(each for each in kept if each.endswith(name))
        torch.save({each: tensor for each, tensor in kept.items() if each != gone}, tmp_path / "lacking.pth")
        refused(lambda: loaded(part, tmp_path / "lacking.pth", **wanted), "does not fit", "nothing in the file")


def test_taps_that_fall_on_one_pixel_are_added_up() -> None:
    weight = torch.arange(7.0)[None, None, None, :].expand(1, 3, 7, 7)
    folded, _ = _pretrained.fold(weight, 3, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    assert folded[0, 0, 0].tolist() == pytest.approx([3 * 2 * each for each in (0 + 1, 2 + 3 + 4, 5 + 6)])
    assert folded.sum() == pytest.approx(float(weight.sum()))


def test_a_model_of_this_package_goes_on_as_it_was(tmp_path: Path) -> None:
    """Also its last layer, where it answers as many classes."""
    path = tmp_path / "model.safetensors"
    trained = Classifier(stirred(parts.model("resnet").build(knobs("resnet", width=16), 7)), 0.5, 0.25)
    files.save_tensors(path, trained.state_dict(), {})
    ours, source = loaded("resnet", path, width=16)
    assert (source.mean, source.std) == (0.5, 0.25)
    with torch.inference_mode():
        assert torch.equal(ours(scaled(grey(), source)), trained.eval()(grey()))
    eight, _ = loaded("resnet", path, n_classes=8, width=16)
    state, other = ours.state_dict(), eight.state_dict()
    assert [name for name in state if not torch.equal(state[name], other[name])] == list(state)[-2:]


@pytest.mark.parametrize("form", ["safetensors", "state_dict", "model", "module."])
def test_every_usual_form_of_a_file_is_read(tmp_path: Path, form: str) -> None:
    state = theirs("mobilenet_v3_small").state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(state, path)
    elif form == "module.":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    else:
        torch.save({form: state, "epoch": 3}, path)
    ours, source = loaded("mobilenet", path)
    assert torch.equal(ours.state_dict()["features.5.block.0.0.weight"], state["features.5.block.0.0.weight"])
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


# The cache


def test_imagenet_means_torchs_cache_and_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "torch_home" / "hub" / "checkpoints"
    refused(
        lambda: loaded("resnet", "imagenet", depth=18, width=64),
        "no ImageNet weights of resnet18 are here: download https://",
        f"into {folder}",
    )
    folder.mkdir(parents=True)
    path = saved(theirs("mobilenet_v3_small"), folder / "w.pth")
    named = path.rename(folder / f"small-{_weights.sha256(path)[:8]}.pth")
    monkeypatch.setattr(_weights, "_urls", lambda architecture: [f"https://x/{named.name}"])
    _, source = loaded("mobilenet", "imagenet")
    assert source.file == str(named)
    damaged = named.rename(folder / "small-00000000.pth")
    monkeypatch.setattr(_weights, "_urls", lambda architecture: [f"https://x/{damaged.name}"])
    refused(lambda: loaded("mobilenet", "imagenet"), "small-00000000.pth is damaged", "download it again")


def test_torchvision_tells_where_its_weights_are_the_recommended_ones_first() -> None:
    assert [url.rpartition("/")[2][:9] for url in _weights._urls("resnet50")] == ["resnet50-", "resnet50-"]
    assert _weights._urls("resnet50")[0] == torchvision_models.ResNet50_Weights.DEFAULT.url


# What is refused


class Malicious:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"x": Malicious(tmp_path / "ran")}, tmp_path / "w.pth")
    refused(lambda: loaded("mobilenet", tmp_path / "w.pth"), "w.pth cannot be read as weights")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04"])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(lambda: loaded("mobilenet", tmp_path / name), f"{name} cannot be read as weights ({_weights.NO_WEIGHTS})")


def test_a_text_that_looks_like_a_pickle_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_bytes(b"root:x:0:0:root:/root:/bin/sh\n")
    refused(lambda: loaded("mobilenet", tmp_path / "passwd"), "passwd cannot be read as weights (it is no")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"1.running_mean": None, "bn1.running_mean": None}, "1.running_mean: nothing in the file"),
        ({"conv1.weight": torch.zeros(3, 3, 7, 7)}, "0.weight: (3, 1, 3, 3) in the file"),
        ({"mean": torch.zeros(3), "std": torch.ones(3)}, "holds mean and std, which are one number each"),
    ],
)
def test_weights_that_lack_what_a_grey_stem_needs_are_one_line(
    tmp_path: Path, changes: dict[str, Tensor | None], words: str
) -> None:
    state = theirs("resnet18").state_dict() | changes
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "w.pth")
    refused(lambda: loaded("resnet", tmp_path / "w.pth", depth=18, width=64), words)


def test_a_model_of_this_package_with_numbers_for_tensors_is_one_line(tmp_path: Path) -> None:
    own = parts.model("resnet").build(knobs("resnet"), 7).state_dict()
    state = {f"body.{name}": torch.zeros(()) for name in own} | {"mean": torch.tensor(0.5), "std": torch.tensor(0.2)}
    save_file(state, tmp_path / "w.safetensors")
    refused(lambda: loaded("resnet", tmp_path / "w.safetensors"), "does not fit", "() in the file")


def test_files_that_hold_something_else_are_one_line(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    refused(lambda: loaded("mobilenet", tmp_path / "list.pth"), "holds no tensors by name")
    refused(lambda: loaded("mobilenet", tmp_path / "none.pth"), "none.pth", "choices: false, imagenet")
    refused(lambda: loaded("resnet", "imagenet", depth=10), "no ImageNet weights of resnet10 exist")
    path = saved(nn.Linear(2, 2), tmp_path / "other.pth")
    refused(lambda: loaded("resnet", path, depth=10), "does not fit")
    refused(lambda: loaded("mobilenet", path), "does not fit", "torchvision's mobilenet_v3_small", "in the network")


@pytest.mark.parametrize(
    ("changes", "first"),
    [({"width": 32}, "0.weight"), ({"depth": 34}, ""), ({"squeeze_excitation": True}, "residual.5")],
)
def test_weights_of_another_shape_name_the_first_difference(
    tmp_path: Path, changes: dict[str, object], first: str
) -> None:
    path = saved(theirs("resnet18"), tmp_path / "w.pth")
    refused(
        lambda: loaded("resnet", path, **{"depth": 18, "width": 64, **changes}), "does not fit", "tensors differ", first
    )


# Studies


def parsed(**model: object) -> study.Study:
    return study.parse({"version": 1, "name": "x", "data": "synthetic", "space": {"model": [model]}})


def problems(**model: object) -> list[str]:
    return parts.problems(parsed(**model).space)


def test_a_study_that_says_nothing_starts_anew_and_freezes_nothing() -> None:
    space = parsed(resnet={}).space
    assert {space.random(np.random.default_rng(seed))["model.resnet.pretrained"] for seed in range(20)} == {False}
    assert space.defaults()["model.resnet.frozen"] == 0
    assert parts.problems(space) == []


def test_a_path_is_absolute_in_the_resolved_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = parsed(resnet={"pretrained": [False, "w.pth", "imagenet"]}).space
    expected = (False, str(tmp_path / "w.pth"), "imagenet")
    assert space.parts["model"]["resnet"]["pretrained"].options == expected  # type: ignore[union-attr]
    assert (
        space.complete({"model": "resnet", "model.resnet.pretrained": "w.pth"})["model.resnet.pretrained"]
        == expected[1]
    )
    again = type(space).from_data(json.loads(json.dumps(space.to_data())))
    assert again.parts["model"]["resnet"]["pretrained"].options == expected  # type: ignore[union-attr]


def test_weights_keep_the_link_that_they_are_named_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "mount").symlink_to("disk")
    monkeypatch.chdir(tmp_path / "mount")
    monkeypatch.setenv("PWD", str(tmp_path / "mount"))
    named = str(tmp_path / "mount" / "w.pth")
    space = parsed(resnet={"pretrained": [False, "w.pth"]}).space
    assert space.parts["model"]["resnet"]["pretrained"].options == (False, named)  # type: ignore[union-attr]
    said: Config = {"model": "resnet", "model.resnet.pretrained": "w.pth"}
    assert space.complete(said)["model.resnet.pretrained"] == named


@pytest.mark.parametrize("value", [True, 3, "", [""]])
def test_what_is_no_weights_is_refused_with_the_choices(value: object) -> None:
    with pytest.raises(InputError) as told:
        parsed(resnet={"pretrained": value})
    assert "False, imagenet, or a .safetensors or .pth file" in told.value.problems[0]


def test_weights_that_are_not_here_are_told_before_anything_starts(tmp_path: Path) -> None:
    found = problems(efficientnet={"size": ["b0", "b1"], "pretrained": [False, "imagenet"]})
    assert len(found) == 2
    assert found[0].startswith("model.efficientnet.pretrained: no ImageNet weights of efficientnet_b0 are here")
    assert problems(
        resnet={"depth": [10, 18], "pretrained": "imagenet", "width": [32, 64], "squeeze_excitation": False}
    ) == [
        f"model.resnet.{knob}: no ImageNet weights exist for {has_none}; narrow it, or set pretrained: false"
        for knob, has_none in (("depth", "10 (they do for 18, 34, 50)"), ("width", "32 (they do for 64)"))
    ]
    assert "only pretrained weights are frozen" in problems(vgg={"frozen": [0, 2]})[0]
    path = saved(theirs("mobilenet_v3_small"), tmp_path / "w.pth")
    assert problems(mobilenet={"size": "small", "width": 1.0, "pretrained": str(path), "frozen": [0, 2]}) == []
    fits_one = problems(mobilenet={"size": ["small", "large"], "width": 1.0, "pretrained": str(path)})
    assert len(fits_one) == 1
    assert "expected is torchvision's mobilenet_v3_large" in fits_one[0]


def test_a_run_is_refused_and_a_dry_run_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = parsed(mobilenet={"pretrained": "imagenet", "width": 1.0, "size": "small"})
    with pytest.raises(InputError, match="no ImageNet weights of mobilenet_v3_small"):
        begin(wanted, "r", Options(tmp_path / "runs", tmp_path / "data"))
    assert not (tmp_path / "runs").exists()
    monkeypatch.chdir(tmp_path)
    narrowed = "{pretrained: imagenet, width: 1.0, size: small}"
    Path("s.yaml").write_text(f"{{version: 1, name: x, data: synthetic, space: {{model: {{mobilenet: {narrowed}}}}}}}")
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "s.yaml", "--dry-run", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert ended.value.code == 2
    assert document["estimate"] is None
    assert "no ImageNet weights of mobilenet_v3_small" in document["problems"][0]


# Training


def splits(n: int = 28) -> Split:
    images_NHW = torch.randint(0, 256, (n, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    return Split(images_NHW, torch.arange(n) % 7)


def frozen_mobilenet(path: Path) -> Config:
    config = costs.configuration("mobilenet", pretrained=str(path), frozen=3, stem_stride=2)
    return config | {"augment": "none", "balance": "none", "train.batch_size": 14, "train.ema_decay": 0.5}


def begun(config: Config, weights: str = "ema") -> train.Training:
    return train.Training(config, splits(), splits(), n_classes=7, epochs=2, seed=[1], device=CPU, weights=weights)


def test_training_starts_from_the_weights_with_their_scale_and_leaves_what_is_frozen(tmp_path: Path) -> None:
    path = saved(theirs("mobilenet_v3_small"), tmp_path / "w.pth")
    training = begun(frozen_mobilenet(path))
    assert (float(training.model.mean), float(training.model.std)) == pytest.approx((0.449, 0.226), abs=1e-6)
    before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    optimized = {id(each) for group in training.optimizer.param_groups for each in group["params"]}
    for name, parameter in training.model.named_parameters():
        assert parameter.requires_grad == (id(parameter) in optimized), name
    whole = [training.epoch().metrics for _ in range(2)]
    levels = _pretrained.levels_of(training.model.get_submodule("body.features").children())
    frozen = {
        id(tensor) for level in levels[:3] for module in level for tensor in module.state_dict(keep_vars=True).values()
    }
    for name, tensor in training.model.state_dict(keep_vars=True).items():
        if id(tensor) in frozen:
            assert torch.equal(tensor, before[name]), f"{name} is frozen, statistics too"
        elif name.endswith("running_mean"):
            assert not torch.equal(tensor, before[name])
    again = begun(frozen_mobilenet(path))
    again.epoch()
    tensors, values = again.state()
    resumed = begun(frozen_mobilenet(path))
    resumed.load_state(tensors, values)
    assert resumed.epoch().metrics["train_loss"] == whole[1]["train_loss"]


def test_a_trained_model_no_longer_needs_the_file(tmp_path: Path) -> None:
    path = saved(theirs("mobilenet_v3_small"), tmp_path / "w.pth")
    training = begun(frozen_mobilenet(path), weights="last")
    tensors = dict(training.kept.state_dict())
    path.unlink()
    again = load_model(training.config, tensors, 7, CPU)
    faces = splits().images_NHW.numpy()
    expected = probabilities_NC(training.kept, faces, CPU)
    assert (probabilities_NC(again, faces, CPU) == expected).all()


def test_weight_decay_spares_what_has_one_number_a_channel() -> None:
    network = parts.model("convnext").build(knobs("convnext"), 7)
    groups = build_optimizer(network, train_knobs.defaults()).param_groups
    decayed = {id(each) for each in groups[0]["params"]}
    for name, parameter in network.named_parameters():
        assert (id(parameter) in decayed) == (name.endswith(".weight") and parameter.ndim > 1), name
    assert any("layer_scale" in name for name, _ in network.named_parameters())


def test_a_final_model_records_the_fingerprint_of_its_weights(tmp_path: Path) -> None:
    path = saved(theirs("mobilenet_v3_small"), tmp_path / "w.pth")
    Run.create(tmp_path, "r", parsed(mobilenet={}), data={}, environment={})
    said = parsed(mobilenet={}).to_data()
    worker = Worker(Context(str(tmp_path), "r", said, "", threads=1, device="cpu", parts=(), fence=0))
    worker.device, worker.n_classes, worker._faces = CPU, 7, (splits(), splits())
    worker.begin(Job(frozen_mobilenet(path), 1, (1,), str(tmp_path / "last.safetensors")))
    worker.step()
    worker.finish(0, 0)
    info = json.loads((tmp_path / "r" / "final" / "t0000-s0" / "config.json").read_text())
    assert info["pretrained"] == {"file": str(path), "sha256": _weights.sha256(path)}
