"""What training relies on of every augmentation policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from facex_tune import parts
from facex_tune.space import Config
from facex_tune.testing.host_waits import no_host_waits
from facex_tune.testing.part_contract import WHOLE, PartContract, defaults, faces, generator


class AugmentContract(PartContract):
    """A test class for an augmentation policy: `augment/<name>.py`."""

    family = "augment"
    cases: ClassVar[dict[str, dict[str, Any]]] = {"side": {"48": 48, "32": 32}}

    def test_a_policy_keeps_shape_kind_device_and_range(self, knobs: Config, side: int) -> None:
        given = faces(16, side)
        given[:4] = given[:4].round()  # black and white, where overshooting would show
        made = policy(self.name, knobs)(given, generator())
        assert made.shape == given.shape
        assert made.dtype == given.dtype
        assert made.device == given.device
        assert made.isfinite().all()
        assert made.min() >= -1e-6  # weights of an interpolation sum to one within float32's rounding
        assert made.max() <= 1 + 1e-6

    def test_a_policy_takes_larger_faces_and_colours(self, knobs: Config) -> None:
        """Grey in three equal channels stays grey: every channel moves, and changes, alike."""
        given = torch.rand(8, 3, 64, 64, generator=generator(7))
        made = policy(self.name, knobs)(given, generator())
        assert made.shape == given.shape
        assert made.isfinite().all()
        assert made.min() >= -1e-6
        assert made.max() <= 1 + 1e-6
        grey = policy(self.name, knobs)(given[:, :1].expand(-1, 3, -1, -1).contiguous(), generator())
        assert torch.allclose(grey[:, 0], grey[:, 1], atol=1e-5)
        assert torch.allclose(grey[:, 0], grey[:, 2], atol=1e-5)

    def test_a_policy_draws_anew_for_every_face(self, knobs: Config) -> None:
        same_face = faces(1).expand(64, 1, WHOLE, WHOLE).contiguous()
        made = policy(self.name, knobs)(same_face, generator())
        distinct = len(torch.unique(made.flatten(1), dim=0))
        assert distinct == 1 if self.name == "none" else distinct >= 8

    def test_a_policy_draws_from_its_generator_alone(self) -> None:
        state = torch.get_rng_state()
        augment = policy(self.name)
        first, again = augment(faces(16), generator(5)), augment(faces(16), generator(5))
        assert torch.equal(first, again)
        assert torch.equal(torch.get_rng_state(), state), "the global generator belongs to dropout"
        if self.name != "none":
            assert not torch.equal(first, augment(faces(16), generator(6)))
            source = generator(5)
            augment(faces(16), source)
            assert not torch.equal(first, augment(faces(16), source)), "two batches of an epoch differ"

    def test_a_policy_leaves_its_input_alone(self) -> None:
        given = faces(16)
        policy(self.name)(given, generator())
        assert torch.equal(given, faces(16))

    def test_a_policy_takes_a_single_face(self) -> None:
        assert policy(self.name)(faces(1), generator()).shape == (1, 1, WHOLE, WHOLE)

    def test_a_policy_keeps_host_and_device_apart(self, knobs: Config) -> None:
        augment = policy(self.name, knobs)
        with no_host_waits():
            augment(faces(8), generator())


def policy(name: str, knobs: Config | None = None) -> Callable[[Tensor, torch.Generator], Tensor]:
    """The policy at these knobs, the defaults without."""
    built: Callable[[Tensor, torch.Generator], Tensor]
    built = parts.augment(name).build(defaults("augment", name) if knobs is None else knobs)
    return built
