"""Faces of several sets are drawn by class as the strategy wants, and within a class as the sets' odds say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facex_tune import parts
from facex_tune.balance import Targets
from facex_tune.training.batches import Batches, Split

LARGE, SMALL = 90, 10  # faces of each class in either set


def split(*, with_odds: bool = True) -> Split:
    """Two classes; the first is in both sets, the second in the large one alone."""
    labels_N = torch.tensor([0] * (LARGE + SMALL) + [1] * 20)
    odds_N = torch.tensor([50 / LARGE] * LARGE + [50 / SMALL] * SMALL + [1.0] * 20)
    images_NHW = torch.zeros((len(labels_N), 48, 48), dtype=torch.uint8)
    return Split(images_NHW, labels_N, None, odds_N if with_odds else None)


def drawn(faces: Split, balance: str, epochs: int = 60) -> Tensor:
    """How often an epoch draws each face in the mean, times_N."""
    towards = Targets.of(faces.labels_N, 2)
    plan = parts.balance_plan(balance, faces.labels_N, 2, parts.knobs("balance", {"balance": balance}), towards)
    batches = Batches(faces, plan, largest=1, n_classes=2, smoothing=0)
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat([torch.cat(list(batches.draw(generator))) for _ in range(epochs)])
    return torch.bincount(rows, minlength=len(faces)) / epochs


@pytest.mark.parametrize("balance", ["none", "sqrt_sample", "oversample", "undersample"])
def test_classes_come_as_the_strategy_wants_and_sets_alike_within_them(balance: str) -> None:
    times_N, without_N = drawn(split(), balance), drawn(split(with_odds=False), balance)
    large, small = float(times_N[:LARGE].sum()), float(times_N[LARGE : LARGE + SMALL].sum())
    assert large == pytest.approx(small, rel=0.12), "some 1,000 draws or more of each: 4 standard errors"
    assert large + small == pytest.approx(float(without_N[: LARGE + SMALL].sum()), rel=0.06)
    of_second = float(without_N[LARGE + SMALL :].sum())
    assert float(times_N[LARGE + SMALL :].sum()) == pytest.approx(of_second, rel=0.12)


def test_faces_that_are_made_are_drawn_as_any_of_their_class() -> None:
    more = split().joined(torch.zeros((3, 48, 48), dtype=torch.uint8), torch.tensor([1, 1, 1]), None)
    assert more.odds_N is not None
    assert more.odds_N[-3:].tolist() == [1, 1, 1]
    assert len(more.odds_N) == len(more)
