"""Contracts for parts of your own, as test classes: the same that this package's own parts are held to.

Write a file of tests beside your folder of parts, and run pytest on it (which you need to have installed):

    from facex_tune.testing import ModelContract

    class TestMyNet(ModelContract):
        parts_folder = "my_parts"    # with models/my_net.py in it; a relative folder is meant from where pytest runs
        name = "my_net"

`AugmentContract` and `BalanceContract` do the same for augmentation policies and balancing strategies. Each test is one
promise that training relies on; its name says which. Needs torch, and no GPU.
"""

from __future__ import annotations

from facex_tune.testing.augment_contract import AugmentContract
from facex_tune.testing.balance_contract import BalanceContract
from facex_tune.testing.host_waits import HostWait, no_host_waits
from facex_tune.testing.model_contract import ModelContract
from facex_tune.testing.part_contract import PartContract

__all__ = ["AugmentContract", "BalanceContract", "HostWait", "ModelContract", "PartContract", "no_host_waits"]
