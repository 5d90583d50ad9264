"""What training relies on of every network."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import nn

from facex_tune import parts
from facex_tune.data.sources import synthetic
from facex_tune.emotions import GREY_48, RGB, FaceShape
from facex_tune.space import Config
from facex_tune.storage import files
from facex_tune.testing.host_waits import no_host_waits
from facex_tune.testing.part_contract import N_CLASSES, WHOLE, PartContract, defaults, ends, faces
from facex_tune.training.classifier import Classifier, placed


class ModelContract(PartContract):
    """A test class for a network: `models/<name>.py`."""

    family = "model"
    cases: ClassVar[dict[str, dict[str, Any]]] = {
        "side": {str(side): side for side in (48, 40, 32)},  # progressive training shows smaller faces first
        "n_classes": {str(count): count for count in (2, 8)},
    }

    def test_a_model_names_its_precision(self) -> None:
        assert parts.model(self.name).PRECISION in ("bf16", "fp32")

    def test_a_model_gives_finite_logits_at_both_ends_of_every_knob(self, knobs: Config) -> None:
        with torch.inference_mode():
            logits_NC = model(self.name, knobs).eval()(faces())
        assert logits_NC.shape == (4, N_CLASSES)
        assert logits_NC.isfinite().all()

    def test_a_model_at_its_smallest_and_largest(self) -> None:
        for knobs in extremes(self.name):
            with torch.inference_mode():
                assert model(self.name, knobs).eval()(faces(2)).isfinite().all()

    def test_a_model_takes_faces_of_every_size_that_training_shows(self, side: int) -> None:
        network = model(self.name)
        for training in (True, False):
            assert network.train(training)(faces(4, side)).shape == (4, N_CLASSES)

    def test_a_model_takes_larger_faces_and_colours_where_it_says_so(self) -> None:
        in_colour = "face" in inspect.signature(parts.model(self.name).build).parameters
        for face in (FaceShape(64), *([FaceShape(64, RGB)] if in_colour else [])):
            torch.manual_seed(0)
            given = torch.rand(2, face.channels, face.size, face.size)
            with torch.inference_mode():
                network = model(self.name, face=face).eval()
                logits_NC = network(given)
                assert logits_NC.shape == (2, N_CLASSES)
                assert logits_NC.isfinite().all()
                assert face == FaceShape(64) or not torch.equal(logits_NC, network(given.flip(1))), "colours count"

    def test_a_model_answers_as_many_classes_as_asked(self, n_classes: int) -> None:
        assert model(self.name, n_classes=n_classes).eval()(faces(2)).shape == (2, n_classes)

    def test_gradients_reach_every_parameter(self) -> None:
        """Three steps, since a branch that starts at zero passes no gradient on in the first."""
        network = model(self.name).train()
        trained = {key: value for key, value in network.named_parameters() if value.requires_grad}
        optimizer = torch.optim.SGD(trained.values(), lr=0.05)
        reached: set[str] = set()
        for _ in range(3):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(network(faces(8)), torch.arange(8) % N_CLASSES))
            for key, parameter in trained.items():
                assert parameter.grad is not None, f"{key} is not part of the graph"
                assert parameter.grad.isfinite().all(), key
                if parameter.grad.any():
                    reached.add(key)
            optimizer.step()
        assert reached == set(trained)

    def test_an_untrained_model_is_not_sure_of_anything(self) -> None:
        """A head that starts loud spends its first epochs on unlearning; EfficientNet's once had a spread of 3.5."""
        network = model(self.name).train()
        with torch.no_grad():
            logits_NC = network(faces(64))
        assert float(logits_NC.std()) < 1.0

    def test_a_model_learns_a_few_faces_by_heart(self) -> None:
        """A dead start shows here; with a last batch norm at zero, ResNet's ten layers once learned nothing.

        The slowest (timm's default) needs 28 steps; 100 leave a new one room.
        """
        drawn = synthetic.generate(3 * N_CLASSES, seed=3, imbalance=0, label_noise=0)
        pixels_N1HW = torch.from_numpy(drawn.images_NHW).unsqueeze(1).float()
        faces_N1HW, labels_N = (pixels_N1HW - pixels_N1HW.mean()) / pixels_N1HW.std(), torch.from_numpy(drawn.labels_N)
        usual = defaults("model", self.name)
        calm: Config = {knob: 0.0 for knob in ("dropout", "stochastic_depth") if knob in usual}
        network = model(self.name, usual | calm).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        for _ in range(100):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(faces_N1HW), labels_N)
            if loss.item() < 0.1:
                return
            torch.autograd.backward(loss)
            optimizer.step()
        raise AssertionError(f"after 100 steps {len(labels_N)} faces still cost {loss.item():.2f} each")

    def test_levels_freeze_from_the_input_on_and_the_classifier_never(self) -> None:
        with torch.device("meta"):
            found = [
                [parameter.requires_grad for parameter in model(self.name, frozen(self.name, levels)).parameters()]
                for levels in range(6)
            ]
        assert all(found[0])
        for fewer, more in itertools.pairwise(found):
            assert sum(more) < sum(fewer)
            assert not any(now and not before for now, before in zip(more, fewer, strict=True))
        assert not found[1][0], "the stem freezes first"
        assert found[5][-1], "the classifier always trains"

    def test_what_is_frozen_stays_as_it_is_and_the_rest_trains(self) -> None:
        network = Classifier(model(self.name, frozen(self.name, 3)), 0.0, 1.0).train()
        before = {key: value.clone() for key, value in network.state_dict().items()}
        trained = {key: value for key, value in network.named_parameters() if value.requires_grad}
        optimizer = torch.optim.SGD(trained.values(), lr=0.05)
        reached: set[str] = set()
        for _ in range(3):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(network(faces(8)), torch.arange(8) % N_CLASSES))
            reached |= {key for key, value in trained.items() if value.grad is not None and value.grad.any()}
            optimizer.step()
        changed = {key for key, value in network.state_dict().items() if not torch.equal(before[key], value)}
        fixed = {key for key, value in network.named_parameters() if not value.requires_grad}
        assert fixed
        assert reached == set(trained)
        assert not fixed & changed
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            assert norm.training == norm.weight.requires_grad, "frozen norms keep their statistics"

    def test_a_model_is_built_the_same_from_a_seed(self) -> None:
        states = []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            states.append(model(self.name).state_dict())
        first, again, other = states
        assert all(torch.equal(first[key], again[key]) for key in first)
        assert not all(torch.equal(first[key], other[key]) for key in first)

    def test_a_model_in_evaluation_answers_each_face_alone_and_the_same_each_time(self) -> None:
        network = model(self.name)
        network.train()(faces(16))  # moves the running statistics away from where they started
        network.eval()
        before = {key: value.clone() for key, value in network.state_dict().items()}
        with torch.inference_mode():
            together, again = network(faces()), network(faces())
            alone = torch.cat([network(face[None]) for face in faces()])
        assert torch.equal(together, again)
        # another batch size takes another kernel, which may round otherwise
        assert torch.allclose(together, alone, atol=1e-4)
        assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())

    def test_a_model_saved_and_loaded_gives_equal_logits(self, tmp_path: Path) -> None:
        network = model(self.name)
        network.train()(faces(16))
        files.save_tensors(tmp_path / "model.safetensors", network.state_dict(), {})
        tensors, _ = files.load_tensors(tmp_path / "model.safetensors")
        torch.manual_seed(99)
        loaded = model(self.name)
        loaded.load_state_dict(tensors)
        with torch.inference_mode():
            assert torch.equal(loaded.eval()(faces()), network.eval()(faces()))
        files.save_tensors(tmp_path / "again.safetensors", loaded.state_dict(), {})
        assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()

    def test_a_model_can_be_built_without_memory(self) -> None:
        """On the meta device: how the parameters of a huge one are counted before any is made."""
        with torch.device("meta"):
            network = model(self.name)
        assert all(parameter.is_meta for parameter in [*network.parameters(), *network.buffers()])
        assert network(torch.empty(4, 1, WHOLE, WHOLE, device="meta")).shape == (4, N_CLASSES)

    def test_a_model_takes_the_faster_layout_and_precision(self) -> None:
        network = placed(Classifier(model(self.name), 0.5, 0.25), torch.device("cpu")).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=parts.model(self.name).PRECISION == "bf16"):
            logits_NC = network(faces())
        torch.autograd.backward(logits_NC.float().sum())
        assert logits_NC.isfinite().all()
        assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)

    def test_a_model_keeps_host_and_device_apart(self) -> None:
        network = model(self.name).train()
        with no_host_waits():
            network(faces())


def model(
    name: str, knobs: Config | None = None, n_classes: int = N_CLASSES, face: FaceShape = GREY_48
) -> nn.Module:
    """The network at these knobs, the defaults without.

    Raises:
        SkipTest: it is timm's, which is not installed.
    """
    if name == "timm" and importlib.util.find_spec("timm") is None:
        raise SkipTest("timm is not installed (an extra)")
    built: nn.Module = parts.network(name, defaults("model", name) if knobs is None else knobs, n_classes, face)
    return built


def extremes(name: str) -> list[Config]:
    """Every knob of a model at its first end together, and at its last."""
    space = parts.find("model", name).SPACE
    return [{knob: ends(each)[place] for knob, each in space.items()} for place in (0, -1)]


def frozen(name: str, levels: int) -> Config:
    """Knobs as if weights were asked for; `build` loads none.

    Raises:
        SkipTest: the part has no levels to freeze.
    """
    if "frozen" not in parts.find("model", name).SPACE:
        raise SkipTest(f"{name} has no knob `frozen`")
    return defaults("model", name) | {"pretrained": "imagenet", "frozen": levels}
