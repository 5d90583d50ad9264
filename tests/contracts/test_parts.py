"""One contract for every part by name: a new file in models/, augment/ or balance/ is held to it the day it appears."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from facex_tune import parts
from facex_tune.space import FAMILIES
from facex_tune.testing import (
    AugmentContract,
    BalanceContract,
    HostWait,
    ModelContract,
    PartContract,
    no_host_waits,
)

CONTRACTS: dict[str, type[PartContract]] = {
    "model": ModelContract,
    "augment": AugmentContract,
    "balance": BalanceContract,
}
for family in FAMILIES:
    for part in parts.names(family):
        title = f"Test_{family}_{part}"
        globals()[title] = type(title, (CONTRACTS[family],), {"name": part, "__module__": __name__})


# The guard itself

@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: int(x.sum()),
        lambda x: bool(x.any()),
        lambda x: 1 if x.sum() > 0 else 0,
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: torch.masked_select(x, x > 0),
        lambda x: torch.where(x > 0),
        lambda x: torch.unique(x),
        lambda x: list(range(x[0].long())),
        lambda x: math.sqrt(x.sum()),
    ],
)
def test_the_guard_notices_every_kind_of_wait(waits: Callable[[Tensor], object]) -> None:
    with pytest.raises(HostWait), no_host_waits():
        waits(torch.ones(8))


def test_the_guard_lets_batches_pass() -> None:
    x = torch.ones(8)
    with no_host_waits():
        torch.where(x > 0, x, -x)[torch.arange(4)].sum()
