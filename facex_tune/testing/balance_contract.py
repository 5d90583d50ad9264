"""What training relies on of every balancing strategy."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from facex_tune import parts
from facex_tune.space import Config
from facex_tune.testing.host_waits import no_host_waits
from facex_tune.testing.part_contract import N_CLASSES, PartContract, defaults, faces, generator

LABELS_N = torch.tensor([0] * 40 + [1] * 4 + [2] * 30 + [3] * 60 + [4] * 25 + [5] * 20 + [6] * 21)


def hard(labels_N: Tensor) -> Tensor:
    """Labels as targets_NC."""
    return nn.functional.one_hot(labels_N, N_CLASSES).float()


def soft(n: int) -> Tensor:
    """Votes as targets_NC, the same each time."""
    return torch.rand(n, N_CLASSES, generator=generator(2)).softmax(1)


class BalanceContract(PartContract):
    """A test class for a balancing strategy: `balance/<name>.py`."""

    family = "balance"
    cases: ClassVar[dict[str, dict[str, Any]]] = {
        "targets_NC": {"labels": hard(torch.arange(16) % 7), "votes": soft(16)},
        "labels_N": {"all classes": LABELS_N, "one class absent": LABELS_N[LABELS_N != 1]},
        "scale": {"usual logits": 1.0, "extreme logits": 80.0},
        "votes": {"labels": False, "votes": True},
    }

    def test_a_loss_is_a_finite_scalar_with_finite_gradients(
        self, knobs: Config, targets_NC: Tensor, labels_N: Tensor, scale: float
    ) -> None:
        for progress in (0.0, 1.0):
            logits_NC = (torch.randn(16, N_CLASSES, generator=generator(1)) * scale).requires_grad_()
            loss = plan(self.name, labels_N, knobs).loss_at(progress)(logits_NC, targets_NC)
            assert loss.shape == ()
            assert loss.isfinite()
            torch.autograd.backward(loss)
            assert logits_NC.grad is not None
            assert logits_NC.grad.isfinite().all()
            assert logits_NC.grad.any()

    def test_right_answers_cost_less_than_wrong_ones(self) -> None:
        labels_N = torch.arange(N_CLASSES)
        for loss in (plan(self.name).loss_at(0.0), plan(self.name).loss_at(1.0)):
            assert loss(hard(labels_N) * 6, hard(labels_N)) < loss(hard(labels_N.roll(1)) * 6, hard(labels_N)) / 2

    def test_a_loss_is_a_mean_over_faces(self) -> None:
        """So that the learning rate means the same for every batch size."""
        logits_NC, targets_NC = torch.randn(16, N_CLASSES, generator=generator(1)), soft(16)
        for loss in (plan(self.name).loss_at(0.0), plan(self.name).loss_at(1.0)):
            once = float(loss(logits_NC, targets_NC))
            thrice = float(loss(logits_NC.repeat(3, 1), targets_NC.repeat(3, 1)))
            assert math.isclose(thrice, once, rel_tol=1e-6), "sums of another length round otherwise, no more"

    def test_sample_weights_can_be_drawn_from(self, knobs: Config, labels_N: Tensor) -> None:
        weights_N = plan(self.name, labels_N, knobs).sample_weights_N
        if weights_N is not None:
            assert weights_N.shape == labels_N.shape
            assert weights_N.isfinite().all()
            assert (weights_N >= 0).all()
            assert torch.multinomial(weights_N, len(labels_N), replacement=True, generator=generator()).shape == (
                len(labels_N),
            )

    def test_quotas_ask_for_faces_that_there_are(self, knobs: Config, labels_N: Tensor) -> None:
        made = plan(self.name, labels_N, knobs)
        if made.class_quota_C is not None:
            counts = torch.bincount(labels_N, minlength=N_CLASSES).tolist()
            assert [quota > 0 for quota in made.class_quota_C] == [n > 0 for n in counts]
            assert made.sample_weights_N is None, "quotas and weights are two ways to draw; a plan has one"

    def test_made_faces_are_faces(self, knobs: Config, labels_N: Tensor, votes: bool) -> None:
        made = plan(self.name, labels_N, knobs)
        if made.synthesize is None:
            return
        assert (made.sample_weights_N, made.class_quota_C) == (None, None), "one way to change what is drawn"
        given = (faces(len(labels_N)) * 255).byte().squeeze(1)
        targets_NC = soft(len(labels_N)) if votes else None
        images_MHW, labels_M, targets_MC = made.synthesize(given, targets_NC, 5)
        again = made.synthesize(given, targets_NC, 5)
        assert images_MHW.dtype == torch.uint8
        assert (images_MHW.shape[1:], labels_M.dtype) == (given.shape[1:], labels_N.dtype)
        assert set(labels_M.tolist()) <= set(labels_N.tolist())
        assert len(images_MHW) == len(labels_M)
        assert torch.equal(images_MHW, again[0])
        assert (targets_MC is None) is not votes
        if targets_MC is not None:
            assert targets_MC.dtype == torch.float32
            assert targets_MC.shape == (len(labels_M), N_CLASSES)
            assert torch.allclose(targets_MC.sum(1), torch.ones(len(labels_M)), atol=1e-5)

    def test_a_loss_keeps_host_and_device_apart(self) -> None:
        made, logits_NC, targets_NC = plan(self.name), torch.randn(16, N_CLASSES).requires_grad_(), soft(16)
        for progress in (0.0, 1.0):
            with no_host_waits():
                torch.autograd.backward(made.loss_at(progress)(logits_NC, targets_NC))


def plan(name: str, labels_N: Tensor = LABELS_N, knobs: Config | None = None) -> Any:
    """The strategy's plan for these labels."""
    return parts.balance(name).plan(labels_N, N_CLASSES, defaults("balance", name) if knobs is None else knobs)
