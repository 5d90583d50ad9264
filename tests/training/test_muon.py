"""Muon against its own definition, and against torch where torch has the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from facex_tune import train_knobs
from facex_tune.training.muon import Muon, orthogonal
from facex_tune.training.optimization import build_optimizer


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6), (1, 9)])
@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_a_matrix_becomes_nearly_orthogonal_whatever_its_size(shape: tuple[int, int], size: float) -> None:
    """Its singular vectors stay; the iteration leaves singular values between .68 and 1.13 (Jordan 2024)."""
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * size
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.diagonal(left.T @ orthogonal(matrix) @ right.T)
    assert ((values > 0.6) & (values < 1.2)).all()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(96, 7)).double()


def stepped(model: nn.Module, knobs: dict[str, object], steps: int = 3) -> list[Tensor]:
    optimizer = build_optimizer(model, train_knobs.defaults() | knobs)  # type: ignore[arg-type]
    for step in range(steps):
        faces = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(step)).double()
        optimizer.zero_grad()
        torch.autograd.backward(model(faces).square().sum())
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def test_ends_and_what_is_no_matrix_learn_as_with_adamw() -> None:
    """The first step sees the same gradients: equal but for filters between the first layer and the last."""
    knobs = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.8}
    one = stepped(network(), {**knobs, "optimizer": "muon"}, steps=1)
    two = stepped(network(), {**knobs, "optimizer": "adamw"}, steps=1)
    alike = [torch.allclose(mine, theirs, atol=1e-5) for mine, theirs in zip(one, two, strict=True)]
    names = [name for name, _ in network().named_parameters()]
    hidden = {"2.weight", "3.weight"}
    assert {name for name, equal in zip(names, alike, strict=True) if not equal} == hidden


def test_it_steps_as_torchs_own_does() -> None:
    """torch has it from 2.9 on, for matrices alone, in bf16."""
    theirs_class = getattr(torch.optim, "Muon", None)
    if theirs_class is None:
        pytest.skip("torch before 2.9 has no Muon")
    weight = nn.Parameter(torch.randn(12, 20, generator=torch.Generator().manual_seed(0)))
    other = copy.deepcopy(weight)
    mine = Muon([{"params": [weight], "orthogonal": True, "weight_decay": 0.1}], 0.02, momentum=0.9)
    theirs = theirs_class([other], lr=0.02, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        gradient = torch.randn(12, 20, generator=torch.Generator().manual_seed(step + 1))
        weight.grad, other.grad = gradient.clone(), gradient.clone()
        mine.step()
        theirs.step()
    moved = (other - torch.randn(12, 20, generator=torch.Generator().manual_seed(0))).norm()
    assert float((weight - other).detach().norm() / moved.detach()) < 0.02, "theirs rounds to bf16"


def test_a_filter_counts_as_a_row() -> None:
    """A 3×3 filter bank moves as the matrix of its filters does."""
    torch.manual_seed(0)
    bank, matrix = nn.Parameter(torch.zeros(4, 3, 3, 3)), nn.Parameter(torch.zeros(4, 27))
    gradient = torch.randn(4, 27)
    bank.grad, matrix.grad = gradient.view(4, 3, 3, 3).contiguous(memory_format=torch.channels_last), gradient
    Muon([{"params": [bank, matrix], "orthogonal": True}], 0.1, momentum=0.9).step()
    assert torch.allclose(bank.view(4, 27) if bank.is_contiguous() else bank.reshape(4, 27), matrix)
    expected = 0.1 * 0.2 * (27 * 4) ** 0.5  # times a matrix whose singular values are about one
    assert float(matrix.detach().norm()) == pytest.approx(expected, rel=0.25)


def test_a_network_of_two_layers_has_nothing_between_them() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = build_optimizer(model, train_knobs.defaults() | {"optimizer": "muon"})
    torch.autograd.backward(model(torch.rand(2, 3)).sum())
    optimizer.step()


def test_what_has_no_gradient_stays() -> None:
    model = network()
    frozen = model.get_parameter("3.weight").requires_grad_(False)
    before = frozen.clone()
    stepped(model, {"optimizer": "muon", "weight_decay": 0.3, "lr": 0.1})
    assert torch.equal(frozen, before)
